"""The report as a reader sees it: one list of sections, written as text or as HTML."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from pbpk.laws.exact import ExactLaw
from pbpk.laws.report import ANY, CHECKS, EXACT_TOLERANCES, WIDTHS, Report

if TYPE_CHECKING:
    import pandas as pd

_LINE = 100  # characters of a terminal line


@dataclass(frozen=True)
class Section:
    """A titled table: the columns' heads, and rows of a label and one cell for each column."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


def percent(share: float) -> str:
    """Returns a share as a percentage with one decimal; a few in thousands do not look like none.

    >>> percent(0.4199), percent(0.0001), percent(0.0)
    ('42.0', '<0.1', '0.0')
    """
    if math.isnan(share):
        return "-"
    return "<0.1" if 0 < share < 0.0005 else f"{100 * share:.1f}"


def _interval(row: pd.Series) -> str:
    return f"{100 * row['lower95']:.1f}-{100 * row['upper95']:.1f}"


def _cells(frame: pd.DataFrame, law: str, groups: list[str]) -> list[str]:
    shares = frame[frame["law"] == law].set_index("group")["share"]
    return [percent(shares[group]) for group in groups]


def _counts(report: Report) -> Section:
    cells = [f"{int(who.sum()):,}" for who in report.groups.values()]
    return Section("", list(report.groups), [("bodies", cells)])


def _laws(report: Report, frame: pd.DataFrame, all_laws: bool) -> Section:
    """Lists the counted laws, the most broken first, or in their order where all are wanted."""
    everyone = frame[(frame["group"] == "all") & ~frame["law"].isin([ANY, CHECKS]) & frame["counted"]]
    chosen = everyone if all_laws else everyone[everyone["violated"] > 0]
    if not all_laws:
        chosen = chosen.sort_values("share", ascending=False, kind="stable")
    groups = list(report.groups)
    rows = [
        (f"{law}  {title}", _cells(frame, law, groups))
        for law, title in zip(chosen["law"], chosen["title"], strict=True)
    ]
    return Section("Broken by, % of bodies it speaks of", groups, rows)


def _totals(report: Report, sweep: pd.DataFrame) -> Section:
    """Lists the bodies that break any law, with the interval, the checks, and the sweep."""
    groups = list(report.groups)
    written = sweep[sweep["width"] == 1]
    rows = []
    for law, label in ((ANY, "any law"), (CHECKS, "applicable checks")):
        by_group = written[written["law"] == law].set_index("group")
        shares = [f"{100 * by_group['share'][group]:.{1 if law == ANY else 2}f}" for group in groups]
        intervals = [_interval(by_group.loc[group]) for group in groups]
        rows += [(label, shares), ("  95 % interval", intervals)]
    for width in WIDTHS[1:]:
        cells = _cells(sweep[sweep["width"] == width], ANY, groups)
        rows.append((f"any law, bands x {width:g}", cells))
    return Section("Together, %", groups, rows)


def _limit(tolerance: float) -> str:
    """Returns a relative error as people write it.

    >>> _limit(0.01), _limit(1e-6)
    ('1 %', '1e-6')
    """
    if tolerance >= 1e-4:
        return f"{100 * tolerance:g} %"
    return f"{tolerance:g}".replace("e-0", "e-")


def _exact(report: Report, frame: pd.DataFrame) -> Section:
    exact, columns = report.exact(), [_limit(tolerance) for tolerance in EXACT_TOLERANCES]
    rows = []
    for law in report.laws:
        if isinstance(law, ExactLaw):
            shares = exact[(exact["law"] == law.id) & (exact["group"] == "all")]["share"]
            cells = [percent(share) for share in shares]
            if report.tolerance is not None:
                cells += _cells(frame, law.id, ["all"])
            rows.append((f"{law.id}  {law.title}", cells))
    if report.tolerance is not None:
        columns.append(_limit(report.tolerance))
    counted = "" if report.tolerance is not None else ", not counted"
    return Section(f"Exact laws{counted}, % off by more than", columns, rows)


def _beside(report: Report, frame: pd.DataFrame) -> Section:
    groups = list(report.groups)
    banded = frame["width"].notna() & ~frame["counted"] & (frame["group"] == "all")
    rows = [
        (f"{law}  {title}", _cells(frame, law, groups))
        for law, title in zip(frame["law"][banded], frame["title"][banded], strict=True)
    ]
    return Section("Beside, not counted, %", groups, rows)


