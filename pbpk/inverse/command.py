"""What ``pbpk fit`` and ``pbpk identify`` do."""

from __future__ import annotations

import datetime
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from pbpk.checks import choose
from pbpk.files import check_folder, write_folder
from pbpk.inverse import people
from pbpk.inverse.identify import advice, identify
from pbpk.inverse.library import Recipe, load_problem
from pbpk.inverse.nonmem import read_nonmem
from pbpk.inverse.problem import InverseProblem
from pbpk.inverse.report import page, verdict_text
from pbpk.inverse.solve import METHODS
from pbpk.io import load_cohort, save_cohort
from pbpk.physiology import Cohort, Physiology
from pbpk.progress import bar
from pbpk.units import factor

ALIASES = {"brain": ("brain_mass",), "csf": ("cranial_csf", "spinal_csf"), "blood": ("brain_blood",)}
"""What ``--observe`` may say of the brain model for short."""

_MESSAGES = 12  # shown at most


def fit(
    problem: str,
    data: str,
    methods: str,
    folder: Path,
    *,
    seed: int = 0,
    unit: str = "mg/L",
    cohort: str = "",
) -> int:
    """Fits everyone of a data set and writes the folder; returns 1 if a fit did not converge.

    Arguments:
        problem: A bundled problem, or a TOML file.
        data: The data set in NONMEM's columns.
        methods: Methods by name, separated by commas.
        folder: The folder to write.
        seed: Of whatever the methods draw.
        unit: The unit of DV.
        cohort: A cohort file with the bodies; "" makes them from the covariates.
    """
    recipe = load_problem(problem)
    chosen = [choose("--method", name.strip(), METHODS) for name in methods.split(",")]
    persons = read_nonmem(data, recipe.cmt, factor(unit, "mg/L"), not recipe.driven, recipe.default)
    _check_output(folder)
    if cohort:
        recipe.check_bodies()
    bodies = load_cohort(cohort) if cohort else None
    asked = people.problems(recipe, persons, bodies)
    with bar("people", len(asked)) as progress:
        found = people.answers(asked, chosen, seed=seed, progress=progress)
    laws = people.fitted_cohort(found) if recipe.model == "whole-body" else None
    said = _violations(laws) if laws is not None else ""
    first = found[0]
    idea = None if first.before.identifiable else advice(first.problem)
    said_of = [(one.id, message) for one in persons for message in one.messages]
    said_of += [(one.problem.name, message) for one in found for message in one.messages]
    said_of += _of_methods(found)
    messages = _gathered(said_of, len(persons))
    made = _provenance(
        {"problem": recipe.name, "data": Path(data).name, "methods": ", ".join(chosen), "seed": seed}
    )
    with write_folder(folder) as partial:
        people.estimates(found).to_csv(partial / "estimates.csv", index=False)
        people.measures(found, seed).to_csv(partial / "metrics.csv", index=False)
        people.identifiability(found).to_csv(partial / "identifiability.csv", index=False)
        people.methods_table(found).to_csv(partial / "methods.csv", index=False)
        if laws is not None:
            save_cohort(laws, partial / "cohort.csv")
        text = page(f"{recipe.name}: {Path(data).name}", found, made, idea, said, messages)
        (partial / "report.html").write_text(text, encoding="utf-8")
    _say(found, messages, said)
    return int(not all(one.result.converged for one in found))


def _check_output(folder: Path) -> None:
    if folder.is_file():
        raise ValueError(f"-o must name a folder to write, but {folder} is a file. Choose another name.")
    check_folder(folder)


def _of_methods(found: Sequence[people.Answer]) -> list[tuple[str, str]]:
    """Returns who hears what of the methods besides least squares; of many people what several hear."""
    results = [(one.problem.name, result) for one in found for result in one.results.values()]
    said = [(name, text) for name, result in results if result.method != "lsq" for text in result.messages]
    heard = Counter(text for _, text in said)
    return [(name, text) for name, text in said if len(found) == 1 or heard[text] > 1]


