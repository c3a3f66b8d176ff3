r"""Many people in one problem: what differs between them has a dimension of its own, B.

People who were seen at the same times after doses at the same times are a crowd, whatever their bodies, the
sizes of their doses and what is known of them: one batch of equations serves all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.simulated import SimulatedBody
from pbpk.inverse.whole_body import WholeBody
from pbpk.physiology import Physiology


@dataclass(frozen=True)
class Crowd:
    """B people with one design.

    Attributes:
        problem: Their problem: known values, bodies and amounts may have shape :math:`(B)`, observations have
            shape :math:`(B, N)`.
        low: The lower bounds of theta, with shape :math:`(B, K)`.
        high: The upper bounds.
        centre: The centres of the priors, or of the range where there is none, with shape :math:`(B, K)`.
    """

    problem: InverseProblem
    low: Tensor
    high: Tensor
    centre: Tensor

    @classmethod
    def of(cls, problems: Sequence[InverseProblem]) -> Crowd:
        """Joins the problems of people who share a :func:`design`."""
        first = problems[0]
        known = {name: _joined([problem.known[name] for problem in problems]) for name in first.known}
        given = tuple(
            dataclasses.replace(doses[0], amount=_joined([dose.amount for dose in doses]))
            for doses in zip(*(problem.given for problem in problems), strict=True)
        )
        value, limit = (torch.stack([getattr(p.seen, name) for p in problems]) for name in ("value", "limit"))
        seen = dataclasses.replace(first.seen, value=value, limit=limit)
        model = _joined_models([problem.model for problem in problems])
        box = [problem.box for problem in problems]
        return cls(
            first.replace(model=model, known=known, given=given, seen=seen),
            torch.stack([low for low, _ in box]),
            torch.stack([high for _, high in box]),
            torch.stack([_centre(problem) for problem in problems]),
        )

    @classmethod
    def alike(cls, problem: InverseProblem, value: Tensor, limit: Tensor | None = None) -> Crowd:
        """Makes a crowd of one problem and the observations of B people like it, of shape (B, N)."""
        limit = torch.zeros_like(value) if limit is None else limit
        seen = dataclasses.replace(problem.seen, value=value, limit=limit)
        edges = (*problem.box, _centre(problem))
        return cls(problem.replace(seen=seen), *(edge.expand(len(value), -1) for edge in edges))

    def __len__(self) -> int:
        """Returns the number of people."""
        return len(self.low)

    def take(self, which: Tensor) -> Crowd:
        """Returns some of them, by position."""
        return Crowd(take(self.problem, which), self.low[which], self.high[which], self.centre[which])

    def penalty(self, theta: Tensor) -> Tensor:
        """Returns minus twice the logarithm of the prior at theta (B, K), with shape (B)."""
        weight = [0.0 if u.sd is None else 1.0 / u.sd for u in self.problem.unknowns]
        return ((theta - self.centre) * torch.tensor(weight, dtype=theta.dtype)).square().sum(-1)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draws a theta of each from the priors, uniform in the range where there is none; (B, K)."""
        uniform = torch.rand(self.low.shape, generator=generator, dtype=self.low.dtype)
        theta = self.low + (self.high - self.low) * uniform
        for k, unknown in enumerate(self.problem.unknowns):
            if unknown.sd is not None:
                normal = torch.randn(len(self), generator=generator, dtype=self.low.dtype)
                theta[:, k] = self.centre[:, k] + unknown.sd * normal
        return self.inside(theta)

    def inside(self, theta: Tensor) -> Tensor:
        """Returns theta moved into its bounds."""
        return torch.minimum(torch.maximum(theta, self.low), self.high)

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells this crowd from others: not its observations, nor how many people are alike."""
        problem, model = self.problem, self.problem.model
        numbers = [*problem.known.values(), *(dose.amount for dose in problem.given)]
        numbers += [edge.unique(dim=0) for edge in (self.low, self.high, self.centre)]
        bodies = getattr(model, "physiology", None)
        numbers += [] if bodies is None else list(bodies.tensors().values())
        return (design(problem), *(torch.as_tensor(number).numpy().tobytes() for number in numbers))


def question(problem: InverseProblem) -> tuple[Any, ...]:
    """Returns what people must share to be asked the same: the model, the unknowns and the noise."""
    unknowns = tuple((u.name, u.transform, u.sd) for u in problem.unknowns)
    return (_kind(problem.model), unknowns, tuple(problem.known), problem.noise)


def design(problem: InverseProblem) -> tuple[Any, ...]:
    """Returns what people must share to be a crowd: the question, when doses were given, what was seen."""
    seen = problem.seen
    doses = tuple((dose.time, dose.duration, dose.compartment) for dose in problem.given)
    when = (tuple(seen.time.tolist()), seen.compartment, tuple(seen.after.tolist()))
    return (question(problem), doses, *when)


def grouped(numbers: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Returns the numbers in groups of one key each."""
    groups: dict[Hashable, list[int]] = {}
    for number in numbers:
        groups.setdefault(key(number), []).append(number)
    return list(groups.values())


