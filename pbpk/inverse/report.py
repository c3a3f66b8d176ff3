"""The page of a fit: data and curves with bands, profiles, identifiability, all methods side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from pbpk import report
from pbpk.inverse import eigen
from pbpk.inverse.identify import Identifiability
from pbpk.inverse.metrics import grid
from pbpk.inverse.people import estimates, identifiability, measures, methods_table
from pbpk.inverse.profile import THRESHOLD, Profile, profile
from pbpk.inverse.result import FitResult
from pbpk.inverse.solve import Answer
from pbpk.plot import histogram, logarithmic, spread_out

_COLOURS = {"lsq": "#2f6690", "xtfc": "#b5651d", "pinn": "#8a4fa3", "amortised": "#3b8f5a", "mcmc": "#a33b3b"}
_SHOWN = 6  # persons drawn one by one
_DRAWS = 200
_DEEPEST = 1e-5  # of the highest concentration: what is lower is not drawn


def page(
    title: str,
    found: Sequence[Answer],
    settings: Mapping[str, str],
    advice: pd.DataFrame | None,
    violations: str,
    messages: Sequence[str],
) -> str:
    """Renders the page.

    Arguments:
        title: Its title.
        found: The answers, one a person.
        settings: How it was made, by name.
        advice: What further samples would do, where a parameter is open.
        violations: What the laws say of the bodies; "" where there are none.
        messages: What the reader must hear.
    """
    first = found[0]
    table = estimates(found)
    several = len(found) > 1
    label = _labels(found)
    return report.render(
        "inverse.html",
        title=title,
        subtitle=f"{first.problem.model.name} model, {len(found):,} {'people' if several else 'person'}, "
        f"method {first.result.method}",
        facts=_facts(found),
        several=several,
        first=first.problem.name,
        verdict=first.before.sentences(),
        messages=messages,
        curves=_curves(found),
        spread=_spread(table, label) if several else "",
        profiles=_profiles(first.reference, label),
        estimates=_table(_summary(table) if several else table, label),
        identifiability=_table(_verdicts(found) if several else identifiability(found), label),
        advice="" if advice is None else _table(advice, label),
        methods=_table(_methods(found), label),
        by_method=_table(_by_method(first), label) if not several else "",
        metrics=report.table(_exposure(measures(found[:1]))),
        violations=violations,
        settings=report.pairs("setting", "is", settings),
    )


_HEADINGS = {
    "rse": "relative standard error",
    "cv_percent": "CV [%]",
    "median_cv_percent": "median CV [%]",
    "worst_cv_percent": "worst CV [%]",
    "open_in": "open in",
    "estimated_in": "estimated in",
    "above_lsq": "deviance above lsq",
    "from_lsq_se": "distance from lsq [standard errors]",
    "seconds": "time [s]",
    "converged_share": "share converged",
    "structural": "perfect data tell",
}


def _labels(found: Sequence[Answer]) -> dict[str, str]:
    """Returns each parameter's name with its unit."""
    units: dict[str, str] = {}
    for one in found:
        units |= {**one.problem.model.parameters, **one.fitted.model.parameters}
    return {name: f"{name} [{unit}]" if unit else name for name, unit in units.items()}


def _table(frame: pd.DataFrame, label: Mapping[str, str]) -> str:
    """Returns a table with the parameters' units and headings in words."""
    if "parameter" in frame:
        frame = frame.assign(parameter=frame["parameter"].map(lambda name: label.get(name, name)))
    return report.table(frame.rename(columns=_HEADINGS))


