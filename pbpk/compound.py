"""A drug: what is known of it, each value with its source; :mod:`pbpk.compound_file` describes the file."""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pbpk import compound_file
from pbpk.checks import choose
from pbpk.files import read_text
from pbpk.in_vitro import Pathway
from pbpk.ontogeny import HEPATIC, OTHER
from pbpk.units import convert, quantity

_RADIUS = 1.75  # cm, of the human small intestine: Yu and Amidon (1999) doi:10.1016/S0378-5173(99)00147-7


@dataclass(frozen=True)
class Compound:
    """A drug.

    logP, fup and BP may be tensors, so that a gradient can be taken with respect to them.

    Attributes:
        name: Its name.
        MW: The molecular weight [g/mol].
        logP: The base-10 logarithm of the octanol:water ratio of the uncharged molecule.
        fup: The unbound fraction in plasma [1], in (0, 1].
        BP: The blood-to-plasma concentration ratio [1], as measured: at a haematocrit of 0.45.
        pKa_acid: The pKa of each acidic group.
        pKa_base: The pKa of each basic group.
        logMA: The logarithm of the membrane affinity; None where not measured.
        species: The species in which fup, BP and the clearances were measured.
        CL: The observed plasma clearance after an intravenous dose, per body weight [L/h/kg], or None.
        Vss: The observed steady-state volume of distribution [L/kg], for comparison only, or None.
        fe: The share of CL that leaves unchanged in urine [1], or None.
        CLrenal: The observed renal plasma clearance per body weight [L/h/kg], or None.
        filtration: The share of fup GFR that is cleared in urine [1], or None.
        Peff: The effective permeability of the human jejunum [cm/h], or None.
        ka_given: The rate of absorption [1/h] where measured; else :attr:`ka` follows from Peff.
        Fa_given: The share of an oral dose that is absorbed [1] where measured; else :attr:`Fa` follows.
        fu_gut: The unbound fraction in the enterocyte [1].
        enzymes: The share of the liver's intrinsic clearance each enzyme carries; they sum to 1.
        pathways: The in-vitro measurements.
        source: The source of each value, by name.
    """

    name: str
    MW: float = quantity("g/mol")
    logP: float | Tensor = quantity("1")
    fup: float | Tensor = quantity("1")
    BP: float | Tensor = quantity("1", default=1.0)
    pKa_acid: tuple[float, ...] = quantity("1", default=())
    pKa_base: tuple[float, ...] = quantity("1", default=())
    logMA: float | None = quantity("1", default=None)
    species: str = "human"
    CL: float | None = quantity("L/h/kg", default=None)
    Vss: float | None = quantity("L/kg", default=None)
    fe: float | None = quantity("1", default=None)
    CLrenal: float | None = quantity("L/h/kg", default=None)
    filtration: float | None = quantity("1", default=None)
    Peff: float | None = quantity("cm/h", default=None)
    ka_given: float | None = quantity("1/h", default=None)
    Fa_given: float | None = quantity("1", default=None)
    fu_gut: float = quantity("1", default=1.0)
    enzymes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    pathways: tuple[Pathway, ...] = ()
    source: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks each number, and that the numbers fit together."""
        for field in dataclasses.fields(self):
            if field.name in _RANGES:
                self._check_range(field.name)
        self._check_renal()
        self._check_enzymes()

    def _check_range(self, name: str) -> None:
        """Checks every number of a field, of a tensor the smallest and the largest (NaN if there is one)."""
        low, high, closed, remedy = _RANGES[name]
        value = getattr(self, name)
        given = value if isinstance(value, tuple) else () if value is None else (value,)
        tensors = [torch.as_tensor(number, dtype=torch.float64).detach() for number in given]
        for number in (float(extreme) for tensor in tensors for extreme in tensor.aminmax()):
            if not ((low <= number if closed else low < number) and number <= high):
                raise ValueError(
                    f"Compound.{name} must lie in {'[' if closed else '('}{low:g}, {high:g}], "
                    f"but {self.name!r} has {number:g}.{remedy}"
                )

    def _check_renal(self) -> None:
        given = [name for name in ("fe", "CLrenal", "filtration") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"Compound.{given[0]} and {given[1]} must not both be given, but {self.name!r} has both. "
                "Keep the one that was measured."
            )
        if self.fe is not None and self.CL is None:
            raise ValueError(
                f"Compound.fe must come with CL, of which it is a share, but {self.name!r} has no CL."
            )

    def _check_enzymes(self) -> None:
        for enzyme in self.enzymes:
            choose("Compound.enzymes", enzyme, [*HEPATIC, OTHER])
        total = sum(self.enzymes.values())
        if self.enzymes and not math.isclose(total, 1.0, abs_tol=1e-3):
            raise ValueError(
                f"Compound.enzymes must have shares that sum to 1, but those of {self.name!r} sum to "
                f"{total:g}. Put the rest under {OTHER!r}."
            )

    @property
    def kind(self) -> str:
        """``"neutral"``, ``"acid"``, ``"base"`` or ``"zwitterion"``, by the groups it has."""
        kinds = {(0, 0): "neutral", (1, 0): "acid", (0, 1): "base", (1, 1): "zwitterion"}
        return kinds[bool(self.pKa_acid), bool(self.pKa_base)]

    @property
    def ka(self) -> float:
        """The rate of absorption [1/h]: the measured one, else 2 Peff / R (Yu and Amidon 1999), else 1."""
        if self.ka_given is not None:
            return self.ka_given
        return 1.0 if self.Peff is None else 2.0 * self.Peff / _RADIUS

    @property
    def Fa(self) -> float:
        """The absorbed share: the measured one, else 1 - (1 + 0.54 Peff)^-7 with Peff in 1e-4 cm/s, else 1.

        References:
            Yu, Amidon (1999); Darwich et al. (2010). Curr Drug Metab 11:716, equation 3, as in httk.
        """
        if self.Fa_given is not None:
            return self.Fa_given
        if self.Peff is None:
            return 1.0
        return 1.0 - (1.0 + 0.54 * convert(self.Peff, "cm/h", "cm/s") * 1e4) ** -7

    def replace(self, **changes: Any) -> Compound:
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @staticmethod
    def names() -> tuple[str, ...]:
        """Returns the names of the bundled compounds.

        >>> "midazolam" in Compound.names()
        True
        """
        folder = importlib.resources.files("pbpk") / "data" / "compounds"
        names = (Path(entry.name) for entry in folder.iterdir())
        return tuple(sorted(path.stem for path in names if path.suffix == ".toml"))

    @classmethod
    def load(cls, name: str | os.PathLike[str]) -> Compound:
        """Reads a bundled compound by name, or a TOML file.

        Arguments:
            name: One of :meth:`names`, or the path of a file that ends in ``.toml``.

        Raises:
            ValueError: If there is no such compound, or the file is wrong; the message says where.
            OSError: If the file cannot be read.

        >>> Compound.load("midazolm")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: compound must be one of ... Did you mean 'midazolam'?
        """
        if str(name).endswith(".toml"):
            text, where = read_text(name, "compound"), str(name)
        else:
            where = choose("compound", str(name), cls.names()) + ".toml"
            folder = importlib.resources.files("pbpk") / "data" / "compounds"
            text = (folder / where).read_text(encoding="utf-8")
        units = {field.name: field.metadata.get("unit", "1") for field in dataclasses.fields(cls)}
        return cls(**compound_file.read(text, where, units))


_PERCENT = " If it is a percentage, divide it by 100."
_RANGES: Mapping[str, tuple[float, float, bool, str]] = {  # low, high, whether low is allowed, remedy
    "MW": (10.0, 1e6, True, " It is in g/mol."),
    "logP": (-10.0, 15.0, True, " It is a base-10 logarithm."),
    "fup": (0.0, 1.0, False, _PERCENT),
    "BP": (0.0, 1e3, False, ""),
    "pKa_acid": (-15.0, 30.0, True, ""),
    "pKa_base": (-15.0, 30.0, True, ""),
    "CL": (0.0, 1e3, True, ""),
    "fe": (0.0, 1.0, True, _PERCENT),
    "CLrenal": (0.0, 1e3, True, ""),
    "filtration": (0.0, 1e3, True, ""),
    "Peff": (0.0, 1e3, False, " Its unit is a speed, such as cm/s."),
    "ka_given": (0.0, 1e4, False, ""),
    "Fa_given": (0.0, 1.0, True, _PERCENT),
    "fu_gut": (0.0, 1.0, False, _PERCENT),
}
