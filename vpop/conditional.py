r"""Given who a person is, is what the model says about the inside right, and sharp?

Real bodies of which sex, race, age, height and weight are given are drawn again many times. Column by column,

- coverage: how often the real value lies in the central 90 % of its own draws; 90 % is right, less is too
  sure, more is too vague;
- CRPS, :math:`E|X - y| - \tfrac12 E|X - X'|` with draws :math:`X, X'` and the real value :math:`y`, in units
  of the real column's standard deviation; lower is better. Beside it that of ``the others``: real values
  of all people of that sex taken as draws, what one knows without looking at the body.

Each person counts the same: given who someone is, it does not matter how many such people there are.

References:
    Gneiting, Raftery (2007). J Am Stat Assoc 102:359. https://doi.org/10.1198/016214506000001437
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from pbpk.physiology import Physiology
from vpop.columns import GIVEN, Sample, everything
from vpop.pcdm import PCDM
from vpop.sample import STEPS

LEVEL = 0.90


def conditional(
    model: PCDM, real: Sample, draws: int = 100, seed: int = 0, steps: int = STEPS
) -> pd.DataFrame:
    """Draws the inside of real people again and judges the draws.

    Arguments:
        model: The model.
        real: The people, complete bodies.
        draws: How many bodies each person gets.
        seed: The seed.
        steps: The steps of the sampler.

    Returns:
        One row a column that was not given: ``coverage`` with its 95 % interval, ``CRPS`` and ``CRPS of the
        others``.
    """
    truth = everything(real.bodies)
    columns = [name for name in truth if name not in GIVEN]
    drawn = np.stack(
        [everything(_again(model, real, seed + i, steps))[columns].to_numpy() for i in range(draws)]
    )
    return judged(truth, drawn, columns, seed)


def judged(truth: pd.DataFrame, drawn: np.ndarray, columns: list[str], seed: int) -> pd.DataFrame:
    """Judges draws of the columns of n people, with shape (draws, n, columns); see :func:`conditional`."""
    tail = (1.0 - LEVEL) / 2.0
    sex = truth.sex.to_numpy()
    random = np.random.default_rng(seed)
    rows = []
    for at, name in enumerate(columns):
        y, x = truth[name].to_numpy(float), drawn[:, :, at]
        known = ~(np.isnan(y) | np.isnan(x).any(0))
        if not known.any():
            continue
        y, x = y[known], x[:, known]
        # These quantiles hold their share of further draws exactly, however few draws there are.
        low, high = np.quantile(x, [tail, 1.0 - tail], axis=0, method="weibull")
        inside = ((y >= low) & (y <= high)).astype(float)
        share = float(inside.mean())
        error = float(inside.std() / len(y) ** 0.5)
        others = np.stack([_others(y, sex[known], random) for _ in range(len(drawn))])
        rows.append(
            {
                "column": name,
                "coverage": share,
                "low": share - 1.96 * error,
                "high": share + 1.96 * error,
                "CRPS": float(crps(x, y).mean() / y.std()),
                "CRPS of the others": float(crps(others, y).mean() / y.std()),
            }
        )
    return pd.DataFrame(rows)


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the continuous ranked probability score of draws of shape (k, n) for truths of shape (n).

    The spread is the unbiased estimate, over pairs of different draws.

    >>> crps(np.array([[0.0], [0.0]]), np.array([1.0]))
    array([1.])
    """
    k = len(draws)
    x = np.sort(draws, axis=0)
    spread = (2.0 * np.arange(1, k + 1) - k - 1.0) @ x / (k * (k - 1) / 2.0)
    return np.abs(draws - truth).mean(0) - 0.5 * spread


def _others(y: np.ndarray, sex: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns for each person the value of another of the same sex."""
    out = y.copy()
    for one in np.unique(sex):
        same = sex == one
        out[same] = random.choice(y[same], same.sum())
    return out


@torch.no_grad()
def _again(model: PCDM, real: Sample, seed: int, steps: int) -> Physiology:
    """Draws one body for each person, with the person's own sex, race, age, height and weight."""
    body = real.bodies
    race = torch.full(body.shape, -1) if body.race is None else body.race
    people = {"sex": body.sex, "race": race, "age": body.age}
    given = {"height": body.height, "BW": body.BW}
    return model.draw_given(people, given, torch.Generator().manual_seed(seed), steps)
