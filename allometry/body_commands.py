"""The commands that make bodies, ``allometry map`` and ``sample``: what they read, print and write."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from allometry.arguments import in_flags, kilogram_range, kilograms, measured
from pbpk.command import Parser, output, seed, whole

if TYPE_CHECKING:
    from pbpk.physiology import Cohort, Physiology

MODELS: tuple[str, ...] = ("neural", "hierarchical", "power", "fixed")
_OTHER_UNIT = 200.0  # [ours] times the species' reference body: grams, and neither a giant nor a newborn


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
    parser.add_argument("--BW", type=kilograms, metavar="KG", help="its body weight (its reference body's)")
    parser.add_argument(
        "--adult", type=kilograms, metavar="KG", help="the adult weight of the species, where BW is a child's"
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
        type=measured,
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
    parser.set_defaults(action=in_flags(_map))


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
    if BW is not None and not own / _OTHER_UNIT <= BW <= own * _OTHER_UNIT:
        raise ValueError(
            f"BW must be in kg and within a factor {_OTHER_UNIT:g} of the reference {arguments.target} of "
            f"{own:g} kg, but is {BW:g}. Check its unit."
        )


def _carried(source: Physiology, arguments: argparse.Namespace) -> tuple[Cohort, dict[str, float]]:
    """Returns the cohort, and by which factor each quantity may be off in two thirds of species."""
    from allometry.species import QUANTITIES

    if arguments.model in ("power", "fixed"):
        from allometry.power import law_for, map

        options = {"--given": arguments.given, "--samples": arguments.samples, "--adult": arguments.adult}
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
    request = {"adult": arguments.adult, "clade": clade, "given": arguments.given, "model": arguments.model}
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


def add_sample(commands: argparse._SubParsersAction[Parser]) -> None:
    """Adds ``allometry sample``."""
    parser = commands.add_parser(
        "sample",
        help="draw animals that differ as individual animals do",
        description="Draws a cohort of mice, rats, rabbits, monkeys, dogs or pigs with the spreads and the "
        "correlations of individual animals, and writes it as a cohort file.",
    )
    parser.add_argument("species", metavar="SPECIES", help="mouse, rat, rabbit, monkey, dog or pig")
    parser.add_argument("-n", type=whole(1, 1_000_000), default=100, metavar="N", help="how many (100)")
    parser.add_argument(
        "--BW",
        type=kilogram_range,
        metavar="LOW:HIGH",
        help="range of body weights [kg] (the spread of a strain)",
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the draws (0)")
    parser.add_argument(
        "-o", "--output", type=output, required=True, metavar="FILE", help="the cohort, .csv or .parquet"
    )
    parser.set_defaults(action=in_flags(_sample))


def _sample(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    import torch

    from allometry.cohorts import sample
    from pbpk.checks import choose
    from pbpk.files import check_writable
    from pbpk.io import save_cohort
    from pbpk.table import SUFFIXES

    choose("the suffix of -o", Path(arguments.output).suffix.lower(), SUFFIXES)
    check_writable(arguments.output)
    generator = torch.Generator().manual_seed(arguments.seed)
    cohort = sample(arguments.species, arguments.n, arguments.BW, generator)
    cohort = dataclasses.replace(cohort, provenance={**cohort.provenance, "seed": arguments.seed})
    save_cohort(cohort, arguments.output)
    body = cohort.physiology
    print(f"{len(cohort)} {arguments.species}: {arguments.output}")
    print(f"{'':12}{'median':>10}{'P5':>10}{'P95':>10}")
    for name, values in (("BW [kg]", body.BW), ("liver [kg]", body.mass("liver")), ("CO [L/h]", body.CO)):
        low, middle, high = values.quantile(values.new_tensor([0.05, 0.5, 0.95])).tolist()
        print(f"{name:12}{middle:10.3g}{low:10.3g}{high:10.3g}")
    return 0
