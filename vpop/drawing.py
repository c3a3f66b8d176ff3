"""A request put to a model: people of whom no body is drawn yet, and their bodies.

What is given inside of them (:mod:`vpop.inside`) has a say in who they are: sex, race and age by Bayes' rule
from how likely they are to have it (:mod:`vpop.gains`), the rest by :mod:`vpop.update`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from pbpk.physiology import Physiology
from vpop.bayes import CANDIDATES
from vpop.coordinates import NAMES, Impossible
from vpop.demographics import Demographics
from vpop.gains import GainsByAge
from vpop.request import Request
from vpop.standing import evened
from vpop.update import Columns, Source, Update, of

CHUNK = 2048  # people drawn at once; part of what a seed means
_PILOT, _MOST_CHUNKS = 65_536, 1024  # people of a pilot, and where they are sought
_ENSEMBLE = 8192  # people who tell what given values say
_MANY = 256  # people of whom none can have what is given, before others are asked,
_OTHERS = 8  # and chunks of these of whom none can: then it is impossible
_SEED = 1_500_450_271  # of what is learnt for a request; no chunk of a seed below 1,500 has it


@dataclass(frozen=True)
class Candidates:
    """People of whom no body is drawn yet.

    Attributes:
        people: Sex, race and age, with shape :math:`(n)`.
        given: What each is given, with shape :math:`(n)`.
        noise: What a body is made of, with shape :math:`(n, d)`.
    """

    people: Columns
    given: Columns
    noise: Tensor

    def __len__(self) -> int:
        """Returns the number of people."""
        return len(self.noise)

    def __getitem__(self, which: Tensor | slice) -> Candidates:
        """Returns those whom a mask or positions choose."""
        people, given = ({k: v[which] for k, v in columns.items()} for columns in (self.people, self.given))
        return Candidates(people, given, self.noise[which])

    @classmethod
    def join(cls, parts: Sequence[Candidates]) -> Candidates:
        """Returns all of them, in their order."""
        some = [part for part in parts if len(part)] or [parts[0]]
        people = {name: torch.cat([part.people[name] for part in some]) for name in some[0].people}
        given = {name: torch.cat([part.given[name] for part in some]) for name in some[0].given}
        return cls(people, given, torch.cat([part.noise for part in some]))


class Model(Source, Protocol):
    """What draws bodies: :class:`vpop.pcdm.PCDM`."""

    demographics: Demographics

    def draw_from(
        self, people: Columns, given: Mapping[str, Tensor], noise: Tensor, steps: int
    ) -> Physiology:
        """Draws one body for each of the people from noise."""
        ...


@dataclass(frozen=True)
class Drawing:
    """A model that draws people for a request in so many steps."""

    model: Model
    request: Request
    steps: int

    @property
    def rough_steps(self) -> int:
        """Returns the steps that tell roughly who will qualify: the student's one, or none fewer."""
        return 1 if self.model.student is not None else self.steps

    def candidates(self, generator: torch.Generator) -> Candidates:
        """Draws the people of one chunk."""
        people, given = self._people(CHUNK, generator, None if self.update is None else self._likely)
        return Candidates(people, given, torch.randn(len(people["age"]), len(NAMES), generator=generator))

    def bodies(self, some: Candidates, steps: int | None = None, found: int = 1) -> Physiology:
        """Draws their bodies; who cannot have what is given inside has a body without it.

        Arguments:
            some: The people.
            steps: The steps of the sampler; None for those of the request.
            found: How many were found before: by these it is known that someone can.

        Raises:
            Impossible: If none of many can, these and others, naming the law that forbids it to the first.
        """
        steps = steps or self.steps
        if self.update is None:
            return self.model.draw_from(some.people, some.given, some.noise, steps)
        gains = self.gains.at(some.people)
        bodies, refused = self.update.draw(some.people, some.given, gains, some.noise, steps)
        if not found and len(some) >= _MANY and bool(refused.who.all()) and not self._possible:
            raise Impossible(refused.why(0))
        return bodies

    def pilot(self) -> tuple[Candidates, float]:
        """Draws people to learn from, the same for every seed; returns also how many a chunk holds."""
        generator = torch.Generator().manual_seed(_SEED)
        parts: list[Candidates] = []
        while sum(map(len, parts)) < _PILOT and len(parts) < _MOST_CHUNKS:
            parts.append(self.candidates(generator))
        found = Candidates.join(parts)
        return found, len(found) / len(parts)

    def _people(
        self, n: int, generator: torch.Generator, inside: Callable[[Columns], Tensor] | None = None
    ) -> tuple[Columns, Columns]:
        model = self.model
        return self.request.people(model.demographics, model.coordinates, n, generator, inside)

    @cached_property
    def _possible(self) -> bool:
        """Tells whether any of many people can have what is given inside, by rough bodies."""
        assert self.update is not None  # nothing is impossible of nothing
        generator = torch.Generator().manual_seed(_SEED)
        for _ in range(_OTHERS):
            some = self.candidates(generator)
            gains = self.gains.at(some.people)
            refused = self.update.draw(some.people, some.given, gains, some.noise, self.rough_steps)[1]
            if not bool(refused.who.all()):
                return True
        return False

    @cached_property
    def update(self) -> Update | None:
        """What gives people their inside, where some of it is given."""
        found = Update.of(self.model, self.request.given)
        return found if found.inside else None

    @cached_property
    def gains(self) -> GainsByAge:
        """What is given inside says of people of any age, learnt from some who are evenly old."""
        assert self.update is not None  # nothing is learnt of nothing
        generator = torch.Generator().manual_seed(_SEED)
        people, given = self._people(2 * _ENSEMBLE, generator)
        if not len(people["age"]):
            raise self.request.too_rare(CANDIDATES * 2 * _ENSEMBLE, 0, "")
        weight = evened(people["age"], torch.ones_like(people["age"]))
        kept = torch.multinomial(weight, _ENSEMBLE, replacement=True, generator=generator)
        return self.update.by_age(of(people, kept), of(given, kept), generator)

    def _likely(self, people: Columns) -> Tensor:
        """Returns the log density of what is given inside, with shape :math:`(n)`."""
        assert self.update is not None
        given = {name: torch.full_like(people["age"], value) for name, value in self.request.given.items()}
        return self.gains.at(people).log_density(self.update.wanted(given))
