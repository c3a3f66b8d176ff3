"""What the three commands share: one line for bad input, and exit code 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

Action = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a wrong call with one line that says where help is."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Prints one line and exits with code 2."""
        self.exit(2, f"{self.prog}: {message}. See '{self.prog} --help'.\n")


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parses ``argv``, calls the chosen command's ``action``, and returns its exit code.

    Bad input (ValueError, TypeError, OSError) becomes one line on stderr and exit code 2: a traceback
    tells a user nothing. Anything else is a fault of the program and keeps its traceback.
    """
    arguments = parser.parse_args(argv)
    action: Action = arguments.action
    try:
        return action(arguments)
    except BrokenPipeError:  # the reader of a pipe, `head` say, has seen enough
        sys.stderr.close()
        return 0
    except (ValueError, TypeError, OSError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        print(f"{parser.prog}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
