"""Are people who meet a rare request found sooner, and are they those whom drawing everybody finds?

Question: what do 1,000 people of a rare request cost, drawn one and all and searched for (:mod:`vpop.rare`);
of those whom drawing everybody finds, how many does the search lose; and does a sample that was searched for
look like one that was not?
Source: the shipped weights.
Command: OMP_NUM_THREADS=1 python -m experiments.rare_requests [--chunks 100] [--no-student]
Measured for each request: CPU seconds of ``PCDM.sample(1000)``, and of drawing everybody, from the time and
the yield of ``chunks`` chunks of 2,048 people who are drawn one and all (half as many where ages are narrow);
who of the same chunks is found by the search; and the 1,000 of another seed against everybody who qualifies:
how often the largest KS of any column is exceeded when people are dealt anew to both samples (200 deals), and
tree C2ST on all columns.
Bars: none lost, 10 times sooner.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from experiments import record
from pbpk.physiology import Physiology
from vpop.demographics import OLDEST
from vpop.drawing import Drawing
from vpop.pcdm import PCDM
from vpop.rare import Search
from vpop.request import Request, body_table
from vpop.sample import STEPS
from vpop.two_sample import c2st

NAME = "rare_requests"
WHOLE, CHILD, OLD = (0.0, OLDEST), (0.0, 12.0), (65.0, OLDEST)
REQUESTS = {
    WHOLE: ("BMI >= 45", "M_liver > 2.6", "HCT < 0.30", "SCR > 2", "eGFR < 30", "height > 195"),
    CHILD: ("BMI >= 35",),
    OLD: ("eGFR < 30",),
}
_DEALS = 200


@dataclass(frozen=True)
class Config:
    """The flags."""

    chunks: int = 100
    n: int = 1000
    seed: int = 0
    student: bool = True


def within(model: PCDM, request: Request, chunks: int, seed: int) -> Physiology:
    """Returns the people whom a search finds in the first chunks, or some more."""
    search = Search(Drawing(model, request, STEPS), seed)
    found = []
    for bodies in search:
        found.append(bodies)
        if search.chunks >= chunks:
            break
    tensors = {name: torch.cat([getattr(body, name) for body in found]) for name in found[0].tensors()}
    return Physiology("human", **tensors)


def numbers(*samples: Physiology) -> list[np.ndarray]:
    """Returns of each sample the columns that are numbers, known of everyone and vary: shape (n, columns)."""
    tables = [body_table(bodies) for bodies in samples]
    known = [name for name in tables[0] if all(_varies(table[name]) for table in tables)]
    return [np.stack([table[name] for name in known], 1) for table in tables]


def _varies(column: np.ndarray) -> bool:
    return column.dtype.kind == "f" and bool(np.isfinite(column).all()) and column.std() > 0


def largest_KS(ranked: np.ndarray, first: np.ndarray) -> float:
    """Returns the largest KS of any column; ``ranked`` holds its rows in the column's order."""
    share = np.where(first[ranked], 1.0 / first.sum(), -1.0 / (~first).sum())
    return float(np.abs(share.cumsum(0)).max())


def alike(everybody: np.ndarray, sought: np.ndarray, seed: int) -> dict[str, Any]:
    """Says whether two samples could be of the same people."""
    ranked = np.concatenate([everybody, sought]).argsort(0)
    first = np.arange(len(ranked)) < len(everybody)
    random = np.random.default_rng(seed)
    KS = largest_KS(ranked, first)
    dealt = [largest_KS(ranked, random.permutation(first)) for _ in range(_DEALS)]
    found = c2st(everybody, sought, seed=seed)
    return {
        "largest_KS": KS,
        "dealt_exceeds": float(np.mean(np.array(dealt) >= KS)),
        "C2ST": found.value,
        "C2ST_95": [found.low, found.high],
    }


def run(config: Config) -> dict[str, Any]:
    """Measures every request."""
    model = PCDM.load()
    if not config.student:
        model.student = None
    model.sample(100)
    result: dict[str, Any] = {}
    for age, wheres in REQUESTS.items():
        chunks = config.chunks if age == WHOLE else config.chunks // 2
        start = time.process_time()
        everyone = within(model, Request.make(age, None, None, None), chunks, config.seed)
        cost = time.process_time() - start
        for where in wheres:
            name = where if age == WHOLE else f"{age[0]:g} <= age <= {age[1]:g} and {where}"
            request = Request.make(age, None, where, None)
            qualify = everyone[torch.from_numpy(request.holds(everyone))]
            start = time.process_time()
            sought = model.sample(config.n, config.seed + 1, age=age, where=where)
            seconds = time.process_time() - start
            same = within(model, request, chunks, config.seed)
            before = cost * config.n / len(qualify.BW)
            result[name] = {
                "one_in": len(everyone.BW) / len(qualify.BW),
                "seconds_everybody": before,
                "seconds": seconds,
                "times_sooner": before / seconds,
                "found_by_drawing_everybody": len(qualify.BW),
                "lost": int((~torch.isin(qualify.age, same.age)).sum()),
                "screened": sought.provenance.get("screened", "no"),
                **alike(*numbers(qualify, sought.physiology), config.seed),
            }
            print(name, result[name], flush=True)
    return result


if __name__ == "__main__":
    record.main(NAME, Config, run, __doc__)
