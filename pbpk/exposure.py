"""What ``pbpk simulate`` leaves in its folder: exposure.csv, quantiles.csv and report.html."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pbpk import plot, report
from pbpk.bodies import SPECIES, reference_body
from pbpk.checks import choose, nearest
from pbpk.compound import Compound
from pbpk.graph import GRAPHS
from pbpk.io import load_cohort
from pbpk.physiology import Cohort
from pbpk.rows import OF_METABOLITES, counted, labelled
from pbpk.simulation import STATUS, Simulation
from pbpk.topology import assemble, kinetics

COLUMNS = ("Cmax", "tmax", "AUC", "AUCinf", "t_half")
DISPOSITION = ("CL", "Vss"), ("CL/F", "Vz/F")
"""What the drug's fate is told by, and what remains of it where a dose by mouth is all that is known."""
PERCENTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Exposure:
    """A simulation of a compound, and the outputs that were asked for.

    Attributes:
        simulation: What became of the doses.
        compound: The drug.
        cohort: The bodies.
        outputs: The outputs to show, plasma or organs.
        settings: How it was made, by name; it goes into the report.
    """

    simulation: Simulation
    compound: Compound
    cohort: Cohort
    outputs: tuple[str, ...]
    settings: dict[str, str]

    @property
    def failed(self) -> int:
        """How many bodies could not be solved."""
        return int((self.simulation.status != 0).sum())

    def table(self) -> pd.DataFrame:
        """Returns one row a body: id and the exposure in plasma, that of metabolites too, in house units."""
        frame = self.simulation.nca()
        fate = DISPOSITION["CL" not in frame]
        extra = ["F"] if "CL/F" in frame and "F" in frame else []
        table = frame[["id", *COLUMNS, *fate, *extra]].copy()
        for drug in self.simulation.system.drugs[1:]:
            own = self.simulation.nca(f"{drug.prefix}plasma")
            table[[drug.prefix + name for name in OF_METABOLITES]] = own[list(OF_METABOLITES)]
        return table

    def summary(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns the percentiles over the bodies, one row a quantity with its unit."""
        rows = []
        for name in table.columns.drop("id"):
            levels = table[name].replace([np.inf, -np.inf], np.nan).quantile(list(PERCENTILES))
            percentiles = {f"p{100 * p:g}": level for p, level in levels.items()}
            rows.append({"quantity": labelled(name), **percentiles})
        return pd.DataFrame(rows)

    def write(self, folder: Path) -> str:
        """Writes the three files into an existing folder; returns a short text for a terminal."""
        table = self.table()
        summary = self.summary(table)
        quantiles = self.simulation.quantiles(self.outputs)
        table.to_csv(folder / "exposure.csv", index=False)
        quantiles.to_csv(folder / "quantiles.csv", index=False)
        page = self._page(table, summary, quantiles)
        (folder / "report.html").write_text(page, encoding="utf-8")
        return self._text(summary)

    def _text(self, summary: pd.DataFrame) -> str:
        shown = summary[["quantity", "p5", "p50", "p95"]].dropna()
        lines = [
            f"{self.compound.name} {self.simulation.regimen}; {counted(len(self.cohort))}, plasma",
            shown.to_string(index=False, float_format=lambda value: f"{value:.3g}"),
        ]
        if self.simulation.not_given:
            last = float(self.simulation.time[-1])
            lines.append(f"not in it: {self.simulation.not_given:,} doses at or after {last:g} h")
        return "\n".join(lines + ([f"not solved: {self._reasons()}"] if self.failed else []))

    def _reasons(self) -> str:
        counts = self.simulation.status.unique(return_counts=True)
        return "; ".join(
            f"{n} ({STATUS[s]})" for s, n in zip(*(c.tolist() for c in counts), strict=True) if s
        )

    def _page(self, table: pd.DataFrame, summary: pd.DataFrame, quantiles: pd.DataFrame) -> str:
        last = float(self.simulation.time[-1])
        several = len(table) > 1
        median = table[["Cmax", "AUCinf", "t_half"]].median()
        facts = [
            ("body" if len(table) == 1 else "bodies", f"{len(table):,}"),
            ("hours", f"{last:g}"),
            ("mg/L, median Cmax", f"{median['Cmax']:.3g}"),
            ("mg h/L, median AUCinf", f"{median['AUCinf']:.3g}"),
            ("h, median half-life", f"{median['t_half']:.3g}"),
        ]
        if self.failed:
            facts.append(("not solved", str(self.failed)))
        return report.render(
            "simulate.html",
            title=f"{self.compound.name}: {self.simulation.regimen}",
            subtitle=f"Whole-body simulation over {last:g} h in {counted(len(table))} "
            f"({self.cohort.physiology.species})",
            facts=facts,
            concentration=self._ribbons(quantiles),
            spread=self._spread(table) if several else "",
            exposure=report.table(summary if several else table.rename(columns=_with_unit)),
            exposure_note=self._note(),
            settings=report.pairs("setting", "is", self.settings),
            sources=report.pairs("value", "source", self.compound.sources()),
        )

    def _note(self) -> str:
        exact = "Areas, CL, Vss and F are exact; " if self.simulation.engine == "linear" else ""
        slope = "the half-life is the terminal slope of the samples with the best adjusted R2."
        return (exact + slope)[:1].upper() + (exact + slope)[1:]

    def _ribbons(self, quantiles: pd.DataFrame) -> str:
        columns = len(self.outputs)
        figure, axes = report.figure(max(6.0, 4.6 * columns), 6.5, nrows=2, ncols=columns, squeeze=False)
        for column, (output, rows) in enumerate(quantiles.groupby("output", sort=False)):
            for axis in axes[:, column]:
                plot.ribbons(axis, rows)
            axes[0, column].set_title(output)
            plot.logarithmic(axes[1, column])
        return report.picture(figure)

    def _spread(self, table: pd.DataFrame) -> str:
        names = ("Cmax", "AUCinf", "t_half")
        figure, axes = report.figure(11, 3.2, ncols=len(names))
        for axis, name in zip(axes, names, strict=True):
            plot.histogram(axis, table[name], labelled(name))
        return report.picture(figure)


def bodies(name: str) -> Cohort:
    """Returns the cohort of a file, or the one reference body of a species.

    Raises:
        ValueError: If it is neither.
        OSError: If there is no such file.
    """
    if name in SPECIES:
        body = reference_body(name)
        one = body.replace(**{field: value.unsqueeze(0) for field, value in body.tensors().items()})
        return Cohort(one, np.array([name], dtype=object), {"generator": "pbpk reference body"})
    if Path(name).suffix.lower() in (".csv", ".parquet") or os.sep in name:
        return load_cohort(name)
    close = nearest(name, SPECIES)
    remedy = f"Did you mean {close!r}?" if close else "Give the path of a cohort file."
    raise ValueError(
        f"COHORT must be a .csv or .parquet file or one of {', '.join(SPECIES)}, but is {name!r}. {remedy}"
    )


def outputs_in(
    text: str, cohort: Cohort, compound: Compound, graph: str, clearance: str, Kp_method: str
) -> tuple[str, ...]:
    """Returns the outputs named in ``text``, separated by commas, if the drug has them in the first body."""
    chosen = GRAPHS[choose("--graph", graph, GRAPHS)]
    body = cohort[:1].physiology
    known = assemble(chosen, body, kinetics(compound, body, Kp_method, clearance)).outputs()
    named = [choose("--outputs", part.strip(), known) for part in text.split(",")]
    for name in named:
        if named.count(name) > 1:
            raise ValueError(f"--outputs must name each output once, but repeats {name!r}. Name it once.")
    return tuple(named)


def provenance(cohort: Cohort, arguments: dict[str, Any]) -> dict[str, str]:
    """Returns how a simulation was made: the command, the versions, the cohort's origin and the settings."""
    said = {f"cohort: {key}": str(value) for key, value in cohort.provenance.items() if value != {}}
    versions = f"vpop {metadata.version('vpop')}, torch {metadata.version('torch')}"
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": f"{versions}, Python {platform.python_version()}",
        **{key: str(value) for key, value in arguments.items()},
        **said,
    }


