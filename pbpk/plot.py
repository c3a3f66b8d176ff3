"""Pictures of simulations: each function draws on an ``Axes`` and returns it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

_COLOUR = "#2f6690"


def ribbons(axes: Any, quantiles: pd.DataFrame, label: str = "", colour: str = _COLOUR) -> Any:
    """Draws the median and the 50 % and 90 % bands of a population's concentration over time.

    Arguments:
        axes: A matplotlib ``Axes``.
        quantiles: One output of :meth:`pbpk.simulation.Simulation.quantiles`: time [h], p5 ... p95 [mg/L].
        label: The name of the median in the legend.
        colour: The colour of all three.
    """
    time = quantiles["time"]
    axes.fill_between(time, quantiles["p5"], quantiles["p95"], color=colour, alpha=0.15, linewidth=0)
    axes.fill_between(time, quantiles["p25"], quantiles["p75"], color=colour, alpha=0.3, linewidth=0)
    axes.plot(time, quantiles["p50"], color=colour, linewidth=2, label=label or None)
    axes.set(xlabel="time [h]", ylabel="concentration [mg/L]")
    return axes


def logarithmic(axes: Any, decades: float = 4.0) -> Any:
    """Makes the vertical axis logarithmic, not deeper than some decades below the top.

    It stays as it is where nothing is above 0, as after a dose of 0.
    """
    if axes.dataLim.y1 <= 0:
        return axes
    axes.set_yscale("log")
    top = axes.get_ylim()[1]
    axes.set_ylim(bottom=max(axes.get_ylim()[0], top * 10.0**-decades))
    return axes


def few_ticks(axis: Any, low: float, high: float) -> Any:
    """Gives a logarithmic axis from ``low`` to ``high``, ``axes.xaxis`` say, few enough labels to be read."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    steps = (
        (1.0, 2.0, 3.0, 4.0, 6.0) if high < 5.0 * low else (1.0, 2.0, 5.0) if high < 50.0 * low else (1.0,)
    )
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    return axis


def spread_out(axes: Any, low: float, high: float) -> Any:
    """Makes the horizontal axis logarithmic if it spans a decade."""
    if high > 10.0 * low:
        axes.set_xscale("log")
        few_ticks(axes.xaxis, low, high)
    return axes


def histogram(axes: Any, values: Any, label: str, colour: str = _COLOUR) -> Any:
    """Draws how a positive quantity is spread over a population, on a logarithmic axis if it spans a decade.

    Arguments:
        axes: A matplotlib ``Axes``.
        values: The quantity, one a body; what is not finite or not positive is left out.
        label: Its name and unit.
        colour: The colour of the bars.
    """
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        bins = min(40, max(5, int(len(values) ** 0.5)))
        wide = values.max() > 10 * values.min()
        space = np.geomspace if wide else np.linspace
        axes.hist(
            values, bins=space(values.min() / 1.01, values.max() * 1.01, bins + 1), color=colour, alpha=0.6
        )
        axes.axvline(np.median(values), color=colour, linewidth=2)
        spread_out(axes, values.min(), values.max())
    axes.set(xlabel=label, ylabel="bodies")
    return axes
