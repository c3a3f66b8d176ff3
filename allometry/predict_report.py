"""The page of ``allometry predict``: values with their intervals, scaling lines, and the learnt law."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from allometry.drugs import ANIMALS, Array, Drugs
from allometry.extrapolate import LEVELS, SPECIES, Extrapolation, shipped
from allometry.scaling import WEIGHT

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 60  # drugs in the figure of intervals
_PANELS = 12
_UNITS = {"CL": "mL/min/kg", "Vss": "L/kg", "t_half": "h"}
_SOFT, _ACCENT = "#5b6b7a", "#2f6690"
_COLOURS = ("#c8553d", "#3a7d44", "#8d6a9f", "#b08900", "#1c2733", "#e08e79")  # of ANIMALS
_HUMAN = "human, foretold"


def write(path: str | Path, drugs: Drugs, table: pd.DataFrame, level: float) -> None:
    """Writes the page, whole or not at all.

    Arguments:
        path: Where to.
        drugs: What was measured.
        table: What :func:`allometry.extrapolate.predict` made of it.
        level: The coverage of its intervals.
    """
    from pbpk.files import write_whole
    from pbpk.report import picture, render
    from pbpk.report import table as as_html

    model = shipped()
    known = table["human_CL"].notna() | table["human_Vss"].notna()
    page = render(
        "predict.html",
        title="Human kinetics from animals",
        subtitle=f"allometry predict, method {table['method'].iloc[0]}",
        facts=[
            ("drugs", len(table)),
            ("with a prediction", int(known.sum())),
            ("coverage", f"{100 * level:g} %"),
        ],
        level=f"{100 * level:g}",
        shown="" if len(table) <= _ROWS else f"The first {_ROWS} of {len(table)} drugs.",
        intervals=picture(_intervals(table.head(_ROWS))),
        lines=picture(_lines(drugs, table)),
        table=as_html(_readable(table)),
        weights=as_html(law_table(model, level)),
        origin=model.origin.get("learnt from", "the drugs it was given"),
    )
    with write_whole(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the table with each value and its interval in one cell."""
    import pandas as pd

    columns: dict[str, Any] = {"drug": table["drug"], "species": table["species"]}
    units = {**_UNITS, "AUC": "mg h/L", "target_dose": "mg/kg", "starting_dose": "mg/kg"}
    for name, unit in units.items():
        column = name if name in table else f"human_{name}"
        if column in table:
            ends = [table[f"{column}{end}"] for end in ("", "_lower", "_upper") if f"{column}{end}" in table]
            columns[f"{name.replace('_', ' ')} [{unit}]"] = [_text(*row) for row in zip(*ends, strict=True)]
    return pd.DataFrame({**columns, "note": table["note"]})


