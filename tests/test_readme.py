"""What the README shows is what the commands accept."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

TEXT = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(?:vpop|pbpk|allometry) .*$", TEXT, re.MULTILINE)


def test_the_readme_shows_commands_of_every_package() -> None:
    assert {line.split()[0] for line in COMMANDS} == {"vpop", "pbpk", "allometry"}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_the_readme_is_one_that_there_is(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package, *argv = shlex.split(line, comments=True)
    module = importlib.import_module(f"{package}.__main__")
    monkeypatch.setattr(module, "run", lambda parser, argv: parser.parse_args(argv))
    assert callable(module.main(argv).action)
