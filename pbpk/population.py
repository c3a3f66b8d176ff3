"""Millions of bodies: simulated part by part, each part kept once it is whole, summed up without them all.

people -> parts (:mod:`pbpk.parts`, by :mod:`pbpk.executor`) -> folder -> :class:`Population`

Beside its parts the folder holds ``manifest.json`` (the request), ``quantiles.csv``, ``exposure.csv``,
``failures.csv`` and ``report.html``. A file appears under its name only once it is whole. A broken run is
therefore taken up by doing the parts without a sound seal, and ends with the numbers of a run that was never
broken.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pbpk import executor as executors
from pbpk import parts, people
from pbpk.compound import Compound
from pbpk.exposure import outputs_in
from pbpk.files import check_folder
from pbpk.parts import PART, Request, Work
from pbpk.people import People
from pbpk.physiology import Cohort
from pbpk.population_result import Population

__all__ = ["Population", "population"]


Progress = Callable[[int, int], None]


def population(
    cohort: str | People,
    compound: Compound | str,
    dose: str,
    n: int | None = None,
    *,
    folder: str | Path,
    hours: float = 24.0,
    points: int = 100,
    outputs: Sequence[str] = ("plasma",),
    seed: int = 0,
    conditions: Mapping[str, str] | None = None,
    graph: str = "whole-body",
    clearance: str = "observed",
    Kp_method: str = "rodgers-rowland",
    profiles: bool = False,
    part: int = PART,
    executor: str = "local",
    workers: int = 1,
    scheduler: str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Population:
    """Simulates a drug in a population of any size, in bounded memory, and keeps one row a body.

    Arguments:
        cohort: A model that draws people (``"pcdm"``) or its weights file, a cohort file, or a species.
        compound: A compound, or the name or file of one.
        dose: What is given, as :meth:`pbpk.regimen.Regimen.parse` reads it.
        n: How many bodies; may be left out for a cohort file, of which it takes the first.
        folder: Where the files of the module's description go.
        hours: How long is simulated [h].
        points: About how many output times.
        outputs: The outputs whose quantiles over time are wanted, plasma or organs.
        seed: The same seed and request give the same bodies; a larger n begins with those of a smaller.
        conditions: What people whom a model draws must meet, by name: age, sex, where; and steps.
        graph: The name of one of :data:`pbpk.graph.GRAPHS`.
        clearance: ``"observed"`` or ``"in-vitro"``.
        Kp_method: One of :data:`pbpk.partition.METHODS`.
        profiles: Keep the concentrations of each body over time as well.
        part: How many bodies are done at a time; each part has its own seed, so it changes who is drawn.
        executor: ``"local"`` or ``"dask"``.
        workers: How many processes; the numbers do not depend on it.
        scheduler: The address of a Dask scheduler; its workers must see the folder. None starts a cluster.
        resume: Keep what is whole in the folder, and do the rest.
        progress: Called with (bodies done, bodies in all).

    Returns:
        The population; its tables are read from the folder when asked for.

    Raises:
        ValueError: If an argument is not as described, the folder holds another request, or another run is
            at work in it.
        OSError: If the folder cannot be written; what is whole in it stays, and ``resume`` goes on.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> found = population("human", "midazolam", "7.5 mg po", folder=folder)
    >>> found.exposure()[["quantity", "n"]].values.tolist()[0]
    ['Cmax [mg/L]', 1]
    """
    executors.check(executor, workers, scheduler)
    if part < 1:
        raise ValueError(
            f"--part must be at least 1, but is {part}. It is how many bodies are done at a time."
        )
    source = people.find(cohort, dict(conditions or {})) if isinstance(cohort, str) else cohort
    drug = Compound.load(compound) if isinstance(compound, str) else compound
    count = _how_many(n, source)
    first = source.part(0, 0, 1, seed)
    request = Request(
        source,
        count,
        seed,
        drug,
        dose,
        hours,
        points,
        outputs_in(",".join(outputs), first, drug, graph, clearance, Kp_method),
        graph,
        clearance,
        Kp_method,
        profiles,
        part,
    )
    request.simulate(first)  # whatever is wrong with the request is wrong here
    folder = Path(folder).absolute()
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        work = _begin(folder, request, first, resume)
        done = [number for number in range(request.parts) if resume and parts.whole(work, number)]
        left = [number for number in range(request.parts) if number not in set(done)]
        solved = sum(parts.seal(folder, number)["bodies"] for number in done)
        people.close()
        for bodies in executors.run(work, left, executor, workers, scheduler):
            solved += bodies
            if progress:
                progress(solved, request.n)
        _sweep(folder)
        found = Population.gather(folder, request)
        found.write(_settings())
    return found


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a folder; the lock ends with the process, however that ends.

    Raises:
        ValueError: If another run is at work in it.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"{folder} must have one run at a time, but another is at work in it. "
                "Wait for it, or choose another folder."
            ) from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(held)


def _how_many(n: int | None, source: People) -> int:
    most = source.count
    if n is None and most is None:
        raise ValueError("-n must say how many people the model draws, but is missing. Write -n 1000.")
    if n is not None and n < 1:
        raise ValueError(f"-n must be at least 1, but is {n}.")
    if n is not None and most is not None and n > most:
        raise ValueError(
            f"-n must be at most {most:,}, the bodies that there are, but is {n:,}. Leave it out."
        )
    return int(n if n is not None else most or 0)


def _occupied(folder: Path) -> bool:
    """Tells whether anything is in a folder."""
    return folder.is_dir() and any(folder.iterdir())


def _begin(folder: Path, request: Request, first: Cohort, resume: bool) -> Work:
    """Writes the manifest, or checks that the folder holds the same one."""
    path = folder / "manifest.json"
    occupied = _occupied(folder)
    if occupied and not resume:
        raise ValueError(f"{folder} must be empty, but is not. Add --resume to go on with what is there.")
    asked = request.manifest(first)
    if occupied:
        _refuse_another(path, asked)
        _sweep(folder)
    else:
        parts.write(path, (json.dumps(asked, indent=2) + "\n").encode())
    for kind in (*parts.KINDS[: 2 + request.profiles], parts.SEALS):
        (folder / kind).mkdir(exist_ok=True)
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return Work(request, folder, key)


def _sweep(folder: Path) -> None:
    """Removes what workers that were killed have left half written."""
    for kind in (*parts.KINDS, parts.SEALS):
        for stale in (folder / kind).glob(".*.partial"):
            stale.unlink(missing_ok=True)


def _refuse_another(path: Path, asked: Mapping[str, Any]) -> None:
    """Raises unless a folder's manifest says what is asked for now."""
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        begun = None
    if not isinstance(begun, dict):
        raise ValueError(
            f"--resume must go on with a population, but {path.parent} has no manifest of one. "
            "Choose an empty folder."
        )
    for key in sorted({*begun, *asked}):
        if begun.get(key) != asked.get(key):
            raise ValueError(
                f"--resume must come with the request that {path.parent} was begun with, but {key} was "
                f"{begun.get(key)!r} and is {asked.get(key)!r}. Choose another folder."
            )


def _settings() -> dict[str, str]:
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def run(arguments: argparse.Namespace) -> int:
    """Does what ``pbpk population`` asks for; returns 1 if a body could not be solved."""
    from pbpk.progress import bar

    if arguments.resume and not _occupied(Path(arguments.output)):
        print(f"pbpk: {arguments.output} holds nothing to go on with: it is begun anew", file=sys.stderr)
    asked = {name: getattr(arguments, name) for name in ("age", "sex", "where", "steps")}
    with bar("bodies", arguments.n or 0) as progress:
        found = population(
            arguments.cohort,
            arguments.compound,
            arguments.dose,
            arguments.n,
            folder=arguments.output,
            hours=arguments.hours,
            points=arguments.points,
            outputs=arguments.outputs.split(","),
            seed=arguments.seed,
            conditions={name: value for name, value in asked.items() if value is not None},
            graph=arguments.graph,
            clearance=arguments.clearance,
            Kp_method=arguments.Kp,
            profiles=arguments.profiles,
            part=arguments.part,
            executor=arguments.executor,
            workers=arguments.workers if arguments.workers is not None else _cores(),
            scheduler=arguments.scheduler,
            resume=arguments.resume,
            progress=progress,
        )
    print(found.text())
    return int(found.failed > 0)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
