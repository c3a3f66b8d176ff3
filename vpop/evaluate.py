"""How good are drawn people? Every figure beside its floor: the same figure for other real people.

model or cohort + reference -> `evaluate` -> `Evaluation` -> a table, tidy CSV and JSON, an HTML page

The floor is what no model can beat: real people against other real people. A figure at its floor is perfect;
an unseen test part of a survey (:mod:`vpop.split`) as reference makes both honest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pbpk import report
from pbpk.compound import Compound
from pbpk.laws import Report
from pbpk.physiology import Cohort
from pbpk.regimen import Regimen
from pbpk.simulate import simulate
from vpop.columns import Sample, covariates, everything, hard
from vpop.conditional import conditional
from vpop.distance import kolmogorov_smirnov, spearman_error, wasserstein
from vpop.judge import judge
from vpop.membership import by_distance
from vpop.nearest import reach, scores
from vpop.pcdm import PCDM
from vpop.two_sample import Interval, c2st

FEWEST = 200  # bodies on each side: below, no figure means anything
TABLES = {"real covariates": covariates, "all columns": everything, "all columns and ratios": hard}
DRUG = "midazolam"
_ARMS = (("5 mg iv", ("CL", "Vss", "t_half")), ("7.5 mg po", ("Cmax",)))
_HOURS = 24.0


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        figures: One row a figure: ``figure, drawn, low, high, floor``.
        columns: One row a column: KS and Wasserstein of the drawn and of the floor.
        conditional: One row a column: coverage and CRPS; empty without a model.
        violations: The laws' report of the drawn people.
        samples: The compared bodies: ``real``, ``drawn``, ``floor``.
        provenance: What was compared, how, with which versions.
    """

    figures: pd.DataFrame
    columns: pd.DataFrame
    conditional: pd.DataFrame
    violations: Report
    samples: Mapping[str, Sample]
    provenance: Mapping[str, Any]

    def table(self) -> str:
        """Returns the figures for a terminal."""
        shown = self.figures.assign(interval=[_interval(r.low, r.high) for r in self.figures.itertuples()])
        return shown[["figure", "drawn", "interval", "floor"]].to_string(
            index=False, float_format=lambda value: f"{value:.3f}", na_rep=""
        )

    def write(self, folder: Path) -> None:
        """Writes the tables, the numbers and the page into an existing folder."""
        self.figures.to_csv(folder / "figures.csv", index=False)
        self.columns.to_csv(folder / "columns.csv", index=False)
        self.violations.frame().to_csv(folder / "violations.csv", index=False)
        self.violations.sweep().to_csv(folder / "sweep.csv", index=False)
        if len(self.conditional):
            self.conditional.to_csv(folder / "conditional.csv", index=False)
        numbers = json.loads(self.figures.to_json(orient="records"))
        everything = {"figures": numbers, "provenance": dict(self.provenance)}
        (folder / "evaluation.json").write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
        (folder / "report.html").write_text(self._page(), encoding="utf-8")

    def _page(self) -> str:
        from vpop.evaluate_picture import pictures

        overall = self.violations.overall()
        by_name = self.figures.set_index("figure").drawn
        facts = [
            ("drawn people", f"{len(self.samples['drawn']):,}"),
            ("real people", f"{len(self.samples['real']):,}"),
        ]
        facts += [("break any law", f"{overall['share']:.2%}")]
        facts += [(f"tree AUC, {name}", f"{by_name[f'C2ST, {name}']:.3f}") for name in TABLES]
        shown = self.figures.drop(columns=["low", "high"]).assign(
            interval=[_interval(r.low, r.high) for r in self.figures.itertuples()]
        )
        return report.render(
            "evaluate.html",
            title="How good are the drawn people?",
            facts=facts,
            figures=report.table(shown[["figure", "drawn", "interval", "floor"]]),
            columns=report.table(self.columns),
            conditional=report.table(self.conditional) if len(self.conditional) else "",
            violations=self.violations.html(),
            pictures=pictures(self.samples, self.columns, self.conditional),
            provenance=json.dumps(dict(self.provenance), indent=2, default=str),
        )


def _interval(low: float, high: float) -> str:
    return "" if np.isnan(low) else f"{low:.3f} to {high:.3f}"


def evaluate(
    drawn: Cohort,
    real: Sample,
    floor: Sample | None = None,
    model: PCDM | None = None,
    n: int = 5000,
    seed: int = 0,
) -> Evaluation:
    """Compares drawn people with real ones.

    Arguments:
        drawn: The people to judge, each counting the same.
        real: The people to compare with, best ones that no one learnt from.
        floor: Other real people; None: a random half of the persons of ``real``, the other half judges.
        model: The model that drew them, to judge what it says given who a person is; None leaves that out.
        n: The largest number of bodies of each sample, drawn at random from it.
        seed: The seed of all choices.

    Returns:
        The evaluation.

    Raises:
        ValueError: If a sample has fewer than 200 bodies, or is not of people.
    """
    check_enough(real, floor)
    if floor is None:
        first = np.isin(real.persons, _half(real.persons, seed))
        real, floor = real[first], real[~first]
    samples = {"real": real, "drawn": Sample.of(drawn), "floor": floor}
    _enough("the drawn cohort", samples["drawn"], FEWEST)
    samples = {name: sample.some(n, seed) for name, sample in samples.items()}
    columns = compare_columns(samples)
    rows = [
        _row("KS, mean over columns", columns.KS.mean(), floor=columns["KS floor"].mean()),
        _row("Wasserstein, mean over columns [SD]", columns.W1.mean(), floor=columns["W1 floor"].mean()),
    ]
    rows += [_spearman(samples), *_two_samples(samples, seed), *_reach(samples), *_kinetic(samples)]
    copied = by_distance(samples["drawn"], samples["floor"], samples["real"], seed)
    rows += [_row("membership by distance, AUC", copied, 0.5)]
    inside = pd.DataFrame()
    if model is not None:
        inside = conditional(model, samples["real"].some(1500, seed), draws=60, seed=seed)
        rows += [
            _row("90 % intervals, least coverage", inside.coverage.min()),
            _row("90 % intervals, mean coverage", inside.coverage.mean()),
            _row("90 % intervals, greatest coverage", inside.coverage.max()),
            _row("CRPS, mean over columns [SD]", inside.CRPS.mean()),
        ]
    provenance = {
        "drawn": dict(drawn.provenance),
        "people": {name: len(sample) for name, sample in samples.items()},
        "seed": seed,
        "version": metadata.version("vpop"),
    }
    return Evaluation(pd.DataFrame(rows), columns, inside, judge(drawn), samples, provenance)


