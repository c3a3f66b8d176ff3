r"""The resolvent of an organ graph: entries of :math:`(zI - A)^{-1}` at many points z, for many bodies.

The matrix :math:`M = zI - A` has the graph's pattern, and only its diagonal depends on z. A set of *leaves*,
states without an entry between them, is eliminated first and at once: leaf k adds to the entry (i, j) of what
remains

.. math:: -\frac{a_{ik} a_{kj}}{z - a_{kk}}, \qquad
    \frac{c}{x + iy + d} = \frac{c\,(x + d)}{(x + d)^2 + y^2} - i y \frac{c}{(x + d)^2 + y^2},

a handful of real operations on one array of shape (leaves, K, B). In the whole body the leaves are the lung
and every organ but the liver, so that a core of liver, arterial and venous blood remains. The core is
eliminated entry by entry in complex arithmetic, pivots in the order of least fill-in; the solution is
substituted back only for the states that are asked for. States that nothing feeds (the depot) or that feed
nothing (the sinks) are no part of the matrix: the former only enter the right side, the latter only sum up.
All of it is elementwise in bodies and points: differentiable, in single or double precision, on any device.

No pivoting for size: the columns of :math:`zI - A` are diagonally dominant wherever z is right of the
negative axis, and the pivots stay away from zero as long as z is no eigenvalue.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Entry = tuple[int, int]
_Core = dict[Entry, Tensor]
_Column = dict[int, Tensor | None]


class Resolvent:
    """Entries (outlet, inlet) of the inverse of zI - A for all matrices A with entries at the same places.

    Arguments:
        rows: The rows of A's entries; repeats add.
        columns: Their columns.
        inlets: The columns of the inverse that are wanted.
        outlets: Its rows that are wanted.

    >>> chain = Resolvent([0, 1], [0, 0], inlets=[0], outlets=[0, 1])  # x' = -k x, and what it becomes
    >>> k = torch.tensor([[2.0]], dtype=torch.float64)
    >>> chain(torch.cat([-k, k], 1), torch.tensor([1.0 + 1.0j])).flatten()
    tensor([0.3000-0.1000j, 0.2000-0.4000j], dtype=torch.complex128)
    """

    def __init__(
        self, rows: Sequence[int], columns: Sequence[int], inlets: Sequence[int], outlets: Sequence[int]
    ) -> None:
        pattern = set(zip(rows, columns, strict=True))
        states = _passed(pattern, inlets, outlets)
        slots = {(i, j): 0 for i, j in sorted(pattern) if i in states and j in states}
        slots |= {(k, k): 0 for k in states}
        self._slot = {entry: number for number, entry in enumerate(slots)}
        entries = list(zip(rows, columns, strict=True))
        self.summing = torch.zeros(len(self._slot), len(entries))
        for number, entry in enumerate(entries):
            if entry in self._slot:
                self.summing[self._slot[entry], number] = 1.0
        self.inlets, self.outlets, self._states = list(inlets), list(outlets), states
        self._sources = {k for k in states if not any((k, j) in self._slot for j in states if j != k)}
        self._sinks = {k for k in states if not any((i, k) in self._slot for i in states if i != k)}
        self._sinks -= self._sources  # a state alone is a source
        self._inner = [k for k in states if k not in self._sources | self._sinks]
        leaves = _leaves(self._inner, set(self._slot))
        self.core = [k for k in self._inner if k not in leaves]
        self._core_slot = {e: n for e, n in self._slot.items() if e[0] in self.core and e[1] in self.core}
        self._set_leaves(leaves)
        self._set_order()

    def _set_leaves(self, leaves: set[int]) -> None:
        """Lists the pairs (leaf, entry of the core that it adds to), sorted by the entry."""
        pairs = sorted(
            (i, j, k)
            for k in leaves
            for i in self.core
            for j in self.core
            if (i, k) in self._slot and (k, j) in self._slot
        )
        once = list(dict.fromkeys(k for _, _, k in pairs))
        self._leaf = {k: number for number, k in enumerate([*once, *sorted(leaves - set(once))])}
        self._diagonal = torch.tensor([self._slot[k, k] for k in self._leaf], dtype=torch.long)
        self._left = torch.tensor([self._slot[i, k] for i, _, k in pairs], dtype=torch.long)
        self._right = torch.tensor([self._slot[k, j] for _, j, k in pairs], dtype=torch.long)
        self._of_pair = torch.tensor([self._leaf[k] for _, _, k in pairs], dtype=torch.long)
        self._in_order = self._of_pair.tolist() == list(range(len(self._leaf)))
        self._groups: dict[Entry, slice] = {}
        for number, (i, j, _) in enumerate(pairs):
            start = self._groups[i, j].start if (i, j) in self._groups else number
            self._groups[i, j] = slice(start, number + 1)

    def _set_order(self) -> None:
        """Orders the core's pivots by least fill-in, the outlets last, and lists what each one updates."""
        pattern = {(i, j) for i in self.core for j in self.core if (i, j) in self._slot} | set(self._groups)
        left, self._order = list(self.core), []
        while left:
            below = {k: [i for i in left if i != k and (i, k) in pattern] for k in left}
            right = {k: [j for j in left if j != k and (k, j) in pattern] for k in left}
            k = min(left, key=lambda k: (k in self.outlets, len(below[k]) * len(right[k]), k))
            left.remove(k)
            pattern |= {(i, j) for i in below[k] for j in right[k]}
            self._order.append((k, below[k], right[k]))

    @property
    def slots(self) -> dict[Entry, int]:
        """Where each entry that matters is in the elimination's own order."""
        return self._slot

    @property
    def leaves(self) -> dict[int, int]:
        """The leaves' numbers."""
        return self._leaf

    @property
    def sources(self) -> set[int]:
        """The states that nothing feeds."""
        return self._sources

    @property
    def order(self) -> list[tuple[int, list[int], list[int]]]:
        """The core's pivots, and the states that each one updates and takes from."""
        return self._order

    def gather(self, values: Tensor) -> Tensor:
        """Sums values (entries, B) of A's entries into the elimination's own order, with shape (slots, B)."""
        return self.summing.to(values) @ values

    def __call__(self, entries: Tensor, z: Tensor) -> Tensor:
        """Computes the entries of the inverse.

        Arguments:
            entries: The values of A's entries [1/h], with shape (B, entries).
            z: The points [1/h], complex, with shape (K).

        Returns:
            The entries [h], complex, with shape (outlets, inlets, K, B).
        """
        columns = self.columns(self.gather(entries.mT), z)
        zero = torch.zeros(len(z), len(entries), dtype=z.dtype, device=z.device)
        return torch.stack(
            [torch.stack([zero if x is None else x for x in row]) for row in zip(*columns, strict=True)]
        )

    def columns(self, a: Tensor, z: Tensor) -> list[list[Tensor | None]]:
        """Computes the same for gathered values: for each inlet and each outlet (K, B), or None for zero."""
        solution = _Solution(self, a, z.unsqueeze(-1))
        return [solution.column(inlet, self.outlets) for inlet in self.inlets]


