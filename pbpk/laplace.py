r"""Linear kinetics without time stepping: the inverse Laplace transform as one matrix shared by all bodies.

The answer of a state to a unit input has the Laplace transform
:math:`F(z) = e_{out}^T (zI - A)^{-1} e_{in}`, a sum of simple terms :math:`r / (z - \lambda)` over the
eigenvalues of the body. At a few points :math:`z_1 \dots z_K` it is cheap (:mod:`pbpk.resolvent`), and a
profile is a fixed linear combination of what is found there:

.. math:: x(t_j) = \sum_k \mathrm{Re}\,[G_{kj} F(z_k)].

The weights :math:`G` depend on the regimen and the output times, not on the body. Let :math:`h_j(\lambda)` be
the answer at :math:`t_j` of the scalar system :math:`x' = \lambda x` to the whole regimen: a sum of
:math:`e^{\lambda d}` over the lags d since each bolus, and of :math:`(e^{\lambda d} - 1)/\lambda` since an
infusion was switched on, less the same since it was switched off. Then G is the least-squares solution of

.. math:: \sum_k \mathrm{Re}\,[G_{kj} / (z_k - \lambda)] = h_j(\lambda)
    \quad \text{for all poles } \lambda \text{ in a sector about the negative axis,}

whatever the number of doses: a regimen of a hundred doses costs what one dose costs. A quadrature of the
Bromwich integral on a hyperbola (Weideman and Trefethen) is one admissible choice of weights. The fitted ones
need far fewer points, for hours 0.24 to 24 at an error of 1e-6 about 20 in all where hyperbolas take at least
18 in each of two windows [ours], and treat infusions and overlapping doses alike. The points keep the
hyperbola's idea: they wind around the sector at geometric distances between the slowest and the fastest time
that matters.

**Error.** The weights are fitted twice, for the sector that a sample of the bodies spans and for a wider one.
Where both agree on a body's profile, its eigenvalues are where the fit holds; the difference over its peak is
the estimated error, body by body. K grows until a sample meets the tolerance. A body that does not, or a
request that no K meets, goes to the matrix exponential (:mod:`pbpk.linear`), which is exact.

The error is absolute, a share of the peak: what has fallen below the tolerance times the peak is noise. Where
it would be negative it is set to 0, which is nearer to the truth.

References:
    Weideman, Trefethen (2007). Parabolic and hyperbolic contours for computing the Bromwich integral. Math
    Comp 76:1341. https://doi.org/10.1090/S0025-5718-07-01945-X
    Trefethen, Weideman, Schmelzer (2006). Talbot quadratures and rational approximations. BIT 46:653.
    https://doi.org/10.1007/s10543-006-0077-9
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from pbpk import linear
from pbpk.regimen import Schedule
from pbpk.resolvent import Resolvent
from pbpk.topology import System
from pbpk.transforms import (
    TINY,
    Transforms,
    angle,
    as_complex,
    compiles,
    eigenvalues,
    groups,
    not_below_zero,
    points,
    poles,
    program,
    response,
    weights,
)

POINTS = (12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40, 48)
"""The numbers K of points that may be tried."""

_USUAL = 18, 1e-6  # points to begin with, and the tolerance for which
_GAIN = 2.2  # by which one more point divides the error [ours], over ratios of lags from 100 to 2000

_LONGEST = (
    1e7  # the largest ratio of lags that is tried: beyond it, more points than the exponential is worth
)
_SAMPLE = 64  # bodies on which K is chosen
_OUTLIERS = 0.1  # the share of them that may be left to the matrix exponential
_BLOCK = 384  # bodies at a time: enough to pay for each call, few enough for a core's cache
_EXACT = 256  # bodies at a time for the matrix exponential
_CHECKS = 24  # output times at which the two fits are compared
_SAFETY = 2.5  # the estimated error is so many times the largest difference


@dataclass(frozen=True)
class Transform:
    """Points and weights for one regimen, one set of output times, and one graph.

    Attributes:
        transforms: The transforms of the groups of doses, at the points.
        weight: For each group of doses the weights of Re F and of Im F at the T output times, with shape
            (groups * 2K, T).
        check: What those of the second fit differ by at C of them, with shape (groups * 2K, C).
        tolerance: The error that is allowed, a share of the peak.
    """

    transforms: Transforms
    weight: Tensor
    check: Tensor
    tolerance: float

    def __call__(self, rate: Tensor, amounts: Tensor) -> tuple[Tensor, Tensor]:
        """Computes profiles.

        Arguments:
            rate: The rates of the transitions [1/h], with shape (B, N).
            amounts: The doses' amounts [mg], with shape (B, D).

        Returns:
            The amounts [mg] in each outlet, with shape (B, T, outlets), and the estimated error as a share
            of the peak, with shape (B).
        """
        if self.transforms.program is not None:
            from pbpk.resolvent_compiled import Profiles

            given = self.transforms, self.weight, self._panels, self.tolerance, rate, amounts
            together, differing = Profiles.apply(*given)
            return together.permute(1, 2, 0), _SAFETY * differing
        x, share = zip(*self._blocks(rate, amounts), strict=True)
        profiles = not_below_zero(torch.cat(x, 1).permute(1, 2, 0), self.tolerance)
        return profiles, _SAFETY * torch.cat(share, 1).amax((0, 2))

    def shares(self, rate: Tensor, amounts: Tensor) -> Tensor:
        """Returns what the two fits differ by at each check, as a share of the peak, with shape (B, C)."""
        return torch.cat([share.amax(0) for _, share in self._blocks(rate, amounts)])

    def _blocks(self, rate: Tensor, amounts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Computes profiles (outlets, B, T), and what the fits differ by (outlets, B, C)."""
        for rates, doses in zip(rate.split(_BLOCK), amounts.split(_BLOCK), strict=True):
            rows = self.transforms(rates, doses).flatten(1, 2).mT
            x = rows @ self.weight
            yield x, (rows @ self.check).detach().abs() / _peak(x)

    @functools.cached_property
    def _panels(self) -> tuple[np.ndarray, int]:
        """The weights, eight outputs in each panel, and how many of the panels are checks'."""
        from pbpk.lanes import WIDTH

        both = [pad(weight, (0, -weight.shape[1] % WIDTH)) for weight in (self.weight, self.check)]
        panels = torch.cat(both, 1).unflatten(1, (-1, WIDTH)).transpose(0, 1).contiguous()
        return panels.numpy(), both[1].shape[1] // WIDTH


