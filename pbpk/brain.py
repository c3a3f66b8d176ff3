r"""The brain and its fluid in four compartments, limited by permeability, driven by plasma.

Brain blood (bb), brain mass (bm), cranial and spinal cerebrospinal fluid (c, s); :math:`C` is a
concentration [mg/L] and :math:`f_{ub} = f_u / BP`:

.. math::

    V_{bb} C_{bb}' &= Q_{br}(BP \, C_p - C_{bb}) + PS_b (f_{um} C_{bm} - f_{ub} C_{bb})
        + PS_c (f_{uc} C_c - f_{ub} C_{bb}) \\
        &\quad + Q_{ssink} C_s + Q_{csink} C_c + CL_{bout} f_{um} C_{bm} \\
    V_{bm} C_{bm}' &= PS_b (f_{ub} C_{bb} - f_{um} C_{bm}) + PS_e (f_{uc} C_c - f_{um} C_{bm})
        - Q_{bulk} C_{bm} - CL_{bout} f_{um} C_{bm} \\
    V_c C_c' &= PS_e (f_{um} C_{bm} - f_{uc} C_c) + PS_c (f_{ub} C_{bb} - f_{uc} C_c) + Q_{bulk} C_{bm}
        + Q_{sout} C_s - (Q_{sin} + Q_{csink}) C_c \\
    V_s C_s' &= Q_{sin} C_c - (Q_{sout} + Q_{ssink}) C_s

The plasma has two compartments, a dose enters it at once, over time or by mouth; the brain takes nothing back
from it. Or the arterial blood is given as a sum of exponentials, each a state of its own.

References:
    Gaohua, Neuhoff, Johnson, Rostami-Hodjegan, Jamei (2016). Development of a permeability-limited model of
    the human brain and cerebrospinal fluid. Drug Metab Pharmacokinet 31:224.
    https://doi.org/10.1016/j.dmpk.2016.03.005
    Verscheijden, Koenderink, de Wildt, Russel (2019). Development of a physiologically-based pharmacokinetic
    pediatric brain model. PLoS Comput Biol 15:e1007117. https://doi.org/10.1371/journal.pcbi.1007117
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.physiology import SEXES

COMPARTMENTS: tuple[str, ...] = ("brain_blood", "brain_mass", "cranial_csf", "spinal_csf")
VOLUMES: Mapping[str, str] = dict(zip(COMPARTMENTS, ("Vbb", "Vbm", "Vc", "Vs"), strict=True))
BODY: tuple[str, ...] = ("Vbb", "Vbm", "Vc", "Vs", "Qbr", "Qbulk", "Qsin", "Qsout", "Qssink", "Qcsink")
_UNITS: Mapping[str, str] = {
    **dict.fromkeys(("Vbb", "Vbm", "Vc", "Vs"), "L"),
    **dict.fromkeys(("Qbr", "Qbulk", "Qsin", "Qsout", "Qssink", "Qcsink"), "L/h"),
    **dict.fromkeys(("PSb", "PSc", "PSe", "CLbout"), "L/h"),
    **dict.fromkeys(("fu", "BP", "fum", "fuc"), "1"),
}
_PLASMA: Mapping[str, str] = {"CL": "L/h", "V1": "L", "Q": "L/h", "V2": "L", "ka": "1/h", "F": "1"}

CHILD = 18.0  # year: younger than this is a child
ADULT_BRAIN = 1.36 / 1.04  # L, by which a child's permeability is scaled: Verscheijden (2019)


@dataclass(frozen=True)
class Brain:
    r"""The model; a :class:`pbpk.inverse.model.Linear` one.

    Attributes:
        arterial: None where plasma has two compartments; else the terms :math:`(c_k, \lambda_k)` of the
            arterial blood's concentration :math:`\sum_k c_k e^{-\lambda_k t}` [mg/L, 1/h].
        bulk_unbound: Whether bulk flow carries only what is unbound in the brain mass, as in benchmark B0.
    """

    arterial: tuple[tuple[float, float], ...] | None = None
    bulk_unbound: bool = False
    linear = True

    @property
    def name(self) -> str:
        """The model's name."""
        return "brain4"

    @property
    def states(self) -> tuple[str, ...]:
        """Amounts [mg], and concentrations of the arterial blood [mg/L] where they are given."""
        driver: tuple[str, ...] = ("depot", "plasma", "peripheral")
        if self.arterial is not None:
            driver = tuple(f"arterial_{k + 1}" for k in range(len(self.arterial)))
        return (*driver, *COMPARTMENTS)

    @property
    def parameters(self) -> Mapping[str, str]:
        """The unit of each parameter, by name."""
        return {**_UNITS, **(_PLASMA if self.arterial is None else {})}

    @property
    def compartments(self) -> tuple[str, ...]:
        """What can be seen."""
        return (("plasma",) if self.arterial is None else ()) + COMPARTMENTS

    def rates(self, p: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        """Returns the entries of the rate matrix [1/h], by (row, column)."""
        bb, bm, c, s = COMPARTMENTS
        fub = p["fu"] / p["BP"]
        bulk = p["Qbulk"] * p["fum"] if self.bulk_unbound else p["Qbulk"]
        from_blood, from_mass, from_csf = fub / p["Vbb"], p["fum"] / p["Vbm"], p["fuc"] / p["Vc"]
        A = {
            (bb, bm): (p["PSb"] + p["CLbout"]) * from_mass,
            (bb, c): p["PSc"] * from_csf + p["Qcsink"] / p["Vc"],
            (bb, s): p["Qssink"] / p["Vs"],
            (bb, bb): -p["Qbr"] / p["Vbb"] - (p["PSb"] + p["PSc"]) * from_blood,
            (bm, bb): p["PSb"] * from_blood,
            (bm, c): p["PSe"] * from_csf,
            (bm, bm): -(p["PSb"] + p["PSe"] + p["CLbout"]) * from_mass - bulk / p["Vbm"],
            (c, bb): p["PSc"] * from_blood,
            (c, bm): p["PSe"] * from_mass + bulk / p["Vbm"],
            (c, s): p["Qsout"] / p["Vs"],
            (c, c): -(p["PSe"] + p["PSc"]) * from_csf - (p["Qsin"] + p["Qcsink"]) / p["Vc"],
            (s, c): p["Qsin"] / p["Vc"],
            (s, s): -(p["Qsout"] + p["Qssink"]) / p["Vs"],
        }
        return {**A, **(self._plasma(p) if self.arterial is None else self._driven(p))}

    def _plasma(self, p: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        k12, k21 = p["Q"] / p["V1"], p["Q"] / p["V2"]
        return {
            ("depot", "depot"): -p["ka"],
            ("plasma", "depot"): p["ka"],
            ("plasma", "plasma"): -p["CL"] / p["V1"] - k12,
            ("plasma", "peripheral"): k21,
            ("peripheral", "plasma"): k12,
            ("peripheral", "peripheral"): -k21,
            ("brain_blood", "plasma"): p["Qbr"] * p["BP"] / p["V1"],
        }

    def _driven(self, p: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        terms = list(zip(self.states, self.arterial or (), strict=False))
        own = {(state, state): -decay for state, (_, decay) in terms}
        return {**own, **{("brain_blood", state): p["Qbr"] for state, _ in terms}}

    def reads(self, p: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Returns what each compartment reads: concentration per mg [1/L]."""
        read = {name: {name: 1.0 / p[volume]} for name, volume in VOLUMES.items()}
        return {**({"plasma": {"plasma": 1.0 / p["V1"]}} if self.arterial is None else {}), **read}

    def inlets(self, p: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
        """Returns where doses enter: plasma, or the depot; or a compartment of the brain itself."""
        own = {name: (name, 1.0) for name in COMPARTMENTS}
        if self.arterial is not None:
            return own
        return {"plasma": ("plasma", 1.0), "depot": ("depot", p["F"]), **own}

    def initial(self, p: Mapping[str, Any]) -> dict[str, float]:
        """Returns the arterial blood's terms at time 0 [mg/L]."""
        return {state: term[0] for state, term in zip(self.states, self.arterial or (), strict=False)}


def brain_body(sex: str, age: float, height: float, BW: float) -> dict[str, float]:
    r"""Returns the volumes [L] and flows [L/h] of a person's brain.

    An adult's brain weighs :math:`1.449 - 3.62/BW` kg, and 12 % of the cardiac output reach it. A child
    (younger than 18 years) has its own curves of brain, cardiac output and share. The volume is divided as by
    :func:`divide`.

    Arguments:
        sex: ``"M"`` or ``"F"``.
        age: The age [year].
        height: The height [cm].
        BW: The body weight [kg].

    Raises:
        ValueError: If sex is neither, or a number is not positive, or the curves leave no room for the mass
            of the brain or make no fluid.

    References:
        Verscheijden et al. (2019), tables 1 and 2. https://doi.org/10.1371/journal.pcbi.1007117

    >>> man = brain_body("M", 30, 176, 70)
    >>> [round(man[name], 5) for name in ("Vbb", "Vbm", "Vc", "Vs", "Qbr", "Qcsink")]
    [0.06718, 1.12858, 0.11286, 0.02821, 38.74897, 0.01302]
    """
    choose("sex", sex, SEXES)
    for name, value in (("age", age), ("height", height), ("BW", BW)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, but is {value}.")
    BSA = 0.007184 * height**0.725 * BW**0.425  # m2, Du Bois (1916)
    if age >= CHILD:
        volume, Qbr = (1.449 - 3.62 / BW) / 1.04, 0.12 * BSA * 60.0 * (3.0 - 0.01 * (age - 20.0))
    else:
        share = (10.0 + 2290.0 * (math.exp(-0.608 * age) - math.exp(-0.639 * age))) / 100.0
        volume = _child_brain(age)
        Qbr = share * BSA * (110.0 + 184.974 * (math.exp(-0.0378 * age) - math.exp(-0.24477 * age)))
    male, years, kg, litres = (torch.tensor(v, dtype=torch.float64) for v in (sex == "M", age, BW, volume))
    V = {VOLUMES[name]: float(part) for name, part in divide(male, years, kg, litres).items()}
    made = float(production(years))
    if not V["Vbm"] > 0:
        raise ValueError(
            f"the brain must have room for its mass, but at {age:g} years and {BW:g} kg its {volume:.3g} L "
            f"hold {V['Vc'] + V['Vs']:.3g} L of fluid by the published curves. Give an adult 10 kg or more."
        )
    if not made > 0:
        raise ValueError(
            f"age must be one at which fluid is made, but at {age:g} years the published curve gives none. "
            "It holds from 2 weeks (0.04 years)."
        )
    return {**V, "Qbr": Qbr, **fluid_flows(made)}


def divide(male: Tensor, age: Tensor, BW: Tensor, brain: Tensor) -> dict[str, Tensor]:
    r"""Divides a brain's volume among its compartments [L].

    Its blood is 5 %, its endothelium 0.5 %; an adult's fluid is 10.5 % (men) or 9.2 % (women), four fifths of
    it cranial. A child (younger than 18 years) has 0.143 L of cranial fluid and :math:`(1.94 BW + 0.13)/1000`
    L, at most 0.0358 L, of spinal; the brain's mass is the rest.

    Arguments:
        male: 1 for men, 0 for women, between where it is not known, with shape :math:`(*)`.
        age: The ages [year]; an unknown one (NaN) counts as adult.
        BW: The body weights [kg].
        brain: The volumes [L].
    """
    fluid = (0.092 + 0.013 * male) * brain
    child = age < CHILD
    cranial = torch.where(child, torch.full_like(brain, 0.143), 0.8 * fluid)
    spinal = torch.where(child, ((1.94 * BW + 0.13) / 1000.0).clamp(max=0.0358), 0.2 * fluid)
    blood = 0.05 * brain
    mass = brain - blood - 0.005 * brain - cranial - spinal
    return dict(zip(COMPARTMENTS, (blood, mass, cranial, spinal), strict=True))


def production(age: Tensor) -> Tensor:
    """Returns the production of cerebrospinal fluid [L/h] at an age [year]."""
    infant = (4.007 * torch.log10(age.clamp(min=1e-3)) + 7.088) / 1000.0
    child = torch.where(age < 0.25, infant, torch.full_like(age, 0.024))
    return torch.where(age < CHILD, child, torch.full_like(age, 0.021))


def fluid_flows(production: Any) -> dict[str, Any]:
    """Returns the flows of the cerebrospinal fluid [L/h] from its production."""
    bulk = 0.25 * production
    spinal_sink = 0.38 * (0.75 * production + bulk)
    out = 0.9 * spinal_sink
    into = spinal_sink + out
    return {
        "Qbulk": bulk,
        "Qsin": into,
        "Qsout": out,
        "Qssink": spinal_sink,
        "Qcsink": 0.75 * production + bulk - into + out,
    }


def permeability_share(age: float) -> float:
    """Returns a child's PSb and PSc as a share of an adult's: by the volume of its brain; 1 for adults."""
    return 1.0 if age >= CHILD else _child_brain(age) / ADULT_BRAIN


def _child_brain(age: float) -> float:
    """Returns the volume of a child's brain [L]."""
    return 10.0 * (age + 0.315) / (9.0 + 6.92 * age) / 1.04
