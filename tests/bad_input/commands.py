"""What the tests of bad input write and call: tables, compounds, studies, and commands that read them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pbpk.bodies import reference_body
from pbpk.io import to_frame
from pbpk.physiology import Cohort

DOSE = "7.5 mg po"
ARM = f'[[arm]]\nname = "oral"\ncompound = "midazolam"\ndose = "{DOSE}"\n'
PEOPLE = "[people]\nn = 2\n"
COMPOUND = """
[values.MW]
value = 300
unit = "g/mol"
[values.logP]
value = 2
[values.fup]
value = 0.1
"""

Refused = Callable[..., str]
Change = Callable[[pd.DataFrame], pd.DataFrame]


def cohort(n: int = 3, species: str = "human") -> Cohort:
    body = reference_body(species)
    tensors = {name: torch.stack([value] * n) for name, value in body.tensors().items()}
    return Cohort(body.replace(**tensors), np.array([f"P{i}" for i in range(n)], dtype=object))


def table(change: Change = lambda frame: frame) -> str:
    return change(to_frame(cohort()).astype(object)).to_csv(index=False)


def scaled(column: str, factor: float) -> Change:
    return lambda frame: frame.assign(**{column: frame[column].astype(float) * factor})


def cell(column: str, value: object) -> Change:
    """Puts a value into the second row."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[1, column] = value
        return frame

    return change


def write(name: str, content: str | bytes) -> None:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def simulate(cohort: str = "human", drug: str = "midazolam", dose: str = DOSE, *more: str) -> list[str]:
    return ["pbpk", "simulate", cohort, drug, dose, "-o", "out", *more]


def sample(*more: str) -> list[str]:
    return ["vpop", "sample", "-n", "2", *more, "-o", "people.csv"]


def readers(name: str) -> list[list[str]]:
    """Every command that reads a cohort file."""
    write("reader.toml", f'[people]\ncohort = "{name}"\n{ARM}')
    return [
        ["pbpk", "check", name],
        simulate(name),
        ["vpop", "fit", "--reference", name, "-o", "model.safetensors"],
        ["vpop", "study", "reader.toml", "-o", "out"],
    ]


GOOD = table()


def writers() -> dict[str, Callable[[str], list[str]]]:
    """Every command that writes, by name, given where to."""
    write("bodies.csv", GOOD)
    write("study.toml", PEOPLE + ARM)
    return {
        "simulate": lambda out: [*simulate(), "-o", out],
        "study": lambda out: ["vpop", "study", "study.toml", "-o", out],
        "map": lambda out: ["allometry", "map", "rat", "human", "-o", f"{out}.csv"],
        "check": lambda out: ["pbpk", "check", "bodies.csv", "-o", f"{out}.html"],
        "sample": lambda out: ["vpop", "sample", "-n", "2", "-o", f"{out}.parquet"],
        "fit": lambda out: ["vpop", "fit", "--reference", "bodies.csv", "-o", f"{out}.safetensors"],
    }


WRITERS = ("simulate", "study", "map", "check", "sample", "fit")
