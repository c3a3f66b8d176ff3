"""Does Neural Allometry foretell a species that it has not seen better than a power law? Does the graph help?

Leaves out each of seven species, all its strains together and its whole genus in the mammals' tables, and
foretells the consensus of its organ masses, flows, cardiac output, GFR and haematocrit (231 values) at
its body weight, by :mod:`allometry.evaluate`. The networks are trained anew with each of five seeds, with
messages along the circulation and without (an MLP of the same size and budget); "hierarchical" is the
same model without a learnt residual. The interval of a ratio resamples species. The consensus, its faults
and the model's constants were settled on the same seven species, so the figures are no blind test;
nothing of a species enters its own prediction but its body weight and its clade.

Could wider or narrower intervals serve each species better? ``nested_scale`` leaves a second species out in
turn: how far the six others then lie off, in standard deviations, is the factor for the first one's.

Command: VPOP_DATA=... python -m experiments.allometry_loso
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from allometry.baselines import Z90
from allometry.evaluate import Evaluation, evaluate
from allometry.evaluate_report import ratios
from allometry.hierarchical import fit_folds
from allometry.neural import NeuralAllometry
from allometry.species import QUANTITIES
from allometry.taxonomy import TAXA
from experiments import record


@dataclass(frozen=True)
class Config:
    """The command-line flags."""

    seeds: int = 5
    draws: int = 4000


def over_seeds(result: Evaluation) -> dict[str, Any]:
    """Returns for each model the mean and the range over seeds of its ratio to the free power law."""
    rows = {}
    for model, table in result.table.groupby("model", sort=False):
        ratio = table.ratio
        rows[str(model)] = {
            "AAFE": table.AAFE.mean(),
            "ratio": ratio.mean(),
            "lowest and highest seed": [ratio.min(), ratio.max()],
            "95 % interval, mean over seeds": [table.low.mean(), table.high.mean()],
            "clean": table["clean"].mean(),
            **{name: table[name].mean() for name in result.known.species},
        }
        inside = {name: table[f"{name} 90"].mean() for name in result.known.species}
        if table[f"{result.known.species[0]} 90"].notna().all():
            rows[str(model)]["inside 90 %"] = inside
    return rows


def nested_scale(result: Evaluation) -> dict[str, Any]:
    """Returns the intervals of the shipped model with a factor that was found without the species."""
    known, own = result.known, result.of("graph")[0]
    s, scored = len(known.species), known.scored
    pairs = list(itertools.combinations(range(s), 2))
    seen = torch.ones(len(pairs), s, dtype=torch.bool)
    for row, pair in enumerate(pairs):
        seen[row, list(pair)] = False
    models = fit_folds(known, NeuralAllometry.load().folds["none"].clades, seen)
    squares, count = torch.zeros(s, dtype=torch.float64), scored.sum() - scored.sum(1)
    for (a, b), model in zip(pairs, models, strict=True):
        for out, other in ((a, b), (b, a)):
            normal = model.predict(known.x[[other]], [TAXA[known.species[other]]])[0]
            q = slice(len(QUANTITIES))
            z = (normal.mean[q] - known.y[other]) / torch.hypot(normal.sd[q], known.sd[other])
            squares[out] += (z[scored[other]] ** 2).sum()
    factor = (squares / count).sqrt()
    error = result.error(own)
    return {
        "factor": dict(zip(known.species, factor.tolist(), strict=True)),
        "as shipped": _judged(error, own.sd, scored, known.species),
        "with the factor": _judged(error, factor.unsqueeze(-1) * own.sd, scored, known.species),
    }


def _judged(error: Tensor, sd: Tensor, scored: Tensor, species: tuple[str, ...]) -> dict[str, Any]:
    """Returns coverage, mean log density and interval score: the width, and 20 times the miss."""
    half = Z90 * sd
    density = -sd.log() - 0.5 * (error / sd) ** 2 - 0.5 * math.log(2.0 * math.pi)
    interval = 2.0 * half + 20.0 * (error - half).clamp(min=0.0)
    inside = (error < half).double()
    return {
        "inside 90 %": {name: inside[i][scored[i]].mean().item() for i, name in enumerate(species)},
        "all": inside[scored].mean().item(),
        "log density": density[scored].mean().item(),
        "interval score": interval[scored].mean().item(),
    }


def run(config: Config) -> dict[str, Any]:
    """Returns every score; writes the predictions and the figure."""
    result = evaluate(record.data_folder(), seeds=config.seeds, draws=config.draws)
    folder = record.folder("allometry_loso")
    result.predictions().to_csv(folder / "predictions.csv", index=False, float_format="%.5g")
    ratios(result).savefig(folder / "ratios.png", dpi=120)
    return {"over seeds": over_seeds(result), "nested scale": nested_scale(result), **result.numbers()}


if __name__ == "__main__":
    record.main("allometry_loso", Config, run, __doc__)
