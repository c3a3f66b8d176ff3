"""Data sets to try a fit on: people drawn about a recipe's truth, and noisy observations of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pbpk.checks import choose
from pbpk.files import check_writable, write_whole
from pbpk.inverse.command import design
from pbpk.inverse.library import Recipe, load_problem
from pbpk.inverse.problem import InverseProblem
from pbpk.io import load_cohort

_SPREAD_LIMIT = 3.0  # of the logarithm: wider is no population


def sample(
    problem: str,
    file: Path,
    *,
    people: int = 1,
    spread: float = 0.0,
    limit: float = 0.0,
    seed: int = 0,
    observe: str = "",
    times: str = "",
    cohort: str = "",
) -> int:
    """Draws a data set of a problem's design: each person's parameters, then noisy observations; returns 0.

    Arguments:
        problem: A bundled problem, or a TOML file.
        file: The CSV to write; the parameters go beside it, as ``*-truth.csv``.
        people: How many people, where there is no cohort.
        spread: The standard deviation of each parameter's logarithm over the people; 0 gives all the truth.
        limit: The limit of quantification [mg/L]; 0 is none.
        seed: Of the draws.
        observe: As in :func:`pbpk.inverse.command.design`.
        times: As there.
        cohort: A cohort file with the people's bodies, for the whole body; "" draws none.
    """
    if people < 1:
        raise ValueError(f"--people must be at least 1, but is {people}.")
    if not 0 <= spread <= _SPREAD_LIMIT:
        raise ValueError(f"--spread must lie in [0, {_SPREAD_LIMIT:g}], but is {spread:g}. 0.3 is 30 %.")
    if not 0 <= limit < float("inf"):
        raise ValueError(f"--limit must be 0 or more [mg/L], but is {limit:g}.")
    if cohort and people > 1:
        raise ValueError(
            "--people must not stand beside --cohort, which says who they are, but is {people}. Leave it out."
        )
    choose("the suffix of -o", file.suffix.lower(), [".csv"])
    beside = file.with_name(f"{file.stem}-truth.csv")
    check_writable(file)
    check_writable(beside)
    recipe = load_problem(problem)
    generator = torch.Generator().manual_seed(seed)
    rows, truth = [], []
    for name, asked in _designs(recipe, people, observe, times, cohort):
        theta = asked.theta(recipe.true_values(asked))
        theta = theta + spread * torch.randn(asked.K, generator=generator, dtype=torch.float64)
        low, high = asked.box
        theta = torch.minimum(torch.maximum(theta, low), high)
        rows.append(data_frame(asked.simulated(theta, generator, limit), name))
        truth.append({"ID": name, **dict(zip(asked.names, asked.values(theta).tolist(), strict=True))})
    for path, table in ((file, pd.concat(rows, ignore_index=True)), (beside, pd.DataFrame(truth))):
        with write_whole(path) as partial:
            table.to_csv(partial, index=False)
    print(f"{file}: {len(rows):,} people, {len(rows[0]):,} rows each; the truth is in {beside.name}")
    return 0


def _designs(
    recipe: Recipe, people: int, observe: str, times: str, cohort: str
) -> Iterator[tuple[str, InverseProblem]]:
    """Yields each person's name and problem."""
    if not cohort:
        asked = design(recipe, observe, times)
        yield from ((str(number), asked) for number in range(1, people + 1))
        return
    recipe.check_bodies()
    bodies = load_cohort(cohort)
    for number, name in enumerate(bodies.id):
        yield str(name), design(recipe, observe, times, bodies.physiology[number])


def data_frame(problem: InverseProblem, person: str) -> pd.DataFrame:
    """Returns a problem's doses and observations in NONMEM's columns, in order of time."""
    doses = pd.DataFrame(
        [
            {
                "TIME": dose.time,
                "DV": 0.0,
                "AMT": dose.amount,
                "RATE": dose.amount / dose.duration if dose.duration else 0.0,
                "EVID": 1,
                "CMT": dose.compartment,
                "BLQ": 0,
                "LLOQ": 0.0,
            }
            for dose in problem.given
        ]
    )
    seen = problem.seen
    below = seen.limit.numpy() > 0
    observations = pd.DataFrame(
        {
            "TIME": seen.time.numpy(),
            "DV": np.where(below, seen.limit.numpy(), seen.value.numpy()),
            "AMT": 0.0,
            "RATE": 0.0,
            "EVID": 0,
            "CMT": list(seen.compartment),
            "BLQ": below.astype(int),
            "LLOQ": seen.limit.numpy(),
        }
    )
    table = pd.concat([doses, observations], ignore_index=True) if len(doses) else observations
    table = table.sort_values(["TIME", "EVID"], ascending=[True, False], kind="stable")
    table.insert(0, "ID", person)
    return table
