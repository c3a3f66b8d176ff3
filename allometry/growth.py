r"""Growth within a species: another coordinate than the size of the species.

A child is no small adult: its brain is large and its muscle small. With :math:`g = \ln W / W_{adult} \le 0`,

.. math:: \ln X(g) = \ln X_{adult} + \gamma_q g + \delta_q g^2 + \epsilon_q g^3,

by least squares over ICRP's boys and girls from birth to 15 years, each against the adult of the sex. What
a rule filled there is no observation: the flow of an organ follows its mass [ours], and so does ``rest``
the body. Other species are taken to grow as people do, for want of a table; the spread says so. [ours]
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from allometry.species import QUANTITIES
from pbpk.bodies import facts

_CHILD_SD = 0.25  # of ln x for each unit of g, in a species that is not human [ours]


@cache
def children() -> tuple[Tensor, Tensor, Tensor]:
    r"""Returns ICRP's children against the adults of their sex.

    Returns:
        :math:`g` with shape (n,), :math:`\ln X / X_{adult}` with shape (n, q), and which of them were
        published, bool with shape (n, q).
    """
    table: dict[tuple[str, str], dict[str, tuple[float, bool]]] = {}
    for fact in facts():
        if fact.species == "human":
            prefix = {"mass": "M_", "flow": "Q_"}.get(fact.quantity)
            name = f"{prefix}{fact.organ}" if prefix else fact.quantity
            table.setdefault((fact.sex, fact.age), {})[name] = (fact.value, not fact.filled)
    rows = [(table[sex, age], table[sex, "adult"]) for sex, age in table if age != "adult"]
    g = torch.tensor(
        [math.log(child["BW"][0] / adult["BW"][0]) for child, adult in rows], dtype=torch.float64
    )
    y = torch.zeros(len(rows), len(QUANTITIES), dtype=torch.float64)
    known = torch.zeros(len(rows), len(QUANTITIES), dtype=torch.bool)
    for i, (child, adult) in enumerate(rows):
        for j, name in enumerate(QUANTITIES):
            if name in child:
                y[i, j] = math.log(child[name][0] / adult[name][0])
                known[i, j] = child[name][1]
    return g, y, known


@cache
def _coefficients() -> Tensor:
    """Returns gamma, delta and epsilon of each quantity, with shape (3, q)."""
    g, y, known = children()
    design = torch.stack([g, g**2, g**3], -1)
    found = torch.zeros(3, len(QUANTITIES), dtype=torch.float64)
    for j, name in enumerate(QUANTITIES):
        seen = known[:, j]
        if seen.any():
            found[:, j] = torch.linalg.lstsq(design[seen], y[seen, j].unsqueeze(-1)).solution.squeeze(-1)
        elif name.endswith("_rest"):
            found[0, j] = 1.0
    for j, name in enumerate(QUANTITIES):
        if name.startswith("Q_") and not known[:, j].any():
            found[:, j] = found[:, QUANTITIES.index(f"M_{name[2:]}")]
    return found


def growth(g: float) -> Tensor:
    r"""Returns :math:`\ln X / X_{adult}` of a body at growth g, with shape (q,).

    >>> bool((growth(0.0) == 0).all())
    True
    >>> newborn = growth(math.log(3.5 / 73)).exp()
    >>> round(float(newborn[QUANTITIES.index("M_brain")] / newborn[QUANTITIES.index("M_muscle")]), 1)
    7.5
    """
    return torch.tensor([g, g**2, g**3], dtype=torch.float64) @ _coefficients()


def growth_variance(g: float, species: str) -> float:
    """Returns the variance that growth adds to the logarithm of each quantity of a species."""
    return 0.0 if species == "human" else (_CHILD_SD * g) ** 2
