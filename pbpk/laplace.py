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

The error is absolute, a share of the peak: what has fallen below the tolerance times the peak is noise, and
may be negative.

References:
    Weideman, Trefethen (2007). Parabolic and hyperbolic contours for computing the Bromwich integral. Math
    Comp 76:1341. https://doi.org/10.1090/S0025-5718-07-01945-X
    Trefethen, Weideman, Schmelzer (2006). Talbot quadratures and rational approximations. BIT 46:653.
    https://doi.org/10.1007/s10543-006-0077-9
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk import linear
from pbpk.regimen import Schedule
from pbpk.resolvent import Resolvent
from pbpk.topology import System

POINTS = (12, 16, 18, 20, 22, 24, 28, 32, 40, 48)
"""The numbers K of points that are tried."""

MANY = 200_000
"""From so many bodies on the compiled kernel is worth loading, or compiling the first time."""

_LONGEST = (
    1e7  # the largest ratio of lags that is tried: beyond it, more points than the exponential is worth
)
_SAMPLE = 64  # bodies on which K is chosen
_OUTLIERS = 0.1  # the share of them that may be left to the matrix exponential
_BLOCK = 384  # bodies at a time: enough to pay for each call, few enough for a core's cache
_MARGIN = 0.15  # radians between the two sectors
_PER_DECADE = 12  # test poles on each ray
_RCOND = {torch.float64: 1e-11, torch.float32: 1e-5}
_CHECKS = 25  # output times at which the two fits are compared
_SAFETY = 2.5  # the estimated error is so many times the largest difference


