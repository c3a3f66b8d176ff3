r"""Structural identifiability: whether perfect data would tell the parameters, by exact arithmetic.

For a linear system the data tell, and all they tell, the Markov parameters :math:`R A^k b` of every input b,
k = 0 ... 2n - 1. The parameters are (locally) identifiable exactly if the Jacobian of these numbers has full
rank at a generic point. It is computed at a random point, derivatives and all, without rounding: the numbers
are rational, taken modulo the prime :math:`2^{61} - 1`. The rank is never too large, and too small with a
probability of about 1e-15 (Schwartz, Zippel).

References:
    Sedoglavic (2002). A probabilistic algorithm to test local algebraic observability in polynomial time.
    J Symb Comput 33:735. https://doi.org/10.1006/jsco.2002.0532
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pbpk.inverse.problem import InverseProblem

KINDS: tuple[str, ...] = ("+", "*", "/")
"""The combinations of two parameters that are tried: sum, product, ratio."""

PRIME = 2**61 - 1


class Exact:
    """A rational number modulo a prime, with its derivatives by the K unknowns."""

    __slots__ = ("slope", "value")

    def __init__(self, value: int, slope: tuple[int, ...]) -> None:
        self.value, self.slope = value % PRIME, slope

    def _other(self, other: Any) -> Exact:
        if isinstance(other, Exact):
            return other
        return Exact(residue(other), (0,) * len(self.slope))

    def __add__(self, other: Any) -> Exact:
        o = self._other(other)
        return Exact(
            self.value + o.value, tuple((a + b) % PRIME for a, b in zip(self.slope, o.slope, strict=True))
        )

    def __neg__(self) -> Exact:
        return Exact(-self.value, tuple(-a % PRIME for a in self.slope))

    def __sub__(self, other: Any) -> Exact:
        return self + (-self._other(other))

    def __rsub__(self, other: Any) -> Exact:
        return self._other(other) - self

    def __mul__(self, other: Any) -> Exact:
        o = self._other(other)
        slope = (a * o.value + self.value * b for a, b in zip(self.slope, o.slope, strict=True))
        return Exact(self.value * o.value, tuple(s % PRIME for s in slope))

    def inverse(self) -> Exact:
        """Returns 1 over this."""
        one_over = pow(self.value, -1, PRIME)
        factor = -one_over * one_over
        return Exact(one_over, tuple(a * factor % PRIME for a in self.slope))

    def __truediv__(self, other: Any) -> Exact:
        return self * self._other(other).inverse()

    def __rtruediv__(self, other: Any) -> Exact:
        return self._other(other) * self.inverse()

    __radd__ = __add__
    __rmul__ = __mul__


def residue(number: Any) -> int:
    """Returns a number modulo the prime; a float is the rational that it is.

    >>> residue(0.5) * 2 % PRIME
    1
    """
    exact = Fraction(float(number))
    return exact.numerator * pow(exact.denominator, -1, PRIME) % PRIME


def combine(kind: str, a: Any, b: Any) -> Any:
    """Returns the sum, product or ratio of two numbers."""
    return a + b if kind == "+" else a * b if kind == "*" else a / b


@dataclass(frozen=True)
class Structure:
    """What perfect data would tell.

    Attributes:
        names: The unknowns.
        rank: How many independent combinations of them are determined.
        open: The unknowns that are not determined.
        combinations: Of the open ones, which sums, products and ratios are.
        determined: Whether this is known; of a model that is not linear it is not, and none is called open.
    """

    names: tuple[str, ...]
    rank: int
    open: tuple[str, ...]
    combinations: tuple[tuple[str, tuple[str, ...]], ...]
    determined: bool = True

    @property
    def identifiable(self) -> bool:
        """Whether every unknown is determined."""
        return not self.open


def structure(problem: InverseProblem, seed: int = 0) -> Structure:
    """Determines which unknowns perfect, endless data in the seen compartments would tell.

    Arguments:
        problem: The problem; its observations' values and times are not used.
        seed: Of the random point.
    """
    if not problem.model.linear:
        return Structure(problem.names, problem.K, (), (), determined=False)
    p = _point(problem, seed)
    rows = _reduced(_markov(problem, p))
    K = problem.K
    unit = [[int(i == k) for i in range(K)] for k in range(K)]
    open_ones = [k for k in range(K) if not _within(rows, unit[k])]
    at = [p[name] for name in problem.names]
    found = []
    for kind in KINDS:
        for i, j in combinations(open_ones, 2):
            gradient = combine(kind, at[i], at[j]).slope
            if _within(rows, list(gradient)):
                found.append((kind, (problem.names[i], problem.names[j])))
    names = tuple(problem.names[k] for k in open_ones)
    return Structure(problem.names, len(rows), names, tuple(found))


def _point(problem: InverseProblem, seed: int) -> dict[str, Any]:
    """Returns the known parameters exactly, and the unknown ones at a random point with their derivatives."""
    draw, K = random.Random(seed), problem.K
    zero = (0,) * K
    known = {name: Exact(residue(value), zero) for name, value in problem.known.items()}
    unknown = {
        name: Exact(draw.randrange(1, PRIME), tuple(int(i == k) for i in range(K)))
        for k, name in enumerate(problem.names)
    }
    return {**known, **unknown}


def _inputs(problem: InverseProblem, p: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns each input as what it adds to each state; what is given together is one input."""
    inlets = problem.model.inlets(p)
    together: dict[tuple[float, float], dict[str, Any]] = {}
    start = dict(problem.linear.initial(p))
    if start:
        together[(0.0, 0.0)] = start
    for dose in problem.given:
        state, share = inlets[dose.compartment]
        given = together.setdefault((dose.time, dose.duration), {})
        given[state] = given.get(state, 0.0) + share * dose.amount
    return list(together.values())


