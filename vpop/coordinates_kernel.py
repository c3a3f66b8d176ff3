"""The compiled form of :mod:`vpop.coordinates` and :mod:`vpop.limits`: bodies in one pass.

Every bound of a part is a share that sex and age decide times a size of the body that is known by then:
:mod:`vpop.coordinates_compiled` writes the laws down so, as tables, and here they are multiplied. A block of
people is so small that all of their numbers stay near the processor; in its arrays, with shape (k, b), people
lie side by side. The same equations as there, one by one; no gradients.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from pbpk.laws import REFERENCE_ORGANS
from pbpk.organs import ORGANS, PORTAL, indices
from vpop import limits
from vpop.coordinates import NAMES, WHO
from vpop.intervals import MARGIN
from vpop.intervals_kernel import copied, decode, meets, split, standing
from vpop.knots_kernel import between, log_of, score_of
from vpop.limits import FLOW_ORDER, MASS_ORDER
from vpop.normal_kernel import LOOP, exp, log

BLOCK = 128  # people
OUTPUT = 2 * len(WHO)
"""Where in the laws of who people are the cardiac index begins: scores of its bounds, centre, spread."""
ENDS = ("GFR", "FAT", "BMC")
BY_HEIGHT = tuple(organ for organ in REFERENCE_ORGANS if organ != "brain")
SIZES = ("1", "BW", "BSA", "CO", "BSA / plasma", "brain", *BY_HEIGHT)
SIZES += ("M_brain", "M_heart", "M_kidney", "M_liver", "M_adipose", "M_bone", "plasma flow")
"""What bounds are shares of; an organ's name stands for its reference mass."""

_BW, _BSA, _CO, _OVER_PLASMA, _BRAIN, _FIRST_MASS, _PLASMA_FLOW = (
    SIZES.index(name) for name in ("BW", "BSA", "CO", "BSA / plasma", "brain", "M_brain", "plasma flow")
)
_INDEX = len(WHO)  # where the cardiac index stands among what is seen
_TIGHTER = (math.log1p(MARGIN), math.log1p(-MARGIN))
_MASSES, _FLOWS = NAMES.index(f"M_{MASS_ORDER[0]}"), NAMES.index(f"Q_{FLOW_ORDER[0]}")
_PORTAL, _ENDS = NAMES.index(f"Q_{PORTAL[0]}:artery"), NAMES.index(ENDS[0])
_OF_MASS, _OF_FLOW = np.array(indices(MASS_ORDER)), np.array(indices(FLOW_ORDER))
_OF_PORTAL = np.array(indices(PORTAL))
_AS_SIZES = np.array([MASS_ORDER.index(name[2:]) for name in SIZES[_FIRST_MASS:_PLASMA_FLOW]])
_LIVER, _KIDNEY, _MUSCLE = ORGANS.index("liver"), FLOW_ORDER.index("kidney"), MASS_ORDER.index("muscle")
_LOG_MUSCLE = (math.log(limits.MUSCLE_F), math.log(limits.MUSCLE_M))
_BY_BW, _BY_HEIGHT = limits.MUSCLE_BY_BW, limits.MUSCLE_BY_HEIGHT


class Parts(NamedTuple):
    """Parts of a whole, or of several, with shape (k).

    Attributes:
        size: Of which of :data:`SIZES` each is a share.
        lower: Its lower bound, as a share.
        upper: Its upper bound.
        typical: Its typical value.
        spread: The spread of its score.
        cuts: Tighter bounds (m, 3): of which part, by which column of the laws and the next, of which size.
    """

    size: Any
    lower: Any
    upper: Any
    typical: Any
    spread: Any
    cuts: Any


class Block(NamedTuple):
    """The intervals of parts of some people, and the parts, each with shape (k, b)."""

    lower: Any
    upper: Any
    centre: Any
    spread: Any
    values: Any


@njit(**LOOP)
def _each_exp(logs, values):
    for j in range(len(values)):
        values[j] = exp(logs[j])


@njit(**LOOP)
def _turned(rows, columns):
    """Fills columns (k, b) with rows (b, k)."""
    for j in range(len(rows)):
        for k in range(len(columns)):
            columns[k, j] = rows[j, k]


@njit(**LOOP)
def _looked_up(table, sex, cell, columns):
    """Fills columns (k, b) with each person's row of a table (2, cells, k)."""
    for j in range(len(sex)):
        row = table[int(sex[j]), cell[j]]
        for k in range(len(row)):
            columns[k, j] = row[k]


