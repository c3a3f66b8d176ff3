r"""Tables that other programs made, turned into a cohort, with what must not be judged and why.

httk: the population table of ``httkpop_generate`` of the R package httk. Masses [kg] are tissue without
blood; GFR is per 1.73 m2; haematocrit is in per cent; the weight is the sum of the masses, and the weight
that a person was drawn from is kept beside it.

PK-Sim: the population CSV. Volumes [L], of which a litre weighs a kilogram, heights [dm], flows per organ
volume [1/min]. An organ holds its vascular blood: :math:`V (1 - f_{vas})` is tissue, and :math:`V f_{vas}`
joins the blood of the large vessels.

References:
    Pearce et al. (2017) httk. J Stat Softw 79(4). https://doi.org/10.18637/jss.v079.i04
    Ring et al. (2017) Environ Int 106:105. https://doi.org/10.1016/j.envint.2017.06.004
    Open Systems Pharmacology Suite, PK-Sim. https://www.open-systems-pharmacology.org
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pbpk.io import cohort_of, flows, stated_BMI
from pbpk.organs import ORGANS
from pbpk.physiology import RACES, Cohort, Physiology
from pbpk.table import Table, read_table

# PK-Sim's names of our organs.
_PKSIM = {
    "adipose": "Fat",
    "bone": "Bone",
    "brain": "Brain",
    "gonads": "Gonads",
    "heart": "Heart",
    "kidney": "Kidney",
    "large_intestine": "LargeIntestine",
    "liver": "Liver",
    "lung": "Lung",
    "muscle": "Muscle",
    "pancreas": "Pancreas",
    "skin": "Skin",
    "small_intestine": "SmallIntestine",
    "spleen": "Spleen",
    "stomach": "Stomach",
}
_PKSIM_UNIT = re.compile(r"(?P<column>Organism\|.*) \[(?P<unit>[^\]]*)\]")
# of what is read, where a heading says so
_PKSIM_UNITS = {"kg", "kg/dm²", "dm", "year(s)", "l", "l/min/kg organ"}
_PKSIM_SEXES = {"MALE": 1.0, "FEMALE": 0.0, "1": 1.0, "2": 0.0}
_PKSIM_VESSELS = ("VenousBlood", "ArterialBlood", "PortalVein")
# "Fraction vascular" of the human organs in PK-Sim (Open Systems Pharmacology Suite), where a table does
# not state its own.
_PKSIM_VASCULAR = {
    "adipose": 0.018,
    "bone": 0.034,
    "brain": 0.039,
    "gonads": 0.055,
    "heart": 0.14,
    "kidney": 0.23,
    "large_intestine": 0.024,
    "liver": 0.17,
    "lung": 0.58,
    "muscle": 0.025,
    "pancreas": 0.2,
    "skin": 0.046,
    "small_intestine": 0.024,
    "spleen": 0.33,
    "stomach": 0.032,
}
# httk's names where they are not ours with a capital.
_HTTK = {"bone": "Skeleton", "kidney": "Kidneys", "rest": "Other"}
_HTTK_RACES = dict(zip(RACES, range(len(RACES)), strict=True))


@dataclass(frozen=True)
class LoadedTable:
    """A cohort, what its table says besides, and what must not be judged.

    Attributes:
        cohort: The bodies.
        form: Which program's columns they were.
        ours: The table has the columns of the cohort file, so that the exact laws are counted.
        stated: What the table states beside the bodies: ``BMI`` [kg/m2], ``drawn_BW`` [kg].
        not_applied: Per law that must not be applied to this table, the reason.
    """

    cohort: Cohort
    form: str
    ours: bool = False
    stated: Mapping[str, Tensor] = field(default_factory=dict)
    not_applied: Mapping[str, str] = field(default_factory=dict)


def load_table(path: str | Path) -> LoadedTable:
    """Reads a cohort file, httk's population table, or a PK-Sim population CSV, told by its columns.

    Arguments:
        path: A .csv or .parquet file.

    Raises:
        ValueError: If the file is damaged, lacks a column, or holds what cannot be a body.
        OSError: If there is no such file.
    """
    table = read_table(path)
    columns = set(table.columns)
    if any(column.startswith("Organism|") for column in columns):
        return _pksim(table)
    if {"weight_adj", "Liver_mass"} & columns and "M_liver" not in columns:
        return _httk(table)
    return LoadedTable(cohort_of(table), "cohort file", ours=True, stated=stated_BMI(table))


class _Reader:
    """Reads the columns of a foreign table as tensors, rows named by their number."""

    def __init__(self, table: Table, rows: np.ndarray) -> None:
        self.table, self.rows = table, rows

    def __call__(self, column: str, blank: bool = False) -> Tensor:
        return torch.from_numpy(self.table.numbers(column, self.rows, blank))

    def sex(self, column: str, words: Mapping[str, float]) -> Tensor:
        text = self.table.text(column)
        for row, word in zip(self.rows, text, strict=True):
            if word not in words:
                raise ValueError(f"{column} must be {' or '.join(words)}, but row {row!r} has {word!r}.")
        return torch.tensor([words[word] for word in text], dtype=torch.float64)


def _httk_name(organ: str) -> str:
    return _HTTK.get(organ, organ.capitalize())


def _httk(table: Table) -> LoadedTable:
    perfused = [organ for organ in ORGANS if organ not in ("lung", "blood", "rest")]
    masses = [f"{_httk_name(organ)}_mass" for organ in ORGANS]
    sizes = ["gender", "age_months", "height", "weight_adj", "hematocrit", "gfr_est", "CO"]
    table.require([*sizes, *masses, *(f"{_httk_name(organ)}_flow" for organ in perfused)])
    ids = np.array([str(row + 1) for row in range(len(table))], dtype=object)
    number = _Reader(table, ids)
    CO, BW, height = number("CO"), number("weight_adj"), number("height")
    Q = {organ: number(f"{_httk_name(organ)}_flow") for organ in perfused}
    # httk's bronchial flow is the lung's own; here the lung has none, and it belongs to the rest
    Q["rest"] = CO - torch.stack(list(Q.values())).sum(0)
    physiology = Physiology(
        species="human",
        sex=number.sex("gender", {"Male": 1.0, "Female": 0.0}),
        age=number("age_months") / 12,
        height=height,
        BW=BW,
        HCT=number("hematocrit") / 100,
        GFR=number("gfr_est") * (60 / 1000) * torch.sqrt(height * BW / 3600) / 1.73,
        CO=CO,
        M=torch.stack([number(name) for name in masses], -1),
        Q=flows(Q),
        SCR=number("serum_creat", blank=True) if "serum_creat" in table.columns else None,
        race=_httk_race(table),
    )
    reasons = {"E2": "the table states no flow of the rest of the body: it is what CO leaves"}
    reasons["E4"] = "the table does not say what was asked for"
    stated = {"drawn_BW": "weight", "BMI": "bmi_adj"}
    found = {ours: number(theirs) for ours, theirs in stated.items() if theirs in table.columns}
    cohort = Cohort(physiology, ids, {"generator": "httk", "file": table.name})
    return LoadedTable(cohort, "httk population table", False, found, reasons)


def _httk_race(table: Table) -> Tensor | None:
    if "reth" not in table.columns:
        return None
    return torch.tensor([_HTTK_RACES.get(race, -1) for race in table.text("reth")])


def _pksim(table: Table) -> LoadedTable:
    table = _without_units(table)
    perfused = [organ for organ in _PKSIM if organ != "lung"]
    volumes = {organ: f"Organism|{name}|Volume" for organ, name in _PKSIM.items()}
    vessels = [f"Organism|{name}|Volume" for name in _PKSIM_VESSELS]
    rates = {organ: f"Organism|{_PKSIM[organ]}|Specific blood flow rate" for organ in perfused}
    sizes = [f"Organism|{name}" for name in ("Weight", "Age", "Height", "Hematocrit")]
    table.require(["Gender", *sizes, *volumes.values(), *vessels, *rates.values()])
    ids = _pksim_ids(table)
    number = _Reader(table, ids)
    volume = {organ: number(column) for organ, column in volumes.items()}
    vascular = {organ: volume[organ] * _pksim_vascular(number, organ) for organ in _PKSIM}
    mass = {organ: volume[organ] - vascular[organ] for organ in _PKSIM}
    mass["blood"] = sum(number(column) for column in vessels) + sum(vascular.values())  # type: ignore[assignment]
    nothing = torch.zeros_like(mass["blood"])
    Q = {organ: number(rates[organ]) * volume[organ] * 60 for organ in perfused}
    physiology = Physiology(
        species="human",
        sex=number.sex("Gender", _PKSIM_SEXES),
        age=number("Organism|Age"),
        height=number("Organism|Height") * 10,
        BW=number("Organism|Weight"),
        HCT=number("Organism|Hematocrit"),
        GFR=torch.full_like(nothing, torch.nan),
        CO=torch.stack(list(Q.values())).sum(0),
        M=torch.stack([mass.get(organ, nothing) for organ in ORGANS], -1),
        Q=flows(Q),
    )
    found = {}
    if "Organism|BMI" in table.columns:
        found["BMI"] = number("Organism|BMI") * 100  # kg/dm2
    cohort = Cohort(physiology, ids, {"generator": "PK-Sim", "file": table.name})
    return LoadedTable(cohort, "PK-Sim population", False, found, _pksim_reasons(table))


def _without_units(table: Table) -> Table:
    """Returns the table with headings without units, as PK-Sim wrote them once, in the same units.

    Raises:
        ValueError: If a heading that is read states another unit.
    """
    plain = {}
    for heading in table.columns:
        match = _PKSIM_UNIT.fullmatch(heading)
        if match is None:
            continue
        read = match["column"].endswith(("|Volume", "|Weight", "|Age", "|Height", "|BMI", " flow rate"))
        if read and match["unit"] not in _PKSIM_UNITS:
            raise ValueError(
                f"{table.name} must be in PK-Sim's base units ({', '.join(sorted(_PKSIM_UNITS))}), but has "
                f"{heading!r}. Export it in these."
            )
        plain[heading] = match["column"]
    return replace(table, frame=table.frame.rename(columns=plain))


def _pksim_ids(table: Table) -> np.ndarray:
    for column in ("individual", "IndividualId"):
        if column in table.columns:
            return table.text(column)
    return np.array([str(row) for row in range(len(table))], dtype=object)


def _pksim_vascular(number: _Reader, organ: str) -> Tensor | float:
    column = f"Organism|{_PKSIM[organ]}|Fraction vascular"
    return number(column) if column in number.table.columns else _PKSIM_VASCULAR[organ]


def _pksim_reasons(table: Table) -> dict[str, str]:
    reasons = {
        "C01": "PK-Sim has no rest of the body: every other number was read as positive",
        "E4": "the table does not say what was asked for",
    }
    reasons |= dict.fromkeys(("E2", "C04"), "the table states no cardiac output: it is the sum of the flows")
    reasons |= dict.fromkeys(
        ("C12", "C19"), "the table states no GFR: it holds GFRmat, but not the standard kidney volume"
    )
    words = [table.text(c) for c in table.columns if not c.startswith("Organism|")]
    if any("ckd" in str(word).lower() or "renal" in str(word).lower() for text in words for word in text[:1]):
        reasons |= dict.fromkeys(("C14", "C16"), "the population's kidneys are ill")
    return reasons