def _markov(problem: InverseProblem, p: Mapping[str, Any]) -> list[list[int]]:
    """Returns the gradients of the Markov parameters of all inputs and seen compartments."""
    zero = Exact(0, (0,) * problem.K)
    rates, reads = problem.linear.rates(p), problem.linear.reads(p)
    gradients = []
    for given in _inputs(problem, p):
        x = {state: zero + value for state, value in given.items()}
        for _ in range(2 * len(problem.linear.states)):
            for where in dict.fromkeys(problem.seen.compartment):
                seen = zero
                for state, per_mg in reads[where].items():
                    seen = seen + x.get(state, zero) * per_mg
                gradients.append(list(seen.slope))
            moved: dict[str, Exact] = {}
            for (row, column), rate in rates.items():
                if column in x:
                    moved[row] = moved.get(row, zero) + x[column] * rate
            x = moved
    return gradients


def _reduced(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Returns a basis of the rows in reduced echelon form, modulo the prime."""
    basis: list[list[int]] = []
    for row in rows:
        rest = _rest(basis, list(row))
        pivot = next((k for k, value in enumerate(rest) if value), None)
        if pivot is None:
            continue
        scale = pow(rest[pivot], -1, PRIME)
        rest = [value * scale % PRIME for value in rest]
        basis = [
            [(b - other[pivot] * r) % PRIME for b, r in zip(other, rest, strict=True)] for other in basis
        ]
        basis.append(rest)
    return basis


def _rest(basis: Sequence[Sequence[int]], row: list[int]) -> list[int]:
    """Returns what of a row the basis does not span."""
    for other in basis:
        pivot = next(k for k, value in enumerate(other) if value)
        if row[pivot] % PRIME:
            factor = row[pivot]
            row = [(a - factor * b) % PRIME for a, b in zip(row, other, strict=True)]
    return row


def _within(basis: Sequence[Sequence[int]], row: list[int]) -> bool:
    return not any(_rest(basis, row))


def settled(problem: InverseProblem) -> list[bool]:
    """Tells for each state whether no unknown moves it: it follows neither one nor a state that does."""
    p, model = _point(problem, 0), problem.linear
    moved = {row for (row, _), rate in model.rates(p).items() if isinstance(rate, Exact) and any(rate.slope)}
    entering = [model.inlets(p)[dose.compartment] for dose in problem.given]
    starting = model.initial(p).items()
    moved |= {s for s, share in [*entering, *starting] if isinstance(share, Exact) and any(share.slope)}
    while more := {r for (r, c) in model.rates(p) if c in moved and r not in moved}:
        moved |= more
    return [state not in moved for state in model.states]