def _with_unit(column: str) -> str:
    return column if column == "id" else labelled(column)


def run(
    bodies_name: str,
    compound_name: str,
    dose: str,
    hours: float,
    outputs: str,
    points: int,
    folder: Path,
    *,
    graph: str,
    clearance: str,
    Kp_method: str,
) -> int:
    """Simulates, writes the folder and prints the summary; returns 1 if a body could not be solved."""
    from pbpk.files import check_folder, write_folder
    from pbpk.progress import bar
    from pbpk.regimen import Regimen
    from pbpk.simulate import simulate

    regimen = Regimen.parse(dose)
    compound = Compound.load(compound_name)
    check_folder(folder)
    cohort = bodies(bodies_name)
    shown = outputs_in(outputs, cohort, compound, graph, clearance, Kp_method)
    with bar("bodies", len(cohort)) as progress:
        simulation = simulate(
            cohort,
            compound,
            regimen,
            regimen.times(hours, points),
            graph=graph,
            clearance=clearance,
            Kp_method=Kp_method,
            throw=False,
            progress=progress,
        )
    settings = {"graph": graph, "clearance": clearance, "Kp": Kp_method, "engine": simulation.engine}
    exposure = Exposure(simulation, compound, cohort, shown, provenance(cohort, settings))
    with write_folder(folder) as partial:
        text = exposure.write(partial)
    print(text)
    return int(exposure.failed > 0)
