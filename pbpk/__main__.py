"""The command ``pbpk``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pbpk.command import Parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``pbpk`` and returns its exit code: 0, 1 (violations) or 2 (bad input)."""
    parser = Parser(prog="pbpk", description="Bodies, drugs in them, and the laws that bodies obey.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_check(commands)
    return run(parser, argv)


def _add_check(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = commands.add_parser(
        "check",
        help="count who breaks the physiological laws",
        description="Counts which bodies of a table break which physiological laws. Exits 0 if none does, "
        "1 if some do, 2 if the table cannot be read.",
    )
    parser.add_argument(
        "table", metavar="FILE", help="a cohort (CSV, Parquet), httk's population table, or PK-Sim's"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write the full report to a .csv or .html")
    parser.add_argument("--all", action="store_true", help="list the laws that nobody breaks, too")
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="X",
        help="relative error above which an exact law is broken (1e-9 for a cohort file; the exact laws of "
        "a foreign table are reported and not counted unless this is given)",
    )
    parser.set_defaults(action=_check)


def _check(arguments: argparse.Namespace) -> int:
    from pbpk.foreign import load_table
    from pbpk.laws import TOLERANCE, violations

    table = load_table(arguments.table)
    tolerance = arguments.tolerance
    if tolerance is None and table.ours:
        tolerance = TOLERANCE
    report = violations(table.cohort, tolerance=tolerance, stated=table.stated, not_applied=table.not_applied)
    if arguments.output:
        report.save(arguments.output)
    print(f"{arguments.table}: {table.form}, {len(table.cohort):,} bodies ({report.species})")
    print(report.text(all_laws=arguments.all))
    return int(report.rate > 0)


if __name__ == "__main__":
    sys.exit(main())
