"""The parts of a population: done by any process, written whole, sealed, and checked before it is trusted.

Of each part there remain

    bodies/part-00000.parquet      a row a body: who it is, its exposure, its status (:mod:`pbpk.rows`)
    sketch/part-00000.parquet      the counts from which quantiles over all bodies come (:mod:`pbpk.sketch`)
    profiles/part-00000.parquet    the concentrations over time, if they were asked for
    seals/part-00000.json          the checksums of these files; written last, it says that the part is whole

A part's people have a seed of their own, and its numbers depend on nothing but the request and the part.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pbpk import rows
from pbpk.compound import Compound
from pbpk.files import write_whole
from pbpk.graph import GRAPHS
from pbpk.people import People
from pbpk.physiology import Cohort
from pbpk.regimen import Regimen
from pbpk.simulate import simulate
from pbpk.simulation import SOLVED, Simulation
from pbpk.sketch import Sketch

PART = 8_192
"""Bodies in a part unless told otherwise: few for the memory, many for what is prepared once a part."""

KINDS = ("bodies", "sketch", "profiles")
SEALS = "seals"
_PACKAGES = ("vpop", "torch", "numpy")  # whose version may change the last bit of a number


@dataclass(frozen=True)
class Request:
    """What is simulated in whom.

    Attributes:
        people: Who takes part.
        n: How many.
        seed: The seed.
        compound: The drug.
        dose: The regimen's text.
        hours: How long [h].
        points: About how many output times.
        outputs: The outputs whose quantiles are wanted, plasma or organs.
        graph: The name of the organ graph.
        clearance: Where the clearance comes from.
        Kp_method: Where the partition coefficients come from.
        profiles: Whether each body's concentrations are kept.
        size: How many bodies a part has; only one part a worker is in memory at a time.
    """

    people: People
    n: int
    seed: int
    compound: Compound
    dose: str
    hours: float
    points: int
    outputs: tuple[str, ...]
    graph: str
    clearance: str
    Kp_method: str
    profiles: bool
    size: int = PART

    @property
    def parts(self) -> int:
        """How many parts there are."""
        return -(-self.n // self.size)

    @property
    def times(self) -> torch.Tensor:
        """The output times [h]."""
        return Regimen.parse(self.dose).times(self.hours, self.points)

    @property
    def quantities(self) -> list[tuple[str, float]]:
        """The rows of the sketch: an output at a time [h], or a quantity of the exposure (time NaN)."""
        profiles = [(output, time) for output in self.outputs for time in self.times.tolist()]
        return profiles + [(name, np.nan) for name in self.exposures]

    @property
    def exposures(self) -> tuple[str, ...]:
        """The quantities of the exposure, those of metabolites too."""
        return rows.exposures(self.compound.descent)

    def manifest(self, first: Cohort) -> dict[str, Any]:
        """Returns the request as plain values, given its first body; equal ones give equal numbers."""
        said = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        said |= {
            "people": self.people.identity(first, self.size),
            "compound": self.compound.name,
            "compound values": hashlib.sha256(repr(self.compound).encode()).hexdigest(),
            "outputs": list(self.outputs),
            "versions": {package: metadata.version(package) for package in _PACKAGES},
        }
        return json.loads(json.dumps(said))

    def cohort(self, number: int) -> Cohort:
        """Returns the people of a part."""
        start = number * self.size
        return self.people.part(number, start, min(start + self.size, self.n), self.seed)

    def simulate(self, cohort: Cohort) -> Simulation:
        """Simulates the drug in some people."""
        return simulate(
            cohort,
            self.compound,
            self.dose,
            self.times,
            graph=GRAPHS[self.graph],
            clearance=self.clearance,
            Kp_method=self.Kp_method,
            keep=["plasma", *(f"{name}:plasma" for name in self.compound.descent), *self.outputs],
            throw=False,
        )


@dataclass(frozen=True)
class Work:
    """Does a part of a request and writes its files; a task for any process."""

    request: Request
    folder: Path
    key: str

    def __call__(self, number: int) -> int:
        """Returns the number of bodies done."""
        with _one_thread():
            cohort = self.request.cohort(number)
            simulation = self.request.simulate(cohort)
            table = rows.rows(cohort, simulation)
            sketch, profiles = self.sketched(simulation, table)
            files = {"bodies": rows.pack(table), "sketch": packed(sketch)}
            if self.request.profiles:
                times = json.dumps(self.request.times.tolist())
                files["profiles"] = rows.pack({"id": cohort.id, **profiles}, {"time [h]": times})
        for kind, content in files.items():
            write(self.folder / kind / f"{name(number)}.parquet", content)
        status, counts = np.unique(table["status"], return_counts=True)
        said = {
            "request": self.key,
            "bodies": len(cohort),
            "status": {str(k): int(n) for k, n in zip(status, counts, strict=True)},
            "engine": simulation.engine,
            "files": {kind: hashlib.sha256(content).hexdigest() for kind, content in files.items()},
        }
        write(self.folder / SEALS / f"{name(number)}.json", json.dumps(said, indent=2).encode())
        return len(cohort)

    def sketched(
        self, simulation: Simulation, table: Mapping[str, np.ndarray]
    ) -> tuple[Sketch, dict[str, np.ndarray]]:
        """Counts every solved body's concentrations and exposure; returns the concentrations too."""
        sketch, kept = Sketch(len(self.request.quantities)), []
        for part in rows.slices(simulation, 4096):
            solved = (part.status == SOLVED).numpy()
            C = {name: part.concentration(name).float().numpy() for name in self.request.outputs}
            for row, values in enumerate(np.concatenate([c[solved].T for c in C.values()])):
                sketch.add(row, values)
            kept += [C] if self.request.profiles else []
        names = self.request.exposures
        for row, name in enumerate(names, start=len(sketch.count) - len(names)):
            sketch.add(row, table[name][~np.isnan(table[name])])
        return sketch, {name: np.concatenate([C[name] for C in kept]) for name in (kept[0] if kept else ())}


def name(number: int) -> str:
    """Returns the stem of a part's files."""
    return f"part-{number:05d}"


def write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    with write_whole(path) as partial:
        partial.write_bytes(content)


def packed(sketch: Sketch) -> bytes:
    """Returns a sketch as the bytes of a Parquet file."""
    return rows.pack(dict(zip(("row", "bin", "count"), sketch.sparse(), strict=True)))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Computes on one thread: the last bit of a matrix product may depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seal(folder: Path, number: int) -> dict[str, Any]:
    """Reads a part's seal."""
    return json.loads((folder / SEALS / f"{name(number)}.json").read_text(encoding="utf-8"))


def whole(work: Work, number: int) -> bool:
    """Tells whether a part is there as its seal says, byte for byte."""
    try:
        said = seal(work.folder, number)
        if said["request"] != work.key:
            return False
        for kind, checksum in said["files"].items():
            with (work.folder / kind / f"{name(number)}.parquet").open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != checksum:
                    return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return True
