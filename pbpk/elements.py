r"""What a compound file says of single organs: walls, metabolism, the brain's barriers, and metabolites.

Clearances, PS and Vmax are those of the reference adult of the compound's species (for people the man of ICRP
Publication 89, 73 kg); in another body they go with the organ's mass (:mod:`pbpk.kinetics`). All act on the
unbound drug. What they remove comes on top of ``CL`` and ``[[in-vitro]]``::

    [[wall]]                    # between the blood and the tissue of an organ
    organ = "muscle"
    PS = 4.0
    unit = "L/h"

    [[metabolism]]              # in any organ: CLint, or Vmax and Km
    organ = "small_intestine"
    Vmax = 12.0
    unit = "mg/h"               # or an amount, nmol/min
    Km = 0.3
    Km_unit = "mg/L"            # or an amount, umol/L

    [brain.PSb]                 # and PSc, PSe, CLbout, fum, fuc: the brain's four spaces (pbpk.brain)
    value = 1.9
    unit = "L/h"

    [[metabolite]]              # a share of what is metabolised, in whatever organ, becomes this
    compound = "m1.toml"        # a file beside this one, or a bundled compound
    share = 0.4
    returns = true              # what its bile carries into the gut becomes the parent again

Each takes a ``source``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pbpk import entries
from pbpk.checks import choose
from pbpk.organs import PERFUSED
from pbpk.units import convert, quantity

TISSUES: tuple[str, ...] = (*PERFUSED, "lung")
"""The organs that can metabolise, and that can have a wall."""

BARRIER: Mapping[str, str] = {
    **dict.fromkeys(("PSb", "PSc", "PSe", "CLbout"), "L/h"),
    **dict.fromkeys(("fum", "fuc"), "1"),
}
"""What passes between the four spaces of the brain, with its unit: :class:`pbpk.kinetics.BrainBarrier`."""

_MUST = ("PSb", "PSc", "PSe")


@dataclass(frozen=True)
class Metabolism:
    """What an organ of the reference adult metabolises: linear (CLint), or saturable (Vmax and Km).

    Attributes:
        organ: One of :data:`TISSUES`.
        CLint: The unbound intrinsic clearance [L/h]; None where it is saturable.
        Vmax: The maximal rate [mg/h]; None where it is linear.
        Km: The unbound concentration of half that rate [mg/L]; None where it is linear.
    """

    organ: str
    CLint: float | None = quantity("L/h", default=None)
    Vmax: float | None = quantity("mg/h", default=None)
    Km: float | None = quantity("mg/L", default=None)

    def __post_init__(self) -> None:
        """Checks that it is either linear or saturable, and that its numbers can be."""
        choose("metabolism.organ", self.organ, TISSUES)
        linear, saturable = self.CLint is not None, None not in (self.Vmax, self.Km)
        if linear == saturable or (self.Vmax is None) != (self.Km is None):
            raise ValueError(
                f"metabolism in {self.organ!r} must give either CLint, or Vmax and Km, but gives "
                f"CLint = {self.CLint}, Vmax = {self.Vmax}, Km = {self.Km}."
            )
        for name in ("CLint", "Vmax"):
            check(f"metabolism.{name}", getattr(self, name))
        if self.Km is not None and not 0.0 < self.Km < math.inf:
            raise ValueError(f"metabolism.Km must be above 0 and finite, but is {self.Km:g}.")


def check(name: str, value: float | None, most: float = math.inf) -> None:
    """Raises unless a number is missing, or from 0 to ``most`` and finite."""
    if value is not None and not (math.isfinite(value) and 0.0 <= value <= most):
        bound = "finite and not negative" if math.isinf(most) else f"in [0, {most:g}]"
        raise ValueError(f"{name} must be {bound}, but is {value:g}.")


def check_all(PS: Mapping[str, float], brain: Mapping[str, float]) -> None:
    """Raises unless the walls and the brain's barriers can be.

    Raises:
        ValueError: If an organ or a quantity is unknown, a number is impossible, or the brain is incomplete.
    """
    for organ, value in PS.items():
        check(f"PS of {choose('wall.organ', organ, TISSUES)}", value)
    for name, value in brain.items():
        unit = BARRIER[choose("brain", name, BARRIER)]
        check(f"brain.{name}", value, 1.0 if unit == "1" else math.inf)
        if unit == "1" and value == 0.0:
            raise ValueError(f"brain.{name} must be above 0, but is 0.")
    for name in _MUST if brain else ():
        if name not in brain:
            raise ValueError(f"brain must give {', '.join(_MUST)}, but lacks {name}. Add [brain.{name}].")
    if brain and "brain" in PS:
        raise ValueError("brain must have either a [[wall]] or its barriers, but has both. Remove one.")


def read(table: Mapping[str, Any], where: str, MW: float) -> tuple[dict[str, Any], dict[str, str]]:
    """Reads what a compound file says of single organs.

    Arguments:
        table: The file's table.
        where: What to call the file in a message.
        MW: The molecular weight [g/mol].

    Returns:
        The fields PS, metabolism and brain of a compound, and the source of each number by name.
    """
    PS: dict[str, float] = {}
    source: dict[str, str] = {}
    for wall in entries.tables(table, "wall", where):
        organ = _organ(wall, ("PS",), f"{where} [[wall]]")
        if organ in PS:
            raise ValueError(f"{where} must give one [[wall]] an organ, but repeats {organ!r}. Remove one.")
        PS[organ] = entries.quantity(
            entries.entry(wall, "PS", where), wall.get("unit"), "L/h", "wall.PS", where
        )
        source[f"PS of {organ}"] = str(wall.get("source", ""))
    metabolism = [_metabolism(one, where, MW) for one in entries.tables(table, "metabolism", where)]
    for one, entry in zip(metabolism, table.get("metabolism", []), strict=True):
        name = f"metabolism in {one.organ}"
        said = [text for text in (source.get(name, ""), str(entry.get("source", ""))) if text]
        source[name] = "; ".join(said)
    barriers = entries.known(table.get("brain", {}), tuple(BARRIER), f"{where} [brain]")
    if "brain" in table and not barriers:
        raise ValueError(f"{where} [brain] must give {', '.join(_MUST)}, but is empty. Add [brain.PSb].")
    brain = {name: _barrier(name, entry, where) for name, entry in barriers.items()}
    source |= {f"brain {name}": str(entry.get("source", "")) for name, entry in barriers.items()}
    return {"PS": PS, "metabolism": tuple(metabolism), "brain": brain}, source


def _organ(entry: Any, keys: tuple[str, ...], where: str) -> str:
    entries.known(entry, ("organ", *keys, "unit", "source", "note"), where)
    return choose(f"{where} organ", str(entries.entry(entry, "organ", where)), TISSUES)


def _metabolism(entry: Any, where: str, MW: float) -> Metabolism:
    organ = _organ(entry, ("CLint", "Vmax", "Km", "Km_unit"), f"{where} [[metabolism]]")
    found: dict[str, float] = {}
    if "Km_unit" in entry and "Km" not in entry:
        raise ValueError(
            f"{where} metabolism.Km_unit must come with Km, but Km is missing. Add Km, or remove its unit."
        )
    if "CLint" in entry:
        found["CLint"] = entries.quantity(entry["CLint"], entry.get("unit"), "L/h", "metabolism.CLint", where)
    for name, unit, canonical in (("Vmax", "unit", "mg/h"), ("Km", "Km_unit", "mg/L")):
        if name in entry:
            value = entries.number(entry[name], f"metabolism.{name}", where)
            found[name] = _mass(value, entry.get(unit), canonical, f"metabolism.{name}", where, MW)
    try:
        return Metabolism(organ, **found)
    except ValueError as error:
        raise ValueError(f"{where} {error}") from None


def _mass(value: float, unit: Any, to: str, name: str, where: str, MW: float) -> float:
    """Returns a mass or an amount of substance, per time or volume, as mg."""
    try:
        return convert(value, unit, to.replace("mg", "mol")) * MW * 1e3
    except ValueError:
        return entries.quantity(value, unit, to, name, where)


def _barrier(name: str, entry: Any, where: str) -> float:
    value = entries.entry(entry, "value", where)
    entries.known(entry, ("value", "unit", "source", "note"), f"{where} [brain.{name}]")
    return entries.quantity(value, entry.get("unit"), BARRIER[name], f"brain.{name}", where)