def _peak(x: Tensor) -> Tensor:
    """Returns the largest magnitude of each profile (*, T), with shape (*, 1)."""
    lowest, highest = torch.aminmax(x.detach(), dim=-1, keepdim=True)
    return torch.maximum(highest, -lowest).clamp(min=torch.finfo(x.dtype).tiny)


def prepare(
    system: System,
    schedule: Schedule,
    amounts: Tensor,
    kept: Sequence[int],
    tolerance: float = 1e-6,
    compiled: bool | None = None,
) -> Transform | None:
    """Chooses points and weights for a batch of bodies.

    Arguments:
        system: The equations, with batch shape :math:`(B)`, linear.
        schedule: What is given and asked for, when.
        amounts: The doses' amounts [mg], with shape :math:`(B, D)`.
        kept: The states that are wanted.
        tolerance: The error that is allowed, as a share of the peak.
        compiled: Whether the compiled kernel shall be used where it can (CPU, double precision, numba); by
            default where the batch repays loading it.

    Returns:
        The transform, or None if none meets the tolerance: use the matrix exponential.
    """
    lags = _lags(schedule)
    if not len(lags) or not len(system.rate) or lags[-1] > _LONGEST * lags[0]:
        return None
    sample = torch.linspace(0, len(amounts) - 1, min(_SAMPLE, len(amounts))).long().unique()
    few, given = system[sample], amounts[sample].detach()
    rows, columns, _ = few.entries()
    rate = few.rate.detach()
    routes = list(dict.fromkeys(schedule.route))
    resolvent = Resolvent(rows.tolist(), columns.tolist(), [system.inlet(r) for r in routes], list(kept))
    first, share = groups(schedule, amounts)
    inputs = tuple((routes.index(schedule.route[dose]), dose) for dose in first)
    kernel = program(resolvent, system) if compiles(compiled, rate, len(system.rate)) else None
    test_poles, inside = poles(angle(eigenvalues(few)), lags[0], lags[-1])
    outputs = schedule.time[list(schedule.output)].cpu().double().numpy()
    target = np.concatenate([response(schedule, test_poles, doses, outputs) for doses in share], -1)
    best, fewest = None, _OUTLIERS
    K: int | None = _first_points(tolerance)
    while K:
        z = points(K, lags[0], lags[-1], float(np.angle(-test_poles).max()))
        weight, excess = weights(z, test_poles, inside, target, len(share), rate.dtype, tolerance)
        if weight is not None:
            main, check = (part.to(rate).contiguous() for part in torch.tensor(weight).chunk(2, -1))
            transforms = Transforms(resolvent, as_complex(z, rate), inputs, kernel)
            transform, outliers, excess = _tried(Transform(transforms, main, check, tolerance), rate, given)
            if outliers < fewest:
                best, fewest = transform, outliers
            if not outliers:
                break
        K = _more_points(K, excess)
    return best


def _first_points(tolerance: float) -> int:
    """Returns the number of points to begin with."""
    wanted = _USUAL[0] + math.log(_USUAL[1] / max(tolerance, TINY)) / math.log(_GAIN)
    return next((K for K in POINTS if wanted <= K), POINTS[-1])


