"""Each organ of some people against their age or weight, with the reference people of ICRP 89 on it."""

from __future__ import annotations

from typing import Any

import numpy as np

from pbpk import report
from pbpk.bodies import reference_body
from pbpk.organs import ORGANS
from pbpk.physiology import Physiology

REFERENCE_AGES = (0, 1, 5, 10, 15, 30)  # of the reference people, year; 30 is the adult
AXES = {"age": "age [year]", "BW": "weight [kg]"}
_COLOURS = {1.0: "#2f6690", 0.0: "#d1752b"}
_MARKS = {1.0: "s", 0.0: "o"}
_NAMES = {1.0: "male", 0.0: "female"}
_TICKS = {"age": (0, 1, 5, 10, 20, 40, 60, 80), "BW": (3, 10, 20, 40, 80, 120, 200)}
_DOTS = 4000
_MANY = 1000  # dots, from which they are small
_GROUPS, _SMALLEST = 24, 25  # groups of which medians are shown, and the people in one
_COLUMNS = 4


def against(bodies: Physiology, axis: str) -> Any:
    """Draws a panel an organ: a dot a body, the median of each sex, and the reference people.

    Arguments:
        bodies: The bodies, with shape (n); the first 4,000 become dots.
        axis: ``"age"`` or ``"BW"``.

    Returns:
        A matplotlib figure.
    """
    organs = [organ for organ in ORGANS if organ != "rest"]
    rows = -(-len(organs) // _COLUMNS)
    figure, axes = report.figure(13, 2.6 * rows + 0.4, nrows=rows, ncols=_COLUMNS)
    x = getattr(bodies, axis).numpy()
    for panel, organ in zip(axes.flat, organs, strict=False):
        mass = bodies.mass(organ).numpy()
        for sex in _COLOURS:
            _one_sex(panel, x, mass, (bodies.sex == sex).numpy(), sex)
            points = [reference_body("human", "M" if sex else "F", age) for age in REFERENCE_AGES]
            at = [float(getattr(body, axis)) for body in points]
            weighed = [float(body.mass(organ)) for body in points]
            panel.plot(
                at, weighed, _MARKS[sex], mfc="white", mec="black", ms=5, label=f"ICRP 89, {_NAMES[sex]}"
            )
        panel.set_title(organ.replace("_", " "), fontsize=10)
        panel.set(yscale="log", ylabel="kg", xlabel=AXES[axis])
        panel.set_xscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0.0)), np.square))
        panel.set(xlim=(0.0, 1.02 * x.max()), xticks=[t for t in _TICKS[axis] if t < 1.02 * x.max()])
        _plain_numbers(panel.yaxis)
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _plain_numbers(axis: Any) -> None:
    """Writes 0.02, 0.05, 0.1 on a logarithmic axis, not powers of ten."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_formatter(NullFormatter())


def _one_sex(panel: Any, x: np.ndarray, mass: np.ndarray, which: np.ndarray, sex: float) -> None:
    x, mass = x[which], mass[which]
    size, faint = (1.5, 0.3) if len(x) > _MANY else (3.0, 0.6)
    panel.plot(x[:_DOTS], mass[:_DOTS], ".", ms=size, alpha=faint, mew=0, color=_COLOURS[sex])
    groups = np.array_split(np.argsort(x), min(_GROUPS, max(1, len(x) // _SMALLEST)))
    middle = np.array([(np.median(x[group]), np.median(mass[group])) for group in groups if len(group)])
    panel.plot(*middle.reshape(-1, 2).T, color=_COLOURS[sex], lw=1.6, label=f"drawn, {_NAMES[sex]}, median")