class _Solution:
    """One elimination: the leaves, then the core; columns of the inverse on demand."""

    def __init__(self, of: Resolvent, a: Tensor, z: Tensor) -> None:
        self._of, self._a, self._z = of, a, z
        self._M = self._without_leaves()
        self._factor: _Core = {}
        self._inverse: dict[int, Tensor] = {}
        self._eliminate()

    def _without_leaves(self) -> _Core:
        """Returns the core's entries of zI - A after the leaves are eliminated."""
        of, a, z, M = self._of, self._a, self._z, {}
        for (i, j), slot in of._core_slot.items():
            M[i, j] = z - a[slot] if i == j else -a[slot].to(z.dtype)
        if of._groups:
            x, y, device = z.real, z.imag, a.device
            p = x - a.index_select(0, of._diagonal.to(device)).unsqueeze(1)  # (leaves, K, B)
            q = torch.addcmul(y.square(), p, p)
            if not of._in_order:
                pair = of._of_pair.to(device)
                p, q = p.index_select(0, pair), q.index_select(0, pair)
            c = a.index_select(0, of._left.to(device)) * a.index_select(0, of._right.to(device))
            w = c.unsqueeze(1) / q
            p = p * w
            for entry, group in of._groups.items():
                added = torch.complex(p[group].sum(0), -y * w[group].sum(0))
                M[entry] = M[entry] - added if entry in M else -added
        return M

    def _eliminate(self) -> None:
        M = self._M
        for k, below, right in self._of._order:
            self._inverse[k] = M[k, k].reciprocal()
            for i in below:
                factor = self._factor[i, k] = M[i, k] * self._inverse[k]
                for j in right:
                    product = factor * M[k, j]
                    M[i, j] = M[i, j] - product if (i, j) in M else -product

    def _own(self, k: int) -> Tensor:
        """Returns 1 / (z - a_kk)."""
        if k not in self._inverse:
            self._inverse[k] = (self._z - self._a[self._of._slot[k, k]]).reciprocal()
        return self._inverse[k]

    def column(self, inlet: int, outlets: Sequence[int]) -> list[Tensor | None]:
        """Returns the entries of one column of the inverse, each with shape (K, B), None for zero."""
        of, slot, a = self._of, self._of._slot, self._a
        b: _Column = {inlet: None}  # None stands for 1
        known: _Column = {}
        if inlet in of._sources:
            known[inlet] = self._own(inlet)
            b = {i: a[slot[i, inlet]] * self._own(inlet) for i in of._inner if (i, inlet) in slot}
        for k in [k for k in b if k in of._leaf]:
            for i in of.core:
                if (i, k) in slot:
                    _add(b, i, a[slot[i, k]] * _times(self._own(k), b[k]))
        for k, below, _ in of._order:
            if k in b:
                for i in below:
                    _add(b, i, -_times(self._factor[i, k], b[k]))
        return [self._state(k, b, known) for k in outlets]

    def _state(self, k: int, b: _Column, known: _Column) -> Tensor | None:
        """Substitutes back for one state, and for those that it needs; None stands for zero."""
        of, slot, a = self._of, self._of._slot, self._a
        if k in known or k not in of._states or k in of._sources:
            return known.get(k)
        if k in of.core:
            right = next(right for pivot, _, right in of._order if pivot == k)
            terms = [(-self._M[k, j], j) for j in right]
        else:
            feeding = of.core if k in of._leaf else of._states
            terms = [(a[slot[k, j]], j) for j in feeding if j != k and (k, j) in slot]
        total: _Column = {k: b[k]} if k in b else {}
        for weight, j in terms:
            x = self._state(j, b, known)
            if x is not None:
                _add(total, k, weight * x)
        known[k] = _times(self._own(k), total[k]) if k in total else None
        return known[k]


