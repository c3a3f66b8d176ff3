"""What do a million whole-body simulations cost, from drawing the people to the table and the quantiles?

Question: how long does ``pbpk population pcdm midazolam`` take for 7 days of 14 doses, how much memory do all
of its processes hold together, how many bytes a body stays on disk, which stage takes how long, how close are
the sketch's quantiles to the exact ones, and how does the cost grow with bodies, doses and organs?
Source: the shipped people and the bundled midazolam.
Command: OMP_NUM_THREADS=1 python -m experiments.population_scale [--n 1000000] [--workers 2]; --n 0 --exact 0
draws the growth alone.
Measured: stages as CPU time of one part in one process, best of ``rounds``; the command as a process of its
own, its memory as the proportional set size of it and its children, sampled every half second (shared pages
are counted once). The exact quantiles are those of the profiles of 50,000 bodies. Growth is the CPU time of
each stage in one process, the better of two rounds (``growth.png``).
Bars: 5 minutes on two cores for 1,000,000 people (stretch 1 minute), 2 GB (stretch 1 GB).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments import record
from pbpk import parts, people, rows
from pbpk.compound import Compound
from pbpk.graph import COMPARTMENTS, WHOLE_BODY, OrganGraph
from pbpk.parts import PART, Request
from pbpk.physiology import Cohort
from pbpk.population_result import Population
from pbpk.simulate import simulate

DOSE, HOURS = "7.5 mg po q12h x14", 168.0


@dataclass(frozen=True)
class Config:
    """The flags."""

    n: int = 1_000_000  # bodies of the command; 0 leaves it out
    workers: int = 2
    rounds: int = 3
    exact: int = 50_000  # bodies of whom the profiles are kept, to compare the sketch with
    growth: bool = True  # also what a body costs with more bodies, doses and organs


def request(n: int) -> Request:
    """Returns the request that the command makes."""
    return Request(
        people.find("pcdm"), n, 0, Compound.load("midazolam"), DOSE, HOURS, 100, ("plasma",),
        "whole-body", "observed", "rodgers-rowland", False,
    )  # fmt: skip


STAGES = ("people", "simulation", "exposure and rows", "sketch", "Parquet")


def spent(asked: Request, graph: OrganGraph = WHOLE_BODY, rounds: int = 2) -> dict[str, float]:
    """Returns the CPU time of each stage of a request's parts [us a body], the best of some rounds."""
    work = parts.Work(asked, Path(), "")
    asked.people.part(0, 0, 1, 0)  # opens the model
    cost = dict.fromkeys(STAGES, np.inf)
    for _ in range(rounds):
        taken = sum(_part(work, number, graph) for number in range(asked.parts)) / asked.n * 1e6
        cost = {name: min(cost[name], float(value)) for name, value in zip(STAGES, taken, strict=True)}
    return {name: round(value, 2) for name, value in cost.items()}


def _part(work: parts.Work, number: int, graph: OrganGraph) -> np.ndarray:
    """Returns the CPU time of each stage of one part [s]."""
    asked, clock = work.request, [time.process_time()]
    cohort = asked.cohort(number)
    clock.append(time.process_time())
    simulation = simulate(
        cohort, asked.compound, asked.dose, asked.times, graph=graph, keep=["plasma"], throw=False
    )
    clock.append(time.process_time())
    table = rows.rows(cohort, simulation)
    clock.append(time.process_time())
    sketch, _ = work.sketched(simulation, table)
    clock.append(time.process_time())
    rows.pack(table)
    parts.packed(sketch)
    clock.append(time.process_time())
    return np.diff(clock)


@dataclass(frozen=True)
class Drawn:
    """People who are drawn already, so that only what is done with them costs anything."""

    cohort: Cohort

    def part(self, number: int, start: int, stop: int, seed: int) -> Cohort:
        """Returns some of them."""
        return self.cohort[start:stop]


def growth() -> dict[str, dict[int, dict[str, float]]]:
    """Returns what a body costs, by stage, with more bodies, doses, and nodes of the organ graph.

    The people of the last two are drawn beforehand.
    """
    found: dict[str, dict[int, dict[str, float]]] = {"bodies": {}, "doses": {}, "nodes": {}}
    for n in (256, 1024, 4096, 8192, 16384):
        found["bodies"][n] = spent(request(n))
    drawn = replace(request(PART), people=Drawn(request(PART).cohort(0)))
    for count in (1, 4, 14, 56, 168):
        found["doses"][count] = spent(replace(drawn, dose=f"7.5 mg po q{HOURS / count:g}h x{count}"))
    alone = ["venous", "arterial", "liver", "lung"]
    for more in (2, 5, 8, 11, 14):
        kept = [*alone, *[c for c in COMPARTMENTS if c not in alone][:more]]
        others = [c for c in COMPARTMENTS if c not in kept]
        pools = {c: [c] for c in kept} | ({"others": others} if others else {})
        found["nodes"][len(pools)] = spent(drawn, WHOLE_BODY.pool(f"{len(pools)} nodes", pools))
    return found


def draw_growth(found: Mapping[str, Mapping[int, Mapping[str, float]]], file: Path) -> None:
    """Draws the cost of a body, its stages stacked, against bodies, doses and nodes."""
    import matplotlib.pyplot as plt

    labels = {
        "bodies": "bodies, people drawn",
        "doses": "doses in 7 days",
        "nodes": "nodes of the organ graph",
    }
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    for axis, (name, costs) in zip(axes, found.items(), strict=True):
        stack = [[cost[stage] for cost in costs.values()] for stage in STAGES]
        axis.stackplot(list(costs), stack, labels=STAGES, alpha=0.8)
        axis.set(xlabel=labels[name], xlim=(min(costs), max(costs)), ylabel="CPU time a body [us]")
        if name != "nodes":
            axis.set_xscale("log")
            axis.set_xticks(list(costs), [f"{value:,}" for value in costs], minor=False)
            axis.minorticks_off()
    handles, names = axes[0].get_legend_handles_labels()
    axes[0].legend(handles[::-1], names[::-1], loc="upper right")
    figure.savefig(file, dpi=110)
    plt.close(figure)


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
    result: dict[str, Any] = {"stages, CPU us a body": spent(request(PART), rounds=config.rounds)}
    if config.growth:
        result["growth, CPU us a body"] = growth()
        file = record.folder("population_scale") / "growth.png"
        draw_growth(result["growth, CPU us a body"], file)
    with tempfile.TemporaryDirectory() as folder:
        if config.n:
            result["command"] = command(config.n, config.workers, Path(folder) / "out")
        if config.exact:
            result["sketch"] = sketch_error(config.exact, config.workers, Path(folder) / "exact")
    return result


if __name__ == "__main__":
    record.main("population_scale", Config, run, __doc__)
