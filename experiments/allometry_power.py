"""How well does a power law foretell the organs and flows of a species it has not seen?

Leaves out one species at a time and predicts its reference body from the other six, by each method:

- nearest: the species nearest in ln BW, carried with fixed exponents
- fixed: fixed exponents (masses 1, rates 0.75), intercept by least squares over the other species
- power: intercept and exponent by least squares
- mean: the other species' geometric mean, whatever their size (what a constant scores)

Scored is what was published: a value that a rule filled, and ``rest``, which only closes, are left out of
fits and scores alike. AAFE is 10^mean |log10 predicted/observed|. The interval of the ratio to the free power
law resamples species, all of a species' quantities together.

Command: python -m experiments.allometry_power
Measured (7 species, 230 values): AAFE 1.766 nearest, 1.613 fixed, 1.585 power, 9.17 mean; ratio of fixed to
power 1.017 [0.976, 1.062], of nearest to power 1.114 [1.012, 1.202].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from allometry.power import fit, fixed_exponents, through
from allometry.species import QUANTITIES, encode, observed, reference_bodies
from experiments import record


@dataclass(frozen=True)
class Config:
    """The command-line flags."""

    draws: int = 2000
    seed: int = 7


def predictions(left_out: str) -> dict[str, Tensor]:
    """Returns by method the logarithms of the quantities foretold for a species, each with shape (q,)."""
    others = reference_bodies(without=left_out)
    BW = reference_bodies()[left_out].BW
    near = min(others.values(), key=lambda body: abs((body.BW / BW).log().item()))
    w = observed(others).double()
    values = torch.stack([encode(body) for body in others.values()])
    return {
        "nearest": through(near).at(BW),
        "fixed": fit(others, fixed_exponents()).at(BW),
        "power": fit(others).at(BW),
        "mean": (w * values).sum(0) / w.sum(0),
    }


def errors() -> tuple[dict[str, Tensor], Tensor]:
    """Returns by method |ln predicted/observed| with shape (s, q), and what is scored, with that shape."""
    bodies = reference_bodies()
    truth = torch.stack([encode(body) for body in bodies.values()])
    by_species = [predictions(name) for name in bodies]
    closing = torch.tensor([name.endswith("_rest") for name in QUANTITIES])
    found = {method: (torch.stack([p[method] for p in by_species]) - truth).abs() for method in by_species[0]}
    return found, observed(bodies) & ~closing


def aafe(error: Tensor, scored: Tensor) -> Tensor:
    """Returns the absolute average fold error of errors with shape (*, s, q)."""
    return ((error * scored).sum((-2, -1)) / scored.sum((-2, -1))).exp()


def compare(error: Tensor, other: Tensor, scored: Tensor, draws: Tensor) -> list[float]:
    """Returns the ratio of AAFEs with its 95 % interval over the species drawn, (draws, s)."""
    ratio = aafe(error[draws], scored[draws]) / aafe(other[draws], scored[draws])
    low, high = torch.quantile(ratio, torch.tensor([0.025, 0.975], dtype=ratio.dtype)).tolist()
    return [(aafe(error, scored) / aafe(other, scored)).item(), low, high]


def figure(found: dict[str, Tensor], scored: Tensor) -> None:
    """Draws by quantity the mean fold error of the fixed and of the fitted exponents."""
    import matplotlib.pyplot as plt

    def folds(error: Tensor) -> Tensor:
        return ((error * scored).sum(0) / scored.sum(0).clamp(min=1)).exp()

    known = [i for i in range(len(QUANTITIES)) if scored[:, i].any()]
    known.sort(key=lambda i: folds(found["power"])[i].item())
    canvas, axes = plt.subplots(figsize=(6.5, 7.5), layout="constrained")
    for method, mark in (("fixed", "o"), ("power", "s")):
        axes.plot(folds(found[method])[known], range(len(known)), mark, label=method)
    axes.set_yticks(range(len(known)), [QUANTITIES[i] for i in known], fontsize=8)
    axes.set(xlabel="AAFE over seven species, each left out", xlim=(1.0, None))
    axes.legend()
    canvas.savefig(record.folder("allometry_power") / "folds.png", dpi=120)


def run(config: Config) -> dict[str, Any]:
    """Returns the scores, overall, by kind of quantity and by species."""
    found, scored = errors()
    species = list(reference_bodies())
    draws = torch.randint(
        len(species), (config.draws, len(species)), generator=torch.Generator().manual_seed(config.seed)
    )
    kinds = {"masses": "M_", "flows": "Q_", "rates and HCT": ("CO", "GFR", "HCT")}
    result: dict[str, Any] = {"species": species, "predicted": int(scored.sum())}
    for method, error in found.items():
        share = (error[scored] < torch.log(torch.tensor(2.0))).double().mean()
        result[method] = {
            "AAFE": aafe(error, scored).item(),
            "within twofold": share.item(),
            "ratio to power [95 %]": compare(error, found["power"], scored, draws),
        }
        for kind, prefix in kinds.items():
            chosen = torch.tensor([name.startswith(prefix) for name in QUANTITIES])
            result[method][kind] = aafe(error, scored & chosen).item()
        for at, name in enumerate(species):
            result[method][name] = aafe(error[at : at + 1], scored[at : at + 1]).item()
    figure(found, scored)
    return result


if __name__ == "__main__":
    record.main("allometry_power", Config, run, __doc__)
