"""What the three commands share: one line for bad input, and exit code 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

Action = Callable[[argparse.Namespace], int]

_LONGEST = 600  # characters of a message; of a longer one the middle, what a user pasted, is left out


def one_line(message: str) -> str:
    """Returns a message as one line that a terminal can show.

    >>> one_line("the dose\\n " + 1000 * "(" + " is wrong")[-12:]
    '((( is wrong'
    """
    line = " ".join(message.split())
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)


class Output(str):
    """A path to write to, told apart from one to read."""


def output(text: str) -> Output:
    """Returns a path to write to, if it is plain: an empty one is most often a variable that was not set."""
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"must name a file or a folder, but is {text!r}")
    return Output(text)


def whole(least: int, most: int) -> Callable[[str], int]:
    """Returns the type of an argument that is a whole number from ``least`` to ``most``.

    >>> whole(1, 10**9)("1_000_000")
    1000000
    """

    def read(text: str) -> int:
        digits = text.replace("_", "")
        value = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else -1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {least:,} to {most:,}, but is {text!r}"
            )
        return value

    return read


seed = whole(0, 2**32 - 1)


def _refuse_overwriting(arguments: argparse.Namespace) -> None:
    """Raises if a file to write is one to read as well, or another one to write."""
    paths = {name: value for name, value in vars(arguments).items() if isinstance(value, str)}
    for name, path in paths.items():
        others = (other for key, other in paths.items() if key != name)
        if isinstance(path, Output) and any(_same_file(path, other) for other in others):
            flag = "-o" if name == "output" else f"--{name}"
            raise ValueError(
                f"{flag} must name a file of its own, but {path} is given twice and would be overwritten. "
                "Choose another name."
            )


def _same_file(path: str, other: str) -> bool:
    """Tells whether two arguments name one file, in any spelling: one that is there, or will be written."""
    try:
        there = isinstance(other, Output) or Path(other).is_file()
        return there and Path(path).resolve() == Path(other).resolve()
    except (OSError, ValueError, RuntimeError):  # no path at all
        return False


def _said(error: Exception) -> str:
    """Returns what an error says; one of the operating system names its file and its reason."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename} must be readable and writable, but: {error.strerror}. Check the path."
    return str(error) or type(error).__name__


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a wrong call with one line that says where help is."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Prints one line and exits with code 2."""
        self.exit(2, f"{self.prog}: {one_line(message)}. See '{self.prog} --help'.\n")


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parses ``argv``, calls the chosen command's ``action``, and returns its exit code.

    Bad input (ValueError, TypeError, OSError) becomes one line on stderr and exit code 2: a traceback
    tells a user nothing. Anything else is a fault of the program and keeps its traceback.
    """
    arguments = parser.parse_args(argv)
    action: Action = arguments.action
    try:
        _refuse_overwriting(arguments)
        return action(arguments)
    except BrokenPipeError:  # the reader of a pipe, `head` say, has seen enough
        sys.stderr.close()
        return 0
    except (ValueError, TypeError, OSError) as error:
        print(f"{parser.prog}: {one_line(_said(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
