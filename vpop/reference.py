r"""The training population and where it comes from: people of NHANES, with survey weights.

The National Health and Nutrition Examination Survey measures some 5,000 US residents a year. A person is kept
with height and weight; haematocrit is measured from 1 year, creatinine from 12. Where the age is given in
completed months, the middle of the month is used, :math:`(m + 1/2)/12` years, else that of the year,
:math:`y + 1/2`; 80 stands for all who are 80 and older. The survey samples some groups more than others: only
weighted by ``weight`` do these people stand for the population.

No microdata are part of this package. CDC's files: https://wwwn.cdc.gov/nchs/nhanes/
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.io import load_cohort
from pbpk.organs import ORGANS
from pbpk.physiology import RACES, Cohort, Physiology
from vpop.organ_layer import draw_lawful, outside_drawn
from vpop.own_people import bodies_of
from vpop.pcdm import PCDM
from vpop.people import People
from vpop.split import PARTS, part_of
from vpop.training_table import TrainingTable, is_training_table

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("sex", "race", "age", "height", "BW", "HCT", "SCR", "weight")
OLDEST = 80.0
_BY_MONTH = 20.0  # years; younger people's ages are known to the month
_UNLAWFUL = "outside the laws C09, C10, C11"  # these speak of who people are; of infants, NHANES's own bands
_TABLE = (
    "seqn", "riagendr", "ridreth1", "ridexagm", "ridexagy",
    "bmxhtlenavg", "bmxwt", "lbxhct", "lbxscr", "wtmec6yr",
)  # fmt: skip
# CDC's files, one of each kind a cycle: the columns that are read, with their names in other cycles.
_FILES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "DEMO": {
        "sex": ("RIAGENDR",),
        "race": ("RIDRETH1",),
        "years": ("RIDAGEYR",),
        "months": ("RIDEXAGM", "RIDAGEEX"),
        "pregnant": ("RIDEXPRG",),
        "weight": ("WTMEC2YR", "WTMECPRP"),
    },
    "BMX": {"BW": ("BMXWT",), "standing": ("BMXHT",), "lying": ("BMXRECUM",)},
    "BIOPRO": {"SCR": ("LBXSCR",)},
    "CBC": {"HCT": ("LBXHCT",)},
}
_CYCLE_YEARS = {"WTMEC2YR": 2.0, "WTMECPRP": 3.2}  # the years that a weight of that name stands for
_NORMAL = {  # what a median of the column must lie between, and what it may be otherwise
    "height": (30.0, 220.0, "give centimetres"),
    "BW": (2.0, 200.0, "give kilograms"),
    "HCT": (0.2, 0.6, "give per cent, as NHANES does"),
    "SCR": (0.1, 5.0, "give mg/dL"),
}


def load_nhanes(path: str | Path, keep_unlawful: bool = False) -> pd.DataFrame:
    """Reads a table of NHANES 2013-2018 in one CSV, lower-case names of CDC, months of age for everyone.

    Arguments:
        path: The file.
        keep_unlawful: Whether people outside the laws C09-C11 (body-mass index, height) stay.

    Returns:
        One row a person by SEQN: sex (M, F), race (a name of :data:`pbpk.physiology.RACES`), age [year],
        height [cm], BW [kg], HCT [1] and SCR [mg/dL], NaN where not measured, and weight, the people of the
        United States for whom this one stands. ``attrs["removed"]`` counts who was left out, by reason.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a column is missing or not a number, a unit is wrong, or no one is left.

    References:
        CDC/NCHS, National Health and Nutrition Examination Survey 2013-2018.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path must be a table of NHANES in CSV, but there is no file {path}.")
    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a CSV table, but cannot be read as one: {error}.") from None
    missing = [name for name in _TABLE if name not in table]
    if missing:
        raise ValueError(f"{path} must have the columns {', '.join(_TABLE)}, but lacks {', '.join(missing)}.")
    months = _numbers(table, "ridexagm", path)
    age = (months + 0.5) / 12.0
    age = age.where(months.notna(), _numbers(table, "ridexagy", path) + 0.5)
    frame = pd.DataFrame(
        {
            "sex": _named(table, "riagendr", {"Male": "M", "Female": "F"}, path),
            "race": _named(table, "ridreth1", {race: race for race in RACES}, path),
            "age": age,
            "height": _numbers(table, "bmxhtlenavg", path),
            "BW": _numbers(table, "bmxwt", path),
            "HCT": _numbers(table, "lbxhct", path) / 100.0,
            "SCR": _numbers(table, "lbxscr", path),
            "weight": _numbers(table, "wtmec6yr", path),
        }
    )
    frame.index = pd.Index(table["seqn"].astype(int), name="SEQN")
    return _complete(frame, path, keep_unlawful, {})