def _exposure(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the metrics with one row a compartment, each with its interval."""
    rows: dict[str, dict[str, str]] = {}
    for row in table.itertuples():
        cell = f"{row.estimate:.3g} ({row.lower:.3g} to {row.upper:.3g})"
        rows.setdefault(str(row.compartment), {})[f"{row.metric} [{row.unit}]"] = cell
    return pd.DataFrame([{"compartment": name.replace("_", " "), **cells} for name, cells in rows.items()])


def _facts(found: Sequence[Answer]) -> list[tuple[str, str]]:
    observations = sum(len(one.problem.seen) for one in found)
    converged = sum(one.result.converged for one in found)
    seconds = float(np.median([one.result.seconds for one in found]))
    return [
        ("people", f"{len(found):,}"),
        ("observations", f"{observations:,}"),
        ("estimated", ", ".join(found[0].fitted.names)),
        ("converged", f"{converged:,} of {len(found):,}"),
        ("s, median of a fit", f"{seconds:.2g}"),
    ]


def _methods(found: Sequence[Answer]) -> pd.DataFrame:
    """Returns the methods of one person, or their medians over many."""
    table = methods_table(found)
    if len(found) == 1:
        return table
    numbers = (
        table.groupby("method", sort=False)[["above_lsq", "from_lsq_se", "seconds"]].median().reset_index()
    )
    converged = (
        table.assign(converged=table["converged"] == "yes").groupby("method", sort=False)["converged"].mean()
    )
    return numbers.assign(converged_share=converged.to_numpy())


def _by_method(one: Answer) -> pd.DataFrame:
    """Returns each method's estimate and interval of each parameter, one column a method."""
    table = pd.DataFrame({"parameter": one.fitted.names})
    for name, result in one.all_results.items():
        triples = zip(*(v.tolist() for v in (result.values, result.lower, result.upper)), strict=True)
        table[name] = [f"{value:.4g} ({low:.3g} to {high:.3g})" for value, low, high in triples]
    return table


def _verdicts(found: Sequence[Answer]) -> pd.DataFrame:
    """Returns in how many people each unknown is open before the fit, and what was done."""
    table = identifiability(found)
    groups = table.groupby("parameter", sort=False)
    return pd.DataFrame(
        {
            "people": groups.size(),
            "structural": groups["structural"].first(),
            "median_cv_percent": groups["cv_percent"].median(),
            "open_in": groups["verdict"].agg(lambda verdicts: (verdicts == "open").sum()),
            "estimated_in": groups["done"].agg(lambda done: (done == "estimated").sum()),
        }
    ).reset_index()


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the spread of each estimate over the people."""
    groups = table.groupby("parameter", sort=False)["estimate"]
    levels = groups.quantile([0.05, 0.5, 0.95]).unstack().set_axis(["p5", "median", "p95"], axis=1)
    return levels.assign(people=groups.count()).reset_index()


def _curves(found: Sequence[Answer]) -> str:
    """Draws the seen compartments of one person, or of several the first people."""
    shown = found[:_SHOWN]
    names = list(dict.fromkeys(where for one in shown for where in one.problem.seen.compartment))
    if len(found) == 1:
        columns = min(len(names), 3)
        rows = -(-len(names) // columns)
        figure, axes = report.figure(
            max(5.0, 4.2 * columns), 3.4 * rows, nrows=rows, ncols=columns, squeeze=False
        )
        for axis, where in zip(axes.flat, names, strict=False):
            _curve(axis, found[0], where)
            axis.set_title(where.replace("_", " "))
        for axis in axes.flat[len(names) :]:
            axis.set_visible(False)
    else:
        figure, axes = report.figure(
            4.0 * min(3, len(shown)), 3.2 * -(-len(shown) // 3), nrows=-(-len(shown) // 3),
            ncols=min(3, len(shown)), squeeze=False,
        )  # fmt: skip
        for axis, one in zip(axes.flat, shown, strict=False):
            _curve(axis, one, names[0])
            axis.set_title(f"{one.problem.name}: {names[0].replace('_', ' ')}")
        for axis in axes.flat[len(shown) :]:
            axis.set_visible(False)
    axes.flat[0].legend(frameon=False, fontsize=8)
    return report.picture(figure)


def _curve(axis: Any, one: Answer, where: str) -> None:
    """Draws one compartment of one person: points, the curve of each method, and the band of the first."""
    problem = one.fitted
    time = grid(problem)
    m = problem.model.compartments.index(where)
    for name, result in one.all_results.items():
        C = eigen.concentration(problem, result.theta, time)[:, m].detach().numpy()
        axis.plot(time, _positive(C), color=_COLOURS[name], linewidth=1.8, label=name)
    draws = one.result.sample(_DRAWS, torch.Generator().manual_seed(0))
    band = np.quantile(
        eigen.concentration(problem, draws, time)[..., m].detach().numpy(), [0.025, 0.975], axis=0
    )
    axis.fill_between(time, *_positive(band), color=_COLOURS[one.result.method], alpha=0.2, linewidth=0)
    here = np.array([place == where for place in problem.seen.compartment])
    censored = problem.seen.limit.numpy() > 0
    at, value = problem.seen.time.numpy(), problem.seen.value.numpy()
    axis.plot(
        at[here & ~censored], value[here & ~censored], "o", color="#1c2733", markersize=3.5, label="seen"
    )
    if (here & censored).any():
        limit = problem.seen.limit.numpy()[here & censored]
        axis.plot(at[here & censored], limit, "v", color="#888888", markersize=4, label="below the limit")
    axis.set(xlabel="time [h]", ylabel="concentration [mg/L]")
    logarithmic(axis)


def _positive(C: np.ndarray) -> np.ndarray:
    """Returns concentrations with NaN for what a logarithmic axis cannot show."""
    least = _DEEPEST * np.nanmax(C)
    return np.where(least < C, C, np.nan)


def _profiles(result: FitResult, label: Mapping[str, str]) -> str:
    """Draws the profile of each parameter with the threshold and the Fisher interval."""
    K = result.problem.K
    figure, axes = report.figure(min(12.0, 3.6 * K), 3.0, ncols=K, squeeze=False)
    for k, (axis, name) in enumerate(zip(axes.flat, result.problem.names, strict=True)):
        _profile(axis, profile(result, name), float(result.lower[k]), float(result.upper[k]))
        axis.set_xlabel(label.get(name, name))
    return report.picture(figure)


def _profile(axis: Any, one: Profile, lower: float, upper: float) -> None:
    axis.plot(one.value, one.rise, color=_COLOURS["lsq"], linewidth=1.8, marker="o", markersize=3)
    axis.axhline(THRESHOLD, color="#888888", linewidth=1, linestyle="--")
    axis.axvspan(lower, upper, color=_COLOURS["lsq"], alpha=0.12, linewidth=0)
    axis.locator_params(axis="x", nbins=5)
    if float(one.value.min()) > 0:
        spread_out(axis, float(one.value.min()), float(one.value.max()))
    axis.set(ylabel="deviance above the lowest", ylim=(0, 10))


def _spread(table: pd.DataFrame, label: Mapping[str, str]) -> str:
    """Draws how each estimate is spread over the people."""
    names = [n for n, group in table.groupby("parameter", sort=False) if group["estimate"].notna().any()]
    figure, axes = report.figure(min(12.0, 3.6 * len(names)), 3.0, ncols=len(names), squeeze=False)
    for axis, name in zip(axes.flat, names, strict=True):
        histogram(axis, table.loc[table["parameter"] == name, "estimate"], label.get(str(name), str(name)))
        axis.set_ylabel("people")
    return report.picture(figure)


def verdict_text(verdict: Identifiability, advice: pd.DataFrame | None) -> str:
    """Returns the verdict for a terminal: the table, the words, and which samples would do."""
    table = verdict.frame().drop(columns="ID")
    lines = [table.to_string(index=False, float_format=lambda value: f"{value:,.3g}")]
    lines += verdict.sentences()
    if advice is not None and len(advice):
        lines += ["", "What would help (the design with this added, what stays open, the worst CV %):"]
        lines.append(advice.to_string(index=False, float_format=lambda value: f"{value:,.3g}"))
    return "\n".join(lines)
