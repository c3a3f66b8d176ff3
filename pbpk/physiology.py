r"""A body, or a batch of bodies, and a cohort of them.

A body is a species, a sex, an age, a size, and for each organ a mass :math:`M` [kg] and a blood flow
:math:`Q` [L/h]. :math:`\sum M = BW`; :math:`\sum Q = CO`. A batch is leading dimensions ``*`` of every
tensor: one body and a million bodies run the same line. :class:`Physiology` checks shapes and not laws,
because a body that breaks a law must be countable (:mod:`pbpk.laws` counts).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pbpk.organs import ORGANS, indices
from pbpk.units import quantity

if TYPE_CHECKING:
    import pandas as pd

MALE, FEMALE, EITHER = 1.0, 0.0, 0.5
SEXES: Mapping[str, float] = {"M": MALE, "F": FEMALE, "": EITHER}
RACES: tuple[str, ...] = (
    "Mexican American",
    "Other Hispanic",
    "Non-Hispanic White",
    "Non-Hispanic Black",
    "Other",
)


def numbered(n: int) -> np.ndarray:
    """Returns the names ``"1"`` to ``str(n)`` of bodies that have no others, digit by digit.

    >>> numbered(11)[8:].tolist()
    ['9', '10', '11']
    """
    letters = np.zeros((n, len(str(n))), dtype=np.uint32)  # as numpy keeps text: a number a letter, then 0
    for digits in range(1, letters.shape[1] + 1):
        some = np.arange(10 ** (digits - 1), min(10**digits, n + 1), dtype=np.uint32)
        rows = slice(10 ** (digits - 1) - 1, 10**digits - 1)
        for place in range(digits):
            letters[rows, digits - 1 - place] = some // 10**place % 10 + ord("0")
    return letters.view(f"U{letters.shape[1]}")[:, 0]


def body_mass_index(height: Tensor, BW: Tensor) -> Tensor:
    r"""Computes the body-mass index :math:`BW / (height/100)^2` [kg/m2] from height [cm] and weight [kg]."""
    return BW / (height / 100.0) ** 2


def body_surface_area(height: Tensor, BW: Tensor) -> Tensor:
    r"""Computes the body surface area :math:`\sqrt{height \cdot BW / 3600}` [m2] from cm and kg.

    References:
        Mosteller (1987). N Engl J Med 317:1098. https://doi.org/10.1056/NEJM198710223171717
    """
    return torch.sqrt(height * BW / 3600.0)


@dataclass(frozen=True)
class Physiology:
    r"""One body or a batch of bodies of one species.

    Every tensor is float64 unless :meth:`to` made it otherwise; a quantity that was not given is None.

    Attributes:
        species: The species' common name, ``"human"``.
        sex: 1 male, 0 female, 0.5 where the source does not say or mixes both, with shape :math:`(*)`.
        age: The age [year], with shape :math:`(*)`; NaN where unknown.
        height: The standing height, or length under two years [cm], with shape :math:`(*)`.
        BW: The body weight [kg], with shape :math:`(*)`.
        HCT: The haematocrit [1], with shape :math:`(*)`.
        GFR: The glomerular filtration rate of this body [L/h], with shape :math:`(*)`.
        CO: The cardiac output [L/h], with shape :math:`(*)`.
        M: The organ masses [kg] in the order of :data:`pbpk.organs.ORGANS`, with shape :math:`(*, 17)`.
            An organ is its tissue without blood; blood is one organ of its own.
        Q: The arterial blood flows [L/h], same order and shape; 0 for lung and blood. The liver's is the
            hepatic artery.
        SCR: The serum creatinine [mg/dL], with shape :math:`(*)`; NaN where not measured.
        FAT: The body fat as DXA measures it [kg], with shape :math:`(*)`.
        BMC: The bone mineral content [kg], with shape :math:`(*)`.
        race: The position in :data:`RACES` as an integer, -1 where unknown, with shape :math:`(*)`.
    """

    species: str
    sex: Tensor = quantity("1")
    age: Tensor = quantity("year")
    height: Tensor = quantity("cm")
    BW: Tensor = quantity("kg")
    HCT: Tensor = quantity("1")
    GFR: Tensor = quantity("L/h")
    CO: Tensor = quantity("L/h")
    M: Tensor = quantity("kg")
    Q: Tensor = quantity("L/h")
    SCR: Tensor | None = quantity("mg/dL", default=None)
    FAT: Tensor | None = quantity("kg", default=None)
    BMC: Tensor | None = quantity("kg", default=None)
    race: Tensor | None = quantity("1", default=None)

    def __post_init__(self) -> None:
        """Checks that the shapes agree."""
        batch = self.BW.shape
        for name, value in self.tensors().items():
            want = (*batch, len(ORGANS)) if name in ("M", "Q") else tuple(batch)
            if tuple(value.shape) != want:
                raise ValueError(
                    f"Physiology.{name} must have shape {want} like BW, but has {tuple(value.shape)}."
                )

    def tensors(self) -> dict[str, Tensor]:
        """Returns the fields that are tensors, by name."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }

    def replace(self, **changes: Any) -> Physiology:
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Physiology:
        return self.replace(**{name: change(value) for name, value in self.tensors().items()})

    def __getitem__(self, which: Any) -> Physiology:
        """Returns the bodies ``which`` of a batch."""
        return self._each(lambda value: value[which])

    def to(self, *arguments: Any, **keywords: Any) -> Physiology:
        """Moves every floating-point tensor to a device or a dtype, as ``Tensor.to`` does."""
        return self._each(
            lambda value: value.to(*arguments, **keywords) if value.is_floating_point() else value
        )

    @property
    def shape(self) -> torch.Size:
        """The batch shape ``*``."""
        return self.BW.shape

    @property
    def BMI(self) -> Tensor:
        """The body-mass index [kg/m2], with shape :math:`(*)`."""
        return body_mass_index(self.height, self.BW)

    @property
    def BSA(self) -> Tensor:
        """The body surface area [m2], with shape :math:`(*)`."""
        return body_surface_area(self.height, self.BW)

    def mass(self, *organs: str) -> Tensor:
        """Returns the mass of one organ, or of several together [kg], with shape :math:`(*)`."""
        return self.M[..., indices(list(organs))].sum(-1)

    def flow(self, *organs: str) -> Tensor:
        """Returns the arterial flow of one organ, or of several together [L/h]."""
        return self.Q[..., indices(list(organs))].sum(-1)