def load_nhanes_xpt(folder: str | Path, keep_unlawful: bool = False) -> pd.DataFrame:
    """Reads CDC's own files: DEMO, BMX, BIOPRO and CBC of one or more cycles, merged on SEQN.

    The files keep CDC's names, ``DEMO_H.XPT`` with ``BMX_H.XPT`` and so on, or ``P_DEMO.XPT``; the weights of
    several cycles are averaged by the years that they stand for. Pregnant women are left out: no equation of
    the organ layer is meant for them.

    Arguments:
        folder: Where the files are.
        keep_unlawful: Whether people outside the laws C09-C11 (body-mass index, height) stay.

    Returns:
        As :func:`load_nhanes`.

    Raises:
        FileNotFoundError: If there is no DEMO file, or another file of its cycle is missing.
        ValueError: If a column is missing, a person comes twice, a unit is wrong, or no one is left.
    """
    import pandas as pd

    folder = Path(folder)
    files = {file.name.upper(): file for file in folder.glob("*") if file.suffix.upper() == ".XPT"}
    cycles = sorted(name for name in files if "DEMO" in name)
    if not cycles:
        raise FileNotFoundError(
            f"--reference must name a table, or a folder with CDC's DEMO_*.XPT files, but {folder} has none. "
            "Name the file."
        )
    tables = [_cycle(name, files, folder) for name in cycles]
    years = sum(table.attrs["years"] for table in tables)
    raw = pd.concat([t.assign(weight=t.weight * t.attrs["years"] / years) for t in tables])
    if raw.index.has_duplicates:
        twice = raw.index[raw.index.duplicated()][0]
        raise ValueError(
            f"{folder} must have each person once, but SEQN {twice} comes twice: cycles overlap."
        )
    pregnant = raw.pregnant == 1
    return _complete(_from_cdc(raw[~pregnant]), folder, keep_unlawful, {"pregnant": int(pregnant.sum())})


def people(frame: pd.DataFrame) -> People:
    """Returns the people of a frame with the columns :data:`COLUMNS`."""

    def column(name: str) -> Tensor:
        return torch.tensor(frame[name].to_numpy(dtype=float), dtype=torch.float64)

    sex = torch.tensor((frame["sex"] == "M").to_numpy(dtype=float), dtype=torch.float64)
    race = torch.tensor([RACES.index(name) for name in frame["race"]], dtype=torch.int64)
    return People.of(
        sex, column("age"), column("height"), column("BW"), race=race, HCT=column("HCT"), SCR=column("SCR")
    )


def undo_rounding(who: People, generator: torch.Generator) -> People:
    """Draws what a survey rounds away: the day within the month or year, and the digits after the last.

    A model that learnt the rounded values would learn the grid. A value that was on a bound of C09-C11 may
    cross it: who does is not lawful and left out. 80 stays 80: it stands for all who are older.
    """

    def spread(value: Tensor, step: float) -> Tensor:
        noise = torch.rand(len(who), generator=generator, dtype=torch.float64) - 0.5
        return value + step * noise

    years = torch.where(who.age < _BY_MONTH, 1.0 / 12.0, 1.0)
    within = years * (torch.rand(len(who), generator=generator, dtype=torch.float64) - 0.5)
    age = torch.where(who.age >= OLDEST, OLDEST, who.age + within)
    return People(
        who.sex, age, spread(who.height, 0.1), spread(who.BW, 0.1), who.race,
        spread(who.HCT, 0.001), spread(who.SCR, 0.01),
    )  # fmt: skip


