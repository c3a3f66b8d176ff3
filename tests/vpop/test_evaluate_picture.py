"""The pictures of an evaluation: few people are still seen, and every organ has its reference people."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from pbpk.bodies import reference_body
from vpop.columns import Sample
from vpop.evaluate_picture import _growth, _of_an_age
from vpop.organ_picture import REFERENCE_AGES, against
from vpop.pcdm import PCDM


@pytest.fixture(scope="module")
def people() -> Sample:
    return Sample.of(PCDM.load().sample(200, seed=51))


def test_neighbouring_bands_of_age_are_joined_until_they_hold_twenty():
    ages = pd.DataFrame({"age": np.concatenate([np.linspace(0.1, 18, 30), np.linspace(20, 79, 300)])})
    groups = _of_an_age(ages)
    assert min(map(len, groups)) >= 20
    assert all(a.age.max() < b.age.min() for a, b in pairwise(groups))


def test_two_hundred_people_are_shown_one_by_one(people, monkeypatch):
    shown = {}
    monkeypatch.setattr("pbpk.report.picture", lambda figure: shown.setdefault("figure", figure))
    _growth({"real": people, "drawn": people})
    figure = shown["figure"]
    assert all(sum(len(line.get_xdata()) for line in axis.lines) > 100 for axis in figure.axes)
    plt.close(figure)


@pytest.mark.parametrize("axis", ["age", "BW"])
def test_every_organ_stands_beside_the_reference_people(people, axis):
    figure = against(people.bodies, axis)
    panels = {panel.get_title(): panel for panel in figure.axes}
    assert len(panels) == 16 and all(panel.get_ylabel() == "kg" for panel in panels.values())
    marks = [line for line in panels["liver"].lines if line.get_label() == "ICRP 89, female"]
    expected = [float(reference_body("human", "F", age).mass("liver")) for age in REFERENCE_AGES]
    assert marks[0].get_ydata() == pytest.approx(expected)
    plt.close(figure)
