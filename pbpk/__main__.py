"""The command ``pbpk``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pbpk.command import Parser, output, run, seed, whole

_COMPOUND = "a bundled compound, or a .toml file (docs/compounds.md)"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``pbpk`` and returns its exit code: 0, 1 (violations) or 2 (bad input)."""
    parser = Parser(prog="pbpk", description="Bodies, drugs in them, and the laws that bodies obey.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_check(commands)
    _add_simulate(commands)
    _add_population(commands)
    _add_identify(commands)
    _add_fit(commands)
    _add_sample(commands)
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
    from pbpk.rows import counted

    table = load_table(arguments.table)
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
    subject = f"{arguments.table}: {table.form}, {counted(len(table.cohort))} ({report.species})"
    if arguments.output:
        report.save(arguments.output, subject)
    print(subject)
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
    parser.add_argument("compound", metavar="COMPOUND", help=_COMPOUND)
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


def _add_population(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = commands.add_parser(
        "population",
        help="simulate a drug in millions of bodies",
        description="Simulates a drug in a population of any size, part by part, and writes one row a body, "
        "quantiles and a report. A broken run goes on with --resume. Exits 0, 1 if a body could not be "
        "solved, 2 if the input is bad.",
    )
    parser.add_argument(
        "cohort",
        metavar="COHORT|MODEL",
        help="a cohort file, a species, or who draws people: pcdm, or weights",
    )
    parser.add_argument("compound", metavar="COMPOUND", help=_COMPOUND)
    parser.add_argument("dose", metavar="DOSE", help="'7.5 mg po', '100 mg iv over 2 h q24h x7', ...")
    parser.add_argument("-n", type=whole(1, 10**10), help="how many bodies (default: all of a file)")
    parser.add_argument("--hours", type=float, default=24.0, help="how long (default 24)")
    parser.add_argument("--points", type=int, default=100, help="about how many times (default 100)")
    parser.add_argument(
        "--outputs", default="plasma", metavar="A,B", help="plasma,liver,... (default plasma)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="same seed, same bodies (default 0)")
    parser.add_argument("--age", metavar="FROM:TO", help="years, 18:65; for a model")
    parser.add_argument("--sex", choices=["M", "F"], help="for a model")
    parser.add_argument("--where", metavar="TEXT", help="a request: 'BMI >= 30'; for a model")
    parser.add_argument("--steps", metavar="N", help="of a model's sampler; 1: its student, faster")
    parser.add_argument(
        "--part",
        type=whole(1, 10**7),
        default=8_192,
        metavar="N",
        help="bodies at a time (default 8192)",
    )
    parser.add_argument("--profiles", action="store_true", help="keep the concentrations of each body too")
    parser.add_argument("--clearance", default="observed", help="observed (default) or in-vitro")
    parser.add_argument("--graph", default="whole-body", help="whole-body (default) or lumped")
    parser.add_argument("--Kp", default="rodgers-rowland", metavar="METHOD", help="default rodgers-rowland")
    parser.add_argument("--executor", default="local", help="local (default) or dask")
    parser.add_argument("--workers", type=whole(1, 4096), help="how many processes (default: one a core)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask scheduler, tcp://host:8786")
    parser.add_argument("--resume", action="store_true", help="go on with what is in DIR")
    parser.add_argument(
        "-o", "--output", type=output, required=True, metavar="DIR", help="the folder to write"
    )
    parser.set_defaults(action=_population)


def _population(arguments: argparse.Namespace) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported: processes share the cores
    from pbpk.population import run

    return run(arguments)


_PROBLEM = "a bundled problem (brain4-b1, theophylline, ...), or a .toml file"


def _add_identify(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = commands.add_parser(
        "identify",
        help="tell which parameters data could tell",
        description="Tells which unknowns of a problem a design can tell, and which further samples would "
        "tell the rest. Nothing is fitted.",
    )
    parser.add_argument("problem", metavar="PROBLEM", help=_PROBLEM)
    parser.add_argument("--observe", default="", metavar="A,B", help="compartments seen: plasma,brain,csf")
    parser.add_argument("--times", default="", metavar="T,T", help="sampling times in hours: 0.5,1,2,...")
    parser.add_argument("-o", "--output", type=output, metavar="DIR", help="write the tables to this folder")
    parser.set_defaults(action=_identify)


def _identify(arguments: argparse.Namespace) -> int:
    from pbpk.inverse import command

    folder = Path(arguments.output) if arguments.output else None
    return command.tell(arguments.problem, arguments.observe, arguments.times, folder)


def _add_fit(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = commands.add_parser(
        "fit",
        help="estimate parameters from data",
        description="Fits a problem to each person of a data set, after asking what the data can tell. "
        "Writes estimates.csv, metrics.csv, identifiability.csv, methods.csv and report.html. Exits 0, 1 if "
        "a fit did not converge, 2 if the input is bad.",
    )
    parser.add_argument("problem", metavar="PROBLEM", help=_PROBLEM)
    parser.add_argument("data", metavar="DATA", help="a .csv with ID,TIME,DV,AMT,RATE,EVID,CMT")
    parser.add_argument(
        "--method", default="lsq", metavar="A,B", help="lsq (default), xtfc, pinn, amortised, mcmc"
    )
    parser.add_argument("--unit", default="mg/L", help="the unit of DV (default mg/L)")
    parser.add_argument("--cohort", default="", metavar="FILE", help="the people's bodies, by the same ids")
    parser.add_argument("--seed", type=seed, default=0, help="of what is drawn at random (default 0)")
    parser.add_argument(
        "-o", "--output", type=output, required=True, metavar="DIR", help="the folder to write"
    )
    parser.set_defaults(action=_fit)


def _fit(arguments: argparse.Namespace) -> int:
    from pbpk.inverse import command

    return command.fit(
        arguments.problem,
        arguments.data,
        arguments.method,
        Path(arguments.output),
        seed=arguments.seed,
        unit=arguments.unit,
        cohort=arguments.cohort,
    )


def _add_sample(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = commands.add_parser(
        "sample",
        help="draw a data set of a problem",
        description="Draws noisy observations of a problem's design, to try 'pbpk fit' on: the data set, and "
        "beside it the true parameters.",
    )
    parser.add_argument("problem", metavar="PROBLEM", help=_PROBLEM)
    parser.add_argument(
        "--people", type=whole(1, 1_000_000), default=1, metavar="N", help="people (default 1)"
    )
    parser.add_argument(
        "--spread", type=float, default=0.0, help="sd of the parameters' logarithms over people (default 0)"
    )
    parser.add_argument("--limit", type=float, default=0.0, help="limit of quantification [mg/L] (default 0)")
    parser.add_argument("--observe", default="", metavar="A,B", help="compartments seen: plasma,brain,csf")
    parser.add_argument("--times", default="", metavar="T,T", help="sampling times in hours: 0.5,1,2,...")
    parser.add_argument("--cohort", default="", metavar="FILE", help="the people's bodies (whole body)")
    parser.add_argument("--seed", type=seed, default=0, help="of what is drawn at random (default 0)")
    parser.add_argument("-o", "--output", type=output, required=True, metavar="FILE", help="the .csv")
    parser.set_defaults(action=_sample)


def _sample(arguments: argparse.Namespace) -> int:
    from pbpk.inverse.sampling import sample

    return sample(
        arguments.problem,
        Path(arguments.output),
        people=arguments.people,
        spread=arguments.spread,
        limit=arguments.limit,
        seed=arguments.seed,
        observe=arguments.observe,
        times=arguments.times,
        cohort=arguments.cohort,
    )


if __name__ == "__main__":
    sys.exit(main())
