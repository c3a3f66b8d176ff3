r"""Animals drawn at random: cohorts of a species that differ as individual animals do.

An organ i that was weighed in individual animals follows, with :math:`BW_0` the weight of the reference body,

.. math:: \ln M_i = \ln a_i + b_i \ln(BW / BW_0) + c_i (male - 1/2) + s_i \epsilon_i, \quad
          \epsilon \sim N(0, R)

with level a, exponent b, difference of the sexes c, residual spread s and correlations R from
``data/animal_variation.csv`` and ``data/animal_correlation.csv``, each row with its source; what was not
measured in the species is borrowed or assumed, and its source begins so. Muscle and ``rest`` close the
masses on the body weight. The flows follow the organs' masses at the reference body's flow per mass, with a
spread of their own, and are closed on the cardiac output; CO and GFR go with the exponents of the table.
Both sums are exact.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from allometry.drugs import ANIMALS
from allometry.power import version
from pbpk.bodies import reference_body
from pbpk.checks import choose
from pbpk.organs import ORGANS, PERFUSED, indices
from pbpk.physiology import FEMALE, MALE, Cohort, Physiology

CLOSING: tuple[str, ...] = ("muscle", "rest")
"""The organs that close the masses, in the proportion of the reference body."""

_DATA = Path(__file__).parent / "data"
_LARGEST_CHANGE = 5.0  # of the reference body's weight, either way: as pbpk.bodies.reference_body
_FEWEST_LEFT = 0.5  # of the share that the closing organs have in the reference body [ours]
_TRIES = 100
_MOST = 10_000_000


@dataclass(frozen=True)
class Term:
    """How one quantity of a species varies.

    Attributes:
        level: Its value at the weight of the reference body, or NaN: that of the reference body.
        exponent: Its exponent on the body weight.
        male: The logarithm of male over female at one weight.
        sd: The residual standard deviation of its logarithm.
    """

    level: float
    exponent: float
    male: float
    sd: float


@dataclass(frozen=True)
class Variation:
    """How the animals of one species differ.

    Attributes:
        terms: By quantity: ``M_<organ>``, ``CO``, ``GFR``, ``HCT``, ``BW``, and ``flow`` for every organ's.
        correlation: By pair of quantities the correlation of their residuals; others have none.
    """

    terms: Mapping[str, Term]
    correlation: Mapping[tuple[str, str], float]


@cache
def variation(species: str) -> Variation:
    """Reads how the animals of a species differ.

    >>> round(variation("rat").terms["M_liver"].sd, 2)
    0.08
    """
    terms = {
        row["quantity"]: Term(*(float(row[name] or "nan") for name in ("level", "exponent", "male", "sd")))
        for row in _rows("animal_variation.csv")
        if row["species"] == species
    }
    pairs = {
        (row["a"], row["b"]): float(row["r"])
        for row in _rows("animal_correlation.csv")
        if row["species"] == species
    }
    return Variation(terms, pairs)


def _rows(name: str) -> list[dict[str, str]]:
    with (_DATA / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sample(
    species: str,
    n: int,
    BW: tuple[float, float] | Tensor | None = None,
    generator: torch.Generator | None = None,
    spread: Variation | None = None,
) -> Cohort:
    """Draws animals of a species, half of them male.

    Arguments:
        species: One of :data:`allometry.drugs.ANIMALS`.
        n: How many.
        BW: The range of body weights [kg], uniform in the logarithm; or the n weights with shape (n,); None
            is about the reference body's with the spread within a strain.
        generator: The source of randomness; None draws anew each time.
        spread: How they differ; None is what the package ships.

    Returns:
        The cohort; its masses sum to BW and its flows to CO. Provenance tells how many bodies were drawn
        again because their organs left no room for muscle.

    Raises:
        ValueError: If there is no such species, n is not positive, a weight is not possible, or nearly no
            body of such a weight holds its organs.

    >>> rats = sample("rat", 100, BW=(0.2, 0.35), generator=torch.Generator().manual_seed(1))
    >>> bool((rats.physiology.M.sum(-1) - rats.physiology.BW).abs().max() < 1e-15)
    True
    """
    choose("species", species, ANIMALS)
    if not 1 <= n <= _MOST:
        raise ValueError(f"n must lie between 1 and {_MOST:,}, but is {n:,}. Draw fewer at a time.")
    if generator is None:
        generator = torch.Generator()
        generator.seed()
    spread = spread or variation(species)
    weight = _weights(species, n, BW, spread, generator)
    body, again = _lawful(species, weight, spread, generator)
    provenance: dict[str, Any] = {
        "generator": "allometry sample",
        "version": version(),
        "conditions": {
            "species": species,
            "BW": None if BW is None else [float(weight.min()), float(weight.max())],
        },
        "drawn_again": again,
    }
    names = np.array([f"{species}-{i}" for i in range(1, n + 1)], dtype=object)
    return Cohort(body, names, provenance)


def _weights(
    species: str,
    n: int,
    BW: tuple[float, float] | Tensor | None,
    spread: Variation,
    generator: torch.Generator,
) -> Tensor:
    own = reference_body(species).BW
    if BW is None:
        return own * torch.exp(spread.terms["BW"].sd * _normal(generator, n))
    given = torch.as_tensor(BW, dtype=torch.float64)
    low, high = own.item() / _LARGEST_CHANGE, own.item() * _LARGEST_CHANGE
    outside = given[~((given >= low) & (given <= high))]
    if len(outside):
        raise ValueError(
            f"BW must lie between {low:.4g} and {high:.4g} kg for a {species}, whose reference weighs "
            f"{own.item():.4g} kg, but is {outside[0].item():g}. Check its unit."
        )
    if isinstance(BW, Tensor):
        if given.shape != (n,):
            raise ValueError(f"BW must have one weight a body, shape ({n},), but has {tuple(given.shape)}.")
        return given
    if len(given) != 2 or given[0] > given[1]:
        raise ValueError(
            f"BW must be a range LOW:HIGH in kg, the lighter first, but is "
            f"{', '.join(f'{x:g}' for x in given.tolist())}. Turn it round."
        )
    share = torch.rand(n, dtype=torch.float64, generator=generator)
    return torch.exp(torch.lerp(given[0].log(), given[1].log(), share)).clamp(given[0], given[1])


def _lawful(
    species: str, BW: Tensor, spread: Variation, generator: torch.Generator
) -> tuple[Physiology, int]:
    """Draws bodies of these weights; one without room for its muscle is drawn again."""
    reference = reference_body(species)
    closing = indices(list(CLOSING))
    least = _FEWEST_LEFT * reference.mass(*CLOSING) / reference.BW
    sex = torch.where(torch.rand(len(BW), dtype=torch.float64, generator=generator) < 0.5, MALE, FEMALE)
    M = BW.new_empty(len(BW), len(ORGANS))
    todo, again = torch.arange(len(BW)), 0
    for _ in range(_TRIES):
        M[todo] = _masses(reference, BW[todo], sex[todo], spread, generator)
        todo = todo[M[todo][:, closing].sum(-1) < least * BW[todo]]
        if not len(todo):
            return _with_flows(reference, BW, sex, M, spread, generator), again
        again += len(todo)
    raise ValueError(
        f"BW must leave room for muscle, but a {species} of {BW[todo[0]].item():.4g} kg holds its organs in "
        f"none of {_TRIES} draws. Ask for a weight nearer to {reference.BW.item():.4g} kg."
    )


def _masses(
    reference: Physiology, BW: Tensor, sex: Tensor, spread: Variation, generator: torch.Generator
) -> Tensor:
    """Draws the organs' masses [kg], with shape (n, 17); the closing organs take what is left."""
    names = [f"M_{organ}" for organ in ORGANS]
    terms = [spread.terms[name] for name in names]
    columns = {
        name: BW.new_tensor([getattr(term, name) for term in terms])
        for name in ("level", "exponent", "male", "sd")
    }
    level = torch.where(columns["level"].isnan(), reference.M, columns["level"])
    deviate = _normal(generator, len(BW), len(ORGANS)) @ _factor(names, spread).T
    size = (BW / reference.BW).log().unsqueeze(-1)
    log = level.log() + columns["exponent"] * size + columns["male"] * (sex - 0.5).unsqueeze(-1)
    M = torch.exp(log + columns["sd"] * deviate)
    closing = indices(list(CLOSING))
    M[:, closing] = 0.0
    share = reference.M[closing] / reference.M[closing].sum()
    M[:, closing] = (BW - M.sum(-1)).unsqueeze(-1) * share
    return M


