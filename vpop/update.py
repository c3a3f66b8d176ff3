r"""Bodies of which parts of the inside are given: what is drawn without them is moved to hang together.

The network is conditioned on what is seen from outside alone. What values measured inside, y, say of the rest
is learnt from bodies that the student draws for the same people without them (:mod:`vpop.gains`): among the
free numbers x of :mod:`vpop.coordinates` people of one sex, age and size are nearly Gaussian. A body drawn
without y moves by what it misses,

.. math:: x' = x + S_{xy} S_{yy}^{-1} (\ln y^* - \ln y(x)),

which makes a draw of a Gaussian one given y (Matheron's rule; the update of the ensemble Kalman filter). As
ln y is not quite a line in x the move is made in a few turns, as in randomised maximum likelihood; then the
values are put in exactly (:mod:`vpop.inside`). Who breaks a law so is drawn again.

References:
    Journel, Huijbregts (1978). Mining Geostatistics. Academic Press. Chapter VII, conditional simulation.
    Evensen (2003). The ensemble Kalman filter. Ocean Dyn 53:343. https://doi.org/10.1007/s10236-003-0036-9
    Oliver, He, Reynolds (1996). Conditioning permeability fields to pressure data. ECMOR V.
        https://doi.org/10.3997/2214-4609.201406884
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pbpk.laws.exact import column
from pbpk.physiology import Physiology
from vpop import limits
from vpop.bayes import with_heights
from vpop.coordinates import GIVEN, NAMES, Coordinates, must_lie
from vpop.gains import Gains, GainsByAge
from vpop.inside import INSIDE, Refused, chosen, with_given
from vpop.limits import LAWS_OF
from vpop.sample import STEPS
from vpop.student import Student

MEMBERS = 256  # bodies that tell what values say of one person's rest
_TURNS = 4  # of the move
_LEAST = 1e-9  # of a value: where 0 is given, it is the laws that refuse it
_NEAR = 1e-3  # standard deviations: a move that ends so near needs no further turn
_TRIES = (16, 128)  # draws for who breaks a law, and for who still does

Columns = dict[str, Tensor]


class Source(Protocol):
    """What draws free numbers: :class:`vpop.pcdm.PCDM`."""

    coordinates: Coordinates
    student: Student | None

    def draw_free(self, people: Columns, given: Mapping[str, Tensor], noise: Tensor, steps: int) -> Tensor:
        """Draws what comes of each person's noise, given what is seen from outside."""
        ...


