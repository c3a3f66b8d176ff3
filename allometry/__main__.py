"""The command ``allometry``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from allometry.body_commands import add_map, add_sample
from allometry.drug_commands import add_predict, add_translate
from allometry.model_commands import add_evaluate, add_fit
from pbpk.command import Parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``allometry`` and returns its exit code: 0, or 2 for bad input."""
    parser = Parser(prog="allometry", description="Bodies carried from species to species.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_map(commands)
    add_predict(commands)
    add_sample(commands)
    add_translate(commands)
    add_evaluate(commands)
    add_fit(commands)
    return run(parser, argv)


if __name__ == "__main__":
    sys.exit(main())
