r"""Sampling the posterior with an ensemble of walkers (emcee): the intervals that assume least.

The prior is uniform in theta within the box, times the unknowns' own priors; where the size of the noise is
not known, its logarithm is sampled too. The walkers begin about the least-squares optimum and make emcee's
stretch moves, half of them at a time, those of all people of one design in one batch. They run until they
have run 50 times the longest autocorrelation time, or for ``steps``.

References:
    Foreman-Mackey, Hogg, Lang, Goodman (2013). emcee: the MCMC hammer. Publ Astron Soc Pac 125:306.
    https://doi.org/10.1086/670067
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pbpk.inverse import eigen, lsq
from pbpk.inverse.crowd import Crowd, crowds
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.result import FitResult

_BLOCK = 250  # steps between looks at the autocorrelation
_LONG_ENOUGH = 50.0  # autocorrelation times: the rule of emcee's authors
_SPREAD = 0.5  # standard errors about the optimum at the beginning
_TOGETHER = 250  # people sampled in one batch


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
    begin = time.perf_counter()
    reference = reference or lsq.fit(problem, seed=seed, start=start)
    centred = reference if start is None else reference.replace(theta=start)
    return _sampled(Crowd.of([problem]), [problem], [centred], seed, steps, walkers, begin)[0]


def fit_many(
    problems: Sequence[InverseProblem], *, seed: int = 0, steps: int = 4000, walkers: int = 0
) -> list[FitResult]:
    """Samples the posteriors of many people, those of one design in one batch.

    Arguments:
        problems: The problems, with observations.
        seed: Of the walkers.
        steps: The most steps that each walker makes.
        walkers: How many walkers a person; 0 chooses 4 a dimension, at least 12.

    Returns:
        The posteriors, in order.
    """
    results: dict[int, FitResult] = {}
    for numbers, crowd in crowds(problems, _TOGETHER):
        begin = time.perf_counter()
        asked = [problems[n] for n in numbers]
        references = [lsq.fit(problem, seed=seed) for problem in asked]
        found = _sampled(crowd, asked, references, seed, steps, walkers, begin)
        results |= dict(zip(numbers, found, strict=True))
    return [results[n] for n in range(len(problems))]


def _sampled(
    crowd: Crowd,
    problems: Sequence[InverseProblem],
    references: Sequence[FitResult],
    seed: int,
    steps: int,
    walkers: int,
    begin: float,
) -> list[FitResult]:
    generator = torch.Generator().manual_seed(seed)
    first = np.stack([_walkers(reference, walkers, generator) for reference in references])
    chain, tau = _run(crowd, first, steps, np.random.RandomState(seed))
    each = (time.perf_counter() - begin) / len(problems)
    return [_result(problems[b], chain[:, b], tau[b], each) for b in range(len(problems))]


def _result(problem: InverseProblem, chain: np.ndarray, tau: float, seconds: float) -> FitResult:
    """Summarises a person's chain (T, W, D)."""
    burn = min(int(3 * tau), len(chain) // 2)
    flat = torch.from_numpy(chain[burn :: max(1, int(tau / 2))].reshape(-1, chain.shape[-1]))
    draws = flat[:, : problem.K].contiguous()
    levels = torch.tensor([0.025, 0.5, 0.975], dtype=torch.float64)
    lower, middle, upper = torch.quantile(draws, levels, dim=0)
    converged = len(chain) >= _LONG_ENOUGH * tau
    said = f"The chain ran {len(chain)} steps, {len(chain) / tau:.0f} autocorrelation times."
    return FitResult(
        "mcmc",
        problem,
        middle,
        torch.cov(draws.T).reshape(problem.K, problem.K),
        problem.values(lower),
        problem.values(upper),
        converged=bool(converged),
        seconds=seconds,
        scale=1.0 if problem.noise.known else float(flat[:, -1].median().exp()),
        draws=draws,
        messages=(said if converged else said + " It should run longer.",),
    )


def _walkers(reference: FitResult, count: int, generator: torch.Generator) -> np.ndarray:
    """Returns where a person's walkers begin, (W, K), or K + 1 with the logarithm of the noise's size."""
    problem = reference.problem
    dimensions = problem.K + (not problem.noise.known)
    count = count or max(12, 4 * dimensions)
    low, high = problem.box
    spread = _SPREAD * torch.minimum(reference.se.nan_to_num(1.0), 0.1 * (high - low))
    drawn = torch.randn(count, problem.K, generator=generator, dtype=torch.float64)
    margin = 1e-3 * (high - low) * torch.rand(count, problem.K, generator=generator, dtype=torch.float64)
    first = torch.minimum(torch.maximum(reference.theta + spread * drawn, low + margin), high - margin)
    if problem.noise.known:
        return first.numpy()
    scale = math.log(reference.scale) + 0.1 * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    return torch.cat([first, scale], -1).numpy()


def _run(
    crowd: Crowd, first: np.ndarray, steps: int, random: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Runs the walkers (B, W, D) until they have run long enough.

    Returns:
        Where they were, with shape (T, B, W, D), and each person's longest autocorrelation time, (B).
    """
    x, height = first.copy(), _log_posterior(crowd, first)
    chain = np.empty((steps, *x.shape))
    tau = np.full(len(x), float(steps))
    for step in range(steps):
        _move(crowd, x, height, random)
        chain[step] = x
        done = step + 1
        if done % _BLOCK == 0 or done == steps:
            tau = np.array([_autocorrelation(chain[:done, b]) for b in range(len(x))])
            if done >= _LONG_ENOUGH * tau.max():
                break
    return chain[:done], tau


def _move(crowd: Crowd, x: np.ndarray, height: np.ndarray, random: np.random.RandomState) -> None:
    """Moves half of the walkers along lines to the other half, then the others, in place."""
    from emcee.moves import StretchMove

    move, W = StretchMove(), x.shape[1]
    halves = np.array_split(random.permutation(W), 2)
    for own, other in (halves, halves[::-1]):
        tried, factor = (
            np.stack(part)
            for part in zip(*(move.get_proposal(y[own], [y[other]], random) for y in x), strict=True)
        )
        after = _log_posterior(crowd, tried)
        taken = factor + after - height[:, own] > np.log(random.rand(*factor.shape))
        x[:, own] = np.where(taken[..., None], tried, x[:, own])
        height[:, own] = np.where(taken, after, height[:, own])


def _log_posterior(crowd: Crowd, x: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the posterior of points (B, W, D), with shape (B, W)."""
    problem = crowd.problem
    points = torch.from_numpy(x).transpose(0, 1)  # (W, B, D)
    theta = points[..., : problem.K]
    inside = ((theta >= crowd.low) & (theta <= crowd.high)).all(-1)
    with torch.no_grad():
        scale = 1.0 if problem.noise.known else points[..., -1].exp()
        theta = crowd.inside(theta)
        total = problem.deviance_of(eigen.predict(problem, theta), scale) + crowd.penalty(theta)
    return torch.where(inside & torch.isfinite(total), -0.5 * total, -torch.inf).T.numpy()


def _autocorrelation(chain: np.ndarray) -> float:
    """Returns the longest autocorrelation time of a chain (T, W, D) [steps]; its length if there is none."""
    from emcee.autocorr import integrated_time

    tau = float(np.max(integrated_time(chain, tol=0)))
    return tau if math.isfinite(tau) and tau > 0 else float(len(chain))
