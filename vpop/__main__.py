"""The command ``vpop``: people drawn at random that obey physiology, and what a drug does in them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pbpk.command import Parser, output, run


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``vpop study | sample | fit`` and returns the exit code."""
    parser = Parser(prog="vpop", description=__doc__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_study(commands)
    _add_sample(commands)
    _add_fit(commands)
    return run(parser, argv)


def _add_study(commands: Any) -> None:
    command = commands.add_parser("study", help="people, a drug, a simulation and a report from one file")
    command.add_argument("file", nargs="?", metavar="FILE.toml", help="the study; default: the bundled one")
    command.add_argument(
        "-o", "--output", type=output, metavar="DIR", help="where to write; default: runs/<name>"
    )
    command.set_defaults(action=_study)


def _add_sample(commands: Any) -> None:
    command = commands.add_parser("sample", help="draw a cohort of virtual people")
    command.add_argument("-n", type=_count, default=1000, help="the number of people (default 1000)")
    command.add_argument("--seed", type=_seed, default=0, help="same seed, same people (default 0)")
    command.add_argument("--age", type=_ages, default=(0.0, 80.0), metavar="FROM:TO", help="years, 18:65")
    command.add_argument("--sex", choices=["M", "F"], help="only men or only women")
    command.add_argument(
        "--where", metavar="TEXT", help="a request: 'BMI >= 30 and not race == \"Other\"', 'height == 175'"
    )
    command.add_argument("--model", metavar="FILE", help="weights of 'vpop fit'; default: the shipped ones")
    command.add_argument(
        "-o", "--output", type=output, required=True, metavar="FILE", help="the cohort file, .csv or .parquet"
    )
    command.set_defaults(action=_sample)


def _add_fit(commands: Any) -> None:
    command = commands.add_parser("fit", help="learn a population")
    command.add_argument(
        "--reference",
        required=True,
        metavar="PATH",
        help="a cohort file, an NHANES table (.csv), or a folder with CDC's XPT files",
    )
    command.add_argument("--seed", type=_seed, default=0, help="the seed of organs and training (default 0)")
    command.add_argument("--updates", type=_count, help="the number of training steps")
    command.add_argument(
        "-o", "--output", type=output, required=True, metavar="FILE.safetensors", help="the weights file"
    )
    command.set_defaults(action=_fit)


def _count(text: str) -> int:
    return _whole(text, 1, 10_000_000)


def _seed(text: str) -> int:
    return _whole(text, 0, 2**32 - 1)


def _whole(text: str, least: int, most: int) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, but is {text!r}")
    return value


def _ages(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be FROM:TO in years, 18:65 say, but is {text!r}") from None


def _study(arguments: argparse.Namespace) -> int:
    from vpop.study import Study

    study = Study.load(arguments.file)
    result = study.run(arguments.output or Path("runs") / study.name)
    print(result.table())
    return 1 if result.violations or result.failed else 0


def _sample(arguments: argparse.Namespace) -> int:
    from pbpk.checks import choose
    from pbpk.files import check_writable
    from pbpk.io import save_cohort
    from pbpk.progress import bar
    from pbpk.table import SUFFIXES
    from vpop.judge import judge, refuse_unlawful
    from vpop.pcdm import PCDM

    choose("the suffix of -o", Path(arguments.output).suffix.lower(), SUFFIXES)
    check_writable(arguments.output)
    with bar("people", arguments.n) as progress:
        cohort = PCDM.load(arguments.model).sample(
            arguments.n,
            seed=arguments.seed,
            age=arguments.age,
            sex=arguments.sex,
            where=arguments.where,
            progress=progress,
        )
    report = judge(cohort)
    refuse_unlawful(report)
    save_cohort(cohort, arguments.output)
    print(f"{len(cohort)} people in {arguments.output}; violation rate {report.rate:.2%}")
    return 1 if report.rate else 0


def _fit(arguments: argparse.Namespace) -> int:
    from pbpk.checks import choose
    from pbpk.files import check_writable
    from pbpk.progress import bar
    from vpop.pcdm import FEWEST, PCDM, Training
    from vpop.reference import load_reference

    choose(
        "the suffix of -o", Path(arguments.output).suffix.lower(), [".safetensors"]
    )  # a .json goes beside it
    check_writable(arguments.output)
    cohort, weights = load_reference(arguments.reference, seed=arguments.seed)
    if cohort.physiology.species != "human" or len(cohort) < FEWEST:
        raise ValueError(
            f"--reference must hold at least {FEWEST} people, but {arguments.reference} holds {len(cohort)} "
            f"of the species {cohort.physiology.species}. Give a larger cohort of people."
        )
    training = Training(updates=arguments.updates) if arguments.updates else Training()
    with bar("updates", training.updates) as progress:
        model = PCDM(training=training, seed=arguments.seed).fit(cohort, weights, progress)
    model.save(arguments.output)
    left_out = model.card["left_out"]
    print(f"fitted to {model.card['bodies']} bodies ({left_out} left out) in {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
