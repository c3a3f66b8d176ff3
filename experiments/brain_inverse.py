r"""Which solver finds the permeabilities of the brain, how well, how often, and how fast?

Question: benchmark B1 (four compartments of the brain seen at 23 times, 5 % noise, unknown PSb, PSc and PSe):
the error of each method in units of the Cramer-Rao bound, the share of random starts that reach the optimum,
the coverage of its 95 % intervals over simulated patients, the accuracy of the PK metrics, and the time.
Source: the bundled problem brain4-b1; see pbpk/data/inverse/brain4-b1.toml.
Command: OMP_NUM_THREADS=1 python -m experiments.brain_inverse [--seeds 20] [--patients 200]
Measured: starts are uniform in ln PS over 1e-3 to 1e2 L/h, drawn without regard to the truth; each noise seed
has its own. A start has converged if it ends within one standard error of the least-squares optimum in each
parameter; what a method says of itself is given beside it ("says so"). Errors are medians over seeds, starts
that converged or not, and parameters; an efficient estimate has 0.67. Patients: PS log-normal about the
benchmark's with a standard deviation of 0.5, which is then the prior of every method. Slow methods get fewer
seeds and patients: "fits" says how many. Seconds are CPU seconds of one thread.
Bars: error 1.0 (pinn 1.3), starts lsq 100 %, xtfc 95 %, pinn 80 %, coverage 93 to 97 %, seconds lsq 0.05,
xtfc 1, pinn 30; metrics within 2 % without noise, 5 % with.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments import record
from pbpk.inverse import InverseProblem, eigen, load_problem, lsq, mcmc, pinn, xtfc
from pbpk.inverse import amortised as amortised_
from pbpk.inverse.crowd import Crowd
from pbpk.inverse.metrics import measure
from pbpk.inverse.result import FitResult

SPREAD = 0.5  # standard deviation of the patients' ln PS


@dataclass(frozen=True)
class Config:
    """The flags; a number of fits of 0 leaves the method out."""

    seeds: int = 20
    starts: int = 4  # of lsq and xtfc, a seed
    pinn_fits: int = 20
    published_fits: int = 1
    mcmc_fits: int = 2
    rival_fits: int = 5
    bdf_fits: int = 1
    patients: int = 200
    xtfc_patients: int = 100
    pinn_patients: int = 100
    mcmc_patients: int = 200


Solver = Callable[[InverseProblem, Tensor, int], tuple[Tensor, bool]]


def nelder_mead(problem: InverseProblem, start: Tensor, seed: int) -> tuple[Tensor, bool]:
    from scipy.optimize import minimize

    low, high = problem.box
    found = minimize(
        lambda u: float(problem.deviance(torch.from_numpy(u))),
        start.numpy(),
        method="Nelder-Mead",
        bounds=list(zip(low.tolist(), high.tolist(), strict=True)),
        options={"maxfev": 2000, "xatol": 1e-6, "fatol": 1e-6},
    )
    return torch.from_numpy(found.x.copy()), bool(found.success)


def differential_evolution(problem: InverseProblem, start: Tensor, seed: int) -> tuple[Tensor, bool]:
    from scipy import optimize

    low, high = problem.box

    def deviance(u: np.ndarray) -> np.ndarray:
        theta = torch.from_numpy(np.ascontiguousarray(u.T))
        return (problem.deviance_of(eigen.predict(problem, theta)) + problem.penalty(theta)).numpy()

    found = optimize.differential_evolution(
        deviance,
        list(zip(low.tolist(), high.tolist(), strict=True)),
        seed=seed,
        vectorized=True,
        updating="deferred",
        polish=False,
        tol=1e-8,
        maxiter=300,
    )
    return torch.from_numpy(found.x.copy()), bool(found.success)


def bdf(problem: InverseProblem, start: Tensor, seed: int) -> tuple[Tensor, bool]:
    """Least squares with a stiff solver and finite differences: no exact solution, no exact slope."""
    from scipy.integrate import solve_ivp
    from scipy.optimize import least_squares

    low, high = (bound.numpy() for bound in problem.box)
    seen = problem.seen
    y = seen.value.numpy()
    row = [problem.model.compartments.index(name) for name in seen.compartment]

    def predict(u: np.ndarray) -> np.ndarray:
        system = problem.system(torch.from_numpy(u))
        A, x, R = system.A.numpy(), system.x0.numpy(), system.R.numpy()
        t = np.unique(seen.time.numpy())
        found = np.empty((len(t), len(x)))
        edges = [0.0, *sorted({b for _, b, _ in system.infusions}), float(t[-1]) + 1e-9]
        for begin, end in itertools.pairwise(edges):
            rate = sum(r.numpy() for a, b, r in system.infusions if a <= begin < b)
            here = (t > begin) & (t <= end)
            run = solve_ivp(
                lambda _, x, rate=rate: A @ x + rate,
                (begin, end),
                x,
                "BDF",
                t_eval=[*t[here], end] if t[here][-1] < end else t[here],
                jac=A,
                rtol=1e-8,
                atol=1e-10,
            )
            found[here], x = run.y.T[: here.sum()], run.y[:, -1]
        return (R[row] * found[np.searchsorted(t, seen.time.numpy())]).sum(-1)

    run = least_squares(
        lambda u: (predict(u) - y) / problem.noise.proportional / y,
        np.clip(start.numpy(), low + 1e-6, high - 1e-6),
        bounds=(low, high),
        x_scale="jac",
        diff_step=1e-4,
        max_nfev=60,
    )
    return torch.from_numpy(run.x.copy()), bool(run.status > 0)


def of(fit: Callable[..., FitResult], **options: Any) -> Solver:
    """Returns a solver of one of the package's methods."""

    def solve(problem: InverseProblem, start: Tensor, seed: int) -> tuple[Tensor, bool]:
        found = fit(problem, seed=seed, start=start, **options)
        return found.theta, found.converged

    return solve


