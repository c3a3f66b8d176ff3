r"""Tissue-to-plasma partition coefficients from lipophilicity, ionisation and binding in plasma.

Notation: :math:`P = 10^{logP}`; :math:`P_{vo} = 10^{1.115 logP - 1.35}`, vegetable oil, which stands for the
octanol of :math:`P` in adipose; :math:`f_u` unbound in plasma; :math:`X, Y, Z` the charged molecules for each
uncharged one (:mod:`pbpk.ionisation`) at pH 7.0 in cells, 7.4 in plasma and 7.22 in blood cells. Schmitt's
equations are in :mod:`pbpk.schmitt`. Every method is a function of a compound and a tissue
composition, and returns :math:`K_p` over its tissues; :func:`Kp` sets them in the order of the organs.

References:
    Rodgers, Leahy, Rowland (2005). J Pharm Sci 94:1259. https://doi.org/10.1002/jps.20322
    Rodgers, Rowland (2006). J Pharm Sci 95:1238. https://doi.org/10.1002/jps.20502
    Poulin, Theil (2002). J Pharm Sci 91:129. https://doi.org/10.1002/jps.10005
    Berezhkovskiy (2004). J Pharm Sci 93:1628. https://doi.org/10.1002/jps.20073
    Willmann, Lippert, Schmitt (2005). Expert Opin Drug Metab Toxicol 1:159.
    https://doi.org/10.1517/17425255.1.1.159
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.composition import Composition, composition
from pbpk.compound import Compound
from pbpk.ionisation import PH_PLASMA, ionised, over_tissues
from pbpk.organs import ORGANS
from pbpk.schmitt import schmitt, schmitt_pearce, schmitt_whole

HAEMATOCRIT = 0.45
"""The haematocrit at which blood-to-plasma ratios are measured and these methods were published."""

PH_CELL, PH_BLOOD_CELL = 7.0, 7.22  # Rodgers 2005

TISSUE: Mapping[str, str] = {
    **{organ: organ for organ in ORGANS},
    "stomach": "gut",
    "small_intestine": "gut",
    "large_intestine": "gut",
    "rest": "muscle",  # [ours] what is not named is lean: tongue, sphincters, glands, connective tissue
}
"""The tissue whose composition stands for each organ."""

STAND_IN: Mapping[str, str] = {"gonads": "muscle", "pancreas": "gut"}
"""[ours] The tissue taken where a method's table lacks one: lean for lean, glandular for glandular."""


def blood_to_plasma(compound: Compound, HCT: Tensor | float) -> Tensor:
    r"""Computes the blood-to-plasma ratio in bodies whose haematocrit is not that of the measurement.

    .. math:: BP(HCT) = 1 + HCT (f_u K_{cells} - 1), \qquad f_u K_{cells} = 1 + (BP - 1) / 0.45 \ge 0

    :math:`f_u K_{cells}` is the ratio of the blood cells to plasma. A BP below 0.55, what blood without any
    drug in its cells would have, counts as such: BP(HCT) is then 1 - HCT.

    Arguments:
        compound: The drug; its BP, with shape :math:`(*)`, is taken as measured at :data:`HAEMATOCRIT`.
        HCT: The haematocrit of the bodies [1], with shape :math:`(*)`; NaN counts as :data:`HAEMATOCRIT`.

    Returns:
        The blood-to-plasma ratio [1], with shape :math:`(*)`; at :data:`HAEMATOCRIT`, the compound's own.

    References:
        Rodgers, Leahy, Rowland (2005), who write it as the blood cells' :math:`K_{pu}`.

    >>> round(float(blood_to_plasma(Compound.load("warfarin-s"), 0.30)), 6)
    0.7
    """
    BP, HCT = (torch.as_tensor(value, dtype=torch.float64) for value in (compound.BP, HCT))
    cells = (1.0 + (BP - 1.0) / HAEMATOCRIT).clamp_min(0.0)
    return 1.0 + torch.where(HCT.isnan(), HAEMATOCRIT, HCT) * (cells - 1.0)


def _charged(pH: float, compound: Compound) -> Tensor:
    return over_tissues(sum(ionised(pH, compound.pKa_acid, compound.pKa_base)))


