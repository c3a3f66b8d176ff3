r"""How a few people differ from the many whom a model knows: its growth charts, moved.

A table of 200 people cannot say how tall girls of seven are. It can say that these people are half a standard
deviation shorter than those of the model, women more so, and that their weights are less skewed. So height,
BMI, haematocrit and creatinine are written as normal scores :math:`z` on the model's charts; the model draws
the same people (sex, race, age) too; and of both

.. math:: z = m(\text{sex}, \text{age}) + r

with a smooth mean :math:`m` by Gaussian-process regression and the quantiles :math:`Q` of what is left, each
held to the model's as firmly as the people are few, their width least. The charts that turn draws into people
are

.. math:: z' = m_p + Q_p(Q_d^{-1}(z - m_d))

([ours]; p the people, d the draws). How the four hang together stays as the model has it. Missing values are
drawn by the moved model given what is known of the person, and the charts moved again: whom something was not
measured in then biases nothing that the known values tell.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.physiology import Physiology
from vpop.calibration import transfer
from vpop.coordinates import WHO
from vpop.growth import KNOTS, SCORES, Growth, rising, stretch
from vpop.intervals import ndtr
from vpop.marginals import weighted_quantiles
from vpop.patients import Patients, complete, who
from vpop.pcdm import PCDM

ROUNDS = 3  # of drawing what is missing and moving the charts again
_DRAWS = 4_000  # bodies drawn to see what the model makes of these people
_CENTRES = torch.linspace(-0.7, 4.4, 11, dtype=torch.float64)  # of stretched age
_WIDTH = 0.6
# [ours] how far people may be off the model, in units of the score: all, one sex, an age, an age of one sex.
_PRIOR = (2.0, 0.5, 0.4, 0.15)
_HELD, _HELD_WIDTH = 100.0, 5.0  # [ours] the people that the model's own quantiles count as, and their width


@dataclass(frozen=True)
class Location:
    """Where the scores of some people lie and how they scatter.

    Attributes:
        coefficients: Of the smooth mean, with shape (p).
        quantiles: Of what the mean leaves, at :data:`vpop.growth.SCORES`, rising, with shape (15).
    """

    coefficients: Tensor
    quantiles: Tensor

    @classmethod
    def fit(
        cls, scores: Tensor, sex: Tensor, age: Tensor, weights: Tensor, other: Location | None = None
    ) -> Location:
        """Learns mean and quantiles.

        Arguments:
            scores: Normal scores, NaN where unknown, with shape (n).
            sex: 1 male, 0 female, with shape (n).
            age: The ages [year], with shape (n).
            weights: The weights, with shape (n).
            other: Where these people are expected: their mean and quantiles are held to it.
        """
        known = torch.isfinite(scores)
        if other is not None and int(known.sum()) < 2:
            return other
        z, F, w = scores[known], _features(sex[known], age[known]), weights[known]
        w = w * w.sum() / (w**2).sum()  # sums to the effective number of people
        start = torch.zeros(F.shape[1], dtype=torch.float64) if other is None else other.coefficients
        left = z - F @ start
        change, variance = torch.zeros_like(start), torch.ones((), dtype=torch.float64)
        for _ in range(3):
            precision = (F.T * w) @ F / variance + torch.eye(F.shape[1], dtype=torch.float64)
            change = torch.linalg.solve(precision, (F.T * w) @ left / variance)
            variance = (w * (left - F @ change) ** 2).sum() / w.sum()
        quantiles = weighted_quantiles(left - F @ change, w, ndtr(SCORES))
        if other is not None:
            quantiles = _held(quantiles, other.quantiles, float(w.sum()))
        return cls(start + change, quantiles)

    def mean(self, sex: Tensor, age: Tensor) -> Tensor:
        """Returns the mean score of people of that sex and age, all with shape (n)."""
        return _features(sex, age) @ self.coefficients

    def chart(self, draws: Location, chart: Growth) -> Growth:
        """Returns the chart on which draws that scatter as ``draws`` stand as these people do."""
        sex = torch.arange(2.0, dtype=torch.float64).repeat_interleave(len(KNOTS))
        age = torch.tensor(KNOTS, dtype=torch.float64).repeat(2)
        columns = []
        for score in SCORES:
            left = score - draws.mean(sex, age)
            many = [q.quantiles.expand(len(left), -1).contiguous() for q in (draws, self)]
            columns.append(torch.log(chart.value(self.mean(sex, age) + transfer(left, *many), sex, age)))
        return Growth(rising(torch.stack(columns, -1).reshape(2, len(KNOTS), -1)))


def _held(own: Tensor, model: Tensor, n: float) -> Tensor:
    r"""Returns quantiles of n people held to the model's: the shape firmly, the width hardly.

    Few people know how widely they scatter, if not in which shape: a width has a relative error of
    :math:`1/\sqrt{2n}`, and 80 men of a trial are alike because it asked for such.
    """
    widths = torch.stack([own.std(), model.std()]).clamp(min=1e-6).log()
    shapes = own / own.std().clamp(min=1e-6), model / model.std().clamp(min=1e-6)
    width = (n * widths[0] + _HELD_WIDTH * widths[1]) / (n + _HELD_WIDTH)
    shape = (n * shapes[0] + _HELD * shapes[1]) / (n + _HELD)
    return width.exp() * shape / shape.std()


def _features(sex: Tensor, age: Tensor) -> Tensor:
    """Returns the terms of the mean, each times the standard deviation of its prior, with shape (n, 24)."""
    bumps = torch.exp(-0.5 * ((stretch(age)[:, None] - _CENTRES) / _WIDTH) ** 2)
    half = (sex - 0.5)[:, None]
    parts = (torch.ones_like(half), half, bumps, half * bumps)
    return torch.cat([SD * part for SD, part in zip(_PRIOR, parts, strict=True)], -1)


def moved(model: PCDM, patients: Patients, weights: Tensor, seed: int = 0) -> PCDM:
    """Returns a model whose height, BMI, haematocrit and creatinine are those of the patients.

    It is for drawing these four: what is inside its bodies still belongs to the other people.

    Arguments:
        model: The model of other people.
        patients: Some people, with whatever is known of them.
        weights: How many people each stands for, with shape (n).
        seed: The seed of what is drawn.
    """
    draws = _drawn(model, patients, weights, seed)
    values = who(patients)
    found = _towards(model, draws, patients, weights, values)
    for again in range(ROUNDS if bool(values.isnan().any()) else 0):
        full = complete(found, patients, 1, seed + 1 + again)
        found = _towards(model, draws, patients, weights, _seen(full.physiology))
    return found


def _drawn(model: PCDM, patients: Patients, weights: Tensor, seed: int) -> list[Location]:
    """Returns where the model puts people of the patients' sex, race and age, for each of the four."""
    nothing = torch.full((len(patients),), torch.nan, dtype=torch.float64)
    each = max(1, _DRAWS // len(patients))
    strangers = dataclasses.replace(patients, given=dict.fromkeys(patients.given, nothing))
    body = complete(model, strangers, each, seed).physiology
    scores = _on_charts(model, _seen(body), body.sex, body.age)
    many = weights.repeat_interleave(each)
    return [Location.fit(column, body.sex, body.age, many) for column in scores.unbind(-1)]


def _towards(model: PCDM, draws: list[Location], patients: Patients, weights: Tensor, values: Tensor) -> PCDM:
    """Returns the model with charts on which its draws stand where the values, of shape (n, 4), do."""
    scores = _on_charts(model, values, patients.sex, patients.age)
    charts = {}
    for name, column, drawn in zip(WHO, scores.unbind(-1), draws, strict=True):
        people = Location.fit(column, patients.sex, patients.age, weights, drawn)
        charts[name] = people.chart(drawn, model.coordinates.charts[name])
    found = copy.copy(model)
    found.coordinates = dataclasses.replace(model.coordinates, charts=charts)
    return found


def _seen(body: Physiology) -> Tensor:
    assert body.SCR is not None
    return torch.stack([body.height, body.BMI, body.HCT, body.SCR], -1)


def _on_charts(model: PCDM, values: Tensor, sex: Tensor, age: Tensor) -> Tensor:
    charts = (model.coordinates.charts[name] for name in WHO)
    return torch.stack([c.score(v, sex, age) for c, v in zip(charts, values.unbind(-1), strict=True)], -1)
