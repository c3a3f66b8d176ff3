"""Who is drawn: sex, race and age in the proportions of the reference population.

A table of shares by sex, race and age: months up to two years, then years, then one cell for the oldest,
whose ages a survey does not tell apart: CDC's files write 80 for 80 and over. The table of NHANES 2013-2018
that the shipped weights learnt from ends at 79 years.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.physiology import RACES

OLDEST = 80.0
_SEXES = ("F", "M")
EDGES = torch.cat([torch.arange(24) / 12, torch.arange(2.0, OLDEST + 1.0)]).to(torch.float64)


@dataclass(frozen=True)
class Demographics:
    """Shares of the population.

    Attributes:
        share: With shape :math:`(2, 5, 103)`: sex (female, male), race, age cell; they sum to 1.
    """

    share: Tensor

    @classmethod
    def fit(cls, sex: Tensor, race: Tensor, age: Tensor, weights: Tensor) -> Demographics:
        """Counts people, each with its weight; all with shape (n,). An unknown race counts as Other."""
        cell = (torch.searchsorted(EDGES, age.double().contiguous(), right=True) - 1).clamp(min=0)
        share = torch.zeros(2, len(RACES), len(EDGES), dtype=torch.float64)
        other = RACES.index("Other")
        where = (sex.round().long(), torch.where(race < 0, other, race), cell)
        share.index_put_(where, weights.double(), accumulate=True)
        return cls(share / share.sum())

    def sexes(self) -> list[str]:
        """Returns the sexes that the population has, of ``"F"`` and ``"M"``."""
        return [name for name, one in zip(_SEXES, self.share, strict=True) if float(one.sum()) > 0]

    def refuse_absent(self, sex: str) -> None:
        """Raises if the population has no one of a sex, ``"F"`` or ``"M"``.

        Raises:
            ValueError: Naming the sex that it has.
        """
        there = self.sexes()
        if sex not in there:
            raise ValueError(
                f"sex must be one that the model has learnt, but it knows {', '.join(there)} alone and {sex} "
                "is asked for. Fit a model to people of both sexes, or take the shipped one."
            )

    def of_sex(self, sex: float) -> Demographics:
        """Returns the shares among one sex: 0 female, 1 male.

        Raises:
            ValueError: If the population has no one of it.
        """
        self.refuse_absent(_SEXES[int(sex)])
        share = torch.zeros_like(self.share)
        share[int(sex)] = self.share[int(sex)]
        return Demographics(share / share.sum())

    def draw(
        self, n: int, generator: torch.Generator, age: tuple[float, float] = (0.0, OLDEST)
    ) -> dict[str, Tensor]:
        """Draws n people whose age lies in a closed range.

        Returns:
            ``sex``, ``race`` and ``age``, each with shape :math:`(n)`.

        Raises:
            ValueError: If the reference population has no one of that age.
        """
        low, high = age
        start, end = EDGES, torch.cat([EDGES[1:], EDGES[-1:]])
        overlap = (end.clamp(max=high) - start.clamp(min=low)).clamp(min=0) / (end - start).clamp(min=1e-9)
        overlap[-1] = float(low <= OLDEST <= high)
        if low == high and low < OLDEST:  # one exact age
            overlap = ((start <= low) & (low < end)).double()
        share = (self.share * overlap).flatten()
        if not float(share.sum()) > 0:
            known = torch.nonzero(self.share.sum((0, 1)) > 0)[:, 0]
            youngest, oldest = float(start[known[0]]), float(end[known[-1]])
            raise ValueError(
                f"age must overlap [{youngest:.3g}, {oldest:.3g}], the ages of the people whom the model has "
                f"learnt, but is {low:g}:{high:g}."
            )
        cell = torch.multinomial(share, n, replacement=True, generator=generator)
        sex, race, age_cell = torch.unravel_index(cell, self.share.shape)
        first, last = start[age_cell].clamp(min=low), end[age_cell].clamp(max=high)
        within = torch.rand(n, generator=generator, dtype=torch.float64)
        return {"sex": sex.double(), "race": race, "age": first + within * (last - first)}

    def race(self, sex: Tensor, age: Tensor, generator: torch.Generator) -> Tensor:
        """Draws a race for people of whom only sex and age are known, all with shape (n)."""
        cell = (torch.searchsorted(EDGES, age.contiguous(), right=True) - 1).clamp(min=0)
        share = self.share[sex.round().long(), :, cell]
        of_sex = self.share.sum(-1)[sex.round().long()]  # where nobody of that sex and age was seen
        share = torch.where(share.sum(-1, keepdim=True) > 0, share, of_sex)
        return torch.multinomial(share, 1, generator=generator)[:, 0]
