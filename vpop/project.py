r"""Foreign bodies onto the laws: each is moved the least distance that makes it lawful.

A body is taken in the order of its coordinates (:mod:`vpop.coordinates`), and each block is projected
exactly, given the blocks before it: a bounded scalar goes to the nearest point of its band; parts of a whole
:math:`m_i` go to the point of :math:`\{lo_i \le x_i \le hi_i,\ \sum_i x_i = W\}` that is nearest in

.. math:: \sum_i (x_i - m_i)^2 / s_i^2, \qquad s_i = \max(m_i, t_i / 10),

a distance in relative terms, with :math:`t_i` a typical value, so that a part that is 0 can move too. Its
solution is :math:`x_i(\lambda) = \min(hi_i, \max(lo_i, m_i + \lambda s_i^2))` with the one :math:`\lambda` at
which the sum is :math:`W`, found by bisection: the sum rises with :math:`\lambda`. Sex, age, race and what no
law bounds stay as they are. A lawful body does not move.

References:
    Held, Wolfe, Crowder (1974), Math Program 6:62 (projection onto a box with one sum).
    https://doi.org/10.1007/BF01580223
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pbpk.organs import ORGANS, PORTAL, WITHOUT_FLOW, indices
from pbpk.physiology import Cohort, Physiology
from vpop import intervals, limits
from vpop.intervals import Interval
from vpop.limits import FLOW_ORDER, MASS_ORDER

if TYPE_CHECKING:
    import pandas as pd

MOVED = 1e-3  # relative; a foreign table's own rounding moves less
_SAME = 1e-9
_HALVINGS = 200
_L_PER_H = 60.0


@dataclass(frozen=True)
class Projection:
    """A cohort on the laws, and how far it had to go.

    Attributes:
        cohort: The lawful bodies.
        distance: Per column the relative change of each body, shape (n); 1 where it was 0 before.
        filled: Whose GFR was not stated, bool with shape (n).
    """

    cohort: Cohort
    distance: dict[str, Tensor]
    filled: Tensor

    @property
    def moved(self) -> Tensor:
        """Who moved by more than 0.1 % in any column, bool with shape (n)."""
        return torch.stack([change.abs() > MOVED for change in self.distance.values()]).any(0)

    def frame(self) -> pd.DataFrame:
        """Returns a row a column: the share of bodies that moved by more than 0.1 %, and how far."""
        import pandas as pd

        rows = []
        for column, change in self.distance.items():
            size = 100.0 * change.abs()[change.abs() > MOVED]
            row: dict[str, Any] = {"column": column, "bodies_moved_percent": 100.0 * len(size) / len(change)}
            level = torch.tensor([0.5, 0.95, 1.0], dtype=torch.float64)
            spots = torch.quantile(size, level).tolist() if len(size) else [0.0] * 3
            row |= dict(zip(("median_percent", "P95_percent", "largest_percent"), spots, strict=True))
            rows.append(row)
        return pd.DataFrame(rows)

    def text(self) -> str:
        """Returns the columns that moved as a short table."""
        frame = self.frame()
        frame = frame[frame["bodies_moved_percent"] > 0].sort_values("bodies_moved_percent", ascending=False)
        head = f"{int(self.moved.sum()):,} of {len(self.cohort):,} bodies were moved by more than 0.1 %"
        if bool(self.filled.any()):
            head += f"; {int(self.filled.sum()):,} had no GFR and were given a filtration fraction near 0.2"
        if frame.empty:
            return f"{head}."
        titles = ["column", "bodies moved, %", "median move, %", "P95, %", "largest, %"]
        return f"{head}.\n" + frame.to_string(index=False, header=titles, float_format="%.3g")


def project(cohort: Cohort) -> Projection:
    """Moves each body the least distance onto the laws.

    Arguments:
        cohort: Human bodies with complete masses and flows, n of them. A CO that is NaN becomes the sum of
            the flows, a GFR that is NaN the typical one of the kidney's flow; SCR, FAT and BMC stay NaN.

    Returns:
        The lawful cohort, and how far each column moved.

    Raises:
        ValueError: If a body is no person's, is incomplete, or its weight leaves no room for lawful organs;
            the message names it.
    """
    before = cohort.physiology
    if before.species != "human":
        raise ValueError(f"project needs people, whose laws these are, but has the species {before.species}.")
    complete = torch.isfinite(torch.stack([before.HCT, before.BW], -1)).all(-1)
    complete = complete & torch.isfinite(before.M).all(-1) & torch.isfinite(before.Q).all(-1)
    _refuse(~complete, cohort, "has no haematocrit, weight, organ masses or flows. Add them")
    bloodless = before.Q[..., indices(["liver", *PORTAL])].sum(-1) <= 0.0
    _refuse(bloodless, cohort, "has no blood to the liver, directly or through the gut. Add it")
    after = _flows(_masses(_outside(before), cohort), cohort)
    filtration = limits.filtration(after)
    filled = torch.isnan(before.GFR)
    GFR = torch.where(filled, torch.exp(filtration.centre), before.GFR)
    after = after.replace(GFR=_into(GFR, filtration))
    for name, interval in (("FAT", limits.fat), ("BMC", limits.mineral)):
        value = getattr(after, name)
        if value is not None:
            after = after.replace(
                **{name: torch.where(torch.isnan(value), value, _into(value, interval(after)))}
            )
    origin = {"generator": "vpop project", "projected": dict(cohort.provenance)}
    return Projection(Cohort(after, cohort.id, origin), _distances(before, after), filled)


def _refuse(wrong: Tensor, cohort: Cohort, reason: str) -> None:
    if bool(wrong.any()):
        first = int(torch.nonzero(wrong)[0])
        raise ValueError(
            f"project needs bodies that can be lawful, but body {str(cohort.id[first])!r} {reason} "
            f"({int(wrong.sum())} of {len(wrong)} bodies), or remove it."
        )


def _clip(value: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(value, lower), upper)


def _into(value: Tensor, interval: Interval) -> Tensor:
    inside = interval.inside()
    return _clip(value, inside.lower, inside.upper)


def _outside(body: Physiology) -> Physiology:
    """Projects height, weight, haematocrit and cardiac output."""
    m = intervals.MARGIN
    for name in ("height", "BMI", "HCT"):
        lower, upper = limits.who(name, body)
        value = _clip(getattr(body, name), lower * (1 + m), upper * (1 - m))
        if name == "BMI":
            fits = (body.BMI / value - 1.0).abs() < _SAME
            body = body.replace(BW=torch.where(fits, body.BW, value * (body.height / 100.0) ** 2))
        else:
            body = body.replace(**{name: value})
    CO = torch.where(torch.isnan(body.CO), body.Q.sum(-1), body.CO)
    per_index = _L_PER_H * body.BSA
    index = _into(CO / per_index, limits.cardiac_index(body))
    return body.replace(CO=torch.where((CO / per_index / index - 1.0).abs() < _SAME, CO, index * per_index))


def _masses(body: Physiology, cohort: Cohort) -> Physiology:
    parts = limits.masses(body)
    _refuse(intervals.infeasible(body.BW, parts) != 0, cohort, "has a weight that no lawful organs make up")
    M = _onto(body.M[..., indices(MASS_ORDER)], body.BW, parts)
    return body.replace(M=limits.in_organ_order(M, MASS_ORDER))


def _flows(body: Physiology, cohort: Cohort) -> Physiology:
    parts = limits.flows(body)
    _refuse(intervals.infeasible(body.CO, parts) != 0, cohort, "has an output that no lawful flows make up")
    splanchnic = indices(["liver", *PORTAL])
    beds = body.Q[..., indices(FLOW_ORDER)].clone()
    liver = FLOW_ORDER.index("liver")
    beds[..., liver] = body.Q[..., splanchnic].sum(-1)
    projected = _onto(beds, body.CO, parts)
    Q = limits.in_organ_order(projected, FLOW_ORDER)
    scale = projected[..., liver] / beds[..., liver]
    Q[..., splanchnic] = body.Q[..., splanchnic] * scale[..., None]
    return body.replace(Q=Q)


def _onto(values: Tensor, total: Tensor, parts: Interval) -> Tensor:
    """Returns the nearest values inside their intervals that sum to the total, with shape (n, k)."""
    parts = parts.inside()
    unit = torch.maximum(values, 0.1 * torch.exp(parts.centre)) ** 2
    low, high = (
        ((bound - values) / unit).gather(-1, pick).squeeze(-1)
        for bound, pick in (
            (parts.lower, ((parts.lower - values) / unit).argmin(-1, keepdim=True)),
            (parts.upper, ((parts.upper - values) / unit).argmax(-1, keepdim=True)),
        )
    )

    def at(shift: Tensor) -> Tensor:
        return _clip(values + shift[..., None] * unit, parts.lower, parts.upper)

    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if bool(((middle == low) | (middle == high)).all()):
            break
        small = at(middle).sum(-1) < total
        low, high = torch.where(small, middle, low), torch.where(small, high, middle)
    found = at(0.5 * (low + high))
    close = ((values.sum(-1) / total - 1.0).abs() < _SAME) & _within(values, parts)
    return torch.where(close[..., None], values, _settle(found, total, parts))


def _within(values: Tensor, parts: Interval) -> Tensor:
    return ((values >= parts.lower) & (values <= parts.upper)).all(-1)


def _settle(values: Tensor, total: Tensor, parts: Interval) -> Tensor:
    """Gives the last rounding of the sum to the part with the most room."""
    room = torch.minimum(values - parts.lower, parts.upper - values)
    return values.scatter_add(-1, room.argmax(-1, keepdim=True), (total - values.sum(-1))[..., None])


def _distances(before: Physiology, after: Physiology) -> dict[str, Tensor]:
    pairs = {
        name: (getattr(before, name), getattr(after, name)) for name in ("height", "BW", "HCT", "GFR", "CO")
    }
    for name in ("FAT", "BMC"):
        if getattr(before, name) is not None:
            pairs[name] = (getattr(before, name), getattr(after, name))
    for at, organ in enumerate(ORGANS):
        pairs[f"M_{organ}"] = (before.M[..., at], after.M[..., at])
        if organ not in WITHOUT_FLOW:
            pairs[f"Q_{organ}"] = (before.Q[..., at], after.Q[..., at])
    return {name: _relative(old, new) for name, (old, new) in pairs.items()}


def _relative(old: Tensor, new: Tensor) -> Tensor:
    change = torch.where(old > 0, new / old - 1.0, torch.sign(new - old))
    return torch.nan_to_num(change, nan=0.0)
