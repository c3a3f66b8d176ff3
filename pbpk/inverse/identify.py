r"""Identifiability: what the data can tell, said before anything is fitted.

Structural: whether perfect data would tell (:mod:`pbpk.inverse.structural`), exact. Practical: the Fisher
information :math:`F = W^T W` of this design at a point; :math:`F^{-1}` bounds the covariance of any unbiased
estimate (Cramer, Rao). In log-parameters its diagonal's root is a coefficient of variation; above 100 %, an
interval that spans a factor of 50, the parameter is called open. Along the eigenvectors of the smallest
eigenvalues the data are blind; which sum, product or ratio of two open parameters they see all the same is
tried in turn.

References:
    Raue et al. (2009). Structural and practical identifiability analysis of partially observed dynamical
    models by exploiting the profile likelihood. Bioinformatics 25:1923. https://doi.org/10.1093/bioinformatics/btp358
    Gutenkunst et al. (2007). Universally sloppy parameter sensitivities in systems biology models.
    PLoS Comput Biol 3:e189. https://doi.org/10.1371/journal.pcbi.0030189
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pbpk.inverse import slopes
from pbpk.inverse.problem import InverseProblem, Seen
from pbpk.inverse.reparameterise import hold, join
from pbpk.inverse.structural import KINDS, Structure, combine, structure

if TYPE_CHECKING:
    import pandas as pd

OPEN = 1.0
"""The coefficient of variation above which a parameter is open."""
TOLD = 0.3
"""The coefficient of variation below which a combination of open parameters is told by the data."""
_SHARE = 0.1  # of a direction: what contributes less is not named


@dataclass(frozen=True)
class Combination:
    """A combination of two unknowns that the data tell although they do not tell the two.

    Attributes:
        kind: ``"+"``, ``"*"`` or ``"/"``.
        names: The two.
        cv: Its coefficient of variation [1]; 0 where only the structure is known.
    """

    kind: str
    names: tuple[str, str]
    cv: float

    def __str__(self) -> str:
        """Returns the combination as it is named in results."""
        return f"{self.names[0]} {self.kind} {self.names[1]}"


@dataclass(frozen=True)
class Identifiability:
    r"""What a design tells about the unknowns.

    Attributes:
        problem: The problem.
        theta: The point, with shape :math:`(K)`.
        structure: What perfect data would tell.
        cv: The Cramer-Rao coefficients of variation [1], with shape :math:`(K)`; infinite if blind.
        spectrum: The eigenvalues of the Fisher information, ascending, with shape :math:`(K)`.
        directions: Its eigenvectors as columns, with shape :math:`(K, K)`.
        combinations: What is told of the open parameters all the same, best first.
    """

    problem: InverseProblem
    theta: Tensor
    structure: Structure
    cv: Tensor
    spectrum: Tensor
    directions: Tensor
    combinations: tuple[Combination, ...]

    @property
    def open(self) -> tuple[str, ...]:
        """The unknowns that this design does not tell, structurally or at this point."""
        blind = [name for name, cv in zip(self.problem.names, self.cv.tolist(), strict=True) if not cv < OPEN]
        return tuple(name for name in self.problem.names if name in blind or name in self.structure.open)

    @property
    def identifiable(self) -> bool:
        """Whether no unknown is open."""
        return not self.open

    def sentences(self) -> list[str]:
        """Returns the verdict in words."""
        unsure = "The model is integrated: whether perfect data would tell all was not determined."
        said = [] if self.structure.determined else [unsure]
        if self.identifiable:
            worst = int(self.cv.argmax())
            return [
                f"All {self.problem.K} parameters are identifiable; {self.problem.names[worst]} is known "
                f"worst ({_percent(float(self.cv[worst]))} CV).",
                *said,
            ]
        if self.structure.open:
            said.append(f"Even perfect data would not tell {_listed(self.structure.open)}.")
        practical = [name for name in self.open if name not in self.structure.open]
        if practical:
            cvs = dict(zip(self.problem.names, self.cv.tolist(), strict=True))
            with_cv = [f"{name} ({_percent(cvs[name])} CV)" for name in practical]
            said.append(f"These samples do not tell {_listed(with_cv)}.")
        if self.combinations:
            told = [f"{c} ({_percent(c.cv)} CV)" if c.cv else str(c) for c in self._best()]
            said.append(
                f"Of the open ones only {_listed(told)} {'is' if len(told) == 1 else 'are'} identifiable."
            )
        said.append(f"Blind direction: {self.direction(0)}.")
        return said

    def _best(self) -> list[Combination]:
        """Returns, best first, combinations of which none shares both parameters with a better one."""
        kept: list[Combination] = []
        for candidate in self.combinations:
            if all(set(candidate.names) != set(other.names) for other in kept):
                kept.append(candidate)
        return kept[:3]

    def direction(self, number: int) -> str:
        """Returns an eigenvector in words, the most blind first: which parameters move together."""
        vector = self.directions[:, number]
        largest = vector[vector.abs().argmax()]
        parts = [
            f"{name} {'up' if value > 0 else 'down'}{'' if abs(value) > 0.5 else ' a little'}"
            for name, value in zip(self.problem.names, (vector / largest).tolist(), strict=True)
            if abs(value) > _SHARE
        ]
        return ", ".join(parts)

    def _structural(self, name: str) -> str:
        if not self.structure.determined:
            return "unknown"
        return "no" if name in self.structure.open else "yes"

    def frame(self) -> pd.DataFrame:
        """Returns one row a parameter: structural verdict, CV, verdict, and what is told instead."""
        import pandas as pd

        rows = []
        for name, cv in zip(self.problem.names, self.cv.tolist(), strict=True):
            instead = next((c for c in self.combinations if name in c.names), None)
            is_open = name in self.open
            rows.append(
                {
                    "ID": self.problem.name,
                    "parameter": name,
                    "structural": self._structural(name),
                    "cv_percent": 100.0 * cv,
                    "verdict": "open" if is_open else "identifiable",
                    "instead": str(instead) if is_open and instead else "",
                }
            )
        return pd.DataFrame(rows)


def identify(
    problem: InverseProblem, theta: Tensor | None = None, seed: int = 0, told: Structure | None = None
) -> Identifiability:
    """Tells what a design can tell about the unknowns.

    Arguments:
        problem: The problem; the values of its observations are not used, only when and where they are.
        theta: The point at which information is computed, with shape :math:`(K)`; the unknowns' starts by
            default, or the middle of the box.
        seed: Of the random point of the structural analysis.
        told: The structure, if it is known already; it is the same at every theta and for every person of one
            design.

    >>> from pbpk.inverse import load_problem
    >>> print(identify(load_problem("one-compartment").problem()).sentences()[0])
    All 2 parameters are identifiable; V1 is known worst (2.6 % CV).
    """
    theta = starting(problem) if theta is None else theta.detach()
    told = structure(problem, seed) if told is None else told
    f, J = (torch.from_numpy(part) for part in slopes.predict(problem, theta.numpy()))
    rows = problem.rows_of(f, J)
    priors = [u.sd**-1 if u.sd is not None else 0.0 for u in problem.unknowns]
    rows = torch.cat([rows, torch.diag(torch.tensor(priors, dtype=rows.dtype))])
    _, singular, V = torch.linalg.svd(rows, full_matrices=False)
    root = V.mT / singular.clamp(min=1e-200)  # covariance = root root^T
    relative = _relative(problem, theta)
    cv = relative * root.norm(dim=-1)
    found = _combinations(problem, theta, root, cv, told)
    return Identifiability(
        problem, theta, told, cv, singular.flip(0) ** 2, V.flip(0).mT.contiguous(), tuple(found)
    )


def starting(problem: InverseProblem) -> Tensor:
    """Returns the unknowns' starts as free coordinates (K); the middle of the box where there is none."""
    low, high = problem.box
    middle = problem.values((low + high) / 2).tolist()
    starts = [m if u.start is None else u.start for u, m in zip(problem.unknowns, middle, strict=True)]
    return problem.theta(torch.tensor(starts, dtype=torch.float64))


