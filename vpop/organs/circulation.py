r"""Circulation: cardiac output, kidney function, and who gets how much of the flow, in L/h.

Flows are set twice. First the typical ones: brain and kidney by what was measured of them, every other organ
by its adult flow per gram times its mass, raised or lowered together until all sum to the typical cardiac
output (a newborn's muscle gets three times an adult's per gram). Then those of one body: each organ's own
mass and residual, and again together until all sum to this body's cardiac output.

References:
    Williams, Leggett (1989). Clin Phys Physiol Meas 10:187. https://doi.org/10.1088/0143-0815/10/3/001
    (the flows of ICRP 89)
    Carlsson et al. (2012). J Cardiovasc Magn Reson 14:51. https://doi.org/10.1186/1532-429X-14-51
    Alverson, Aldrich, Angelus, Backstrom, Werner (1987). J Ultrasound Med 6:519.
    https://doi.org/10.7863/jum.1987.6.9.519
    Pottel et al. (2021). Ann Intern Med 174:183. https://doi.org/10.7326/M20-4366 (EKFC)
    Rhodin et al. (2009). Pediatr Nephrol 24:67. https://doi.org/10.1007/s00467-008-0997-5
    Berg (2006). Nephrol Dial Transplant 21:2577.
    Corrigan et al. (1999). Am J Physiol 277:F312.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from pbpk.organs import PERFUSED
from vpop.organs.closing import close
from vpop.organs.curves import blend, curve, mix, ramp, rows
from vpop.people import People

ML_PER_MIN = 0.06  # L/h
_L_PER_MIN = 60.0  # L/h
_UMOL_PER_MG_DL = 88.4  # creatinine, 113.12 g/mol
_PEAK_GFR = 107.3  # mL/min per 1.73 m2, Pottel (2021)


def cardiac_output(people: People) -> Tensor:
    """Returns the typical cardiac output [L/h]: cardiac index by age times BSA, one line for all.

    3.48 L/min/m2 in infants (Alverson 1987), up to 3.7 at 10 years (curve of Brussee 2018), 3.3 at 22 and 3.0
    at 60 (Carlsson 2012, MRI). Neither sex nor obesity changes it (Rusinaru 2021, 4,040 adults).
    """
    return curve("cardiac_index", people.age, people.sex) * people.BSA * _L_PER_MIN


def creatinine(people: People) -> Tensor:
    r"""Returns the typical serum creatinine Q of healthy people from 2 years [mg/dL]; NaN below.

    :math:`\ln Q = 3.200 + 0.259A - 0.543 \ln A - 0.00763A^2 + 0.0000790A^3` (M),
    :math:`3.080 + 0.177A - 0.223 \ln A - 0.00596A^2 + 0.0000686A^3` (F), in umol/L, to 25 years, 80 and 62
    beyond (Pottel 2021); the last year fades from the one to the other [ours]. It meets the medians of
    NHANES within 9 % from 13 to 60 years.
    """
    A = people.age.clamp(2.0, 25.0)
    log_A = torch.log(A)
    male = 3.200 + 0.259 * A - 0.543 * log_A - 0.00763 * A**2 + 0.0000790 * A**3
    female = 3.080 + 0.177 * A - 0.223 * log_A - 0.00596 * A**2 + 0.0000686 * A**3
    young = torch.exp(mix(people.sex, male, female))
    adult = mix(people.sex, 80.0, 62.0).expand_as(A)
    Q = blend(ramp(people.age, 24.0, 25.0), young, adult) / _UMOL_PER_MG_DL
    return torch.where(people.age >= 2.0, Q, torch.nan)


def expected_GFR(age: Tensor) -> Tensor:
    r"""Returns the GFR of the healthy from 2 years [mL/min per 1.73 m2]: 107.3, 1 % less a year after 40."""
    return _PEAK_GFR * 0.990 ** (age - 40.0).clamp(min=0.0)


def filtration(people: People) -> Tensor:
    r"""Returns the typical GFR at the measured creatinine [L/h].

    Under 2 years :math:`121.2 (BW/70)^{0.75} PMA^{3.4} / (47.7^{3.4} + PMA^{3.4})` mL/min, with the
    postmenstrual age PMA in weeks (Rhodin 2009). From 4 years EKFC (Pottel 2021),
    :math:`107.3 (SCR/Q)^{-0.322}` mL/min per 1.73 m2, with exponent -1.132 where SCR > Q, times
    :math:`0.990^{A - 40}` after 40. A ramp between [ours]. One equation from child to old age leaves no step.
    """
    weeks = 40.0 + people.age * 52.18
    young = 121.2 * (people.BW / 70.0) ** 0.75 * weeks**3.4 / (47.7**3.4 + weeks**3.4)
    ratio = (people.SCR / creatinine(people)).nan_to_num(nan=1.0)
    ratio = torch.where(ratio < 1.0, ratio**-0.322, ratio**-1.132)
    older = expected_GFR(people.age) * ratio * people.BSA / 1.73
    return blend(ramp(people.age, 2.0, 4.0), young, older) * ML_PER_MIN


def filtration_fraction(people: People, GFR: Tensor) -> Tensor:
    r"""Returns the share of the kidney's plasma flow that is filtered [1].

    0.17 in adults: clearance of inulin over PAH in 122 kidney donors, 105 / 545 mL/min/1.73 m2 (Berg 2006),
    times the 0.86 to 0.92 of PAH that a passage extracts (Corrigan 1999; Reubi 1953); 0.30 at birth.
    Where the GFR is below that of healthy people of that age, the flow falls with its square root [ours]:
    between falling with it (arterial spin labelling in diabetic kidneys) and staying (Corrigan 1999).
    """
    per_173 = GFR / ML_PER_MIN * 1.73 / people.BSA
    healthy = (per_173 / expected_GFR(people.age)).clamp(max=1.0)
    loss = torch.where(people.age >= 4.0, torch.sqrt(healthy), 1.0)
    return curve("filtration_fraction", people.age, people.sex) * loss


class Perfusion(NamedTuple):
    """How the flow is shared: one value an organ, in the order of :data:`pbpk.organs.PERFUSED`.

    Attributes:
        per_mass: The adult flow per mass [L/h/kg].
        reference: The adult mass [kg].
        growth: How much of the common rise or fall of children's flows the organ takes.
        output: The elasticity of its flow to the cardiac output of this body.
        spread: The log-SD of its flow per mass.
    """

    per_mass: Tensor
    reference: Tensor
    growth: Tensor
    output: Tensor
    spread: Tensor


@cache
def perfusion() -> Perfusion:
    """Reads `organ_flows.csv`; the geometric mean of the sexes stands for both [ours]."""
    table = {row["organ"]: row for row in rows("organ_flows.csv")}

    def column(name: str) -> Tensor:
        return torch.tensor([float(table[organ][name]) for organ in PERFUSED], dtype=torch.float64)

    output = {sex: float(table["cardiac_output"][f"flow_{sex}"]) for sex in "MF"}
    flow = {sex: column(f"flow_{sex}") / 100.0 * output[sex] * _L_PER_MIN for sex in "MF"}
    mass = {sex: column(f"mass_{sex}") for sex in "MF"}
    return Perfusion(
        per_mass=torch.sqrt(flow["M"] / mass["M"] * flow["F"] / mass["F"]),
        reference=torch.sqrt(mass["M"] * mass["F"]),
        growth=column("growth"),
        output=column("output"),
        spread=column("log_sd"),
    )


def _brain_flow(people: People, brain: Tensor) -> Tensor:
    per_100_g = curve("brain_perfusion", people.age, people.sex)
    return per_100_g * 10.0 * ML_PER_MIN * brain


def _by_mass(organ: str, mass: Tensor) -> Tensor:
    """Returns the adult flow of a mass [L/h]; more fat than the reference adult's is perfused as M^0.7."""
    at = PERFUSED.index(organ)
    reference, per_mass = perfusion().reference[at], perfusion().per_mass[at]
    if organ != "adipose":
        return per_mass * mass
    return per_mass * torch.minimum(mass, reference * (mass / reference).clamp(min=1.0) ** 0.7)


