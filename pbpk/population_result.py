"""What became of a drug in a population: read from the folder of its parts, summed up in tables, a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pbpk import parts, rows, sketch
from pbpk.files import write_folder
from pbpk.nca import UNITS
from pbpk.parts import Request
from pbpk.simulation import QUANTILES, SOLVED, STATUS
from pbpk.sketch import Sketch

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = ("Cmax", "AUCinf", "t_half")
_FAILURES_SHOWN = 20
_COLOUR = "#2f6690"


@dataclass(frozen=True)
class Population:
    """A population whose parts are all in a folder.

    Attributes:
        folder: The folder.
        request: What was simulated in whom.
        sketch: The counts over all solved bodies.
        status: How many bodies have each status of :data:`pbpk.simulation.STATUS`.
        engines: The engines that ran.
    """

    folder: Path
    request: Request
    sketch: Sketch
    status: Mapping[int, int]
    engines: tuple[str, ...]

    @classmethod
    def gather(cls, folder: Path, request: Request) -> Population:
        """Merges the sketches of all parts, which must be whole."""
        merged, status, engines = Sketch(len(request.quantities)), dict.fromkeys(STATUS, 0), set()
        for number in range(request.parts):
            counts = rows.unpack(folder / "sketch" / f"{parts.name(number)}.parquet")
            merged.add_sparse(counts["row"], counts["bin"], counts["count"])
            seal = parts.seal(folder, number)
            engines.add(seal["engine"])
            for key, n in seal["status"].items():
                status[int(key)] += n
        return cls(folder, request, merged, status, tuple(sorted(engines)))

    @property
    def failed(self) -> int:
        """How many bodies could not be solved."""
        return sum(n for status, n in self.status.items() if status != SOLVED)

    def quantiles(self, probabilities: Sequence[float] = QUANTILES) -> pd.DataFrame:
        """Returns the quantiles over the solved bodies: time [h], output, p5, p25, ... [mg/L]."""
        frame = self._levels(probabilities)
        return frame[frame["time"].notna()].drop(columns="n").reset_index(drop=True)

    def exposure(self, probabilities: Sequence[float] = QUANTILES) -> pd.DataFrame:
        """Returns the quantiles of the exposure in plasma, one row a quantity; n says of how many bodies."""
        frame = self._levels(probabilities)
        frame = frame[frame["time"].isna() & (frame["n"] > 0)].drop(columns="time")
        frame["output"] = [rows.labelled(name) for name in frame["output"]]
        return frame.rename(columns={"output": "quantity"}).reset_index(drop=True)

    def _levels(self, probabilities: Sequence[float]) -> pd.DataFrame:
        import pandas as pd

        names, times = zip(*self.request.quantities, strict=True)
        levels = self.sketch.quantiles(probabilities)
        columns = {f"p{100 * p:g}": level for p, level in zip(probabilities, levels, strict=True)}
        return pd.DataFrame({"time": times, "output": names, "n": self.sketch.totals(), **columns})

    def failures(self) -> pd.DataFrame:
        """Returns the bodies that could not be solved: part, id, status and reason."""
        import pandas as pd

        frames = [pd.DataFrame(columns=["part", "id", "status", "reason"])]
        for number in range(self.request.parts if self.failed else 0):
            path = self.folder / "bodies" / f"{parts.name(number)}.parquet"
            frame = pd.DataFrame(rows.unpack(path, ["id", "status", "reason"]))
            frames.append(frame[frame["status"] != SOLVED].assign(part=number)[frames[0].columns])
        return pd.concat(frames[1:] or frames, ignore_index=True)

    def bodies(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Reads the table of all bodies, or some columns of it: a row a body, see :mod:`pbpk.rows`."""
        import pandas as pd

        return pd.read_parquet(self.folder / "bodies", columns=None if columns is None else list(columns))

    def text(self) -> str:
        """Returns a short table for a terminal."""
        request = self.request
        table = self.exposure()
        lines = [f"{request.compound.name} {request.dose}; {rows.counted(request.n)}, plasma"]
        if len(table):
            shown = table[["quantity", "p5", "p50", "p95"]]
            lines.append(shown.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
        if self.failed:
            lines.append(f"not solved: {self._reasons()}")
        return "\n".join(lines)

    def _reasons(self) -> str:
        return "; ".join(f"{n:,} ({STATUS[k]})" for k, n in self.status.items() if n and k != SOLVED)

    def write(self, settings: Mapping[str, str]) -> None:
        """Writes quantiles.csv, exposure.csv, failures.csv and report.html beside the parts.

        Arguments:
            settings: How it was made, for the page.
        """
        quantiles, exposure, failures = self.quantiles(), self.exposure(), self.failures()
        with write_folder(self.folder) as partial:
            quantiles.to_csv(partial / "quantiles.csv", index=False)
            exposure.to_csv(partial / "exposure.csv", index=False)
            failures.to_csv(partial / "failures.csv", index=False)
            page = self._page(quantiles, exposure, failures, settings)
            (partial / "report.html").write_text(page, encoding="utf-8")

    def _page(
        self,
        quantiles: pd.DataFrame,
        exposure: pd.DataFrame,
        failures: pd.DataFrame,
        settings: Mapping[str, str],
    ) -> str:
        from pbpk import report

        request = self.request
        medians = exposure.set_index("quantity")["p50"]
        facts = [("bodies", f"{request.n:,}"), ("hours", f"{request.hours:g}")]
        for name in _SHOWN:
            if (quantity := rows.labelled(name)) in medians:
                facts.append((f"{UNITS[name]}, median {name}", f"{medians[quantity]:.3g}"))
        facts += [("not solved", f"{self.failed:,}")]
        manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        return report.render(
            "population.html",
            title=f"{request.compound.name}: {request.dose}",
            subtitle=f"Whole-body simulation over {request.hours:g} h in {rows.counted(request.n)}",
            facts=facts,
            concentration=self._ribbons(quantiles) if request.n > self.failed else "",
            spread=self._spread(),
            exposure=report.table(exposure),
            failed=self._reasons(),
            failures=report.table(failures.head(_FAILURES_SHOWN)) if self.failed else "",
            settings=report.pairs("setting", "is", {**settings, **manifest, "parts": request.parts}),
            sources=report.pairs("value", "source", request.compound.sources()),
        )

    def _ribbons(self, quantiles: pd.DataFrame) -> str:
        from pbpk import plot, report

        columns = len(self.request.outputs)
        figure, axes = report.figure(max(11.0, 4.6 * columns), 6.5, nrows=2, ncols=columns, squeeze=False)
        for column, (output, levels) in enumerate(quantiles.groupby("output", sort=False)):
            for axis in axes[:, column]:
                plot.ribbons(axis, levels)
            axes[0, column].set_title(output)
            plot.logarithmic(axes[1, column])
        return report.picture(figure)

    def _spread(self) -> str:
        from pbpk import report

        figure, axes = report.figure(11, 3.2, ncols=len(_SHOWN))
        names = [name for name, _ in self.request.quantities]
        for axis, name in zip(axes, _SHOWN, strict=True):
            draw_counts(axis, self.sketch.count[names.index(name)])
            axis.set(xlabel=rows.labelled(name), ylabel="bodies in each 1 %")
        return report.picture(figure)


def draw_counts(axes: Any, counts: np.ndarray) -> Any:
    """Draws one row of a sketch as a histogram without the outermost thousandths, logarithmic if it is wide.

    Arguments:
        axes: A matplotlib ``Axes``.
        counts: The counts by bin, with shape (``sketch.BINS``).
    """
    known = counts[1:-1]
    share = known.cumsum() / max(int(known.sum()), 1)
    first, last = (int(np.searchsorted(share, level)) for level in (1e-3, 1 - 1e-3))
    if not known.sum() or first == last:
        return axes
    from pbpk import plot

    most = min(60, max(8, int(known.sum() ** 0.5)))
    cuts = np.unique(np.linspace(first, last + 1, most + 1).round().astype(int))
    edge = sketch.edges()[1:][cuts]
    height = np.add.reduceat(known[: last + 1], cuts[:-1]) / (100.0 * np.diff(np.log(edge)))
    axes.stairs(height, edge, fill=True, color=_COLOUR, alpha=0.6)
    return plot.spread_out(axes, edge[0], edge[-1])
