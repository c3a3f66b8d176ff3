"""The pictures of an evaluation: columns beside their floor, real against drawn, and what is inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pbpk import report
from vpop.columns import Sample, covariates, everything
from vpop.organ_picture import against

_INK, _DRAWN, _REAL = "#1c2733", "#2f6690", "#d1752b"
_OVERLAID = {
    "age": "year",
    "height": "cm",
    "BW": "kg",
    "HCT": "1",
    "SCR": "mg/dL",
    "GFR": "L/h",
    "CO": "L/h",
    "FAT": "kg",
    "M_liver": "kg",
    "M_muscle": "kg",
    "Q_kidney": "L/h",
    "Q_adipose": "L/h",
}
_GROUP = 20  # people, of whom a median and the 90 % about it are shown
_FEW = 300  # people of one sex; fewer are shown one by one
_BANDS = np.array([0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 18, *range(20, 81, 5)])


def pictures(
    samples: Mapping[str, Sample], columns: pd.DataFrame, conditional: pd.DataFrame
) -> list[tuple[str, str]]:
    """Returns titles and data URIs of the page's figures."""
    found = [
        (
            "KS distance of each column to the real people; the floor is other real people",
            _distances(columns),
        ),
        ("Distributions: real people (orange), drawn people (blue)", _overlaid(samples)),
        ("Height and weight against age: medians and 90 % of the people, or each of few", _growth(samples)),
    ]
    for axis, word in (("age", "age"), ("BW", "weight")):
        figure = against(samples["drawn"].bodies, axis)
        found.append(
            (
                f"Organs of drawn people against {word}, and the reference people of ICRP 89",
                report.picture(figure, 80),
            )
        )
    if len(conditional):
        found.append(("Share of real values inside the 90 % of their own draws", _coverage(conditional)))
    return found


def _bars(axis: Any, names: list[str]) -> np.ndarray:
    at = np.arange(len(names))
    axis.set_xticks(at, names, rotation=90, fontsize=8)
    axis.margins(x=0.01)
    axis.spines[["top", "right"]].set_visible(False)
    return at


def _distances(columns: pd.DataFrame) -> str:
    figure, axis = report.figure(12, 4)
    at = _bars(axis, columns.column.tolist())
    axis.bar(at, columns.KS, color=_DRAWN, label="drawn people")
    axis.plot(at, columns["KS floor"], "_", ms=9, mew=2, color=_REAL, label="floor")
    axis.set_ylabel("KS")
    axis.legend(frameon=False)
    return report.picture(figure)


def _overlaid(samples: Mapping[str, Sample]) -> str:
    tables = {name: everything(samples[name].bodies) for name in ("real", "drawn")}
    known = {name: covariates(samples[name].bodies) for name in tables}
    figure, axes = report.figure(12, 6.5, nrows=3, ncols=4)
    for axis, name in zip(axes.ravel(), _OVERLAID, strict=True):
        table = known if name in known["real"] else tables
        both = pd.concat([table["real"][name], table["drawn"][name]])
        edges = np.linspace(both.quantile(0.002), both.quantile(0.998), 41)
        for who, colour in (("real", _REAL), ("drawn", _DRAWN)):
            axis.hist(
                table[who][name],
                edges,
                weights=samples[who].weights,
                density=True,
                histtype="step",
                color=colour,
            )
        axis.set(title=name, yticks=[], xlabel=_OVERLAID[name])
        axis.spines[["top", "right", "left"]].set_visible(False)
    return report.picture(figure)


def _growth(samples: Mapping[str, Sample]) -> str:
    figure, axes = report.figure(12, 6.5, nrows=2, ncols=2, sharex=True)
    for who, colour in (("real", _REAL), ("drawn", _DRAWN)):
        table = covariates(samples[who].bodies).assign(w=samples[who].weights)
        for column, (sex, label) in enumerate(((1.0, "men"), (0.0, "women"))):
            part = table[table.sex == sex]
            for row, name in enumerate(("height", "BW")):
                axis = axes[row, column]
                if len(part) < _FEW:
                    axis.plot(part.age, part[name], ".", ms=4, color=colour, label=who)
                else:
                    _ribbon(axis, part, name, colour, who)
                axis.set(ylabel={"height": "height [cm]", "BW": "weight [kg]"}[name])
            axes[0, column].set_title(label)
            axes[1, column].set_xlabel("age [year]")
    axes[0, 0].legend(frameon=False)
    return report.picture(figure)


def _ribbon(axis: Any, people: pd.DataFrame, name: str, colour: str, label: str) -> None:
    groups = _of_an_age(people)
    lines = np.array([_quantiles(g[name], g.w) for g in groups]).T
    middle = [g.age.mean() for g in groups]
    axis.plot(middle, lines[1], color=colour, label=label)
    axis.fill_between(middle, lines[0], lines[2], color=colour, alpha=0.2, lw=0)


def _of_an_age(people: pd.DataFrame) -> list[pd.DataFrame]:
    """Returns the people by band of age, neighbouring bands together where they are too few."""
    groups, waiting = [], []
    for _, group in people.groupby(pd.cut(people.age, _BANDS, include_lowest=True), observed=True):
        waiting.append(group)
        if sum(map(len, waiting)) >= _GROUP:
            groups.append(pd.concat(waiting))
            waiting = []
    return groups


def _quantiles(values: pd.Series, weights: pd.Series) -> list[float]:
    order = np.argsort(values.to_numpy())
    share = np.cumsum(weights.to_numpy()[order])
    return [float(values.to_numpy()[order][np.searchsorted(share, q * share[-1])]) for q in (0.05, 0.5, 0.95)]


def _coverage(conditional: pd.DataFrame) -> str:
    figure, axis = report.figure(12, 4)
    at = _bars(axis, conditional.column.tolist())
    axis.axhspan(0.88, 0.92, color="#dfe7ee", zorder=0)
    axis.axhline(0.9, color=_INK, lw=0.8)
    error = [conditional.coverage - conditional.low, conditional.high - conditional.coverage]
    axis.errorbar(at, conditional.coverage, yerr=error, fmt="o", color=_DRAWN, ms=4, lw=1)
    axis.set_ylabel("share inside")
    return report.picture(figure)
