"""The weights file: safetensors, a header that says what it is, and a card beside it for people to read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pbpk.files import write_whole

FORMAT = "vpop-pcdm-4"


class Weights(NamedTuple):
    """What a weights file holds.

    Attributes:
        tensors: The tensors by name.
        settings: The numbers that the network is built from.
        card: What is known of the fit.
    """

    tensors: dict[str, Tensor]
    settings: dict[str, int]
    card: dict[str, Any]


def write(path: str | Path, weights: Weights, coordinates: str) -> None:
    """Writes the weights, and the card as JSON beside them: both whole, or neither.

    Arguments:
        path: The weights file.
        weights: What to write.
        coordinates: The names of the model's coordinates: another version's are refused on reading.

    Raises:
        OSError: If they cannot be written.
    """
    from safetensors.torch import save

    card = {name: value for name, value in weights.card.items() if name != "sha256"}
    header = {"format": FORMAT, "coordinates": coordinates}
    header |= {"settings": json.dumps(weights.settings), "card": json.dumps(card)}
    path = Path(path)
    with write_whole(path) as partial, write_whole(path.with_suffix(".json")) as partial_card:
        whole = save({name: value.contiguous() for name, value in weights.tensors.items()}, header)
        partial.write_bytes(whole)  # save_file would let nobody else read it
        card |= {"sha256": hashlib.sha256(whole).hexdigest()}
        partial_card.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def read(path: str | Path, coordinates: str) -> Weights:
    """Reads a weights file; the card gains the file's ``sha256``.

    Raises:
        ValueError: If the file is not a whole and sound weights file of this version of the model, or not the
            one for which the card beside it was written.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if path.is_dir():
        raise ValueError(f"weights must be a file, but {path} is a folder. Name a file in it.")
    if not path.is_file():
        raise ValueError(f"weights must be a file, but {path} is not there. Check --model.")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"weights must be a whole safetensors file, but {path} is not ({error}).") from None
    if header.get("format") != FORMAT or header.get("coordinates") != coordinates:
        raise ValueError(
            f"weights must be of format {FORMAT} with this version's coordinates, but {path} is "
            f"{header.get('format', 'something else')!r}. Fit them anew with 'vpop fit'."
        )
    if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
        raise ValueError(f"weights must be finite, but {path} holds NaN or infinity; it is damaged.")
    settings, card = (_table(header, name, path) for name in ("settings", "card"))
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    _check_card(path, card["sha256"])
    return Weights(tensors, settings, card)


def _check_card(path: Path, digest: str) -> None:
    """Raises if a card lies beside the weights that was written for other bytes."""
    file = path.with_suffix(".json")
    if not file.is_file():
        return
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"weights must lie beside their own card, but {file} is none. Remove it.") from None
    if stated != digest:
        raise ValueError(
            f"weights must be those that {file.name} beside them was written for, but {path} has been "
            "changed since. Fit them anew with 'vpop fit'."
        )


def _table(header: Mapping[str, str], name: str, path: Path) -> dict[str, Any]:
    try:
        table = json.loads(header[name])
    except (KeyError, ValueError):
        table = None
    if not isinstance(table, dict):
        raise ValueError(f"weights must have a readable {name} in their header, but {path} has none.")
    return table


def check_shapes(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Raises unless each tensor is there in the shape that the model asks for.

    Raises:
        ValueError: Naming the tensor.
    """
    for name in sorted(set(tensors) | set(shapes)):
        want = shapes.get(name)
        have = tuple(tensors[name].shape) if name in tensors else None
        if want != have:
            raise ValueError(
                f"weights must hold the tensors of this model, but in {path} {name!r} has shape {have}, "
                f"not {want}; it is damaged."
            )
