r"""The walk over the mesh: fluxes by collocation, interval by interval, for a batch of bodies.

:mod:`pbpk.volterra` says what is solved and prepares it; here are the numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pbpk.system import System
from pbpk.transforms import Transforms

_SHARE = 0.3  # of a transition's rate at low concentrations is put into the linear part [ours]: the fluxes
# are what is left, and nothing is linear for ever, so that the unit responses die away
_BLOCK = 512  # bodies at a time
_SAFETY = 3.0  # the estimated errors are so many times what is found
_FLOOR = 2e-7  # of the linear part's peak: what the exponentials, the same in both fits, are off by [ours]
_NEWTON = 1e-5, 25  # the largest last change, as a share of the largest amount, and iterations at most


def linear_part(system: System) -> System:
    """Returns the linear part: to each saturable transition belongs a share of its rate when unsaturated."""
    rate = _taken_over(system.Vmax, system.unbound, system.Km)
    return dataclasses.replace(
        system,
        source=torch.cat([system.source, system.saturable_source]),
        target=torch.cat([system.target, system.saturable_target]),
        driver=torch.cat([system.driver, system.saturable_source]),
        rate=torch.cat([system.rate, rate], -1),
    )


def _taken_over(Vmax: Tensor, unbound: Tensor, Km: Tensor) -> Tensor:
    return _SHARE * Vmax * unbound / Km


@dataclass(frozen=True)
class Interval:
    """One interval of a mesh."""

    length: int  # which one of the distinct lengths
    instants: slice  # its nodes and its check point
    outputs: slice  # the outputs inside
    weight: Tensor  # (outputs, p + 1) of the values at its beginning and its nodes


@dataclass(frozen=True)
class Enzymes:
    """The numbers of E fluxes in B bodies, each with shape (E, B)."""

    Vmax: Tensor
    Km: Tensor
    unbound: Tensor

    @property
    def linear(self) -> Tensor:
        """The rate that the linear part takes over [1/h]."""
        return _taken_over(self.Vmax, self.unbound, self.Km)

    def flux(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the fluxes of amounts (E, p, B) and their slopes; odd in x, so that all is finite."""
        Vmax, Km, u, k = (v.unsqueeze(1) for v in (self.Vmax, self.Km, self.unbound, self.linear))
        over = 1.0 / (Km + u * x.abs())
        return (Vmax * u * over - k) * x, Vmax * u * Km * over.square() - k


