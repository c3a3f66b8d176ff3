"""What the count of violations says: shares with intervals, by law and age group, and the sweep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.files import write_whole
from pbpk.laws.exact import ExactLaw
from pbpk.laws.interval import independent_checks, wilson
from pbpk.laws.law import Law

if TYPE_CHECKING:
    import pandas as pd

WIDTHS: tuple[float, ...] = (1.0, 1.1, 1.25, 1.5, 2.0)
EXACT_TOLERANCES: tuple[float, ...] = (1e-2, 1e-3, 1e-6)
ANY, CHECKS = "any", "checks"
_ROUNDING = 1e-12  # a body placed exactly on a bound is inside it


@dataclass(frozen=True)
class Report:
    """Which bodies break which laws, and by how much.

    Attributes:
        laws: The laws that were applied: exact ones, the counted ones, and those reported beside.
        residual: Of a law with a band, how many times the band must be widened to hold the body; of an
            exact law, the relative error. NaN where the law does not speak of the body. Shape
            :math:`(*, law)`.
        tolerance: The relative error above which an exact law is broken; None: reported, not counted.
        groups: Per age group, who belongs to it, bool with shape :math:`(*)`.
        not_applied: Per law that was not applied, the reason.
        species: The species.
        id: The names of the bodies, or None.
    """

    laws: tuple[Law | ExactLaw, ...]
    residual: Tensor
    tolerance: float | None
    groups: Mapping[str, Tensor]
    not_applied: Mapping[str, str]
    species: str
    id: Any = field(default=None, repr=False)

    @property
    def applicable(self) -> Tensor:
        """Whether each law speaks of each body, bool with shape :math:`(*, law)`."""
        return ~torch.isnan(self.residual)

    @property
    def counted(self) -> Tensor:
        """Which laws are counted as violations when broken, bool with shape :math:`(law)`."""
        return torch.tensor(
            [law.counted if isinstance(law, Law) else self.tolerance is not None for law in self.laws],
            dtype=torch.bool,
        )

    def violated(self, width: float = 1.0) -> Tensor:
        """Returns which body breaks which law when the bands are ``width`` times as wide.

        Arguments:
            width: How many times the bands are widened [1]; exact laws keep their tolerance.

        Returns:
            A bool tensor with shape :math:`(*, law)`.
        """
        exact = math.inf if self.tolerance is None else self.tolerance
        limit = [width * (1 + _ROUNDING) if isinstance(law, Law) else exact for law in self.laws]
        return self.residual > torch.tensor(limit).to(self.residual)

    def broken(self, width: float = 1.0) -> Tensor:
        """Returns which body breaks at least one counted law, bool with shape :math:`(*)`."""
        return (self.violated(width) & self.counted).any(-1)

    def overall(self) -> dict[str, Any]:
        """Returns how many of all bodies break at least one counted law, and the share with its interval.

        The keys are ``applicable, violated, share, lower95, upper95``.
        """
        return self._share(self.broken(), "all")

    @property
    def rate(self) -> float:
        """The share of bodies that break at least one counted law, the bands as written."""
        return self.overall()["share"]

    def _share(self, hit: Tensor, group: str, among: Tensor | None = None) -> dict[str, Any]:
        """Returns how many bodies of a group, of those the law speaks of, are hit."""
        members = self.groups[group] if among is None else self.groups[group] & among
        hits, trials = int((hit & members).sum()), int(members.sum())
        return _numbers(hits, trials, float(trials))

    def frame(self) -> pd.DataFrame:
        """Returns the tidy table of the bands as written: a row for each law and each age group.

        Columns: ``law, title, kind, counted, group, width, tolerance, applicable`` (how many bodies the
        law speaks of), ``violated, share, lower95, upper95, source``. The rows ``any`` (bodies that break
        at least one counted law) and ``checks`` (checks of counted laws) sum up.
        """
        import pandas as pd

        violated, applicable, counted = self.violated(), self.applicable, self.counted.tolist()
        rows = []
        for group in self.groups:
            for at, law in enumerate(self.laws):
                banded = isinstance(law, Law)
                limits = (1.0, math.nan) if banded else (math.nan, _or_nan(self.tolerance))
                label = _label(law, counted[at], group, *limits)
                numbers = self._share(violated[..., at], group, applicable[..., at])
                rows.append(label | numbers | {"source": law.source})
        return pd.DataFrame(rows + self._totals(1.0))

    def _totals(self, width: float) -> list[dict[str, Any]]:
        """Returns per group the share of bodies, and of checks, that are broken at one band width."""
        violated, applicable = self.violated(width) & self.counted, self.applicable & self.counted
        anyone, broken, checked = violated.any(-1), violated.sum(-1).double(), applicable.sum(-1).double()
        rows = []
        for group, who in self.groups.items():
            common = {"kind": "", "counted": True, "group": group, "width": width}
            common["tolerance"] = _or_nan(self.tolerance)
            checks = _numbers(
                int(broken[who].sum()), int(checked[who].sum()), independent_checks(broken[who], checked[who])
            )
            rows.append({"law": ANY, "title": "at least one law"} | common | self._share(anyone, group))
            rows.append({"law": CHECKS, "title": "applicable checks"} | common | checks)
        return rows

    def sweep(self) -> pd.DataFrame:
        """Returns the sweep of the band width: rows ``any`` and ``checks`` for each width and group."""
        import pandas as pd

        return pd.DataFrame([row for width in WIDTHS for row in self._totals(width)])

    def exact(self) -> pd.DataFrame:
        """Returns the share of bodies that miss each exact law by more than 1 %, 0.1 % and 1e-6."""
        import pandas as pd

        exact = [(at, law) for at, law in enumerate(self.laws) if isinstance(law, ExactLaw)]
        return pd.DataFrame(
            [
                _label(law, False, group, math.nan, tolerance)
                | self._share(self.residual[..., at] > tolerance, group, self.applicable[..., at])
                | {"source": law.source}
                for at, law in exact
                for group in self.groups
                for tolerance in EXACT_TOLERANCES
            ]
        )

    def table(self) -> pd.DataFrame:
        """Returns everything as one tidy table, with a row for each law that was not applied and why."""
        import pandas as pd

        reasons = pd.DataFrame(
            [{"law": law, "source": f"not applied: {why}"} for law, why in self.not_applied.items()]
        )
        sweep = self.sweep()
        parts = [self.frame(), sweep[sweep["width"] > 1], self.exact(), reasons]
        return pd.concat([part for part in parts if len(part)], ignore_index=True)

    def offenders(self) -> pd.DataFrame:
        """Returns each broken check: ``id, law, title`` and ``residual``, the worst first."""
        import pandas as pd

        body, law = torch.nonzero(self._flat(self.violated()), as_tuple=True)
        names = self.id if self.id is not None else range(self._flat(self.residual).shape[0])
        found = pd.DataFrame(
            {
                "id": [names[i] for i in body.tolist()],
                "law": [self.laws[i].id for i in law.tolist()],
                "title": [self.laws[i].title for i in law.tolist()],
                "residual": self._flat(self.residual)[body, law].tolist(),
            }
        )
        return found.sort_values("residual", ascending=False, kind="stable", ignore_index=True)

    def _flat(self, value: Tensor) -> Tensor:
        return value.reshape(-1, len(self.laws))

    def text(self, all_laws: bool = False) -> str:
        """Returns the compact table for a terminal; its last line is the violation rate.

        Arguments:
            all_laws: List the laws that nobody breaks, too.
        """
        from pbpk.laws.render import as_text

        return as_text(self, all_laws)

    def html(self, all_laws: bool = True) -> str:
        """Returns the same table as a fragment of HTML."""
        from pbpk.laws.render import as_html

        return as_html(self, all_laws)

    def save(self, path: str | Path, subject: str = "") -> None:
        """Writes the full report: a .csv is :meth:`table`, an .html a page of its own.

        Arguments:
            path: Where to.
            subject: Whose bodies these are; it stands under the page's title.

        Raises:
            ValueError: If the suffix is another.
            OSError: If the file cannot be written.
        """
        from pbpk.laws.render import as_page

        path = Path(path)
        suffix = choose("the report's suffix", path.suffix.lower(), (".csv", ".html"))
        content = self.table().to_csv(index=False) if suffix == ".csv" else as_page(self, subject)
        with write_whole(path) as partial:
            partial.write_text(content, encoding="utf-8", newline="")

    def __str__(self) -> str:
        """Returns :meth:`text`."""
        return self.text()


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _numbers(hits: int, trials: int, independent: float) -> dict[str, Any]:
    share = hits / trials if trials else math.nan
    low, high = wilson(share * independent, independent) if trials else (math.nan, math.nan)
    interval = {"lower95": low, "upper95": high}
    return {"applicable": trials, "violated": hits, "share": share} | interval


def _label(law: Law | ExactLaw, counted: bool, group: str, width: float, tolerance: float) -> dict[str, Any]:
    names = {"law": law.id, "title": law.title, "kind": law.kind}
    return names | {"counted": counted, "group": group, "width": width, "tolerance": tolerance}
