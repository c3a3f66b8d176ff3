"""The commands about drugs, ``allometry predict`` and ``translate``: what they read, print and write."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from allometry.arguments import in_flags
from pbpk.command import Parser, output

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 20  # rows that a terminal holds
_POINTS = 240  # about how many times of a profile


def add_predict(commands: argparse._SubParsersAction[Parser]) -> None:
    """Adds ``allometry predict``."""
    parser = commands.add_parser(
        "predict",
        help="foretell a drug's human clearance, volume and half-life from animals",
        description="Reads a table of drugs with columns drug, rat_CL, dog_Vss, human_fu and so on (CL in "
        "mL/min/kg, Vss in L/kg, fu a fraction; another unit in brackets: 'rat_CL [L/h/kg]'), any subset of "
        "species, and writes human CL, Vss and half-life [h] with intervals. A column rat_NOAEL [mg/kg] adds "
        "the starting dose of FDA (2005), target_AUC [mg h/L] the dose that reaches it.",
    )
    parser.add_argument("drugs", metavar="FILE", help="the table, .csv or .parquet")
    parser.add_argument("-o", "--output", type=output, metavar="FILE", help="write the table, .csv")
    parser.add_argument(
        "--method",
        default="learned",
        metavar="NAME",
        help="learned (the default), fixed, single, simple, rule-of-exponents, fcim or liver-flow",
    )
    parser.add_argument(
        "--level",
        type=float,
        default=0.9,
        metavar="P",
        help="coverage of the intervals: 0.5, 0.8, 0.9 or 0.95",
    )
    parser.add_argument("--dose", type=float, metavar="MG/KG", help="an iv dose, of which the AUC is told")
    parser.add_argument("--report", type=output, metavar="FILE", help="write a page with figures, .html")
    parser.set_defaults(action=in_flags(_predict))


def _predict(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from allometry.drugs import read_drugs
    from allometry.extrapolate import predict
    from pbpk.checks import choose
    from pbpk.files import check_writable, write_whole

    for path, suffix in ((arguments.output, ".csv"), (arguments.report, ".html")):
        if path:
            choose(f"the suffix of {path}", Path(path).suffix.lower(), (suffix,))
            check_writable(path)
    drugs = read_drugs(arguments.drugs)
    table = predict(drugs, arguments.method, arguments.level, arguments.dose)
    if arguments.report:
        from allometry.predict_report import write

        write(arguments.report, drugs, table, arguments.level)
    if arguments.output:
        with write_whole(arguments.output) as partial:
            table.to_csv(partial, index=False)
    print("\n".join([*_lines(table, arguments.level), *([drugs.not_read] if drugs.not_read else [])]))
    return 0


def add_translate(commands: argparse._SubParsersAction[Parser]) -> None:
    """Adds ``allometry translate``."""
    parser = commands.add_parser(
        "translate",
        help="fit a drug to concentrations in animals and simulate a human",
        description="Fits the liver's intrinsic clearance and one factor on the tissue-to-plasma ratios to "
        "concentrations in each species, carries them to the reference human, and simulates a regimen there.",
    )
    parser.add_argument(
        "profiles",
        metavar="FILE",
        help="a table with columns species, dose ('5 mg/kg iv'), time [h], concentration [mg/L in plasma], "
        "and if known fu and BW [kg]",
    )
    parser.add_argument(
        "compound", metavar="COMPOUND", help="a bundled compound, or a TOML file; its fup is the human's"
    )
    parser.add_argument("regimen", metavar="REGIMEN", help="what the human is given, such as '1 mg/kg iv'")
    parser.add_argument("--hours", type=float, default=24.0, metavar="H", help="how long to simulate (24)")
    parser.add_argument("-o", "--output", type=output, metavar="FILE", help="write the concentrations, .csv")
    parser.set_defaults(action=in_flags(_translate))


def _translate(arguments: argparse.Namespace) -> int:
    import math
    from pathlib import Path

    import pandas as pd

    from allometry.profiles import read_profiles
    from allometry.translation import translate
    from pbpk.checks import choose
    from pbpk.compound import Compound
    from pbpk.files import check_writable, write_whole
    from pbpk.regimen import Regimen

    if arguments.output:
        choose("the suffix of -o", Path(arguments.output).suffix.lower(), (".csv",))
        check_writable(arguments.output)
    compound = Compound.load(arguments.compound)
    profiles = read_profiles(arguments.profiles, float(compound.fup))
    times = Regimen.parse(arguments.regimen).times(arguments.hours, _POINTS)
    simulation, fitted = translate(compound, profiles, arguments.regimen, times)
    C = simulation.concentration("plasma")[0]
    if arguments.output:
        with write_whole(arguments.output) as partial:
            pd.DataFrame({"time": times, "concentration": C}).to_csv(partial, index=False)
    print(f"{'species':10}{'CLint [L/h]':>14}{'x/:':>8}{'Kp factor':>12}{'x/:':>8}{'residual':>10}")
    for one in fitted:
        spread = [f"{min(math.exp(min(1.96 * error, 50.0)), 9999.0):.3g}" for error in one.error]
        print(
            f"{one.species:10}{one.CLint:14.3g}{spread[0]:>8}{one.factor:12.3g}{spread[1]:>8}{one.sd:10.2f}"
        )
    AUC = simulation.AUC("plasma", infinite=True).item()
    dose = simulation.dose.sum().item()
    Cmax = simulation.nca()["Cmax"].item()
    print(f"human: AUC {AUC:.3g} mg h/L, Cmax {Cmax:.3g} mg/L, dose/AUC {dose / AUC:.3g} L/h")
    return 0


def _lines(table: pd.DataFrame, level: float) -> list[str]:
    """Returns what the terminal shows of the predictions."""
    units = {"CL": "mL/min/kg", "Vss": "L/kg", "t_half": "h", "AUC": "mg h/L"}
    names = [name for name in units if f"human_{name}" in table]
    head = "".join(f"{f'{name} [{units[name]}]':>30}" for name in names)
    lines = [f"human values with {100 * level:g} % intervals", f"{'drug':24}{head}  species"]
    for row in table.head(_SHOWN).to_dict("records"):
        cells = "".join(_cell(row, f"human_{name}") for name in names)
        lines.append(f"{str(row['drug'])[:23]:24}{cells}  {row['species']}")
    if len(table) > _SHOWN:
        lines.append(f"and {len(table) - _SHOWN} more drugs")
    notes = table[["drug", "note"]].head(_SHOWN).to_dict("records")
    return lines + [f"{row['drug']}: {row['note']}" for row in notes if row["note"]]


def _cell(row: dict, name: str) -> str:
    value, lower, upper = (row[f"{name}{end}"] for end in ("", "_lower", "_upper"))
    if value != value:
        return f"{'-':>30}"
    interval = f" [{lower:.3g}, {upper:.3g}]" if lower == lower else ""
    return f"{f'{value:.3g}{interval}':>30}"
