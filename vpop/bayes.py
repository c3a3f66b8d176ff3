r"""Who is likely to have a given value: sex, race, age and height, drawn again from those who may have it.

Men and women of all ages are not equally likely to weigh 120 kg. By Bayes' rule, people drawn from the
population are drawn again with weights

.. math:: w = p(height) \, p(BMI) \, p(HCT) \, p(SCR) \quad \text{given sex and age, of what is given}

from the growth charts, 0 outside the laws; times the density of what is given inside a body
(:mod:`vpop.gains`), if anything is. Where only the weight is given, the height is integrated over, and
drawn from what is left of it. [ours]: the charts' values are taken as independent, given sex and age.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vpop import limits
from vpop.coordinates import Coordinates, blank

CANDIDATES = 8  # people drawn for each one kept
_HEIGHTS = 41  # heights tried for each person of whom only the weight is given


def draw_again(
    people: Mapping[str, Tensor],
    given: Mapping[str, float],
    n: int,
    coordinates: Coordinates,
    generator: torch.Generator,
    inside: Tensor | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Draws n of the people by how likely they are to have what is given.

    Arguments:
        people: Candidates: sex, race and age, with shape :math:`(m)`.
        given: Values of :data:`vpop.coordinates.GIVEN`, and of :data:`vpop.inside.INSIDE`.
        n: How many are kept.
        coordinates: The model's coordinates, whose charts and laws decide.
        generator: The source of randomness.
        inside: How likely each candidate is to have the latter, a log density, with shape :math:`(m)`.

    Returns:
        The people, with shape (n), and what each is given, with shape (n): a height too where only the
        weight was given.

    Raises:
        Impossible: If no candidate can have what is given, naming the law that forbids it.
    """
    values = {name: torch.full_like(people["age"], value) for name, value in given.items()}
    weight = torch.ones_like(people["age"]) if inside is None else torch.exp(inside - inside.max())
    for name in ("height", "BMI", "HCT", "SCR"):
        value = values.get(name)
        if name == "BMI" and "BW" in values and "height" in values:
            value = values["BW"] / (values["height"] / 100.0) ** 2
        if value is not None:
            weight = weight * coordinates.density(name, value, people)
    if "BW" in values and "height" not in values:
        heights, likely = likely_heights(values["BW"], people, coordinates)
        weight = weight * likely.sum(-1)
    if not bool((weight > 0).any()):
        old = coordinates.tested(people["age"]) if "SCR" in values else weight >= 0
        some = old if bool(old.any()) else ~old  # where someone is old enough that is not what forbids it
        coordinates.known(blank(_of(people, some)), _of(values, some))  # says which law forbids it
        return {name: value[:0] for name, value in people.items()}, {}
    kept = torch.multinomial(weight, n, replacement=True, generator=generator)
    if "BW" in values and "height" not in values:
        which = torch.multinomial(likely[kept], 1, generator=generator)
        values["height"] = torch.zeros_like(people["age"])
        chosen = heights[kept].gather(1, which)[:, 0]
        return _of(people, kept), _of(values, kept) | {"height": chosen}
    return _of(people, kept), _of(values, kept)


def _of(columns: Mapping[str, Tensor], kept: Tensor) -> dict[str, Tensor]:
    return {name: value[kept] for name, value in columns.items()}


def with_heights(
    given: Mapping[str, Tensor],
    people: Mapping[str, Tensor],
    coordinates: Coordinates,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Adds a height drawn for each person where the weight is given alone: no coordinate of the model."""
    if "BW" not in given or "height" in given:
        return dict(given)
    heights, likely = likely_heights(given["BW"], people, coordinates)
    which = torch.multinomial(likely, 1, generator=generator)
    return {**given, "height": heights.gather(1, which)[:, 0]}


def likely_heights(
    BW: Tensor, people: Mapping[str, Tensor], coordinates: Coordinates
) -> tuple[Tensor, Tensor]:
    """Returns heights that each person may have, and how likely each is at this weight, shapes (m, k)."""
    body = blank(people)
    height_row, BMI_row = (
        coordinates.charts[name].row(people["sex"], people["age"]) for name in ("height", "BMI")
    )
    height_law, BMI_law = (limits.who(name, body) for name in ("height", "BMI"))
    heights, likely = [], []
    for score in torch.linspace(-3.0, 3.0, _HEIGHTS, dtype=torch.float64):
        height = height_row.value(score.expand_as(BW))
        BMI = BW / (height / 100.0) ** 2
        lawful = _inside(height, height_law) & _inside(BMI, BMI_law)
        heights.append(height)
        likely.append(torch.exp(-0.5 * score**2) * lawful * BMI_row.density(BMI))
    return torch.stack(heights, -1), torch.stack(likely, -1)


def _inside(value: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
    return (value > bounds[0]) & (value < bounds[1])
