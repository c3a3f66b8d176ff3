"""What a study found, and the files it leaves: cohort, exposure, quantiles, violations, manifest, report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pbpk import plot, report
from pbpk.io import save_cohort
from pbpk.laws import Report
from pbpk.nca import UNITS
from pbpk.physiology import Cohort
from pbpk.simulation import Simulation
from vpop import picture

if TYPE_CHECKING:
    from vpop.study import Study

EXPOSURE = ["Cmax", "tmax", "AUC", "AUCinf", "t_half", "CL", "Vss"]
GROUPS = {
    "under 2 y": (0, 2),
    "2 to 11 y": (2, 12),
    "12 to 17 y": (12, 18),
    "18 to 64 y": (18, 65),
    "65 y and over": (65, 200),
}
_PACKAGES = ("vpop", "torch", "numpy", "pandas", "scipy", "pyarrow", "matplotlib")
_NOTE = (
    "sex, age, race, height, weight, haematocrit and creatinine follow a survey of real people "
    "(NHANES 2013-2018, weighted); organ masses, flows, cardiac output and filtration follow published "
    "regressions with their published spread and a correlation prior from animals: no one has measured them "
    "jointly."
)

_BOLUS = (
    "Cmax of an intravenous bolus is the concentration at the instant at which the dose has mixed with "
    "the venous blood. It lies above the drawn curve, which is before the dose at time 0 and then shows "
    "the first output time, when most of the dose has left that blood. A sample from an arm is nearer "
    "to the curve: give a duration ('iv over 2 min') to have its Cmax."
)


@dataclass(frozen=True)
class Result:
    """What a study found.

    Attributes:
        study: The study.
        cohort: Who took part.
        simulations: By arm, what became of the drug.
        report: The violations of the cohort.
    """

    study: Study
    cohort: Cohort
    simulations: Mapping[str, Simulation]
    report: Report

    @cached_property
    def exposure(self) -> pd.DataFrame:
        """One row an arm and body: arm, id, sex, age, BW, and the exposure in house units."""
        body = self.cohort.physiology
        who = {
            "sex": np.where(body.sex.numpy() == 1, "M", "F"),
            "age": body.age.numpy(),
            "BW": body.BW.numpy(),
        }
        frames = []
        for arm, simulation in self.simulations.items():
            frame = simulation.nca().assign(arm=arm, **who)
            frames.append(frame.reindex(columns=["arm", "id", *who, *EXPOSURE]))
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def quantiles(self) -> pd.DataFrame:
        """The quantiles of the plasma concentration [mg/L] over time [h], by arm."""
        frames = [s.quantiles().assign(arm=arm) for arm, s in self.simulations.items()]
        frame = pd.concat(frames, ignore_index=True)
        return frame[["arm", *frame.columns.drop("arm")]]

    @property
    def failed(self) -> int:
        """How many bodies could not be solved, over all arms."""
        return sum(int((s.status != 0).sum()) for s in self.simulations.values())

    @property
    def violations(self) -> bool:
        """Whether any body breaks a law."""
        return self.report.rate > 0

    def summary(self) -> pd.DataFrame:
        """Returns the median exposure by arm and age group, with the 5th and 95th percentile of AUCinf."""
        rows = []
        for arm, exposure in self.exposure.groupby("arm", sort=False):
            for group, (low, high) in GROUPS.items():
                people = exposure[(exposure.age >= low) & (exposure.age < high)]
                if people.empty:
                    continue
                P5, P95 = people.AUCinf.quantile([0.05, 0.95])
                row = {"arm": arm, "age": group, "n": len(people)}
                row |= {name: people[name].median() for name in EXPOSURE}
                rows.append(row | {"AUCinf P5": P5, "AUCinf P95": P95})
        return pd.DataFrame(rows)

    def table(self) -> str:
        """Returns a short table for a terminal; its last line is the violation rate."""
        shown = self.summary()[["arm", "age", "n", "Cmax", "tmax", "AUCinf", "t_half"]]
        lines = [
            f"{len(self.cohort)} people; medians; Cmax [mg/L], tmax [h], AUCinf [mg h/L], t_half [h]",
            shown.to_string(index=False, float_format=lambda value: f"{value:.3g}"),
        ]
        if self.failed:
            lines.append(f"{self.failed} bodies could not be solved")
        overall = self.report.overall()
        return "\n".join(
            [
                *lines,
                f"violation rate {overall['share']:.2%} "
                f"(95 % interval {overall['lower95']:.2%} to {overall['upper95']:.2%})",
            ]
        )

    def write(self, folder: Path) -> None:
        """Writes the files of the study into an existing folder."""
        save_cohort(self.cohort, folder / "cohort.parquet")
        self.exposure.to_csv(folder / "exposure.csv", index=False)
        self.quantiles.to_csv(folder / "quantiles.csv", index=False)
        self.report.frame().to_csv(folder / "violations.csv", index=False)
        manifest = self._manifest(folder)
        (folder / "report.html").write_text(self._page(manifest), encoding="utf-8")
        text = json.dumps(manifest, indent=2, default=str)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")

    def _manifest(self, folder: Path) -> dict[str, Any]:
        files = sorted(file for file in folder.iterdir() if file.is_file())
        return {
            "study": dataclasses.asdict(self.study),
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "seed": self.study.people.seed,
            "cohort": dict(self.cohort.provenance),
            "engines": {arm: s.engine for arm, s in self.simulations.items()},
            "versions": {"python": platform.python_version()} | {p: metadata.version(p) for p in _PACKAGES},
            "sha256": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        }

    def _page(self, manifest: Mapping[str, Any]) -> str:
        body = self.cohort.physiology
        overall = self.report.overall()
        facts = [
            ("people", f"{len(self.cohort):,}"),
            ("years of age", f"{float(body.age.min()):.0f} to {float(body.age.max()):.0f}"),
            ("female", f"{float((body.sex == 0).double().mean()):.0%}"),
            ("kg, median weight", f"{float(body.BW.median()):.0f}"),
            ("break any law", f"{overall['share']:.2%}"),
            ("could not be solved", str(self.failed)),
        ]
        return report.render(
            "study.html",
            title=self.study.title,
            people="; ".join(f"{a.name}: {a.compound} {a.dose}, {a.hours:g} h" for a in self.study.arms),
            facts=facts,
            concentration=self._concentration(),
            exposure=self._exposure(),
            exposure_table=report.table(self.summary().rename(columns=_with_unit)),
            bolus=_BOLUS if any(self._has_bolus(arm) for arm in self.simulations) else "",
            organs_by_age=self._organs("age"),
            organs_by_weight=self._organs("BW"),
            violations=self.report.html(),
            provenance_note=_NOTE,
            manifest=report.pairs("setting", "is", manifest),
        )

    def _has_bolus(self, arm: str) -> bool:
        """Tells whether anything is given at once into a vein."""
        doses = self.simulations[arm].regimen.doses
        return any(dose.route == "iv" and not dose.duration for dose in doses)

    def _concentration(self) -> str:
        figure, axes = report.figure(11, 6.5, nrows=2, ncols=len(self.simulations), squeeze=False)
        for column, (arm, rows) in enumerate(self.quantiles.groupby("arm", sort=False)):
            for axis in axes[:, column]:
                plot.ribbons(axis, rows, "median")
            axes[0, column].set_title(arm)
            plot.logarithmic(axes[1, column])
        return report.picture(figure)

    def _exposure(self) -> str:
        figure, axes = report.figure(11, 6.5, nrows=2, ncols=len(self.simulations), squeeze=False)
        for column, (arm, rows) in enumerate(self.exposure.groupby("arm", sort=False)):
            picture.exposure_by_age(axes[0, column], rows, "Cmax", "Cmax [mg/L]")
            picture.exposure_by_age(axes[1, column], rows, "AUCinf", "AUCinf [mg h/L]")
            axes[0, column].set_title(arm)
        return report.picture(figure)

    def _organs(self, against: str) -> str:
        figure, axes = report.figure(13, 6.5, nrows=3, ncols=6, sharex=True)
        body = self.cohort.physiology
        labels = {"age": "age [year]", "BW": "body weight [kg]"}
        picture.organs(figure, axes.ravel(), body, against, labels[against])
        return report.picture(figure)


def _with_unit(column: str) -> str:
    """Returns the heading of a column of the summary: its name and its unit, where it has one."""
    name, _, percentile = column.partition(" ")
    unit = {**UNITS, "age": "year"}.get(name)
    return f"{name} {percentile}".strip() + (f" [{unit}]" if unit else "")
