"""The commands ``allometry map``, ``fit`` and ``evaluate``: what they read, print and write."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pbpk.command import Parser, output, seed, whole

if TYPE_CHECKING:
    from pbpk.physiology import Cohort, Physiology

MODELS: tuple[str, ...] = ("neural", "hierarchical", "power", "fixed")
_OTHER_UNIT = (
    200.0  # [ours] times the reference body of the species: grams, and neither a giant nor a newborn
)


def add_map(commands: argparse._SubParsersAction[Parser]) -> None:
    """Adds ``allometry map``."""
    parser = commands.add_parser(
        "map",
        help="carry a reference body to another species",
        description="Carries the reference body of one species to another, foretold from all other species, "
        "prints it beside the reference body of the species asked for, and writes it as a cohort file.",
    )
    parser.add_argument("source", metavar="FROM", help="human, monkey, dog, pig, rabbit, rat or mouse")
    parser.add_argument(
        "target", metavar="TO", help="the species asked for, or any other with --BW and --clade"
    )
    parser.add_argument("--BW", type=float, metavar="KG", help="its body weight (its reference body's)")
    parser.add_argument(
        "--adult", type=float, metavar="KG", help="the adult weight of the species, where BW is a child's"
    )
    parser.add_argument(
        "--clade", metavar="ORDER[,FAMILY[,GENUS]]", help="where another species stands: Rodentia,Caviidae"
    )
    parser.add_argument(
        "--model",
        "--method",
        dest="model",
        default="neural",
        metavar="NAME",
        help="neural: hierarchical power law with a learnt residual (the default); hierarchical: without it; "
        "power: exponents fitted across the other species; fixed: 1 for masses, 0.75 for flows",
    )
    parser.add_argument(
        "--given",
        metavar="NAME=VALUE,...",
        help="what is measured of the target: M_brain=1.4,CO=390 in kg, L/h, 1 (BMR in mL O2/h)",
    )
    parser.add_argument(
        "--samples", type=whole(1, 1_000_000), metavar="N", help="draw N bodies from the uncertainty"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the draws (0)")
    parser.add_argument(
        "-o", "--output", type=output, metavar="FILE", help="write the cohort, .csv or .parquet"
    )
    parser.set_defaults(action=_map)


def _map(arguments: argparse.Namespace) -> int:
    from allometry.power import far_outside, range_seen
    from pbpk.bodies import SPECIES, reference_body
    from pbpk.checks import choose
    from pbpk.io import save_cohort

    source = reference_body(choose("FROM", arguments.source, SPECIES))
    if arguments.clade is None:
        _check_target(arguments)
    choose("--model or --method", arguments.model, MODELS)
    cohort, factor = _carried(source, arguments)
    if arguments.output:
        save_cohort(cohort, arguments.output)
    print("\n".join(_table(source, cohort, factor)))
    if far_outside(BW := cohort.physiology.BW[0].item()):
        lightest, heaviest = range_seen()
        print(
            f"allometry: warning: {BW:g} kg lies far outside the bodies seen, {lightest:g} to {heaviest:.3g} "
            "kg; no law is known to hold there.",
            file=sys.stderr,
        )
    return 0


def _check_target(arguments: argparse.Namespace) -> None:
    """Refuses a species that is not known, and a weight [kg] that no animal of the species has."""
    from pbpk.bodies import SPECIES, reference_body
    from pbpk.checks import nearest

    if arguments.target not in SPECIES:
        close = nearest(arguments.target, SPECIES)
        hint = f" Did you mean {close!r}?" if close else ""
        raise ValueError(
            f"TO must be one of {', '.join(SPECIES)}, or another species with --BW and --clade, but is "
            f"{arguments.target!r}.{hint} For another species add --BW KG --clade ORDER,FAMILY."
        )
    BW, own = arguments.BW, reference_body(arguments.target).BW.item()
    usual = BW is None or not math.isfinite(BW) or BW <= 0
    if not usual and not own / _OTHER_UNIT <= BW <= own * _OTHER_UNIT:
        raise ValueError(
            f"BW must be in kg and within a factor {_OTHER_UNIT:g} of the reference {arguments.target} of "
            f"{own:g} kg, but is {BW:g}. Check its unit."
        )


def _carried(source: Physiology, arguments: argparse.Namespace) -> tuple[Cohort, dict[str, float]]:
    """Returns the cohort, and by which factor each quantity may be off in two thirds of species."""
    from allometry.species import QUANTITIES

    given = parse_given(arguments.given)
    if arguments.model in ("power", "fixed"):
        from allometry.power import law_for, map

        options = {"--given": given, "--samples": arguments.samples, "--adult": arguments.adult}
        for option, value in (options | {"--clade": arguments.clade}).items():
            if value:
                raise ValueError(
                    f"{option} must be left out with --model {arguments.model}, a law without uncertainty. "
                    "Use --model neural."
                )
        cohort = map(source, arguments.target, arguments.BW, arguments.model)
        law = law_for(source, arguments.target, arguments.model)
        return cohort, dict(zip(QUANTITIES, law.sd.exp().reshape(-1).tolist(), strict=True))
    from allometry.neural import NeuralAllometry
    from allometry.taxonomy import Taxon

    clade = None if arguments.clade is None else Taxon.parse(arguments.clade)
    model = NeuralAllometry.load()
    request = {"adult": arguments.adult, "clade": clade, "given": given, "model": arguments.model}
    cohort = model.map(
        source,
        arguments.target,
        arguments.BW,
        **request,
        samples=arguments.samples,
        seed=arguments.seed,
    )
    BW = cohort.physiology.BW[0].item()
    normal = model.predict(arguments.target, BW, **request)
    return cohort, dict(zip(QUANTITIES, normal.sd.exp().tolist(), strict=False))


def parse_given(text: str | None) -> dict[str, float]:
    """Reads ``"M_brain=1.4,CO=390"``.

    >>> parse_given("M_brain=1.4, CO=390")
    {'M_brain': 1.4, 'CO': 390.0}
    """
    found: dict[str, float] = {}
    for part in (text or "").split(",") if text else []:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(
                f"given must read NAME=VALUE,NAME=VALUE, but has {part.strip()!r}. Write M_brain=1.4,CO=390."
            )
    return found


def _table(source: Physiology, cohort: Cohort, factor: Mapping[str, float]) -> list[str]:
    """Returns the lines of the table: the body carried, what it became, and the species' reference."""
    import torch

    from allometry.species import QUANTITIES, encode
    from pbpk.bodies import SPECIES, reference_body
    from pbpk.organs import ORGANS

    mapped = cohort.physiology
    species, BW = mapped.species, mapped.BW[0].item()
    became = encode(mapped).median(0).values
    known = species in SPECIES
    reference = encode(reference_body(species)) if known else torch.full_like(became, torch.nan)
    columns = [values.exp().tolist() for values in (encode(source), became, reference)]
    numbers = zip(*columns, [factor[name] for name in QUANTITIES], strict=True)
    rows = dict(zip(QUANTITIES, numbers, strict=True))
    own = f", beside the reference {species} of {reference_body(species).BW.item():.3g} kg" if known else ""
    drawn = f", median of {len(cohort)} draws" if len(cohort) > 1 else ""
    head = f"{source.species:>9}{'mapped':>10}{'':8}{'reference':>10}"
    lines = [
        f"{source.species} {source.BW.item():.3g} kg -> {species} {BW:.3g} kg{drawn}{own}",
        f"{'':16}{'mass [kg]':>37}{'flow [L/h]':>37}",
        f"{'':16}{head}{head}",
    ]
    for organ in ORGANS:
        lines.append(f"{organ:16}{_cells(rows[f'M_{organ}'])}{_cells(rows.get(f'Q_{organ}'))}".rstrip())
    for name, unit in (("CO", "L/h"), ("GFR", "L/h"), ("HCT", "1")):
        label = f"{name} [{unit}]"
        lines.append(f"{label:16}{_cells(None)}{_cells(rows[name])}".rstrip())
    return lines


def _cells(row: Sequence[float] | None) -> str:
    """Returns the cells of one quantity; the spread is the factor within which two thirds of species lie."""
    if row is None:
        return f"{'':37}"
    carried, became, reference, factor = row
    spread = f" x/:{factor:.2f}" if factor == factor else ""  # NaN where one body gave the law
    own = f"{reference:10.3g}" if reference == reference else f"{'':10}"
    return f"{carried:9.3g}{became:10.3g}{spread:8}{own}"


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
    parser.set_defaults(action=_fit)


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
            f"data must be a folder that holds comparative/, but {folder} does not. "
            "Check --data or VPOP_DATA."
        )
    return folder


def _fit(arguments: argparse.Namespace) -> int:
    import time
    from pathlib import Path

    from pbpk.checks import choose
    from pbpk.files import check_writable

    folder = _folder(arguments)
    if folder is None:
        raise ValueError("data must name the folder of third-party data, but is not set. Add --data FOLDER.")
    choose("the file's suffix", Path(arguments.output).suffix.lower(), (".safetensors",))
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
    parser.set_defaults(action=_evaluate)


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
