"""One or two compartments of plasma, with a depot: the plain models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Compartmental:
    r"""Plasma of volume V1, cleared by CL, with one peripheral compartment or none.

    .. math:: A_1' = k_a A_d - (CL + Q) A_1/V_1 + Q A_2/V_2, \quad A_2' = Q (A_1/V_1 - A_2/V_2).

    It is a :class:`pbpk.inverse.model.Linear` model.

    Attributes:
        peripheral: Whether there is a second compartment (Q, V2).
    """

    peripheral: bool = False
    linear = True

    @property
    def name(self) -> str:
        """The model's name."""
        return "two-compartment" if self.peripheral else "one-compartment"

    @property
    def states(self) -> tuple[str, ...]:
        """Amounts [mg]."""
        return ("depot", "plasma", "peripheral") if self.peripheral else ("depot", "plasma")

    @property
    def parameters(self) -> Mapping[str, str]:
        """The unit of each parameter, by name."""
        second = {"Q": "L/h", "V2": "L"} if self.peripheral else {}
        return {"CL": "L/h", "V1": "L", **second, "ka": "1/h", "F": "1"}

    @property
    def compartments(self) -> tuple[str, ...]:
        """What can be seen."""
        return ("plasma", "peripheral") if self.peripheral else ("plasma",)

    def rates(self, p: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        """Returns the entries of the rate matrix [1/h], by (row, column)."""
        A = {
            ("depot", "depot"): -p["ka"],
            ("plasma", "depot"): p["ka"],
            ("plasma", "plasma"): -p["CL"] / p["V1"],
        }
        if self.peripheral:
            k12, k21 = p["Q"] / p["V1"], p["Q"] / p["V2"]
            A[("plasma", "plasma")] = A[("plasma", "plasma")] - k12
            A |= {("plasma", "peripheral"): k21, ("peripheral", "plasma"): k12}
            A[("peripheral", "peripheral")] = -k21
        return A

    def reads(self, p: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Returns what each compartment reads: concentration per mg [1/L]."""
        second = {"peripheral": {"peripheral": 1.0 / p["V2"]}} if self.peripheral else {}
        return {"plasma": {"plasma": 1.0 / p["V1"]}, **second}

    def inlets(self, p: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
        """Returns where doses enter."""
        return {"plasma": ("plasma", 1.0), "depot": ("depot", p["F"])}

    def initial(self, p: Mapping[str, Any]) -> dict[str, Any]:
        """Returns nothing: all states are 0 before the first dose."""
        return {}
