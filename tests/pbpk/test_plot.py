"""Pictures: what is drawn is what was given."""

import numpy as np
import pandas as pd
import pytest

from pbpk import plot, report


@pytest.fixture
def axes():
    return report.figure(4, 3)[1]


def test_ribbons_draw_the_median_and_two_bands(axes):
    table = pd.DataFrame({"time": [0.0, 1.0, 2.0], "p5": 1.0, "p25": 2.0, "p50": [3.0, 4.0, 3.5]})
    table = table.assign(p75=5.0, p95=6.0)
    assert plot.ribbons(axes, table, "plasma") is axes
    assert axes.lines[0].get_ydata().tolist() == [3.0, 4.0, 3.5] and len(axes.collections) == 2
    low, high = axes.collections[0].get_paths()[0].get_extents().intervaly
    assert (low, high) == (1.0, 6.0)


def test_a_logarithmic_axis_shows_no_more_than_the_decades_asked_for(axes):
    axes.plot([0, 1], [1e-12, 1.0])
    plot.logarithmic(axes, decades=3)
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "log" and low == pytest.approx(high * 1e-3)


@pytest.mark.parametrize("spread, scale", [(2.0, "linear"), (100.0, "log")])
def test_a_histogram_counts_every_body_with_a_value(axes, spread, scale):
    values = np.append(np.geomspace(1, spread, 50), [np.nan, np.inf, 0.0])
    plot.histogram(axes, values, "AUC [mg h/L]")
    assert sum(patch.get_height() for patch in axes.patches) == 50
    assert axes.get_xscale() == scale and axes.get_xlabel() == "AUC [mg h/L]"


def test_a_histogram_of_nothing_is_empty(axes):
    assert not plot.histogram(axes, [np.nan], "x").patches