def crowds(problems: Sequence[InverseProblem], most: int) -> Iterator[tuple[list[int], Crowd]]:
    """Yields the positions of people who share a design, and their crowd; no more than ``most`` at once."""
    for numbers in grouped(range(len(problems)), lambda n: design(problems[n])):
        for first in range(0, len(numbers), most):
            part = numbers[first : first + most]
            yield part, Crowd.of([problems[n] for n in part])


def take(problem: InverseProblem, which: Tensor) -> InverseProblem:
    """Returns the problem of some of the people that are in one problem."""

    def some(value: Any) -> Any:
        return value[which] if isinstance(value, Tensor) and value.ndim else value

    seen, model = problem.seen, problem.model
    if isinstance(model, WholeBody | SimulatedBody) and model.physiology.shape:
        model = dataclasses.replace(model, physiology=model.physiology[which])
    if seen.value.ndim > 1:
        seen = dataclasses.replace(seen, value=seen.value[which], limit=seen.limit[which])
    given = tuple(dataclasses.replace(dose, amount=some(dose.amount)) for dose in problem.given)
    known = {name: some(value) for name, value in problem.known.items()}
    return problem.replace(model=model, known=known, given=given, seen=seen)


def stacked(bodies: Sequence[Physiology]) -> Physiology:
    """Returns single bodies as a batch, with the fields that all have."""
    names = sorted(set.intersection(*(set(body.tensors()) for body in bodies)))
    fields = {name: torch.stack([body.tensors()[name] for body in bodies]) for name in names}
    return Physiology(bodies[0].species, **fields)


def _joined(values: Sequence[Any]) -> Any:
    """Returns the value that all share, or a tensor of shape (B)."""
    if all(value == values[0] for value in values):
        return values[0]
    return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in values])


def _joined_models(models: Sequence[Any]) -> Any:
    first = models[0]
    if isinstance(first, WholeBody | SimulatedBody) and len(models) > 1:
        return dataclasses.replace(first, physiology=stacked([model.physiology for model in models]))
    return first


def _kind(model: Any) -> Any:
    """Returns what two models must share to be one for a crowd."""
    if isinstance(model, WholeBody | SimulatedBody):
        return (type(model), repr(model.compound), model.graph.name, model.Kp_method, *model.parameters)
    inner = getattr(model, "model", model)  # of a combination
    return id(model) if isinstance(inner, WholeBody | SimulatedBody) else model


def _centre(problem: InverseProblem) -> Tensor:
    low, high = problem.box
    centre = (low + high) / 2
    for k, unknown in enumerate(problem.unknowns):
        if unknown.mean is not None:
            centre[k] = unknown.free(torch.tensor(unknown.mean, dtype=torch.float64))
    return centre
