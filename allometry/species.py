r"""Which species there are, and a body as a vector: the logarithms of its quantities against :math:`\ln BW`.

The quantities are the organ masses, the arterial flows, the cardiac output, the glomerular filtration rate
and the haematocrit. A species is one point: people enter as the geometric mean of ICRP's man and woman, so
that they do not count twice in a fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from pbpk.bodies import SPECIES, facts, reference_body
from pbpk.organs import ORGANS, PERFUSED, indices
from pbpk.physiology import EITHER, Physiology

MASSES: tuple[str, ...] = tuple(f"M_{organ}" for organ in ORGANS)
FLOWS: tuple[str, ...] = tuple(f"Q_{organ}" for organ in PERFUSED)
RATES: tuple[str, ...] = ("CO", "GFR")
QUANTITIES: tuple[str, ...] = (*MASSES, *FLOWS, *RATES, "HCT")

_PERFUSED = indices(list(PERFUSED))
_PIECES = [len(MASSES), len(FLOWS), 1, 1, 1]


def encode(body: Physiology) -> Tensor:
    r"""Returns :math:`\ln` of each of :data:`QUANTITIES`, with shape :math:`(*, q)`.

    >>> rat = reference_body("rat")
    >>> round(float(encode(rat)[QUANTITIES.index("M_liver")].exp()), 6)
    0.00915
    """
    single = (body.CO, body.GFR, body.HCT)
    pieces = [body.M, body.Q[..., _PERFUSED], *(value.unsqueeze(-1) for value in single)]
    return torch.cat(pieces, -1).log()


def decode(values: Tensor, species: str, BW: Tensor) -> Physiology:
    r"""Returns the adult body of ``species`` whose quantities these are, closed on ``BW`` and on its CO.

    .. math:: M_i = BW \, m_i / \sum m, \quad Q_i = CO \, q_i / \sum q

    Arguments:
        values: The logarithms of :data:`QUANTITIES`, with shape :math:`(*, q)`.
        species: One of :data:`pbpk.bodies.SPECIES`, which gives the age of an adult, or another, whose age
            is NaN.
        BW: The body weight [kg], with shape :math:`(*)`.

    Returns:
        The bodies, of either sex, with shape :math:`(*)`. The quantities say nothing of a person's height:
        it is that of ICRP's adult BMI. An animal's is NaN.
    """
    m, q, CO, GFR, HCT = values.split(_PIECES, -1)
    Q = values.new_zeros(*BW.shape, len(ORGANS))
    Q[..., _PERFUSED] = torch.softmax(q, -1) * CO.exp()
    return Physiology(
        species=species,
        sex=torch.full_like(BW, EITHER),
        age=_age(species, BW),
        height=_height(species, BW),
        BW=BW,
        HCT=HCT.squeeze(-1).exp(),
        GFR=GFR.squeeze(-1).exp(),
        CO=CO.squeeze(-1).exp(),
        M=torch.softmax(m, -1) * BW.unsqueeze(-1),
        Q=Q,
    )


def closure(values: Tensor, body: Physiology) -> dict[str, list[float]]:
    """Returns by which factors :func:`decode` closed the masses of each body on BW, and its flows on CO."""
    masses, flows, *_ = values.split(_PIECES, -1)
    return {
        "masses": (body.BW / masses.exp().sum(-1)).tolist(),
        "flows": (body.CO / flows.exp().sum(-1)).tolist(),
    }


def _age(species: str, BW: Tensor) -> Tensor:
    if species not in SPECIES:
        return torch.full_like(BW, torch.nan)
    return reference_body(species).age.expand_as(BW).clone()


def _height(species: str, BW: Tensor) -> Tensor:
    if species != "human":
        return torch.full_like(BW, torch.nan)
    BMI = torch.stack([reference_body("human", sex).BMI for sex in "MF"]).log().mean().exp()
    return 100.0 * torch.sqrt(BW / BMI)


def reference_bodies(without: str | None = None) -> dict[str, Physiology]:
    """Returns one adult body a species, but for the species ``without``.

    >>> list(reference_bodies(without="human"))
    ['monkey', 'dog', 'pig', 'rabbit', 'rat', 'mouse']
    """
    return {name: _reference(name) for name in SPECIES if name != without}


@cache
def _reference(species: str) -> Physiology:
    if species != "human":
        return reference_body(species)
    man, woman = (reference_body("human", sex) for sex in "MF")
    BW = torch.sqrt(man.BW * woman.BW)
    return decode((encode(man) + encode(woman)) / 2, "human", BW)


def observed(species: Mapping[str, Physiology]) -> Tensor:
    """Returns which quantities of each species were published and not filled, bool with shape (s, q)."""
    filled = {
        (fact.species, f"{'M' if fact.quantity == 'mass' else 'Q'}_{fact.organ}")
        for fact in facts()
        if fact.filled and fact.age == "adult"
    }
    return torch.tensor([[(name, x) not in filled for x in QUANTITIES] for name in species])
