r"""Sparse LU for a batch of matrices of one pattern.

The organs couple only through blood, so that a matrix of an organ graph with 23 states has some 60 entries.
The pattern is analysed once: pivots are taken in the order of least fill-in (Markowitz), and independent
pivots are taken together as one level. What remains to do for a batch is a few gathers and additions a
level, on arrays of shape (entries, B): every body in one lane, nothing dense.

No pivoting for size: the matrices are :math:`I / (h\gamma) - J` of a compartmental system, whose columns are
diagonally dominant for the linear part.

References:
    Markowitz (1957). The elimination form of the inverse and its application to linear programming.
    Manage Sci 3:255. https://doi.org/10.1287/mnsc.3.3.255
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Entry = tuple[int, int]


@dataclass(frozen=True)
class _Level:
    """Independent pivots: positions of entries in the value array, and of rows in a right-hand side."""

    pivot: Tensor  # (p) states
    lower: Tensor  # (l) entries (i, k) below the pivots
    lower_row: Tensor  # (l) i
    lower_pivot: Tensor  # (l) k
    left: Tensor  # (u) entries (i, k) ...
    right: Tensor  # (u) ... times entries (k, j) ...
    into: Tensor  # (u) ... are taken from entries (i, j)
    upper: Tensor  # (r) entries (k, j) right of the pivots
    upper_row: Tensor  # (r) k
    upper_column: Tensor  # (r) j

    def to(self, device: torch.device | str) -> _Level:
        """Moves every list to a device."""
        return _Level(**{name: value.to(device) for name, value in vars(self).items()})


class SparseLU:
    """The factorisation of all matrices with entries at the same places.

    Arguments:
        n: The number of rows.
        rows: The rows of the entries; the diagonal is added where it is missing.
        columns: Their columns.
        device: Where the matrices will be.

    Attributes:
        order: The pivots in the order of their elimination.
        pattern: Where each entry is in the value array, fill-in included.

    >>> lu = SparseLU(2, [0, 0, 1, 1], [0, 1, 0, 1])
    >>> W = torch.tensor([[4.0], [1.0], [2.0], [3.0]])  # one matrix [[4, 1], [2, 3]]
    >>> lu.solve(lu.factor(lu.gather(W)), torch.tensor([[6.0], [8.0]])).T
    tensor([[1., 2.]])
    """

    def __init__(
        self, n: int, rows: list[int], columns: list[int], device: torch.device | str = "cpu"
    ) -> None:
        self.n = n
        given = list(zip(rows, columns, strict=True))
        pattern: dict[Entry, int] = {(i, i): i for i in range(n)}
        for entry in given:
            pattern.setdefault(entry, len(pattern))
        self._given = torch.tensor([pattern[entry] for entry in given], dtype=torch.long, device=device)
        later, self._levels, self.order = set(range(n)), [], []
        for pivots in _order(n, pattern):
            later = later - set(pivots)
            self._levels.append(_eliminate(pivots, later, pattern).to(device))
            self.order += pivots
        self.pattern = pattern
        self._size = len(pattern)

    def gather(self, values: Tensor) -> Tensor:
        """Places given entries, with shape (len(rows), B), in the value array; repeats add."""
        return values.new_zeros(self._size, values.shape[-1]).index_add(0, self._given, values)

    def factor(self, W: Tensor) -> Tensor:
        """Factors matrices given as the result of :meth:`gather`; the diagonal then holds inverse pivots."""
        W = W.clone()
        for level in self._levels:
            inverse = W.index_select(0, level.pivot).reciprocal()
            W.index_copy_(0, level.pivot, inverse)
            if len(level.lower):
                W.index_copy_(
                    0, level.lower, W.index_select(0, level.lower) * W.index_select(0, level.lower_pivot)
                )
            if len(level.into):
                W.index_add_(
                    0, level.into, W.index_select(0, level.left) * W.index_select(0, level.right), alpha=-1.0
                )
        return W

    def solve(self, LU: Tensor, b: Tensor) -> Tensor:
        """Solves for right-hand sides of shape (n, B) with the result of :meth:`factor`."""
        x = b.clone()
        for level in self._levels:
            if len(level.lower):
                x.index_add_(
                    0,
                    level.lower_row,
                    LU.index_select(0, level.lower) * x.index_select(0, level.lower_pivot),
                    alpha=-1.0,
                )
        for level in reversed(self._levels):
            if len(level.upper):
                x.index_add_(
                    0,
                    level.upper_row,
                    LU.index_select(0, level.upper) * x.index_select(0, level.upper_column),
                    alpha=-1.0,
                )
            x.index_copy_(0, level.pivot, x.index_select(0, level.pivot) * LU.index_select(0, level.pivot))
        return x


def _eliminate(pivots: list[int], later: set[int], pattern: dict[Entry, int]) -> _Level:
    """Lists what eliminating ``pivots`` does to the ``later`` ones, and adds the fill-in to ``pattern``."""
    below = [(i, k) for k in pivots for i in later if (i, k) in pattern]
    right = [(k, j) for k in pivots for j in later if (k, j) in pattern]
    updates = [(ik, kj) for ik in below for kj in right if ik[1] == kj[0]]
    for ik, kj in updates:
        pattern.setdefault((ik[0], kj[1]), len(pattern))

    def entries(pairs: list[Entry]) -> Tensor:
        return _long([pattern[pair] for pair in pairs])

    return _Level(
        pivot=_long(pivots),
        lower=entries(below),
        lower_row=_long([i for i, _ in below]),
        lower_pivot=_long([k for _, k in below]),
        left=entries([ik for ik, _ in updates]),
        right=entries([kj for _, kj in updates]),
        into=entries([(ik[0], kj[1]) for ik, kj in updates]),
        upper=entries(right),
        upper_row=_long([k for k, _ in right]),
        upper_column=_long([j for _, j in right]),
    )


def _long(numbers: list[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.long)


def _order(n: int, pattern: dict[Entry, int]) -> list[list[int]]:
    """Orders the pivots by least fill-in and groups independent ones of equal cost into levels."""
    places, left, levels = set(pattern), set(range(n)), []
    while left:
        below = {k: {i for i in left if i != k and (i, k) in places} for k in left}
        right = {k: {j for j in left if j != k and (k, j) in places} for k in left}
        cost = {k: len(below[k]) * len(right[k]) for k in left}
        level: list[int] = []
        for k in sorted(left, key=lambda k: (cost[k], k)):
            if cost[k] == min(cost.values()) and not any(o in below[k] or o in right[k] for o in level):
                level.append(k)
        places |= {(i, j) for k in level for i in below[k] for j in right[k]}
        left -= set(level)
        levels.append(level)
    return levels