def _lipophilicity(compound: Compound, tissues: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Returns octanol:water P, and the same with vegetable oil:water in adipose, over the tissues."""
    logP = over_tissues(compound.logP)
    adipose = torch.tensor([tissue == "adipose" for tissue in tissues])
    # logPvo = 1.115 logP - 1.35: Leo, Hansch, Elkins (1971) as used by Poulin and Theil and by Rodgers
    return 10.0**logP, 10.0 ** torch.where(adipose, 1.115 * logP - 1.35, logP)


def rodgers_rowland(compound: Compound, tissue: Composition) -> Tensor:
    r"""Computes the tissue-to-plasma ratios of Rodgers and Rowland.

    .. math:: K_p / f_u = f_{EW} + \frac{1+X}{1+Y} f_{IW} + \frac{p f_{NL} + (0.3p+0.7) f_{NP}}{1+Y} + B

    with :math:`p = P_{vo}` in adipose, else :math:`P`. A drug with a basic pKa above 7 binds to the acidic
    phospholipids, :math:`B = K_{AP} [AP] X/(1+Y)`, and :math:`K_{AP}` follows from what its blood cells hold;
    any other binds to albumin as in plasma (a neutral to lipoproteins), :math:`B = K_{PR} \cdot ratio`,
    without a factor X/(1+Y): some public code has one, which halves the protein term of acids. Both constants
    are at least 0: a drug that needs no binding has none.

    Arguments:
        compound: The drug, with logP, pKa, fup and BP.
        tissue: A table ``"rodgers-rowland"`` or ``"rodgers-rowland-whole"`` with n tissues.

    Returns:
        :math:`K_p` with shape :math:`(*, n)`.

    References:
        Rodgers, Leahy, Rowland (2005), bases; Rodgers, Rowland (2006), the others.
    """
    P, p = _lipophilicity(compound, tissue.tissues)
    fup, BP = over_tissues(compound.fup), over_tissues(compound.BP)
    X, Y, Z = (_charged(pH, compound) for pH in (PH_CELL, PH_PLASMA, PH_BLOOD_CELL))

    def lipid(p: Tensor, of: Any) -> Tensor:
        return (p * of["NL"] + (0.3 * p + 0.7) * of["NP"]) / (1.0 + Y)

    if any(float(pKa) > 7.0 for pKa in compound.pKa_base):
        cell = tissue.blood_cells
        held = (HAEMATOCRIT - 1.0 + BP) / (HAEMATOCRIT * fup)
        bound = held - (1.0 + Z) / (1.0 + Y) * cell["IW"] - lipid(P, cell)
        binding = (bound * (1.0 + Y) / (cell["AP"] * Z)).clamp_min(0.0) * tissue["AP"] * X / (1.0 + Y)
    else:
        protein = tissue["AR" if compound.pKa_acid or compound.pKa_base else "LR"]
        binding = (1.0 / fup - 1.0 - lipid(P, tissue.plasma)).clamp_min(0.0) * protein
    return fup * (tissue["EW"] + (1.0 + X) / (1.0 + Y) * tissue["IW"] + lipid(p, tissue) + binding)


def _solubility(compound: Compound, tissue: Composition) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the lipid terms of tissue and plasma, and fu in tissue: what Poulin and Theil share."""
    _, p = _lipophilicity(compound, tissue.tissues)
    fup = over_tissues(compound.fup)
    adipose = torch.tensor([name == "adipose" for name in tissue.tissues])
    D = torch.where(adipose, p / (1.0 + _charged(PH_PLASMA, compound)), p)
    fut = 1.0 / (1.0 + tissue["ratio"] * (1.0 - fup) / fup)
    lipids = [D * (of["NL"] + 0.3 * of["PH"]) + 0.7 * of["PH"] for of in (tissue, tissue.plasma)]
    return lipids[0], lipids[1], fut


def poulin_theil(compound: Compound, tissue: Composition) -> Tensor:
    r"""Computes the tissue-to-plasma ratios of Poulin and Theil.

    .. math:: K_p = \frac{[D(f_{NL} + 0.3 f_{PH}) + 0.7 f_{PH} + f_W]_{tissue}}{[\cdot]_{plasma}}
        f_u / f_{ut}, \qquad f_{ut} = 1 / (1 + r (1-f_u)/f_u)

    with :math:`D = P` and, in adipose, :math:`P_{vo}/(1+Y)`; :math:`r` is the tissue-to-plasma ratio of
    albumin, 0.5, and 0 in adipose.

    Returns:
        :math:`K_p` with shape :math:`(*, n)`.

    References:
        Poulin, Theil (2002).
    """
    in_tissue, in_plasma, fut = _solubility(compound, tissue)
    fup = over_tissues(compound.fup)
    return (in_tissue + tissue["water"]) / (in_plasma + tissue.plasma["water"]) * fup / fut


def berezhkovskiy(compound: Compound, tissue: Composition) -> Tensor:
    r"""Computes the tissue-to-plasma ratios of Poulin and Theil with Berezhkovskiy's correction.

    .. math:: K_p = \frac{[D(f_{NL} + 0.3 f_{PH}) + 0.7 f_{PH} + f_W/f_{ut}]_{tissue}}
        {[D(f_{NL} + 0.3 f_{PH}) + 0.7 f_{PH} + f_W/f_u]_{plasma}}

    Returns:
        :math:`K_p` with shape :math:`(*, n)`.

    References:
        Berezhkovskiy (2004).
    """
    in_tissue, in_plasma, fut = _solubility(compound, tissue)
    fup = over_tissues(compound.fup)
    return (in_tissue + tissue["water"] / fut) / (in_plasma + tissue.plasma["water"] / fup)


def pk_sim(compound: Compound, tissue: Composition) -> Tensor:
    r"""Computes the tissue-to-plasma ratios of PK-Sim Standard.

    .. math:: K_p = f_u (f_W + K f_{lipid} + K_P f_{protein}), \qquad K_P = 5 (0.81 + 0.11 K)/24.92

    with :math:`K = 10^{logMA}`, or :math:`P` where no membrane affinity is known.

    Returns:
        :math:`K_p` with shape :math:`(*, n)`.

    References:
        Willmann, Lippert, Schmitt (2005).
    """
    K = 10.0 ** over_tissues(compound.logP if compound.logMA is None else compound.logMA)
    KP = 5.0 * (0.81 + 0.11 * K) / 24.92
    return over_tissues(compound.fup) * (tissue["water"] + K * tissue["lipid"] + KP * tissue["protein"])


METHODS: Mapping[str, tuple[Callable[[Compound, Composition], Tensor], str]] = {
    "rodgers-rowland": (rodgers_rowland, "rodgers-rowland"),
    "rodgers-rowland-whole": (rodgers_rowland, "rodgers-rowland-whole"),
    "poulin-theil": (poulin_theil, "poulin-theil"),
    "berezhkovskiy": (berezhkovskiy, "poulin-theil"),
    "pk-sim": (pk_sim, "pk-sim"),
    "schmitt": (schmitt, "schmitt"),
    "schmitt-pearce": (schmitt_pearce, "schmitt"),
    "schmitt-whole": (schmitt_whole, "schmitt-whole"),
}
"""Each method by name: its equation, and the table of composition it reads."""


def by_tissue(compound: Compound, species: str, method: str) -> dict[str, Tensor]:
    """Computes :math:`K_p` for the tissues that the method's own table has.

    Returns:
        Tissue -> :math:`K_p`, each with the shape of the compound's numbers.

    >>> sorted(by_tissue(Compound.load("caffeine"), "human", "schmitt"))[:3]
    ['adipose', 'bone', 'brain']
    """
    equation, table = METHODS[choose("method", method, METHODS)]
    tissue = composition(table, species)
    return dict(zip(tissue.tissues, equation(compound, tissue).unbind(-1), strict=True))


def Kp(compound: Compound, species: str = "human", method: str = "rodgers-rowland") -> Tensor:
    """Computes the tissue-to-plasma ratio of every organ.

    The parts of the gut share one composition, ``rest`` takes muscle's, and a tissue that the method's table
    lacks takes another's (:data:`STAND_IN`). The entry of blood is the blood-to-plasma ratio
    as measured; :func:`blood_to_plasma` gives that of a body.

    Arguments:
        compound: The drug; its logP, fup and BP may be tensors with shape :math:`(*)`.
        species: The body's species: human, or any animal, which takes the rat's composition.
        method: One of :data:`METHODS`.

    Returns:
        :math:`K_p` [1] in the order of :data:`pbpk.organs.ORGANS`, float64, with shape :math:`(*, 17)`;
        differentiable in logP, fup and BP.

    Raises:
        ValueError: If there is no such method.

    >>> round(float(Kp(Compound.load("midazolam"))[ORGANS.index("adipose")]), 2)
    3.74
    """
    found = by_tissue(compound, species, method)
    found["blood"] = torch.as_tensor(compound.BP, dtype=torch.float64)
    tissues = [name if (name := TISSUE[organ]) in found else STAND_IN[name] for organ in ORGANS]
    return torch.stack(torch.broadcast_tensors(*(found[name] for name in tissues)), -1)
