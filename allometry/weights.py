"""Weights on disk: safetensors, and a JSON card beside them that says what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from allometry.clade import Clades
from allometry.consensus import consensus
from allometry.flow import Flow
from allometry.hierarchical import NAMES, Hierarchical, Hyper
from allometry.taxonomy import TAXA
from pbpk.files import read_text, write_whole

if TYPE_CHECKING:
    from allometry.neural import NeuralAllometry

_FORMAT = 1
_HYPER = ("sigma", "tau", "level", "share")
_SETTINGS = ("members", "steps", "connected", "seed")


def save(model: NeuralAllometry, path: Path) -> None:
    """Writes the weights, and the card at the same name with the suffix .json."""
    from safetensors.torch import save

    if not model.folds or model.flow is None:
        raise ValueError("NeuralAllometry must be fitted before it is saved. Call fit first.")
    clades = next(iter(model.folds.values())).clades
    card: dict[str, Any] = {
        "format": _FORMAT,
        "what": "Neural Allometry: bodies carried across species",
        "names": list(NAMES),
        "folds": {name: list(fold.known.species) for name, fold in model.folds.items()},
        "clades": {head: {"centre": law.centre, "names": list(law.names)} for head, law in clades.items()},
        **{name: getattr(model, name) for name in _SETTINGS},
    }
    tensors = {f"flow.{name}": value.detach().contiguous() for name, value in model.flow.state_dict().items()}
    for name in _HYPER:
        tensors[f"hyper.{name}"] = torch.stack([getattr(fold.hyper, name) for fold in model.folds.values()])
    for head, law in clades.items():
        tensors |= {f"clade.{head}.{name}": getattr(law, name).contiguous() for name in ("mean", "cov", "sd")}
    with write_whole(path) as partial:
        partial.write_bytes(save(tensors))  # save_file would let nobody else read it
    with write_whole(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def load(kind: type[NeuralAllometry], path: Path) -> NeuralAllometry:
    """Reads what :func:`save` wrote.

    Raises:
        FileNotFoundError: If the weights or the card are not there.
        ValueError: If they are of another format or of other quantities.
    """
    from safetensors.torch import load_file

    card = _card(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights must be a file, but {path} is not there. Check the path.")
    tensors = load_file(path)
    model = kind(**{name: card[name] for name in _SETTINGS})
    clades = {head: _clades(head, entry, tensors) for head, entry in card["clades"].items()}
    hyper = Hyper(*(tensors[f"hyper.{name}"] for name in _HYPER))
    known = consensus()
    for i, (name, species) in enumerate(card["folds"].items()):
        which = [known.species.index(one) for one in species]
        taxa = tuple(TAXA[one] for one in species)
        model.folds[name] = Hierarchical(known[which], taxa, clades, hyper[i])
    model.flow = Flow(len(model.folds) * model.members, model.connected, torch.Generator())
    model.flow.load_state_dict(
        {name.removeprefix("flow."): value for name, value in tensors.items() if name.startswith("flow.")}
    )
    return model


def _card(path: Path) -> dict[str, Any]:
    text = read_text(path.with_suffix(".json"), "the card of the weights")
    try:
        card = json.loads(text)
    except json.JSONDecodeError:
        raise ValueError(
            f"the card of the weights must be JSON, but {path.with_suffix('.json')} is not."
        ) from None
    if not isinstance(card, dict) or card.get("format") != _FORMAT or card.get("names") != list(NAMES):
        raise ValueError(
            f"the weights must be of format {_FORMAT} and of this version's quantities, but {path} is not. "
            "Train them again: allometry fit."
        )
    return card


def _clades(head: str, entry: dict[str, Any], tensors: dict[str, Tensor]) -> Clades:
    mean, cov, sd = (tensors[f"clade.{head}.{name}"] for name in ("mean", "cov", "sd"))
    return Clades(tuple(entry["names"]), entry["centre"], mean, cov, sd)
