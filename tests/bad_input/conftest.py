"""Runs a command in an empty folder and asserts that it refuses."""

import importlib
from pathlib import Path

import pytest

from tests.bad_input.commands import Refused


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every path under a folder, with the bytes of the files."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))
    }


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command in an empty folder and asserts that it refuses; returns what it said."""
    monkeypatch.chdir(tmp_path)

    def run(argv: list[str], *words: str) -> str:
        command, *arguments = argv
        before = contents(tmp_path)
        capsys.readouterr()
        try:
            code = importlib.import_module(f"{command}.__main__").main(arguments)
        except SystemExit as left:
            code = left.code
        out, err = capsys.readouterr()
        assert code == 2, (code, out, err)
        assert out == "" and err.endswith("\n") and len(err.splitlines()) == 1, err
        assert err.startswith(command) and len(err) < 1000 and "Traceback" not in err
        assert [word for word in words if word not in err] == [], err
        assert contents(tmp_path) == before
        return err

    return run
