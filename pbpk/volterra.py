r"""Saturable kinetics without time stepping: a Volterra equation for the fluxes alone.

A body is linear but for a few saturable transitions. With their fluxes :math:`v_e(t)` [mg/h] taken as given,
any amount is the answer of the linear part to the doses and to the fluxes,

.. math:: x_o(t) = x_o^{dose}(t) + \sum_e \int_0^t k_{oe}(t - \tau) \, v_e(\tau) \, d\tau, \qquad
    v_e = \frac{V_{max,e} u_e x_e}{K_{m,e} + u_e x_e},

where :math:`k_{oe}` is the answer in o to a unit that enters the transition's target and leaves its source.
Written for the sources, these are E equations in E unknown functions, whatever the number of organs. The
fluxes are smooth between two instants at which something is given; they are taken as polynomials on intervals
that grow geometrically after each such instant, with the equation met at p Radau nodes of each: collocation,
one small Newton iteration an interval. The stiffness of the circulation is dealt with by the transforms
:math:`F(z)` of the linear part (:mod:`pbpk.laplace`); the convolutions by exponentials that all bodies share
(:mod:`pbpk.convolution`). The mesh is the same for all bodies, so that all but the iteration is a few matrix
products for the whole batch.

**Error.** Between the nodes the equation is checked: what the fluxes miss there has the shape of the bubble
polynomial, and is carried to the outputs like a flux. The fits are made twice, for the sector that a sample
of the bodies spans and for a wider one; what they differ by moves the fluxes, and is carried likewise. What
such an error then does to the later fluxes is left to a safety factor. The largest of each in any interval,
over the peak, is the estimated error, body by body. Mesh and points are refined until a sample meets the
tolerance, by its estimates and by the stiff engine: a flux with a bend, of a body that leaves deep
saturation, may slip between nodes and check. A body that does not meet it, or a request that nothing meets,
goes to the stiff engine.

References:
    Brunner (2004). Collocation Methods for Volterra Integral and Related Functional Differential Equations.
    https://doi.org/10.1017/CBO9780511543234
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pbpk import convolution, stiff, transforms
from pbpk.fluxes import Collocation, Interval, linear_part
from pbpk.regimen import Schedule
from pbpk.resolvent import Resolvent
from pbpk.rodas import SOLVED
from pbpk.system import System

MESHES = ((6, 2.4, 64.0), (7, 2.1, 32.0), (7, 1.8, 16.0), (8, 1.8, 4.0), (10, 1.7, 1.0))
"""The meshes that are tried: the nodes of an interval, the growth of the intervals, and the length of those
after something is given times the largest rate in the bodies."""

POINTS = (24, 28, 32, 36)
"""The numbers of points at which the transforms are taken that are tried."""

_USUAL = (2e-4, 2e-5, 3e-6)  # a tolerance above which the first meshes are worth a try [ours]
_FASTEST = 4.0  # times the largest rate in the bodies: the fastest exponential
_SLOWEST = 0.3  # times the slowest eigenvalue of a sample: the slowest one that the fit is for
_LARGEST = 20_000  # nodes of a mesh
_LENGTHS = 1000  # distinct lengths of intervals, of doses at irregular times: the tables of one take 0.1 MB
_SAMPLE = 64  # bodies on which mesh and points are chosen
_OUTLIERS = 0.5  # the share of them that may be left to the stiff engine, which takes several times as long
_FEW = 0.02  # the share of them for which nothing better is looked for
_MARGIN = 0.1  # radians between the two sectors
_LABOUR = 20  # a body between two doses takes PyTorch so many times as long as one takes the linear engine


def prepare(
    system: System,
    schedule: Schedule,
    amounts: Tensor,
    kept: Sequence[int],
    tolerance: float = 1e-6,
    compiled: bool | None = None,
) -> Collocation | None:
    """Chooses mesh, points and weights for a batch of bodies.

    Arguments:
        system: The equations, with batch shape :math:`(B)`.
        schedule: What is given and asked for, when.
        amounts: The doses' amounts [mg], with shape :math:`(B, D)`.
        kept: The states that are wanted.
        tolerance: The error that is allowed, as a share of the peak.
        compiled: Whether the compiled kernels shall be used where they can (CPU, numba); by default where the
            batch repays loading them.

    Returns:
        The collocation, or None if none meets the tolerance, or a gradient is wanted: use the stiff engine.
    """
    if (
        _gradient_wanted(system, amounts)
        or not len(amounts)
        or amounts.dtype != torch.float64
        or not stiff.segments(schedule)
    ):
        return None
    sample = torch.linspace(0, len(amounts) - 1, min(_SAMPLE, len(amounts))).long().unique()
    few, given = system[sample], amounts[sample]
    problem = _Problem.of(few, schedule, amounts, list(kept), tolerance, compiled)
    level, k, best, fewest = sum(tolerance < usual for usual in _USUAL), 0, None, _OUTLIERS
    while level < len(MESHES) and k < len(POINTS):
        made = problem.collocation(MESHES[level], POINTS[k])
        if made is None:
            k += 1
            continue
        x, by_fit, by_mesh = next(made.blocks(few, given))
        poor = ~(by_fit + by_mesh <= tolerance)
        share = float(poor.double().mean())
        told = share >= fewest or problem.holds(x[~poor], few[~poor], given[~poor])
        if told and share < fewest:
            best, fewest = made, share
        if told and share <= _FEW:
            break
        coarse = not told or bool((by_mesh >= by_fit)[poor].double().mean() >= 0.5)
        level, k = level + coarse, k + (not coarse)
    return best


@dataclass(frozen=True)
class _Layout:
    """A mesh: what does not depend on the points."""

    intervals: list[Interval]
    driving: Tensor
    drifting: Tensor
    past: Tensor
    inside: Tensor
    between: Tensor
    across: Tensor


@dataclass(frozen=True)
class _Problem:
    """What all meshes and all numbers of points have in common."""

    schedule: Schedule
    transforms: transforms.Transforms  # without points
    E: int
    returning: Tensor
    share: list[np.ndarray]  # of each group of doses
    angle: float  # of the sector [rad]
    slowest: float  # eigenvalue that matters [1/h]
    fastest: float  # rate in the bodies [1/h]
    like: Tensor
    kept: list[int]
    tolerance: float
    compiled: bool
    layouts: dict[tuple[int, float, float], _Layout | None] = field(default_factory=dict)
    fits: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray] | None] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        few: System,
        schedule: Schedule,
        amounts: Tensor,
        kept: list[int],
        tolerance: float,
        compiled: bool | None,
    ) -> _Problem:
        """Lists inputs and outlets, and finds the spectrum of a few of the bodies."""
        linear = linear_part(few)
        rows, columns, _ = linear.entries()
        routes = list(dict.fromkeys(schedule.route))
        sources, targets = few.saturable_source.tolist(), few.saturable_target.tolist()
        E, D, R = len(sources), amounts.shape[-1], len(routes)
        first, share = transforms.groups(schedule, amounts)
        inputs = [(routes.index(schedule.route[dose]), dose) for dose in first]
        returning = [e for e, target in enumerate(targets) if target < few.inner or target in kept]
        inputs += [(R + e, D + 1) for e in range(E)] + [(R + E + e, D) for e in returning]
        inlets = [few.inlet(route) for route in routes] + sources + targets
        resolvent = Resolvent(rows.tolist(), columns.tolist(), inlets, sources + kept)
        labour = _LABOUR * len(amounts) * len(stiff.segments(schedule))
        fast = transforms.compiles(compiled, amounts, labour)
        program = transforms.program(resolvent, linear) if fast else None
        spectrum = transforms.eigenvalues(linear)
        rates = linear.matrix().diagonal(dim1=-2, dim2=-1).abs()
        return cls(
            schedule=schedule,
            transforms=transforms.Transforms(resolvent, few.rate.new_empty(0), tuple(inputs), program),
            E=E,
            returning=torch.tensor(returning, dtype=torch.long, device=few.rate.device),
            share=share,
            angle=transforms.angle(spectrum),
            slowest=0.0 if max(kept) >= few.inner else _SLOWEST * float(spectrum.abs().min()),
            fastest=float(rates.amax(-1).median()),
            like=few.rate,
            kept=kept,
            tolerance=tolerance,
            compiled=fast,
        )

    def holds(self, x: Tensor, system: System, amounts: Tensor) -> bool:
        """Tells whether some bodies' answers, of shape (B, T, s), are right by the stiff engine."""
        exact, *_ = stiff.solve(
            system,
            self.schedule,
            amounts,
            rtol=0.1 * self.tolerance,
            atol=1e-4 * self.tolerance,
            kept=self.kept,
            compiled=self.compiled,
        )
        return bool(((x - exact).abs().amax(1) <= self.tolerance * exact.abs().amax(1)).all())

    def collocation(self, mesh: tuple[int, float, float], K: int) -> Collocation | None:
        """Puts mesh and points together; None if the mesh is too large or there are too few points."""
        span = float(self.schedule.time[-1])
        rates = convolution.rates(span, self.slowest, _FASTEST * self.fastest)
        if mesh not in self.layouts:
            self.layouts[mesh] = self._layout(mesh, rates)
        layout = self.layouts[mesh]
        if layout is None:
            return None
        if K not in self.fits:
            self.fits[K] = self._fit(K, rates, span)
        fit = self.fits[K]
        if fit is None:
            return None
        z, asked, weight = fit
        return Collocation(
            transforms=dataclasses.replace(self.transforms, z=transforms.as_complex(z, self.like)),
            E=self.E,
            returning=self.returning,
            weight=torch.tensor(weight).to(self.like),
            asked=torch.tensor(asked).to(self.like),
            tolerance=self.tolerance,
            compiled=self.compiled,
            **vars(layout),
        )

    def _fit(
        self, K: int, rates: np.ndarray, span: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Chooses K points and fits the weights for the outputs and for the rates, each twice."""
        z = transforms.points(K, 13.0 / rates[-1], span, self.angle + _MARGIN)
        poles, inside = transforms.poles(self.angle, 900.0 / rates[-1], span)
        target, groups = self._answers(poles, self._outputs), len(self.share)
        asked, _ = transforms.weights(z, poles, inside, target, groups, self.like.dtype, self.tolerance / 4)
        if asked is None:
            return None
        narrow, wide = (
            convolution.from_transform(z, rates, span, slowest * self.slowest, self.angle + margin)
            for slowest, margin in ((2.0, 0.5 * _MARGIN), (1.0, 1.5 * _MARGIN))
        )
        return z, asked, np.stack([narrow, wide - narrow])

    def _layout(self, mesh: tuple[int, float, float], rates: np.ndarray) -> _Layout | None:
        """Lays out the intervals; None if they have too many nodes, or lengths."""
        count, growth, first = mesh
        pieces = _pieces(stiff.segments(self.schedule), self.schedule.time, growth, first / self.fastest)
        if len(pieces) * (count + 1) > _LARGEST:
            return None
        lengths, which = _distinct([end - begin for begin, end in pieces])
        if len(lengths) > _LENGTHS:
            return None
        nodes = convolution.radau(count)
        at = np.append(nodes, convolution.check_point(nodes))
        starts, ends = np.array(pieces).T[..., None]
        instants = np.minimum(starts + at * np.array(lengths)[which][:, None], ends)
        left = self._answers(-rates, instants.ravel()).real.reshape(len(rates), len(self.share), -1)
        left = left.transpose(2, 1, 0).reshape(len(pieces), count + 1, -1)
        mean = convolution.tables(np.zeros(1), 1.0, count).step[:-1, 0]  # of values at the nodes
        tables = [convolution.tables(rates, h, count) for h in lengths]

        def tensor(x: np.ndarray) -> Tensor:
            return torch.tensor(x).to(self.like)

        return _Layout(
            intervals=_intervals(pieces, lengths, which, nodes, self._outputs, self.like),
            driving=tensor(left.reshape(instants.size, -1)),
            drifting=tensor(np.einsum("ijm,j->im", left[:, :-1], mean)),
            past=tensor(np.stack([table.past for table in tables])),
            inside=tensor(np.stack([table.inside for table in tables])),
            between=tensor(convolution.lagrange(nodes, at[-1:])[:, 0]),
            across=tensor(convolution.lagrange(np.append(0.0, nodes), at[-1:])[:, 0]),
        )

    @property
    def _outputs(self) -> np.ndarray:
        """The output times [h]."""
        return self.schedule.time[list(self.schedule.output)].cpu().numpy()

    def _answers(self, poles: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Returns the answers of scalar systems to each group of doses, with shape (poles, groups * T)."""
        return np.concatenate([transforms.response(self.schedule, poles, s, times) for s in self.share], -1)


def _gradient_wanted(system: System, amounts: Tensor) -> bool:
    numbers = (system.rate, system.Vmax, system.Km, system.unbound, amounts)
    return torch.is_grad_enabled() and any(value.requires_grad for value in numbers)


def _pieces(
    segments: list[tuple[int, int]], time: Tensor, growth: float, first: float
) -> list[tuple[float, float]]:
    """Divides each segment into intervals that grow geometrically from its beginning."""
    pieces = []
    for begin, end in ((float(time[a]), float(time[b])) for a, b in segments):
        start, h = begin, first
        while start < end:
            h = max(h, 1e-12 * end)  # hours that can still be told apart
            reached = end if start + 1.3 * h >= end else start + h
            pieces.append((start, reached))
            start, h = reached, (growth - 1.0) * (reached - begin)
    return pieces


def _distinct(lengths: list[float]) -> tuple[list[float], list[int]]:
    """Returns the distinct lengths, and which of them each one is."""
    keys = [f"{length:.9g}" for length in lengths]
    found = dict(zip(reversed(keys), reversed(lengths), strict=True))
    return list(found.values()), [list(found).index(key) for key in keys]


def _intervals(
    pieces: list[tuple[float, float]],
    lengths: list[float],
    which: list[int],
    nodes: np.ndarray,
    outputs: np.ndarray,
    like: Tensor,
) -> list[Interval]:
    """Says for each interval which outputs lie in it, and how they follow from its values."""
    knots = np.append(0.0, nodes)
    until = np.searchsorted(outputs, [pieces[0][0], *(end for _, end in pieces)], side="right")
    found = []
    for number, ((begin, _), k) in enumerate(zip(pieces, which, strict=True)):
        inside = slice(int(until[number]), int(until[number + 1]))
        weight = convolution.lagrange(knots, (outputs[inside] - begin) / lengths[k]).T
        instants = slice(number * len(knots), (number + 1) * len(knots))
        found.append(Interval(k, instants, inside, torch.tensor(weight).to(like)))
    return found


def solve(
    collocation: Collocation, system: System, schedule: Schedule, amounts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Solves a batch of systems.

    Arguments:
        collocation: What :func:`prepare` returned for these bodies, or for others like them.
        system: The equations, with batch shape :math:`(B)`.
        schedule: The schedule that it was prepared for.
        amounts: The doses' amounts [mg], with shape :math:`(B, D)`.

    Returns:
        The amounts in the kept states [mg], with shape :math:`(B, T, s)`, the estimated errors as shares of
        the peak, with shape :math:`(B)`, and the status, with shape :math:`(B)`. A body whose estimated error
        is above the tolerance is left to the stiff engine.

    Raises:
        ValueError: If a gradient is wanted.
    """
    if _gradient_wanted(system, amounts):
        raise ValueError("system and amounts must not require a gradient here, but do. Use stiff.solve.")
    x, error = collocation(system, amounts)
    status = torch.full_like(error, SOLVED, dtype=torch.long)
    poor = (~(error <= collocation.tolerance)).nonzero().squeeze(-1)
    if len(poor):
        kept = collocation.transforms.resolvent.outlets[collocation.E :]
        rtol = collocation.tolerance
        again, status[poor], error[poor] = stiff.solve(
            system[poor], schedule, amounts[poor], rtol=rtol, atol=1e-3 * rtol, kept=kept
        )
        x = x.index_copy(0, poor, again)
    return transforms.not_below_zero(x, collocation.tolerance), error, status
