r"""What the sources of a species agree on, and by how much they differ.

Each species has its reference body (:mod:`pbpk.bodies`) and further sources in ``data/sources.csv``, each row
with the body weight it belongs to and, for a flow, the cardiac output of the same source. A row whose
``fault`` says why it is wrong (borrowed from another species, a slip of the unit, ...) is kept and not used.

- A source's mass, rate or haematocrit is carried to the weight of the reference body by the fixed exponents;
  a flow is compared as a share of its own source's cardiac output, because a source with twice the output
  has twice of each flow, and one that hears of it twice would count it twice.
- A flow that is more than fivefold off the reference body's is a slip and left out. [ours]
- Values within 5 % of each other are copies of one measurement, at another density say, and count once.
- The consensus is the median of the logarithms. Its noise, with :math:`n` values whose logarithms deviate
  by :math:`d_i` from their mean, is

.. math:: s^2 = \frac{\nu s_k^2 + \sum d_i^2}{(\nu + n - 1) \, n}, \quad \nu = 4,

where :math:`s_k` is the spread between sources of the kind of quantity, pooled over all species. [ours]

Attribution: of the 343 rows 207 restate values of the species database of PK-Sim (Open Systems Pharmacology,
GPL-2.0) and 126 values of httk (US EPA, GPL-3), which had compiled them from the literature; 10 come from
papers. Numbers were taken, with the conversion that each row tells, and neither code nor text.

References:
    Willmann, Lippert, Sevestre, Solodenko, Fois, Schmitt (2003). PK-Sim: a physiologically based
        pharmacokinetic whole-body model. Biosilico 1:121.
    Pearce, Setzer, Strope, Sipes, Wambaugh (2017). httk: R package for high-throughput toxicokinetics.
        J Stat Softw 79(4). https://doi.org/10.18637/jss.v079.i04
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from allometry.species import QUANTITIES, encode, observed, reference_bodies

_TABLE = Path(__file__).parent / "data" / "sources.csv"
_COPY = 0.05  # of ln x, [ours]
_SLIP = math.log(5.0)  # [ours]
_PRIOR_COUNT = 4.0  # nu, [ours]
_FEWEST = 8  # values beyond the first from which a kind has a spread of its own [ours]
_HCT_SD = 0.06  # of ln HCT: between 0.41 and 0.46, the span of what is published for one species
_REST_SD = 0.5  # of ln: the rest closes, nobody measured it [ours]
RESTS: tuple[str, ...] = ("M_rest", "Q_rest")


@dataclass(frozen=True)
class Source:
    """One row of the table.

    Attributes:
        species: One of :data:`pbpk.bodies.SPECIES`.
        strain: The strain, or ``""``: never a species of its own.
        BW: The body weight that the value belongs to [kg].
        quantity: One of :data:`allometry.species.QUANTITIES`.
        value: The value in kg, L/h or 1.
        CO: The cardiac output of the same source [L/h]; NaN unless the quantity is a flow.
        source: Where it is published, and how it follows from what is printed there.
        fault: Why it is not used, or ``""``.
    """

    species: str
    strain: str
    BW: float
    quantity: str
    value: float
    CO: float
    source: str
    fault: str


@dataclass(frozen=True)
class Consensus:
    r"""One adult body a species, in logarithms, with its uncertainty.

    Attributes:
        species: The species' names, s of them.
        x: :math:`\ln BW` [kg], with shape (s,).
        y: :math:`\ln` of :data:`allometry.species.QUANTITIES`, with shape (s, q); 0 where unknown.
        sd: The noise of ``y``, with shape (s, q); infinite where unknown.
        count: How many sources that are no copies of each other, with shape (s, q).
    """

    species: tuple[str, ...]
    x: Tensor
    y: Tensor
    sd: Tensor
    count: Tensor

    @property
    def scored(self) -> Tensor:
        """What was published, with shape (s, q): ``rest`` only closes, and is not scored."""
        closing = torch.tensor([name in RESTS for name in QUANTITIES])
        return (self.count > 0) & ~closing

    def __getitem__(self, which: list[int]) -> Consensus:
        """Returns the species at the positions ``which``."""
        names = tuple(self.species[i] for i in which)
        return Consensus(names, self.x[which], self.y[which], self.sd[which], self.count[which])


@cache
def sources() -> tuple[Source, ...]:
    """Returns the rows of the table.

    >>> sum(row.fault != "" for row in sources()) > 20
    True
    """
    with _TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(
            Source(
                species=row["species"],
                strain=row["strain"],
                BW=float(row["BW"]),
                quantity=row["quantity"],
                value=float(row["value"]),
                CO=float(row["CO"] or "nan"),
                source=row["source"],
                fault=row["fault"],
            )
            for row in csv.DictReader(file)
        )


@cache
def consensus() -> Consensus:
    """Returns the consensus of the seven species.

    >>> c = consensus()
    >>> c.y.shape, int(c.scored.sum())
    (torch.Size([7, 35]), 231)
    """
    bodies = reference_bodies()
    values = {(s, q): _distinct(s, q) for s in bodies for q in QUANTITIES}
    spread = _spread(values)
    shape = (len(bodies), len(QUANTITIES))
    y, sd = torch.zeros(shape, dtype=torch.float64), torch.full(shape, torch.inf, dtype=torch.float64)
    count = torch.zeros(shape, dtype=torch.long)
    for i, s in enumerate(bodies):
        for j, q in enumerate(QUANTITIES):
            if found := values[s, q]:
                y[i, j] = _median(found)
                sd[i, j] = _noise(q, found, spread)
                count[i, j] = len(found)
    flows = torch.tensor([q.startswith("Q_") for q in QUANTITIES])
    y[:, flows] += y[:, [QUANTITIES.index("CO")]]  # shares of the source's own output until here
    y[count == 0] = 0.0
    x = torch.stack([body.BW for body in bodies.values()]).log()
    return _with_rest(Consensus(tuple(bodies), x, y, sd, count))


def _distinct(species: str, quantity: str) -> list[float]:
    """Returns the logarithms of what the sources say, at the reference weight, each measurement once."""
    if quantity in RESTS:
        return []
    body = reference_bodies()[species]
    flow = quantity.startswith("Q_")
    found: list[float] = []
    own = dict(zip(QUANTITIES, encode(body).tolist(), strict=True))
    if bool(observed({species: body})[0, QUANTITIES.index(quantity)]):
        found.append(own[quantity] - (own["CO"] if flow else 0.0))
    for row in sources():
        if (row.species, row.quantity, row.fault) != (species, quantity, ""):
            continue
        value = math.log(row.value / row.CO) if flow else _carried(row, body.BW.item())
        slip = flow and found and abs(value - found[0]) > _SLIP
        if not slip and all(abs(value - other) > _COPY for other in found):
            found.append(value)
    return found


def _carried(row: Source, BW: float) -> float:
    """Returns the logarithm of a source's value at the weight of the reference body."""
    exponent = 1.0 if row.quantity.startswith("M_") else 0.0 if row.quantity == "HCT" else 0.75
    return math.log(row.value) + exponent * math.log(BW / row.BW)