def check_enough(real: Sample, floor: Sample | None = None) -> None:
    """Raises unless there are enough real people to judge by, and as many beside them for the floor.

    Raises:
        ValueError: If there are fewer than 200 bodies of each, or they are not people.
    """
    _enough("the reference", real, 2 * FEWEST if floor is None else FEWEST)
    if floor is not None:
        _enough("the reference's other part", floor, FEWEST)


def _enough(name: str, sample: Sample, least: int) -> None:
    if sample.bodies.species != "human" or len(sample) < least:
        half = ", half of them to judge by and half as the floor" if least > FEWEST else ""
        raise ValueError(
            f"{name} must hold at least {least} lawful people{half}, but holds {len(sample)} of the species "
            f"{sample.bodies.species}. Give more."
        )


def _half(persons: np.ndarray, seed: int) -> np.ndarray:
    unique = np.unique(persons)
    return np.random.default_rng(seed).permutation(unique)[: len(unique) // 2]


def _row(figure: str, value: float | Interval, floor: float = np.nan) -> dict[str, Any]:
    low, high = (value.low, value.high) if isinstance(value, Interval) else (np.nan, np.nan)
    drawn = value.value if isinstance(value, Interval) else value
    return {"figure": figure, "drawn": float(drawn), "low": low, "high": high, "floor": float(floor)}


def compare_columns(samples: Mapping[str, Sample]) -> pd.DataFrame:
    """Returns KS and Wasserstein distance of each column to the real one, drawn and floor."""
    tables = {name: everything(sample.bodies) for name, sample in samples.items()}
    rows = []
    for name in tables["real"]:
        real, w = tables["real"][name].to_numpy(float), samples["real"].weights
        row: dict[str, Any] = {"column": name}
        for label, other in (("", "drawn"), (" floor", "floor")):
            values, v = tables[other][name].to_numpy(float), samples[other].weights
            row[f"KS{label}"] = kolmogorov_smirnov(real, values, w, v)
            row[f"W1{label}"] = wasserstein(real, values, w, v)
        rows.append(row)
    return pd.DataFrame(rows)[["column", "KS", "KS floor", "W1", "W1 floor"]]


def _spearman(samples: Mapping[str, Sample]) -> dict[str, Any]:
    tables = {name: everything(sample.bodies).drop(columns=["race"]) for name, sample in samples.items()}
    w = {name: sample.weights for name, sample in samples.items()}
    errors = [spearman_error(tables["real"], tables[o], w["real"], w[o]) for o in ("drawn", "floor")]
    return _row("Spearman correlations, mean error", errors[0], errors[1])


def _two_samples(samples: Mapping[str, Sample], seed: int) -> list[dict[str, Any]]:
    rows = []
    real = samples["real"]
    for name, columns in TABLES.items():
        table = columns(real.bodies).to_numpy(float)
        found = [
            c2st(
                table,
                columns(samples[o].bodies).to_numpy(float),
                real.weights,
                seed,
                real.persons,
                samples[o].weights,
                samples[o].persons,
            )
            for o in ("drawn", "floor")
        ]
        rows.append(_row(f"C2ST, {name}", found[0], found[1].value))
    return rows


def _reach(samples: Mapping[str, Sample]) -> list[dict[str, Any]]:
    size = min(2500, *(len(sample) for sample in samples.values()))
    tables = {name: everything(_evened(s, size).bodies) for name, s in samples.items()}
    points = {name: scores(table, tables["real"]) for name, table in tables.items()}
    found = [reach(points["real"], points[o]) for o in ("drawn", "floor")]
    return [_row(name, *pair) for name, *pair in zip(found[0]._fields, *found, strict=True)]


def _evened(sample: Sample, n: int, seed: int = 0) -> Sample:
    """Draws n bodies by weight, so that each counts the same; one may come twice."""
    share = sample.weights / sample.weights.sum()
    return sample[np.random.default_rng(seed).choice(len(sample), n, p=share)]


def _kinetic(samples: Mapping[str, Sample]) -> list[dict[str, Any]]:
    """Compares what a drug does in the people: clearance, volume, half-life and peak of midazolam."""
    compound = Compound.load(DRUG)
    rows = []
    for text, names in _ARMS:
        regimen = Regimen.parse(text)
        tables = {}
        for who, sample in samples.items():
            found = simulate(
                sample.bodies, compound, regimen, regimen.times(_HOURS, 80), keep=["venous"], throw=False
            )
            tables[who] = found.nca(), sample.weights
        for name in names:
            real, w = tables["real"][0][name].to_numpy(float), tables["real"][1]
            distances = [
                kolmogorov_smirnov(real, tables[o][0][name].to_numpy(float), w, tables[o][1])
                for o in ("drawn", "floor")
            ]
            rows.append(_row(f"KS, {DRUG} {name}", *distances))
    return rows
