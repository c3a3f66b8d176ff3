"""Many people: each is fitted, the fits are gathered into tables, and bodies into a cohort."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pbpk.inverse.crowd import stacked
from pbpk.inverse.identify import Gate
from pbpk.inverse.library import Recipe
from pbpk.inverse.metrics import metrics
from pbpk.inverse.nonmem import Person
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.result import FitResult
from pbpk.inverse.simulated import SimulatedBody
from pbpk.inverse.solve import Answer, answer, module
from pbpk.inverse.whole_body import WholeBody
from pbpk.physiology import Cohort, Physiology

if TYPE_CHECKING:
    import pandas as pd

ESTIMATES: tuple[str, ...] = ("ID", "parameter", "estimate", "lower", "upper", "rse")
Progress = Callable[[int, int], None]
_LOOKED_AT = 20  # people of a design that are fitted by least squares, too, beside a method for many


def problems(recipe: Recipe, people: Sequence[Person], cohort: Cohort | None = None) -> list[InverseProblem]:
    """Returns one problem a person.

    Arguments:
        recipe: What is known and what is not.
        people: What each was given and what was seen.
        cohort: Their bodies by id, for the whole body; made from the covariates by default.

    Raises:
        ValueError: If a person has no body in the cohort.
    """
    bodies: dict[str, Physiology | None] = {}
    if cohort is not None:
        position = {str(name): k for k, name in enumerate(cohort.id)}
        for person in people:
            if person.id not in position:
                raise ValueError(
                    f"--cohort must hold a body of each person, but has none of {person.id!r}. "
                    "Use the same ids."
                )
            bodies[person.id] = cohort.physiology[position[person.id]]
    return [recipe.problem(person, bodies.get(person.id)) for person in people]


def answers(
    asked: Sequence[InverseProblem],
    methods: Sequence[str],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Answer]:
    """Answers each problem; a method that fits many at once is called once for all.

    Where every method does, and there are many people, only the first of each design are looked at one by one
    and fitted by least squares, too; if all their parameters can be told, the others' are taken to be.

    Arguments:
        asked: The problems.
        methods: Some of :data:`pbpk.inverse.solve.METHODS`.
        seed: Of whatever the methods draw.
        progress: Called with (persons done, persons in all).
    """
    together = [m for m in methods if m != "lsq" and len(asked) > 1 and hasattr(module(m), "fit_many")]
    alone = [m for m in methods if m not in together] or ["lsq"]
    few = _LOOKED_AT if len(together) == len(methods) else len(asked)
    looked: dict[tuple[Any, ...], list[Answer]] = {}
    found: list[Answer | None] = []
    for number, problem in enumerate(asked):
        others = looked.setdefault(_design(problem), [])
        if len(others) >= few and not any(one.gate.refused for one in others):
            found.append(None)
        else:
            told = others[0].before.structure if others else None
            others.append(answer(problem, alone, seed=seed, told=told))
            found.append(others[-1])
        if progress:
            progress(number + 1, len(asked))
    fits = _together(asked, found, together, seed)
    return [
        _gathered(problem, one, {m: fits[m][k] for m in together}, looked[_design(problem)][0], methods)
        for k, (problem, one) in enumerate(zip(asked, found, strict=True))
    ]


def _together(
    asked: Sequence[InverseProblem], found: Sequence[Answer | None], methods: Sequence[str], seed: int
) -> dict[str, list[FitResult]]:
    """Returns the fits of the methods that fit many at once, by method, in the order of the problems."""
    fitted = [one.fitted if one else problem for problem, one in zip(asked, found, strict=True)]
    return {method: module(method).fit_many(fitted, seed=seed) for method in methods}


def _gathered(
    problem: InverseProblem,
    one: Answer | None,
    fits: Mapping[str, FitResult],
    like: Answer,
    methods: Sequence[str],
) -> Answer:
    """Returns the answer with all methods in order; who was not looked at has the verdict of one like it."""
    results = {**(one.results if one else {}), **fits}
    ordered = {method: results[method] for method in methods}
    if one is not None:
        return Answer(one.problem, one.before, one.gate, one.reference, ordered, one.messages)
    before = dataclasses.replace(like.before, problem=problem)
    return Answer(problem, before, Gate(problem), ordered[methods[0]], ordered)


def _design(problem: InverseProblem) -> tuple[Any, ...]:
    """Returns what decides the structure: the model, the unknowns, and what is seen of which doses."""
    doses = tuple((dose.time, dose.duration, dose.compartment) for dose in problem.given)
    return (problem.model.name, problem.names, frozenset(problem.seen.compartment), doses)


def estimates(found: Sequence[Answer], method: str | None = None) -> pd.DataFrame:
    """Returns the estimates of everyone; a parameter that cannot be told has none."""
    import pandas as pd

    frames = []
    for one in found:
        table = (one.results[method] if method else one.result).frame()
        blank = [{"ID": one.problem.name, "parameter": name} for name in one.gate.refused]
        blank = [row for row in blank if row["parameter"] in one.problem.names]
        frames.append(pd.concat([table, pd.DataFrame(blank)], ignore_index=True) if blank else table)
    return pd.concat(frames, ignore_index=True)[list(ESTIMATES)]


def measures(found: Sequence[Answer], seed: int = 0) -> pd.DataFrame:
    """Returns the metrics of everyone's compartments, see :func:`pbpk.inverse.metrics.metrics`."""
    import pandas as pd

    return pd.concat([metrics(one.result, seed) for one in found], ignore_index=True)


def identifiability(found: Sequence[Answer]) -> pd.DataFrame:
    """Returns the verdict on everyone's unknowns before the fit, and what was done with each."""
    import pandas as pd

    frames = []
    for one in found:
        table = one.before.frame()
        held, joined = one.gate.held, one.gate.joined
        done = []
        for name in table["parameter"]:
            whole = next((j for j in joined if name in j.split(" ")), "")
            is_held = f"held at {held.get(name, 0.0):.4g}"
            done.append(f"in {whole}" if whole else is_held if name in held else "estimated")
        frames.append(table.assign(done=done))
    return pd.concat(frames, ignore_index=True)


def methods_table(found: Sequence[Answer]) -> pd.DataFrame:
    """Returns all methods side by side: deviance, distance to least squares, convergence, seconds."""
    import pandas as pd

    rows = []
    for one in found:
        for name, result in one.all_results.items():
            by_lsq = one.reference.method == "lsq"  # else there is nothing to hold it against
            apart = result.distance(one.reference) if by_lsq else {"cost": math.nan, "parameters": math.nan}
            rows.append(
                {
                    "ID": one.problem.name,
                    "method": name,
                    "deviance": result.cost,
                    "above_lsq": apart["cost"],
                    "from_lsq_se": apart["parameters"],
                    "converged": "yes" if result.converged else "no",
                    "starts": f"{result.starts_converged}/{result.starts}",
                    "seconds": result.seconds,
                }
            )
    return pd.DataFrame(rows)


def fitted_cohort(found: Sequence[Answer]) -> Cohort | None:
    """Returns the bodies that were fitted, None where the model has none; the estimates are in provenance."""
    models = [one.problem.model for one in found]
    whole = [model for model in models if isinstance(model, WholeBody | SimulatedBody)]
    if len(whole) < len(models):
        return None
    ids = np.array([one.problem.name for one in found], dtype=object)
    provenance = {"generator": "pbpk fit", "compound": whole[0].compound.name}
    return Cohort(stacked([model.physiology for model in whole]), ids, provenance)
