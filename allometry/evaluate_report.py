"""The page of ``allometry evaluate``: scaling lines, residuals, and who was held out."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pandas as pd
import torch

from allometry.baselines import Z90, Score
from allometry.evaluate import Evaluation
from allometry.species import QUANTITIES
from pbpk import report
from pbpk.files import write_folder

_SHOWN = (
    "M_brain",
    "M_liver",
    "M_kidney",
    "M_muscle",
    "M_skin",
    "M_adipose",
    "Q_brain",
    "Q_kidney",
    "Q_muscle",
    "CO",
    "GFR",
    "M_heart",
)
_BLUE, _RED, _GREY = "#2f6690", "#c8553d", "#9aa7b3"


def write(result: Evaluation, folder: str | os.PathLike[str]) -> None:
    """Writes ``report.html``, ``predictions.csv`` and ``scores.json`` into a folder."""
    with write_folder(folder) as partial:
        result.predictions().to_csv(partial / "predictions.csv", index=False, float_format="%.6g")
        (partial / "scores.json").write_text(json.dumps(result.numbers(), indent=1, default=float) + "\n")
        (partial / "report.html").write_text(page(result), encoding="utf-8")


def page(result: Evaluation) -> str:
    """Returns the page as HTML."""
    best = result.of("graph")[0]
    row = result.table[result.table.model == "graph"].iloc[0]
    accuracy, covered = result.tables()
    floor = result.floor()
    return report.render(
        "held_out.html",
        title="Species foretold by the others",
        species=", ".join(result.known.species),
        facts=[
            ("ratio to the free power law", f"{row.ratio:.3f}"),
            ("95 % interval", f"{row.low:.3f} to {row.high:.3f}"),
            ("AAFE", f"{row.AAFE:.3f}"),
            ("values scored", str(int(result.known.scored.sum()))),
            ("largest error of a sum", f"{max(result.balance):.0e}"),
        ],
        floor=f"{floor['AAFE']:.2f}",
        floor_ratio=f"{floor['ratio to power']:.2f}",
        models=report.table(accuracy),
        covered=report.table(covered),
        chance=f"{100 * result.chance:.0f} %",
        ablation=report.table(pd.DataFrame(result.ablation())) if result.ablation() else "",
        few=report.table(_few_table(result)),
        mammals=report.table(_mammals_table(result)) if result.mammals else "",
        lines=report.picture(_lines(result, best)),
        residuals=report.picture(_residuals(result, best)),
        ratios=report.picture(ratios(result)),
    )


def _few_table(result: Evaluation) -> pd.DataFrame:
    frame = pd.DataFrame(result.few_shot())
    told = frame["of each"]
    frame["of each"] = [
        "; ".join(f"{name}: {', '.join(own)}" for name, own in zip(result.known.species, each, strict=True))
        if len({*map(tuple, each)}) > 1
        else ", ".join(each[0])
        for each in told
    ]
    return frame.drop(columns="told")


def _mammals_table(result: Evaluation) -> pd.DataFrame:
    names = ("species", "AAFE of the power law", "AAFE with clades", "inside 90 %")
    return pd.DataFrame(
        [{"quantity": head, **dict(zip(names, row, strict=True))} for head, row in result.mammals.items()]
    )


def _lines(result: Evaluation, best: Score) -> Any:
    """Draws against body weight what was found, the line through it, and what was foretold without it."""
    rows = len(_SHOWN) // 3
    figure, axes = report.figure(11, 0.5 + 2.25 * rows, nrows=rows, ncols=3, sharex=True, squeeze=False)
    x = result.known.x
    BW = x.exp().numpy()
    for ax, name in zip(axes.flat, _SHOWN, strict=True):
        j = QUANTITIES.index(name)
        known = result.known.scored[:, j]
        y = result.known.y[:, j]
        slope = torch.linalg.lstsq(
            torch.stack([torch.ones_like(x), x], -1)[known], y[known].unsqueeze(-1)
        ).solution.squeeze(-1)
        ends = torch.tensor([x.min() - 0.5, x.max() + 0.5], dtype=x.dtype)
        ax.plot(ends.exp(), (slope[0] + slope[1] * ends).exp(), color=_GREY, lw=1, zorder=0)
        mean, half = best.mean[:, j], Z90 * best.sd[:, j]
        low, high = mean.exp() - (mean - half).exp(), (mean + half).exp() - mean.exp()
        ax.errorbar(
            BW * 1.12, mean.exp(), yerr=torch.stack([low, high]).numpy(), fmt="o", ms=4, lw=1, color=_BLUE
        )
        ax.plot(BW[known], y[known].exp(), "D", ms=4.5, color=_RED)
        ax.set(xscale="log", yscale="log")
        ax.set_title(f"exponent {slope[1].item():.2f}", fontsize=9)
        ax.set_ylabel(f"{name} [{'kg' if name.startswith('M_') else 'L/h'}]", fontsize=9)
        ax.tick_params(labelsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("BW [kg]")
    axes.flat[0].plot([], [], "D", color=_RED, label="consensus of the sources")
    axes.flat[0].plot([], [], "o", color=_BLUE, label="foretold, 90 %")
    axes.flat[0].legend(fontsize=7)
    return figure


def _residuals(result: Evaluation, best: Score) -> Any:
    """Draws ln foretold/consensus of each species and quantity, by the power law and by the model."""
    figure, axes = report.figure(11, 5.2, nrows=2, sharex=True)
    columns = [j for j in range(len(QUANTITIES)) if result.known.scored[:, j].any()]
    for ax, score in zip(axes, (result.of("free power law")[0], best), strict=True):
        wrong = torch.where(result.known.scored, score.mean - result.known.y, torch.nan)[:, columns]
        image = ax.imshow(wrong.numpy(), cmap="RdBu_r", vmin=-1.2, vmax=1.2, aspect="auto")
        ax.set_yticks(range(len(result.known.species)), result.known.species)
        ax.set_title(f"{score.model}: ln foretold / consensus", fontsize=10)
    axes[-1].set_xticks(range(len(columns)), [QUANTITIES[j] for j in columns], rotation=90, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.7)
    return figure


def ratios(result: Evaluation) -> Any:
    """Draws the ratio to the free power law by species, the mean over seeds."""
    figure, ax = report.figure(9, 3.4)
    names = [name for name in ("hierarchical", "MLP", "graph") if result.of(name)]
    at = np.arange(len(result.known.species) + 1)
    for k, name in enumerate(names):
        rows = result.table[result.table.model == name]
        values = [rows.ratio.mean(), *(rows[species].mean() for species in result.known.species)]
        ax.bar(at + 0.26 * (k - len(names) / 2 + 0.5), values, 0.25, label=name)
    ax.axhline(1.0, color="black", lw=1)
    ax.set(ylim=(0.75, 1.1), ylabel="ratio to the free power law")
    ax.set_xticks(at, ["all", *result.known.species])
    ax.legend(ncols=len(names), fontsize=8, loc="upper right")
    return figure
