"""The cohort file: CSV or Parquet, one row a body, columns by name and unit.

``id, species, sex (M|F), race, age [year], height [cm], BW [kg], BMI [kg/m2], HCT [1], SCR [mg/dL],
GFR [L/h], CO [L/h], FAT [kg], BMC [kg]``, then ``M_<organ> [kg]`` for each organ and ``Q_<organ> [L/h]``
for each organ but lung and blood. ``race, BMI, SCR, FAT, BMC`` may be missing or blank; of an animal, age,
height, HCT and GFR may be blank too. BMI is written for the reader and follows from height and BW.

Provenance travels in ``# key: value`` lines above a CSV, or in the metadata of a Parquet file. A number
that is written and read again is the same number to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pbpk.checks import choose, nearest
from pbpk.files import write_whole
from pbpk.organs import ORGANS, PERFUSED
from pbpk.physiology import RACES, SEXES, Cohort, Physiology
from pbpk.plausible import check_units
from pbpk.table import (
    BLANKS,
    METADATA,
    SUFFIXES,
    Table,
    as_json,
    looks_like_formula,
    provenance_lines,
    read_table,
)

if TYPE_CHECKING:
    import pandas as pd

_SIZES = ("age", "height", "BW", "HCT", "GFR", "CO")
_OPTIONAL = ("SCR", "FAT", "BMC")
_MAY_BE_BLANK = {"human": _OPTIONAL, "animal": (*_OPTIONAL, "age", "height", "HCT", "GFR")}
_ORDER = ("age", "height", "BW", "BMI", "HCT", "SCR", "GFR", "CO", "FAT", "BMC")
MASS_COLUMNS: tuple[str, ...] = tuple(f"M_{organ}" for organ in ORGANS)
FLOW_COLUMNS: tuple[str, ...] = tuple(f"Q_{organ}" for organ in PERFUSED)
REQUIRED: tuple[str, ...] = ("id", "species", "sex", *_SIZES, *MASS_COLUMNS, *FLOW_COLUMNS)


def load_cohort(path: str | Path) -> Cohort:
    """Reads a cohort file.

    Arguments:
        path: A file in the columns above; its suffix, .csv or .parquet, says how it is written.

    Raises:
        ValueError: If the file is damaged, lacks a column, or holds what cannot be a body; the message
            names row and column. Bodies that break physiological laws are read: :mod:`pbpk.laws` counts.
        OSError: If there is no such file.
    """
    return cohort_of(read_table(path))


def save_cohort(cohort: Cohort, path: str | Path) -> None:
    """Writes a cohort file, whole or not at all.

    Arguments:
        cohort: The bodies, with their provenance.
        path: Where to; the suffix is .csv or .parquet.

    Raises:
        ValueError: If the suffix is another, or the cohort's names could not be read back.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    suffix = choose(f"the suffix of {path.name}", path.suffix.lower(), SUFFIXES)
    _check_ids(cohort.id, "the cohort")
    frame = to_frame(cohort)
    if suffix == ".parquet":
        _write_parquet(frame, cohort.provenance, path)
        return
    lines = provenance_lines(cohort.provenance)
    with write_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"{line}\n" for line in lines)
        frame.to_csv(file, index=False, lineterminator="\n")


def _write_parquet(frame: pd.DataFrame, provenance: Mapping[str, Any], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), METADATA: as_json(dict(provenance)).encode()}
    with write_whole(path) as partial:
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), partial)


def to_frame(cohort: Cohort) -> pd.DataFrame:
    """Returns a cohort as a table in the columns above, a row a body.

    Arguments:
        cohort: The bodies, with batch shape :math:`(n,)`.
    """
    import pandas as pd

    p = cohort.physiology
    letters = {value: letter for letter, value in SEXES.items()}
    columns: dict[str, Any] = {
        "id": np.array([str(name) for name in cohort.id], dtype=object),
        "species": p.species,
        "sex": [letters[value] for value in p.sex.tolist()],
    }
    if p.race is not None:
        columns["race"] = [RACES[race] if race >= 0 else "" for race in p.race.tolist()]
    values = {name: value for name in _ORDER if (value := getattr(p, name)) is not None}
    values |= dict(zip(MASS_COLUMNS, p.M.unbind(-1), strict=True))
    values |= {f"Q_{organ}": p.flow(organ) for organ in PERFUSED}
    columns |= {name: value.detach().cpu().double().numpy() for name, value in values.items()}
    return pd.DataFrame(columns, index=range(len(cohort)))


def from_frame(frame: pd.DataFrame, provenance: Mapping[str, Any] | None = None) -> Cohort:
    """Returns the cohort that a table in the columns above describes.

    Arguments:
        frame: The table, a row a body; further columns are left out.
        provenance: Where it comes from.

    Raises:
        ValueError: As :func:`load_cohort`.
    """
    return cohort_of(Table("the table", frame, provenance or {}))


