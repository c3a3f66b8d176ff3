r"""What the denoiser makes of who a person is, tabulated.

At a noise level the modulation of the network's blocks depends on sex, race and age alone, yet costs half of
its arithmetic. For the levels of a sampler it is worked out once at :data:`KNOTS` ages of each sex and race,
and taken for a person by a straight line between the two nearest ages. [ours]: the knots are even in
:math:`\ln(age + 0.1)` and lie so close that a drawn score moves by 0.0005 in the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from pbpk.physiology import RACES
from vpop import compiled
from vpop.denoise import YOUNGEST, Denoiser
from vpop.sample import noise_levels

Network = TypeVar("Network", bound=nn.Module)

KNOTS = 96
_OLDEST = 100.0
_OFFSET = 0.1  # years


def _scale(age: Tensor) -> Tensor:
    """Returns where ages [year] lie on the knots' scale, 0 to ``KNOTS - 1``."""
    first, last = math.log(YOUNGEST + _OFFSET), math.log(_OLDEST + _OFFSET)
    at = (torch.log(age.clamp(YOUNGEST, _OLDEST) + _OFFSET) - first) / (last - first)
    return at * (KNOTS - 1)


def _ages() -> Tensor:
    first, last = math.log(YOUNGEST + _OFFSET), math.log(_OLDEST + _OFFSET)
    ages = torch.exp(torch.linspace(first, last, KNOTS, dtype=torch.float64)) - _OFFSET
    return ages.clamp(YOUNGEST, _OLDEST)


@dataclass(frozen=True)
class Modulation:
    """The table of one network at some noise levels.

    Attributes:
        levels: The noise levels.
        table: With shape (levels, 2 sexes * 6 races * KNOTS, features); an unknown race is the last.
    """

    levels: tuple[float, ...]
    table: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, network: Denoiser, levels: Tensor) -> Modulation:
        """Tabulates a network's modulation at noise levels of shape (levels)."""
        sex, race, age = torch.meshgrid(
            torch.arange(2.0, dtype=torch.float64),
            torch.tensor([*range(len(RACES)), -1], dtype=torch.float64),
            _ages(),
            indexing="ij",
        )
        people = network.describe(sex.flatten(), race.flatten().long(), age.flatten()).float()
        levels = levels.float()
        first = network.modulation(people, levels[:1].expand(len(people), 1))
        table = first.new_empty(len(levels), *first.shape)
        for level, rows in zip(levels, table, strict=True):
            rows.copy_(network.modulation(people, level.expand(len(people), 1)))
        return cls(tuple(levels.tolist()), table)

    def rows(self, people: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
        """Returns the lower row of each person and how far it is to the next; None if a sex is unknown.

        Arguments:
            people: Sex, race and age, with shape :math:`(n)`.
        """
        sex, at = people["sex"], _scale(people["age"])
        if bool(((sex != 0) & (sex != 1)).any()):
            return None
        low = at.long().clamp(max=KNOTS - 2)
        return _group(people) * KNOTS + low, (at - low).float()

    def __call__(self, sigma: Tensor, rows: tuple[Tensor, Tensor]) -> Tensor:
        """Returns the modulation of people at one of the noise levels, with shape (n, features)."""
        table, low, share = self.between(sigma, rows)
        return torch.lerp(table.index_select(0, low), table.index_select(0, low + 1), share[:, None])

    def between(self, sigma: Tensor, rows: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the table of one of the noise levels, and between which of its rows people stand."""
        return self.table[self.levels.index(float(sigma))], *rows


def quickest(network: Network, table: Modulation) -> tuple[Network, Callable[..., Any]]:
    """Returns a network and how to look up its modulation, both compiled where kernels run."""
    if not compiled.here(table.table, dtype=torch.float32):
        return network, table
    from vpop.denoise_kernel import fused

    return cast(Network, fused(network)), table.between


def alike(people: Mapping[str, Tensor]) -> Tensor:
    """Returns an order in which neighbours share rows of the table, with shape :math:`(n)`."""
    return (_group(people) * KNOTS + _scale(people["age"])).argsort(stable=True)


def _group(people: Mapping[str, Tensor]) -> Tensor:
    race = people["race"]
    return people["sex"].long() * (len(RACES) + 1) + torch.where(race < 0, len(RACES), race)


_tables: WeakKeyDictionary[Denoiser, dict[int, Modulation]] = WeakKeyDictionary()


def tabulated(network: Denoiser, steps: int) -> Modulation:
    """Returns the table of a network whose weights do not change any more, for a sampler of so many steps."""
    known = _tables.setdefault(network, {})
    table = known.get(steps)
    if table is None:  # kept for one sampler alone; another thread may ask for another one meanwhile
        table = Modulation.of(network, noise_levels(steps))
        known.clear()
        known[steps] = table
    return table