def _factor(names: list[str], spread: Variation) -> Tensor:
    """Returns a factor of the correlation matrix; what is not positive is cut off."""
    R = torch.eye(len(names), dtype=torch.float64)
    for (a, b), r in spread.correlation.items():
        i, j = names.index(a), names.index(b)
        R[i, j] = R[j, i] = r
    values, vectors = torch.linalg.eigh(R)
    factor = vectors * values.clamp_min(0.0).sqrt()
    return factor / factor.norm(dim=-1, keepdim=True)


def _with_flows(
    reference: Physiology, BW: Tensor, sex: Tensor, M: Tensor, spread: Variation, generator: torch.Generator
) -> Physiology:
    """Returns the bodies with their rates and with flows that sum to the cardiac output."""
    size = (BW / reference.BW).log()
    single = {}
    for name in ("CO", "GFR", "HCT"):
        term = spread.terms[name]
        deviate = term.sd * _normal(generator, len(BW))
        single[name] = getattr(reference, name) * torch.exp(term.exponent * size + deviate)
    perfused = indices(list(PERFUSED))
    per_mass = reference.Q[perfused] / reference.M[perfused]
    flow = per_mass * M[:, perfused]
    flow = flow * torch.exp(spread.terms["flow"].sd * _normal(generator, *flow.shape))
    Q = torch.zeros_like(M)
    Q[:, perfused] = flow / flow.sum(-1, keepdim=True) * single["CO"].unsqueeze(-1)
    return Physiology(
        species=reference.species,
        sex=sex,
        age=reference.age.expand_as(BW).clone(),
        height=torch.full_like(BW, math.nan),
        BW=BW,
        M=M,
        Q=Q,
        **single,
    )


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator)
