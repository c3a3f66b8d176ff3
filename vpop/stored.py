"""A model of people as named tensors, and back: what a weights file (:mod:`vpop.weights`) holds of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from pbpk.physiology import RACES
from vpop import demographics, growth, marginals, transport, weights
from vpop.calibration import Calibration
from vpop.coordinates import NAMES, WHO, Coordinates
from vpop.demographics import Demographics
from vpop.denoise import Denoiser
from vpop.growth import Growth
from vpop.marginals import Marginals
from vpop.standing import Standing
from vpop.student import Student
from vpop.transport import Transport

if TYPE_CHECKING:
    from vpop.pcdm import PCDM

Network = TypeVar("Network", bound=nn.Module)
Shapes = dict[str, tuple[int, ...]]

_CHART = (2, len(growth.KNOTS), len(growth.SCORES))
_CORRECTIONS: Shapes = {
    "calibration": (2, len(WHO), *_CHART),
    "transport": (2, len(transport.AGES), 1 + len(NAMES), len(NAMES) - len(WHO)),
}
_TABLES: Shapes = {
    "standing": (2, 2, len(growth.KNOTS), len(NAMES)),
    "marginals": (len(NAMES), marginals.KNOTS),
    "demographics": (2, len(RACES), len(demographics.EDGES)),
    "growth": (len(WHO), *_CHART),
    "youngest": (),
}


def tensors_of(model: PCDM) -> dict[str, Tensor]:
    """Returns all that a fitted model knows, by name."""
    charts = model.coordinates.charts
    tensors = {
        "standing": model.standing.table,
        "marginals": model.marginals.knots,
        "demographics": model.demographics.share,
        "growth": torch.stack([charts[name].quantiles for name in WHO]),
        "youngest": torch.tensor(model.coordinates.youngest, dtype=torch.float64),
        **_of_network("network.", model.network),
        **_of_corrections("", model.transport, model.calibration),
    }
    if model.student is not None:
        tensors |= _of_network("student.", model.student)
        tensors |= _of_corrections("student_", model.student_transport, model.student_calibration)
    return tensors


def restore(model: PCDM, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Gives a model of that width and depth what :func:`tensors_of` another one has returned.

    Raises:
        ValueError: If a tensor is missing, unknown or of another shape; the message names the file.
    """
    network = Denoiser(len(NAMES), model.width, model.depth)
    student = Student(len(NAMES)) if "student_calibration" in tensors else None
    shapes = _TABLES | _CORRECTIONS | _shapes("network.", network)
    if student is not None:
        shapes |= _shapes("student.", student)
        shapes |= {f"student_{name}": shape for name, shape in _CORRECTIONS.items()}
    weights.check_shapes(tensors, shapes, file)
    charts = dict(zip(WHO, map(Growth, tensors["growth"]), strict=True))
    model.coordinates = Coordinates(charts, float(tensors["youngest"]))
    model.standing = Standing(tensors["standing"])
    model.marginals = Marginals(tensors["marginals"])
    model.demographics = Demographics(tensors["demographics"])
    model.network = _filled(network, "network.", tensors)
    model.transport, model.calibration = _corrections("", tensors)
    if student is not None:
        model.student = _filled(student, "student.", tensors)
        model.student_transport, model.student_calibration = _corrections("student_", tensors)


def _of_network(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in network.state_dict().items()}


def _shapes(prefix: str, network: nn.Module) -> Shapes:
    return {name: tuple(value.shape) for name, value in _of_network(prefix, network).items()}


def _filled(network: Network, prefix: str, tensors: Mapping[str, Tensor]) -> Network:
    own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    network.load_state_dict(own)
    return network.requires_grad_(False).eval()


def _of_corrections(prefix: str, moved: Transport, calibration: Calibration) -> dict[str, Tensor]:
    return {
        f"{prefix}transport": moved.maps,
        f"{prefix}calibration": torch.stack([calibration.drawn, calibration.people]),
    }


def _corrections(prefix: str, tensors: Mapping[str, Tensor]) -> tuple[Transport, Calibration]:
    moved = Transport(tensors[f"{prefix}transport"])
    return moved, Calibration(*tensors[f"{prefix}calibration"])
