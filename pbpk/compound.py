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

from pbpk import compound_file, elements
from pbpk.checks import choose
from pbpk.elements import Metabolism
from pbpk.files import read_text
from pbpk.in_vitro import Pathway
from pbpk.ontogeny import HEPATIC, OTHER
from pbpk.units import convert, quantity

EMPTYING = math.log(2.0) / (7.6 / 60.0)
"""The rate at which the stomach of a fasting adult empties 200 mL of water at 37 C [1/h], after a quicker
start of some minutes; here from the start [ours]: Bateman (1982) J Physiol 331:461.
https://doi.org/10.1113/jphysiol.1982.sp014383"""

_RADIUS = 1.75  # cm, of the human small intestine: Yu and Amidon (1999) doi:10.1016/S0378-5173(99)00147-7


@dataclass(frozen=True)
class Formed:
    """A metabolite, and how much of it is formed.

    Attributes:
        compound: The metabolite.
        share: The share of the parent's metabolism, in every organ, that forms it [1].
        returns: Whether what its bile carries into the gut becomes the parent again.
    """

    compound: Compound
    share: float = quantity("1")
    returns: bool = False

    def __post_init__(self) -> None:
        """Checks the share, and that what returns has a way."""
        elements.check(f"the share of metabolite {self.compound.name!r}", self.share, 1.0)
        if self.returns and self.compound.CLbile is None:
            raise ValueError(
                f"metabolite.returns must come with bile, but {self.compound.name!r} has no CLbile. "
                "Give its file CLbile and kbile."
            )


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
        kge_given: The rate at which the stomach empties a dose by mouth [1/h] where given; else :attr:`kge`.
        CLbile: The unbound clearance from the liver into bile in the reference adult [L/h], or None.
        kbile: The rate at which bile empties into the gut [1/h], or None.
        PS: What passes the wall of an organ in the reference adult [L/h], by organ (:mod:`pbpk.elements`).
        metabolism: What organs of the reference adult metabolise beside CL and the pathways.
        brain: What passes between the brain's four spaces in the reference adult, by name; empty for one
            well-stirred space.
        metabolites: What its metabolism forms.
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
    kge_given: float | None = quantity("1/h", default=None)
    CLbile: float | None = quantity("L/h", default=None)
    kbile: float | None = quantity("1/h", default=None)
    PS: Mapping[str, float] = quantity("L/h", default_factory=dict)
    metabolism: tuple[Metabolism, ...] = ()
    brain: Mapping[str, float] = dataclasses.field(default_factory=dict)
    metabolites: tuple[Formed, ...] = ()
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
        elements.check_all(self.PS, self.brain)
        self._check_fate()

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

    def _check_fate(self) -> None:
        """Checks bile and metabolites."""
        if (self.CLbile is None) != (self.kbile is None):
            raise ValueError(
                f"Compound.CLbile and kbile must both be given or neither, but {self.name!r} has one. "
                "The one is into bile, the other out of it."
            )
        names = [formed.compound.name for formed in self.metabolites]
        if len(set(names)) < len(names) or any(":" in name or name in elements.TISSUES for name in names):
            raise ValueError(
                f"Compound.metabolites must have names of their own, no organ's and without a colon, but "
                f"those of {self.name!r} are {', '.join(names)}. Rename them in their files."
            )
        total = sum(formed.share for formed in self.metabolites)
        if total > 1.0 + 1e-9:
            raise ValueError(
                f"Compound.metabolites must have shares that sum to at most 1, but those of {self.name!r} "
                f"sum to {total:g}."
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
    def kge(self) -> float | None:
        """The rate at which the stomach empties [1/h]: the given one, else a fasting adult's for people.

        None has a dose by mouth in the gut at once: where ka was measured, which holds the stomach's time, or
        nothing is known of absorption. Animals have none.
        """
        calculated = self.ka_given is None and self.Peff is not None and self.species == "human"
        return EMPTYING if self.kge_given is None and calculated else self.kge_given

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

    @property
    def elements(self) -> tuple[str, ...]:
        """The names of the elements it has, for what knows none of them."""
        names = ("kge_given", "CLbile", "PS", "metabolism", "brain", "metabolites")
        return tuple(name for name in names if getattr(self, name))

    @property
    def descent(self) -> tuple[str, ...]:
        """The names of its metabolites and theirs: M1, then M1:M2 where M1 forms M2."""
        return tuple(
            name
            for formed in self.metabolites
            for own in [formed.compound.name]
            for name in (own, *(f"{own}:{later}" for later in formed.compound.descent))
        )

    def sources(self) -> dict[str, str]:
        """Returns the source of each value, of its metabolites too, by name."""
        found = dict(self.source)
        for formed in self.metabolites:
            found |= {f"{formed.compound.name}: {k}": v for k, v in formed.compound.sources().items()}
        return found

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
        return cls._load(Path(name), ())

    @classmethod
    def _load(cls, name: Path, above: tuple[str, ...]) -> Compound:
        """Reads a compound, and its metabolites from files beside it; ``above`` it are its parents."""
        if name.suffix == ".toml":
            text, where = read_text(name, "compound"), str(name)
        else:
            where = choose("compound", str(name), cls.names()) + ".toml"
            folder = importlib.resources.files("pbpk") / "data" / "compounds"
            text = (folder / where).read_text(encoding="utf-8")
        file = str(name.resolve())
        if file in above:
            raise ValueError(
                f"{where} [[metabolite]] must not lead back to itself, but does. Only bile can bring a "
                "drug back: give the metabolite returns = true."
            )
        units = {field.name: field.metadata.get("unit", "1") for field in dataclasses.fields(cls)}
        fields = compound_file.read(text, where, units)
        fields["metabolites"] = tuple(
            Formed(cls._load(_beside(name, other), (*above, file)), share, returns)
            for other, share, returns in fields["metabolites"]
        )
        return cls(**fields)


def _beside(file: Path, name: str) -> Path:
    """Returns the path of a compound named in a file: as it is if bundled, else relative to the file."""
    return file.parent / name if name.endswith(".toml") else Path(name)


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
    "kge_given": (0.0, 1e4, False, ""),
    "CLbile": (0.0, 1e6, True, ""),
    "kbile": (0.0, 1e4, False, ""),
    "Fa_given": (0.0, 1.0, True, _PERCENT),
    "fu_gut": (0.0, 1.0, False, _PERCENT),
}
