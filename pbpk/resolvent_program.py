r"""The elimination of :mod:`pbpk.resolvent` as tables, for the compiled kernel.

States of the core are numbered in the order of their pivots, leaves as the resolvent numbers them. Lists of
different lengths lie behind one another; where each begins and ends is a table of its own, ``..._of``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pbpk.resolvent import Entry, Resolvent

Ints = np.ndarray
CORE, LEAF = 0, 1


class Program(NamedTuple):
    """What the kernel does."""

    slots: int
    core: int  # how many states it has
    first: int  # the first of them that an outlet needs
    adding: Ints  # (., 3) of the rates: slot, transition, and whether it adds (1) or takes (-1)
    entries: Ints  # (., 5) of the core, fill-in too: row, column, slot or -1, the first pair and the end
    leaves: Ints  # the slot of each leaf's diagonal
    pairs: Ints  # (., 3) that add to an entry of the core: leaf, and its two slots
    below: Ints  # the rows that each pivot updates
    below_of: Ints  # (core + 1)
    right: Ints  # the columns that it takes from
    right_of: Ints  # (core + 1)
    inlets: Ints  # (., 2) the slot of the source's diagonal or -1, and where what it enters ends
    entering: Ints  # (., 3) slot or -1 for a unit, kind of the target, and its position
    touched: Ints  # (inlets, core) whether an inlet has anything in a state when its turn comes
    feeds: Ints  # (., 2) slot, and the state of the core that a leaf feeds
    feeds_of: Ints  # (leaves + 1)
    fed: Ints  # (., 2) slot, and the state of the core that feeds a leaf
    fed_of: Ints  # (leaves + 1)
    outlets: Ints  # (., 2) kind and position
    passing: Ints  # (., 3) of each inlet's entries: slot, row, and column; core first, leaves, the source
    passing_of: Ints  # (inlets + 1)


def program(resolvent: Resolvent, source: Ints, target: Ints, driver: Ints) -> Program | None:
    """Lists what the kernel does, or returns None where it cannot.

    Arguments:
        resolvent: The elimination.
        source: The sources of the transitions.
        target: Their targets.
        driver: The states that drive them.
    """
    slot, leaves = resolvent.slots, resolvent.leaves
    core = {k: number for number, (k, _, _) in enumerate(resolvent.order)}
    place = {k: (CORE, number) for k, number in core.items()} | {k: (LEAF, n) for k, n in leaves.items()}
    if not core or not all(k in place for k in resolvent.outlets):
        return None
    below = [[core[i] for i in rows] for _, rows, _ in resolvent.order]
    right = [[core[j] for j in columns] for _, _, columns in resolvent.order]
    feeds = [[(s, core[i]) for (i, j), s in slot.items() if j == k and i in core] for k in leaves]
    fed = [[(s, core[j]) for (i, j), s in slot.items() if i == k and j in core] for k in leaves]
    entries, pairs = _core_entries(slot, core, below, right, feeds, fed)
    inlets, entering = _inlets(resolvent, place)
    outlets = [place[k] for k in resolvent.outlets]
    passing = [
        _passing(slot, {**core, **{k: len(core) + n for k, n in leaves.items()}}, k) for k in resolvent.inlets
    ]
    needed = [state for kind, at in outlets for state in ([at] if kind == CORE else [j for _, j in fed[at]])]
    return Program(
        slots=len(slot),
        core=len(core),
        first=min(needed, default=len(core)),
        adding=_adding(slot, source, target, driver),
        entries=_table(entries, 5),
        leaves=_ints([slot[k, k] for k in leaves]),
        pairs=_table(pairs, 3),
        below=_ints([i for rows in below for i in rows]),
        below_of=_ends(below),
        right=_ints([j for columns in right for j in columns]),
        right_of=_ends(right),
        inlets=_table(inlets, 2),
        entering=_table(entering, 3),
        touched=_touched(inlets, entering, feeds, below),
        feeds=_table([feed for of_leaf in feeds for feed in of_leaf], 2),
        feeds_of=_ends(feeds),
        fed=_table([feed for of_leaf in fed for feed in of_leaf], 2),
        fed_of=_ends(fed),
        outlets=_table(outlets, 2),
        passing=_table([entry for of_inlet in passing for entry in of_inlet], 3),
        passing_of=_ends(passing),
    )


def _core_entries(
    slot: dict[Entry, int],
    core: dict[int, int],
    below: Sequence[Sequence[int]],
    right: Sequence[Sequence[int]],
    feeds: Sequence[Sequence[tuple[int, int]]],
    fed: Sequence[Sequence[tuple[int, int]]],
) -> tuple[list[Any], list[Any]]:
    """Lists the core's entries, and the pairs of slots through a leaf that add to each."""
    own = {(core[i], core[j]): s for (i, j), s in slot.items() if i in core and j in core}
    through: dict[Entry, list[tuple[int, int, int]]] = {}
    for leaf, (out, into) in enumerate(zip(feeds, fed, strict=True)):
        for (s, i), (t, j) in itertools.product(out, into):
            through.setdefault((i, j), []).append((leaf, s, t))
    pattern = {(k, k) for k in range(len(core))}
    pattern |= {(i, k) for k, rows in enumerate(below) for i in rows}
    pattern |= {(k, j) for k, columns in enumerate(right) for j in columns}
    entries: list[tuple[int, ...]] = []
    pairs: list[tuple[int, int, int]] = []
    for entry in sorted(pattern):
        first = len(pairs)
        pairs += through.get(entry, [])
        entries.append((*entry, own.get(entry, -1), first, len(pairs)))
    return entries, pairs


