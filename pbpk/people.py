"""Who takes part in a large simulation: drawn by a model, read from a cohort file, or a reference body.

The bodies are asked for part by part, in any order and by any process, and a part is always the same. Models
are found by the entry-point group ``pbpk.people``. An entry point is named like the model, or like the suffix
of the weights files that it reads; it is a function ``(weights: str | None, **conditions: str) -> sampler``
whose sampler is called as ``sampler(n, seed) -> Cohort``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pbpk.bodies import SPECIES, reference_body
from pbpk.checks import nearest
from pbpk.io import cohort_of, load_cohort
from pbpk.physiology import Cohort
from pbpk.table import METADATA, SUFFIXES, Table, read_table

if TYPE_CHECKING:
    import pandas as pd

GROUP = "pbpk.people"
Sampler = Callable[[int, int], Cohort]
_BATCH = 16_384  # rows read at once
_SEED_BITS = 42  # of a part's own seed: a sampler may multiply it by a million and stay inside 64 bits


class People(Protocol):
    """A source of bodies."""

    @property
    def count(self) -> int | None:
        """How many bodies there are; None where any number can be drawn."""

    def part(self, number: int, start: int, stop: int, seed: int) -> Cohort:
        """Returns the bodies ``start`` to ``stop``, which are the part ``number``."""

    def identity(self, first: Cohort, size: int) -> dict[str, Any]:
        """Raises if any part of that size cannot be had; returns what tells these people from others.

        Arguments:
            first: The first body.
            size: The number of bodies in a part.
        """


def find(name: str, conditions: dict[str, str] | None = None) -> People:
    """Returns who is meant by a name.

    Arguments:
        name: A model (``"pcdm"``), its weights file, a cohort file, or a species.
        conditions: What a model's people must meet, by name.

    Raises:
        ValueError: If nothing has that name, or conditions are set where nothing is drawn.
    """
    models = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
    suffix = Path(name).suffix.lower()
    if name in models or suffix[1:] in models:
        return Drawn(
            str(Path(name).absolute()) if suffix[1:] in models else name,
            tuple(sorted((conditions or {}).items())),
        )
    if conditions:
        raise ValueError(
            f"--{next(iter(conditions))} must come with a model that draws people, but {name!r} is none. "
            f"Models are: {', '.join(models) or 'none installed'}."
        )
    if name in SPECIES:
        return Reference(name)
    if suffix in SUFFIXES or os.sep in name:
        return Listed(str(Path(name).absolute()))
    known = [*models, *SPECIES]
    close = nearest(name, known)
    remedy = f"Did you mean {close!r}?" if close else "Give the path of a cohort file."
    raise ValueError(
        f"COHORT must be a .csv or .parquet file, or one of {', '.join(known)}, but is {name!r}. {remedy}"
    )


@dataclass(frozen=True)
class Drawn:
    """People whom a model draws.

    Attributes:
        model: The name of an entry point, or a weights file.
        conditions: What they must meet.
    """

    model: str
    conditions: tuple[tuple[str, str], ...] = ()

    @property
    def count(self) -> None:
        """Any number can be drawn."""
        return None

    def part(self, number: int, start: int, stop: int, seed: int) -> Cohort:
        """Draws a part with a seed of its own; the ids count all people from 1."""
        own = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]
        drawn = _sampler(self)(stop - start, int(own) >> (64 - _SEED_BITS))
        ids = np.arange(start + 1, stop + 1).astype(str).astype(object)
        return Cohort(drawn.physiology, ids, drawn.provenance)

    def identity(self, first: Cohort, size: int) -> dict[str, Any]:
        """Returns the model's provenance without what is the part's own."""
        return {key: value for key, value in first.provenance.items() if key not in ("n", "seed")}


def close() -> None:
    """Frees what this process has open: a driver that leaves the work to others needs none of it."""
    _sampler.cache_clear()
    _whole.cache_clear()


@functools.lru_cache(maxsize=1)
def _sampler(drawn: Drawn) -> Sampler:
    """Opens a model, once a process."""
    suffix = Path(drawn.model).suffix.lower()[1:]
    (entry,) = metadata.entry_points(group=GROUP, name=suffix or drawn.model)
    return entry.load()(drawn.model if suffix else None, **dict(drawn.conditions))


@dataclass(frozen=True)
class Reference:
    """The reference body of a species."""

    species: str

    @property
    def count(self) -> int:
        """There is one."""
        return 1

    def part(self, number: int, start: int, stop: int, seed: int) -> Cohort:
        """Returns it."""
        body = reference_body(self.species)
        one = body.replace(**{name: value.unsqueeze(0) for name, value in body.tensors().items()})
        return Cohort(one, np.array([self.species], dtype=object), {"generator": "pbpk reference body"})

    def identity(self, first: Cohort, size: int) -> dict[str, Any]:
        """Returns its name."""
        return {"generator": "pbpk reference body", "species": self.species}


@dataclass(frozen=True)
class Listed:
    """The bodies of a cohort file: a Parquet file is read part by part, a CSV as a whole, once a process."""

    path: str

    @functools.cached_property
    def count(self) -> int:
        """How many rows the file has."""
        return self._file().metadata.num_rows if self._parquet else len(_whole(self.path))

    @property
    def _parquet(self) -> bool:
        return Path(self.path).suffix.lower() == ".parquet"

    def part(self, number: int, start: int, stop: int, seed: int) -> Cohort:
        """Reads a part."""
        if not self._parquet:
            return _whole(self.path)[start:stop]
        (cohort,) = self._cohorts(start, stop, stop - start)
        return cohort

    def identity(self, first: Cohort, size: int) -> dict[str, Any]:
        """Reads every row once; returns the file's checksum and what it says of its origin."""
        with Path(self.path).open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        provenance = self._checked(size) if self._parquet else _whole(self.path).provenance
        return {"file": Path(self.path).name, "sha256": checksum, "provenance": dict(provenance)}

    def _checked(self, size: int) -> Mapping[str, Any]:
        from pandas.util import hash_array

        names, species = [], set()
        for cohort in self._cohorts(0, self.count, size):
            names.append(hash_array(cohort.id, categorize=False))
            species.add(cohort.physiology.species)
        if len(species) > 1 or len(np.unique(np.concatenate(names))) < self.count:
            load_cohort(self.path)  # says what is mixed or repeated
        return cohort.provenance

    def _cohorts(self, start: int, stop: int, size: int) -> Iterator[Cohort]:
        """Reads the rows from ``start`` to ``stop``, ``size`` at a time."""
        import pandas as pd

        file = self._file()
        try:
            said = json.loads((file.schema_arrow.metadata or {}).get(METADATA, b"{}"))
        except ValueError:
            said = read_table(self.path).provenance  # says what is wrong with it
        waiting = pd.DataFrame()
        for frame in _frames(file, start, stop):
            waiting = pd.concat([waiting, frame], ignore_index=True)
            while len(waiting) >= size:
                yield cohort_of(Table(Path(self.path).name, waiting[:size], said))
                waiting = waiting[size:].reset_index(drop=True)
        if len(waiting):
            yield cohort_of(Table(Path(self.path).name, waiting, said))

    def _file(self) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(self.path)
        except (pyarrow.ArrowException, OSError):
            read_table(self.path)  # says what is wrong with it
            raise


@functools.lru_cache(maxsize=1)
def _whole(path: str) -> Cohort:
    return load_cohort(path)


def _frames(file: Any, start: int, stop: int) -> Iterator[pd.DataFrame]:
    """Yields the rows from ``start`` to ``stop``, of whose row groups alone the file is read."""
    begins = np.cumsum([0, *(file.metadata.row_group(k).num_rows for k in range(file.num_row_groups))])
    groups = [k for k in range(file.num_row_groups) if begins[k] < stop and begins[k + 1] > start]
    at = int(begins[groups[0]])
    for batch in file.iter_batches(_BATCH, row_groups=groups):
        low, high = max(start - at, 0), min(stop - at, len(batch))
        at += len(batch)
        if low < high:
            yield batch.slice(low, high - low).to_pandas()
        if at >= stop:
            return