@dataclass(frozen=True)
class Update:
    """Draws bodies that have given values, some of them inside.

    Attributes:
        model: The model.
        outside: The names of the values of :data:`vpop.coordinates.GIVEN` that are asked for.
        inside: The names of those of :data:`vpop.inside.INSIDE`.
    """

    model: Source
    outside: tuple[str, ...]
    inside: tuple[str, ...]

    @classmethod
    def of(cls, model: Source, asked: Iterable[str]) -> Update:
        """Returns what draws bodies with the values of these names."""
        wanted = set(asked)
        outside, inside = (tuple(name for name in names if name in wanted) for names in (GIVEN, INSIDE))
        return cls(model, outside, inside)

    def of_each(self, people: Columns, given: Columns, generator: torch.Generator) -> Gains:
        """Learns what the values say of each of some people; columns of shape (n), inside NaN if unknown."""
        copies = torch.arange(len(people["age"])).repeat_interleave(MEMBERS)
        x, y = (
            values.unflatten(0, (-1, MEMBERS))
            for values in self._ensemble(of(people, copies), of(given, copies), generator)
        )
        unknown = torch.stack([torch.isnan(given[name]) for name in self.inside], -1)
        return Gains.of_each(x, torch.where(unknown[:, None], torch.nan, y))

    def by_age(self, people: Columns, given: Columns, generator: torch.Generator) -> GainsByAge:
        """Learns what the same values say of people of any sex, race and age, from some of them."""
        return GainsByAge.fit(people, *self._ensemble(people, given, generator))

    def _ensemble(self, people: Columns, given: Columns, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws bodies without the values inside: their free numbers, and the logarithms of those values."""
        shown = with_heights(self._seen(given), people, self.model.coordinates, generator)
        noise = torch.randn(len(people["age"]), len(NAMES), generator=generator)
        free = self.model.draw_free(people, shown, noise, 1 if self.model.student is not None else STEPS)
        return free, self._logs(self._decoded(free, people, given))

    def _seen(self, given: Columns) -> Columns:
        return {name: given[name] for name in self.outside}

    def _decoded(self, free: Tensor, people: Columns, given: Columns) -> Physiology:
        return self.model.coordinates.decode(free, people, self._seen(given))

    def _logs(self, bodies: Physiology) -> Tensor:
        return torch.log(torch.stack([column(bodies, name) for name in self.inside], -1))

    def wanted(self, given: Columns) -> Tensor:
        """Returns the logarithms of the values inside, NaN if unknown, with shape :math:`(n, q)`."""
        return torch.log(torch.stack([given[name] for name in self.inside], -1).clamp(min=_LEAST))

    def draw(
        self,
        people: Columns,
        given: Columns,
        gains: Gains,
        noise: Tensor,
        steps: int,
        again: torch.Generator | None = None,
    ) -> tuple[Physiology, Refused]:
        """Draws the body that comes of each person's noise, with what is given.

        Arguments:
            people: Sex, race and age, with shape :math:`(n)`.
            given: The values, with shape :math:`(n)`; and a height for the network where only a weight is
                asked for.
            gains: What the values say of these people.
            noise: With shape :math:`(n, d)`.
            steps: The steps of the sampler.
            again: Makes other noise for those whose body would break a law; None to leave them.

        Returns:
            The bodies, and which of them cannot have what is given: those are without it.
        """
        bodies, refused = self._once(people, given, gains, noise, steps)
        for tries in _TRIES if again is not None else ():
            rows = torch.nonzero(refused.who).flatten()
            if not len(rows):
                break
            copies = rows.repeat_interleave(tries)
            start = torch.randn(len(copies), len(NAMES), generator=again)
            found, still = self._once(of(people, copies), of(given, copies), gains[copies], start, steps)
            first = (~still.who).view(-1, tries).int().argmax(-1)  # that is lawful, if any is
            which = first + tries * torch.arange(len(rows))
            bodies, refused = _placed(bodies, found[which], rows), still.placed(which, rows, len(noise))
        return bodies, refused

    def _once(
        self, people: Columns, given: Columns, gains: Gains, noise: Tensor, steps: int
    ) -> tuple[Physiology, Refused]:
        shown = {name: value for name, value in given.items() if name in GIVEN}
        free = self.model.draw_free(people, shown, noise, steps)
        free, bodies = self._moved(free, people, given, gains)
        made, refused = with_given(bodies, free, {name: given[name] for name in self.inside})
        if "BW" in self.outside and "height" not in self.outside:  # the height has moved, the weight has not
            low, high = limits.who("BMI", bodies)
            law = LAWS_OF["BMI"]
            refused.note(
                (low > bodies.BMI) | (high < bodies.BMI),
                lambda at: (
                    must_lie("BMI", (float(low[at]), float(high[at])), law, bodies, at)
                    + f", but the likeliest height makes it {float(bodies.BMI[at]):.4g}."
                ),
            )
        return chosen(refused.who, bodies, made), refused

    def _moved(
        self, free: Tensor, people: Columns, given: Columns, gains: Gains
    ) -> tuple[Tensor, Physiology]:
        """Moves free numbers until bodies nearly have what is given; half as far where that is too far."""
        wanted = self.wanted(given)
        step = torch.ones_like(people["age"])
        bodies = self._decoded(free, people, given)
        miss = torch.nan_to_num(wanted - self._logs(bodies))
        for _ in range(_TURNS):
            if bool((gains.distance(miss) < _NEAR).all()):
                break
            tried = free + step[:, None] * gains.move(miss)
            found = self._decoded(tried, people, given)
            left = torch.nan_to_num(wanted - self._logs(found))
            better = gains.distance(left) < gains.distance(miss)
            free, miss = (torch.where(better[:, None], *pair) for pair in ((tried, free), (left, miss)))
            bodies, step = chosen(better, found, bodies), torch.where(better, 1.0, 0.5 * step)
        return free, bodies


def of(columns: Columns, rows: Tensor) -> Columns:
    """Returns the rows of columns that a mask or positions choose."""
    return {name: value[rows] for name, value in columns.items()}


def _placed(bodies: Physiology, some: Physiology, rows: Tensor) -> Physiology:
    """Returns bodies of which some are exchanged."""
    others = some.tensors()
    return bodies.replace(
        **{n: value.index_copy(0, rows, others[n]) for n, value in bodies.tensors().items()}
    )
