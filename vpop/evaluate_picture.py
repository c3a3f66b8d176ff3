"""The pictures of an evaluation: columns beside their floor, real against drawn, and what is inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pbpk import report
from vpop.columns import Sample, covariates, everything

_INK, _DRAWN, _REAL = "#1c2733", "#2f6690", "#d1752b"
_OVERLAID = (
    "age",
    "height",
    "BW",
    "HCT",
    "SCR",
    "GFR",
    "CO",
    "FAT",
    "M_liver",
    "M_muscle",
    "Q_kidney",
    "Q_adipose",
)


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
        ("Height and weight against age: medians and 90 % of the people", _growth(samples)),
    ]
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
        axis.set(title=name, yticks=[])
    return report.picture(figure)


def _growth(samples: Mapping[str, Sample]) -> str:
    figure, axes = report.figure(12, 6.5, nrows=2, ncols=2, sharex=True)
    for who, colour in (("real", _REAL), ("drawn", _DRAWN)):
        table = covariates(samples[who].bodies).assign(w=samples[who].weights)
        for column, (sex, label) in enumerate(((1.0, "men"), (0.0, "women"))):
            part = table[table.sex == sex]
            bands = np.unique(np.concatenate([[0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 18], np.arange(20, 81, 5)]))
            groups = [g for _, g in part.groupby(pd.cut(part.age, bands), observed=True) if len(g) > 20]
            for row, name in enumerate(("height", "BW")):
                lines = np.array([_quantiles(g[name], g.w) for g in groups]).reshape(-1, 3).T
                middle = [g.age.mean() for g in groups]
                axes[row, column].plot(middle, lines[1], color=colour, label=who)
                axes[row, column].fill_between(middle, lines[0], lines[2], color=colour, alpha=0.2, lw=0)
                axes[row, column].set(ylabel={"height": "height [cm]", "BW": "weight [kg]"}[name])
            axes[0, column].set_title(label)
            axes[1, column].set_xlabel("age [year]")
    axes[0, 0].legend(frameon=False)
    return report.picture(figure)


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
