"""The compound file: TOML in, the fields of a compound out, in canonical units.

``[values.<name>]`` holds a ``value``, its ``unit`` where it has one, and its ``source``; ``[enzymes.<name>]``
the ``share`` of the liver's intrinsic clearance that an enzyme carries; each ``[[in-vitro]]`` one measurement
of metabolism in hepatocytes, microsomes or a recombinant enzyme::

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

from pbpk.checks import choose, nearest
from pbpk.in_vitro import SYSTEMS, Pathway
from pbpk.ontogeny import HEPATIC, OTHER
from pbpk.units import convert

_FIELD = {"ka": "ka_given", "Fa": "Fa_given"}  # in a file: in the class
_REQUIRED = ("MW", "logP", "fup")
_IN_FILE = (
    *("MW", "logP", "fup", "BP", "pKa_acid", "pKa_base", "logMA", "CL", "Vss", "fe", "CLrenal"),
    *("filtration", "Peff", "Caco2", "ka", "Fa", "fu_gut"),
)


def read(text: str, where: str, units: Mapping[str, str]) -> dict[str, Any]:
    """Reads the text of a compound file.

    Arguments:
        text: The TOML.
        where: What to call the file in a message.
        units: The canonical unit of each field of a compound.

    Returns:
        The fields of a compound by name.

    Raises:
        ValueError: If the file is wrong; the message says where and what to do.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # an endless number is a ValueError of its own kind
        raise ValueError(f"{where} must be TOML, but is not: {error}.") from None
    _known(table, ("name", "species", "note", "values", "enzymes", "in-vitro"), where)
    values = _known(table.get("values", {}), _IN_FILE, f"{where} [values]")
    for name in _REQUIRED:
        if name not in values:
            raise ValueError(f"{where} must give {name}, but does not. Add [values.{name}].")
    fields = {_FIELD.get(key, key): _value(key, entry, where, units) for key, entry in values.items()}
    if "Caco2" in fields:
        fields.setdefault("Peff", _permeability(fields["Caco2"], where))
        del fields["Caco2"]
    enzymes = _known(table.get("enzymes", {}), (*HEPATIC, OTHER), f"{where} [enzymes]")
    pathways = table.get("in-vitro", [])
    if not isinstance(pathways, list):
        raise ValueError(f"{where} must give each measurement as [[in-vitro]], but has {pathways!r}.")
    return fields | {
        "name": _text(table, "name", Path(where).stem, where),
        "species": _text(table, "species", "human", where),
        "enzymes": {
            name: _number(_entry(entry, "share", where), f"enzymes.{name}", where)
            for name, entry in enzymes.items()
        },
        "pathways": tuple(_pathway(entry, where) for entry in pathways),
        "source": {key: str(entry.get("source", "")) for key, entry in {**values, **enzymes}.items()},
    }


def _text(table: Mapping[str, Any], key: str, default: str, where: str) -> str:
    """Returns the text under a key, on one line."""
    text = table.get(key, default)
    if not isinstance(text, str) or not text.isprintable() or not text:
        raise ValueError(f"{where} must give {key} as one line of text, but has {text!r}.")
    return text


def _known(table: Any, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    """Returns the table if every key in it is known."""
    if not isinstance(table, dict):
        raise ValueError(f"{where} must be a table, but is {table!r}.")
    for key in table:
        if key not in keys:
            close = nearest(key, keys)
            remedy = f"Did you mean {close!r}?" if close else f"Known are {', '.join(keys)}."
            raise ValueError(f"{where} has an unknown key {key!r}. {remedy}")
    return table


def _entry(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"{where} must give each value as a table with {key!r}, but has {entry!r}.")
    return entry[key]


def _value(name: str, entry: Any, where: str, units: Mapping[str, str]) -> Any:
    """Returns the value of an entry in the unit that its field declares."""
    value = _entry(entry, "value", where)
    _known(entry, ("value", "unit", "source", "note"), f"{where} [values.{name}]")
    numbers = [_number(each, name, where) for each in (value if isinstance(value, list) else [value])]
    canonical = "cm/s" if name == "Caco2" else units[_FIELD.get(name, name)]
    if canonical == "1":
        if entry.get("unit", "1") != "1":
            raise ValueError(f"{where} must give {name} without a unit, but has {entry['unit']!r}.")
    elif "unit" not in entry:
        raise ValueError(f"{where} must give {name} a unit that converts to {canonical}, but has none.")
    else:
        numbers = [_converted(number, entry["unit"], canonical, name, where) for number in numbers]
    if name in ("pKa_acid", "pKa_base"):
        return tuple(numbers)
    if isinstance(value, list):
        raise ValueError(f"{where} must give {name} as one number, but has {value!r}.")
    return numbers[0]


def _number(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where} must give {name} as a number, but has {value!r}.")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{where} must give {name} as a number below 1e308, but has {value!r}.") from None


def _converted(number: float, unit: Any, to: str, name: str, where: str) -> float:
    try:
        return convert(number, unit, to)
    except ValueError as error:
        raise ValueError(f"{where} {name}: {error}") from None


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
    _known(entry, keys, f"{where} [[in-vitro]]")
    system = choose(f"{where} in-vitro.system", str(_entry(entry, "system", where)), SYSTEMS)
    expected = SYSTEMS[system]["Vmax" in entry]
    if entry.get("unit") != expected:
        raise ValueError(
            f"{where} in-vitro.unit must be {expected!r} for {system}, but is {entry.get('unit')!r}."
        )
    fields: dict[str, Any] = {key: str(entry[key]) for key in ("enzyme", "source") if key in entry}
    for key in ("CLint", "Vmax", "Km", "fu_inc", "ISEF"):
        if key in entry:
            fields[key] = _number(entry[key], f"in-vitro.{key}", where)
    if "Km" in fields:
        unit = entry.get("Km_unit", "umol/L")
        fields["Km"] = _converted(fields["Km"], unit, "umol/L", "in-vitro.Km", where)
    return Pathway(system=system, **fields)
