"""How many complete people a second does one core draw?

Question: what does a complete person cost, CPU time on one core, with the 20-step sampler and with the
student, in plain PyTorch and with the compiled kernels (extra ``fast``), and where does it go?
Source: the shipped weights; peers' rates are in README.md.
Command: OMP_NUM_THREADS=1 python -m experiments.people_speed
Measured: people a second of CPU time of ``PCDM.sample``, from the seed to the cohort; the four ways take
turns, ``rounds`` times; median, smallest and largest. The stages are the smallest CPU time a person of some
runs with 2,048 people, compiled. The matrix product is one of the network's, once before each round: what
else runs on the machine shows there.
Bars: 5,000 with 20 steps and 100,000 of the student (stretch 20,000 and 1,000,000).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from experiments import record
from vpop.compiled import kernels
from vpop.coordinates import NAMES
from vpop.drawing import CHUNK
from vpop.modulation import alike
from vpop.pcdm import PCDM
from vpop.sample import STEPS
from vpop.scores import BLOCK, one_step


@dataclass(frozen=True)
class Config:
    """The flags."""

    n: int = 8_192  # people with 20 steps
    students: int = 65_536
    rounds: int = 7
    seed: int = 1


def run(config: Config) -> dict:
    """Measures the four ways in turn, then the stages."""
    model = PCDM.load()
    ways = {
        f"{steps} step{'s' * (steps > 1)}, {'compiled' if compiled else 'plain'}": (n, steps, compiled)
        for steps, n in ((STEPS, config.n), (1, config.students))
        for compiled in (False, True)
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    speeds = []
    for turn in range(config.rounds + 1):
        speeds.append(_matrix())
        for name, (n, steps, compiled) in ways.items():
            seconds = cpu(lambda: model.sample(n, config.seed, steps=steps, compiled=compiled))  # noqa: B023
            if turn:  # the first round loads and compiles
                rates[name].append(n / seconds)
    return {
        "people a second": {name: spread(rate) for name, rate in rates.items()},
        "matrix product, GFLOP/s": spread(speeds),
        "stages, us a person": stages(model),
    }


def cpu(function: Callable[[], object]) -> float:
    """Returns the CPU time [s] of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def spread(values: list[float]) -> dict[str, float]:
    """Returns median, smallest and largest, rounded."""
    figures = {"median": statistics.median(values), "smallest": min(values), "largest": max(values)}
    return {name: round(value) for name, value in figures.items()}


def _matrix(width: int = 192, times: int = 200) -> float:
    """Returns the speed of a product of a block of people and a layer's weights [GFLOP/s]."""
    people, layer, out = torch.ones(BLOCK, width), torch.ones(width, width), torch.empty(BLOCK, width)
    seconds = cpu(lambda: [torch.mm(people, layer, out=out) for _ in range(times)])
    return 2e-9 * times * BLOCK * width**2 / seconds


@torch.no_grad()
def stages(model: PCDM, rounds: int = 20) -> dict[str, float]:
    """Returns the CPU time of the stages [us a person], the smallest of some rounds."""
    generator = torch.Generator().manual_seed(0)
    people = model.demographics.draw(CHUNK, generator)
    people = {name: value[alike(people)] for name, value in people.items()}
    noise = torch.randn(CHUNK, len(NAMES), generator=generator)
    with kernels(True, CHUNK):
        left = model.marginals.decode(noise.double())
        free = model.standing.decode(left, people)
        timed: dict[str, Callable[[], object]] = {
            "who, and noise": lambda: (
                model.demographics.draw(CHUNK, generator), torch.randn(CHUNK, len(NAMES), generator=generator)
            ),
            "student's network": lambda: one_step(model.student, people, noise, None),
            "transport": lambda: model.student_transport.apply(noise, people),
            "marginals": lambda: model.marginals.decode(noise.double()),
            "standing": lambda: model.standing.decode(left, people),
            "calibration": lambda: model.student_calibration.apply(free, people),
            "coordinates to bodies": lambda: model.coordinates.decode(free, people),
        }  # fmt: skip
        return {
            name: round(min(cpu(stage) for _ in range(rounds)) / CHUNK * 1e6, 2)
            for name, stage in timed.items()
        }


if __name__ == "__main__":
    record.main("people_speed", Config, run, __doc__)
