r"""The brain of a whole body in four spaces: its blood, its mass, cranial and spinal fluid.

The equations are those of :class:`pbpk.brain.Brain`; the brain's volume and blood flow are the body's own.
Its spaces are named ``brain_blood``, ``brain`` (the mass), ``cranial_csf`` and ``spinal_csf``.

References:
    Verscheijden et al. (2019). PLoS Comput Biol 15:e1007117. https://doi.org/10.1371/journal.pcbi.1007117
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from pbpk.brain import COMPARTMENTS, VOLUMES, Brain, divide, fluid_flows, production
from pbpk.physiology import FEMALE, Physiology

SPACES: Mapping[str, str] = dict(
    zip(COMPARTMENTS, ("brain_blood", "brain", "cranial_csf", "spinal_csf"), strict=True)
)
"""The space of each of the model's compartments."""

UNBOUND: Mapping[str, str] = {"brain": "fum", "cranial_csf": "fuc", "spinal_csf": "fuc"}
"""The unbound fraction of each space but blood."""


def volumes(body: Physiology, brain: Tensor) -> dict[str, Tensor]:
    """Divides the brain's volume [L] among its spaces, see :func:`pbpk.brain.divide`.

    Arguments:
        body: The bodies, with shape :math:`(*)`; an unknown age counts as adult.
        brain: The volume of their brains [L], with shape :math:`(*)`.
    """
    parts = divide(body.sex - FEMALE, body.age, body.BW, brain)
    return {SPACES[name]: part for name, part in parts.items()}


def exchange(
    body: Physiology, given: Mapping[str, Tensor], V: Mapping[str, Tensor]
) -> Iterator[tuple[str, str, Tensor]]:
    """Yields what passes between the spaces: source, target and rate [1/h], with shape :math:`(*)`.

    Arguments:
        body: The bodies, with shape :math:`(*)`.
        given: PSb, PSc, PSe, CLbout [L/h], fup, BP, fum, fuc [1] by name, each with shape :math:`(*)`.
        V: The volumes of the spaces [L] by name.
    """
    volume = {key: V[SPACES[name]] for name, key in VOLUMES.items()}
    no_blood = torch.zeros_like(body.BW)  # the edges carry it
    flows = {**fluid_flows(production(body.age)), "Qbr": no_blood}
    p = {**given, "fu": given["fup"], **volume, **flows}
    for (row, column), rate in Brain(arterial=()).rates(p).items():
        if row != column:
            yield SPACES[column], SPACES[row], rate