def _relative(problem: InverseProblem, theta: Tensor) -> Tensor:
    """Returns by which factor an error of theta becomes a relative one of the parameter, with shape (K)."""
    values = problem.values(theta)
    slope = [
        u.slope(v) / v if v else math.inf for u, v in zip(problem.unknowns, values.tolist(), strict=True)
    ]
    return torch.tensor(slope, dtype=torch.float64).abs()


def _combinations(
    problem: InverseProblem, theta: Tensor, root: Tensor, cv: Tensor, told: Structure
) -> list[Combination]:
    """Returns the combinations of two open parameters that are told, best first."""
    is_open = [k for k in range(problem.K) if problem.names[k] in told.open or not float(cv[k]) < OPEN]
    values, relative = problem.values(theta), _relative(problem, theta)
    found = []
    for i, j in combinations(is_open, 2):
        names = (problem.names[i], problem.names[j])
        if (problem.model.parameters[names[0]]) == (problem.model.parameters[names[1]]):
            kinds: tuple[str, ...] = KINDS
        else:
            kinds = KINDS[1:]
        for kind in kinds:
            gradient = torch.zeros_like(theta)
            if kind == "+":
                gradient[i], gradient[j] = values[i], values[j]
                gradient = gradient / (values[i] + values[j])
            else:
                gradient[i], gradient[j] = 1.0, 1.0 if kind == "*" else -1.0
            spread = float(((gradient * relative) @ root).norm())
            if spread < TOLD and spread < 0.5 * float(torch.minimum(cv[i], cv[j])):
                exact = (kind, names) in told.combinations
                found.append(Combination(kind, names, 0.0 if exact else spread))
    return sorted(found, key=lambda c: c.cv)