def _add(column: _Column, k: int, term: Tensor) -> None:
    if k in column:
        before = column[k]
        column[k] = term + (1.0 if before is None else before)
    else:
        column[k] = term


def _times(factor: Tensor, x: Tensor | None) -> Tensor:
    return factor if x is None else factor * x


def _passed(pattern: set[Entry], inlets: Sequence[int], outlets: Sequence[int]) -> list[int]:
    """Returns the states through which drug comes from an inlet to an outlet."""
    downstream, upstream = set(inlets), set(outlets)
    while True:
        more = {i for i, j in pattern if j in downstream} - downstream
        back = {j for i, j in pattern if i in upstream} - upstream
        if not more and not back:
            return sorted(downstream & upstream)
        downstream |= more
        upstream |= back


def _leaves(states: list[int], pattern: set[Entry]) -> set[int]:
    """Chooses states without an entry between them, those of least fill-in first."""
    near = {k: {i for i in states if i != k and ((i, k) in pattern or (k, i) in pattern)} for k in states}

    def cost(k: int) -> int:
        return sum((i, k) in pattern for i in near[k]) * sum((k, j) in pattern for j in near[k])

    leaves: set[int] = set()
    for k in sorted(states, key=lambda k: (cost(k), k)):
        if cost(k) and not near[k] & leaves and len(leaves) < len(states) - 1:
            leaves.add(k)
    return leaves
