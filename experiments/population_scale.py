"""What do a million whole-body simulations cost, from drawing the people to the table and the quantiles?

Question: how long does ``pbpk population pcdm midazolam`` take for 7 days of 14 doses, how much memory do all
of its processes hold together, how many bytes a body stays on disk, which stage takes how long, how close are
the sketch's quantiles to the exact ones, and how do time and memory grow with the number of bodies?
Source: the shipped people and the bundled midazolam.
Command: OMP_NUM_THREADS=1 python -m experiments.population_scale [--n 1000000] [--workers 2]
Measured: stages as CPU time of one part in one process, best of ``rounds``; the command as a process of its
own, its memory as the proportional set size of it and its children, sampled every half second (shared pages
are counted once). The exact quantiles are those of the profiles of 50,000 bodies.
Bars: 5 minutes on two cores for 1,000,000 people (stretch 1 minute), 2 GB (stretch 1 GB).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments import record
from pbpk import parts, people, rows
from pbpk.compound import Compound
from pbpk.parts import PART, Request
from pbpk.population_result import Population

DOSE, HOURS = "7.5 mg po q12h x14", 168.0


@dataclass(frozen=True)
class Config:
    """The flags."""

    n: int = 1_000_000
    workers: int = 2
    rounds: int = 3
    exact: int = 50_000  # bodies of whom the profiles are kept, to compare the sketch with
    growth: bool = True  # also at a tenth and a hundredth of n


def request(n: int) -> Request:
    """Returns the request that the command makes."""
    return Request(
        people.find("pcdm"), n, 0, Compound.load("midazolam"), DOSE, HOURS, 100, ("plasma",),
        "whole-body", "observed", "rodgers-rowland", False,
    )  # fmt: skip


def stages(rounds: int) -> dict[str, float]:
    """Returns the CPU time of each stage of one part, microseconds a body."""
    asked = request(PART)
    work = parts.Work(asked, Path(), "")
    cost: dict[str, float] = {}

    def best(name: str, stage: Callable[[], Any]) -> Any:
        taken = []
        for _ in range(rounds):
            start = time.process_time()
            found = stage()
            taken.append(time.process_time() - start)
        cost[name] = round(min(taken) / PART * 1e6, 2)
        return found

    asked.people.part(0, 0, 1, 0)  # opens the model
    cohort = best("people", lambda: asked.cohort(0))
    simulation = best("simulate", lambda: asked.simulate(cohort))
    table = best("exposure and rows", lambda: rows.rows(cohort, simulation))
    sketch, _ = best("sketch", lambda: work._sketched(simulation, table))
    best("Parquet", lambda: rows.pack(table))
    best("sketch to Parquet", lambda: parts.packed(sketch))
    return cost | {"all": round(sum(cost.values()), 2)}


def memory(pid: int) -> int:
    """Returns the proportional set size of a process and all that descend from it, in bytes."""
    total = 0
    for process in [pid, *descendants(pid)]:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:  # it has just ended
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def descendants(pid: int) -> list[int]:
    """Returns the processes that descend from one."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children += [int(word) for word in task.read_text(encoding="ascii").split()]
        except OSError:
            continue
    return children + [below for child in children for below in descendants(child)]


def command(n: int, workers: int, folder: Path, *more: str) -> dict[str, float]:
    """Runs the command and returns its wall time, CPU time and peak memory."""
    asked = ["pcdm", "midazolam", DOSE, "--hours", f"{HOURS:g}", "-n", str(n), "--workers", str(workers)]
    before, start, peak = os.times(), time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, "-m", "pbpk", "population", *asked, "-o", str(folder), *more],
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.5)
    after = os.times()
    if process.returncode:
        raise RuntimeError(f"the command ended with {process.returncode}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "bodies": n,
        "wall s": round(time.perf_counter() - start, 1),
        "CPU s": round(used, 1),
        "CPU us a body": round(used / n * 1e6, 1),
        "peak memory MB": round(peak / 1e6),
        "bytes a body": round(sum(f.stat().st_size for f in (folder / "bodies").iterdir()) / n, 1),
        "load average": round(os.getloadavg()[0], 2),
    }


def sketch_error(n: int, workers: int, folder: Path) -> dict[str, float]:
    """Returns how far the sketch's quantiles are from those of all bodies' profiles and rows."""
    command(n, workers, folder, "--profiles")
    found = Population.gather(folder, request(n))
    profiles = [
        np.stack(rows.unpack(folder / "profiles" / f"{parts.name(k)}.parquet")["plasma"])
        for k in range(found.request.parts)
    ]
    exact = np.quantile(np.concatenate(profiles), (0.05, 0.5, 0.95), axis=0)
    ours = found.quantiles((0.05, 0.5, 0.95))[["p5", "p50", "p95"]].to_numpy().T
    late = exact[1] > 1e-3 * exact[1].max()
    table = found.bodies(list(rows.EXPOSURE))
    levels = found.exposure((0.05, 0.5, 0.95)).set_index("quantity")[["p5", "p50", "p95"]]
    whole = table.quantile([0.05, 0.5, 0.95]).T.to_numpy()
    size = sum(file.stat().st_size for file in (folder / "profiles").iterdir())
    return {
        "bodies": n,
        "largest relative error, concentrations": float(np.abs(ours / exact - 1.0)[:, late].max()),
        "largest relative error, exposure": float(np.abs(levels.to_numpy() / whole - 1.0).max()),
        "bytes a profile": round(size / n, 1),
        "times in a profile": exact.shape[1],
    }


def run(config: Config) -> dict[str, Any]:
    """Measures and draws."""
    torch.set_num_threads(1)
    result: dict[str, Any] = {"stages, CPU us a body": stages(config.rounds)}
    sizes = [config.n // 100, config.n // 10, config.n] if config.growth else [config.n]
    with tempfile.TemporaryDirectory() as folder:
        result["command"] = [command(n, config.workers, Path(folder) / str(n)) for n in sizes]
        if config.exact:
            result["sketch"] = sketch_error(config.exact, config.workers, Path(folder) / "exact")
    return result


if __name__ == "__main__":
    record.main("population_scale", Config, run, __doc__)
