"""Entries of a TOML file: each is taken if it is as it should be, or refused in a line that says where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pbpk.checks import nearest
from pbpk.units import convert


def known(table: Any, keys: tuple[str, ...], where: str) -> dict[str, Any]:
    """Returns the table if every key in it is known."""
    if not isinstance(table, dict):
        raise ValueError(f"{where} must be a table, but is {table!r}.")
    for key in table:
        if key not in keys:
            close = nearest(key, keys)
            remedy = f"Did you mean {close!r}?" if close else f"Known are {', '.join(keys)}."
            raise ValueError(f"{where} has an unknown key {key!r}. {remedy}")
    return table


def tables(table: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """Returns the tables that are listed under ``[[key]]``, none where there is no such key."""
    found = table.get(key, [])
    if not isinstance(found, list):
        raise ValueError(f"{where} must give each entry as [[{key}]], but has {found!r}.")
    return found


def entry(table: Any, key: str, where: str) -> Any:
    """Returns what a table has under a key that it must have."""
    if not isinstance(table, dict) or key not in table:
        raise ValueError(f"{where} must give each value as a table with {key!r}, but has {table!r}.")
    return table[key]


def text(table: Mapping[str, Any], key: str, default: str, where: str) -> str:
    """Returns the text under a key, on one line."""
    found = table.get(key, default)
    if not isinstance(found, str) or not found.isprintable() or not found:
        raise ValueError(f"{where} must give {key} as one line of text, but has {found!r}.")
    return found


def number(value: Any, name: str, where: str) -> float:
    """Returns a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where} must give {name} as a number, but has {value!r}.")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{where} must give {name} as a number below 1e308, but has {value!r}.") from None


def quantity(value: Any, unit: Any, to: str, name: str, where: str) -> float:
    """Returns a number in the unit ``to``; ``unit`` is None where none is given.

    A pure number, ``to = "1"``, must have none.
    """
    found = number(value, name, where)
    if to == "1":
        if unit not in (None, "1"):
            raise ValueError(f"{where} must give {name} without a unit, but has {unit!r}.")
        return found
    if unit is None:
        raise ValueError(f"{where} must give {name} a unit that converts to {to}, but has none.")
    try:
        return convert(found, unit, to)
    except ValueError as error:
        raise ValueError(f"{where} {name}: {error}") from None
