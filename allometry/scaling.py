r"""Human clearance and volume by the published rules of interspecies scaling.

Clearances are per body weight [mL/min/kg], volumes [L/kg]. With :math:`W` the body weight [kg]:

- *fixed*: the geometric mean over the species of :math:`CL (W_h/W)^{-0.25}`, or of Vss.
- *single*: the same from one species, monkey before dog before rat before the others.
- *simple*: :math:`CL \, W = a W^b` by least squares over two species or more.
- *rule of exponents*: simple where :math:`b \le 0.70`; the product of CL and the maximum life-span potential
  where :math:`b < 1`; the product of CL and the brain weight from there on.
- *fcim*: :math:`CL_h = 33.35 (a / R_{fu})^{0.770}` mL/min, :math:`R_{fu}` the ratio of fu in rat and human.
- *liver flow*: the geometric mean of :math:`CL \, Q_h / Q` with Q the liver's blood flow per body weight.

References:
    Mahmood, Balian (1996). Interspecies scaling: predicting clearance of drugs in humans. Three different
        approaches. Xenobiotica 26:887. https://doi.org/10.3109/00498259609052491
    Sacher (1959): MLP [year] = 185.4 BrW^0.636 W^-0.225, in kg; 93.4 years in humans.
    Tang, Mayersohn (2005). A novel model for prediction of human drug clearance by allometric scaling.
        Drug Metab Dispos 33:1297. https://doi.org/10.1124/dmd.105.004143
    Nagilla, Ward (2004). A comprehensive analysis of the role of correction factors in the allometric
        predictivity of clearance from rat, dog, and monkey to humans. J Pharm Sci 93:2522.
        https://doi.org/10.1002/jps.20169
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from allometry.drugs import ANIMALS, Array, Drugs
from pbpk.bodies import reference_body
from pbpk.organs import PORTAL

EXPONENT = {"CL": -0.25, "Vss": 0.0}
"""The exponent of a quantity per body weight."""

WEIGHT: Mapping[str, float] = {
    "mouse": 0.02,
    "rat": 0.25,
    "rabbit": 2.5,
    "monkey": 5.0,
    "dog": 10.0,
    "human": 70.0,
    "pig": 40.0,
}
"""The body weight that a value per kg stands for [kg]: Davies and Morris (1993); the mini-pig: FDA (2005)."""

PREFERRED = ("monkey", "dog", "rat", *sorted(set(ANIMALS) - {"monkey", "dog", "rat"}))


def fixed(drugs: Drugs, quantity: str) -> Array:
    """Scales every species with a fixed exponent and takes the geometric mean, with shape (n,).

    >>> one = Drugs(np.array(["x"], dtype=object), {("CL", "rat"): np.array([40.0])})
    >>> round(float(fixed(one, "CL")[0]), 2)
    9.78
    """
    return _mean(_scaled(drugs, quantity))


def single(drugs: Drugs, quantity: str) -> Array:
    """Scales one species with a fixed exponent: the first that was measured of :data:`PREFERRED`."""
    scaled = _scaled(drugs, quantity)
    result = np.full(len(drugs), np.nan)
    for species in reversed(PREFERRED):
        column = scaled[:, ANIMALS.index(species)]
        result = np.where(np.isnan(column), result, column)
    return result


def simple(drugs: Drugs, quantity: str) -> Array:
    """Fits a power law to each drug measured in two species or more; NaN for the others."""
    a, b = _power(drugs, quantity, np.zeros(len(ANIMALS)))
    return np.exp(a + (b - 1.0) * np.log(WEIGHT["human"]))


def rule_of_exponents(drugs: Drugs, quantity: str) -> Array:
    """Scales the clearance by the rule of exponents; a volume by :func:`simple`."""
    if quantity != "CL":
        return simple(drugs, quantity)
    human = np.log(WEIGHT["human"])
    _, b = _power(drugs, quantity, np.zeros(len(ANIMALS)))
    result = simple(drugs, quantity)
    for corrector, applies in ((_life_span, (b > 0.70) & (b < 1.0)), (_brain, b >= 1.0)):
        with_a, with_b = _power(drugs, quantity, np.array([np.log(corrector(s)) for s in ANIMALS]))
        corrected = np.exp(with_a + (with_b - 1.0) * human) / corrector("human")
        result = np.where(applies, corrected, result)
    return result


def fcim(drugs: Drugs, quantity: str) -> Array:
    """Scales the clearance by the fu-corrected intercept; NaN where fu of rat or human is not known."""
    if quantity != "CL":
        return np.full(len(drugs), np.nan)
    a, _ = _power(drugs, quantity, np.zeros(len(ANIMALS)))
    ratio = drugs.column("fu", "rat") / drugs.column("fu", "human")
    return 33.35 * (np.exp(a) / ratio) ** 0.770 / WEIGHT["human"]


def liver_flow(drugs: Drugs, quantity: str) -> Array:
    """Scales the clearance as a share of the liver's blood flow; NaN for a volume."""
    if quantity != "CL":
        return np.full(len(drugs), np.nan)
    share = np.array([_liver_flow("human") / _liver_flow(species) for species in ANIMALS])
    return _mean(drugs.columns("CL", ANIMALS) * share)