def one_by_one(fit: Callable[..., FitResult]) -> Callable[[list[InverseProblem]], list[FitResult]]:
    """Returns a method that fits one person as one of many."""
    return lambda people: [fit(problem, seed=seed) for seed, problem in enumerate(people)]


def row(
    errors: list[Tensor], apart: list[float], costs: list[float], says: list[bool], seconds: list[float]
) -> dict:
    """Summarises the fits of one method."""
    all_errors = torch.stack(errors)
    return {
        "fits": len(seconds),
        "median error, CR": float(all_errors.median()),
        "95th percentile, CR": float(all_errors.flatten().quantile(0.95)),
        "starts that converge": float(np.mean(np.array(apart) < 1.0)),
        "says so": float(np.mean(says)),
        "median distance to lsq, standard errors": float(np.median(apart)),
        "median deviance above lsq": float(np.median(costs)),
        "seconds": float(np.median(seconds)),
    }


def benchmark(config: Config) -> dict[str, Any]:
    recipe = load_problem("brain4-b1")
    design = recipe.problem()
    truth = design.theta(recipe.truth)
    bound = torch.linalg.inv(design.information(truth)).diagonal().sqrt()
    people = [design.simulated(truth, torch.Generator().manual_seed(seed)) for seed in range(config.seeds)]
    starts = [
        design.starts(config.starts, torch.Generator().manual_seed(1000 + seed))
        for seed in range(config.seeds)
    ]
    optimum = [lsq.fit(problem, seed=seed) for seed, problem in enumerate(people)]
    every = config.seeds * config.starts
    plan: list[tuple[str, Solver, int]] = [
        ("lsq", of(lsq.fit, starts=1), every),
        ("xtfc", of(xtfc.fit), every),
        ("pinn", of(pinn.fit), config.pinn_fits),
        ("mcmc (emcee)", of(mcmc.fit), config.mcmc_fits),
        ("Nelder-Mead", nelder_mead, config.rival_fits),
        ("differential evolution", differential_evolution, config.rival_fits),
        ("least squares, BDF", bdf, config.bdf_fits),
        ("pinn (published)", of(pinn.fit, variant="published"), config.published_fits),
    ]
    table: dict[str, Any] = {"Cramer-Rao": dict(zip(design.names, bound.tolist(), strict=True))}
    for name, solve, fits in plan:
        errors, apart, costs, says, seconds = [], [], [], [], []
        for number in range(fits):
            seed, which = number % config.seeds, number // config.seeds
            problem, best = people[seed], optimum[seed]
            begin = time.process_time()
            theta, said = solve(problem, starts[seed][which], number)
            seconds.append(time.process_time() - begin)
            errors.append((theta - truth).abs() / bound)
            apart.append(float(((theta - best.theta).abs() / best.se).max()))
            costs.append(float(problem.deviance(theta)) - best.cost)
            says.append(said)
        if fits:
            table[name] = row(errors, apart, costs, says, seconds)
            print(name, table[name], flush=True)
    amortised_.fit_many(people[:1])  # trains
    begin = time.process_time()
    found = amortised_.fit_many(people)
    read = time.process_time() - begin
    errors = [(fit.theta - truth).abs() / bound for fit in found]
    apart = [fit.distance(best)["parameters"] for fit, best in zip(found, optimum, strict=True)]
    costs = [fit.cost - best.cost for fit, best in zip(found, optimum, strict=True)]
    says = [fit.converged for fit in found]
    table["amortised, prior the whole box"] = row(errors, apart, costs, says, [read / len(found)])
    table["amortised, prior the whole box"]["fits"] = len(found)
    print(table["amortised, prior the whole box"], flush=True)
    return table


def covers(lower: Tensor, upper: Tensor, theta: Tensor) -> dict[str, Any]:
    """Returns the share of intervals (B, K) that hold the truth."""
    inside = (lower <= theta) & (theta <= upper)
    return {
        "coverage": float(inside.double().mean()),
        "of each": [round(v, 3) for v in inside.double().mean(0).tolist()],
        "patients": len(theta),
    }