@dataclass(frozen=True)
class Gate:
    """A problem that the data can answer, and what was done to make it one.

    Attributes:
        problem: The problem to fit.
        refused: The unknowns that are not estimated.
        held: Those of them that are held at a value.
        joined: The combinations that are estimated instead.
        messages: What was done, in words.
    """

    problem: InverseProblem
    refused: tuple[str, ...] = ()
    held: dict[str, float] = dataclasses.field(default_factory=dict)
    joined: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()


def gate(problem: InverseProblem, theta: Tensor | None = None) -> Gate:
    """Makes a problem that the data can answer: joins open parameters where possible, holds others.

    Arguments:
        problem: The problem.
        theta: Where information is computed and parameters are held, with shape :math:`(K)`; the starts by
            default.

    Raises:
        ValueError: If nothing is left to estimate.
    """
    point = starting(problem) if theta is None else theta.detach()
    values = dict(zip(problem.names, problem.values(point).tolist(), strict=True))
    now = Gate(problem)
    while True:
        verdict = identify(now.problem, point)
        if verdict.identifiable:
            return now
        now, values = _narrowed(now, verdict, values)
        if not now.problem.K:
            raise ValueError(
                "the observations must tell at least one parameter, but tell none of "
                f"{_listed(problem.names)}. See more compartments or times; pbpk identify says which do."
            )
        point = now.problem.theta(values)


def _narrowed(now: Gate, verdict: Identifiability, values: dict[str, float]) -> tuple[Gate, dict[str, float]]:
    """Joins the best combination, or holds the parameter that is told least."""
    problem = now.problem
    if verdict.combinations:
        best = verdict.combinations[0]
        whole = combine(best.kind, values[best.names[0]], values[best.names[1]])
        said = f"{best.names[0]} and {best.names[1]} cannot be told apart; only {best} is estimated."
        narrowed = Gate(
            join(problem, best.kind, best.names, values),
            (*now.refused, *best.names),
            now.held,
            (*now.joined, str(best)),
            (*now.messages, said),
        )
        return narrowed, {**values, str(best): whole}
    worst = max(verdict.open, key=lambda name: float(verdict.cv[problem.names.index(name)]))
    said = f"{worst} cannot be told; it is held at {values[worst]:.4g} and not reported."
    held = {worst: values[worst]}
    narrowed = Gate(
        hold(problem, held),
        (*now.refused, worst),
        {**now.held, **held},
        now.joined,
        (*now.messages, said),
    )
    return narrowed, values


def advice(problem: InverseProblem, theta: Tensor | None = None) -> pd.DataFrame:
    """Tries which further samples would tell the open parameters.

    Each compartment not seen yet, alone and in pairs, is seen at the same times; and what is seen now is seen
    three times as often; and each open parameter is known from elsewhere.

    Arguments:
        problem: The problem.
        theta: The point, as in :func:`identify`.

    Returns:
        One row an idea: what to add, which parameters stay open, and the worst CV [%]; the best first.
    """
    import pandas as pd

    point = starting(problem) if theta is None else theta.detach()
    times = sorted(set(problem.seen.time.tolist()))
    seen = list(dict.fromkeys(problem.seen.compartment))
    more = [name for name in problem.model.compartments if name not in seen]
    ideas = [(f"see {_listed(extra)}", Seen.design(times, [*seen, *extra])) for extra in _subsets(more)]
    if times[-1] > 0:
        ideas.append(("three times as many samples", Seen.design(_between(times), seen)))
    rows = []
    for what, design in ideas:
        rows.append(_idea(what, identify(problem.replace(seen=design), point)))
    if problem.K > 1:
        values = dict(zip(problem.names, problem.values(point).tolist(), strict=True))
        for name in identify(problem, point).open:
            known = hold(problem, {name: values[name]})
            rows.append(_idea(f"know {name}", identify(known, known.theta(values))))
    frame = pd.DataFrame(rows, columns=["idea", "open", "worst_cv_percent"])
    order = frame["open"].str.len() > 0
    return frame.assign(_order=order).sort_values(["_order", "worst_cv_percent"]).drop(columns="_order")


def _idea(what: str, verdict: Identifiability) -> tuple[str, str, float]:
    return what, ", ".join(verdict.open), 100.0 * float(verdict.cv.max())


def _subsets(names: list[str]) -> list[tuple[str, ...]]:
    return [subset for size in (1, 2) for subset in combinations(names, size)]


def _between(times: list[float]) -> list[float]:
    """Returns the times with two more in each interval, the first of which begins at 0."""
    ends = [0.0, *[t for t in times if t > 0]]
    return [a + (b - a) * part for a, b in pairwise(ends) for part in (1 / 3, 2 / 3, 1.0)]


def _percent(share: float) -> str:
    value = 100.0 * share
    return "over 1e6 %" if not value < 1e6 else f"{value:,.0f} %" if value >= 10 else f"{value:.2g} %"


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
