"""Does Neural Allometry foretell a species that it has not seen better than a power law? Does the graph help?

Leaves out each of seven species, all its strains together and its whole genus in the mammals' tables, and
foretells the consensus of its organ masses, flows, cardiac output, GFR and haematocrit (231 values) at
its body weight, by :mod:`allometry.evaluate`. The networks are trained anew with each of five seeds, with
messages along the circulation and without (an MLP of the same size and budget); "hierarchical" is the
same model without a learnt residual. The interval of a ratio resamples species. The consensus, its faults
and the model's constants were settled on the same seven species, so the figures are no blind test;
nothing of a species enters its own prediction but its body weight and its clade.

Command: VPOP_DATA=... python -m experiments.allometry_loso
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from allometry.evaluate import Evaluation, evaluate
from allometry.evaluate_report import ratios
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


def run(config: Config) -> dict[str, Any]:
    """Returns every score; writes the predictions and the figure."""
    result = evaluate(record.data_folder(), seeds=config.seeds, draws=config.draws)
    folder = record.folder("allometry_loso")
    result.predictions().to_csv(folder / "predictions.csv", index=False, float_format="%.5g")
    ratios(result).savefig(folder / "ratios.png", dpi=120)
    return {"over seeds": over_seeds(result), **result.numbers()}


if __name__ == "__main__":
    record.main("allometry_loso", Config, run, __doc__)