def _inlets(resolvent: Resolvent, place: dict[int, tuple[int, int]]) -> tuple[list[Any], list[Any]]:
    """Lists what each inlet enters: a state, or what the source that it is feeds, or nothing."""
    slot, inlets, entering = resolvent.slots, [], []
    for k in resolvent.inlets:
        if k in place:
            entering.append((-1, *place[k]))
        elif k in resolvent.sources:
            entering += [(s, *place[i]) for (i, j), s in slot.items() if j == k and i in place]
        inlets.append((slot[k, k] if k in resolvent.sources else -1, len(entering)))
    return inlets, entering


def _passing(slot: dict[Entry, int], row: dict[int, int], inlet: int) -> list[tuple[int, int, int]]:
    """Lists the entries that an inlet's amount may pass: slot, row, and column."""
    row = row if inlet in row else {**row, inlet: len(row)}
    return [(s, row[i], row[j]) for (i, j), s in slot.items() if i in row and j in row]


def _touched(
    inlets: list[Any], entering: list[Any], feeds: list[Any], below: Sequence[Sequence[int]]
) -> Ints:
    """Follows what each inlet puts into the core down the pivots."""
    touched = np.zeros((len(inlets), len(below)), dtype=np.int64)
    first = 0
    for inlet, (_, end) in enumerate(inlets):
        for _, kind, at in entering[first:end]:
            touched[inlet, [at] if kind == CORE else [i for _, i in feeds[at]]] = 1
        for k, rows in enumerate(below):
            touched[inlet, rows] |= touched[inlet, k]
        first = end
    return touched


def _adding(slot: dict[Entry, int], source: Ints, target: Ints, driver: Ints) -> Ints:
    """Lists the slots that the transitions' rates add to and are taken from."""
    rows = []
    for number, (s, t, d) in enumerate(zip(source.tolist(), target.tolist(), driver.tolist(), strict=True)):
        rows += [(slot[i, d], number, sign) for i, sign in ((t, 1), (s, -1)) if (i, d) in slot]
    return _table(rows, 3)


def _ints(numbers: Sequence[int]) -> Ints:
    return np.asarray(numbers, dtype=np.int64)


def _table(rows: Sequence[Any], width: int) -> Ints:
    return np.asarray(rows, dtype=np.int64).reshape(-1, width)


def _ends(lists: Sequence[Sequence[Any]]) -> Ints:
    """Returns where each of some lists begins, and the end."""
    return np.cumsum([0, *map(len, lists)])
