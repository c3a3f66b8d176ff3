r"""Amortised estimation: a network that has seen many simulated patients reads a new one at once.

Patients are drawn from the prior (log-normal where an unknown has one, else uniform over the box of its free
coordinate), simulated exactly on the design at hand, and given fresh noise each time they are shown. A
network of the logarithms of the observations gives the mean and the Cholesky factor of a normal posterior of
theta; it is trained by the likelihood of the truth,

.. math:: \min \; \mathbb{E} \; \tfrac12 \| L^T (\theta - \mu) \|^2 - \sum_k \ln L_{kk}.

Its answer costs microseconds. Then a few steps of Fisher scoring on the exact likelihood, all patients in one
batch, polish it to the optimum that least squares finds; the covariance is the inverse Fisher information
there. A network belongs to a design: it is trained once and kept while the program runs.

References:
    Cranmer, Brehmer, Louppe (2020). The frontier of simulation-based inference. PNAS 117:30055.
    https://doi.org/10.1073/pnas.1912789117
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.inverse import eigen
from pbpk.inverse.lsq import with_noise_sized
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.result import FitResult
from pbpk.inverse.xtfc import compared

_CHUNK = 2000  # patients simulated at once
_LEAST = 1e-6  # of the median observation: what the network takes a smaller one for
_SETTLED = 1e-2  # of a standard error: a smaller last step has converged
_TRUST = 1.5  # of theta: the longest step of the polish
_TRAINED: dict[tuple, Amortised] = {}


@dataclass(frozen=True)
class Posterior:
    """Normal posteriors of B patients.

    Attributes:
        theta: The means, in free coordinates, with shape :math:`(B, K)`.
        covariance: The covariances, with shape :math:`(B, K, K)`.
        converged: Whether the polish had settled; true without one; with shape :math:`(B)`.
    """

    theta: Tensor
    covariance: Tensor
    converged: Tensor


class Amortised:
    """A network for one design.

    Arguments:
        problem: The design; its observations are not used.
        patients: How many are simulated.
        steps: How many batches are shown.
        batch: The patients of a batch.
        width: The width of the two hidden layers.
        rate: The first learning rate; it falls to 0 as a cosine.
        seed: Of the patients, the noise and the weights.
    """

    def __init__(
        self,
        problem: InverseProblem,
        *,
        patients: int = 12000,
        steps: int = 3000,
        batch: int = 256,
        width: int = 128,
        rate: float = 2e-3,
        seed: int = 0,
    ) -> None:
        self.problem, self.patients, self.steps = problem, patients, steps
        self.batch, self.width, self.rate, self.seed = batch, width, rate, seed

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws patients from the prior, in free coordinates, with shape (count, K)."""
        low, high = self.problem.box
        theta = self.problem.starts(count, generator)
        for k, u in enumerate(self.problem.unknowns):
            if u.mean is not None and u.sd is not None:
                centre = u.free(torch.tensor(u.mean, dtype=torch.float64))
                theta[:, k] = centre + u.sd * torch.randn(count, generator=generator, dtype=torch.float64)
        return torch.minimum(torch.maximum(theta, low), high)

    def fit(self) -> Amortised:
        """Trains the network; returns itself."""
        began = time.perf_counter()
        generator = torch.Generator().manual_seed(self.seed)
        theta = self.draw(self.patients, generator)
        exact = torch.cat([eigen.predict(self.problem, part) for part in theta.split(_CHUNK)])
        self.least = _LEAST * exact.median(0).values.clamp(min=1e-300)
        x = torch.maximum(exact, self.least).log()
        self.centre, self.spread = x.mean(0), x.std(0).clamp(min=1e-6)
        self.middle, self.size = theta.mean(0), theta.std(0).clamp(min=1e-6)
        K, N = theta.shape[1], x.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = torch.nn.Sequential(
                torch.nn.Linear(N, self.width),
                torch.nn.SiLU(),
                torch.nn.Linear(self.width, self.width),
                torch.nn.SiLU(),
                torch.nn.Linear(self.width, K + K * (K + 1) // 2),
            )
        target = ((theta - self.middle) / self.size).float()
        optimiser = torch.optim.Adam(self.network.parameters(), lr=self.rate)
        plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        for _ in range(self.steps):
            some = torch.randint(self.patients, (self.batch,), generator=generator)
            seen = self._features(self.problem.noise.draw(exact[some], generator))
            mean, L = self._normal(self.network(seen))
            white = (L.mT @ (target[some] - mean).unsqueeze(-1)).squeeze(-1)
            loss = 0.5 * white.square().sum(-1).mean() - L.diagonal(dim1=-2, dim2=-1).log().sum(-1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            plan.step()
        self.seconds = time.perf_counter() - began
        return self

    def _features(self, value: Tensor) -> Tensor:
        return ((torch.maximum(value, self.least).log() - self.centre) / self.spread).float()

    def _normal(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the means (B, K) and the Cholesky factors of the precisions (B, K, K)."""
        K = len(self.middle)
        below = torch.tril_indices(K, K)
        L = out.new_zeros(*out.shape[:-1], K, K)
        L[..., below[0], below[1]] = out[..., K:]
        diagonal = L.diagonal(dim1=-2, dim2=-1)
        return out[..., :K], L - torch.diag_embed(diagonal) + torch.diag_embed(
            diagonal.clamp(-8.0, 8.0).exp()
        )

    @torch.no_grad()
    def read(self, value: Tensor) -> Posterior:
        """Reads patients with the network alone.

        Arguments:
            value: Their observations [mg/L], with shape :math:`(B, N)`.
        """
        mean, L = self._normal(self.network(self._features(value)))
        inverse = torch.linalg.inv(L.double())
        low, high = self.problem.box
        theta = torch.minimum(torch.maximum(self.middle + self.size * mean.double(), low), high)
        covariance = self.size[:, None] * (inverse.mT @ inverse) * self.size
        return Posterior(theta, covariance, torch.ones(len(value), dtype=torch.bool))

    @torch.no_grad()
    def polish(self, value: Tensor, limit: Tensor, theta: Tensor, rounds: int = 3) -> Posterior:
        """Goes on to the optimum of the exact likelihood by Fisher scoring, all patients in one batch.

        Arguments:
            value: The observations [mg/L], with shape :math:`(B, N)`.
            limit: Where positive, the value is only known to be below it [mg/L], with shape :math:`(B, N)`.
            theta: Where to begin, with shape :math:`(B, K)`.
            rounds: The most rounds; who has settled is left out of the next.
        """
        low, high = self.problem.box
        theta = theta.clone()
        covariance = torch.zeros(*theta.shape, theta.shape[-1], dtype=theta.dtype)
        converged = torch.zeros(len(theta), dtype=torch.bool)
        going = torch.arange(len(theta))
        for _ in range(rounds):
            people = _people(self.problem, value[going], limit[going])
            at = theta[going]
            f, J = eigen.jacobian(people, at)
            F = people.information_of(f, J)
            F = F + 1e-12 * torch.diag_embed(F.diagonal(dim1=-2, dim2=-1) + 1e-300)
            with torch.enable_grad():
                leaf, point = f.detach().requires_grad_(), at.detach().requires_grad_()
                deviance = people.deviance_of(leaf) + people.penalty(point)
                by_f, by_theta = torch.autograd.grad(deviance.sum(), (leaf, point), materialize_grads=True)
            slope = (by_f.unsqueeze(-2) @ J).squeeze(-2) + by_theta
            step = torch.linalg.solve_ex(F, -0.5 * slope.unsqueeze(-1))[0].squeeze(-1).nan_to_num()
            step = step * (_TRUST / step.abs().amax(-1, keepdim=True).clamp(min=_TRUST))
            covariance[going] = torch.linalg.inv_ex(F)[0]
            decrease = (step.unsqueeze(-2) @ F @ step.unsqueeze(-1)).flatten()
            small = decrease < _SETTLED**2
            theta[going] = _descended(people, at, step, deviance.detach(), small, low, high)
            converged[going] = small
            going = going[~small]
            if not len(going):
                break
        return Posterior(theta, covariance, converged)


def _people(problem: InverseProblem, value: Tensor, limit: Tensor) -> InverseProblem:
    """Returns the problem with the observations of many people at once."""
    return problem.replace(seen=dataclasses.replace(problem.seen, value=value, limit=limit))


def _descended(
    people: InverseProblem,
    at: Tensor,
    step: Tensor,
    deviance: Tensor,
    small: Tensor,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """Steps; who would rise tries a quarter and a sixteenth of the step, then stays."""
    chosen = torch.minimum(torch.maximum(at + step, low), high)
    check = torch.nonzero(~small)[:, 0]
    for share in (0.25, 0.0625, 0.0):
        if not len(check):
            break
        part = _people(people, people.seen.value[check], people.seen.limit[check])
        after = part.deviance_of(eigen.predict(part, chosen[check])) + part.penalty(chosen[check])
        check = check[~(after <= deviance[check] + 1e-6)]
        chosen[check] = torch.minimum(torch.maximum(at[check] + share * step[check], low), high)
    return chosen


def fit(
    problem: InverseProblem,
    *,
    seed: int = 0,
    start: Tensor | None = None,
    polish: int = 20,
    reference: FitResult | None = None,
    **options: int,
) -> FitResult:
    """Estimates the unknowns of one person with a network that is trained for the design first.

    Arguments:
        problem: The problem, with observations.
        seed: Of the network.
        start: Not used: the network says where to begin.
        polish: The most rounds of Fisher scoring; 0 for the network alone.
        reference: A least-squares fit to hold the result against, or None.
        options: Those of :class:`Amortised`.

    Returns:
        The estimate. Its time does not hold the training, which a message gives.
    """
    return compared(fit_many([problem], seed=seed, polish=polish, **options)[0], reference)


def fit_many(
    problems: Sequence[InverseProblem], *, seed: int = 0, polish: int = 20, **options: int
) -> list[FitResult]:
    """Estimates the unknowns of many persons; those that share a design are read in one batch.

    Arguments:
        problems: The problems, with observations.
        seed: Of the networks.
        polish: The most rounds of Fisher scoring; 0 for the network alone.
        options: Those of :class:`Amortised`.

    Returns:
        The estimates, in order.
    """
    results: list[FitResult | None] = [None] * len(problems)
    groups: dict[tuple, list[int]] = {}
    for number, problem in enumerate(problems):
        groups.setdefault(_design(problem), []).append(number)
    for key, numbers in groups.items():
        network = _trained(key, problems[numbers[0]], seed, options)
        began = time.perf_counter()
        censored = torch.stack([problems[n].seen.limit for n in numbers])
        value = torch.stack([problems[n].seen.value for n in numbers])
        value = torch.where(censored > 0, censored / 2, value)
        found = network.read(value)
        if polish:
            found = network.polish(value, censored, found.theta, polish)
        each = (time.perf_counter() - began) / len(numbers)
        said = f"The network of this design took {network.seconds:.1f} s to train, once."
        for row, number in enumerate(numbers):
            result = FitResult.gaussian(
                "amortised",
                problems[number],
                found.theta[row],
                found.covariance[row],
                converged=bool(found.converged[row]),
                seconds=each,
                starts_converged=int(found.converged[row]),
                messages=(said,),
            )
            results[number] = with_noise_sized(result)
    return [result for result in results if result is not None]


def _design(problem: InverseProblem) -> tuple:
    """Returns what makes two problems one design."""
    known = tuple(sorted((name, float(value)) for name, value in problem.known.items()))
    seen = problem.seen
    when = (tuple(seen.time.tolist()), seen.compartment, tuple(seen.after.tolist()))
    return (
        problem.model.name,
        repr(problem.model),
        known,
        problem.unknowns,
        problem.given,
        when,
        problem.noise,
    )


def _trained(key: tuple, problem: InverseProblem, seed: int, options: dict[str, int]) -> Amortised:
    key = (*key, seed, tuple(sorted(options.items())))
    if key not in _TRAINED:
        _TRAINED[key] = Amortised(problem, seed=seed, **options).fit()
    return _TRAINED[key]
