"""Populations: the numbers of a simulation, whoever did the parts and however often they were interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pbpk import executor
from pbpk.__main__ import main
from pbpk.bodies import reference_body
from pbpk.io import load_cohort, save_cohort
from pbpk.physiology import Cohort
from pbpk.population import Population, population
from pbpk.simulate import simulate

ROOT = Path(__file__).parents[2]
DOSE = "7.5 mg po q12h x2"
N, PART = 700, 100
NUMBERS = ("bodies", "sketch", "profiles", "quantiles.csv", "exposure.csv", "failures.csv")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort file of 700 varied people, of whom the 251st has flows that do not sum to the output."""
    man = reference_body("human", sex="M", age=30)
    noise = torch.randn(2, N, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    M, Q = man.M * torch.exp(0.3 * noise[0]), man.Q * torch.exp(0.3 * noise[1])
    like = {name: value.expand(N, *value.shape) for name, value in man.tensors().items()}
    CO = Q.sum(-1)
    CO[250] *= 1.01
    body = man.replace(**{**like, "M": M, "Q": Q, "BW": M.sum(-1), "CO": CO})
    file = tmp_path_factory.mktemp("people") / "people.parquet"
    save_cohort(Cohort(body, np.array([f"P{k}" for k in range(N)], dtype=object)), file)
    return file


def run(people: Path, folder: Path, **changes: Any) -> Population:
    arguments = {"profiles": True, "points": 20, "part": PART, "resume": True, **changes}
    return population(str(people), "midazolam", DOSE, folder=folder, **arguments)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves pictures undrawn, which are half of a small run; only ``undisturbed`` has its own."""
    monkeypatch.setattr("pbpk.report.picture", lambda figure: "")


@pytest.fixture(scope="module")
def undisturbed(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Population:
    return run(people, tmp_path_factory.mktemp("undisturbed"))


def numbers(folder: Path) -> dict[str, bytes]:
    """Every file of numbers by name, byte for byte."""
    files = [f for name in NUMBERS for f in sorted((folder / name).glob("*")) or [folder / name]]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture
def same(undisturbed: Population) -> Callable[[Path], None]:
    """Asserts that a folder holds the numbers of the undisturbed run, and nothing half written."""

    def check(folder: Path) -> None:
        found, expected = numbers(folder), numbers(undisturbed.folder)
        assert list(found) == list(expected)
        assert [name for name in expected if found[name] != expected[name]] == []
        assert not [file for file in folder.rglob("*") if ".partial" in file.name]

    return check


# what it computes


def test_a_row_is_what_simulate_says_of_the_body(undisturbed: Population, people: Path) -> None:
    cohort = load_cohort(people)
    simulation = simulate(cohort, "midazolam", DOSE, undisturbed.request.times, throw=False)
    exact, bodies = simulation.nca(), undisturbed.bodies()
    assert bodies["id"].tolist() == cohort.id.tolist()
    for name in ("Cmax", "tmax", "AUCinf", "CL", "F"):
        np.testing.assert_allclose(bodies[name], exact[name], rtol=1e-5)
    np.testing.assert_allclose(bodies["AUC"], exact["AUC"], rtol=0.02)  # of the samples
    np.testing.assert_allclose(bodies["t_half"], exact["t_half"], rtol=0.01)
    np.testing.assert_allclose(bodies["BW"], cohort.physiology.BW, rtol=1e-6)
    np.testing.assert_allclose(bodies["M_liver"], cohort.physiology.mass("liver"), rtol=1e-6)


def test_quantiles_are_those_of_all_solved_bodies(undisturbed: Population, people: Path) -> None:
    simulation = simulate(
        load_cohort(people), "midazolam", DOSE, undisturbed.request.times, keep=["venous"], throw=False
    )
    exact, found = simulation.quantiles(), undisturbed.quantiles()
    np.testing.assert_allclose(found["time"], exact["time"])
    np.testing.assert_allclose(found[["p5", "p50", "p95"]], exact[["p5", "p50", "p95"]], rtol=0.01)
    exposure = undisturbed.exposure().set_index("quantity")
    assert exposure.loc["Cmax [mg/L]", "n"] == N - 1
    Cmax = undisturbed.bodies(["Cmax"])["Cmax"]
    assert exposure.loc["Cmax [mg/L]", "p50"] == pytest.approx(Cmax.median(), rel=0.008)


def test_a_profile_is_kept_for_each_body(undisturbed: Population) -> None:
    profiles = pd.read_parquet(undisturbed.folder / "profiles")
    C = np.stack(profiles["plasma"])
    assert C.shape == (N, len(undisturbed.request.times)) and C.dtype == np.float32
    np.testing.assert_array_equal(np.nan_to_num(C.max(-1)), undisturbed.bodies()["Cmax"].fillna(0.0))


def test_a_body_that_fails_is_counted_and_listed_and_in_no_quantile(undisturbed: Population) -> None:
    assert undisturbed.failed == 1
    assert undisturbed.failures().values.tolist() == [
        [2, "P250", 1, "the organs' flows do not sum to CO, which the lung receives"]
    ]
    row = undisturbed.bodies().iloc[250]
    assert row["status"] == 1 and np.isnan(row["Cmax"]) and row["BW"] > 0
    assert undisturbed.sketch.totals()[0] == N - 1
    assert "not solved: 1 (a parameter" in undisturbed.text()


def test_numbers_are_single_precision_split_by_byte_and_null_where_unknown(undisturbed: Population) -> None:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(undisturbed.folder / "bodies" / "part-00002.parquet")
    group, columns = file.metadata.row_group(0), file.schema_arrow.names
    of = {group.column(k).path_in_schema: group.column(k) for k in range(len(columns))}
    assert {str(file.schema_arrow.field(name).type) for name in ("Cmax", "BW", "AUC")} == {"float"}
    assert all("BYTE_STREAM_SPLIT" in of[name].encodings for name in ("Cmax", "BW"))
    assert not any("DICTIONARY" in encoding for encoding in of["Cmax"].encodings)
    assert of["Cmax"].compression == "ZSTD" and of["Cmax"].statistics.null_count == 1


def test_the_page_shows_bands_and_the_failure(undisturbed: Population) -> None:
    page = (undisturbed.folder / "report.html").read_text()
    assert page.count("data:image/png") == 2 and "P250" in page and "7.5 mg po q12h x2" in page


# who does it, and what goes wrong


def test_a_killed_dask_worker_changes_nothing(people: Path, tmp_path: Path, same: Callable) -> None:
    distributed = pytest.importorskip("distributed")
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if not killed:
            killed.extend(distributed.default_client().run(os.getpid).values())
            os.kill(killed[0], signal.SIGKILL)

    run(people, tmp_path / "out", executor="dask", workers=1, progress=kill)
    assert killed
    same(tmp_path / "out")


def test_a_killed_driver_is_taken_up(people: Path, tmp_path: Path, same: Callable) -> None:
    folder = tmp_path / "out"
    command = ["pbpk", "population", str(people), "midazolam", DOSE, "--points", "20", "--part", str(PART)]
    command += ["--profiles", "--workers", "1", "--resume", "-o", str(folder)]
    driver = subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    while driver.poll() is None and len(list(folder.glob("seals/part-*"))) < 2:
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    before = {seal: seal.stat().st_mtime_ns for seal in folder.glob("seals/part-*.json")}
    assert 2 <= len(before) < N // PART
    run(people, folder)
    assert all(seal.stat().st_mtime_ns == time for seal, time in before.items())
    same(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("a file system cannot be mounted here: it takes an administrator")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_named_and_the_run_goes_on_once_there_is_room(
    people: Path, small_disk: Path, same: Callable
) -> None:
    folder = small_disk / "out"
    with pytest.raises(OSError, match="must be writable, but the disk is full; free some space"):
        run(people, folder)
    assert not [file for file in folder.rglob("*") if ".partial" in file.name]
    assert 0 < len(list(folder.glob("seals/part-*"))) < N // PART
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    run(people, folder)
    same(folder)


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_is_at_work(
    people: Path, tmp_path: Path, same: Callable
) -> None:
    refusals: list[str] = []

    def begin_another(done: int, total: int) -> None:
        with pytest.raises(ValueError, match="must have one run at a time") as refusal:
            run(people, tmp_path / "out")
        refusals.append(str(refusal.value))

    run(people, tmp_path / "out", progress=begin_another)
    assert len(refusals) == N // PART
    same(tmp_path / "out")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_what_is_damaged_is_done_again_and_nothing_else(people: Path, tmp_path: Path, same: Callable) -> None:
    folder = tmp_path / "out"
    run(people, folder)
    flip(folder / "bodies" / "part-00000.parquet")
    os.truncate(folder / "sketch" / "part-00001.parquet", 100)
    (folder / "seals" / "part-00002.json").write_text("{")
    (folder / "seals" / "part-00003.json").write_text("[]")
    (folder / "profiles" / "part-00004.parquet").unlink()
    (folder / "quantiles.csv").unlink()
    (folder / "bodies" / ".part-00005.parquet.1.partial").write_text("half")
    before = {seal.name: seal.stat().st_mtime_ns for seal in folder.glob("seals/*")}
    run(people, folder)
    again = [s.name for s in sorted(folder.glob("seals/*")) if s.stat().st_mtime_ns != before[s.name]]
    assert again == [f"part-0000{k}.json" for k in range(5)]
    same(folder)


# the request


def test_another_request_is_not_taken_up(people: Path, undisturbed: Population) -> None:
    before = numbers(undisturbed.folder)
    with pytest.raises(ValueError, match="was begun with, but seed was 0 and is 1"):
        run(people, undisturbed.folder, seed=1)
    with pytest.raises(ValueError, match="but compound was 'midazolam' and is 'theophylline'"):
        population(
            str(people), "theophylline", DOSE, folder=undisturbed.folder, profiles=True, points=20, part=PART,
            resume=True,
        )  # fmt: skip
    assert numbers(undisturbed.folder) == before


def test_a_changed_cohort_file_is_another_request(people: Path, tmp_path: Path) -> None:
    file = tmp_path / people.name
    save_cohort(load_cohort(people)[:50], file)
    run(file, tmp_path / "out")
    save_cohort(load_cohort(people)[50:100], file)
    with pytest.raises(ValueError, match="but people was "):
        run(file, tmp_path / "out")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs the command and returns the one line with which it refuses."""
    code = main(["population", *arguments])
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and "Traceback" not in err
    return err


BAD: dict[str, tuple[list[str], str]] = {
    "no number": (["pcdm", "midazolam", DOSE], "-n must say how many people the model draws"),
    "too many": (["human", "midazolam", DOSE, "-n", "2"], "-n must be at most 1, the bodies that there are"),
    "nobody": (["pcmd", "midazolam", DOSE, "-n", "2"], "Did you mean 'pcdm'?"),
    "no file": (["there.parquet", "midazolam", DOSE], "there.parquet must be a file, but there is none"),
    "a drug": (["human", "midazolm", DOSE], "midazolam"),
    "a dose": (["human", "midazolam", "a pill"], "Regimen text must be readable"),
    "an output": (["human", "midazolam", DOSE, "--outputs", "livr"], "Did you mean 'liver'?"),
    "an executor": (["human", "midazolam", DOSE, "--executor", "spark"], "--executor must be one of local"),
    "a cluster": (
        ["human", "midazolam", DOSE, "--executor", "dask", "--scheduler", "tcp://127.0.0.1:9"],
        "none answers at 'tcp://127.0.0.1:9'",
    ),
    "a clearance": (["human", "midazolam", DOSE, "--clearance", "guessed"], "clearance must be one of"),
    "a condition": (
        ["human", "midazolam", DOSE, "--age", "18:65"],
        "--age must come with a model",
    ),
    "an age": (["pcdm", "midazolam", DOSE, "-n", "2", "--age", "old"], "--age must be FROM:TO in years"),
    "a wish": (["pcdm", "midazolam", DOSE, "-n", "2", "--where", "BMI > 900"], "where must be possible"),
    "weights": (["gone.safetensors", "midazolam", DOSE, "-n", "2"], "weights must be a file"),
    "hours": (["human", "midazolam", DOSE, "--hours", "0"], "hours must be positive"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(executor, "_PATIENCE", 1)
    arguments, words = BAD[name]
    assert words in refused(capsys, *arguments, "-o", "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused_unless_it_is_to_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    asked = ["human", "midazolam", DOSE, "-o", str(tmp_path)]
    assert "must be empty, but is not. Add --resume" in refused(capsys, *asked)
    assert "has no manifest of one" in refused(capsys, *asked, "--resume")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_the_command_simulates_people_drawn_by_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["population", "pcdm", "midazolam", DOSE, "-n", "60", "--age", "18:65", "--part", "40"]
    assert main([*asked, "--workers", "1", "-o", str(tmp_path / "out")]) == 0
    assert "midazolam 7.5 mg po q12h x2; 60 bodies, plasma" in capsys.readouterr().out
    bodies = pd.read_parquet(tmp_path / "out" / "bodies")
    assert bodies["id"].tolist() == [str(k) for k in range(1, 61)] and bodies["age"].between(18, 65).all()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["n"] == 60 and manifest["people"]["generator"] == "vpop PCDM"
