"""How an experiment is called and recorded.

An experiment is a module with a frozen dataclass ``Config``, whose fields are the flags, and a function
``run(config) -> dict``. Run as a script, it prints the result and writes it, with the seed, the versions
and the commit, to ``experiments/results/<name>/result.json``; figures go beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("vpop", "torch", "numpy", "pandas", "scipy")


def data_folder() -> Path:
    """Returns the folder that VPOP_DATA names.

    Raises:
        ValueError: If it is not set or not there.
    """
    name = os.environ.get("VPOP_DATA", "")
    if not name or not Path(name).is_dir():
        raise ValueError(f"VPOP_DATA must name the folder of third-party data, but is {name!r}.")
    return Path(name)


def folder(name: str) -> Path:
    """Returns the folder of an experiment's results, made if need be."""
    path = RESULTS / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def _commit() -> str:
    answer = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def write(name: str, config: Any, result: Mapping[str, Any], seconds: float) -> Path:
    """Writes ``result.json`` and returns its path."""
    record = {
        "experiment": name,
        "config": dataclasses.asdict(config),
        "result": result,
        "cpu_seconds": round(seconds, 1),
        "commit": _commit(),
        "versions": _versions(),
    }
    path = folder(name) / "result.json"
    path.write_text(json.dumps(record, indent=2, default=float) + "\n", encoding="utf-8")
    return path


def main(name: str, config: type, run: Callable[[Any], dict[str, Any]], text: str | None) -> None:
    """Reads the flags into ``config``, runs the experiment, prints and writes what it found."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawTextHelpFormatter)
    for field in dataclasses.fields(config):
        kind = type(field.default)
        if kind is bool:
            parser.add_argument(
                f"--{field.name}", action=argparse.BooleanOptionalAction, default=field.default
            )
        else:
            parser.add_argument(f"--{field.name}", type=kind, default=field.default)
    chosen = config(**vars(parser.parse_args()))
    start = time.process_time()
    result = run(chosen)
    path = write(name, chosen, result, time.process_time() - start)
    print(json.dumps(result, indent=2, default=float))
    print(path)
