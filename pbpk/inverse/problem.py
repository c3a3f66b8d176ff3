r"""An inverse problem: a model, what is known of it, what is not, what was given, and what was seen.

The unknowns are estimated in free coordinates :math:`\theta`, the logarithm of the parameter for most. The
state is exact: between two events :math:`x(t+h) = e^{A(\theta) h} x(t)`, an infusion is a further state that
holds its rate, and a driving input is a sum of exponentials, each a further state. The same line serves one
:math:`\theta` or a batch of them, and is differentiable in both modes. A model that is not linear is
integrated, and its derivatives come from the adjoint.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from pbpk.checks import choose, nearest
from pbpk.inverse.equations import Equations, Timeline, solve, timeline
from pbpk.inverse.model import Linear, Model, Simulated
from pbpk.inverse.noise import Noise
from pbpk.inverse.parts import Given, Seen, Unknown

__all__ = ["Equations", "Given", "InverseProblem", "Seen", "Unknown", "solve"]

_LEAST = 1e-100  # mg/L
_LEAST_SCALE = 1e-6  # of the noise's nominal size: where a curve runs through all observations
_AFTER = 1e-8  # h after a dose: what is given at once is in, and has not moved
_FLOOR = 1e-7  # of the largest observation: no standard deviation is smaller


@dataclass(frozen=True)
class InverseProblem:
    """A problem of one person.

    Attributes:
        model: The model.
        known: The parameters that are known, by name; numbers, or tensors that broadcast to theta's batch.
        unknowns: The K parameters that are not.
        given: What was given.
        seen: What was seen.
        noise: How the observations scatter.
        name: What to call it in reports: the person.

    Raises:
        ValueError: If a parameter is missing, unknown or given twice; or a dose or an observation is of a
            compartment that the model lacks; the message offers the nearest name.
    """

    model: Model
    known: Mapping[str, Any]
    unknowns: tuple[Unknown, ...]
    given: tuple[Given, ...]
    seen: Seen
    noise: Noise = field(default_factory=lambda: Noise(proportional=0.05))
    name: str = "1"

    def __post_init__(self) -> None:
        """Checks that the parts fit together."""
        names = [unknown.name for unknown in self.unknowns]
        for name in (*self.known, *names):
            choose(f"a parameter of {self.model.name}", name, self.model.parameters)
        for name in names:
            if name in self.known or names.count(name) > 1:
                raise ValueError(f"parameter {name!r} must be known or unknown, once, but is named twice.")
        missing = [name for name in self.model.parameters if name not in self.known and name not in names]
        if missing:
            raise ValueError(
                f"every parameter of {self.model.name} must be known or unknown, but {', '.join(missing)} "
                "is neither. Give its value or list it as unknown."
            )
        for where in dict.fromkeys(self.seen.compartment):
            _choose_compartment("an observation", where, self.model.compartments, self.model.name)
        inlets = self.model.inlets(dict.fromkeys(self.model.parameters, 1.0))
        for dose in self.given:
            _choose_compartment("a dose", dose.compartment, inlets, self.model.name)

    @property
    def K(self) -> int:
        """The number of unknowns."""
        return len(self.unknowns)

    @property
    def names(self) -> tuple[str, ...]:
        """The unknowns' names."""
        return tuple(unknown.name for unknown in self.unknowns)

    def replace(self, **changes: Any) -> InverseProblem:
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    # coordinates

    def theta(self, values: Tensor | Mapping[str, float]) -> Tensor:
        """Returns the free coordinates of values in the parameters' units, both with shape (*, K)."""
        if isinstance(values, Mapping):
            values = torch.tensor([float(values[name]) for name in self.names], dtype=torch.float64)
        return torch.stack([u.free(values[..., k]) for k, u in enumerate(self.unknowns)], -1)

    def values(self, theta: Tensor) -> Tensor:
        """Returns the parameters' values at free coordinates, both with shape :math:`(*, K)`."""
        return torch.stack([u.value(theta[..., k]) for k, u in enumerate(self.unknowns)], -1)

    @cached_property
    def box(self) -> tuple[Tensor, Tensor]:
        """The bounds of theta, each with shape :math:`(K)`."""
        low, high = zip(*(unknown.box for unknown in self.unknowns), strict=True)
        return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)

    def starts(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws starts uniformly within the box (log-uniformly for ``"log"``), with shape (count, K)."""
        low, high = self.box
        return low + (high - low) * torch.rand(count, self.K, generator=generator, dtype=torch.float64)

    def parameters(self, theta: Tensor) -> dict[str, Any]:
        """Returns every parameter by name, known and unknown; unknown ones with shape :math:`(*)`."""
        return {**self.known, **{u.name: u.value(theta[..., k]) for k, u in enumerate(self.unknowns)}}

    # equations

    @property
    def linear(self) -> Linear:
        """The model, if it is linear.

        Raises:
            ValueError: If it is not: who needs its equations cannot go on.
        """
        if not self.model.linear:
            raise ValueError(
                "the model must be linear for a method that writes its equations down (xtfc, pinn), but "
                f"{self.model.name} is integrated. Choose lsq, amortised or mcmc."
            )
        return cast(Linear, self.model)

    def system(self, theta: Tensor) -> Equations:
        """Returns the equations at theta, with shape :math:`(*, K)`; the model must be linear."""
        model = self.linear
        p, states = self.parameters(theta), model.states
        at = {state: position for position, state in enumerate(states)}
        n = len(states)
        A = _filled({at[i] * n + at[j]: v for (i, j), v in model.rates(p).items()}, n * n, theta)
        reads = model.reads(p)
        R = _filled(
            {
                m * n + at[state]: value
                for m, name in enumerate(self.model.compartments)
                for state, value in reads[name].items()
            },
            len(self.model.compartments) * n,
            theta,
        )
        x0 = _filled({at[s]: v for s, v in model.initial(p).items()}, n, theta)
        inlets = model.inlets(p)
        jumps, infusions = [], []
        for dose in self.given:
            state, share = inlets[dose.compartment]
            entering = _filled({at[state]: share * dose.amount}, n, theta)
            if dose.duration:
                infusions.append((dose.time, dose.time + dose.duration, entering / dose.duration))
            else:
                jumps.append((dose.time, entering))
        return Equations(
            states,
            A.unflatten(-1, (n, n)),
            R.unflatten(-1, (len(self.model.compartments), n)),
            x0,
            jumps,
            infusions,
            self.given,
        )

    def states(self, theta: Tensor, times: Tensor, after: Tensor | bool = False) -> Tensor:
        """Returns the exact states at times.

        Arguments:
            theta: The free coordinates, with shape :math:`(*, K)`.
            times: Times [h], in any order, with shape :math:`(T)`.
            after: Whether what is given at once at the very time is in, with shape :math:`(T)` or one for
                all.

        Returns:
            The states [mg], with shape :math:`(*, T, n)`.
        """
        return solve(self.system(theta), times, torch.as_tensor(after).expand(times.shape))

    def concentration(self, theta: Tensor, times: Tensor) -> Tensor:
        """Returns the concentration of every compartment [mg/L], with shape :math:`(*, T, m)`.

        What is given at once at the very time is in.
        """
        after = torch.ones(len(times), dtype=torch.bool)
        if not self.model.linear:
            return self._course(theta, times, after)
        system = self.system(theta)
        return solve(system, times, after) @ system.R.mT

    def _course(self, theta: Tensor, times: Tensor, after: Tensor) -> Tensor:
        """Integrates a model that is not linear: concentrations at times in any order, (*, T, m)."""
        asked, place = torch.where(after, times + _AFTER, times).unique(return_inverse=True)
        model = cast(Simulated, self.model)
        return model.course(self.parameters(theta), self.given, asked)[..., place, :]

    def predict(self, theta: Tensor) -> Tensor:
        """Returns the predictions of the observations [mg/L].

        Arguments:
            theta: The free coordinates, with shape :math:`(*, K)`.

        Returns:
            The concentrations, with shape :math:`(*, N)`.
        """
        if not self.model.linear:
            C = self._course(theta, self.seen.time, self.seen.after)
            return C[..., torch.arange(len(self.seen)), self._row]
        system = self.system(theta)
        x = solve(system, self.seen.time, self.seen.after, self.line)
        return (x * system.R[..., self._row, :]).sum(-1)

    @cached_property
    def _row(self) -> Tensor:
        """The position of each observation's compartment, with shape (N)."""
        return torch.tensor([self.model.compartments.index(name) for name in self.seen.compartment])

    def jacobian(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the predictions (*, N) and their exact derivatives by theta (*, N, K).

        Forward mode, K directions in one batch; where the model is not linear, N adjoints in one batch.
        """
        if not self.model.linear:
            return self._adjoint(theta)
        directions = torch.eye(self.K, dtype=theta.dtype).expand(*theta.shape[:-1], self.K, self.K)
        with forward_ad.dual_level():
            many = forward_ad.make_dual(
                theta.detach().unsqueeze(-2).expand_as(directions).clone(), directions.clone()
            )
            prediction, tangent = forward_ad.unpack_dual(self.predict(many))
        tangent = torch.zeros_like(prediction) if tangent is None else tangent
        return prediction[..., 0, :], tangent.mT

    def _adjoint(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Pulls each observation back through a copy of its own."""
        with torch.enable_grad():
            copies = theta.detach().expand(len(self.seen), *theta.shape).clone().requires_grad_()
            prediction = self.predict(copies)
            own = prediction.diagonal(dim1=0, dim2=-1).sum()
            (slope,) = torch.autograd.grad(own, copies, materialize_grads=True)
        return prediction[0].detach(), slope.movedim(0, -2)

    @cached_property
    def line(self) -> Timeline:
        """When what happens, up to the last observation."""
        return timeline(self.given, len(self.linear.states), self.seen.time)

    # likelihood

    @cached_property
    def floor(self) -> float:
        """The smallest standard deviation or prediction that counts [mg/L]."""
        largest = self.seen.value.nan_to_num().abs().max() if len(self.seen) else torch.tensor(0.0)
        return _FLOOR * float(largest)

    def deviance(self, theta: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        r"""Returns minus twice the logarithm of likelihood times prior, with shape :math:`(*)`.

        Every method is compared by this number. Constants are left out.

        Arguments:
            theta: The free coordinates, with shape :math:`(*, K)`.
            scale: A factor on the noise's size, with shape :math:`(*)`; for noise whose size is not known.
        """
        return self.deviance_of(self.predict(theta), scale) + self.penalty(theta)

    def deviance_of(self, prediction: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """Returns minus twice the log-likelihood of predictions (*, N), with shape :math:`(*)`."""
        scale = torch.as_tensor(scale, dtype=prediction.dtype).unsqueeze(-1)
        sd = self.noise.sd(prediction, self.floor) * scale
        at = self.noise.scaled(prediction, self.floor)
        censored = self.seen.limit > 0
        value = torch.where(censored, 1.0, self.seen.value)
        limit = torch.where(censored, self.seen.limit, 1.0)
        z = (self.noise.scaled(value, self.floor) - at) / sd
        below = torch.special.log_ndtr((self.noise.scaled(limit, self.floor) - at) / sd)
        return torch.where(censored, -2.0 * below, z**2 + 2.0 * sd.log()).sum(-1)

    def noise_scale(self, prediction: Tensor) -> Tensor:
        """Returns the factor on the noise's size about predictions (*, N), with shape :math:`(*)`.

        It is 1 where the size is known, else from the residuals of what is above the limit.
        """
        seen = self.seen.limit <= 0
        free = seen.sum(-1) - self.K
        one = prediction.new_ones(prediction.shape[:-1])
        if self.noise.known:
            return one
        value, floor = torch.where(seen, self.seen.value, 1.0), self.floor
        z = (self.noise.scaled(value, floor) - self.noise.scaled(prediction, floor)) / self.noise.sd(
            prediction, floor
        )
        mean_square = torch.where(seen, z, 0.0).square().sum(-1) / free.clamp(min=1)
        return torch.where(free < 1, one, mean_square.sqrt().clamp(min=_LEAST_SCALE))

    def penalty(self, theta: Tensor) -> Tensor:
        """Returns minus twice the logarithm of the prior, with shape :math:`(*)`."""
        total = theta.new_zeros(theta.shape[:-1])
        for k, unknown in enumerate(self.unknowns):
            if unknown.mean is not None and unknown.sd is not None:
                centre = unknown.free(torch.tensor(unknown.mean, dtype=theta.dtype))
                total = total + ((theta[..., k] - centre) / unknown.sd) ** 2
        return total

    def information(self, theta: Tensor, prior: bool = True) -> Tensor:
        r"""Returns the Fisher information about theta, with shape :math:`(*, K, K)`.

        .. math:: F = \sum_i \frac{f_i' f_i'^T}{sd_i^2} + 2 \frac{sd_i' sd_i'^T}{sd_i^2} + \text{prior}.

        An observation below the limit counts with the curvature of its own log-probability,
        :math:`h (h + z) f' f'^T / sd^2`, :math:`z = (L - f)/sd`, h the hazard :math:`\phi(z)/\Phi(z)`.
        """
        return self.information_of(*self.jacobian(theta), prior)

    def information_of(
        self, prediction: Tensor, jacobian: Tensor, prior: bool = True, scale: Tensor | float = 1.0
    ) -> Tensor:
        """Returns the Fisher information of predictions (*, N) with derivatives (*, N, K).

        Arguments:
            prediction: The predictions [mg/L], with shape :math:`(*, N)`.
            jacobian: Their derivatives by theta, with shape :math:`(*, N, K)`.
            prior: Whether the priors' information is in.
            scale: The factor on the noise's size, with shape :math:`(*)`.
        """
        rows = self.rows_of(prediction, jacobian, scale)
        F = rows.mT @ rows
        weights = [u.sd**-2 if prior and u.sd is not None else 0.0 for u in self.unknowns]
        return F + torch.diag(torch.tensor(weights, dtype=jacobian.dtype))

    def rows_of(self, prediction: Tensor, jacobian: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """Returns rows W with :math:`W^T W` the data's Fisher information, with shape (*, N or 2N, K)."""
        scale = torch.as_tensor(scale, dtype=prediction.dtype).unsqueeze(-1)
        sd = self.noise.sd(prediction, self.floor).clamp(min=_LEAST)  # a prediction of 0 tells nothing
        weight = self._censored_weight(prediction, sd * scale) / (sd * scale)
        if self.noise.kind == "log-normal":
            return jacobian * (weight / prediction.clamp(min=self.floor or 1e-300)).unsqueeze(-1)
        rows = jacobian * weight.unsqueeze(-1)
        slope = self.noise.proportional**2 * prediction / sd**2  # d ln sd / d f
        seen = (self.seen.limit <= 0).to(sd).unsqueeze(-1)
        spread = slope.unsqueeze(-1) * jacobian * seen
        if not self.noise.known:  # a common factor of all sizes tells nothing: it is estimated itself
            spread = spread - seen * (
                spread.sum(-2, keepdim=True) / seen.sum(-2, keepdim=True).clamp(min=1.0)
            )
        return torch.cat([rows, math.sqrt(2.0) * spread], -2)

    def _censored_weight(self, prediction: Tensor, sd: Tensor) -> Tensor:
        """Returns the root of what an observation counts: 1, or less if it is only known to be low."""
        censored = self.seen.limit > 0
        limit = torch.where(censored, self.seen.limit, 1.0)
        z = (self.noise.scaled(limit, self.floor) - self.noise.scaled(prediction, self.floor)) / sd
        hazard = (-0.5 * z**2 - 0.5 * math.log(2.0 * math.pi) - torch.special.log_ndtr(z)).exp()
        return torch.where(censored, (hazard * (hazard + z)).clamp(min=0.0).sqrt(), 1.0)

    def simulated(self, theta: Tensor, generator: torch.Generator, limit: float = 0.0) -> InverseProblem:
        """Returns the problem with observations drawn at one theta (K): what is below ``limit`` is cut."""
        value = self.noise.draw(self.predict(theta).detach(), generator)
        return self.replace(seen=self.seen.with_values(value, limit))


def _choose_compartment(what: str, name: str, options: Any, model: str) -> None:
    if name not in options:
        close = nearest(name, options)
        remedy = f"Did you mean {close!r}?" if close else "Correct CMT or choose another model."
        raise ValueError(
            f"{what} must be in a compartment of {model} ({', '.join(options)}), but is in {name!r}. {remedy}"
        )


def _filled(entries: Mapping[int, Any], length: int, like: Tensor) -> Tensor:
    """Returns a tensor of shape (*, length) with some entries and zeros elsewhere."""
    fixed = [0.0] * length
    moving: dict[int, Tensor] = {}
    for place, value in entries.items():
        if isinstance(value, Tensor):
            moving[place] = value
        else:
            fixed[place] = float(value)
    base = torch.tensor(fixed, dtype=like.dtype)
    if not moving:
        return base.expand(*like.shape[:-1], length)
    put = torch.zeros(len(moving), length, dtype=like.dtype)
    put[torch.arange(len(moving)), torch.tensor(list(moving))] = 1.0
    together = torch.broadcast_tensors(like[..., 0], *moving.values())[1:]
    return base + torch.stack(together, -1) @ put