@njit(**LOOP)
def who(free, sex, cell, laws, age, charts, knots, first, step, seen):
    """Fills seen (5, n): height, BMI, haematocrit, creatinine, cardiac output per surface [L/min/m2].

    Arguments:
        free: The free numbers (n, d).
        sex: 0 or 1 (n).
        cell: Which rows of the laws are theirs (n).
        laws: The laws of who people are (2, cells, c).
        age: The ages on the scale of the charts' knots (n).
        charts: The growth charts side by side (2, knots, 4 k).
        knots: Their ages.
        first: The score of a chart's first quantile.
        step: The score between two of its quantiles.
        seen: What is filled.
    """
    n, k = len(sex), charts.shape[2] // len(WHO)
    size = min(BLOCK, n)
    rows, law, x = np.empty((size, 4 * k)), np.empty((laws.shape[2], size)), np.empty((_INDEX + 1, size))
    low, high, score = np.empty(size), np.empty(size), np.empty(size)
    for some in range(0, n, size):
        start = min(some, n - size)  # the last block also does some of the one before
        end = start + size
        _turned(free[start:end], x)
        _looked_up(laws, sex[start:end], cell[start:end], law)
        between(charts, knots, sex[start:end], age[start:end], rows)
        for c in range(len(WHO)):
            for j in range(size):
                row = rows[j, c * k : (c + 1) * k]
                low[j] = score_of(row, law[2 * c, j], first, step) + _TIGHTER[0]
                high[j] = score_of(row, law[2 * c + 1, j], first, step) + _TIGHTER[1]
            standing(x[c], low, high, score)
            for j in range(size):
                x[c, j] = log_of(rows[j, c * k : (c + 1) * k], score[j], first, step)
            _each_exp(x[c], seen[c, start:end])
        standing(x[_INDEX], law[OUTPUT], law[OUTPUT + 1], score)
        for j in range(size):
            score[j] = law[OUTPUT + 2, j] + law[OUTPUT + 3, j] * score[j]
        _each_exp(score, seen[_INDEX, start:end])


@njit(**LOOP)
def _bounded(parts, laws, sizes, block):
    """Fills the intervals of parts, from laws (c, b) and sizes (s, b)."""
    for i in range(len(parts.size)):
        share = (parts.lower[i], parts.upper[i], parts.typical[i])
        _interval(sizes[parts.size[i]], share, block.lower[i], block.upper[i], block.centre[i])
    for i, law, size in parts.cuts:
        _cut(laws[law], laws[law + 1], sizes[size], block.lower[i], block.upper[i])


@njit(**LOOP)
def _interval(size, share, lower, upper, centre):
    low, high, typical = share
    for j in range(len(size)):
        lower[j], upper[j], centre[j] = low * size[j], high * size[j], log(typical * size[j])


@njit(**LOOP)
def _cut(low, high, size, lower, upper):
    for j in range(len(size)):
        lower[j], upper[j] = max(lower[j], low[j] * size[j]), min(upper[j], high[j] * size[j])


@njit(**LOOP)
def _typical_muscle(sex, height, BW, centre):
    for j in range(len(sex)):
        size = _BY_BW * log(BW[j] / 70.0) + _BY_HEIGHT * log(height[j] / 170.0)
        centre[j] = size + _LOG_MUSCLE[0] + sex[j] * (_LOG_MUSCLE[1] - _LOG_MUSCLE[0])


@njit(**LOOP)
def _outside(seen, sex, references, heights, sizes):
    """Fills the sizes (s, b) that are known before the organs; see :func:`inside`."""
    height, HCT = seen[0], seen[1]
    for i, size in enumerate((_BW, _BSA, _CO, _BRAIN)):
        copied(seen[2 + i], sizes[size])
    log_height, rows = np.empty(len(sex)), np.empty((len(sex), len(BY_HEIGHT)))
    for j in range(len(sex)):
        sizes[_OVER_PLASMA, j] = sizes[_BSA, j] / (1.0 - HCT[j])
        log_height[j] = log(height[j])
    between(references, heights, sex, log_height, rows)
    _turned(rows, sizes[_BRAIN + 1 : _FIRST_MASS])
    for i in range(_BRAIN + 1, _FIRST_MASS):
        _each_exp(sizes[i], sizes[i])


