"""The split of a survey's people: fixed, and of the sizes it promises."""

import numpy as np

from vpop.split import PARTS, SHARES, part_of

PINNED = ["test", "train", "train", "train", "validation", "train"]


def test_a_person_keeps_the_part_for_good():
    """Pinned: whoever moved from test to train would make every published figure dishonest."""
    assert part_of([62161, 73557, 73558, 83732, 93705, 100000]).tolist() == PINNED


def test_the_part_does_not_depend_on_who_else_is_there():
    assert part_of(range(1000))[500:].tolist() == part_of(range(500, 1000)).tolist()


def test_the_parts_have_their_shares():
    parts = part_of(range(20_000))
    assert np.allclose([np.mean(parts == part) for part in PARTS], SHARES, atol=0.01)