def cohort_of(table: Table) -> Cohort:
    """Returns the cohort that a table just read describes; see :func:`from_frame`."""
    table.require(REQUIRED)
    _refuse_other_organs(table)
    table.refuse_misspelt((*_OPTIONAL, "race", "BMI"))
    ids = row_names(table)
    species = _species(table)
    sex = _sex(table, ids)
    human = species == "human"
    blank = _MAY_BE_BLANK["human" if human else "animal"]
    names = [*_SIZES, *MASS_COLUMNS, *FLOW_COLUMNS, *(c for c in _OPTIONAL if c in table.columns)]
    numbers = {name: table.numbers(name, ids, blank=name in blank) for name in names}
    check_units(numbers, human)
    _refuse_nothing(numbers, ids, table.name)
    tensors = {name: torch.from_numpy(values) for name, values in numbers.items()}
    scalars = {name: tensors[name] for name in (*_SIZES, *_OPTIONAL) if name in tensors}
    physiology = Physiology(
        species=species,
        sex=sex,
        M=torch.stack([tensors[name] for name in MASS_COLUMNS], -1),
        Q=flows({organ: tensors[f"Q_{organ}"] for organ in PERFUSED}),
        race=_race(table, ids),
        **scalars,
    )
    return Cohort(physiology, ids, table.provenance)


def flows(by_organ: Mapping[str, Tensor]) -> Tensor:
    """Returns flows by organ as one tensor (n, 17), 0 for lung and blood, which have none of their own."""
    none = torch.zeros_like(next(iter(by_organ.values())))
    return torch.stack([by_organ.get(organ, none) for organ in ORGANS], -1)


def stated_BMI(table: Table) -> dict[str, Tensor]:
    """Returns the BMI that a table states beside height and BW [kg/m2], to be checked by law E3.

    A BMI that disagrees is counted and not refused: height and BW are what the body keeps.
    """
    if "BMI" not in table.columns:
        return {}
    return {"BMI": torch.from_numpy(table.numbers("BMI", row_names(table), blank=True))}


def row_names(table: Table) -> np.ndarray:
    """Returns the bodies' names, checked to be there, plain, and different.

    Raises:
        ValueError: If a name is empty or repeated.
    """
    ids = table.text("id")
    _check_ids(ids, table.name)
    return ids


def _check_ids(ids: np.ndarray, where: str) -> None:
    seen: set[str] = set()
    for row, name in enumerate(map(str, ids), start=1):
        if name in seen:
            raise ValueError(f"id must name each body once, but {where} repeats {name!r} (row {row}).")
        if not name or not name.isprintable() or looks_like_formula(name):
            raise ValueError(f"id must be plain text, but row {row} of {where} has {name!r}. Rename it.")
        seen.add(name)


def _refuse_other_organs(table: Table) -> None:
    """Refuses a mass or a flow of no known organ, which would be lost without a word."""
    known = {*MASS_COLUMNS, *FLOW_COLUMNS}
    for column in table.columns:
        if column.startswith(("M_", "Q_")) and column not in known:
            raise ValueError(
                f"{table.name} has a column {column!r}, but no such mass or flow is known. "
                f"The nearest is {nearest(column, known)!r}; add it to rest, or rename it."
            )


def _refuse_nothing(numbers: Mapping[str, np.ndarray], ids: np.ndarray, where: str) -> None:
    """Refuses what no body is without: a height, a weight, red cells, a circulation."""
    for name in ("height", "BW", "HCT", "CO"):
        at = np.flatnonzero(numbers[name] == 0.0)
        if len(at):
            raise ValueError(
                f"{name} must be more than 0, but row {ids[at[0]]!r} of {where} has 0. "
                "Correct the cell or remove the row."
            )


def _species(table: Table) -> str:
    found = sorted(set(table.text("species").tolist()))
    if len(found) > 1:
        raise ValueError(
            f"species must be the same in each row, but {table.name} mixes {', '.join(map(repr, found))}. "
            "Split it into one file a species."
        )
    if not found[0]:
        raise ValueError(f"species must be named, but {table.name} leaves it blank. Write human, rat, ...")
    return found[0]


def _sex(table: Table, ids: np.ndarray) -> Tensor:
    letters = table.text("sex")
    for name, letter in zip(ids, letters, strict=True):
        if letter not in SEXES:
            raise ValueError(
                f"sex must be M or F, or blank where unknown, but row {name!r} of {table.name} "
                f"has {letter!r}."
            )
    return torch.tensor([SEXES[letter] for letter in letters], dtype=torch.float64)


def _race(table: Table, ids: np.ndarray) -> Tensor | None:
    if "race" not in table.columns:
        return None
    names = table.text("race")
    for name, race in zip(ids, names, strict=True):
        if race not in BLANKS:
            choose(f"race of row {name!r}", race, RACES)
    return torch.tensor([-1 if race in BLANKS else RACES.index(race) for race in names])
