"""Organs: their names, in one fixed order.

A body's masses and flows are vectors in this order, so that a batch of bodies is one tensor. Blood
leaves the heart into the arteries, passes the organs side by side, and returns through the veins and the
lung. The portal organs drain into the liver, whose own :math:`Q` is the hepatic artery alone. Lung and
blood have no flow of their own: the whole cardiac output passes them.
"""

from __future__ import annotations

from pbpk.checks import choose

ORGANS: tuple[str, ...] = (
    "adipose",
    "bone",
    "brain",
    "gonads",
    "heart",
    "kidney",
    "large_intestine",
    "liver",
    "lung",
    "muscle",
    "pancreas",
    "skin",
    "small_intestine",
    "spleen",
    "stomach",
    "blood",
    "rest",
)
PORTAL: tuple[str, ...] = ("stomach", "small_intestine", "large_intestine", "spleen", "pancreas")
WITHOUT_FLOW: tuple[str, ...] = ("lung", "blood")
PERFUSED: tuple[str, ...] = tuple(organ for organ in ORGANS if organ not in WITHOUT_FLOW)

_POSITION = {organ: position for position, organ in enumerate(ORGANS)}


def index(organ: str) -> int:
    """Returns the position of ``organ`` in :data:`ORGANS`.

    Raises:
        ValueError: If there is no such organ; the message offers the nearest name.

    >>> index("liver")
    7
    """
    return _POSITION[choose("organ", organ, ORGANS)]


def indices(organs: tuple[str, ...] | list[str]) -> list[int]:
    """Returns the positions of ``organs`` in :data:`ORGANS`.

    >>> indices(PORTAL)
    [14, 12, 6, 13, 10]
    """
    return [index(organ) for organ in organs]
