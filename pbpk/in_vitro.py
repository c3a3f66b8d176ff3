r"""One measurement of metabolism in vitro, in the unit of its system, and what it means for a kg of liver.

.. math:: CL_{int} [L/h/kg] = 60 \times 10^{-6} \, CL_{int,in vitro} \, N / f_{u,inc}

with :math:`N` the 10^6 cells, the mg of microsomal protein, or the pmol of enzyme in a kg of adult liver.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pbpk.checks import choose
from pbpk.ontogeny import ADULT, HEPATIC, OTHER, microsomal_protein
from pbpk.units import quantity

SYSTEMS: Mapping[str, tuple[str, str]] = {
    "hepatocytes": ("uL/min/10^6 cells", "pmol/min/10^6 cells"),
    "microsomes": ("uL/min/mg", "pmol/min/mg"),
    "recombinant": ("uL/min/pmol", "pmol/min/pmol"),
}
"""The in-vitro systems, with the units of CLint and of Vmax in each."""

CELLS: Mapping[str, float] = {
    "human": 120.0,  # Obach et al. (1997) J Pharmacol Exp Ther 283:46; others: 107 to 139
    # Sohlenius-Sternbeck (2006) Toxicol In Vitro 20:1582 doi:10.1016/j.tiv.2006.06.003
    "dog": 215.0,
    "rat": 117.0,
    "mouse": 135.0,
    "rabbit": 114.0,
}
"""The hepatocytes of a gram of adult liver [10^6]."""

ABUNDANCE: Mapping[str, float] = {
    "CYP1A2": 45.0,
    "CYP2C9": 96.0,
    "CYP2C19": 19.0,
    "CYP2D6": 10.0,
    "CYP2E1": 49.0,
    "CYP3A4": 108.0,
}
"""Enzyme in adult human liver microsomes [pmol/mg]: Rodrigues (1999) doi:10.1016/S0006-2952(98)00268-8.

CYP2C9, CYP2C19 and CYP3A4 as restated in the reports of the OSP models; the others [unconfirmed]: for CYP1A2
restatements have 45 and 52.
"""

_PER_HOUR = 60.0e-6  # uL/min -> L/h


@dataclass(frozen=True)
class Pathway:
    """One measurement of metabolism in vitro: linear (CLint), or saturable (Vmax and Km).

    Attributes:
        system: One of :data:`SYSTEMS`.
        CLint: The intrinsic clearance in the system's own unit; None where it is saturable.
        Vmax: The maximal rate in the system's own unit; None where it is linear.
        Km: The concentration of half the maximal rate [umol/L]; None where it is linear.
        enzyme: The enzyme that carries it; None takes the compound's shares. Required for recombinant.
        fu_inc: The unbound fraction in the incubation [1].
        ISEF: Inter-system extrapolation factor of a recombinant enzyme [1].
        source: Where the numbers come from.
    """

    system: str
    CLint: float | None = None
    Vmax: float | None = None
    Km: float | None = quantity("umol/L", default=None)
    enzyme: str | None = None
    fu_inc: float = quantity("1", default=1.0)
    ISEF: float = quantity("1", default=1.0)
    source: str = ""

    def __post_init__(self) -> None:
        """Checks that the pathway is either linear or saturable, and that its numbers can be."""
        choose("in-vitro.system", self.system, SYSTEMS)
        if self.enzyme is not None:
            choose("in-vitro.enzyme", self.enzyme, [*HEPATIC, OTHER])
        linear, saturable = self.CLint is not None, None not in (self.Vmax, self.Km)
        if linear == saturable or (self.Vmax is None) != (self.Km is None):
            raise ValueError(
                "in-vitro must give either CLint, or Vmax and Km, but gives "
                f"CLint = {self.CLint}, Vmax = {self.Vmax}, Km = {self.Km}."
            )
        if self.system == "recombinant" and self.enzyme is None:
            raise ValueError("in-vitro.enzyme must name the recombinant enzyme, but is missing.")
        for name in ("CLint", "Vmax", "Km", "fu_inc", "ISEF"):
            value = getattr(self, name)
            least = 0.0 if name in ("CLint", "Vmax") else 1e-12  # the others divide or scale
            if value is not None and not (math.isfinite(value) and value >= least):
                raise ValueError(f"in-vitro.{name} must be finite and at least {least:g}, but is {value}.")

    @property
    def saturable(self) -> bool:
        """Whether the pathway has a Vmax and a Km."""
        return self.Vmax is not None

    @property
    def linear(self) -> float:
        """The intrinsic clearance far below saturation, CLint or Vmax / Km, in the system's own unit."""
        if self.Vmax is not None and self.Km is not None:
            return self.Vmax / self.Km
        return self.CLint or 0.0

    def amount(self, species: str) -> float:
        """Returns how much of the system a kg of adult liver holds: 10^6 cells, mg or pmol.

        Raises:
            ValueError: If it is not known for the species or the enzyme.
        """
        if self.system == "hepatocytes":
            return 1e3 * CELLS[choose("species of hepatocytes", species, CELLS)]
        choose("species of microsomes", species, ("human",))
        protein = 1e3 * float(microsomal_protein(ADULT))
        if self.system == "microsomes":
            return protein
        return protein * ABUNDANCE[choose("recombinant enzyme", str(self.enzyme), ABUNDANCE)] * self.ISEF

    def per_kg(self, species: str = "human") -> float:
        """Returns the unbound intrinsic clearance of a kg of adult liver [L/h/kg].

        >>> round(Pathway("hepatocytes", CLint=10.0).per_kg(), 6)
        72.0
        """
        return self.linear / self.fu_inc * self.amount(species) * _PER_HOUR
