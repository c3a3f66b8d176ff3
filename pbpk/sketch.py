r"""A histogram of positive numbers that two machines fill alike and merge exactly.

A number's bin is the upper half of its single-precision pattern: its sign, its power of two and the first 7
bits of its mantissa. A bin is therefore at most :math:`2^{-7}` = 0.8 % of its value wide, no logarithm is
taken, and no rounding differs from machine to machine. Counts are whole numbers: merging adds them, in any
order, and a quantile of the merged counts is the same to the last bit.

Numbers below :math:`2^{-50}`, zero and rounding noise below zero among them, share the lowest bin and are
read as 0; those from :math:`2^{30}` on share the highest and are read as infinite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_BITS = 16  # dropped from single precision: 7 of its 23 bits of mantissa are left
_PER_OCTAVE = 128
_LOWEST, _HIGHEST = -50, 30  # powers of two; 1e-15 and 1e9
_FIRST = (127 + _LOWEST) * _PER_OCTAVE  # 127 is the bias of a single-precision exponent
BINS = (_HIGHEST - _LOWEST) * _PER_OCTAVE + 2
"""How many bins there are, the lowest and the highest included."""


def bins(values: np.ndarray) -> np.ndarray:
    """Returns the bin of each number, 0 to ``BINS - 1``.

    >>> bins(np.array([0.0, 1.0, 1.007, 1.01, 1e30])).tolist()
    [0, 6401, 6401, 6402, 10241]
    """
    pattern = np.ascontiguousarray(values, dtype=np.float32).view(np.int32) >> _BITS
    return np.clip(pattern - (_FIRST - 1), 0, BINS - 1)


def edges() -> np.ndarray:
    """Returns the lower edge of each bin and, last, infinity, with shape (BINS + 1)."""
    patterns = (np.arange(BINS - 1, dtype=np.int32) + _FIRST) << _BITS
    return np.concatenate([[0.0], patterns.view(np.float32), [np.inf]])


class Sketch:
    """Counts of numbers by row and bin; a row is one quantity, or one quantity at one time.

    Arguments:
        rows: How many rows there are.

    >>> one, other = Sketch(1), Sketch(1)
    >>> one.add(0, np.arange(1.0, 500.0))
    >>> other.add(0, np.arange(500.0, 1000.0))
    >>> one.merge(other)
    >>> int(one.totals()[0]), one.quantiles([0.5]).round().tolist()
    (999, [[500.0]])
    """

    def __init__(self, rows: int) -> None:
        self.count = np.zeros((rows, BINS), dtype=np.int64)

    def add(self, row: int, values: np.ndarray) -> None:
        """Counts numbers, of which none may be NaN, with shape (n).

        Raises:
            ValueError: If one is NaN.
        """
        if not len(values):
            return
        if np.isnan(values).any():
            raise ValueError("values must be numbers, but hold NaN. Leave out what is not known.")
        found = bins(values)
        first = int(found.min())
        counts = np.bincount(found - first)
        self.count[row, first : first + len(counts)] += counts

    def merge(self, other: Sketch) -> None:
        """Adds the counts of another sketch of the same rows."""
        self.count += other.count

    def totals(self) -> np.ndarray:
        """Returns how many numbers each row holds, with shape (rows)."""
        return self.count.sum(-1)

    def quantiles(self, probabilities: Sequence[float]) -> np.ndarray:
        """Returns quantiles, within 0.8 % of those of the numbers themselves; NaN for an empty row.

        The rank is that of numpy's linear interpolation; inside a bin the numbers are taken as evenly spread.

        Arguments:
            probabilities: With shape (k).

        Returns:
            With shape (k, rows).
        """
        edge, total = edges(), self.totals()
        above = self.count.cumsum(-1)
        levels = []
        for probability in probabilities:
            rank = (
                probability * np.maximum(total - 1, 0) + 0.5
            )  # of numbers that lie half a rank into their own
            at = np.array([np.searchsorted(row, r) for row, r in zip(above, rank, strict=True)], dtype=int)
            at = np.minimum(at, BINS - 1)
            rows = np.arange(len(at))
            inside = np.maximum(self.count[rows, at], 1)
            share = 1.0 - (above[rows, at] - rank) / inside
            low, high = edge[at], edge[np.minimum(at + 1, BINS - 1)]
            level = np.where(at == BINS - 1, np.inf, low + np.clip(share, 0.0, 1.0) * (high - low))
            level = np.where(at == 0, 0.0, level)
            levels.append(np.where(total > 0, level, np.nan))
        return np.stack(levels)

    def sparse(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns rows, bins and counts of what is not zero, each with shape (m), in order."""
        row, at = np.nonzero(self.count)
        return row.astype(np.int32), at.astype(np.int16), self.count[row, at]

    def add_sparse(self, row: np.ndarray, at: np.ndarray, count: np.ndarray) -> None:
        """Adds what :meth:`sparse` returned."""
        self.count[row, at] += count