def _provenance(arguments: Mapping[str, object]) -> dict[str, str]:
    """Returns how a fit was made: the command, the versions and the settings."""
    versions = f"vpop {metadata.version('vpop')}, torch {metadata.version('torch')}"
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": f"{versions}, Python {platform.python_version()}",
        **{key: str(value) for key, value in arguments.items()},
    }


def _violations(cohort: Cohort) -> str:
    from pbpk.laws import violations

    report = violations(cohort)
    return f"{100 * report.rate:.3g} % of the {len(cohort):,} fitted bodies break a law.\n{report.text()}"


def _gathered(said: Sequence[tuple[str, str]], people_count: int) -> list[str]:
    """Returns each message once, with the people it concerns where there are several."""
    whose: dict[str, list[str]] = {}
    for person, message in said:
        whose.setdefault(message, []).append(person)
    if people_count == 1:
        return list(whose)
    lines = []
    for message, names in list(whose.items())[:_MESSAGES]:
        who = f"Person {names[0]}" if len(names) == 1 else f"{len(names):,} people"
        lines.append(f"{who}: {message}")
    return lines


def _say(found: Sequence[people.Answer], messages: Sequence[str], violations: str) -> None:
    table = people.estimates(found)
    if len(found) > 1:
        groups = table.groupby("parameter", sort=False)["estimate"]
        table = (
            groups.quantile([0.05, 0.5, 0.95]).unstack().set_axis(["p5", "p50", "p95"], axis=1).reset_index()
        )
    print(table.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4g}"))
    for one in found[:1]:
        for sentence in one.before.sentences():
            print(sentence)
    for message in messages:
        print(message)
    failed = [one.problem.name for one in found if not one.result.converged]
    if failed:
        print(f"not converged: {len(failed)} of {len(found)}, the first is {failed[0]!r}")
    if violations:
        print(violations.splitlines()[0])


def tell(problem: str, observe: str, times: str, folder: Path | None) -> int:
    """Prints what a design tells, and which samples would tell the rest; returns 0.

    Arguments:
        problem: A bundled problem, or a TOML file.
        observe: Compartments, separated by commas; "" is the problem's own.
        times: Times [h], separated by commas; "" is the problem's own.
        folder: Where to write identifiability.csv and advice.csv, or None.
    """
    if folder:
        _check_output(folder)
    asked = design(load_problem(problem), observe, times)
    verdict = identify(asked)
    idea = None if verdict.identifiable else advice(asked)
    if folder:
        with write_folder(folder) as partial:
            verdict.frame().to_csv(partial / "identifiability.csv", index=False)
            if idea is not None:
                idea.to_csv(partial / "advice.csv", index=False)
    print(verdict_text(verdict, idea))
    return 0


def design(recipe: Recipe, observe: str, times: str, body: Physiology | None = None) -> InverseProblem:
    """Returns a recipe's problem with other compartments and times, as the command line names them.

    Arguments:
        recipe: The recipe.
        observe: Compartments, separated by commas; "" is the recipe's own.
        times: Times [h], separated by commas; "" is the recipe's own.
        body: The body, for the whole body.
    """
    known = recipe.problem().model.compartments
    where: list[str] = []
    for name in (part.strip() for part in observe.split(",") if part.strip()):
        short = ALIASES.get(name, ()) if name not in known else ()
        where += short if short and set(short) <= set(known) else [choose("--observe", name, known)]
    when = tuple(_time(part) for part in times.split(",")) if times else None
    return recipe.problem(body=body, observe=tuple(dict.fromkeys(where)) or None, times=when)


def _time(text: str) -> float:
    try:
        time = float(text)
    except ValueError:
        time = -1.0
    if not 0 <= time < 1e6:
        raise ValueError(
            f"--times must be hours of 0 or more, separated by commas, but has {text.strip()!r}."
        )
    return time
