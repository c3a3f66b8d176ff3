"""Files that cannot be read or written: weights, folders in the way, full disks, names given twice."""

import json
import os
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.bad_input.commands import DOSE, GOOD, WRITERS, Refused, sample, table, write, writers

SHIPPED = Path(__file__).parents[2] / "vpop" / "data" / "pcdm.safetensors"


def relabelled(weights: bytes, **labels: str) -> bytes:
    """Returns a weights file whose header says something else."""
    size = struct.unpack("<Q", weights[:8])[0]
    header = json.loads(weights[8 : 8 + size])
    header["__metadata__"] |= labels
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + weights[8 + size :]


def test_weights_that_are_truncated_foreign_or_not_there(refused: Refused) -> None:
    shipped = SHIPPED.read_bytes()
    write("cut.safetensors", shipped[:-100])
    write("head.safetensors", shipped[:50])
    write("empty.safetensors", b"")
    write("noise.safetensors", bytes(range(256)) * 9)
    write("newer.safetensors", relabelled(shipped, format="vpop-pcdm-99"))
    write("other.safetensors", relabelled(shipped, coordinates="length,breadth"))
    write("table.csv", GOOD)
    save_file({"x": torch.ones(2)}, "foreign.safetensors")
    for name in ("cut", "head", "empty", "noise"):
        refused(sample("--model", f"{name}.safetensors"), "must be a whole safetensors file", name)
    for name in ("foreign", "newer", "other"):
        refused(sample("--model", f"{name}.safetensors"), "must be of format", name, "vpop fit")
    refused(sample("--model", "table.csv"), "must be a whole safetensors file", "table.csv")
    refused(sample("--model", "absent.safetensors"), "weights must be a file", "absent")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_is_in_the_way_of_the_folder(writer: str, refused: Refused) -> None:
    write("plain", "a file")
    remedy = "Make it first" if writer in ("sample", "fit") else "choose another path"
    refused(writers()[writer](f"plain{os.sep}out"), f"plain{os.sep}out", "must", "folder", remedy)


@pytest.mark.parametrize("writer", ["simulate", "study"])
def test_a_folder_that_is_to_be_made_is_an_existing_file(writer: str, refused: Refused) -> None:
    write("plain", "a file")
    refused(writers()[writer]("plain"), "plain must be writable", "is a file", "choose another path")


@pytest.mark.parametrize("writer", WRITERS[2:])
def test_a_file_that_is_to_be_written_is_a_folder(writer: str, refused: Refused) -> None:
    argv = writers()[writer]("out")
    Path(argv[-1]).mkdir()
    refused(argv, argv[-1], "must be writable", "is a folder", "give a file name")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_name_is_too_long(writer: str, refused: Refused) -> None:
    refused(writers()[writer]("x" * 300), "must be writable", "too long", "choose a shorter one")


@pytest.mark.parametrize("writer", WRITERS[2:])
def test_a_folder_on_the_way_is_not_there(writer: str, refused: Refused) -> None:
    refused(writers()[writer](f"absent{os.sep}out"), "absent", "ake it first")


@pytest.mark.parametrize(
    ("argv", "suffixes"),
    [
        (["vpop", "sample", "-o", "a.xlsx"], ".csv, .parquet"),
        (["pbpk", "check", "bodies.csv", "-o", "a.xlsx"], ".csv, .html"),
        (["vpop", "fit", "--reference", "bodies.csv", "-o", "a.xlsx"], ".safetensors"),
    ],
)
def test_a_suffix_that_no_one_writes(argv: list[str], suffixes: str, refused: Refused) -> None:
    write("bodies.csv", GOOD)
    refused(argv, "suffix", f"one of {suffixes}", Path(argv[-1]).suffix)


@contextmanager
def a_disk_of(size: int) -> Iterator[None]:
    """Lets no file grow beyond ``size`` bytes: writing fails half-way, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("writer", ["simulate", "study", "map", "check", "sample"])
def test_the_disk_is_full(writer: str, refused: Refused) -> None:
    argv = writers()[writer]("out")
    with a_disk_of(1000):
        refused(argv, "out", "must be writable", "choose another folder")
    if writer in ("map", "sample"):  # and what was there before stays
        write(argv[-1], "an old file")
        with a_disk_of(1000):
            refused(argv, "must be writable")


OVERWRITING = [
    ["vpop", "sample", "--given", "people.csv", "-o", "./people.csv"],
    ["vpop", "sample", "--population", "people.csv", "-n", "5", "-o", "people.csv"],
    ["vpop", "sample", "--match", "people.csv", "-o", "people.csv"],
    ["vpop", "project", "people.csv", "-o", "people.csv"],
    ["vpop", "project", "people.csv", "--distances", "people.csv", "-o", "moved.csv"],
    ["vpop", "project", "people.csv", "--distances", "moved.csv", "-o", "moved.csv"],
    ["vpop", "fit", "--reference", "people.csv", "-o", "people.csv"],
    ["allometry", "predict", "people.csv", "-o", "people.csv"],
    ["allometry", "predict", "people.csv", "--report", "people.csv"],
    ["allometry", "translate", "people.csv", "midazolam", "1 mg/kg iv", "-o", "people.csv"],
    ["pbpk", "check", "people.csv", "-o", "people.csv"],
    ["pbpk", "simulate", "people.csv", "midazolam", DOSE, "-o", "people.csv"],
    ["pbpk", "fit", "theophylline", "people.csv", "-o", "people.csv"],
    ["pbpk", "sample", "theophylline", "--cohort", "people.csv", "-o", "people.csv"],
]


@pytest.mark.parametrize("argv", OVERWRITING, ids=" ".join)
def test_no_command_writes_over_what_it_reads(refused: Refused, tmp_path: Path, argv: list[str]) -> None:
    (tmp_path / "people.csv").write_text(table())
    refused(argv, "must name a file of its own", "Choose another name")


TOO_MANY = [
    ["vpop", "sample", "-o", "x.csv", "-n"],
    ["allometry", "map", "rat", "human", "--samples"],
    ["allometry", "sample", "rat", "-o", "x.csv", "-n"],
    ["pbpk", "sample", "brain4-b1", "-o", "x.csv", "--people"],
    ["pbpk", "population", "human", "midazolam", DOSE, "-o", "x", "-n"],
]


@pytest.mark.parametrize("argv", TOO_MANY, ids=" ".join)
@pytest.mark.parametrize("n", ["0", "-3", "1.5", "100000000000000"])
def test_a_number_of_bodies_has_bounds(refused: Refused, argv: list[str], n: str) -> None:
    refused([*argv, n], f"argument {argv[-1]}", "must be a whole number from 1 to", n)
