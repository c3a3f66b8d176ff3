"""Recipes as files: a bundled TOML file, or one of the user's, read and checked.

::

    name = "example"
    model = "two-compartment"            # brain4, one-compartment, two-compartment, whole-body
    [body]                               # brain4 and whole-body: sex, age [year], height [cm], BW [kg]
    [known]                              # value of each known parameter, in house units
    ka = 1.0
    F = 1.0
    [unknown.CL]                         # start, lower, upper, transform (log, logit, identity)
    start = 10.0
    prior = { median = 10.0, sd = 0.3 }  # sd of the logarithm
    [[dose]]                             # time, amount (or per_kg), duration, compartment
    amount = 100.0
    [seen]
    compartments = ["plasma"]
    times = [1, 2, 4, 8]
    [noise]                              # proportional, additive, kind, known
    proportional = 0.1
    [cmt]                                # what the data file calls a compartment
    1 = "depot"

A whole body has a ``compound`` too, and may have a ``Kp_method`` and a ``clearance`` (observed, in-vitro).
Its parameters are CLint [L/h], CLrenal, fup, Kp_scale, ka, Fa, Fg, and where a drug's metabolism saturates,
or the recipe names them, Vmax [mg/h, whole organ] and Km [mg/L, unbound], numbered where there are several.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pbpk.checks import choose, nearest
from pbpk.files import read_text
from pbpk.inverse.noise import Noise

MODELS: tuple[str, ...] = ("brain4", "one-compartment", "two-compartment", "whole-body")
_TABLES = ("body", "known", "unknown", "truth", "dose", "seen", "noise", "cmt", "source")
_WORDS = ("name", "model", "note", "compound", "arterial", "bulk_unbound", "Kp_method", "clearance")


def names() -> tuple[str, ...]:
    """Returns the names of the bundled recipes."""
    folder = importlib.resources.files("pbpk") / "data" / "inverse"
    paths = (Path(entry.name) for entry in folder.iterdir())
    return tuple(sorted(path.stem for path in paths if path.suffix == ".toml"))


def read(name: str | Path) -> tuple[str, dict[str, Any]]:
    """Reads a bundled recipe by name, or a TOML file.

    Arguments:
        name: One of :func:`names`, or a path that ends in ``.toml``. ``"brain4"`` is ``"brain4-b1"``.

    Returns:
        The recipe's name, and its tables and words, checked.

    Raises:
        ValueError: If there is none, or the file is wrong; the message says where.
        OSError: If the file cannot be read.
    """
    if str(name).endswith(".toml"):
        text, where = read_text(name, "PROBLEM"), str(name)
    else:
        bundled = choose("PROBLEM", "brain4-b1" if name == "brain4" else str(name), names())
        folder = importlib.resources.files("pbpk") / "data" / "inverse"
        text, where = (folder / f"{bundled}.toml").read_text(encoding="utf-8"), f"{bundled}.toml"
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} must be TOML, but is not: {error}.") from None
    _check(table, where)
    return str(table.get("name", Path(where).stem)), table


def _check(table: dict[str, Any], where: str) -> None:
    """Checks the tables' names and kinds."""
    for key, value in table.items():
        if key not in (*_WORDS, *_TABLES):
            close = nearest(key, (*_WORDS, *_TABLES))
            remedy = f"Did you mean {close!r}?" if close else f"Known are {', '.join(_TABLES)}."
            raise ValueError(f"{where} has an unknown key {key!r}. {remedy}")
        if key in _TABLES and not isinstance(value, list if key == "dose" else dict):
            raise ValueError(f"{where} must give {key} as a table, but has {value!r}.")
    model = choose(f"{where}: model", str(table.get("model", "")), MODELS)
    if not table.get("unknown"):
        raise ValueError(f"{where} must have at least one unknown. Add [unknown.CL].")
    if model == "whole-body" and "compound" not in table:
        raise ValueError(f"{where} must name a compound for the whole body. Add compound = 'midazolam'.")
    _check_fields(table, where)
    _check_numbers(table, where)


_FIELDS: Mapping[str, tuple[str, ...]] = {
    "body": ("sex", "age", "height", "BW"),
    "unknown": ("start", "lower", "upper", "transform", "prior", "source"),
    "dose": ("time", "amount", "per_kg", "duration", "compartment", "interval", "count"),
    "seen": ("compartments", "times"),
    "noise": tuple(f.name for f in dataclasses.fields(Noise)),
    "prior": ("median", "sd"),
}


def _check_fields(table: Mapping[str, Any], where: str) -> None:
    groups = [
        ("body", table.get("body", {})),
        ("seen", table.get("seen", {})),
        ("noise", table.get("noise", {})),
    ]
    groups += [("dose", entry) for entry in table.get("dose", [])]
    groups += [("unknown", entry) for entry in table["unknown"].values()]
    groups += [("prior", entry.get("prior", {})) for _, entry in list(groups) if isinstance(entry, dict)]
    for kind, entry in groups:
        if not isinstance(entry, dict):
            raise ValueError(f"{where} must give each {kind} as a table, but has {entry!r}.")
        for key in entry:
            choose(f"{where}: a key of {kind}", key, _FIELDS[kind])
    for entry in table.get("dose", []):
        if ("amount" in entry) == ("per_kg" in entry):
            raise ValueError(f"{where} must give each dose an amount [mg], or per_kg [mg/kg], one of them.")


def _check_numbers(table: Mapping[str, Any], where: str) -> None:
    named = [(f"known.{name}", value) for name, value in table.get("known", {}).items()]
    named += [(f"truth.{name}", value) for name, value in table.get("truth", {}).items()]
    for name, entry in table["unknown"].items():
        named += [(f"unknown.{name}.{k}", entry[k]) for k in ("start", "lower", "upper") if k in entry]
        named += [(f"unknown.{name}.prior.{k}", value) for k, value in entry.get("prior", {}).items()]
    words = ("compartment",)
    named += [(f"dose.{k}", v) for entry in table.get("dose", []) for k, v in entry.items() if k not in words]
    named += [("seen.times", time) for time in table.get("seen", {}).get("times", [])]
    for name, value in named:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or value < 0
        ):
            raise ValueError(f"{where} must give {name} as a number of 0 or more, but has {value!r}.")
