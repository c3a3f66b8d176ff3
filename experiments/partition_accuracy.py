"""How near do the partition methods come to tissue-to-plasma ratios measured in rats?

Question: the fold error of each method against measured Kp, over all and by tissue, beside a constant (the
geometric mean of the measured ratios themselves, which no user could know).
Source: 168 drugs compiled by Pearce et al. (2017) doi:10.1007/s10928-017-9548-7, the file
`physiology/measured_tissue_plasma_Kp.csv` of VPOP_DATA, with logP and fup.
Subset: rats; the twelve tissues of Rodgers and Rowland; fup measured (the fourteen drugs that httk drops for
a placeholder of 0.5 are left out); drugs whose pKa was found (`partition_pKa.csv`, each with its source): 715
ratios of 90 drugs. `--assume_pKa` adds the other drugs with a pKa assumed from their class. BP is 1 + HCT (Kp
of blood cells - 1) where blood cells were measured, else 1; `--known_BP_only` keeps the drugs that have one.
Beware: many of these drugs were used to develop the methods, and all of them to fit Pearce's regressions.

Command: VPOP_DATA=... python -m experiments.partition_accuracy
Measured: AAFE, share within 3-fold: Rodgers-Rowland 2.32, 73 %; raw Schmitt 2.82, 67 %; Berezhkovskiy 3.21,
58 %; Poulin-Theil 3.44, 54 %; PK-Sim Standard with logP 6.35, 43 %; a constant 3.77, 52 %. With every drug
(`--assume_pKa`, 913 ratios of 123): Rodgers-Rowland 2.40, 70 %; raw Schmitt 2.86, 66 %; constant 3.73, 52 %.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments import record
from pbpk.compound import Compound
from pbpk.partition import HAEMATOCRIT, METHODS, by_tissue

TISSUES = ("Adipose", "Bone", "Brain", "Gut", "Heart", "Kidney")
TISSUES += ("Liver", "Lung", "Muscle", "Pancreas", "Skin", "Spleen")
PLACEHOLDER = ("10457-90-6", "5786-21-0", "17617-23-1", "69-23-8", "2898-12-6", "57562-99-9", "59-99-4")
PLACEHOLDER += ("2955-38-6", "155-97-5", "41903-57-5", "58-55-9", "77-32-7", "59-05-2", "60-54-8")
"""CAS of the drugs whose fup of 0.5 stands for "unknown" in httk."""
CLASS = {"A": ((4.5,), ()), "B": ((), (9.0,)), "N": ((), ()), "Z": ((6.0,), (8.5,))}  # [ours] typical pKa


@dataclass(frozen=True)
class Config:
    """The command-line flags."""

    known_BP_only: bool = False
    assume_pKa: bool = False
    figure: bool = True


def groups() -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Returns the acidic and basic pKa of each drug."""
    with (Path(__file__).parent / "partition_pKa.csv").open(encoding="utf-8") as file:
        return {
            row["drug"]: tuple(tuple(map(float, row[name].split())) for name in ("pKa_acid", "pKa_base"))
            for row in csv.DictReader(file)
        }


def measured(assume_pKa: bool) -> pd.DataFrame:
    """Returns the ratios of the subset, one a row, with pKa, and BP (NaN where not measured)."""
    table = pd.read_csv(record.data_folder() / "physiology" / "measured_tissue_plasma_Kp.csv")
    table["Tissue"] = table.Tissue.str.strip().str.capitalize()
    table = table[(table.Species == "Rat") & (table.fu > 0.0) & (table.Exp_PC > 0.0)]
    known = groups()
    table = table[~table.CAS.isin(PLACEHOLDER) & (table.Drug.isin(known) | assume_pKa)]
    classes = zip(table.Drug, table["A.B.N"], strict=True)
    table["pKa"] = [known.get(drug, CLASS[kind]) for drug, kind in classes]
    cells = table[table.Tissue == "Blood cells"].groupby("Drug").Exp_PC.mean()
    table["BP"] = 1.0 + HAEMATOCRIT * (table.Drug.map(cells) - 1.0)
    return table[table.Tissue.isin(TISSUES)].reset_index(drop=True)


def predicted(table: pd.DataFrame, method: str) -> np.ndarray:
    """Returns the ratio that a method gives for each row; NaN for a tissue it has no composition of."""
    found = {}
    for drug, rows in table.groupby("Drug"):
        row = rows.iloc[0]
        BP = 1.0 if np.isnan(row.BP) else float(row.BP)
        compound = Compound(str(drug), 300.0, float(row.LogP), float(row.fu), BP, *row.pKa)
        for tissue, ratio in by_tissue(compound, "rat", method).items():
            found[drug, tissue.capitalize()] = float(ratio)
    return np.array([found.get(key, np.nan) for key in zip(table.Drug, table.Tissue, strict=True)])


def score(prediction: np.ndarray, observation: np.ndarray) -> dict[str, float]:
    """Returns the average fold error, its absolute value, and the shares within 2- and 3-fold."""
    error = np.log10(prediction / observation)
    error = error[np.isfinite(error)]
    if not len(error):
        return {"n": 0}
    return {
        "n": len(error),
        "AFE": round(float(10.0 ** error.mean()), 3),
        "AAFE": round(float(10.0 ** np.abs(error).mean()), 3),
        "within_2": round(float((np.abs(error) <= np.log10(2.0)).mean()), 3),
        "within_3": round(float((np.abs(error) <= np.log10(3.0)).mean()), 3),
    }


def predictions(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns every method's predictions, two combinations, and the constant."""
    found = {method: predicted(table, method) for method in METHODS}
    found["mean of rodgers-rowland and schmitt"] = np.sqrt(found["rodgers-rowland"] * found["schmitt"])
    found["constant"] = np.full(len(table), 10.0 ** np.log10(table.Exp_PC).mean())
    return found


def plot(scores: dict[str, Any]) -> None:
    """Draws the error of each method, by tissue."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8.0, 4.5), layout="constrained")
    for method, by in scores.items():
        axes.plot(
            [by["tissues"][tissue].get("AAFE", np.nan) for tissue in TISSUES], "o-", label=method, alpha=0.8
        )
    axes.set(xticks=range(len(TISSUES)), yscale="log", ylabel="absolute average fold error")
    axes.set_xticklabels(TISSUES, rotation=45)
    axes.legend(fontsize="x-small", ncols=3)
    figure.savefig(record.folder("partition_accuracy") / "partition_accuracy.png", dpi=150)


def run(config: Config) -> dict[str, Any]:
    """Scores every method, over all ratios and by tissue."""
    table = measured(config.assume_pKa)
    if config.known_BP_only:
        table = table[table.BP.notna()].reset_index(drop=True)
    observation = table.Exp_PC.to_numpy()
    scores: dict[str, Any] = {}
    for method, prediction in predictions(table).items():
        chosen = {tissue: (table.Tissue == tissue).to_numpy() for tissue in TISSUES}
        by = {tissue: score(prediction[rows], observation[rows]) for tissue, rows in chosen.items()}
        scores[method] = {"all": score(prediction, observation), "tissues": by}
    if config.figure:
        plot(scores)
    return {"ratios": len(table), "drugs": table.Drug.nunique(), "methods": scores}


if __name__ == "__main__":
    record.main("partition_accuracy", Config, run, __doc__)
