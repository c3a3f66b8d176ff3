r"""Power laws: what a quantity is at another body weight.

.. math:: \ln x = \ln a + b \ln BW + \epsilon, \quad \epsilon \sim N(0, s^2)

Two of them carry a body from species to species:

- *fixed*: :math:`b` is 1 for masses, 0.75 for the cardiac output, the flows and the GFR, 0 for the
  haematocrit, and :math:`a` goes through the body that is carried. Its build travels with it.
- *power*: :math:`a` and :math:`b` of each quantity by least squares over one adult body a species, where
  the species that is asked for stays out. A reference body lands on that line; another body keeps its
  deviation from the reference of its own species (at its own weight, by the same :math:`b`).

Masses are then closed on the body weight and flows on the cardiac output, each by one common factor.

References:
    Lindstedt and Schaeffer (2002). Use of allometry in predicting anatomical and physiological parameters
    of mammals. Lab Anim 36:1-19: organs about 1.0; cardiac output and other volume-rates about 3/4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

import numpy as np
import torch
from torch import Tensor

from allometry.species import (
    FLOWS,
    MASSES,
    QUANTITIES,
    RATES,
    closure,
    decode,
    encode,
    observed,
    reference_bodies,
)
from pbpk.bodies import SPECIES, reference_body
from pbpk.checks import choose
from pbpk.physiology import Cohort, Physiology

METHODS: tuple[str, ...] = ("power", "fixed")
MASS_EXPONENT, RATE_EXPONENT = 1.0, 0.75  # Lindstedt and Schaeffer (2002)
_FEWEST_SPECIES = 3  # two give a slope, and no residual to judge it by
_BALANCE = 0.01  # of CO: by how much flows may miss it before a body is refused [ours]
_FAR = 2.0  # [ours] times the range of body weights seen


@dataclass(frozen=True)
class PowerLaw:
    r"""The power law of each of :data:`allometry.species.QUANTITIES`.

    Attributes:
        intercept: :math:`\ln a`, with shape :math:`(*, q)`.
        exponent: :math:`b` [1], with shape :math:`(*, q)`.
        sd: The standard deviation :math:`s` of the residuals in :math:`\ln x`, with shape
            :math:`(*, q)`: two thirds of species lie within a factor :math:`e^s`. NaN where one body
            gives the law.
    """

    intercept: Tensor
    exponent: Tensor
    sd: Tensor

    def at(self, BW: Tensor) -> Tensor:
        r"""Returns :math:`\ln x` at body weights [kg] of shape :math:`(*)`, with shape :math:`(*, q)`."""
        return self.intercept + self.exponent * BW.log().unsqueeze(-1)


def fixed_exponents() -> Tensor:
    """Returns the fixed exponent of each of :data:`allometry.species.QUANTITIES`, with shape (q,)."""
    by_name = dict.fromkeys(MASSES, MASS_EXPONENT) | dict.fromkeys((*FLOWS, *RATES), RATE_EXPONENT)
    return torch.tensor([by_name.get(name, 0.0) for name in QUANTITIES], dtype=torch.float64)


def through(body: Physiology) -> PowerLaw:
    """Returns the fixed-exponent law through a body of shape :math:`(*)`.

    >>> rat = reference_body("rat")
    >>> law = through(rat)
    >>> round(float((law.at(2 * rat.BW) - law.at(rat.BW)).exp()[QUANTITIES.index("CO")]), 6)
    1.681793
    """
    b = fixed_exponents()
    intercept = encode(body) - b * body.BW.log().unsqueeze(-1)
    return PowerLaw(intercept, b.expand_as(intercept), torch.full_like(intercept, torch.nan))


def fit(bodies: Mapping[str, Physiology], exponent: Tensor | None = None) -> PowerLaw:
    r"""Fits the power law of each quantity across species, by least squares in logarithms.

    What a rule filled in the reference body of a species is no observation, and is left out.

    Arguments:
        bodies: One body a species, each with shape :math:`(*)` or ``()``.
        exponent: Exponents that are given and not fitted, with shape (q,).

    Returns:
        The law.

    Raises:
        ValueError: If a quantity is known of fewer than three species.
    """
    w = observed(bodies).double()
    n = w.sum(0)
    if n.min() < _FEWEST_SPECIES:
        raise ValueError(
            f"bodies must know each quantity of at least {_FEWEST_SPECIES} species, but "
            f"{QUANTITIES[int(n.argmin())]} is known of {int(n.min())}."
        )
    logs = [encode(body) for body in bodies.values()]
    weights = [body.BW.log() for body in bodies.values()]
    y = torch.stack(torch.broadcast_tensors(*logs), -2)  # (*, s, q)
    x = torch.stack(torch.broadcast_tensors(*weights), -1).unsqueeze(-1).expand_as(y)
    mean_x, mean_y = (w * x).sum(-2) / n, (w * y).sum(-2) / n
    dx, dy = x - mean_x.unsqueeze(-2), y - mean_y.unsqueeze(-2)
    fitted = 1  # parameters a quantity
    if exponent is None:
        exponent, fitted = (w * dx * dy).sum(-2) / (w * dx**2).sum(-2), 2
    b = exponent.expand_as(mean_y)
    residual = w * (dy - b.unsqueeze(-2) * dx)
    sd = torch.sqrt((residual**2).sum(-2) / (n - fitted))
    return PowerLaw(mean_y - b * mean_x, b, sd)


def law_for(body: Physiology, to: str, method: str) -> PowerLaw:
    r"""Returns the law that carries ``body`` to the species ``to`` by one of :data:`METHODS`.

    Its intercepts have shape :math:`(*, q)`, one law a body.
    """
    if choose("method", method, METHODS) == "fixed":
        return through(body)
    law = fit(reference_bodies(without=to))
    own = reference_bodies()[body.species]
    size = (body.BW / own.BW).log().unsqueeze(-1)
    deviation = encode(body) - encode(own) - law.exponent * size
    return PowerLaw(law.intercept + deviation, law.exponent, law.sd)


def map(body: Physiology, to: str = "human", BW: float | None = None, method: str = "power") -> Cohort:
    """Carries bodies to another species.

    Arguments:
        body: One body, or a batch with shape (n,), of one species.
        to: The species asked for, one of :data:`pbpk.bodies.SPECIES`.
        BW: The body weight asked for [kg]; None is that of the species' reference body.
        method: ``"power"`` or ``"fixed"``, see the module.

    Returns:
        The cohort of the n mapped bodies: adults of either sex, whose masses sum to ``BW`` and flows to
        CO. Its provenance keeps by which factors the masses and the flows were closed.

    Raises:
        ValueError: If there is no such species or method, if ``to`` is the body's own species, if ``BW``
            is not a positive number, or if a quantity of the body is not.

    Example:
        >>> human = map(reference_body("rat"), to="human", BW=70.0)
        >>> round(float(human.physiology.M.sum()), 9), round(float(human.physiology.mass("liver")), 1)
        (70.0, 1.7)
    """
    weight = target_weight(to, BW)
    source = body if body.shape else body[None]
    check_source(source, to)
    BW_to = torch.full_like(source.BW, weight)
    values = law_for(source, to, method).at(BW_to)
    mapped = decode(values, to, BW_to)
    provenance = {
        "generator": "allometry map",
        "version": version(),
        "conditions": {"from": body.species, "to": to, "BW": weight, "method": method},
        "closure": closure(values, mapped),
    }
    names = np.array([f"{body.species}-{i}" for i in range(1, len(mapped.BW) + 1)])
    return Cohort(mapped, names, provenance)


def target_weight(to: str, BW: float | None) -> float:
    """Returns the body weight asked for [kg], or that of the species' reference body.

    Raises:
        ValueError: If there is no such species, or ``BW`` is not a positive number.
    """
    choose("to", to, SPECIES)
    return reference_body(to).BW.item() if BW is None else positive_weight(BW)


def positive_weight(BW: float) -> float:
    """Returns a body weight [kg] if it is one."""
    if not 0.0 < BW < math.inf:
        raise ValueError(f"BW must be a positive number of kg, but is {BW}. A person weighs about 70.")
    return float(BW)


def range_seen() -> tuple[float, float]:
    """Returns the lightest and the heaviest reference body [kg]."""
    weights = [body.BW.item() for body in reference_bodies().values()]
    return min(weights), max(weights)


def far_outside(BW: float) -> bool:
    """Says whether a body weight [kg] lies more than twofold outside the reference bodies'."""
    lightest, heaviest = range_seen()
    return not lightest / _FAR <= BW <= heaviest * _FAR


def check_source(body: Physiology, to: str) -> None:
    """Checks that a body can be carried to the species ``to``: complete, positive, flows summing to CO."""
    choose("body.species", body.species, SPECIES)
    if body.species == to:
        raise ValueError(
            f"to must be another species than the body's, but both are {to!r}. For another size of the same "
            "species use pbpk.bodies.reference_body(species, BW=...)."
        )
    for name, value in zip(QUANTITIES, encode(body).unbind(-1), strict=True):
        if not torch.isfinite(value).all():
            raise ValueError(f"body must have every quantity positive, but {name} is not.")
    off = ((body.Q.sum(-1) - body.CO) / body.CO).reshape(-1)
    worst = int(off.abs().argmax())
    if abs(off[worst]) > _BALANCE:
        raise ValueError(
            f"body must have flows that sum to its CO, but they sum to {1 + off[worst].item():.4g} times it. "
            "Let Q_rest close them."
        )


def version() -> str:
    """Returns the version of the package."""
    try:
        return metadata.version("vpop")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"