def patients(config: Config) -> dict[str, Any]:
    recipe = load_problem("brain4-b1")
    plain = recipe.problem()
    prior = tuple(dataclasses.replace(u, mean=recipe.truth[u.name], sd=SPREAD) for u in plain.unknowns)
    design = plain.replace(unknowns=prior)
    network = amortised_.Amortised(design).fit()
    generator = torch.Generator().manual_seed(7)
    nothing = torch.zeros(config.patients, len(design.seen), dtype=torch.float64)
    theta = Crowd.alike(design, nothing).draw(generator)
    value = design.noise.draw(eigen.predict(design, theta), generator)
    crowd = Crowd.alike(design, value)
    bound = (
        torch.linalg.inv(design.information_of(*eigen.jacobian(design, theta)))
        .diagonal(dim1=1, dim2=2)
        .sqrt()
    )
    result: dict[str, Any] = {"training seconds": network.seconds}

    def add(
        name: str, at: Tensor, lower: Tensor, upper: Tensor, seconds: float, more: dict | None = None
    ) -> None:
        count = len(at)
        result[name] = {
            **covers(lower, upper, theta[:count]),
            "median error, CR": float(((at - theta[:count]).abs() / bound[:count]).median()),
            "seconds a patient": seconds,
            **(more or {}),
        }
        print(name, result[name], flush=True)

    def normal(found: amortised_.Posterior) -> tuple[Tensor, Tensor, Tensor]:
        sd = found.covariance.diagonal(dim1=1, dim2=2).sqrt()
        return found.theta, found.theta - 1.96 * sd, found.theta + 1.96 * sd

    many = Crowd.alike(design, value.repeat(20, 1))
    network.read(many)
    begin = time.process_time()
    network.read(many)
    add("amortised, network alone", *normal(network.read(crowd)), (time.process_time() - begin) / len(many))
    for rounds in (2, 10):
        begin = time.process_time()
        found = amortised_.polish(crowd, network.read(crowd).theta, rounds)
        each = (time.process_time() - begin) / len(value)
        settled = {"settled": float(found.converged.double().mean())}
        add(f"amortised, polished, {rounds} rounds", *normal(found), each, settled)
    people = [design.replace(seen=design.seen.with_values(v)) for v in value]
    plan: list[tuple[str, Callable[[list[InverseProblem]], list[FitResult]], int]] = [
        ("lsq", one_by_one(lsq.fit), config.patients),
        ("xtfc", one_by_one(xtfc.fit), config.xtfc_patients),
        ("pinn", one_by_one(pinn.fit), config.pinn_patients),
        ("mcmc (emcee)", lambda some: mcmc.fit_many(some, steps=1500), config.mcmc_patients),
    ]
    for name, fit, count in plan:
        if count:
            begin = time.process_time()
            fits = fit(people[:count])
            each = (time.process_time() - begin) / count
            ends = (torch.stack([design.theta(getattr(f, end)) for f in fits]) for end in ("lower", "upper"))
            add(name, torch.stack([f.theta for f in fits]), *ends, each)
    return result


def metrics(config: Config) -> dict[str, Any]:
    """Measures the PK metrics of each compartment from least-squares fits, without and with noise."""
    recipe = load_problem("brain4-b1")
    design = recipe.problem()
    truth = design.theta(recipe.truth)
    exact = measure(design, truth)
    clean = design.replace(seen=design.seen.with_values(design.predict(truth)))
    start = design.starts(1, torch.Generator().manual_seed(3))[0]
    table = {
        "noise-free, largest": float(
            (measure(clean, lsq.fit(clean, start=start).theta) / exact - 1).abs().max()
        )
    }
    apart = []
    for seed in range(config.seeds):
        problem = design.simulated(truth, torch.Generator().manual_seed(seed))
        apart.append((measure(problem, lsq.fit(problem, seed=seed).theta) / exact - 1).abs())
    errors = torch.stack(apart)  # (seed, compartment, metric)
    table["5 % noise, largest of any seed"] = float(errors.max())
    table["5 % noise, median"] = float(errors.median())
    for m, name in enumerate(("AUC", "Cmax", "tmax", "t_half")):
        table[f"5 % noise, {name}, largest"] = float(errors[..., m].max())
    table["share of metrics within 5 %"] = float((errors <= 0.05).double().mean())
    return table


def draw(table: dict[str, Any]) -> None:
    """Draws error against time of every method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.0, 4.4), layout="constrained")
    for name, found in table.items():
        if "median error, CR" in found:
            axes.loglog(found["seconds"], found["median error, CR"], "o")
            at = (found["seconds"], found["median error, CR"])
            axes.annotate(f"  {name.partition(', prior')[0]}", at, fontsize=8, rotation=35)
    axes.axhline(1.0, color="0.6", lw=0.8)
    axes.set_xlabel("seconds per fit")
    axes.set_ylabel("median error, Cramer-Rao units")
    axes.margins(x=0.15, y=0.25)
    figure.savefig(record.folder("brain_inverse") / "brain_inverse.png", dpi=150)
    plt.close(figure)


def run(config: Config) -> dict[str, Any]:
    torch.set_num_threads(1)
    covered = patients(config)
    table = benchmark(config)
    draw(table)
    return {"B1": table, "patients": covered, "PK metrics": metrics(config)}


if __name__ == "__main__":
    record.main("brain_inverse", Config, run, __doc__)
