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

from pbpk.brain import CHILD, COMPARTMENTS, Brain, fluid_flows
from pbpk.physiology import FEMALE, Physiology

SPACES: Mapping[str, str] = dict(
    zip(COMPARTMENTS, ("brain_blood", "brain", "cranial_csf", "spinal_csf"), strict=True)
)
"""The space of each of the model's compartments."""

UNBOUND: Mapping[str, str] = {"brain": "fum", "cranial_csf": "fuc", "spinal_csf": "fuc"}
"""The unbound fraction of each space but blood."""


def volumes(body: Physiology, brain: Tensor) -> dict[str, Tensor]:
    r"""Divides the brain's volume.

    Its blood is 5 %, its endothelium 0.5 %; an adult's fluid is 10.5 % (men) or 9.2 % (women), four fifths of
    it cranial. A child (younger than 18 years) has 0.143 L of cranial fluid and :math:`(1.94 BW + 0.13)/1000`
    L, at most 0.0358 L, of spinal; the brain's mass is the rest.

    Arguments:
        body: The bodies, with shape :math:`(*)`; an unknown age counts as adult.
        brain: The volume of their brains [L], with shape :math:`(*)`.
    """
    fluid = (0.092 + 0.013 * (body.sex - FEMALE)) * brain
    child = body.age < CHILD
    cranial = torch.where(child, torch.full_like(brain, 0.143), 0.8 * fluid)
    spinal = torch.where(child, ((1.94 * body.BW + 0.13) / 1000.0).clamp(max=0.0358), 0.2 * fluid)
    blood = 0.05 * brain
    mass = brain - blood - 0.005 * brain - cranial - spinal
    return {"brain_blood": blood, "brain": mass, "cranial_csf": cranial, "spinal_csf": spinal}


def production(age: Tensor) -> Tensor:
    """Returns the production of cerebrospinal fluid [L/h] at an age [year]."""
    infant = (4.007 * torch.log10(age.clamp(min=1e-3)) + 7.088) / 1000.0
    child = torch.where(age < 0.25, infant, torch.full_like(age, 0.024))
    return torch.where(age < CHILD, child, torch.full_like(age, 0.021))


def exchange(
    body: Physiology, given: Mapping[str, Tensor], V: Mapping[str, Tensor]
) -> Iterator[tuple[str, str, Tensor]]:
    """Yields what passes between the spaces: source, target and rate [1/h], with shape :math:`(*)`.

    Arguments:
        body: The bodies, with shape :math:`(*)`.
        given: PSb, PSc, PSe, CLbout [L/h], fup, BP, fum, fuc [1] by name, each with shape :math:`(*)`.
        V: The volumes of the spaces [L] by name.
    """
    volume = {key: V[space] for key, space in zip(("Vbb", "Vbm", "Vc", "Vs"), SPACES.values(), strict=True)}
    no_blood = torch.zeros_like(body.BW)  # the edges carry it
    flows = {**fluid_flows(production(body.age)), "Qbr": no_blood}
    p = {**given, "fu": given["fup"], **volume, **flows}
    for (row, column), rate in Brain(arterial=()).rates(p).items():
        if row != column:
            yield SPACES[column], SPACES[row], rate
