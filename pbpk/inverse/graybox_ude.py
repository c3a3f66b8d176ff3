r"""A gray box learnt through the solver: a universal differential equation.

The equations are integrated with the network in them by the classical Runge-Kutta method of order 4
(torchdiffeq), so that they hold exactly, and the weights follow by least squares. The search begins where
:mod:`pbpk.inverse.graybox_pinn` ends: from no knowledge the way through the solver is long, and may explode.

References:
    Rackauckas et al. (2020). Universal differential equations for scientific machine learning.
    https://arxiv.org/abs/2001.04385
    Chen (2018). torchdiffeq. https://github.com/rtqichen/torchdiffeq
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from pbpk.inverse import graybox_pinn
from pbpk.inverse.graybox import GrayBox, Learned, Series, grid, most_probable


def learn(
    box: GrayBox,
    series: Series,
    *,
    first: Learned | None = None,
    step: float | None = None,
    hidden: int = 30,
    seed: int = 0,
) -> Learned:
    """Learns the unknown term through the integrated equations.

    Arguments:
        box: The equations.
        series: The observed states.
        first: Where to begin; None for what :func:`pbpk.inverse.graybox_pinn.learn` finds.
        step: The longest step of the integration [h]; None for a 200th of the time seen.
        hidden: The number of tanh units, if ``first`` is None.
        seed: The seed of the hidden layers, if ``first`` is None.

    Returns:
        The learnt term, its uncertainty and the fitted states on the steps of the integration.
    """
    began = time.perf_counter()
    first = graybox_pinn.learn(box, series, hidden=hidden, seed=seed) if first is None else first
    step = step or float(series.times[-1]) / 200
    term = first.term

    def residuals(w: Tensor) -> Tensor:
        return series.residuals(box.solve(lambda z: term(w, z), series.times, step, len(w)))

    found = most_probable(residuals, term.prior(first.alpha), first.weights)
    fine = grid(torch.cat([series.times.new_zeros(1), series.times[-1:]]), step)
    return Learned(
        box=box,
        term=term,
        weights=found.weights,
        covariance=found.covariance,
        times=fine,
        states=box.solve(lambda z: term(found.weights, z), fine, step),
        alpha=first.alpha,
        cost=found.cost,
        converged=found.converged,
        seconds=time.perf_counter() - began,
    )