def _sections(report: Report, all_laws: bool) -> list[Section]:
    frame, sweep = report.frame(), report.sweep()
    sections = [_counts(report), _laws(report, frame, all_laws), _totals(report, sweep)]
    sections += [_beside(report, frame), _exact(report, frame)]
    return [section for section in sections if section.rows]


def ranges(ids: list[str]) -> str:
    """Returns law names with their runs joined.

    >>> ranges(["C05", "C06", "C07", "C09", "E4"])
    'C05-C07, C09, E4'
    """
    runs: list[list[str]] = []
    for law in ids:
        last = runs[-1][-1] if runs else ""
        follows = last[:1] == law[:1] and last[1:].isdigit() and law[1:].isdigit()
        if follows and int(law[1:]) == int(last[1:]) + 1:
            runs[-1].append(law)
        else:
            runs.append([law])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def reasons(report: Report) -> list[tuple[str, str]]:
    """Returns which laws were not applied, gathered by reason."""
    by_reason: dict[str, list[str]] = {}
    for law, reason in report.not_applied.items():
        by_reason.setdefault(reason, []).append(law)
    return [(ranges(ids), reason) for reason, ids in by_reason.items()]


def rate_line(report: Report) -> str:
    """Returns the violation rate in one sentence."""
    row = report.overall()
    share, low, high = (100 * row[name] for name in ("share", "lower95", "upper95"))
    decimals = 1 if share == 0 or share >= 10 else 2
    bodies = "1 body" if row["applicable"] == 1 else f"{row['applicable']:,} bodies"
    return (
        f"Violation rate: {share:.{decimals}f} % of {bodies} break at least one law "
        f"(95 % interval {low:.{decimals}f}-{high:.{decimals}f} %)."
    )


def as_text(report: Report, all_laws: bool = False) -> str:
    """Returns the report for a terminal; its last line is the violation rate."""
    sections = _sections(report, all_laws)
    label = max(len(name) for section in sections for name, _ in section.rows)
    label = max(label, *(len(section.title) for section in sections))
    lines: list[str] = []
    for _, together in groupby(sections, key=lambda section: tuple(section.columns)):
        lines += _text_table(list(together), label)
    listed = reasons(report)
    if listed:
        lines.append("Not applied")
        lines += [line for ids, reason in listed for line in _wrapped(ids, reason)]
        lines.append("")
    return "\n".join([*lines, rate_line(report)])


def _text_table(sections: list[Section], label: int) -> list[str]:
    """Writes sections of the same columns under one head; the first title shares the head's line."""
    columns = sections[0].columns
    rows = [cells for section in sections for _, cells in section.rows]
    widths = [
        max(len(cell) for cell in [column, *(row[i] for row in rows)]) for i, column in enumerate(columns)
    ]
    lines: list[str] = []
    for number, section in enumerate(sections):
        head = columns if number == 0 else [""] * len(columns)
        lines.append(_text_row(section.title, head, label, widths))
        lines += [_text_row(name, cells, label, widths) for name, cells in section.rows]
        lines.append("")
    return lines


def _text_row(name: str, cells: list[str], label: int, widths: list[int]) -> str:
    padded = "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return f"{name:<{label}}  {padded}".rstrip()


def _wrapped(ids: str, reason: str) -> list[str]:
    import textwrap

    return textwrap.wrap(f"{ids}: {reason}", _LINE, initial_indent="  ", subsequent_indent="    ")


def as_html(report: Report, all_laws: bool = True) -> str:
    """Returns the report as a fragment of HTML: sections with tables, no style of its own."""
    parts = ['<section class="violations">', f"<p><b>{html.escape(rate_line(report))}</b></p>"]
    for section in _sections(report, all_laws):
        parts.append(_html_table(section))
    listed = reasons(report)
    if listed:
        items = "".join(f"<li><b>{html.escape(ids)}</b> {html.escape(reason)}</li>" for ids, reason in listed)
        parts.append(f"<h3>Not applied</h3><ul>{items}</ul>")
    return "\n".join([*parts, "</section>"])


def as_page(report: Report, subject: str) -> str:
    """Returns the report as a page of HTML that needs no other file."""
    from pbpk.report import render

    return render("laws.html", title="Physiological laws", subject=subject, violations=as_html(report))


def _html_table(section: Section) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in ["", *section.columns])
    rows = "".join(
        f"<tr><th>{html.escape(name.strip())}</th>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for name, cells in section.rows
    )
    title = f"<h3>{html.escape(section.title)}</h3>" if section.title else ""
    return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