@dataclass(frozen=True)
class Transform:
    """Points and weights for one regimen, one set of output times, and one graph.

    Attributes:
        resolvent: The elimination.
        z: The points [1/h], with shape (K).
        weight: For each group of doses the weights of Re F and of Im F at the T output times, and what the
            second fit differs by at C of them, with shape (groups * 2K, T + C).
        groups: For each group the position of its inlet among the resolvent's, and the dose that scales it.
        times: T.
        tolerance: The error that is allowed, a share of the peak.
        program: What the compiled kernel does where no gradient is asked for; None for plain PyTorch.
    """

    resolvent: Resolvent
    z: Tensor
    weight: Tensor
    groups: tuple[tuple[int, int], ...]
    times: int
    tolerance: float
    program: Any = None

    def __call__(self, rate: Tensor, amounts: Tensor) -> tuple[Tensor, Tensor]:
        """Computes profiles.

        Arguments:
            rate: The rates of the transitions [1/h], with shape (B, N).
            amounts: The doses' amounts [mg], with shape (B, D).

        Returns:
            The amounts [mg] in each outlet, with shape (B, T, outlets), and the estimated error as a share
            of the peak, with shape (B).
        """
        gradient = torch.is_grad_enabled() and (rate.requires_grad or amounts.requires_grad)
        if self.program is not None and not gradient:
            return self._compiled(rate.detach(), amounts.detach())
        parts = [(x, _SAFETY * share.amax(-1)) for x, share in self._blocks(rate, amounts)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def shares(self, rate: Tensor, amounts: Tensor) -> Tensor:
        """Returns what the two fits differ by at each check, as a share of the peak, with shape (B, C)."""
        return torch.cat([share for _, share in self._blocks(rate, amounts)])

    def _blocks(self, rate: Tensor, amounts: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        a = self.resolvent.gather(torch.cat([rate, -rate], -1))
        for a_block, block in zip(a.split(_BLOCK, -1), amounts.split(_BLOCK), strict=True):
            yield self._block(a_block, block.mT)

    def _block(self, a: Tensor, amounts: Tensor) -> tuple[Tensor, Tensor]:
        columns = self.resolvent.columns(a, self.z)
        profiles, shares = [], []
        for outlet in range(len(self.resolvent.outlets)):
            rows = []
            for inlet, dose in self.groups:
                F = columns[inlet][outlet]
                F = self.z.new_zeros(len(self.z), a.shape[-1]) if F is None else F
                rows += [F.real * amounts[dose], F.imag * amounts[dose]]
            both = torch.cat(rows).mT @ self.weight
            x, difference = both[:, : self.times], both[:, self.times :].detach()
            profiles.append(x)
            shares.append(difference.abs() / _peak(x))
        if len(profiles) == 1:
            return profiles[0].unsqueeze(-1), shares[0]
        return torch.stack(profiles, -1), torch.stack(shares).amax(0)

    def _compiled(self, rate: Tensor, amounts: Tensor) -> tuple[Tensor, Tensor]:
        """Does the same with the compiled kernel, without gradients."""
        from pbpk import resolvent_kernel

        (B, outlets), rate, amounts = (
            (len(rate), len(self.resolvent.outlets)),
            rate.contiguous(),
            amounts.contiguous(),
        )
        z, groups = torch.view_as_real(self.z).numpy(), np.array(self.groups, dtype=np.int64)
        x, error = rate.new_empty(outlets, B, self.times), rate.new_zeros(B)
        main, checks = self.weight[:, : self.times].contiguous(), self.weight[:, self.times :].contiguous()
        for low in range(0, B, _BLOCK):
            part = slice(low, low + _BLOCK)
            rows = rate.new_empty(outlets, len(groups), 2, len(z), len(rate[part]))
            resolvent_kernel.columns(
                self.program, rate[part].numpy(), z, groups, amounts[part].numpy(), rows.numpy()
            )
            for outlet, of_outlet in enumerate(rows.flatten(1, 3)):
                torch.mm(of_outlet.mT, main, out=x[outlet, part])
                difference = (of_outlet.mT @ checks).abs() / _peak(x[outlet, part])
                error[part] = torch.maximum(error[part], _SAFETY * difference.amax(-1))
        return x.permute(1, 2, 0), error


def _peak(x: Tensor) -> Tensor:
    """Returns the largest magnitude of each profile (B, T), with shape (B, 1)."""
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
        compiled: Whether the compiled kernel shall be used where it can (CPU, double precision, numba, no
            gradient); by default where the batch repays loading it.

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
    groups, share = _groups(schedule, amounts)
    program = _program(compiled, resolvent, system)
    poles, inside = _poles(_angle(few), lags[0], lags[-1])
    target = np.concatenate([_response(schedule, poles, doses) for doses in share], -1)
    best, fewest = None, _OUTLIERS
    for K in POINTS:
        z = points(K, lags[0], lags[-1], float(np.angle(-poles).max()))
        weight = _weights(z, poles, inside, target, len(share), rate.dtype, tolerance)
        if weight is None:
            continue
        transform = Transform(
            resolvent,
            _complex(z, rate),
            torch.tensor(weight).to(rate),
            tuple((routes.index(schedule.route[first]), first) for first in groups),
            len(schedule.output),
            tolerance,
            program,
        )
        shares = transform.shares(rate, given)
        outliers = float((~(_SAFETY * shares.amax(-1) <= tolerance / 2)).double().mean())
        if outliers < fewest:
            best, fewest = _with_fewer_checks(transform, shares), outliers
        if not outliers:
            break
    return best


def _program(wish: bool | None, resolvent: Resolvent, system: System) -> Any:
    """Returns the compiled kernel's program, or None where PyTorch shall do."""
    loaded = "pbpk.resolvent_kernel" in sys.modules
    if wish is False or (wish is None and not loaded and len(system.rate) < MANY):
        return None
    if system.rate.device.type != "cpu" or system.rate.dtype != torch.float64:
        return None
    try:
        from pbpk import resolvent_kernel
    except (ImportError, RuntimeError):  # no numba, or nowhere to keep what it compiles
        return None
    edges = (system.source, system.target, system.driver)
    return resolvent_kernel.program(resolvent, *(edge.numpy() for edge in edges))


def _with_fewer_checks(transform: Transform, shares: Tensor) -> Transform:
    """Keeps the checks at the times at which the fits differ most on a sample."""
    worst = shares.amax(0).argsort(descending=True)[:_CHECKS] + transform.times
    columns = torch.cat([torch.arange(transform.times, device=worst.device), worst])
    return replace(transform, weight=transform.weight[:, columns].contiguous())


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
        exact = linear.solve(system[poor], schedule, amounts[poor])[..., transform.resolvent.outlets]
        x = x.index_copy(0, poor, exact)
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
        state: The position of the state.
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
    F = resolvent(values, _complex([tiny * 1j], values))[0, 0, 0]
    forever = F.imag.abs() > 1e-9 * F.real.abs()  # a pole at zero
    area = torch.where(forever, torch.inf, F.real)
    return area, torch.where(forever, torch.inf, -F.imag / F.real / tiny)


def points(K: int, first: float, last: float, sector: float) -> np.ndarray:
    r"""Places the points where the transform is evaluated.

    :math:`z_k = r_k e^{i\alpha_k}` with geometric distances :math:`r_k` from 2.7/last to 20/first and angles
    :math:`\alpha_k` that open evenly from 0.72 to 2.0 rad, clear of the sector. The four numbers are [ours]:
    rounded means of what a simplex search found for ratios of 10 to 3000, sectors of 0.35 to 0.85 rad and 14
    to 26 points; they lose about half a digit to the best for each.

    Arguments:
        K: The number of points.
        first: The shortest lag [h].
        last: The longest lag [h].
        sector: The half-angle of the sector about the negative axis that holds the eigenvalues [rad].
    """
    s = np.linspace(0.0, 1.0, K)
    distance = (2.7 / last) ** (1.0 - s) * (20.0 / first) ** s
    return distance * np.exp(1j * (0.72 + (min(2.0, math.pi - sector - 0.15) - 0.72) * s))


def _complex(z: np.ndarray | list[complex], like: Tensor) -> Tensor:
    """Returns points as complex numbers of the precision and on the device of ``like``."""
    return torch.tensor(z, dtype=torch.complex128).to(like.device, torch.complex(like[:0], like[:0]).dtype)


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


def _groups(schedule: Schedule, amounts: Tensor) -> tuple[list[int], list[np.ndarray]]:
    """Gathers doses that share a route and scale alike from body to body.

    Returns:
        For each group its first dose that is not zero, and every dose's amount relative to that one.
    """
    D = amounts.shape[-1]
    values = amounts.detach().double().cpu()
    first: list[int] = []
    share: list[np.ndarray] = []
    for dose in range(D):
        for leader, shares in zip(first, share, strict=True):
            if schedule.route[leader] != schedule.route[dose] or amounts.requires_grad:
                continue
            body = int(values[:, leader].argmax())
            ratio = values[body, dose] / values[body, leader]
            if bool(((values[:, dose] - ratio * values[:, leader]).abs() <= 1e-13 * values[:, dose]).all()):
                shares[dose] = float(ratio)
                break
        else:
            first.append(dose)
            share.append(np.eye(D)[dose])
    return first, share


def _angle(system: System) -> float:
    """Returns the half-angle of the sector about the negative axis that holds the eigenvalues [rad]."""
    eigenvalues = torch.linalg.eigvals(system.matrix()[..., : system.inner, : system.inner].detach().double())
    angle = torch.atan2(eigenvalues.imag.abs(), -eigenvalues.real)
    moving = eigenvalues.abs() > 1e-9 * eigenvalues.abs().amax(-1, keepdim=True)
    return min(max(float((angle * moving).max()), 0.1), 1.1)


def _poles(angle: float, first: float, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns test poles in the wider sector [1/h], and which of them lie in the narrower one."""
    low, high = 0.02 / last, 6e3 / first
    r = np.geomspace(low, high, math.ceil(_PER_DECADE * math.log10(high / low)))
    rays = np.array([0.0, 0.5 * angle, 0.8 * angle, angle, angle + 0.5 * _MARGIN, angle + _MARGIN])
    poles = np.concatenate([[0.0], (-r * np.exp(1j * rays[:, None])).ravel()])
    return poles, np.concatenate([[True], np.repeat(rays <= angle, len(r))])


def _response(schedule: Schedule, poles: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Returns the answers of scalar systems with these poles to the doses' shares, with shape (poles, T)."""
    time = schedule.time.cpu().double().numpy()
    outputs = time[list(schedule.output)]
    jump = schedule.jump.cpu().double().numpy() @ share
    rate = schedule.rate.cpu().double().numpy() @ share
    change = np.diff(rate, prepend=0.0)
    change[np.abs(change) < 1e-12 * np.abs(rate).max(initial=0.0)] = 0.0
    answer = np.zeros((len(poles), len(outputs)), dtype=complex)
    slow = np.where(poles == 0.0, 1.0, poles)[:, None]
    for k in np.flatnonzero((jump != 0.0) | (change != 0.0)):
        after = outputs > time[k]
        x = poles[:, None] * (outputs[after] - time[k])
        if jump[k]:
            answer[:, after] += jump[k] * np.exp(x)
        if change[k]:
            risen = np.where(poles[:, None] == 0.0, outputs[after] - time[k], np.expm1(x) / slow)
            answer[:, after] += change[k] * risen
    return answer


def _weights(
    z: np.ndarray,
    poles: np.ndarray,
    inside: np.ndarray,
    target: np.ndarray,
    groups: int,
    dtype: torch.dtype,
    tolerance: float,
) -> np.ndarray | None:
    """Fits the weights for both sectors.

    Returns:
        The weights and what the wider fit adds to them, with shape (groups * 2K, 2T); None if
        the narrower fit's residual is above the tolerance times the largest answer.
    """
    plus, minus = 1.0 / (z - poles[:, None]), 1.0 / (z.conj() - poles[:, None])
    basis = np.concatenate([(plus + minus) / 2, (plus - minus) / 2j], -1)
    narrow = _least_squares(basis[inside], target[inside], dtype)
    if np.abs(basis[inside] @ narrow - target[inside]).max() > tolerance * np.abs(target).max():
        return None
    wide = _least_squares(basis, target, dtype)
    pairs = zip(np.split(narrow, groups, -1), np.split(wide, groups, -1), strict=True)
    return np.concatenate([np.concatenate([fit, other - fit], -1) for fit, other in pairs])


def _least_squares(basis: np.ndarray, target: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Solves for real weights; directions that rounding would drown in ``dtype`` are left out."""
    A, b = (np.concatenate([m.real, m.imag]) for m in (basis, target))
    scale = np.linalg.norm(A, axis=0)
    U, S, V = np.linalg.svd(A / scale, full_matrices=False)
    large = _RCOND[dtype] * S[0] < S
    return (V[large].T @ ((U[:, large].T @ b) / S[large][:, None])) / scale[:, None]
