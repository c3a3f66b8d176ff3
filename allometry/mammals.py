r"""A thousand mammals: brain mass, basal metabolic rate, heart and breathing rate, for training.

The tables are third-party data and no part of this package: they are read from a folder (``VPOP_DATA``), and
what was learnt from them is kept in the weights. Units: kg, mL O2/h, 1/min.

- Brain: Tsuboi et al. (2018) Nat Ecol Evol 2:1492, https://doi.org/10.1038/s41559-018-0632-1: adults, the
  median of a species' logarithms.
- Metabolic rate: Genoud, Isler and Martin (2018) Biol Rev 93:404, https://doi.org/10.1111/brv.12350, one
  row a species. The other rows of that table are left out: some are heart or breathing rates by mistake.
- Heart and breathing rate: de Ruiter's teaching collection.

The metabolic rates come without families. A genus takes the one that the brains' table gives it, or
``data/genera.csv``; one that is in neither takes the order, and the family, of its neighbours in the list,
which is sorted by both, if the nearest known ones before and after agree. [ours]
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from allometry.taxonomy import SUPERORDERS, UNKNOWN, Taxon

HEADS: tuple[str, ...] = ("brain", "BMR", "heart_rate", "breath_rate")
_BMR_SOURCE = "Genoud"
_GENERA = Path(__file__).parent / "data" / "genera.csv"


@dataclass(frozen=True)
class Mammals:
    r"""One quantity of many species.

    Attributes:
        taxa: Where each species stands, n of them.
        x: :math:`\ln BW` [kg], with shape (n,).
        y: :math:`\ln` of the quantity, with shape (n,).
        count: How many values the median is over, with shape (n,).
    """

    taxa: tuple[Taxon, ...]
    x: Tensor
    y: Tensor
    count: Tensor

    def __len__(self) -> int:
        """Returns the number of species."""
        return len(self.taxa)

    def without(self, genera: Sequence[str]) -> Mammals:
        """Returns the species outside ``genera``."""
        keep = torch.tensor([taxon.genus not in genera for taxon in self.taxa])
        taxa = tuple(taxon for taxon, kept in zip(self.taxa, keep.tolist(), strict=True) if kept)
        return Mammals(taxa, self.x[keep], self.y[keep], self.count[keep])


def load_mammals(folder: str | os.PathLike[str]) -> dict[str, Mammals]:
    """Reads the tables of ``folder/comparative``.

    Arguments:
        folder: The folder of third-party data.

    Returns:
        By :data:`HEADS`, the species.

    Raises:
        FileNotFoundError: If a table is not there.
    """
    path = Path(folder) / "comparative"
    brain = pd.read_csv(path / "brain_mammals.csv")
    brain["species"] = brain.Genus_Species.str.replace("_", " ")
    known = brain.groupby(_genus(brain.species))[["Order", "Family"]].agg(lambda names: names.mode()[0])
    typed = pd.read_csv(_GENERA, index_col="genus").rename(columns={"order": "Order", "family": "Family"})
    known = pd.concat([known, typed[["Order", "Family"]]])
    known = known[~known.index.duplicated()]
    adult = brain[brain["Age Class"] == "Adult"]
    frames = {"brain": _median(adult.species, adult.body_g / 1e3, adult.brain_g / 1e3)}
    rate = pd.read_csv(path / "bmr_mammals.csv")
    rate = rate[rate.source.str.startswith(_BMR_SOURCE)]
    frames["BMR"] = _median(rate.species, rate.mass_g / 1e3, rate.bmr_mlO2_h)
    beats = pd.read_csv(path / "cardioresp_mammals.csv")
    for head in ("heart_rate", "breath_rate"):
        own = beats[beats.quantity == head]
        frames[head] = _median(own.species, own.mass_kg, own.value)
    return {head: _mammals(frame, known) for head, frame in frames.items()}


def _genus(species: pd.Series) -> pd.Series:
    return species.str.split().str[0]


def _median(species: pd.Series, BW: pd.Series, value: pd.Series) -> pd.DataFrame:
    """Returns one row a species, in the order of the list."""
    frame = pd.DataFrame({"species": species, "x": np.log(BW), "y": np.log(value)})
    return frame.groupby("species", sort=False).agg(x=("x", "median"), y=("y", "median"), count=("y", "size"))


def _mammals(frame: pd.DataFrame, known: pd.DataFrame) -> Mammals:
    genus = _genus(frame.index.to_series())
    order, family = (_between(genus.map(known[rank])).fillna(UNKNOWN) for rank in ("Order", "Family"))
    order = order.where(order.isin(SUPERORDERS), UNKNOWN)
    taxa = tuple(Taxon(*place) for place in zip(order, family, genus, strict=True))
    x, y, count = (torch.tensor(frame[name].to_numpy(float)) for name in ("x", "y", "count"))
    return Mammals(taxa, x, y, count)


def _between(names: pd.Series) -> pd.Series:
    """Fills a gap whose nearest names before and after agree."""
    before, after = names.ffill(), names.bfill()
    return names.where(names.notna(), before.where(before == after))