def _text(value: float, low: float = math.nan, high: float = math.nan) -> str:
    if math.isnan(value):
        return ""
    text = f"{value:.3g}" if math.isnan(low) else f"{value:.3g} ({low:.3g} to {high:.3g})"
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def law_table(model: Extrapolation, level: float) -> pd.DataFrame:
    """Returns the weight of each species, and the factor of the interval, for every subset of species.

    >>> law_table(shipped(), 0.9)["measured in"].tolist()[-1]
    'rat, dog, monkey'
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for number in range(1, len(SPECIES) + 1):
        for subset in itertools.combinations(SPECIES, number):
            row: dict[str, Any] = {"measured in": ", ".join(subset)}
            for quantity, law in model.laws.items():
                seen = [SPECIES.index(species) for species in subset]
                human = len(SPECIES)
                weight = np.linalg.solve(law.scale[np.ix_(seen, seen)], law.scale[seen, human])
                middle = np.full((1, len(law.mean)), np.nan)
                middle[0, seen] = law.mean[seen]
                q = model.quantiles["learned"][quantity][str(number)][LEVELS.index(level)]
                row |= {f"{quantity}: {s}": w for s, w in zip(subset, weight, strict=True)}
                row[f"{quantity}: factor"] = math.exp(q * law.given(middle, human)[1][0])
            rows.append(row)
    order = [f"{quantity}: {name}" for quantity in model.laws for name in (*SPECIES, "factor")]
    return pd.DataFrame(rows)[["measured in", *order]]


def _intervals(table: pd.DataFrame) -> Any:
    from pbpk.report import figure

    fig, axes = figure(10.0, 1.2 + 0.19 * len(table), ncols=3, sharey=True)
    at = np.arange(len(table))[::-1]
    for axis, (name, unit) in zip(axes, _UNITS.items(), strict=True):
        value, low, high = (table[f"human_{name}{end}"].to_numpy(float) for end in ("", "_lower", "_upper"))
        axis.hlines(at, low, high, color=_SOFT, lw=1.2)
        axis.plot(value, at, "o", ms=4, color=_ACCENT)
        axis.set(
            xscale="log", xlabel=f"human {name.replace('_', ' ')} [{unit}]", ylim=(-0.7, len(table) - 0.3)
        )
        axis.grid(axis="x", color="#e6ebef")
        _plain_numbers(axis.xaxis)
    axes[0].set_yticks(at, [str(name)[:24] for name in table["drug"]], fontsize=7)
    return fig


def _plain_numbers(axis: Any) -> None:
    """Labels a logarithmic axis with 1, 10, 100; one of less than two decades with 2 and 5 in between."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    narrow = high < 100.0 * low
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if narrow else (1.0,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _lines(drugs: Drugs, table: pd.DataFrame) -> Any:
    from pbpk.report import figure

    chosen = np.flatnonzero(table["human_CL"].notna())[:_PANELS]
    columns = 4 if len(chosen) > 3 else max(len(chosen), 1)
    rows = max(math.ceil(len(chosen) / columns), 1)
    fig, axes = figure(10.0, 2.3 * rows + 0.4, nrows=rows, ncols=columns, squeeze=False, sharex=True)
    marks: dict[str, Any] = {}
    for axis in axes.reshape(-1)[len(chosen) :]:
        axis.set_axis_off()
    for axis, i in zip(axes.reshape(-1), chosen, strict=False):
        marks |= _scaled(axis, drugs.columns("CL", ANIMALS)[i], table.iloc[i])
    for axis in axes[-1]:
        axis.set_xlabel("body weight [kg]", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("CL [mL/min]", fontsize=8)
    names = [name for name in (*ANIMALS, _HUMAN) if name in marks]
    handles = [marks[name] for name in names]
    fig.legend(handles, names, loc="outside upper center", ncols=len(names) or 1, fontsize=8, frameon=False)
    return fig


def _scaled(axis: Any, CL: Array, row: pd.Series) -> dict[str, Any]:
    """Draws one drug's clearances against body weight; returns the marks by whose they are."""
    weight = np.array([WEIGHT[species] for species in ANIMALS])
    whole, marks = CL * weight, {}
    middle = np.exp(np.nanmean(np.log(whole / weight**0.75)))
    line = np.array([0.01, 120.0])
    axis.loglog(line, middle * line**0.75, color=_SOFT, lw=0.8)
    for k in np.flatnonzero(~np.isnan(whole)):
        marks[ANIMALS[k]] = axis.plot(weight[k], whole[k], "o", ms=5, color=_COLOURS[k])[0]
    value, low, high = (row[f"human_CL{end}"] * WEIGHT["human"] for end in ("", "_lower", "_upper"))
    if math.isfinite(low):
        axis.plot([WEIGHT["human"]] * 2, [low, high], color=_ACCENT, lw=1.5)
    marks[_HUMAN] = axis.plot(WEIGHT["human"], value, "D", ms=5, color=_ACCENT)[0]
    axis.set_title(str(row["drug"])[:26], fontsize=8)
    return marks
