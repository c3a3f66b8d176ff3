"""People who meet a rare request: only those who may are drawn in full.

Of 100,000 people some 70 have an eGFR below 30. All are drawn as ever, who they are and their noise; but the
network's twenty steps are spent only on those who may qualify. That is told in two turns: by a line in the
noise, which costs a hundredth of the network (:mod:`vpop.forecast`), then, of those who are left, by the body
that the student makes of it, if the model has one. Both are learnt from a pilot of other people, for this
request. Who is drawn in full and qualifies is one whom drawing everybody would have found. Each turn is meant
to lose three in ten thousand of these (:data:`vpop.forecast.LOST`): ``experiments/rare_requests.py`` counts
those who are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pbpk.physiology import Physiology
from vpop.drawing import CHUNK, Candidates, Drawing
from vpop.forecast import Line, Trust
from vpop.request import body_table

TOGETHER = 4  # chunks drawn at once where many people are wanted: fewer, larger operations
RARE = 0.05  # the share of the first people below which a request counts as rare
PATIENCE = 100  # chunks' worth of people without one success before a request is given up
SCREENED_PATIENCE = 500  # the same, where few of a chunk are drawn in full
_TELLING = CHUNK // 2  # the first people, who tell whether a request is rare
_THIN = 8  # a chunk that holds few people counts for at least so small a part of a full one
_FEWEST = 16_384  # people of a pilot that can be learnt from
_FIRST, _TAIL, _FULL = 4096, 4096, 1024  # of them drawn roughly: anyone, the likely; in full
_ANYONE = 0.05  # what anyone weighs beside the likely, when the line is learnt
_LIKELY = 4.0  # times those who qualify: how many are likely
_CAUTION = 2.0  # the student's errors have longer tails than the normal [ours, by the people lost]
_KEPT = (1 / 128, 1 / 32)  # shares kept at least: of everyone by the line, of the likely by the student


@dataclass(frozen=True)
class Screen:
    """Tells who may meet a request.

    Attributes:
        drawing: The request, and what draws for it.
        line: Foretells from the noise.
        cuts: The least forecast of the line and the least slack of a rough body that may qualify.
        among: The columns of anyone's bodies: their spread is the unit of slack.
        chunks: How many chunks are looked through at once, so that enough is left to draw.
    """

    drawing: Drawing
    line: Line
    cuts: tuple[float, float]
    among: Mapping[str, np.ndarray]
    chunks: int

    @classmethod
    def fit(cls, drawing: Drawing) -> Screen | None:
        """Learns from a pilot; None where too few people can be asked to learn from, or nothing to foretell.

        Of a request that only gives values nothing is foretold: who cannot have them is told by a whole body.
        """
        if not drawing.request.after:
            return None
        pilot, of_a_chunk = drawing.pilot()
        if len(pilot) < _FEWEST:
            return None
        among = body_table(drawing.bodies(pilot[:_FIRST], drawing.rough_steps))
        line, likely, slack = _learnt(drawing, pilot, among)
        tail, forecast = pilot[likely], line(pilot.people, pilot.noise)
        least = _least_slack(drawing, tail, slack, among)
        enough = Trust.fit(forecast[likely], slack).cut(forecast, least, _KEPT[0])
        passing = of_a_chunk * float((forecast >= enough).double().mean())
        return cls(drawing, line, (enough, least), among, max(1, round(_TAIL / passing)))

    def first_turn(self, some: Candidates) -> Candidates:
        """Returns those whom the line lets pass."""
        return some[self.line(some.people, some.noise) >= self.cuts[0]]

    def second_turn(self, some: Candidates) -> Candidates:
        """Returns those whose rough body may qualify."""
        rough = self.drawing.rough_steps
        if rough == self.drawing.steps or not len(some):
            return some
        return some[self.slack(self.drawing.bodies(some, rough)) >= self.cuts[1]]

    def slack(self, bodies: Physiology) -> Tensor:
        """Returns by how much bodies meet the request, with shape :math:`(n)`."""
        return self.drawing.request.slack(body_table(bodies), self.among)


def _learnt(
    drawing: Drawing, pilot: Candidates, among: Mapping[str, np.ndarray]
) -> tuple[Line, Tensor, Tensor]:
    """Returns the line, who of the pilot is likely to qualify, and by how much they do."""
    first, everyone = pilot[:_FIRST], torch.ones(_FIRST, dtype=torch.float64)
    slack = drawing.request.slack(among, among)
    line = Line.fit(first.people, first.noise, _scores(slack), everyone)
    falling = line(pilot.people, pilot.noise).argsort(descending=True)
    reach = max(_TAIL, int(_LIKELY * float((slack >= 0).double().mean()) * len(pilot)))
    likely = falling[torch.linspace(0, min(reach, len(pilot)) - 1, _TAIL).long()]
    tail = pilot[likely]
    rough = drawing.request.slack(body_table(drawing.bodies(tail, drawing.rough_steps)), among)
    both, weights = Candidates.join([tail, first]), torch.cat([torch.ones_like(rough), _ANYONE * everyone])
    return Line.fit(both.people, both.noise, torch.cat([rough, slack]), weights), likely, rough


def _least_slack(drawing: Drawing, tail: Candidates, rough: Tensor, among: Mapping[str, np.ndarray]) -> float:
    """Returns the least slack of the rough bodies of those who may qualify, 0 where bodies are not rough."""
    if drawing.rough_steps == drawing.steps:
        return 0.0
    nearest = rough.abs().argsort()[:_FULL]
    full = drawing.request.slack(body_table(drawing.bodies(tail[nearest])), among)
    return Trust.fit(rough[nearest], full).cut(rough, 0.0, _KEPT[1], _CAUTION)


def _scores(values: Tensor) -> Tensor:
    """Returns the normal scores of values' ranks."""
    rank = values.argsort().argsort().double()
    return torch.special.ndtri((rank + 0.5) / len(values))