@dataclass(frozen=True)
class Cohort:
    """Bodies with names and an origin.

    Attributes:
        physiology: The bodies, with batch shape :math:`(n,)`.
        id: Their names, an array of n strings.
        provenance: Generator, version, seed and conditions; it travels in the file.
    """

    physiology: Physiology
    id: np.ndarray
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that there is one name a body."""
        if tuple(self.physiology.shape) != (len(self.id),):
            raise ValueError(
                f"Cohort.id must name each of the {tuple(self.physiology.shape)} bodies once, "
                f"but has {len(self.id)} names."
            )

    def __len__(self) -> int:
        """Returns the number of bodies."""
        return len(self.id)

    def __repr__(self) -> str:
        """Returns how many there are of which species, not every number of theirs."""
        return f"Cohort of {len(self)} bodies ({self.physiology.species})"

    def to_frame(self) -> pd.DataFrame:
        """Returns the bodies as a table, a row each, in the columns and units of :mod:`pbpk.io`."""
        from pbpk.io import to_frame

        return to_frame(self)

    def __getitem__(self, which: Any) -> Cohort:
        """Returns the sub-cohort ``which`` (a slice, a mask, or an array of positions)."""
        if isinstance(which, str | int):
            raise TypeError(
                f"a Cohort must be asked for some of its bodies, cohort[:5] or cohort[mask], but not for "
                f"{which!r}. Columns are in cohort.to_frame() and cohort.physiology."
            )
        which = torch.as_tensor(which) if isinstance(which, np.ndarray) else which
        chosen = which.numpy() if isinstance(which, Tensor) else which
        return Cohort(self.physiology[which], self.id[chosen], self.provenance)