@njit(**LOOP)
def _divided(whole, free, block):
    """Divides wholes (b) among parts; returns whether their bounds can be met."""
    lower, upper = block.lower, block.upper
    possible = meets(whole, lower, upper)
    if possible:
        split(whole, free, lower, upper, block.centre, block.spread, block.values)
    return possible


@njit(**LOOP)
def _portal(ratios, Q):
    """Divides the liver's flow in Q (b, organs) between the artery and the portal organs."""
    for i in range(len(ratios)):
        _each_exp(ratios[i], ratios[i])
    for j in range(len(Q)):
        all_parts = 1.0
        for i in range(len(ratios)):
            all_parts += ratios[i, j]
        artery = Q[j, _LIVER] / all_parts
        for i in range(len(ratios)):
            Q[j, _OF_PORTAL[i]] = ratios[i, j] * artery
        Q[j, _LIVER] = artery


@njit(**LOOP)
def _placed(values, at, rows):
    """Fills columns of rows (b, organs) with values (k, b)."""
    for i in range(len(values)):
        for j in range(len(rows)):
            rows[j, at[i]] = values[i, j]


@njit(**LOOP)
def _block(parts, size):
    """Returns room for the parts of some people."""
    shape = (len(parts.size), size)
    spread = np.empty(shape)
    for i in range(len(spread)):
        for j in range(size):
            spread[i, j] = parts.spread[i]
    return Block(np.empty(shape), np.empty(shape), np.empty(shape), spread, np.empty(shape))


@njit(**LOOP)
def inside(free, sex, cell, laws, by_size, seen, references, heights, masses, flows, ends, M, Q, rest):
    """Fills M and Q (n, organs) and rest (3, n) with :data:`ENDS`; returns whether the bounds can be met.

    Arguments:
        free: The free numbers (n, d).
        sex: 0 or 1 (n).
        cell: Which rows of the laws are theirs (n).
        laws: The laws of what is inside people (2, cells, c).
        by_size: The bounds that laws set by the size of a body, which go before those columns (l, n).
        seen: Height, haematocrit, BW, BSA, CO, reference mass of the brain (6, n).
        references: The logarithms of the other reference masses (2, knots, organs).
        heights: The logarithms of the heights at their knots.
        masses: The parts of BW.
        flows: The parts of CO.
        ends: GFR, FAT and BMC.
        M: What is filled: masses [kg].
        Q: Flows [L/h], 0 before.
        rest: GFR [L/h], FAT and BMC [kg].
    """
    n, own = len(sex), len(by_size)
    size = min(BLOCK, n)
    x, law = np.empty((free.shape[1], size)), np.empty((own + laws.shape[2], size))
    sizes = np.ones((len(SIZES), size))
    organs, beds, others = _block(masses, size), _block(flows, size), _block(ends, size)
    for some in range(0, n, size):
        start = min(some, n - size)  # the last block also does some of the one before
        end = start + size
        people, height, HCT = sex[start:end], seen[0, start:end], seen[1, start:end]
        _turned(free[start:end], x)
        for i in range(own):
            copied(by_size[i, start:end], law[i])
        _looked_up(laws, people, cell[start:end], law[own:])
        _outside(seen[:, start:end], people, references, heights, sizes)

        _bounded(masses, law, sizes, organs)
        _typical_muscle(people, height, sizes[_BW], organs.centre[_MUSCLE])
        if not _divided(sizes[_BW], x[_MASSES:], organs):
            return False
        for i in range(len(_AS_SIZES)):
            copied(organs.values[_AS_SIZES[i]], sizes[_FIRST_MASS + i])

        _bounded(flows, law, sizes, beds)
        if not _divided(sizes[_CO], x[_FLOWS:], beds):
            return False
        for j in range(size):
            sizes[_PLASMA_FLOW, j] = beds.values[_KIDNEY, j] * (1.0 - HCT[j])

        _bounded(ends, law, sizes, others)
        for i in range(len(rest)):
            lower, upper, centre = others.lower[i], others.upper[i], others.centre[i]
            decode(x[_ENDS + i], lower, upper, centre, others.spread[i], rest[i, start:end])
        _placed(organs.values, _OF_MASS, M[start:end])
        _placed(beds.values, _OF_FLOW, Q[start:end])
        _portal(x[_PORTAL : _PORTAL + len(_OF_PORTAL)], Q[start:end])
    return True
