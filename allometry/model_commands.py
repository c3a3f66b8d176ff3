"""The commands ``allometry fit`` and ``evaluate``: the model's training and its scores."""

from __future__ import annotations

import argparse

from allometry.arguments import in_flags
from pbpk.command import Parser, output, seed, whole


def add_fit(commands: argparse._SubParsersAction[Parser]) -> None:
    """Adds ``allometry fit``."""
    parser = commands.add_parser(
        "fit",
        help="train the weights of the neural model",
        description="Learns the mammals' laws, the hierarchical model and the networks of every fold, and "
        "writes the weights (safetensors) with their card (JSON) beside them.",
    )
    _add_data(parser)
    parser.add_argument("--members", type=whole(1, 1000), default=5, metavar="N", help="networks a fold (5)")
    parser.add_argument(
        "--steps", type=whole(1, 100_000), default=60, metavar="N", help="of the optimiser (60)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the first weights (0)")
    parser.add_argument(
        "-o", "--output", type=output, metavar="FILE", default="neural.safetensors", help="neural.safetensors"
    )
    parser.set_defaults(action=in_flags(_fit))


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="FOLDER", help="the folder of third-party data with comparative/ (VPOP_DATA)"
    )


def _folder(arguments: argparse.Namespace) -> str | None:
    import os
    from pathlib import Path

    folder = arguments.data or os.environ.get("VPOP_DATA") or None
    if folder is not None and not (Path(folder) / "comparative").is_dir():
        raise ValueError(
            f"--data or VPOP_DATA must be a folder that holds comparative/, but {folder} does not. "
            "Check the path."
        )
    return folder


def _fit(arguments: argparse.Namespace) -> int:
    import time
    from pathlib import Path

    from pbpk.checks import choose
    from pbpk.files import check_writable

    folder = _folder(arguments)
    if folder is None:
        raise ValueError(
            "--data must name the folder of third-party data, but is not set. Add --data FOLDER."
        )
    choose("the suffix of -o", Path(arguments.output).suffix.lower(), (".safetensors",))
    check_writable(arguments.output)
    from allometry.neural import NeuralAllometry

    start = time.process_time()
    model = NeuralAllometry(members=arguments.members, steps=arguments.steps, seed=arguments.seed).fit(folder)
    model.save(arguments.output)
    spent = time.process_time() - start
    print(f"{arguments.output}: {len(model.folds)} folds x {model.members} networks, {spent:.0f} CPU-s")
    return 0


def add_evaluate(commands: argparse._SubParsersAction[Parser]) -> None:
    """Adds ``allometry evaluate``."""
    parser = commands.add_parser(
        "evaluate",
        help="score every model on species that it has not seen",
        description="Leaves each species out, all its strains together, and foretells its organ masses, "
        "flows and rates; prints the scores, and writes a page, the predictions and the numbers.",
    )
    _add_data(parser)
    parser.add_argument(
        "--seeds",
        type=whole(0, 100),
        default=0,
        metavar="N",
        help="train anew N times, with messages and without (0: score the shipped weights)",
    )
    parser.add_argument(
        "--draws", type=whole(1, 1_000_000), default=4000, metavar="N", help="of the species bootstrap (4000)"
    )
    parser.add_argument(
        "-o", "--output", type=output, metavar="DIR", help="write report.html, predictions.csv, scores.json"
    )
    parser.set_defaults(action=in_flags(_evaluate))


def _evaluate(arguments: argparse.Namespace) -> int:
    from pbpk.files import check_folder

    folder = _folder(arguments)
    if arguments.output:
        check_folder(arguments.output)
    from allometry.evaluate import evaluate

    result = evaluate(folder, seeds=arguments.seeds, draws=arguments.draws)
    print(result.text())
    if arguments.output:
        from allometry.evaluate_report import write

        write(result, arguments.output)
        print(f"written: {arguments.output}/report.html, predictions.csv, scores.json")
    return 0