def load_reference(
    path: str | Path, seed: int = 0, layer: str = "literature", copies: int = 6, part: str | None = None
) -> tuple[Cohort, Tensor]:
    """Loads a reference population to learn from: complete, lawful bodies and their weights.

    Arguments:
        path: NHANES, as a CSV or as a folder with CDC's XPT files, into whose people the organ layer puts
            bodies; a table of one's own people (:mod:`vpop.own_people`); or a cohort file, taken as it is,
            each body with weight 1.
        seed: The seed of the organ layer.
        layer: The organ layer's name.
        copies: How many bodies are put into each person of a survey, each with its own inside and its own
            rounded-away digits; a cohort file is taken once, a table of one's own once where copies is 1,
            else as :func:`vpop.own_people.bodies_of` has it.
        part: Only the people of a survey whom :func:`vpop.split.part_of` gives to ``"train"``,
            ``"validation"`` or ``"test"``; None for all.

    Returns:
        The cohort, and the weights with shape :math:`(n)`.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is none of these, or malformed.
    """
    path = Path(path)
    if part is not None:
        choose("part", part, PARTS)
    if path.is_dir() or _is_nhanes(path):
        frame = load_nhanes_xpt(path) if path.is_dir() else load_nhanes(path)
        removed = frame.attrs["removed"]
        if part is not None:
            frame = frame[part_of(frame.index) == part]
        return _with_bodies(frame, seed, layer, copies, {"part": part or "all", "removed": removed})
    if part is not None:
        raise ValueError(
            f"part must be left out for a cohort file, but {part!r} is asked of {path}: only a survey's "
            "people are split, by their number."
        )
    if is_training_table(path):
        model = PCDM.load()
        table = TrainingTable.load(path, model.coordinates.charts)
        return bodies_of(table, model, seed, layer, strangers=copies > 1)
    cohort = load_cohort(path)
    return cohort, torch.ones(len(cohort), dtype=torch.float64)


def _with_bodies(
    frame: pd.DataFrame, seed: int, layer: str, copies: int, origin: dict[str, Any]
) -> tuple[Cohort, Tensor]:
    """Puts bodies into the people of a survey; returns them and their weights.

    Arguments:
        frame: The people, as of :func:`load_nhanes`.
        seed: The seed of the organ layer.
        layer: The organ layer's name.
        copies: How many bodies are put into each person.
        origin: Which ``part`` of the survey they are, and how many were ``removed`` before, by reason.
    """
    generator = torch.Generator().manual_seed(seed)
    who, weight = people(frame), torch.tensor(frame["weight"].to_numpy(), dtype=torch.float64)
    drawn = [draw_lawful(undo_rounding(who, generator), generator, layer) for _ in range(copies)]
    bodies = [inside[lawful] for inside, lawful in drawn]
    tensors = {name: torch.cat([getattr(b, name) for b in bodies]) for name in bodies[0].tensors()}
    names = frame.index.to_numpy().astype(str)
    ids = [np.char.add(names[lawful.numpy()], f"-{copy}") for copy, (_, lawful) in enumerate(drawn, start=1)]
    provenance: dict[str, Any] = {
        "generator": f"vpop.organ_layer, layer {layer}",
        "reference": "NHANES (CDC/NCHS): sex, race, age, height, weight, haematocrit, creatinine",
        "seed": seed,
        "people": len(who),
        "part": origin["part"],
        "copies": copies,
        "removed": {**origin["removed"], "no lawful body found": sum(int((~ok).sum()) for _, ok in drawn)},
    }
    cohort = Cohort(Physiology("human", **tensors), np.concatenate(ids), provenance)
    return cohort, torch.cat([weight[lawful] for _, lawful in drawn])


def is_own_table(path: str | Path) -> bool:
    """Tells whether a file is a table of one's own people: no survey, and without organs."""
    return not _is_nhanes(Path(path)) and is_training_table(path)


def _is_nhanes(path: Path) -> bool:
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return "riagendr" in file.readline()


def _numbers(table: pd.DataFrame, column: str, path: Path) -> pd.Series:
    import pandas as pd

    values = pd.to_numeric(table[column], errors="coerce")
    wrong = values.isna() & table[column].notna()
    if wrong.any():
        raise ValueError(
            f"{path}: column {column} must hold numbers with a decimal point, "
            f"but has {table[column][wrong].iloc[0]!r}."
        )
    return values


