"""Who is learnt from, who is chosen by, and who is only ever judged by: one split, fixed for good.

A person's part follows from the survey's own number by a hash, never from a shuffle: the same person lies in
the same part in every table that carries the number (NHANES and its body scans share it), on every machine
and in every version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

PARTS = ("train", "validation", "test")
SHARES = (0.75, 0.05, 0.2)  # of the people


def part_of(persons: Iterable[int | str]) -> np.ndarray:
    """Returns the part of each person: ``"train"``, ``"validation"`` or ``"test"``, 75, 5 and 20 %.

    Arguments:
        persons: What identifies them: the respondent's sequence number SEQN.

    >>> part_of([73557, 73558, 73559]).tolist() == part_of(["73557", "73558", "73559"]).tolist()
    True
    """
    numbers = np.array([_uniform(int(person)) for person in persons])
    return np.array(PARTS)[np.searchsorted(np.cumsum(SHARES[:-1]), numbers, side="right")]


def _uniform(number: int) -> float:
    """Returns a number in [0, 1) that only the number decides."""
    return int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:8], "big") / 2**64
