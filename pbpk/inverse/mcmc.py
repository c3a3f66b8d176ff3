r"""Sampling the posterior with an ensemble of walkers (emcee): the intervals that assume least.

The prior is uniform in theta within the box, times the unknowns' own priors; where the size of the noise is
not known, its logarithm is sampled too. The walkers begin about the least-squares optimum and run until they
have run 50 times the autocorrelation time, or for ``steps``.

References:
    Foreman-Mackey, Hogg, Lang, Goodman (2013). emcee: the MCMC hammer. Publ Astron Soc Pac 125:306.
    https://doi.org/10.1086/670067
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.inverse import lsq
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.result import FitResult

_BLOCK = 250  # steps between looks at the autocorrelation
_LONG_ENOUGH = 50.0  # autocorrelation times: the rule of emcee's authors
_SPREAD = 0.5  # standard errors about the optimum at the beginning


def fit(
    problem: InverseProblem,
    *,
    seed: int = 0,
    start: Tensor | None = None,
    reference: FitResult | None = None,
    steps: int = 4000,
    walkers: int = 0,
) -> FitResult:
    """Samples the posterior.

    Arguments:
        problem: The problem, with observations.
        seed: Of the walkers.
        start: The centre of the walkers, with shape :math:`(K)`; the least-squares optimum by default.
        reference: The least-squares fit, if there is one already.
        steps: The most steps that each walker makes.
        walkers: How many walkers; 0 chooses 4 a dimension, at least 12.

    Returns:
        The posterior's median in theta, and its central 95 % intervals.
    """
    import emcee

    begin = time.perf_counter()
    reference = reference or lsq.fit(problem, seed=seed, start=start)
    centre = reference.theta if start is None else start
    first = _walkers(problem, centre, reference, walkers, seed)
    sampler = emcee.EnsembleSampler(
        len(first), first.shape[1], lambda x: _log_posterior(problem, x), vectorize=True
    )
    sampler.random_state = np.random.RandomState(seed).get_state()
    tau = _run(sampler, first, steps)
    burn = min(int(3 * tau), sampler.iteration // 2)
    chain = torch.from_numpy(sampler.get_chain(discard=burn, thin=max(1, int(tau / 2)), flat=True))
    draws = chain[:, : problem.K].contiguous()
    levels = torch.tensor([0.025, 0.5, 0.975], dtype=torch.float64)
    lower, middle, upper = torch.quantile(draws, levels, dim=0)
    converged = sampler.iteration >= _LONG_ENOUGH * tau
    said = f"The chain ran {sampler.iteration} steps, {sampler.iteration / tau:.0f} autocorrelation times."
    return FitResult(
        "mcmc",
        problem,
        middle,
        torch.cov(draws.T).reshape(problem.K, problem.K),
        problem.values(lower),
        problem.values(upper),
        converged=bool(converged),
        seconds=time.perf_counter() - begin,
        scale=1.0 if problem.noise.known else float(chain[:, -1].median().exp()),
        draws=draws,
        messages=(said if converged else said + " It should run longer.",),
    )


def _walkers(
    problem: InverseProblem, centre: Tensor, reference: FitResult, count: int, seed: int
) -> np.ndarray:
    """Returns where the walkers begin, (walkers, K), or K + 1 with the logarithm of the noise's size."""
    generator = torch.Generator().manual_seed(seed)
    dimensions = problem.K + (not problem.noise.known)
    count = count or max(12, 4 * dimensions)
    low, high = problem.box
    spread = _SPREAD * torch.minimum(reference.se.nan_to_num(1.0), 0.1 * (high - low))
    first = centre + spread * torch.randn(count, problem.K, generator=generator, dtype=torch.float64)
    margin = 1e-3 * (high - low) * torch.rand(count, problem.K, generator=generator, dtype=torch.float64)
    first = torch.minimum(torch.maximum(first, low + margin), high - margin)
    if problem.noise.known:
        return first.numpy()
    scale = math.log(reference.scale) + 0.1 * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    return torch.cat([first, scale], -1).numpy()


def _log_posterior(problem: InverseProblem, x: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the posterior at points (n, K) or (n, K + 1), with shape (n)."""
    theta = torch.from_numpy(np.ascontiguousarray(x[:, : problem.K]))
    low, high = problem.box
    inside = ((theta >= low) & (theta <= high)).all(-1)
    with torch.no_grad():
        scale = 1.0 if problem.noise.known else torch.from_numpy(np.exp(x[:, -1]))
        total = -0.5 * problem.deviance(torch.minimum(torch.maximum(theta, low), high), scale)
    return torch.where(inside & torch.isfinite(total), total, -torch.inf).numpy()


def _run(sampler: Any, first: np.ndarray, steps: int) -> float:
    """Runs the walkers until they have run long enough; returns the longest autocorrelation time."""
    state, tau = first, math.inf
    while sampler.iteration < steps:
        state = sampler.run_mcmc(state, min(_BLOCK, steps - sampler.iteration), skip_initial_state_check=True)
        tau = float(np.max(sampler.get_autocorr_time(tol=0)))
        if sampler.iteration >= _LONG_ENOUGH * tau:
            break
    return tau if math.isfinite(tau) and tau > 0 else float(steps)
