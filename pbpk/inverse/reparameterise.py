"""What to do with a parameter that data cannot tell: hold it, or estimate a combination that they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pbpk.inverse.problem import Given, InverseProblem, Unknown
from pbpk.inverse.structural import combine


@dataclass(frozen=True)
class Combined:
    """A model in which one parameter, a combination, stands for two.

    Of a sum the share of the first is held; of a product or a ratio, the second.

    Attributes:
        model: The model itself.
        kind: ``"+"``, ``"*"`` or ``"/"``.
        names: The two parameters.
        held: The share of the first, or the value of the second.
    """

    model: Any
    kind: str
    names: tuple[str, str]
    held: float

    @property
    def linear(self) -> bool:
        """Whether the model is."""
        return bool(self.model.linear)

    @property
    def combination(self) -> str:
        """The name of the combination."""
        return f"{self.names[0]} {self.kind} {self.names[1]}"

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.model.name)

    @property
    def states(self) -> tuple[str, ...]:
        """The model's states."""
        return tuple(self.model.states)

    @property
    def parameters(self) -> Mapping[str, str]:
        """The model's parameters, the combination in place of the two."""
        unit = self.model.parameters[self.names[0]]
        others = {k: u for k, u in self.model.parameters.items() if k not in self.names}
        return {**others, self.combination: unit if self.kind == "+" else ""}

    @property
    def compartments(self) -> tuple[str, ...]:
        """What can be seen."""
        return tuple(self.model.compartments)

    def apart(self, p: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the model's own parameters."""
        first, second = self.names
        whole, held = p[self.combination], self.held
        pairs = {
            "+": lambda: (whole * held, whole * (1.0 - held)),
            "*": lambda: (whole / held, held),
            "/": lambda: (whole * held, held),
        }
        a, b = pairs[self.kind]()
        return {**{k: v for k, v in p.items() if k != self.combination}, first: a, second: b}

    def rates(self, p: Mapping[str, Any]) -> Mapping[tuple[str, str], Any]:
        """Returns the entries of the rate matrix [1/h]."""
        return self.model.rates(self.apart(p))

    def reads(self, p: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
        """Returns what each compartment reads [1/L]."""
        return self.model.reads(self.apart(p))

    def inlets(self, p: Mapping[str, Any]) -> Mapping[str, tuple[str, Any]]:
        """Returns where doses enter."""
        return self.model.inlets(self.apart(p))

    def initial(self, p: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the states that are not zero at time 0."""
        return self.model.initial(self.apart(p))

    def course(self, p: Mapping[str, Any], given: Sequence[Given], times: Tensor) -> Tensor:
        """Returns the concentrations [mg/L], with shape (*, T, m)."""
        return self.model.course(self.apart(p), given, times)


def hold(problem: InverseProblem, values: Mapping[str, float]) -> InverseProblem:
    """Returns the problem with some of its unknowns known."""
    unknowns = tuple(u for u in problem.unknowns if u.name not in values)
    return problem.replace(known={**problem.known, **values}, unknowns=unknowns)


def join(
    problem: InverseProblem, kind: str, names: tuple[str, str], values: Mapping[str, float]
) -> InverseProblem:
    """Returns the problem with one combination in place of two unknowns.

    Arguments:
        problem: The problem.
        kind: ``"+"``, ``"*"`` or ``"/"``.
        names: The two unknowns.
        values: Their values: the share of the first, or the second, is held there.
    """
    first, second = ({u.name: u for u in problem.unknowns}[name] for name in names)
    a, b = values[names[0]], values[names[1]]
    model = Combined(problem.model, kind, names, a / (a + b) if kind == "+" else b)
    ends = (first.lower, second.upper if kind == "/" else second.lower)
    others = (first.upper, second.lower if kind == "/" else second.upper)
    lower, upper = combine(kind, *ends), combine(kind, *others)
    whole = Unknown(model.combination, lower, upper, "log", start=combine(kind, a, b))
    place = [u.name for u in problem.unknowns].index(names[0])
    unknowns = [u for u in problem.unknowns if u.name not in names]
    unknowns.insert(min(place, len(unknowns)), whole)
    return problem.replace(model=model, unknowns=tuple(unknowns))
