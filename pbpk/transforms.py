r"""What the engines without time stepping share: transforms at a few points, and weights fitted to them.

:mod:`pbpk.laplace` explains the points and the weights.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk import resolvent_program
from pbpk.regimen import SAME_TIME, Schedule
from pbpk.resolvent import Resolvent
from pbpk.system import System

MANY = 200_000
"""From so many bodies on the compiled kernels are worth loading, or compiling the first time."""

TINY = 1e-100
"""The smallest tolerance that is divided by."""

_MARGIN = 0.15  # radians between the two sectors
_PER_DECADE = 12  # test poles on each ray
_NOTHING = -60.0  # the exponent of what is left of a dose when nothing is: 1e-26
_RCOND = {torch.float64: 1e-11, torch.float32: 1e-5}


@dataclass(frozen=True)
class Transforms:
    """The transforms of unit inputs at the points, times the doses.

    Attributes:
        resolvent: The elimination.
        z: The points [1/h], with shape (K).
        groups: For each input the position of its inlet among the resolvent's, and the dose that scales it.
        program: What the compiled kernel does; None for plain PyTorch.
    """

    resolvent: Resolvent
    z: Tensor
    groups: tuple[tuple[int, int], ...]
    program: Any = None

    def __call__(self, rate: Tensor, amounts: Tensor) -> Tensor:
        """Returns Re F and Im F, with shape (outlets, groups, 2K, B), for rates (B, N) and doses (B, D)."""
        gradient = torch.is_grad_enabled() and (rate.requires_grad or amounts.requires_grad)
        if self.program is None or gradient:
            return self._plain(rate, amounts.mT)
        from pbpk import resolvent_kernel

        shape = (len(self.resolvent.outlets), len(self.groups), 2 * len(self.z), len(rate))
        rows = rate.new_empty(shape)
        resolvent_kernel.columns(*self.arrays(rate, amounts), rows.flatten(0, 2).numpy())
        return rows

    def arrays(self, rate: Tensor, amounts: Tensor) -> tuple[Any, ...]:
        """Returns what the compiled kernel is called with."""
        return (
            self.program,
            rate.detach().mT.contiguous().numpy(),
            torch.view_as_real(self.z).numpy(),
            np.array(self.groups, dtype=np.int64),
            amounts.detach().contiguous().numpy(),
        )

    def _plain(self, rate: Tensor, amounts: Tensor) -> Tensor:
        columns = self.resolvent.columns(self.resolvent.gather(torch.cat([rate.mT, -rate.mT])), self.z)
        zero = rate.new_zeros(2 * len(self.z), len(rate))
        rows = []
        for outlet in range(len(self.resolvent.outlets)):
            for inlet, dose in self.groups:
                F = columns[inlet][outlet]
                rows.append(zero if F is None else torch.cat([F.real, F.imag]) * amounts[dose])
        return torch.stack(rows).unflatten(0, (-1, len(self.groups)))


def not_below_zero(x: Tensor, tolerance: float) -> Tensor:
    """Returns amounts (B, T, s) with 0 for those below it by no more than the tolerance times the peak.

    An amount is not negative, so that 0 is nearer to it. What is lower yet is left to be seen.
    """
    lowest = x.detach().amin(1, keepdim=True)
    if not bool((lowest < 0).any()):
        return x
    noise = tolerance * x.detach().abs().amax(1, keepdim=True)
    return torch.where((x < 0) & (x >= -noise), 0.0, x)


def compiles(wish: bool | None, like: Tensor, count: int) -> bool:
    """Decides whether compiled kernels run: where they can, and are wished for or repay loading."""
    loaded = "pbpk.resolvent_kernel" in sys.modules
    if wish is False or (wish is None and not loaded and count < MANY):
        return False
    if like.device.type != "cpu" or like.dtype != torch.float64:
        return False
    try:
        import pbpk.resolvent_kernel  # noqa: F401
    except (ImportError, RuntimeError):  # no numba, or nowhere to keep what it compiles
        return False
    return True


def program(resolvent: Resolvent, system: System) -> Any:
    """Returns the compiled kernel's program, or None where it has none."""
    edges = (system.source, system.target, system.driver)
    return resolvent_program.program(resolvent, *(edge.numpy() for edge in edges))


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


def as_complex(z: np.ndarray | list[complex], like: Tensor) -> Tensor:
    """Returns points as complex numbers of the precision and on the device of ``like``."""
    return torch.tensor(z, dtype=torch.complex128).to(like.device, torch.complex(like[:0], like[:0]).dtype)


def groups(schedule: Schedule, amounts: Tensor) -> tuple[list[int], list[np.ndarray]]:
    """Gathers doses that share a route and scale alike from body to body.

    Returns:
        For each group its first dose, and every dose's amount relative to that one.
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


def eigenvalues(system: System) -> Tensor:
    """Returns the eigenvalues of the states that are not sinks [1/h], complex, with shape (B, m)."""
    return torch.linalg.eigvals(system.matrix()[..., : system.inner, : system.inner].detach().double())


def angle(eigenvalues: Tensor) -> float:
    """Returns the half-angle of the sector about the negative axis that holds eigenvalues (B, m) [rad]."""
    angle = torch.atan2(eigenvalues.imag.abs(), -eigenvalues.real)
    moving = eigenvalues.abs() > 1e-9 * eigenvalues.abs().amax(-1, keepdim=True)
    return min(max(float((angle * moving).max()), 0.1), 1.1)


def poles(angle: float, first: float, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns test poles in the wider sector [1/h], and which of them lie in the narrower one."""
    low, high = 0.02 / last, 6e3 / first
    r = np.geomspace(low, high, math.ceil(_PER_DECADE * math.log10(high / low)))
    rays = np.array([0.0, 0.5 * angle, 0.8 * angle, angle, angle + 0.5 * _MARGIN, angle + _MARGIN])
    poles = np.concatenate([[0.0], (-r * np.exp(1j * rays[:, None])).ravel()])
    return poles, np.concatenate([[True], np.repeat(rays <= angle, len(r))])


