"""The command ``pbpk``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pbpk.command import Parser, output, run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``pbpk`` and returns its exit code: 0, 1 (violations) or 2 (bad input)."""
    parser = Parser(prog="pbpk", description="Bodies, drugs in them, and the laws that bodies obey.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_check(commands)
    _add_simulate(commands)
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
    parser.add_argument(
        "-o", "--output", type=output, metavar="FILE", help="write the full report to a .csv or .html"
    )
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
    if arguments.output and Path(arguments.output).resolve() == Path(arguments.table).resolve():
        raise ValueError(f"-o must name another file than FILE, but both are {arguments.table}. Rename it.")
    tolerance = arguments.tolerance
    if tolerance is None and table.ours:
        tolerance = TOLERANCE
    report = violations(
        table.cohort,
        tolerance=tolerance,
        stated=table.stated,
        asked=table.cohort.provenance.get("asked") if table.ours else None,
        not_applied=table.not_applied,
    )
    if arguments.output:
        report.save(arguments.output)
    print(f"{arguments.table}: {table.form}, {len(table.cohort):,} bodies ({report.species})")
    print(report.text(all_laws=arguments.all))
    return int(report.rate > 0)


def _add_simulate(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = commands.add_parser(
        "simulate",
        help="simulate a drug in bodies",
        description="Simulates a drug in every body of a cohort and writes exposure.csv, quantiles.csv and "
        "report.html. Exits 0, 1 if a body could not be solved, 2 if the input is bad.",
    )
    parser.add_argument("cohort", metavar="COHORT", help="a cohort file, or a species' reference body: human")
    parser.add_argument("compound", metavar="COMPOUND", help="a bundled compound, or a .toml file")
    parser.add_argument("dose", metavar="DOSE", help="'7.5 mg po', '100 mg iv over 2 h q24h x7', ...")
    parser.add_argument("--hours", type=float, default=24.0, help="how long (default 24)")
    parser.add_argument(
        "--outputs", default="plasma", metavar="A,B", help="plasma,liver,... (default plasma)"
    )
    parser.add_argument("--points", type=int, default=100, help="about how many times (default 100)")
    parser.add_argument("--clearance", default="observed", help="observed (default) or in-vitro")
    parser.add_argument("--graph", default="whole-body", help="whole-body (default) or lumped")
    parser.add_argument("--Kp", default="rodgers-rowland", metavar="METHOD", help="default rodgers-rowland")
    parser.add_argument(
        "-o", "--output", type=output, required=True, metavar="DIR", help="the folder to write"
    )
    parser.set_defaults(action=_simulate)


def _simulate(arguments: argparse.Namespace) -> int:
    from pbpk import exposure

    return exposure.run(
        arguments.cohort,
        arguments.compound,
        arguments.dose,
        arguments.hours,
        arguments.outputs,
        arguments.points,
        Path(arguments.output),
        graph=arguments.graph,
        clearance=arguments.clearance,
        Kp_method=arguments.Kp,
    )


if __name__ == "__main__":
    sys.exit(main())