METHODS: Mapping[str, Callable[[Drugs, str], Array]] = {
    "fixed": fixed,
    "single": single,
    "simple": simple,
    "rule-of-exponents": rule_of_exponents,
    "fcim": fcim,
    "liver-flow": liver_flow,
}


def _scaled(drugs: Drugs, quantity: str) -> Array:
    ratio = np.array([WEIGHT["human"] / WEIGHT[species] for species in ANIMALS])
    return drugs.columns(quantity, ANIMALS) * ratio ** EXPONENT[quantity]


def _mean(values: Array) -> Array:
    """Returns the geometric mean of what is there in each row, NaN where nothing is."""
    seen = ~np.isnan(values)
    total = np.where(seen, np.log(np.where(seen, values, 1.0)), 0.0).sum(1)
    return np.where(seen.any(1), np.exp(total / np.maximum(seen.sum(1), 1)), np.nan)


def _power(drugs: Drugs, quantity: str, added: Array) -> tuple[Array, Array]:
    """Returns ln a and b of x W e^added = a W^b for each drug, NaN where fewer than two species are known."""
    weight = np.log([WEIGHT[species] for species in ANIMALS])
    y = np.log(drugs.columns(quantity, ANIMALS)) + weight + added
    seen = ~np.isnan(y)
    count = np.where(seen.sum(1) >= 2, seen.sum(1), np.nan)
    x = np.where(seen, weight, 0.0)
    mean_x, mean_y = x.sum(1) / count, np.where(seen, y, 0.0).sum(1) / count
    dx = np.where(seen, weight - mean_x[:, None], 0.0)
    dy = np.where(seen, y - mean_y[:, None], 0.0)
    b = (dx * dy).sum(1) / np.where(seen.sum(1) >= 2, (dx**2).sum(1), np.nan)
    return mean_y - b * mean_x, b


@cache
def _brain(species: str) -> float:
    """Returns the brain's mass at the weight of :data:`WEIGHT` [kg], with exponent 1 to it."""
    body = reference_body(species)
    return body.mass("brain").item() * WEIGHT[species] / body.BW.item()


def _life_span(species: str) -> float:
    """Returns the maximum life-span potential [year]."""
    return 185.4 * _brain(species) ** 0.636 * WEIGHT[species] ** -0.225


@cache
def _liver_flow(species: str) -> float:
    """Returns the liver's blood flow per body weight in the reference body [L/h/kg]."""
    body = reference_body(species)
    return body.flow("liver", *PORTAL).item() / body.BW.item()
