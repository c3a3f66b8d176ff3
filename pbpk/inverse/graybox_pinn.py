r"""A gray box learnt without integrating: a physics-informed network of the states beside that of the term.

The states have a network of their own, which begins at the known state (a hard initial condition) and sees
the time as :math:`\ln(1 + t/\tau)`,

.. math:: x(t) = x_0 + s \odot U \, (\phi(t) - \phi(0)),

and the equations hold softly, at collocation points :math:`t_c` spread evenly over that logarithm:

.. math:: \min \sum_i \big((x_i - y_i)/\sigma_i\big)^2
    + \sum_c \big\| (\dot x - g - E f)/(\epsilon \, \dot s) \big\|^2 + \text{priors}.

The hidden layers of both networks are drawn once and only the outputs are learnt (as X-TFC does), all
together, by the least squares of :mod:`pbpk.inverse.graybox`.

References:
    Raissi, Perdikaris, Karniadakis (2019). Physics-informed neural networks. J Comput Phys 378:686.
    https://doi.org/10.1016/j.jcp.2018.10.045
    Ahmadi Daryakenari et al. (2024). AI-Aristotle: a physics-informed framework for systems biology gray-box
    identification. PLoS Comput Biol 20:e1011916. https://doi.org/10.1371/journal.pcbi.1011916
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from pbpk.inverse.graybox import ALPHAS, Found, GrayBox, Learned, Series, most_probable, shape

_STEEP = 6.0  # the largest slope of a state's unit over the whole span of ln(1 + t/tau), over 2 [ours]
_FREE = 100.0  # prior standard deviation of a state's weights, in units of its size: hardly any


def learn(
    box: GrayBox,
    series: Series,
    *,
    hidden: int = 30,
    state_hidden: int = 40,
    points: int = 120,
    epsilon: float = 1e-4,
    seed: int = 0,
) -> Learned:
    """Learns the unknown term with a network of the states.

    Arguments:
        box: The equations.
        series: The observed states.
        hidden: The number of tanh units of the term.
        state_hidden: The number of tanh units that the states share.
        points: The number of collocation points.
        epsilon: The tolerance of the equations, as a share of the largest slope seen of each state.
        seed: The seed of the hidden layers.

    Returns:
        The learnt term, its uncertainty and the states at the collocation points.
    """
    began = time.perf_counter()
    term = shape(box, series, hidden, seed)
    n, P = len(box.initial), len(term.size) * term.width
    end = float(series.times[-1])
    span = float(torch.log1p(torch.tensor(end / box.clock)))
    at = (torch.linspace(0.0, span, points, dtype=torch.float64).exp() - 1.0) * box.clock
    curve = _Curve.draw(state_hidden, span, box.clock, seed)
    phi, phi_dot = curve(at)
    phi_seen, _ = curve(series.times)
    size = torch.cat([box.initial[None], series.value]).nan_to_num().abs().amax(0).clamp(min=1e-12)
    tolerance = epsilon * size / min(box.clock, end)

    def states(w: Tensor, features: Tensor) -> Tensor:
        change = torch.einsum("...nh,th->t...n", w[..., P:].unflatten(-1, (n, -1)), features.to(w.dtype))
        return box.initial + size * change

    def residuals(w: Tensor) -> Tensor:
        x = states(w, phi)
        x_dot = states(w, phi_dot) - box.initial
        clock = at[:, None].expand(x.shape[:-1])
        seen = x[..., list(box.sees)] if box.sees else torch.log1p(clock / box.clock).to(x).unsqueeze(-1)
        physics = (x_dot - box.slope(clock, x, term(w[..., :P], seen))) / tolerance
        data = series.residuals(states(w, phi_seen))
        return torch.cat([data, physics.movedim(1, 0).flatten(1)], -1)

    runs: list[tuple[float, Found]] = []
    free = torch.full((n * phi.shape[1],), _FREE, dtype=torch.float64)
    for a in ALPHAS:
        first = runs[-1][1].weights if runs else torch.zeros(P + len(free), dtype=torch.float64)
        runs.append((a, most_probable(residuals, torch.cat([term.prior(a), free]), first)))
    alpha, best = max(runs, key=lambda run: run[1].evidence)
    fitted = states(best.weights, phi_seen)
    return Learned(
        box=box,
        term=term,
        weights=best.weights[:P],
        covariance=best.covariance[:P, :P],
        times=at,
        states=states(best.weights, phi),
        alpha=alpha,
        cost=float(series.residuals(fitted).square().sum()),
        converged=best.converged,
        seconds=time.perf_counter() - began,
    )


class _Curve:
    """Features of the time that are 0 at time 0, and their derivatives by time."""

    def __init__(self, steep: Tensor, bend: Tensor, clock: float) -> None:
        self.steep, self.bend, self.clock = steep, bend, clock

    @classmethod
    def draw(cls, hidden: int, span: float, clock: float, seed: int) -> _Curve:
        generator = torch.Generator().manual_seed(seed + 1)
        slope = torch.rand(hidden, generator=generator, dtype=torch.float64)
        bend = torch.linspace(-0.1, 1.1, hidden, dtype=torch.float64) * span
        return cls((1.0 + _STEEP * slope) * 2.0 / span, bend, clock)

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the features and their slopes [1/h] at times (T), each with shape (T, h + 1)."""
        s = torch.log1p(t / self.clock)[:, None]
        unit = torch.tanh(self.steep * (s - self.bend))
        origin = torch.tanh(-self.steep * self.bend)
        rate = 1.0 / (self.clock + t)[:, None]
        slope = (1.0 - unit.square()) * self.steep * rate
        return torch.cat([unit - origin, s], -1), torch.cat([slope, rate], -1)
