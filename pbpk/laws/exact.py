r"""The exact laws E1-E4: equalities, with a relative error instead of a band."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.organs import PERFUSED, index
from pbpk.physiology import SEXES, Physiology

Columns = Mapping[str, Any]


@dataclass(frozen=True)
class ExactLaw:
    """An equality that holds for every body that this project makes.

    Attributes:
        id: ``"E1"``.
        title: A short name for tables.
        source: Where it comes from.
        error: Takes bodies, what their table states, and what was asked for; returns the relative error
            with shape :math:`(*)`, NaN where a body has nothing to compare, None where no body has.
        missing: Why the law is not applied where ``error`` returns None.
    """

    id: str
    title: str
    source: str
    error: Callable[[Physiology, Columns, Columns], Tensor | None]
    missing: str = ""
    kind: str = "E"
    any_species: bool = True


def relative_error(got: Tensor, want: Tensor) -> Tensor:
    r"""Returns :math:`|got - want| / |want|`, 0 where both are 0, infinite where ``got`` is no number.

    NaN where ``want`` is NaN: nothing was wanted.
    """
    error = (got - want).abs() / want.abs()
    error = torch.where(got == want, 0.0, error)
    return torch.where(torch.isnan(got) & ~torch.isnan(want), torch.inf, error)


def column(p: Physiology, name: str) -> Tensor:
    """Returns a column of the cohort file by its name: a field, BMI, BSA, ``M_liver`` or ``Q_liver``.

    Raises:
        ValueError: If there is no such column, or the bodies do not have it.
    """
    if name[:2] in ("M_", "Q_"):
        return getattr(p, name[0])[..., index(name[2:])]
    value = getattr(p, name, None)
    if not isinstance(value, Tensor):
        raise ValueError(f"asked must name columns of the cohort file, but {name!r} is none of them.")
    return value


def _wanted(name: str, values: Any, p: Physiology) -> Tensor:
    """Returns the values asked for as a tensor like BW; sex letters become numbers.

    Raises:
        ValueError: If they are neither one number nor one a body.
    """
    try:
        return _like_BW(values, p)
    except (ValueError, TypeError, RuntimeError):
        raise ValueError(
            f"asked must give {name} as one number, or one for each body, but has {values!r}."
        ) from None


def _like_BW(values: Any, p: Physiology) -> Tensor:
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if array.dtype.kind in "OUS":
        array = np.vectorize(lambda value: SEXES.get(value, value), otypes=[np.float64])(array)
    return torch.as_tensor(array.astype(np.float64)).to(p.BW).expand(p.BW.shape)


def _asked(p: Physiology, stated: Columns, asked: Columns) -> Tensor | None:
    errors = [relative_error(column(p, name), _wanted(name, value, p)) for name, value in asked.items()]
    if not errors:
        return None
    together = torch.stack(errors)
    nothing = torch.isnan(together).all(0)
    return torch.where(nothing, torch.nan, torch.nan_to_num(together, nan=0.0, posinf=torch.inf).amax(0))


def _stated_BMI(p: Physiology, stated: Columns, asked: Columns) -> Tensor | None:
    return relative_error(p.BMI, _wanted("BMI", stated["BMI"], p)) if "BMI" in stated else None


EXACT: tuple[ExactLaw, ...] = (
    ExactLaw(
        "E1",
        "sum of all masses = BW",
        "conservation of mass",
        lambda p, stated, asked: relative_error(p.M.sum(-1), p.BW),
    ),
    ExactLaw(
        "E2",
        "sum of all flows = CO",
        "conservation of blood",
        lambda p, stated, asked: relative_error(p.flow(*PERFUSED), p.CO),
    ),
    ExactLaw(
        "E3",
        "stated BMI = BW / height^2",
        "definition",
        _stated_BMI,
        "no BMI is stated beside height and weight",
    ),
    ExactLaw(
        "E4",
        "what was asked for comes back",
        "definition",
        _asked,
        "what was asked for is not stated",
    ),
)