def _kind(quantity: str) -> str:
    return quantity[:2]


def _deviations(found: list[float]) -> float:
    mean = sum(found) / len(found)
    return sum((value - mean) ** 2 for value in found)


def _spread(values: Mapping[tuple[str, str], list[float]]) -> dict[str, float]:
    """Returns the variance between sources by kind of quantity, and over all kinds under ``""``."""
    squares: dict[str, float] = {}
    more: dict[str, int] = {}
    for (_, quantity), found in values.items():
        for kind in (_kind(quantity), ""):
            if found:
                squares[kind] = squares.get(kind, 0.0) + _deviations(found)
                more[kind] = more.get(kind, 0) + len(found) - 1
    return {kind: squares[kind] / more[kind] for kind in squares if kind == "" or more[kind] >= _FEWEST}


def _noise(quantity: str, found: list[float], spread: Mapping[str, float]) -> float:
    if quantity == "HCT":
        return _HCT_SD
    pooled = spread.get(_kind(quantity), spread[""])
    n = len(found)
    return math.sqrt((_PRIOR_COUNT * pooled + _deviations(found)) / ((_PRIOR_COUNT + n - 1) * n))


def _median(found: list[float]) -> float:
    ordered = sorted(found)
    half = len(ordered) // 2
    return (ordered[half] + ordered[-half - 1]) / 2


def _with_rest(known: Consensus) -> Consensus:
    """Fills the two rests with what closes the sums, as a weak observation that is never scored."""
    y, sd = known.y.clone(), known.sd.clone()
    for rest, prefix, total in (("M_rest", "M_", known.x), ("Q_rest", "Q_", y[:, QUANTITIES.index("CO")])):
        parts = torch.tensor([q.startswith(prefix) and q != rest for q in QUANTITIES])
        left = total.exp() - (y.exp() * (parts & (known.count > 0))).sum(-1)
        j = QUANTITIES.index(rest)
        y[:, j] = torch.maximum(left, 0.01 * total.exp()).log()
        sd[:, j] = _REST_SD
    return Consensus(known.species, known.x, y, sd, known.count)