def _named(table: pd.DataFrame, column: str, names: Mapping[str, str], path: Path) -> pd.Series:
    found = table[column].map(names)
    if found.isna().any():
        raise ValueError(
            f"{path}: column {column} must be one of {', '.join(names)}, "
            f"but has {table[column][found.isna()].iloc[0]!r}."
        )
    return found


def _cycle(demo: str, files: Mapping[str, Path], folder: Path) -> pd.DataFrame:
    """Reads the four files of a cycle into one table of the plain names of ``_FILES``."""
    import pandas as pd

    tables = []
    years = 0.0
    for kind, columns in _FILES.items():
        name = demo.replace("DEMO", kind)
        if name not in files:
            raise FileNotFoundError(
                f"folder must hold {name} beside {demo}, but {folder} does not: download it."
            )
        try:
            table = pd.read_sas(files[name], format="xport").set_index("SEQN")
        except (ValueError, KeyError, EOFError) as error:
            raise ValueError(f"{files[name]} must be CDC's SAS transport file, but: {error}") from None
        picked = {plain: _first(table, names, files[name]) for plain, names in columns.items()}
        tables.append(table[list(picked.values())].set_axis(list(picked), axis=1))
        years = _CYCLE_YEARS.get(picked.get("weight", ""), years)
    merged = tables[0].join(tables[1:], how="left")
    merged.index = merged.index.astype(int)
    merged.attrs["years"] = years
    return merged


def _first(table: pd.DataFrame, names: tuple[str, ...], file: Path) -> str:
    for name in names:
        if name in table:
            return name
    raise ValueError(f"{file} must have the column {' or '.join(names)}, but has neither.")


def _from_cdc(raw: pd.DataFrame) -> pd.DataFrame:
    """Turns CDC's codes into the columns of this module."""
    import pandas as pd

    age = ((raw.months + 0.5) / 12.0).where(raw.months.notna(), raw.years + 0.5)
    standing = (raw.months >= 24) | raw.months.isna()
    return pd.DataFrame(
        {
            "sex": raw.sex.map({1.0: "M", 2.0: "F"}),
            "race": raw.race.map(dict(enumerate(RACES, start=1))),
            "age": age.where(raw.years < OLDEST, OLDEST),
            "height": raw.standing.where(standing, raw.lying),
            "BW": raw.BW,
            "HCT": raw.HCT / 100.0,
            "SCR": raw.SCR,
            "weight": raw.weight,
        }
    )


def _complete(frame: pd.DataFrame, path: Path, keep_unlawful: bool, removed: dict[str, int]) -> pd.DataFrame:
    """Keeps the complete cases and counts the others."""
    needed = ["sex", "race", "age", "height", "BW", "weight"]
    complete = frame[needed].notna().all(axis=1) & (frame.weight > 0)
    removed = removed | {"no height or weight": int((~complete).sum())}
    frame = frame[complete]
    if frame.empty:
        raise ValueError(f"{path} must have people with height and weight, but has none.")
    _check_units(frame, path)
    if not keep_unlawful:
        lawful = _lawful(people(frame))
        removed |= {_UNLAWFUL: int((~lawful).sum())}
        frame = frame[lawful]
    frame.attrs["removed"] = removed
    return frame


def _check_units(frame: pd.DataFrame, path: Path) -> None:
    for column, (lower, upper, remedy) in _NORMAL.items():
        median = frame[column].median()
        if not (lower <= median <= upper or np.isnan(median)):
            raise ValueError(
                f"{path}: the median {column} must lie in [{lower:g}, {upper:g}], "
                f"but is {median:g}: {remedy}."
            )


def _lawful(who: People) -> np.ndarray:
    """Returns who obeys the laws that speak of who people are."""
    unknown = torch.full_like(who.BW, torch.nan)
    organs = unknown[:, None].expand(-1, len(ORGANS))
    outside = Physiology(
        species="human", sex=who.sex, age=who.age, height=who.height, BW=who.BW, HCT=who.HCT,
        GFR=unknown, CO=unknown, M=organs, Q=organs,
    )  # fmt: skip
    return (~outside_drawn(outside)).numpy()
