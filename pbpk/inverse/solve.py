r"""Fitting a person: identifiability first, then the method that was asked for, held against least squares.

The verdict of :func:`~pbpk.inverse.identify.identify` is taken at the starts and at the free estimate. Where
either leaves a parameter open, a narrower problem is fitted (:func:`~pbpk.inverse.identify.gate`), and kept
unless the free one explains the data better by a likelihood-ratio test at 0.1 %. That guards against a free
fit that ran along a valley to a place where it looks certain of itself.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pbpk.checks import choose
from pbpk.inverse import lsq
from pbpk.inverse.identify import Gate, Identifiability, gate, identify, starting
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.result import FitResult
from pbpk.inverse.structural import Structure

METHODS: tuple[str, ...] = ("lsq", "xtfc", "pinn", "amortised", "mcmc")
"""The methods; each is a module of this package with a function ``fit``."""

_DOUBT = 1e-3  # of the likelihood-ratio test: by chance alone, so often the free problem is taken
_FACTORS = (1e3, 1e-3, 1e6, 1e-6)
_BAD_FIT = 9.0  # of the mean squared weighted residual: three standard deviations
_BETTER = 10.0  # by which another unit must lower it
_NEAR = math.log(10.0)  # how close to a factor the observations must be
_FAR = 1.5  # powers of ten from its start: farther than an estimate should be


@dataclass(frozen=True)
class Answer:
    """What the data of one person say.

    Attributes:
        problem: The problem as it was asked.
        before: What its design tells at the starts.
        gate: The problem that was fitted instead, if another.
        reference: The least-squares fit of it.
        results: The fits of the methods asked for, by name; of the same problem.
        messages: What the user must hear.
    """

    problem: InverseProblem
    before: Identifiability
    gate: Gate
    reference: FitResult
    results: Mapping[str, FitResult] = field(default_factory=dict)
    messages: tuple[str, ...] = ()

    @property
    def fitted(self) -> InverseProblem:
        """The problem that was fitted."""
        return self.gate.problem

    @property
    def result(self) -> FitResult:
        """The fit of the first method asked for."""
        return next(iter(self.results.values()))

    @property
    def all_results(self) -> dict[str, FitResult]:
        """The reference and every fit, by method."""
        return {self.reference.method: self.reference, **self.results}

    @property
    def after(self) -> Identifiability:
        """What the design tells of the fitted problem at the estimate."""
        return identify(self.fitted, self.reference.theta)


def module(method: str) -> Any:
    """Returns a method's module, loaded on first use.

    Raises:
        ValueError: If there is no such method, or it is not installed.
    """
    choose("method", method, METHODS)
    try:
        return importlib.import_module(f"pbpk.inverse.{method}")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"method {method!r} must be installed, but lacks {error.name!r}. Choose 'lsq'."
        ) from None


def fit(problem: InverseProblem, method: str = "lsq", *, seed: int = 0, **options: Any) -> FitResult:
    """Fits a problem as it is, whatever its data can tell.

    Arguments:
        problem: The problem, with observations.
        method: One of :data:`METHODS`.
        seed: Of whatever the method draws.
        options: The method's own.

    Raises:
        ValueError: If there are fewer observations than unknowns and no priors.
    """
    check_data(problem)
    return module(method).fit(problem, seed=seed, **options)


def check_data(problem: InverseProblem) -> None:
    """Checks that there are observations enough, and none that the noise rules out."""
    without = [u.name for u in problem.unknowns if u.mean is None]
    if len(problem.seen) < len(without):
        raise ValueError(
            f"person {problem.name!r} must have at least as many observations as unknowns, but has "
            f"{len(problem.seen)} for {', '.join(without)}. Make some known, or give them priors."
        )
    zero = (problem.seen.value <= 0) & (problem.seen.limit <= 0)
    if bool(zero.any()) and not problem.noise.additive:
        raise ValueError(
            f"an observation must be above 0 where noise is proportional, but person {problem.name!r} has "
            f"0 at {float(problem.seen.time[zero][0]):g} h. Mark it as below the limit (BLQ, LLOQ), or give "
            "the noise an additive part."
        )


def answer(
    problem: InverseProblem,
    methods: Sequence[str] = ("lsq",),
    *,
    seed: int = 0,
    starts: int = 10,
    told: Structure | None = None,
    **options: Any,
) -> Answer:
    """Asks what the data tell, fits what they tell, and says what they do not.

    Arguments:
        problem: The problem, with observations.
        methods: Some of :data:`METHODS`.
        seed: Of whatever the methods draw.
        starts: How many starts least squares makes.
        told: The structure of the problem's design, if it is known already.
        options: Passed to each method other than least squares.

    Raises:
        ValueError: If there are too few observations, or they are in another unit than the model's.
    """
    check_data(problem)
    before = identify(problem, told=told)
    narrow, reference = _gated(problem, before, seed, starts)
    results = {}
    for method in methods:
        if method == "lsq":
            results[method] = reference
        else:
            solver = module(method)
            results[method] = solver.fit(narrow.problem, seed=seed, reference=reference, **options)
    messages = (*narrow.messages, *reference.messages)
    return Answer(problem, before, narrow, reference, results, messages)


def _gated(
    problem: InverseProblem, before: Identifiability, seed: int, starts: int
) -> tuple[Gate, FitResult]:
    """Returns the problem to answer and its least-squares fit."""
    free = lsq.fit(problem, seed=seed, starts=starts)
    check_unit(free)
    if before.structure.open:
        narrow = gate(problem)
        return narrow, lsq.fit(narrow.problem, seed=seed, starts=starts)
    asked: list[torch.Tensor | None] = [] if before.identifiable else [None]
    if not identify(problem, free.theta, told=before.structure).identifiable:
        asked.append(free.theta)
    for point in asked:
        narrow = gate(problem, point)
        if narrow.problem.K == problem.K:
            continue
        fitted = lsq.fit(narrow.problem, seed=seed, starts=starts)
        if _as_good(fitted, free):
            return narrow, fitted
    return Gate(problem), free


def _as_good(narrow: FitResult, free: FitResult) -> bool:
    """Tells whether the data do not refute the narrower problem."""
    from scipy.special import chdtri

    fewer = free.problem.K - narrow.problem.K
    by_narrow = float(narrow.problem.deviance_of(narrow.problem.predict(narrow.theta), free.scale))
    by_free = float(free.problem.deviance_of(free.problem.predict(free.theta), free.scale))
    return by_narrow - by_free < float(chdtri(fewer, _DOUBT))


def check_unit(free: FitResult) -> None:
    """Checks that the observations are not some thousand times what the starts explain.

    Arguments:
        free: A fit of all unknowns.

    Raises:
        ValueError: If they are, and either no parameters explain them as well as they would explain them over
            that factor, or only some that are a hundredfold and more from their starts.
    """
    problem = free.problem
    shift = _shift(problem)
    factor = min(_FACTORS, key=lambda each: abs(shift - math.log(each)))
    if abs(shift - math.log(factor)) > _NEAR:
        return
    seen = problem.seen
    scaled = dataclasses.replace(seen, value=seen.value / factor, limit=seen.limit / factor)
    other = lsq.fit(problem.replace(seen=scaled), starts=2)
    unexplained = _misfit(free) > _BAD_FIT and _misfit(other) * _BETTER < _misfit(free)
    if unexplained or max(_decades(free)) > _FAR > max(_decades(other)):
        raise _wrong_unit(problem, factor)


def _misfit(result: FitResult) -> float:
    """Returns the mean squared residual in standard deviations of the noise as it was stated."""
    problem, quantified = result.problem, result.problem.seen.limit <= 0
    f = problem.predict(result.theta).detach()
    apart = problem.noise.scaled(problem.seen.value, problem.floor) - problem.noise.scaled(f, problem.floor)
    sd = torch.maximum(
        problem.noise.sd(f, problem.floor), problem.noise.sd(problem.seen.value, problem.floor)
    )
    return float(((apart / sd)[quantified] ** 2).mean())


def _decades(result: FitResult) -> list[float]:
    """Returns by how many powers of ten each estimate is from its start."""
    pairs = zip(result.problem.unknowns, result.values.tolist(), strict=True)
    return [abs(math.log10(value / u.start)) for u, value in pairs if u.start and value > 0] or [0.0]


def _shift(problem: InverseProblem) -> float:
    """Returns the median logarithm of observation over prediction at the starts."""
    f = problem.predict(starting(problem)).clamp(min=1e-300)
    quantified = (problem.seen.limit <= 0) & (problem.seen.value > 0)
    return float((problem.seen.value / f).log()[quantified].median()) if bool(quantified.any()) else 0.0


def _wrong_unit(problem: InverseProblem, factor: float) -> ValueError:
    looks = {1e3: "ug/L (ng/mL)", 1e6: "ng/L (pg/mL)", 1e-3: "g/L (mg/mL)"}.get(factor, "another unit")
    by = f"{factor:,.0f} times too high" if factor > 1 else f"{1 / factor:,.0f} times too low"
    return ValueError(
        f"DV must be in mg/L, but that of person {problem.name!r} is about {by} and looks like {looks}. "
        "Convert DV, give its unit with --unit, or correct the unknowns' starts."
    )
