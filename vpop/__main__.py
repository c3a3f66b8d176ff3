"""The command ``vpop``: people drawn at random that obey physiology, and what a drug does in them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pbpk.command import Parser, output, run, seed, whole

_MOST = 10_000_000  # people that a command draws into one table


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``vpop study | sample | fit | project | ...`` and returns the exit code."""
    parser = Parser(prog="vpop", description=__doc__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_study(commands)
    _add_sample(commands)
    _add_fit(commands)
    _add_project(commands)
    _add_evaluate(commands)
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
    command.add_argument(
        "-n",
        type=whole(1, _MOST),
        help="the number of people (default 1000); with --given, of bodies for each (1)",
    )
    command.add_argument("--seed", type=seed, default=0, help="same seed, same people (default 0)")
    command.add_argument("--age", type=_ages, metavar="FROM:TO", help="years, 18:65 (default 0:80)")
    command.add_argument("--sex", choices=["M", "F"], help="only men or only women")
    command.add_argument(
        "--where",
        metavar="TEXT",
        help="a request: 'BMI >= 30 and not race == \"Other\"', 'height == 175'; in "
        "year, cm, kg, L/h, SCR in mg/dL; "
        "eGFR is the GFR in mL/min per 1.73 m2",
    )
    command.add_argument(
        "--given",
        metavar="FILE",
        help="a table of patients (id, sex, age, any of race, height, BW, BMI, HCT, SCR, GFR, CO, FAT, BMC, "
        "M_<organ>, Q_<organ>)",
    )
    command.add_argument(
        "--match", metavar="FILE.toml", help="a trial's published means, SDs, ranges and shares; see README"
    )
    command.add_argument(
        "--population",
        metavar="NAME",
        help="adults of japan, china or england, or a table of your own (.csv)",
    )
    command.add_argument("--model", metavar="FILE", help="weights of 'vpop fit'; default: the shipped ones")
    command.add_argument(
        "--steps",
        type=whole(1, 1000),
        metavar="N",
        help="of the sampler (default 20); 1: the student, fast",
    )
    command.add_argument(
        "--guidance",
        type=float,
        metavar="W",
        help="how much is made of sex and race: 1 (default) draws the population, more exaggerates",
    )
    command.add_argument(
        "-o", "--output", type=output, required=True, metavar="FILE", help="the cohort file, .csv or .parquet"
    )
    command.set_defaults(action=_sample)


def _add_project(commands: Any) -> None:
    command = commands.add_parser("project", help="move a table's bodies the least distance onto the laws")
    command.add_argument(
        "table", metavar="FILE", help="a cohort (CSV, Parquet), httk's population table, or PK-Sim's"
    )
    command.add_argument(
        "--distances", type=output, metavar="FILE.csv", help="how far each column moved, a row a column"
    )
    command.add_argument(
        "-o", "--output", type=output, required=True, metavar="FILE", help="the cohort file, .csv or .parquet"
    )
    command.set_defaults(action=_project)


def _add_fit(commands: Any) -> None:
    command = commands.add_parser("fit", help="learn a population")
    command.add_argument(
        "--reference",
        required=True,
        metavar="PATH",
        help="your people (sex, age, any of race, height, BW, BMI, HCT, SCR), a cohort file, an NHANES "
        "table (.csv), or a folder with CDC's XPT files",
    )
    command.add_argument("--seed", type=seed, default=0, help="the seed of organs and training (default 0)")
    command.add_argument(
        "--part",
        choices=["train", "validation", "test"],
        help="only this part of a survey's people, 75, 5 or 20 %%; default: all",
    )
    command.add_argument(
        "--organ-layer",
        default="literature",
        help="of people without organs: literature (default), height-allometry",
    )
    command.add_argument("--updates", type=whole(1, _MOST), help="the number of training steps")
    command.add_argument("--student", action="store_true", help="teach a one-step student too: --steps 1")
    command.add_argument(
        "-o", "--output", type=output, required=True, metavar="FILE.safetensors", help="the weights file"
    )
    command.set_defaults(action=_fit)


def _add_evaluate(commands: Any) -> None:
    command = commands.add_parser("evaluate", help="how good drawn people are, each figure beside its floor")
    command.add_argument(
        "cohort",
        nargs="?",
        metavar="FILE",
        help="a cohort file to judge; default: people that the model draws",
    )
    command.add_argument("--model", metavar="FILE", help="weights of 'vpop fit'; default: the shipped ones")
    command.add_argument(
        "--reference",
        required=True,
        metavar="PATH",
        help="real people, 400 or more: an NHANES table, CDC's files, a cohort file",
    )
    command.add_argument(
        "--part",
        choices=["validation", "test"],
        help="judge by this part of a survey's people; the part that is learnt from is then the floor",
    )
    command.add_argument(
        "-n", type=whole(1, _MOST), default=5000, help="the most bodies of each sample (default 5000)"
    )
    command.add_argument("--seed", type=seed, default=0, help="the seed of all choices (default 0)")
    command.add_argument("-o", "--output", type=output, required=True, metavar="DIR", help="where to write")
    command.set_defaults(action=_evaluate)


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
    from vpop.judge import refuse_unlawful
    from vpop.pcdm import PCDM

    choose("the suffix of -o", Path(arguments.output).suffix.lower(), SUFFIXES)
    check_writable(arguments.output)
    draw = _sampled
    for option, other in (("given", _completed), ("match", _matched), ("population", _abroad)):
        if getattr(arguments, option) is not None:
            _refuse_beside(arguments, option)
            draw = other
    with bar("people", arguments.n or 1000) as progress:
        cohort, report, text = draw(PCDM.load(arguments.model), arguments, progress)
    refuse_unlawful(report)
    save_cohort(cohort, arguments.output)
    if text:
        print(text)
    print(f"{len(cohort)} people in {arguments.output}; violation rate {report.rate:.2%}")
    return 1 if report.rate else 0


_ALONE = {
    "given": ("age", "sex", "where", "match", "population", "guidance"),
    "match": ("n", "age", "sex", "where", "given", "population", "steps", "guidance"),
    "population": ("where", "given", "match", "steps", "guidance"),
}


def _refuse_beside(arguments: argparse.Namespace, option: str) -> None:
    """Refuses what a table of patients, a trial or a population says itself."""
    for other in _ALONE[option]:
        if getattr(arguments, other) is not None:
            name = "-n" if other == "n" else f"--{other}"
            raise ValueError(
                f"{name} must not stand beside --{option}, which says who is drawn. Leave it out."
            )


def _sampled(model: Any, arguments: argparse.Namespace, progress: Any) -> tuple[Any, Any, str]:
    from vpop.demographics import OLDEST
    from vpop.judge import judge
    from vpop.sample import STEPS

    cohort = model.sample(
        arguments.n or 1000,
        seed=arguments.seed,
        age=arguments.age or (0.0, OLDEST),
        sex=arguments.sex,
        where=arguments.where,
        steps=arguments.steps or STEPS,
        progress=progress,
        guidance=1.0 if arguments.guidance is None else arguments.guidance,
    )
    return cohort, judge(cohort), ""


def _completed(model: Any, arguments: argparse.Namespace, progress: Any) -> tuple[Any, Any, str]:
    from pbpk.laws import violations
    from pbpk.table import read_table
    from vpop.headings import KNOWN, in_canonical_units
    from vpop.patients import Patients, asked, complete
    from vpop.sample import STEPS

    table, _ = in_canonical_units(read_table(arguments.given))
    patients, each = Patients.of(table), arguments.n or 1
    cohort = complete(model, patients, each, arguments.seed, arguments.steps or STEPS)
    BMI = cohort.physiology.BMI
    return cohort, violations(cohort, stated={"BMI": BMI}, asked=asked(patients, each)), table.not_read(KNOWN)


def _matched(model: Any, arguments: argparse.Namespace, progress: Any) -> tuple[Any, Any, str]:
    from vpop.judge import judge
    from vpop.trial import Trial, match

    found = match(model, Trial.load(arguments.match), arguments.seed, progress=progress)
    return found.cohort, judge(found.cohort), found.text()


def _abroad(model: Any, arguments: argparse.Namespace, progress: Any) -> tuple[Any, Any, str]:
    from vpop import populations
    from vpop.judge import judge

    cohort = populations.sample(
        model, arguments.population, arguments.n or 1000, arguments.seed, arguments.age, arguments.sex
    )
    outside = cohort.provenance["outside"]
    text = (
        f"{outside:.1%} of the draws broke a law of height or weight and were drawn again" if outside else ""
    )
    return cohort, judge(cohort), text


def _project(arguments: argparse.Namespace) -> int:
    from pbpk.checks import choose
    from pbpk.files import check_writable, write_whole
    from pbpk.foreign import load_table
    from pbpk.io import save_cohort
    from pbpk.table import SUFFIXES
    from vpop.judge import judge, refuse_unlawful
    from vpop.project import project

    choose("the suffix of -o", Path(arguments.output).suffix.lower(), SUFFIXES)
    if arguments.distances is not None:
        choose("the suffix of --distances", Path(arguments.distances).suffix.lower(), [".csv"])
    for path in (arguments.output, arguments.distances):
        if path is not None:
            check_writable(path)
    found = project(load_table(arguments.table).cohort)
    refuse_unlawful(judge(found.cohort))
    save_cohort(found.cohort, arguments.output)
    if arguments.distances:
        with write_whole(Path(arguments.distances)) as partial:
            found.frame().to_csv(partial, index=False)
    print(found.text())
    print(f"{len(found.cohort)} lawful people in {arguments.output}")
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    from pbpk.checks import choose
    from pbpk.files import check_writable
    from vpop.fit_files import fit_file, told

    # A .json goes beside it.
    choose("the suffix of -o", Path(arguments.output).suffix.lower(), [".safetensors"])
    check_writable(arguments.output)
    model = fit_file(
        arguments.reference,
        arguments.seed,
        arguments.organ_layer,
        arguments.part,
        arguments.updates,
        arguments.student,
    )
    model.save(arguments.output)
    print(f"{told(model)}; weights in {arguments.output}")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    from pbpk.files import check_folder, write_folder
    from vpop.evaluate_files import evaluate_files

    check_folder(arguments.output)
    found = evaluate_files(
        arguments.reference, arguments.cohort, arguments.model, arguments.part, arguments.n, arguments.seed
    )
    with write_folder(arguments.output) as partial:
        found.write(partial)
    print(found.table())
    return 1 if found.violations.rate else 0


if __name__ == "__main__":
    sys.exit(main())
