"""The command ``allometry``."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pbpk.command import Parser, output, run

if TYPE_CHECKING:
    from allometry.power import PowerLaw
    from pbpk.physiology import Physiology

_OTHER_UNIT = (
    200.0  # [ours] times the reference body of the species: grams, and neither a giant nor a newborn
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``allometry`` and returns its exit code: 0, or 2 for bad input."""
    parser = Parser(prog="allometry", description="Bodies carried from species to species.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_map(commands)
    return run(parser, argv)


def _add_map(commands: argparse._SubParsersAction[Parser]) -> None:
    parser = commands.add_parser(
        "map",
        help="carry a reference body to another species",
        description="Carries the reference body of one species to another by power laws of body weight, "
        "prints it beside the reference body of the species asked for, and writes it as a cohort file.",
    )
    parser.add_argument("source", metavar="FROM", help="human, monkey, dog, pig, rabbit, rat or mouse")
    parser.add_argument("target", metavar="TO", help="the species asked for")
    parser.add_argument("--BW", type=float, metavar="KG", help="its body weight (its reference body's)")
    parser.add_argument(
        "--method",
        default="power",
        metavar="NAME",
        help="power: exponents fitted across the other species (the default); fixed: 1 for masses, 0.75 "
        "for flows, through the body that is carried",
    )
    parser.add_argument(
        "-o", "--output", type=output, metavar="FILE", help="write the cohort, .csv or .parquet"
    )
    parser.set_defaults(action=_map)


def _check_unit(BW: float, own: float, species: str) -> None:
    """Refuses a weight [kg] that no animal of the species has: it is in grams, and its reference is in kg."""
    if BW > 0 and not own / _OTHER_UNIT <= BW <= own * _OTHER_UNIT:
        raise ValueError(
            f"BW must be in kg and within a factor {_OTHER_UNIT:g} of the reference {species} of {own:g} kg, "
            f"but is {BW:g}. Check its unit."
        )


def _map(arguments: argparse.Namespace) -> int:
    from allometry.power import far_outside, law_for, map, range_seen
    from pbpk.bodies import SPECIES, reference_body
    from pbpk.checks import choose
    from pbpk.io import save_cohort

    source = reference_body(choose("FROM", arguments.source, SPECIES))
    target = reference_body(choose("TO", arguments.target, SPECIES))
    if arguments.BW is not None and math.isfinite(arguments.BW):
        _check_unit(arguments.BW, target.BW.item(), target.species)
    cohort = map(source, target.species, arguments.BW, arguments.method)
    mapped = cohort.physiology[0]
    if arguments.output:
        save_cohort(cohort, arguments.output)
    law = law_for(source, mapped.species, arguments.method)
    print("\n".join(_table(source, mapped, target, law)))
    if far_outside(BW := mapped.BW.item()):
        lightest, heaviest = range_seen()
        print(
            f"allometry: warning: {BW:g} kg lies far outside the bodies seen, {lightest:g} to {heaviest:.3g} "
            "kg; a power law is not known to hold there.",
            file=sys.stderr,
        )
    return 0


def _table(source: Physiology, mapped: Physiology, own: Physiology, law: PowerLaw) -> list[str]:
    """Returns the lines of the table: the body carried, what it became, and the species' reference."""
    from allometry.species import QUANTITIES, encode
    from pbpk.organs import ORGANS

    columns = [encode(body).exp().tolist() for body in (source, mapped, own)]
    rows = dict(zip(QUANTITIES, zip(*columns, law.sd.exp().reshape(-1).tolist(), strict=True), strict=True))
    head = f"{source.species:>9}{'mapped':>10}{'':8}{'reference':>10}"
    lines = [
        f"{source.species} {source.BW.item():.3g} kg -> {mapped.species} {mapped.BW.item():.3g} kg, "
        f"beside the reference {own.species} of {own.BW.item():.3g} kg",
        f"{'':16}{'mass [kg]':>37}{'flow [L/h]':>37}",
        f"{'':16}{head}{head}",
    ]
    for organ in ORGANS:
        lines.append(f"{organ:16}{_cells(rows[f'M_{organ}'])}{_cells(rows.get(f'Q_{organ}'))}".rstrip())
    for name, unit in (("CO", "L/h"), ("GFR", "L/h"), ("HCT", "1")):
        label = f"{name} [{unit}]"
        lines.append(f"{label:16}{_cells(None)}{_cells(rows[name])}")
    return lines


def _cells(row: tuple[float, ...] | None) -> str:
    """Returns the cells of one quantity; the spread is the factor within which two thirds of species lie."""
    if row is None:
        return f"{'':37}"
    carried, became, reference, factor = row
    spread = f" x/:{factor:.2f}" if factor == factor else ""  # NaN where one body gave the law
    return f"{carried:9.3g}{became:10.3g}{spread:8}{reference:10.3g}"


if __name__ == "__main__":
    sys.exit(main())