@dataclass(frozen=True)
class Collocation:
    """Mesh, points and weights for one regimen, one set of output times, and one graph.

    Attributes:
        transforms: The linear part's: outlets are the E sources and then the O kept states, inputs the groups
            of doses, then the fluxes' sources, and then those of their targets that are no mere sinks.
        E: How many fluxes there are.
        returning: The fluxes whose targets these are.
        weight: From transforms to the coefficients of P rates, and what the second fit adds to them, with
            shape (2, P, 2K).
        driving: What the doses have left in each rate at the N nodes and check points, (N, groups * P).
        drifting: The means of that over each of the I intervals, (I, groups * P).
        asked: From the doses' transforms to the T outputs, and what the second fit adds, (groups * 2K, 2T).
        intervals: The mesh.
        past: For each length (p + 1, P); see :class:`pbpk.convolution.Tables`.
        inside: For each length (p + 1, p + 1, P).
        between: The polynomials at the check point, with shape (p).
        across: Those that also have the interval's beginning as a node, there, with shape (p + 1).
        tolerance: The error that is allowed, a share of the peak.
        compiled: Whether the compiled kernel walks.
    """

    transforms: Transforms
    E: int
    returning: Tensor
    weight: Tensor
    driving: Tensor
    drifting: Tensor
    asked: Tensor
    intervals: list[Interval]
    past: Tensor
    inside: Tensor
    between: Tensor
    across: Tensor
    tolerance: float
    compiled: bool

    def __call__(self, system: System, amounts: Tensor) -> tuple[Tensor, Tensor]:
        """Computes profiles.

        Arguments:
            system: The equations, with batch shape :math:`(B)`.
            amounts: The doses' amounts [mg], with shape :math:`(B, D)`.

        Returns:
            The amounts in the kept states [mg], with shape :math:`(B, T, s)`, and the estimated error as a
            share of the peak, with shape :math:`(B)`.
        """
        parts = [(x, fit + mesh) for x, fit, mesh in self.blocks(system, amounts)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def blocks(self, system: System, amounts: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Computes profiles and both parts of their errors, of the fits and of the mesh, block by block."""
        one = torch.ones_like(amounts[:, :1])
        given = torch.cat([amounts, one, -one], -1)
        rate = linear_part(system).rate
        fields = (rate, given, system.Vmax, system.Km, system.unbound)
        for rate_, given_, *enzymes in zip(*(v.split(_BLOCK) for v in fields), strict=True):
            rows = self.transforms(rate_, given_)
            yield self._block(rows, Enzymes(*(v.mT.contiguous() for v in enzymes)))

    def _block(self, rows: Tensor, enzymes: Enzymes) -> tuple[Tensor, Tensor, Tensor]:
        E = self.E
        groups = rows.shape[1] - E - len(self.returning)
        doses, fluxes = rows[:, :groups], rows[:, groups : groups + E]
        fluxes = fluxes.index_add(1, self.returning, rows[:, groups + E :])
        c, other = (weight @ fluxes for weight in self.weight)  # (E + O, E, P, B)
        given, differs = ((weight @ doses[:E]).flatten(1, 2) for weight in self.weight)
        driven = self.driving @ given  # (E, N, B)
        drift = self.drifting @ differs  # (E, I, B)
        x, off = (self.asked.mT @ doses[E:].flatten(1, 2)).chunk(2, 1)  # (O, T, B)
        alone = x.abs().amax(1)  # what the fluxes take back of it leaves its error behind
        walk = self._compiled_walk if self.compiled else self._plain_walk
        x, by_mesh, by_fit = walk(x.clone(), enzymes, c, other, driven, drift)
        peak = x.abs().amax(1).clamp(min=torch.finfo(x.dtype).tiny)
        fit = torch.maximum(by_fit, off.abs().amax(1))
        floor = _FLOOR * torch.maximum(alone, peak)
        by_fit = ((floor + _SAFETY * fit) / peak).amax(0)
        return x.permute(2, 1, 0), by_fit, _SAFETY * (by_mesh / peak).amax(0)

    def _compiled_walk(self, x: Tensor, enzymes: Enzymes, *fields: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from pbpk import fluxes_kernel as kernel

        first = self.intervals[0].outputs.start
        mesh = kernel.Mesh(
            np.array([interval.length for interval in self.intervals]),
            self.past.numpy(),
            self.inside.numpy(),
            self.between.numpy(),
            self.across.numpy(),
            np.array([first, *(interval.outputs.stop for interval in self.intervals)]),
            torch.cat(
                [x.new_zeros(first, len(self.between) + 1), *(i.weight for i in self.intervals)]
            ).numpy(),
            _NEWTON,
        )
        numbers = (enzymes.Vmax, enzymes.Km, enzymes.unbound, enzymes.linear, *fields)
        bodies = kernel.Bodies(*(value.contiguous().numpy() for value in numbers))
        off = x.new_empty(2, len(x), x.shape[-1])
        kernel.march(mesh, bodies, x.numpy(), off[0].numpy(), off[1].numpy())
        return x, off[0], off[1]

    def _plain_walk(
        self, x: Tensor, enzymes: Enzymes, c: Tensor, other: Tensor, driven: Tensor, drift: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        walk = _Walk(self, enzymes, c, other)
        before, off = x[:, :1] * 0.0, [(x[:, 0] * 0.0,) * 2]
        for number, interval in enumerate(self.intervals):
            values = walk.interval(interval.length, driven[:, interval.instants], drift[:, number])
            knots, check = torch.cat([before, values[:, :-1]], 1), values[:, -1]
            x[:, interval.outputs] += interval.weight @ knots
            between = (torch.einsum("i,oib->ob", self.across, knots) - check).abs()
            before = knots[:, -1:]
            off.append((torch.maximum(walk.by_mesh, between), walk.by_fit))
        by_mesh, by_fit = (torch.stack(part).abs().amax(0) for part in zip(*off, strict=True))
        return x, by_mesh, by_fit


class _Walk:
    """The walk over the mesh for one block: what each rate remembers of the fluxes and of their errors."""

    def __init__(self, of: Collocation, enzymes: Enzymes, c: Tensor, other: Tensor) -> None:
        self._of, self._enzymes, self._c, self._other = of, enzymes, c, other
        self._memory, self._error, self._drifted = (torch.zeros_like(c[0]) for _ in range(3))  # (E, P, B)
        self._flux = c.new_zeros(of.E, 1, c.shape[-1])
        self._made: dict[int, tuple[Tensor, Tensor]] = {}

    def _convolutions(self, length: int) -> tuple[Tensor, Tensor]:
        """Returns those with the unit responses of the sources (E, p + 1, E, p, B) and of the kept states."""
        if length not in self._made:
            E, p = self._of.E, len(self._of.between)
            table = self._of.inside[length, :, :p].flatten(0, 1)

            def convolve(c: Tensor) -> Tensor:
                found = (table @ c).unflatten(2, (p + 1, p))  # (outlets, E, p + 1, p, B)
                return found.transpose(1, 2).contiguous()

            self._made[length] = convolve(self._c[:E]), convolve(self._c[E:])
        return self._made[length]

    def interval(self, length: int, driven: Tensor, drift: Tensor) -> Tensor:
        """Solves one interval.

        Arguments:
            length: Which of the distinct lengths it has.
            driven: The doses' part of the sources at its nodes and its check point, with shape (E, p + 1, B).
            drift: What the second fit adds to that in the mean, with shape (E, B).

        Returns:
            The fluxes' part of the kept states at the nodes and the check point, with shape (O, p + 1, B).
        """
        of, E, p = self._of, self._of.E, len(self._of.between)
        past, inside = of.past[length], of.inside[length]
        remembered = past @ (self._c * self._memory).sum(1)  # (E + O, p + 1, B)
        own, kept = self._convolutions(length)
        start = driven + remembered[:E]
        x = collocate(start[:, :p], own[:, :p], self._enzymes, self._flux)
        v, slope = self._enzymes.flux(x)
        between = start[:, p:] + torch.einsum("fejb,ejb->fb", own[:, p], v).unsqueeze(1)
        missed = self._enzymes.flux(between)[0] - torch.einsum("j,ejb->eb", of.between, v).unsqueeze(1)
        values = remembered[E:] + torch.einsum("oiejb,ejb->oib", kept, v)
        decay, step = past[p - 1, :, None], inside[p - 1].mT  # (P, 1), (P, p + 1)
        self._memory = decay * self._memory + step[:, :p] @ v
        drift = slope[:, -1] * (drift + torch.einsum("fepb,epb->fb", self._other[:E], self._memory))
        begin = past[0, :, None] * self._error + inside[0, p, :, None] * missed
        self._error = decay * self._error + step[:, p:] * missed
        self._drifted = decay * self._drifted + step[:, :p].sum(1)[:, None] * drift.unsqueeze(1)
        self._flux = v[:, -1:]
        by_mesh = (torch.einsum("oepb,epb->ob", self._c[E:], e).abs() for e in (begin, self._error))
        self.by_mesh = torch.maximum(*by_mesh)
        self.by_fit = torch.einsum("oepb,epb->ob", self._c[E:], self._drifted)
        self.by_fit = self.by_fit + torch.einsum("oepb,epb->ob", self._other[E:], self._memory)
        return values


def collocate(start: Tensor, own: Tensor, enzymes: Enzymes, flux: Tensor) -> Tensor:
    """Solves x = start + own v(x) by Newton's method.

    Arguments:
        start: What the doses and the past do, with shape (E, p, B).
        own: The convolutions, with shape (E, p, E, p, B).
        enzymes: The fluxes of the amounts.
        flux: The fluxes to begin with, with shape (E, 1, B).

    Returns:
        The amounts in the sources, with shape (E, p, B).
    """
    E, p, B = start.shape
    n, start = E * p, start.reshape(E * p, B)
    K = own.reshape(n, n, B)
    x = start + (K * flux.expand(E, p, B).reshape(n, B)).sum(1)
    identity = torch.eye(n, dtype=x.dtype, device=x.device).unsqueeze(-1)
    tolerance, most = _NEWTON
    for _ in range(most):
        v, slope = (part.reshape(n, B) for part in enzymes.flux(x.reshape(E, p, B)))
        change = _solved(identity - K * slope, start + (K * v).sum(1) - x)
        x = x + change
        if not bool((change.abs().amax(0) > tolerance * x.abs().amax(0)).any()):
            break
    return x.reshape(E, p, B)


def _solved(J: Tensor, r: Tensor) -> Tensor:
    """Solves J x = r for matrices (n, n, B) in place, elementwise in bodies."""
    n = len(J)
    for k in range(n - 1):
        factor = J[k + 1 :, k] / J[k, k]
        J[k + 1 :, k + 1 :] -= factor.unsqueeze(1) * J[k, k + 1 :]
        r[k + 1 :] -= factor * r[k]
    for k in range(n - 1, -1, -1):
        r[k] /= J[k, k]
        r[:k] -= J[:k, k] * r[k]
    return r
