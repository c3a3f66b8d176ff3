"""Units: canonical inside, converted once at the edges.

Every tensor holds hours, litres, milligrams, kilograms, L/h, mg/L, centimetres and years; fractions lie
between 0 and 1. A field declares its unit once with :func:`quantity`; :func:`convert` brings a number
that a user wrote in another unit to the canonical one.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any


def quantity(unit: str, **keywords: Any) -> Any:
    """Declares a dataclass field with its unit, to be read back by :func:`unit_of`.

    >>> @dataclasses.dataclass
    ... class Drug:
    ...     MW: float = quantity("g/mol")
    >>> unit_of(Drug, "MW")
    'g/mol'
    """
    return dataclasses.field(metadata={"unit": unit}, **keywords)


def unit_of(kind: type, name: str) -> str:
    """Returns the unit in which the dataclass ``kind`` declares its field ``name``."""
    for field in dataclasses.fields(kind):
        if field.name == name:
            return field.metadata.get("unit", "")
    raise ValueError(f"{kind.__name__} has no field {name!r}.")


@functools.cache
def _registry() -> Any:
    import pint  # imported here: it takes 0.3 s, and only text written by users needs it

    registry: Any = pint.UnitRegistry()
    registry.define("Da = g / mol")
    return registry


def factor(unit: str | None, to: str) -> float:
    """Returns the number by which a value in ``unit`` is multiplied to be in ``to``.

    Raises:
        ValueError: If a unit is unknown or the two measure different things.

    >>> round(factor("mL/min", "L/h"), 12)
    0.06
    """
    if not isinstance(unit, str | None):
        raise ValueError(f"unit must be text that converts to {to!r}, but is {unit!r}. Write it in quotes.")
    return _factor(unit, to)


@functools.cache
def _factor(unit: str | None, to: str) -> float:
    import tokenize

    import pint

    registry = _registry()
    unreadable = (AttributeError, TypeError, AssertionError, ValueError, tokenize.TokenError, RecursionError)
    try:
        return float(registry.Quantity(1.0, unit).to(to).magnitude)
    except (pint.errors.PintError, *unreadable) as error:
        raise ValueError(f"unit must be one that converts to {to!r}, but is {unit!r} ({error}).") from None


def convert(value: float, unit: str, to: str) -> float:
    """Converts ``value`` from ``unit`` to ``to``.

    >>> round(convert(250.0, "ug", "mg"), 12)
    0.25
    """
    return value * factor(unit, to)
