"""The compound file: TOML in, the fields of a compound out, in canonical units.

``[values.<name>]`` holds a ``value``, its ``unit`` where it has one, and its ``source``; ``[enzymes.<name>]``
the ``share`` of the liver's intrinsic clearance that an enzyme carries; each ``[[in-vitro]]`` one measurement
of metabolism in hepatocytes, microsomes or a recombinant enzyme; :mod:`pbpk.elements` what is said of single
organs, and metabolites::

    name = "example"
    [values.MW]
    value = 300.0
    unit = "g/mol"
    source = "author (year), DOI"

Units are converted here and nowhere later, except in-vitro clearances, which keep theirs until
:mod:`pbpk.clearance` scales them.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pbpk import elements, entries
from pbpk.checks import choose
from pbpk.in_vitro import SYSTEMS, Pathway
from pbpk.ontogeny import HEPATIC, OTHER
from pbpk.units import convert

_FIELD = {"ka": "ka_given", "Fa": "Fa_given", "kge": "kge_given"}  # in a file: in the class
_REQUIRED = ("MW", "logP", "fup")
_IN_FILE = (
    *("MW", "logP", "fup", "BP", "pKa_acid", "pKa_base", "logMA", "CL", "Vss", "fe", "CLrenal"),
    *("filtration", "Peff", "Caco2", "ka", "Fa", "fu_gut", "kge", "CLbile", "kbile"),
)
_TABLES = ("name", "species", "note", "values", "enzymes", "in-vitro")
_ELEMENTS = ("wall", "metabolism", "brain", "metabolite")


def read(text: str, where: str, units: Mapping[str, str]) -> dict[str, Any]:
    """Reads the text of a compound file.

    Arguments:
        text: The TOML.
        where: What to call the file in a message.
        units: The canonical unit of each field of a compound.

    Returns:
        The fields of a compound by name; of each metabolite its name or path, share, and whether it returns.

    Raises:
        ValueError: If the file is wrong; the message says where and what to do.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # an endless number is a ValueError of its own kind
        raise ValueError(f"{where} must be TOML, but is not: {error}.") from None
    entries.known(table, (*_TABLES, *_ELEMENTS), where)
    values = entries.known(table.get("values", {}), _IN_FILE, f"{where} [values]")
    for name in _REQUIRED:
        if name not in values:
            raise ValueError(f"{where} must give {name}, but does not. Add [values.{name}].")
    fields = {_FIELD.get(key, key): _value(key, entry, where, units) for key, entry in values.items()}
    if "Caco2" in fields:
        fields.setdefault("Peff", _permeability(fields["Caco2"], where))
        del fields["Caco2"]
    enzymes = entries.known(table.get("enzymes", {}), (*HEPATIC, OTHER), f"{where} [enzymes]")
    pathways = entries.tables(table, "in-vitro", where)
    formed = entries.tables(table, "metabolite", where)
    metabolites = tuple(_metabolite(entry, where) for entry in formed)
    organs, source = elements.read(table, where, fields["MW"])
    said = {**values, **enzymes}
    return {
        **fields,
        **organs,
        "name": entries.text(table, "name", Path(where).stem, where),
        "species": entries.text(table, "species", "human", where),
        "enzymes": {
            name: entries.number(entries.entry(entry, "share", where), f"enzymes.{name}", where)
            for name, entry in enzymes.items()
        },
        "pathways": tuple(_pathway(entry, where) for entry in pathways),
        "metabolites": metabolites,
        "source": {key: str(entry.get("source", "")) for key, entry in said.items()}
        | source
        | {f"metabolite {entry['compound']}": str(entry.get("source", "")) for entry in formed},
    }


def _metabolite(entry: Any, where: str) -> tuple[str, float, bool]:
    """Returns a metabolite's name or path, its share, and whether it returns."""
    inside = f"{where} [[metabolite]]"
    entries.known(entry, ("compound", "share", "returns", "source", "note"), inside)
    name = entries.entry(entry, "compound", inside)
    returns = entry.get("returns", False)
    if not isinstance(name, str) or not isinstance(returns, bool):
        raise ValueError(
            f"{inside} must give compound in quotes and returns as true or false, but has {entry!r}."
        )
    share = entries.number(entries.entry(entry, "share", inside), "metabolite.share", where)
    return name, share, returns


def _value(name: str, entry: Any, where: str, units: Mapping[str, str]) -> Any:
    """Returns the value of an entry in the unit that its field declares."""
    value = entries.entry(entry, "value", where)
    entries.known(entry, ("value", "unit", "source", "note"), f"{where} [values.{name}]")
    canonical = "cm/s" if name == "Caco2" else units[_FIELD.get(name, name)]
    numbers = [
        entries.quantity(each, entry.get("unit"), canonical, name, where)
        for each in (value if isinstance(value, list) else [value])
    ]
    if name in ("pKa_acid", "pKa_base"):
        return tuple(numbers)
    if isinstance(value, list):
        raise ValueError(f"{where} must give {name} as one number, but has {value!r}.")
    return numbers[0]


def _permeability(Caco2: float, where: str) -> float:
    r"""Converts an apparent Caco-2 permeability at pH 7.4 [cm/s] to the jejunum's [cm/h].

    .. math:: \log_{10} P_{eff} [10^{-4} cm/s] = 0.4926 \log_{10} P_{app} [10^{-6} cm/s] - 0.1454

    References:
        Yang et al. (2007). Curr Drug Metab 8:676, equation 10. https://doi.org/10.2174/138920007782109733
    """
    if not 0.0 < Caco2 < 1.0:
        raise ValueError(
            f"{where} must give Caco2 above 0 and below 1 cm/s, but has {Caco2:g} cm/s. Check its unit."
        )
    return convert(10.0 ** (0.4926 * math.log10(Caco2 * 1e6) - 0.1454) * 1e-4, "cm/s", "cm/h")


def _pathway(entry: Any, where: str) -> Pathway:
    """Returns one in-vitro measurement; its numbers must be in the units of its system."""
    keys = ("system", "enzyme", "CLint", "Vmax", "Km", "unit", "Km_unit", "fu_inc", "ISEF", "source", "note")
    entries.known(entry, keys, f"{where} [[in-vitro]]")
    system = choose(f"{where} in-vitro.system", str(entries.entry(entry, "system", where)), SYSTEMS)
    expected = SYSTEMS[system]["Vmax" in entry]
    if entry.get("unit") != expected:
        raise ValueError(
            f"{where} in-vitro.unit must be {expected!r} for {system}, but is {entry.get('unit')!r}."
        )
    if "Km_unit" in entry and "Km" not in entry:
        raise ValueError(
            f"{where} in-vitro.Km_unit must come with Km, but Km is missing. Add Km, or remove its unit."
        )
    fields: dict[str, Any] = {key: str(entry[key]) for key in ("enzyme", "source") if key in entry}
    for key in ("CLint", "Vmax", "Km", "fu_inc", "ISEF"):
        if key in entry:
            fields[key] = entries.number(entry[key], f"in-vitro.{key}", where)
    if "Km" in fields:
        unit = entry.get("Km_unit", "umol/L")
        fields["Km"] = entries.quantity(fields["Km"], unit, "umol/L", "in-vitro.Km", where)
    return Pathway(system=system, **fields)