@dataclass
class Search:
    """Finds people who meet a request, chunk after chunk.

    Attributes:
        drawing: The request, and what draws for it.
        seed: The same seed finds the same people.
        wanted: How many people are wanted.
        chunks: How many chunks have been drawn.
        people: How many people they held.
        full: How many of these were drawn in full.
        found: How many of these qualified.
        screen: What tells who may qualify, where the request is rare.
        judged: Whether it is known if the request is rare.
    """

    drawing: Drawing
    seed: int
    wanted: int = CHUNK
    chunks: int = 0
    people: int = 0
    full: int = 0
    found: int = 0
    screen: Screen | None = None
    judged: bool = False
    _nearest: tuple[float, str] = field(default=(-np.inf, ""))

    def __iter__(self) -> Iterator[Physiology]:
        """Yields those who qualify; gives up when for long no one does.

        Raises:
            Impossible: If no one is found any more.
        """
        last_people = last_chunk = 0
        while True:
            some = self._next()
            self.full += len(some)
            bodies = self._qualifying(some) if len(some) else None
            if not self.judged and self.people >= _TELLING:
                self.judged = True
                self.screen = Screen.fit(self.drawing) if self.found < RARE * self.people else None
            patience = PATIENCE if self.screen is None else SCREENED_PATIENCE
            if bodies is not None and len(bodies.BW):
                last_people, last_chunk = self.people, self.chunks
                yield bodies
            elif (
                self.people - last_people >= patience * CHUNK or self.chunks - last_chunk >= _THIN * patience
            ):
                raise self.drawing.request.too_rare(self.people, self.found, self._nearest[1])

    def _next(self) -> Candidates:
        """Returns those of the next chunks who are to be drawn in full."""
        if self.screen is None:
            missing = -(-(self.wanted - self.found) // CHUNK)
            at_once = min(max(missing, 1), TOGETHER) if self.judged else 1  # the first tell what is rare
            return Candidates.join([self._chunk() for _ in range(at_once)])
        parts = [self.screen.first_turn(self._chunk()) for _ in range(self.screen.chunks)]
        return self.screen.second_turn(Candidates.join(parts))

    def _chunk(self) -> Candidates:
        some = self.drawing.candidates(torch.Generator().manual_seed(self.seed * 1_000_003 + self.chunks))
        self.chunks += 1
        self.people += len(some)
        return some

    def _qualifying(self, some: Candidates) -> Physiology:
        bodies = self.drawing.bodies(some, found=self.found)
        holds = torch.from_numpy(self.drawing.request.holds(bodies))
        kept = bodies if bool(holds.all()) else bodies[holds]
        self.found += len(kept.BW)
        if self.screen is not None and not self.found:
            slack = self.screen.slack(bodies)
            best = int(slack.argmax())
            if float(slack[best]) > self._nearest[0]:
                self._nearest = (float(slack[best]), self.drawing.request.told(bodies[best : best + 1]))
        return kept

    def note(self) -> dict[str, str]:
        """Returns what the provenance says of a search among people not all of whom were drawn in full."""
        if self.screen is None:
            return {}
        return {"screened": f"{self.full} of {self.people} people drawn in full"}
