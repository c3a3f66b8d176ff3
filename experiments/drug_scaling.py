"""How well are a drug's human clearance and volume foretold from animals?

Every visible drug is foretold by a model that was learnt without it (ten folds, five shuffles), from the
species it was measured in. AAFE is 10^mean |log10 predicted/observed|. Groups: all drugs; those with rat, dog
and monkey; those with a monkey. The ratio to the monkey alone (fixed exponent) is paired, its interval
resamples drugs. Coverage is that of 90 % intervals whose quantiles were found without the drug as well.
``nested`` chooses the columns, the degrees of freedom and the prior's weight inside each training part, and
so contains the luck of that choice. ``--save`` writes the numbers that the package ships, from the visible
drugs only: the human values of drugs with ``hidden_holdout`` are not in the data, and none of their rows is
learnt from.

Command: VPOP_DATA=... python -m experiments.drug_scaling --save
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from allometry import extrapolate, student
from allometry.drugs import ANIMALS, Array, Drugs, read_drugs
from allometry.extrapolate import METHODS, QUANTITIES, SPECIES, Extrapolation, folds, observed
from experiments import record

_GRID = {"extra": ("none", "fu", "other"), "dof": (6.0, 1e6), "weight": (2.0, 10.0)}


@dataclass(frozen=True)
class Config:
    """The command-line flags."""

    seeds: int = 5
    folds: int = 10
    draws: int = 2000
    nested: bool = True
    forest: bool = False  # needs scikit-learn
    save: bool = False


def visible(folder: Path) -> Drugs:
    """Returns the drugs that are not held out."""
    path = folder / "drugs" / "e2e_eval.csv"
    held_out = pd.read_csv(path, usecols=["hidden_holdout"])["hidden_holdout"].to_numpy(bool)
    return read_drugs(path).take(np.flatnonzero(~held_out))


def left_out(drugs: Drugs, config: Config, seed: int) -> tuple[dict, dict]:
    """Returns ln(predicted/observed) and whether the interval covers, by (method, quantity), each (n,)."""
    error = {key: np.full(len(drugs), np.nan) for key in itertools.product(METHODS, QUANTITIES)}
    covered = {key: np.full(len(drugs), np.nan) for key in error}
    for train, test in folds(len(drugs), config.folds, seed):
        model = extrapolate.fit(drugs.take(train), seed)
        part = drugs.take(test)
        for method, quantity in error:
            truth = observed(part, quantity)
            value, lower, upper = model.interval(part, quantity, method)
            error[method, quantity][test] = np.log(value / truth)
            inside = ((lower <= truth) & (truth <= upper)).astype(float)
            covered[method, quantity][test] = np.where(np.isnan(lower * truth), np.nan, inside)
    return error, covered


def groups(drugs: Drugs) -> dict[str, Any]:
    """Returns which drugs each group of the table holds."""
    known = ~np.isnan(drugs.columns("CL", SPECIES))
    return {
        "all": np.full(len(drugs), True),
        "three": known.all(1),
        "monkey": known[:, SPECIES.index("monkey")],
    }


def score(errors: list[Array], which: np.ndarray) -> dict[str, float]:
    """Returns AAFE, AFE and the share within 2-fold, means over the shuffles."""
    e = np.array(errors)[:, which]
    e = e[:, ~np.isnan(e).any(0)]
    if not e.size:
        return {"n": 0}
    absolute = np.abs(e)
    return {
        "n": e.shape[1],
        "AAFE": float(np.exp(absolute.mean(1)).mean()),
        "within_2": float((absolute <= np.log(2.0)).mean()),
        "AFE": float(np.exp(e.mean(1)).mean()),
    }


def paired(errors: list[Array], base: Array, which: np.ndarray, draws: int) -> dict[str, Any]:
    """Returns the ratio of two AAFE over the same drugs, and its 95 % interval over drugs."""
    difference = np.mean(np.abs(errors), 0) - np.abs(base)
    difference = difference[which & ~np.isnan(difference)]
    generator = np.random.default_rng(0)
    drawn = generator.choice(difference, (draws, len(difference))).mean(1)
    low, high = np.quantile(np.exp(drawn), [0.025, 0.975])
    return {"n": len(difference), "ratio": float(np.exp(difference.mean())), "interval": [low, high]}


def _candidate(train: Drugs, test: Drugs, quantity: str, choice: tuple) -> Array:
    """Returns the learnt centre for ``test`` under one choice of the grid."""
    extra, dof, weight = choice
    other = {"CL": "Vss", "Vss": "CL"}[quantity]

    def rows(drugs: Drugs) -> Array:
        more = {
            "none": [],
            "fu": [drugs.column("fu", "human")[:, None]],
            "other": [drugs.columns(other, SPECIES)],
        }[extra]
        return np.log(np.concatenate([drugs.columns(quantity, (*SPECIES, "human")), *more], 1))

    learnt = rows(train)
    correlation = np.eye(learnt.shape[1])
    correlation[:4, :4] += 0.8 * (1 - np.eye(4))
    law = student.fit(learnt, correlation, weight, dof)
    return law.given(rows(test), len(SPECIES))[0]


def nested(drugs: Drugs, quantity: str, seed: int, k: int) -> tuple[Array, list[tuple]]:
    """Returns the errors where the choice of the grid is made inside each training part, and the choices."""
    error, chosen = np.full(len(drugs), np.nan), []
    for train, test in folds(len(drugs), k, seed):
        part = drugs.take(train)
        loss = {}
        for choice in itertools.product(*_GRID.values()):
            inner = np.full(len(part), np.nan)
            for learn, check in folds(len(part), 5, seed + 1):
                inner[check] = _candidate(part.take(learn), part.take(check), quantity, choice)
            loss[choice] = np.nanmean(np.abs(inner - np.log(observed(part, quantity))))
        best = min(loss, key=lambda choice: loss[choice])
        chosen.append(best)
        found = _candidate(part, drugs.take(test), quantity, best)
        error[test] = found - np.log(observed(drugs.take(test), quantity))
    return error, chosen


def forest(drugs: Drugs, quantity: str, seed: int, k: int) -> Array:
    """Returns the errors of extremely randomised trees on the residual of the learnt law."""
    from sklearn.ensemble import ExtraTreesRegressor

    truth = np.log(observed(drugs, quantity))
    table = np.log(
        np.concatenate(
            [
                drugs.columns("CL", SPECIES),
                drugs.columns("Vss", SPECIES),
                drugs.columns("fu", (*SPECIES, "human")),
            ],
            1,
        )
    )
    error = np.full(len(drugs), np.nan)
    for train, test in folds(len(drugs), k, seed):
        laws = extrapolate.laws_of(drugs.take(train))
        base = Extrapolation(laws, {}, {}, {}).foretell(drugs, quantity).centre
        inputs = np.concatenate(
            [np.where(np.isnan(table), np.nanmean(table[train], 0), table), np.isnan(table)], 1
        )
        inputs = np.concatenate([inputs, np.nan_to_num(base)[:, None]], 1)
        known = train[~np.isnan((truth - base)[train])]
        trees = ExtraTreesRegressor(300, min_samples_leaf=4, max_features=0.5, random_state=seed)
        trees.fit(inputs[known], (truth - base)[known])
        error[test] = base[test] + trees.predict(inputs[test]) - truth[test]
    return error


def run(config: Config) -> dict[str, Any]:
    """Runs the cross-validation and returns the tables."""
    drugs = visible(record.data_folder())
    which = groups(drugs)
    runs = [left_out(drugs, config, seed) for seed in range(config.seeds)]
    monkey = Drugs(drugs.name, {key: x for key, x in drugs.values.items() if key[1] in ("monkey", "human")})
    result: dict[str, Any] = {"drugs": len(drugs), "methods": {}, "ratio_to_monkey": {}}
    for method, quantity in itertools.product(METHODS, QUANTITIES):
        errors = [error[method, quantity] for error, _ in runs]
        entry: dict[str, Any] = {name: score(errors, mask) for name, mask in which.items()}
        covered = np.array([cover[method, quantity] for _, cover in runs])
        if not np.isnan(covered).all():
            entry["coverage_90"] = float(np.nanmean(covered))
            count = (~np.isnan(drugs.columns("CL" if quantity == "t_half" else quantity, SPECIES))).sum(1)
            entry["coverage_90_by_species"] = {
                str(n): float(np.nanmean(part))
                for n in (1, 2, 3)
                if not np.isnan(part := covered[:, count == n]).all()
            }
        result["methods"][f"{method} {quantity}"] = entry
    for quantity in ("CL", "Vss"):
        alone = np.log(extrapolate.scaling.single(monkey, quantity) / observed(drugs, quantity))
        errors = [error["learned", quantity] for error, _ in runs]
        result["ratio_to_monkey"][quantity] = paired(errors, alone, which["monkey"], config.draws)
        for name in ANIMALS:
            one = Drugs(drugs.name, {key: x for key, x in drugs.values.items() if key[1] in (name, "human")})
            alone = np.log(extrapolate.scaling.single(one, quantity) / observed(drugs, quantity))
            if not np.isnan(alone).all():
                result["methods"][f"{name} alone {quantity}"] = {"all": score([alone], which["all"])}
        if config.nested:
            parts = [nested(drugs, quantity, seed, config.folds) for seed in range(min(config.seeds, 2))]
            entry = {name: score([e for e, _ in parts], mask) for name, mask in which.items()}
            choices = [
                " ".join(f"{x:g}" if isinstance(x, float) else x for x in c) for _, cs in parts for c in cs
            ]
            entry["chosen"] = {c: choices.count(c) for c in sorted(set(choices), key=choices.count)[::-1]}
            result["methods"][f"nested {quantity}"] = entry
        if config.forest:
            missed = [forest(drugs, quantity, seed, config.folds) for seed in range(config.seeds)]
            result["methods"][f"forest {quantity}"] = {n: score(missed, mask) for n, mask in which.items()}
    draw(drugs, runs)
    if config.save:
        origin = {
            "learnt from": f"{len(drugs)} drugs of PKSmart (Apache-2.0) that are not held out",
            "command": "python -m experiments.drug_scaling --save",
        }
        extrapolate.fit(drugs, origin=origin).save(extrapolate.WEIGHTS)
    return result


def draw(drugs: Drugs, runs: list) -> None:
    """Draws predicted against observed, each drug foretold without itself."""
    from pbpk.report import figure

    fig, axes = figure(9.0, 4.4, ncols=2)
    count = (~np.isnan(drugs.columns("CL", SPECIES))).sum(1)
    for axis, quantity, unit in zip(axes, ("CL", "Vss"), ("mL/min/kg", "L/kg"), strict=True):
        truth = observed(drugs, quantity)
        value = truth * np.exp(np.mean([error["learned", quantity] for error, _ in runs], 0))
        for n, colour in zip((1, 2, 3), ("#c8a45c", "#5b9bd5", "#1c2733"), strict=True):
            axis.loglog(truth[count == n], value[count == n], "o", ms=3.5, color=colour, label=f"{n} species")
        ends = np.array([np.nanmin(truth) / 2, np.nanmax(truth) * 2])
        axis.plot(ends, ends, color="#5b6b7a", lw=1)
        for factor in (0.5, 2.0):
            axis.plot(ends, factor * ends, color="#5b6b7a", lw=0.7, ls="--")
        axis.set(xlabel=f"observed human {quantity} [{unit}]", ylabel="foretold without the drug")
    axes[0].legend(frameon=False)
    fig.savefig(record.folder("drug_scaling") / "drug_scaling.png", dpi=110)


if __name__ == "__main__":
    record.main("drug_scaling", Config, run, __doc__)