def typical_flows(people: People, masses: dict[str, Tensor], kidney: Tensor, CO: Tensor) -> Tensor:
    """Returns the flows of typical people.

    Arguments:
        people: Who they are, with shape :math:`(n)`.
        masses: The typical mass of each perfused organ [kg]; that of ``rest`` is the fat-free mass.
        kidney: The kidney's typical flow [L/h], with shape :math:`(n)`.
        CO: The typical cardiac output [L/h], with shape :math:`(n)`.

    Returns:
        The flows [L/h] in the order of PERFUSED, that sum to CO, with shape :math:`(n, 15)`.
    """
    flow = {organ: _by_mass(organ, masses[organ]) for organ in PERFUSED}
    flow |= {"brain": _brain_flow(people, masses["brain"]), "kidney": kidney}
    parts = torch.stack([flow[organ] for organ in PERFUSED], -1)
    return close(parts, CO, perfusion().growth.expand_as(parts))


def flows(typical: Tensor, ratio: Tensor, kidney: Tensor, CO: Tensor, z: Tensor) -> Tensor:
    """Returns the flows of these bodies.

    Arguments:
        typical: The flows of :func:`typical_flows` [L/h], with shape :math:`(n, 15)`.
        ratio: The mass of each organ over its typical mass, with shape :math:`(n, 15)`.
        kidney: The flow that the kidney's filtration asks for [L/h], with shape :math:`(n)`.
        CO: The cardiac output of these bodies [L/h], with shape :math:`(n)`.
        z: The standard residuals, with shape :math:`(n, 15)`.

    Returns:
        The flows [L/h] in the order of PERFUSED, that sum to CO, with shape :math:`(n, 15)`.
    """
    parts = typical * ratio * torch.exp(perfusion().spread * z)
    at = PERFUSED.index("kidney")
    parts = torch.cat([parts[..., :at], kidney[..., None], parts[..., at + 1 :]], -1)
    return close(parts, CO, perfusion().output.expand_as(parts))
