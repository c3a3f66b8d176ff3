"""Pictures of a cohort and of what a drug does in it: each function draws on an ``Axes`` and returns it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from pbpk import plot
from pbpk.bodies import reference_body
from pbpk.organs import ORGANS
from pbpk.physiology import Physiology

COLOURS = {"F": "#b5446e", "M": "#2f6690"}
_REFERENCE_AGES = (0.0, 1.0, 5.0, 10.0, 15.0, 30.0)
_DOTS = {"s": 5, "alpha": 0.35, "linewidths": 0, "rasterized": True}


def running_median(x: np.ndarray, y: np.ndarray, windows: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Computes the median of y in windows of equal numbers of people along x.

    Arguments:
        x: The positions, with shape :math:`(n)`.
        y: The values, with shape :math:`(n)`.
        windows: The number of windows.

    Returns:
        The median position and the median value of each window that is not empty.

    >>> running_median(np.arange(4.0), np.array([1.0, 3.0, 5.0, 7.0]), 2)
    (array([0.5, 2.5]), array([2., 6.]))
    """
    parts = [part for part in np.array_split(np.argsort(x), windows) if len(part)]
    return np.array([np.median(x[p]) for p in parts]), np.array([np.median(y[p]) for p in parts])


def by_sex(axes: Any, x: np.ndarray, y: np.ndarray, sex: np.ndarray) -> Any:
    """Scatters y against x, women and men in two colours with their running medians."""
    for name, colour in COLOURS.items():
        chosen = (sex == name) & np.isfinite(x) & np.isfinite(y)
        if not chosen.any():
            continue
        axes.scatter(x[chosen], y[chosen], color=colour, label=name, **_DOTS)
        axes.plot(*running_median(x[chosen], y[chosen]), color=colour, linewidth=2)
    return axes


def exposure_by_age(axes: Any, exposure: pd.DataFrame, quantity: str, label: str) -> Any:
    """Draws an exposure quantity against age by sex, on a logarithmic scale."""
    positive = exposure[exposure[quantity] > 0]
    by_sex(axes, positive.age.to_numpy(), positive[quantity].to_numpy(), positive.sex.to_numpy())
    axes.set(yscale="log", xlabel="age [year]", ylabel=label)
    plot.few_ticks(axes.yaxis, *axes.get_ylim())
    if axes.get_legend_handles_labels()[0]:  # nothing was given, or nothing came
        axes.legend(frameon=False, markerscale=2)
    return axes


def organs(figure: Any, axes: Any, bodies: Physiology, against: str, label: str) -> Any:
    """Draws each organ's mass against age or weight, with the reference people of ICRP 89 on it.

    Arguments:
        figure: A matplotlib figure.
        axes: At least 17 of its axes.
        bodies: The cohort's bodies, with batch shape :math:`(n)`.
        against: ``"age"`` or ``"BW"``.
        label: Its name and unit.
    """
    sex = np.where(bodies.sex.numpy() == 1, "M", "F")
    x = getattr(bodies, against).numpy()
    reference = {name: _reference_people(name) for name in COLOURS}
    for axis, organ in zip(axes, ORGANS, strict=False):
        by_sex(axis, x, bodies.mass(organ).numpy(), sex)
        for name, people in reference.items():
            positions = getattr(people, against)
            axis.plot(positions, people.mass(organ), "+", color=COLOURS[name], markersize=8, mec="black")
        axis.set_title(organ.replace("_", " "), fontsize=9)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=7)
    for axis in axes[len(ORGANS) :]:
        axis.axis("off")
    figure.supxlabel(label, fontsize=10)
    figure.supylabel("mass [kg]", fontsize=10)
    return figure


def _reference_people(sex: str) -> Physiology:
    """Returns the reference people of one sex, newborn to adult, with batch shape (6,)."""
    bodies = [reference_body("human", sex=sex, age=age) for age in _REFERENCE_AGES]
    names = bodies[0].tensors()
    return Physiology("human", **{n: torch.stack([b.tensors()[n] for b in bodies]) for n in names})
