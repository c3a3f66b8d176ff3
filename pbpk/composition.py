"""What a tissue is made of: the fractions of water, lipid and protein behind every partition method.

``data/tissue_composition.csv`` holds one fact a row with its source. A table is named after the method that
reads it; ``both`` stands for a value that human and rat share. No composition of another species has been
measured for all tissues, so every animal takes the rat's.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.checks import choose

FLUIDS: tuple[str, ...] = ("plasma", "blood_cells")


@dataclass(frozen=True)
class Composition:
    """The composition of n tissues of one species, as one method reads it.

    Attributes:
        tissues: The names of the tissues; the three parts of the gut wall are one, ``"gut"``.
        of: Each quantity over the tissues, in the unit of its rows, with shape :math:`(n)`.
        plasma: The quantities of plasma.
        blood_cells: The quantities of the blood cells.
    """

    tissues: tuple[str, ...]
    of: Mapping[str, Tensor]
    plasma: Mapping[str, float]
    blood_cells: Mapping[str, float]

    def __getitem__(self, quantity: str) -> Tensor:
        """Returns one quantity over the tissues, with shape :math:`(n)`."""
        return self.of[quantity]


@functools.cache
def _tables() -> dict[tuple[str, str], dict[str, dict[str, float]]]:
    """Returns tissue -> quantity -> value for each (table, species)."""
    tables: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    path = importlib.resources.files("pbpk") / "data" / "tissue_composition.csv"
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for species in ("human", "rat") if row["species"] == "both" else (row["species"],):
                tissues = tables.setdefault((row["table"], species), {})
                tissues.setdefault(row["tissue"], {})[row["quantity"]] = float(row["value"])
    return tables


@functools.cache
def composition(table: str, species: str = "human") -> Composition:
    """Returns the composition of the tissues in ``table`` for a species.

    Arguments:
        table: The name of a table of ``data/tissue_composition.csv``, ``"rodgers-rowland"`` say.
        species: ``"human"``; every animal takes the rat's, and so does a table that has no human values.

    Raises:
        ValueError: If there is no such table.

    >>> composition("rodgers-rowland")["AP"].shape
    torch.Size([13])
    """
    tables = _tables()
    choose("table", table, dict.fromkeys(name for name, _ in tables))
    species = "human" if species == "human" and (table, "human") in tables else "rat"
    facts = tables[table, species]
    tissues = tuple(name for name in facts if name not in FLUIDS)
    quantities = {
        name: torch.tensor([facts[tissue][name] for tissue in tissues], dtype=torch.float64)
        for name in facts[tissues[0]]
    }
    return Composition(tissues, quantities, facts.get("plasma", {}), facts.get("blood_cells", {}))