def _more_points(K: int, excess: float) -> int | None:
    """Returns the number of points to try after K, which left so many times the error allowed."""
    wanted = K + math.log(max(excess, 1.0)) / math.log(_GAIN)
    left = [more for more in POINTS if more > K]
    return next((more for more in left if more >= wanted), left[-1] if left else None)


def _tried(transform: Transform, rate: Tensor, amounts: Tensor) -> tuple[Transform, float, float]:
    """Tries a transform on a sample.

    Returns:
        The transform with checks at the times alone at which the fits differ most; the share of the bodies
        that it is too poor for; and the largest estimated error, as a multiple of half the tolerance.
    """
    shares = transform.shares(rate, amounts)
    worst = shares.amax(0).argsort(descending=True)[:_CHECKS]
    excess = 2.0 * _SAFETY * shares.amax(-1) / max(transform.tolerance, TINY)
    outliers = float((~(excess <= 1.0)).double().mean())
    fewer = replace(transform, check=transform.check[:, worst].contiguous())
    return fewer, outliers, float(excess.nan_to_num().max())


def solve(transform: Transform, system: System, schedule: Schedule, amounts: Tensor) -> tuple[Tensor, Tensor]:
    """Solves a batch of linear systems.

    Arguments:
        transform: What :func:`prepare` returned for these bodies, or for others like them.
        system: The equations, with batch shape :math:`(B)`.
        schedule: The schedule that the transform was prepared for.
        amounts: The doses' amounts [mg], with shape :math:`(B, D)`.

    Returns:
        The amounts in the kept states [mg], with shape :math:`(B, T, s)`, and the estimated errors as shares
        of the peak, with shape :math:`(B)`: 0 for a body that was left to the matrix exponential.
    """
    x, error = transform(system.rate, amounts)
    poor = (~(error <= transform.tolerance)).nonzero().squeeze(-1)
    if len(poor):
        kept = transform.transforms.resolvent.outlets
        parts = (linear.solve(system[p], schedule, amounts[p])[..., kept] for p in poor.split(_EXACT))
        x = x.index_copy(0, poor, torch.cat(list(parts)))
        error = error.index_fill(0, poor, 0.0)
    return x, error


def moments(system: System, state: int, route: str) -> tuple[Tensor, Tensor]:
    r"""Computes the area and the mean time of the answer to a unit dose, exactly, from :math:`z = 0`.

    .. math:: \int_0^\infty x \, dt = F(0), \qquad
        \int_0^\infty t \, x \, dt \Big/ \int_0^\infty x \, dt = -F'(0) / F(0).

    Both come from one point :math:`z = i\epsilon` with :math:`\epsilon` so small that
    :math:`F(i\epsilon) = F(0) + i\epsilon F'(0)` holds to rounding.

    Arguments:
        system: The equations, with batch shape :math:`(B)`, linear.
        state: The position of the state, not of a sink.
        route: The route of the dose.

    Returns:
        The area for each mg [h] and the mean time [h], each with shape :math:`(B)`; infinite where nothing
        is eliminated.

    References:
        Squire, Trapp (1998). Using complex variables to estimate derivatives of real functions. SIAM Rev
        40:110. https://doi.org/10.1137/S003614459631241X
    """
    rows, columns, values = system.entries()
    resolvent = Resolvent(rows.tolist(), columns.tolist(), [system.inlet(route)], [state])
    tiny = 1e-30 if values.dtype == torch.float64 else 1e-15
    F = resolvent(values, as_complex([tiny * 1j], values))[0, 0, 0]
    forever = _kept_for_ever(system, state, route)
    area = torch.where(forever, torch.inf, F.real)
    return area, torch.where(forever, torch.inf, -F.imag / F.real / tiny)


def _kept_for_ever(system: System, state: int, route: str) -> Tensor:
    """Tells in which bodies a dose comes into a state from which no path leads out, with shape (B)."""
    moving = system.rate.detach() > 0
    few = system[:1] if bool((moving == moving[:1]).all()) else system  # one body for all
    A = few.matrix().detach()[:, : system.inner, : system.inner]
    given = A.new_zeros(len(A), 1, system.inner)
    given[..., system.inlet(route)] = 1.0
    stays, reached = linear.kept_for_ever(few, A, given)
    return (stays & reached[:, 0])[:, state]


def _lags(schedule: Schedule) -> list[float]:
    """Returns the shortest and the longest time from an event to an output after it, if there is one."""
    times = schedule.time[list(schedule.output)]
    events = schedule.time[_events(schedule).any(-1)]
    lags = times - events[:, None]
    lags = lags[lags > 0]
    return [float(lags.min()), float(lags.max())] if lags.numel() else []


def _events(schedule: Schedule) -> Tensor:
    """Returns what each dose begins at each instant: (K, D) where a bolus is given or a rate changes."""
    change = torch.diff(schedule.rate, dim=0, prepend=torch.zeros_like(schedule.rate[:1]))
    return (schedule.jump != 0) | (change != 0)
