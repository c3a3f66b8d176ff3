r"""Amortised estimation: a network that has seen many simulated patients reads new ones at once.

Patients are drawn from the prior (log-normal where an unknown has one, else uniform over the box of its free
coordinate), simulated exactly, each with the body, the doses and the sampling times of one of the people at
hand, and given fresh noise each time they are shown. The network sees the logarithms of the observations and,
where people differ, those of what the model foretells of this very person at a few reference values of the
parameters: so one network serves all bodies and designs. It gives the mean and the Cholesky factor of a
normal posterior of theta, relative to the centre of the person's prior; it is trained by the likelihood of
the truth,

.. math:: \min \; \mathbb{E} \; \tfrac12 \| L^T (\theta - \mu) \|^2 - \sum_k \ln L_{kk}.

Its answer costs microseconds. Then a few steps of Fisher scoring on the exact likelihood, all people of one
design in one batch, polish it to the optimum that least squares finds; the covariance is the inverse Fisher
information there. A network is trained once and kept while the program runs.

References:
    Cranmer, Brehmer, Louppe (2020). The frontier of simulation-based inference. PNAS 117:30055.
    https://doi.org/10.1073/pnas.1912789117
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.inverse import eigen
from pbpk.inverse.crowd import Crowd, crowds, grouped, question
from pbpk.inverse.lsq import quantile
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.result import FitResult
from pbpk.inverse.xtfc import compared

_CHUNK = 2000  # patients simulated at once
_LEAST = 1e-6  # of the median observation: what the network takes a smaller one for
_CONSTANT = 1e-9  # of a feature's spread: it is the same for all, and left out
_SETTLED = 1e-2  # of a standard error: a smaller last step has converged
_TRUST = 1.5  # of theta: the longest step of the polish
_TRAINED: dict[Hashable, Amortised] = {}


@dataclass(frozen=True)
class Posterior:
    """Normal posteriors of B patients.

    Attributes:
        theta: The means, in free coordinates, with shape :math:`(B, K)`.
        covariance: The covariances, with shape :math:`(B, K, K)`.
        converged: Whether the polish had settled; true without one; with shape :math:`(B)`.
        scale: The factors on the noise's size, with shape :math:`(B)`; 1 where it is known.
    """

    theta: Tensor
    covariance: Tensor
    converged: Tensor
    scale: Tensor


@dataclass(frozen=True)
class _Scale:
    """Standardises columns; what is not there becomes the mean."""

    mean: Tensor
    sd: Tensor

    @classmethod
    def of(cls, x: Tensor) -> _Scale:
        mean = x.nanmean(0).nan_to_num()
        return cls(mean, (x - mean).square().nanmean(0).sqrt().nan_to_num())

    def __call__(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.sd.clamp(min=1e-6)).nan_to_num().float()


class Amortised:
    """A network for people who are asked the same question, whatever their bodies and designs.

    Arguments:
        people: The crowds, or the problem of one person; observations are not used.
        patients: How many are simulated.
        steps: How many batches are shown.
        batch: The patients of a batch.
        width: The width of the two hidden layers.
        rate: The first learning rate; it falls to 0 as a cosine.
        seed: Of the patients, the noise and the weights.
    """

    def __init__(
        self,
        people: Sequence[Crowd] | InverseProblem,
        *,
        patients: int = 12000,
        steps: int = 3000,
        batch: int = 256,
        width: int = 128,
        rate: float = 2e-3,
        seed: int = 0,
    ) -> None:
        whole = [Crowd.of([people])] if isinstance(people, InverseProblem) else list(people)
        self.crowds, self.slots = _thinned(whole, patients), _slots(whole)
        self.patients, self.steps = patients, steps
        self.batch, self.width, self.rate, self.seed = batch, width, rate, seed

    def fit(self) -> Amortised:
        """Trains the network; returns itself."""
        began = time.perf_counter()
        generator = torch.Generator().manual_seed(self.seed)
        whose, theta, exact = self._simulated(generator)
        apart = theta - torch.cat([crowd.centre for crowd in self.crowds])[whose]
        self.size = apart.std(0).clamp(min=1e-6)
        self.least = (_LEAST * exact.nanmedian(0).values).nan_to_num(1.0).clamp(min=1e-300)
        self.scale = _Scale.of(torch.maximum(exact, self.least).log())
        context = torch.cat([self._foretold(crowd) for crowd in self.crowds])
        self.told = _Scale.of(context).sd > _CONSTANT
        self.told_scale = _Scale.of(context[:, self.told])
        foretold = self.told_scale(context[:, self.told])[whose]
        self._train(exact, foretold, (apart / self.size).float(), generator)
        self.seconds = time.perf_counter() - began
        return self

    def _simulated(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Simulates patients, each a copy of a person: who that is (M), theta (M, K), what is seen (M, S)."""
        people = sum(len(crowd) for crowd in self.crowds)
        whose, theta, exact, first = [], [], [], 0
        for crowd in self.crowds:
            which = torch.arange(max(len(crowd), self.patients * len(crowd) // people)) % len(crowd)
            for part in which.split(_CHUNK):
                copies = crowd.take(part)
                theta.append(copies.draw(generator))
                exact.append(self._placed(copies, eigen.predict(copies.problem, theta[-1])))
                whose.append(part + first)
            first += len(crowd)
        return torch.cat(whose), torch.cat(theta), torch.cat(exact)

    def _placed(self, crowd: Crowd, value: Tensor) -> Tensor:
        """Puts observations (B, N) into the slots that all designs share, (B, S); NaN where there is none."""
        width = sum(count for _, count in self.slots.values())
        placed = value.new_full((len(value), width), torch.nan)
        placed[:, _places(crowd, self.slots)] = value
        return placed

    def _foretold(self, crowd: Crowd) -> Tensor:
        """Returns what the model foretells of each person at the reference thetas, and what is seen at all.

        The references are the centre of the prior, and one standard deviation from it in each coordinate.
        """
        moves = torch.cat([torch.zeros_like(self.size)[None], torch.diag(self.size)])
        f = eigen.predict(crowd.problem, crowd.centre + moves.unsqueeze(-2))  # (1 + K, B, N)
        at, *others = (torch.maximum(self._placed(crowd, each), self.least).log() for each in f)
        return torch.cat([at, *(other - at for other in others), at.isfinite().to(at)], -1)

    def _train(self, exact: Tensor, context: Tensor, target: Tensor, generator: torch.Generator) -> None:
        K, noise = target.shape[1], self.crowds[0].problem.noise
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = torch.nn.Sequential(
                torch.nn.Linear(exact.shape[1] + context.shape[1], self.width),
                torch.nn.SiLU(),
                torch.nn.Linear(self.width, self.width),
                torch.nn.SiLU(),
                torch.nn.Linear(self.width, K + K * (K + 1) // 2),
            )
        optimiser = torch.optim.Adam(self.network.parameters(), lr=self.rate)
        plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        for _ in range(self.steps):
            some = torch.randint(len(exact), (self.batch,), generator=generator)
            mean, L = self._normal(self._features(noise.draw(exact[some], generator)), context[some])
            white = (L.mT @ (target[some] - mean).unsqueeze(-1)).squeeze(-1)
            loss = 0.5 * white.square().sum(-1).mean() - L.diagonal(dim1=-2, dim2=-1).log().sum(-1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            plan.step()

    def _features(self, placed: Tensor) -> Tensor:
        return self.scale(torch.maximum(placed, self.least).log())

    def _normal(self, features: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the means (B, K) and the Cholesky factors of the precisions (B, K, K)."""
        out = self.network(torch.cat([features, context], -1))
        K = len(self.size)
        below = torch.tril_indices(K, K)
        L = out.new_zeros(*out.shape[:-1], K, K)
        L[..., below[0], below[1]] = out[..., K:]
        diagonal = L.diagonal(dim1=-2, dim2=-1)
        return out[..., :K], L - torch.diag_embed(diagonal) + torch.diag_embed(
            diagonal.clamp(-8.0, 8.0).exp()
        )

    @torch.no_grad()
    def read(self, crowd: Crowd) -> Posterior:
        """Reads people with the network alone, of designs that it was trained for."""
        seen = crowd.problem.seen
        value = torch.where(seen.limit > 0, seen.limit / 2, seen.value)
        some = bool(self.told.any())
        context = self.told_scale(self._foretold(crowd)[:, self.told]) if some else value[:, :0].float()
        mean, L = self._normal(self._features(self._placed(crowd, value)), context)
        inverse = torch.linalg.inv(L.double())
        theta = crowd.inside(crowd.centre + self.size * mean.double())
        covariance = self.size[:, None] * (inverse.mT @ inverse) * self.size
        one = theta.new_ones(len(crowd))
        return Posterior(theta, covariance, one > 0, one)


def _thinned(people: Sequence[Crowd], most: int) -> list[Crowd]:
    """Returns every so many of the people, so that they are about ``most``."""
    step = -(-sum(len(crowd) for crowd in people) // most)
    return [crowd.take(torch.arange(0, len(crowd), step)) if step > 1 else crowd for crowd in people]


def _slots(people: Iterable[Crowd]) -> dict[str, tuple[int, int]]:
    """Returns where the observations of each compartment begin among the slots, and how many there are."""
    most: dict[str, int] = {}
    for crowd in people:
        where = crowd.problem.seen.compartment
        for name in dict.fromkeys(where):
            most[name] = max(most.get(name, 0), where.count(name))
    first = 0
    slots = {}
    for name, count in most.items():
        slots[name] = (first, count)
        first += count
    return slots


def _places(crowd: Crowd, slots: dict[str, tuple[int, int]]) -> Tensor:
    """Returns the slot of each observation, with shape (N): those of a compartment in order of time."""
    seen = crowd.problem.seen
    place = torch.empty(len(seen), dtype=torch.long)
    for name in dict.fromkeys(seen.compartment):
        own = torch.tensor([k for k, where in enumerate(seen.compartment) if where == name])
        place[own[seen.time[own].argsort(stable=True)]] = slots[name][0] + torch.arange(len(own))
    return place


@torch.no_grad()
def polish(crowd: Crowd, theta: Tensor, rounds: int = 20) -> Posterior:
    """Goes on to the optimum of the exact likelihood by Fisher scoring, all people in one batch.

    Arguments:
        crowd: The people, with observations.
        theta: Where to begin, with shape :math:`(B, K)`.
        rounds: The most rounds; who has settled is left out of the next.
    """
    theta = theta.clone()
    covariance = torch.zeros(*theta.shape, theta.shape[-1], dtype=theta.dtype)
    converged = torch.zeros(len(theta), dtype=torch.bool)
    scale = theta.new_ones(len(theta))
    going = torch.arange(len(theta))
    for _ in range(rounds):
        people, at = crowd.take(going), theta[going]
        f, J = eigen.jacobian(people.problem, at)
        now = people.problem.noise_scale(f)
        F = people.problem.information_of(f, J, scale=now)
        F = F + 1e-12 * torch.diag_embed(F.diagonal(dim1=-2, dim2=-1) + 1e-300)
        with torch.enable_grad():
            leaf, point = f.detach().requires_grad_(), at.detach().requires_grad_()
            deviance = people.problem.deviance_of(leaf, now) + people.penalty(point)
            by_f, by_theta = torch.autograd.grad(deviance.sum(), (leaf, point), materialize_grads=True)
        slope = (by_f.unsqueeze(-2) @ J).squeeze(-2) + by_theta
        step = torch.linalg.solve_ex(F, -0.5 * slope.unsqueeze(-1))[0].squeeze(-1).nan_to_num()
        step = step * (_TRUST / step.abs().amax(-1, keepdim=True).clamp(min=_TRUST))
        covariance[going] = torch.linalg.inv_ex(F)[0]
        decrease = (step.unsqueeze(-2) @ F @ step.unsqueeze(-1)).flatten()
        small = (decrease < _SETTLED**2) & ((now / scale[going]).log().abs() < _SETTLED)
        scale[going] = now
        theta[going] = _descended(people, at, step, now, deviance.detach(), small)
        converged[going] = small
        going = going[~small]
        if not len(going):
            break
    return Posterior(theta, covariance, converged, scale)


def _descended(
    people: Crowd, at: Tensor, step: Tensor, scale: Tensor, deviance: Tensor, small: Tensor
) -> Tensor:
    """Steps; who would rise tries a quarter and a sixteenth of the step, then stays."""
    chosen = people.inside(at + step)
    check = torch.nonzero(~small)[:, 0]
    for share in (0.25, 0.0625, 0.0):
        if not len(check):
            break
        part = people.take(check)
        after = part.problem.deviance_of(eigen.predict(part.problem, chosen[check]), scale[check])
        check = check[~(after + part.penalty(chosen[check]) <= deviance[check] + 1e-6)]
        chosen[check] = people.inside(at + share * step)[check]
    return chosen


def fit(
    problem: InverseProblem,
    *,
    seed: int = 0,
    start: Tensor | None = None,
    rounds: int = 20,
    reference: FitResult | None = None,
    **options: int,
) -> FitResult:
    """Estimates the unknowns of one person with a network that is trained for the design first.

    Arguments:
        problem: The problem, with observations.
        seed: Of the network.
        start: Not used: the network says where to begin.
        rounds: The most rounds of the polish; 0 for the network alone.
        reference: A least-squares fit to hold the result against, or None.
        options: Those of :class:`Amortised`.

    Returns:
        The estimate. Its time does not hold the training, which a message gives.
    """
    found = fit_many([problem], seed=seed, rounds=rounds, **options)[0]
    return found if reference is None else compared(found.replace(messages=found.messages[:1]), reference)


def fit_many(
    problems: Sequence[InverseProblem], *, seed: int = 0, rounds: int = 20, **options: int
) -> list[FitResult]:
    """Estimates the unknowns of many people with one network, whatever their bodies, doses and times.

    Arguments:
        problems: The problems, with observations.
        seed: Of the network.
        rounds: The most rounds of the polish; 0 for the network alone.
        options: Those of :class:`Amortised`.

    Returns:
        The estimates, in order.
    """
    results: dict[int, FitResult] = {}
    for asked in grouped(range(len(problems)), lambda n: question(problems[n])):
        parts = list(crowds([problems[n] for n in asked], _CHUNK))
        network = _trained([crowd for _, crowd in parts], seed, options)
        said = f"A network took {network.seconds:.1f} s to train, once for all {len(asked):,} people."
        for places, crowd in parts:
            began = time.perf_counter()
            found = network.read(crowd)
            found = polish(crowd, found.theta, rounds) if rounds else found
            each = (time.perf_counter() - began) / len(crowd)
            for row, n in enumerate(asked[place] for place in places):
                results[n] = _result(problems[n], found, row, each, said)
    return [results[n] for n in range(len(problems))]


def _result(problem: InverseProblem, found: Posterior, row: int, seconds: float, said: str) -> FitResult:
    converged = bool(found.converged[row])
    result = FitResult.gaussian(
        "amortised",
        problem,
        found.theta[row],
        found.covariance[row],
        quantile(problem),
        converged=converged,
        seconds=seconds,
        starts_converged=int(converged),
        scale=float(found.scale[row]),
        messages=(said,),
    )
    return compared(result, None)


def _trained(people: Sequence[Crowd], seed: int, options: dict[str, int]) -> Amortised:
    key = (*(crowd.key for crowd in people), seed, tuple(sorted(options.items())))
    if key not in _TRAINED:
        _TRAINED[key] = Amortised(people, seed=seed, **options).fit()
    return _TRAINED[key]