def response(schedule: Schedule, poles: np.ndarray, share: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    r"""Computes the answers of scalar systems to doses.

    Of n equal doses at equal intervals :math:`\tau`, the last one d ago, is left the geometric sum
    :math:`e^{\lambda d} (e^{n \lambda \tau} - 1) / (e^{\lambda \tau} - 1)`.

    Arguments:
        schedule: What is given, when.
        poles: The systems' rates :math:`\lambda` [1/h], with shape (P).
        share: What counts as one of each dose, with shape (D).
        outputs: The times [h], with shape (T); what is given at one is not in it.

    Returns:
        The answers, with shape (P, T).
    """
    time = schedule.time.cpu().double().numpy()
    jump = schedule.jump.cpu().double().numpy() @ share
    rate = schedule.rate.cpu().double().numpy() @ share
    change = np.diff(rate, prepend=0.0)
    change[np.abs(change) < 1e-12 * np.abs(rate).max(initial=0.0)] = 0.0
    answer = np.zeros((len(poles), len(outputs)), dtype=np.result_type(poles, float))
    for given, infused in ((jump, False), (change, True)):
        for run in _runs(time, given):
            after = outputs > time[run[0]]
            count = np.searchsorted(time[run], outputs[after])  # given before each output
            since = outputs[after] - time[run][count - 1]
            interval = time[run[1]] - time[run[0]] if len(run) > 1 else 0.0
            answer[:, after] += given[run[0]] * _geometric(poles[:, None], since, interval, count, infused)
    return answer


def _runs(time: np.ndarray, given: np.ndarray) -> list[np.ndarray]:
    """Divides the instants at which something is given into runs of equal amounts at equal intervals."""
    runs: list[list[int]] = []
    for k in np.flatnonzero(given):
        run = runs[-1] if runs else []
        equal = bool(run) and abs(given[k] - given[run[0]]) <= 1e-12 * abs(given[k])
        even = len(run) < 2 or abs(time[k] - 2 * time[run[-1]] + time[run[-2]]) <= SAME_TIME
        if equal and even:
            run.append(int(k))
        else:
            runs.append([int(k)])
    return [np.array(run) for run in runs]


def _geometric(
    pole: np.ndarray, since: np.ndarray, interval: float, count: np.ndarray, infused: bool
) -> np.ndarray:
    """Sums the answers to so many doses, or to infusions that have begun, the last one ``since`` ago."""
    number, which = np.unique(count, return_inverse=True)
    still = pole == 0.0
    below = _where_it_counts(np.expm1, pole * interval, -1.0)
    below = np.where(below == 0.0, 1.0, below)
    total = _where_it_counts(np.expm1, pole * interval * number, -1.0)
    left = np.where((number == 1) | still, number, total / below)
    left = left[:, which] if len(number) > 1 else left
    if not infused:
        return _where_it_counts(np.exp, pole * since, 0.0) * left
    alone = count * since + 0.5 * interval * count * (count - 1)
    risen = (_where_it_counts(np.expm1, pole * since, -1.0) * left + (left - count)) / np.where(
        still, 1.0, pole
    )
    return np.where(still, alone, risen)


def _where_it_counts(function: np.ufunc, exponent: np.ndarray, limit: float) -> np.ndarray:
    """Returns a function of exponents, and its limit where they are far below 0: it takes its time."""
    return function(exponent, out=np.full_like(exponent, limit), where=exponent.real > _NOTHING)


def weights(
    z: np.ndarray,
    poles: np.ndarray,
    inside: np.ndarray,
    target: np.ndarray,
    groups: int,
    dtype: torch.dtype,
    tolerance: float,
) -> tuple[np.ndarray | None, float]:
    """Fits the weights for both sectors.

    Returns:
        The weights and what the wider fit adds to them, with shape (groups * 2K, 2T), or None if they are too
        poor; and the narrower fit's residual, as a multiple of the tolerance times the largest answer: at
        most 1, or they are too poor.
    """
    ahead = z.real - poles[:, None]
    inverse = 1.0 / (ahead * ahead + z.imag**2)  # 1 / (z - pole) has the parts ahead and -Im z times this
    basis = np.concatenate([ahead * inverse, -z.imag * inverse], -1)
    narrow = _least_squares(basis[inside], target[inside], dtype)
    residual = float(
        np.abs(basis[inside] @ narrow - target[inside]).max() / np.abs(target).max() / max(tolerance, TINY)
    )
    if not residual <= 1.0:
        return None, residual
    wide = _least_squares(basis, target, dtype)
    pairs = zip(np.split(narrow, groups, -1), np.split(wide, groups, -1), strict=True)
    return np.concatenate([np.concatenate([fit, other - fit], -1) for fit, other in pairs]), residual


def _least_squares(basis: np.ndarray, target: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Solves for real weights; directions that rounding would drown in ``dtype`` are left out."""
    A, b = (np.concatenate([m.real, m.imag]) for m in (basis, target))
    scale = np.linalg.norm(A, axis=0)
    Q, R = np.linalg.qr(A / scale)
    U, S, V = np.linalg.svd(R)
    large = _RCOND[dtype] * S[0] < S
    return (V[large].T @ ((U[:, large].T @ (Q.T @ b)) / S[large][:, None])) / scale[:, None]
