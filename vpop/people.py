"""People: who is drawn, before anything is known of what is inside them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pbpk.physiology import body_mass_index, body_surface_area
from pbpk.units import quantity


@dataclass(frozen=True)
class People:
    r"""Who people are: what a survey measures from outside, and two blood tests.

    Every tensor is float64, and race an integer.

    Attributes:
        sex: 1 male, 0 female, 0.5 unknown, with shape :math:`(n)`.
        age: The age [year], with shape :math:`(n)`.
        height: The standing height, or length under two years [cm], with shape :math:`(n)`.
        BW: The body weight [kg], with shape :math:`(n)`.
        race: The position in :data:`pbpk.physiology.RACES`, -1 where unknown, with shape :math:`(n)`.
        HCT: The haematocrit [1], NaN where not measured, with shape :math:`(n)`.
        SCR: The serum creatinine [mg/dL], NaN where not measured, with shape :math:`(n)`.
    """

    sex: Tensor = quantity("1")
    age: Tensor = quantity("year")
    height: Tensor = quantity("cm")
    BW: Tensor = quantity("kg")
    race: Tensor = quantity("1")
    HCT: Tensor = quantity("1")
    SCR: Tensor = quantity("mg/dL")

    @classmethod
    def of(
        cls, sex: Any, age: Any, height: Any, BW: Any, race: Any = -1, HCT: Any = None, SCR: Any = None
    ) -> People:
        """Makes people from numbers or sequences of shapes that broadcast; None is not measured.

        Raises:
            ValueError: If sex, age, height or weight is not one that a person can have.

        >>> People.of(sex=1, age=[30.0, 40.0], height=176.0, BW=73.0).BSA
        tensor([1.8892, 1.8892], dtype=torch.float64)
        """
        values = [_double(value) for value in (sex, age, height, BW, HCT, SCR)]
        values = list(torch.broadcast_tensors(*values, torch.atleast_1d(torch.as_tensor(race))))
        sex, age, height, BW, HCT, SCR, race = (value.clone() for value in values)
        people = cls(sex, age, height, BW, race.long(), HCT, SCR)
        people._check()
        return people

    def _check(self) -> None:
        for name, lower, upper, remedy in (
            ("sex", 0.0, 1.0, "write 1 for male, 0 for female, 0.5 for unknown"),
            ("age", 0.0, 120.0, "give years"),
            ("height", 20.0, 300.0, "give centimetres"),
            ("BW", 0.3, 700.0, "give kilograms"),
        ):
            value = getattr(self, name)
            wrong = ~((value >= lower) & (value <= upper))  # NaN is wrong too
            if wrong.any():
                offender = value[wrong].flatten()[0].item()
                raise ValueError(
                    f"People.{name} must lie in [{lower:g}, {upper:g}], but {int(wrong.sum())} of "
                    f"{wrong.numel()} do not, the first is {offender:g}: {remedy}."
                )

    def __len__(self) -> int:
        """Returns the number of people."""
        return len(self.BW)

    def __getitem__(self, which: Any) -> People:
        """Returns the people ``which`` (a slice, a mask, or positions)."""
        return People(*(getattr(self, field.name)[which] for field in dataclasses.fields(self)))

    @property
    def BMI(self) -> Tensor:
        """The body-mass index [kg/m2], with shape :math:`(n)`."""
        return body_mass_index(self.height, self.BW)

    @property
    def BSA(self) -> Tensor:
        """The body surface area [m2], with shape :math:`(n)`."""
        return body_surface_area(self.height, self.BW)


def _double(value: Any) -> Tensor:
    return torch.as_tensor(float("nan") if value is None else value, dtype=torch.float64)
