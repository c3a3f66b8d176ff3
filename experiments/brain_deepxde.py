r"""DeepXDE's inverse example on the brain: the peer of :mod:`experiments.brain_inverse`.

Question: does the textbook inverse network of DeepXDE find the permeabilities of benchmark B1?
Source: DeepXDE (Lu et al. 2021, https://doi.org/10.1137/19M1274067), its inverse example for a system of
ordinary differential equations (Lorenz), with the problem brain4-b1 in its place: the four concentrations are
the outputs, PSb, PSc and PSe external trainable variables, the arterial concentration is given.
Command: OMP_NUM_THREADS=1 DDE_BACKEND=pytorch python -m experiments.brain_deepxde (DeepXDE 1.15 in an
environment of its own)
Measured: for each random start, the error in units of the Cramer-Rao bound, and CPU seconds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from experiments import record
from pbpk.inverse import load_problem, lsq
from pbpk.inverse.structural import settled


@dataclass(frozen=True)
class Config:
    """The flags."""

    fits: int = 2
    iterations: int = 4000
    points: int = 400
    logarithms: bool = False  # trains ln PS instead of PS


def run(config: Config) -> dict[str, Any]:
    import deepxde as dde

    dde.config.set_default_float("float64")
    torch.set_num_threads(1)
    recipe = load_problem("brain4-b1")
    design = recipe.problem()
    truth = design.theta(recipe.truth)
    bound = torch.linalg.inv(design.information(truth)).diagonal().sqrt()
    rows = []
    for seed in range(config.fits):
        problem = design.simulated(truth, torch.Generator().manual_seed(seed))
        start = design.starts(4, torch.Generator().manual_seed(1000 + seed))[0]
        begin = time.process_time()
        theta = _fit(dde, problem, start, seed, config)
        best = lsq.fit(problem, seed=seed)
        rows.append(
            {
                "start": problem.values(start).tolist(),
                "estimate": problem.values(theta).tolist(),
                "median error, CR": float(((theta - truth).abs() / bound).median()),
                "distance to lsq, standard errors": float(((theta - best.theta).abs() / best.se).max()),
                "seconds": time.process_time() - begin,
            }
        )
        print(rows[-1], flush=True)
    return {"DeepXDE": dde.__version__, "fits": rows}


def _fit(dde: Any, problem: Any, start: torch.Tensor, seed: int, config: Config) -> torch.Tensor:
    dde.config.set_random_seed(seed)
    low, high = problem.box
    first = start if config.logarithms else problem.values(start)
    unknown = [dde.Variable(float(v)) for v in first]
    system = problem.system(start)
    still = torch.tensor(settled(problem))
    free, bound = torch.nonzero(~still)[:, 0], torch.nonzero(still)[:, 0]
    V = 1.0 / system.R[:, free].amax(0)

    def residual(t: torch.Tensor, C: torch.Tensor) -> list[torch.Tensor]:
        values = torch.stack(unknown)
        theta = values if config.logarithms else problem.theta(values.clamp(min=1e-3, max=1e2))
        at = problem.system(theta)
        driven = problem.states(start, t[:, 0].detach())[:, bound]
        flow = ((C * V) @ at.A[free][:, free].mT + driven @ at.A[free][:, bound].mT) / V
        return [dde.grad.jacobian(C, t, i=i) - flow[:, i : i + 1] for i in range(len(free))]

    end = float(problem.seen.time.max())
    geometry = dde.geometry.TimeDomain(0.0, end)
    conditions = [
        dde.icbc.IC(geometry, lambda X: 0.0, lambda _, on: on, component=i) for i in range(len(free))
    ]
    seen, reads = problem.seen, system.R[:, free]
    names = problem.model.compartments
    for name in dict.fromkeys(seen.compartment):
        here = [k for k, where in enumerate(seen.compartment) if where == name]
        component = int(reads[names.index(name)].argmax())
        t, y = seen.time[here].numpy()[:, None], seen.value[here].numpy()[:, None]
        conditions.append(dde.icbc.PointSetBC(t, y, component=component))
    data = dde.data.PDE(
        geometry, residual, conditions, config.points, 2, anchors=np.unique(seen.time)[:, None]
    )
    network = dde.nn.FNN([1, 40, 40, 40, len(free)], "tanh", "Glorot uniform")
    model = dde.Model(data, network)
    model.compile("adam", lr=1e-3, external_trainable_variables=unknown, verbose=0)
    model.train(iterations=config.iterations, display_every=config.iterations, verbose=0)
    values = torch.stack([v.detach() for v in unknown])
    theta = values if config.logarithms else problem.theta(values.clamp(min=1e-3, max=1e2))
    return torch.minimum(torch.maximum(theta, low), high)


if __name__ == "__main__":
    record.main("brain_deepxde", Config, run, __doc__)
