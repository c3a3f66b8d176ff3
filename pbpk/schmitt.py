r"""Schmitt's partition coefficients: a tissue is water, lipids and protein; charge decides what each holds.

Notation: :math:`f_0, f_\pm` the shares uncharged and charged at a pH; :math:`K_{NP} = 10^{logMA}` neutral
phospholipid to water; :math:`K_{NL} = P (f_0 + 0.001 f_\pm)` neutral lipid;
:math:`K_{AP} = K_{NP} (f_0 + 20 f_+ + 0.05 f_-)` acidic phospholipid;
:math:`K_{protein} = 0.163 + 0.0221 K_{NP}`.

References:
    Schmitt (2008). Toxicol In Vitro 22:457. https://doi.org/10.1016/j.tiv.2007.09.010
    Pearce et al. (2017). J Pharmacokinet Pharmacodyn 44:549. https://doi.org/10.1007/s10928-017-9548-7
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pbpk.composition import Composition, composition
from pbpk.compound import Compound
from pbpk.ionisation import PH_PLASMA, ionised, over_tissues

_CHARGED_LIPID = 0.001  # Schmitt 2008: what a charged molecule dissolves in lipid, of what a neutral one does


def _charge(pH: Tensor | float, compound: Compound) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the shares uncharged, cationic and anionic.

    The pKa are macroscopic: a zwitterion counts as uncharged, as it does for Rodgers and for httk.
    """
    anions, cations = ionised(pH, compound.pKa_acid, compound.pKa_base)
    total = 1.0 + anions + cations
    return 1.0 / total, cations / total, anions / total


def _lipophilic(pH: Tensor | float, compound: Compound) -> Tensor:
    """Returns what dissolves in lipid, as a share of what an uncharged drug would."""
    uncharged, cation, anion = _charge(pH, compound)
    return uncharged + _CHARGED_LIPID * (cation + anion)


def _cell(compound: Compound, tissue: Composition, K_NP: Tensor, fractions: Any) -> Tensor:
    """Returns Schmitt's cell-to-water ratio: water, lipids and protein, by charge at the tissue's pH."""
    uncharged, cation, anion = _charge(tissue["pH"], compound)
    K_NL = 10.0 ** over_tissues(compound.logP) * _lipophilic(tissue["pH"], compound)
    K_AP = K_NP * (uncharged + 20.0 * cation + 0.05 * anion)
    K_protein = 0.163 + 0.0221 * K_NP
    NL, NP, AP = fractions
    return tissue["water"] + K_NL * NL + K_NP * NP + K_AP * AP + K_protein * tissue["protein"]


def membrane_affinity(compound: Compound) -> Tensor:
    r"""Computes :math:`logMA`, the measured one or :math:`1.294 + 0.304 logP`.

    References:
        Yun, Edginton (2013). Xenobiotica 43:839, as in httk.
    """
    if compound.logMA is not None:
        return torch.as_tensor(compound.logMA, dtype=torch.float64)
    return 1.294 + 0.304 * torch.as_tensor(compound.logP, dtype=torch.float64)


def schmitt(compound: Compound, tissue: Composition) -> Tensor:
    r"""Computes the tissue-to-plasma ratios of Schmitt, in the form of httk.

    .. math:: K_p / f_u = F_{int} [W + 0.37 (1/f_u - W)] + \kappa F_{cell} K_{cell}

    :math:`W` is the water of plasma; :math:`\kappa` the ratio of :math:`f_0 + 0.001 f_\pm` at pH 7.4 and at
    the tissue's pH, what an ion trap holds; :math:`K_{cell}` water, neutral lipid, neutral and acidic
    phospholipid, and protein.

    Returns:
        :math:`K_p` with shape :math:`(*, n)`.

    References:
        Schmitt (2008); Pearce et al. (2017).
    """
    fup = over_tissues(compound.fup)
    W = 1.0 - tissue.plasma["protein"]
    whole = tissue["cells"] + tissue["interstitium"]
    interstitium = tissue["interstitium"] / whole * (W + 0.37 * (1.0 / fup - W))
    lipids = [tissue["lipid"] * tissue[name] for name in ("NL", "NP", "AP")]
    K_NP = 10.0 ** over_tissues(membrane_affinity(compound))
    cells = tissue["cells"] / whole * _cell(compound, tissue, K_NP, lipids)
    trap = _lipophilic(PH_PLASMA, compound) / _lipophilic(tissue["pH"], compound)
    return fup * (interstitium + trap * cells)


def schmitt_pearce(compound: Compound, tissue: Composition) -> Tensor:
    r"""Computes Schmitt's ratios corrected by the regressions of Pearce.

    .. math:: \log_{10} K_p = a + b \log_{10} K_{p,Schmitt}

    The regressions were fitted to measured rat :math:`K_p`: their accuracy on the same data is not a
    prediction. ``compound.fup`` should be adjusted for the lipid of the assay, as httk's is.

    Returns:
        :math:`K_p` with shape :math:`(*, n)`.
    """
    line = composition("schmitt-pearce")
    position = [line.tissues.index(name) for name in tissue.tissues]
    raw = schmitt(compound, tissue)
    return 10.0 ** (line["intercept"][position] + line["slope"][position] * torch.log10(raw))


def schmitt_whole(compound: Compound, tissue: Composition) -> Tensor:
    r"""Computes Schmitt's ratios over the whole organ as one phase, with PK-Sim's composition.

    .. math:: K_p = f_u K_{cell}, \qquad K_{NP} = 10^{logMA} \text{ or } P

    Returns:
        :math:`K_p` with shape :math:`(*, n)`.
    """
    K_NP = 10.0 ** over_tissues(compound.logP if compound.logMA is None else compound.logMA)
    lipids = [tissue[name] for name in ("NL", "NP", "AP")]
    return over_tissues(compound.fup) * _cell(compound, tissue, K_NP, lipids)
