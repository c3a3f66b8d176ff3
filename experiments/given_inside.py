"""Given what was measured inside real people too, is what is drawn for the rest right, and sharper?

Question: sex, race, age, height and weight of people are known, and a GFR, fat, output, organs: do 90 %
intervals of every other column hold 90 % of the truth, and are they sharper than without?
Source: people of NHANES 2013-2018 (VPOP_DATA) of a part that the shipped weights have not learnt from, with
bodies by the organ layer, some for each: no one has measured such bodies whole.
Command: VPOP_DATA=... python -m experiments.given_inside [--part test] [--cases GFR,FAT,...]
Measured, by case: coverage of each column that is not given, its CRPS over that without what is given inside,
the share of bodies that break a law or lack what is given, CPU-milliseconds a patient.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from experiments import record
from experiments.pcdm_quality import survey
from pbpk.laws import violations
from pbpk.laws.exact import column
from pbpk.physiology import RACES
from pbpk.table import Table
from vpop.columns import Sample, everything
from vpop.conditional import judged
from vpop.demographics import OLDEST
from vpop.patients import Patients, asked, complete
from vpop.pcdm import PCDM

NAME = "given_inside"
SIZE = ("height", "BW")
CASES: dict[str, tuple[str, ...]] = {
    "size": SIZE,
    "GFR": (*SIZE, "GFR"),
    "FAT": (*SIZE, "FAT"),
    "CO": (*SIZE, "CO"),
    "organs": (*SIZE, "M_liver", "M_kidney"),
    "six": (*SIZE, "GFR", "FAT", "CO", "BMC", "M_liver", "M_kidney"),
    "nothing": (),
    "liver alone": ("M_liver",),
}
BESIDE = {name: "nothing" if SIZE[0] not in given else "size" for name, given in CASES.items()}


@dataclass(frozen=True)
class Config:
    """The flags."""

    cases: str = ",".join(CASES)
    part: str = "validation"
    model: str = ""
    copies: int = 3
    n: int = 2500
    draws: int = 30
    steps: int = 20
    seed: int = 1


def run(config: Config) -> dict[str, Any]:
    model = PCDM.load(config.model or None)
    everyone = Sample.of(*survey(config.part, config.seed + 7, config.copies))
    real = everyone[(everyone.bodies.age <= OLDEST).numpy()].some(config.n, config.seed)
    found: dict[str, Any] = {}
    tables: dict[str, pd.DataFrame] = {}
    for case in config.cases.split(","):
        tables[case], figures = judge(model, real, CASES[case], config)
        beside = tables[BESIDE[case]].CRPS.rename("without")
        sharper = tables[case].join(beside)
        ratio = (sharper.CRPS / sharper.without).sort_values()
        found[case] = figures | {
            "sharpest": ratio.head(6).round(3).to_dict(),
            "worst": ratio.tail(2).round(3).to_dict(),
            "mean CRPS over that without": round(float(ratio.mean()), 4),
        }
        print(case, found[case], flush=True)
        tables[case].to_csv(record.folder(NAME) / f"{config.part}_{case.replace(' ', '_')}.csv")
    return found


def judge(
    model: PCDM, real: Sample, given: tuple[str, ...], config: Config
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Draws the people again with what is given, and judges every other column."""
    patients = people(real, given)
    start = time.process_time()
    drawn = complete(model, patients, config.draws, config.seed, config.steps)
    spent = time.process_time() - start
    values = everything(drawn.physiology)
    truth = everything(real.bodies)
    columns = [name for name in truth if name not in ("sex", "race", "age", *given)]
    draws = values[columns].to_numpy().reshape(len(real), config.draws, -1).swapaxes(0, 1)
    table = judged(truth, draws, columns, config.seed).set_index("column")
    outside = table.coverage[(table.coverage < 0.88) | (table.coverage > 0.92)]
    report = violations(drawn, asked=asked(patients, config.draws))
    return table, {
        "coverage": [round(float(f(table.coverage)), 4) for f in (np.mean, np.min, np.max)],
        "outside 88-92 %": outside.round(3).to_dict(),
        "break a law": report.rate,
        "CPU ms a patient": round(1e3 * spent / len(real), 1),
    }


def people(real: Sample, given: tuple[str, ...]) -> Patients:
    """Returns what is known of people: sex, race and age, and some columns."""
    body = real.bodies
    assert body.race is not None  # the survey knows it
    frame = pd.DataFrame({name: column(body, name).numpy() for name in ("age", *given)})
    frame["id"] = [str(number) for number in range(len(real))]
    frame["sex"] = np.where(body.sex.numpy() == 1, "M", "F")
    frame["race"] = [RACES[race] for race in body.race.tolist()]
    return Patients.of(Table("people", frame))


if __name__ == "__main__":
    record.main(NAME, Config, run, __doc__)
