"""Does a body fitted to the concentrations in some animals foretell those in another, and in people?

Intravenous profiles of seven compounds in mouse, rat and rabbit (esqLABS). In each species the liver's
intrinsic clearance and one factor on Kp are fitted. Then each species is left out in turn: the others are
fitted, carried to it, and its AUC and MRT are foretold by the same noncompartmental analysis of the same
times. Beside it stands scaling without a body: CL by the fixed exponent 0.75 and MRT by 0.25 from the same
animals; the ratio of the errors is paired, its 95 % interval draws compounds again. For people, CL and Vss of
the compounds whose human values are not held out, carried from all animals. Where
a species has several samples at about one time, their geometric mean is taken.

Command: VPOP_DATA=... python -m experiments.translation
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from allometry.profiles import Profile
from allometry.translation import Fitted, body_of, carry, fit
from experiments import record
from pbpk.compound import Compound
from pbpk.nca import nca
from pbpk.simulate import simulate

HUMAN = {"Paracetamol": "Acetaminophen", "Caffeine": "Caffeine", "Theophylline": "Theophylline"}
"""The compounds whose human values are visible, by their names in the table of drugs."""


@dataclass(frozen=True)
class Config:
    """The command-line flags."""

    Kp_method: str = "rodgers-rowland"


def compounds(folder: Path) -> tuple[dict[str, Compound], dict[tuple[str, str], float]]:
    """Returns the compounds by name, and fu by (compound, species)."""
    frame = pd.read_csv(folder / "observed" / "rodent_compounds.csv")
    found, fu = {}, {}
    for row in frame.to_dict("records"):
        name = row["CompoundId"]
        acid = (row["pKa1"],) if row["pKaType1"] == "Acidic" else ()
        base = (row["pKa1"],) if row["pKaType1"] == "Basic" else ()
        for species in ("mouse", "rat", "rabbit"):
            if not math.isnan(value := row[f"fu_{species.capitalize()}"]):
                fu[name, species] = value
        found[name] = Compound(
            name,
            MW=row["MolecularWeight"],
            logP=row["Lipophilicity"],
            fup=fu[name, "rat"],
            pKa_acid=acid,
            pKa_base=base,
        )
    return found, fu


def profiles(folder: Path, drugs: dict[str, Compound], fu: dict) -> dict[str, list[Profile]]:
    """Returns the plasma profiles of each compound."""
    frame = pd.read_csv(folder / "observed" / "rodent_profiles.csv")
    frame = frame[frame["compartment"].str.startswith("Plasma") & frame["time_h"].gt(0)]
    found: dict[str, list[Profile]] = {name: [] for name in drugs}
    for (name, animal, _, dose, route), part in frame.groupby(
        ["compound", "species", "study", "dose", "route"]
    ):
        species = animal.lower()
        C = part["conc_mg_per_L"].to_numpy(float)
        unbound = part["compartment"].str.contains("Unbound").to_numpy()
        C = np.where(unbound, C / fu[name, species], C)
        time, mean = thinned(part["time_h"].to_numpy(float), C)
        regimen = f"{_mg_per_kg(dose, drugs[name].MW):.6g} mg/kg iv"
        if minutes := re.search(r"(\d+) min", route):
            regimen += f" over {minutes[1]} min"
            keep = time > float(minutes[1]) / 60.0 * 1.0001
            time, mean = time[keep], mean[keep]
        t, mean_C = torch.from_numpy(time), torch.from_numpy(mean)
        found[name].append(Profile(species, regimen, t, mean_C, fu[name, species]))
    return found


def thinned(time: np.ndarray, C: np.ndarray, width: float = 0.12) -> tuple[np.ndarray, np.ndarray]:
    """Returns geometric means of samples whose times lie within 12 % of the first of their group."""
    order = np.argsort(time)
    time, C = time[order], C[order]
    groups: list[list[int]] = []
    for i, t in enumerate(time):
        if groups and t <= time[groups[-1][0]] * (1.0 + width):
            groups[-1].append(i)
        else:
            groups.append([i])
    means = [(np.exp(np.log(time[g]).mean()), np.exp(np.log(C[g]).mean())) for g in groups]
    return np.array([t for t, _ in means]), np.array([c for _, c in means])


def _mg_per_kg(text: str, MW: float) -> float:
    value, unit = text.split(" ")
    return float(value) * (MW * 1e-3 if unit == "umol/kg" else 1.0)


def exposure(profile: Profile, C: torch.Tensor) -> tuple[float, float]:
    """Returns AUCinf for 1 mg/kg [h kg/L] and MRT [h] of concentrations at a profile's times."""
    dose = float(profile.regimen.split(" ")[0])
    minutes = re.search(r"over (\d+)", profile.regimen)
    row = nca(profile.time, C, dose, "iv", float(minutes[1]) / 60.0 if minutes else 0.0).iloc[0]
    return float(row["AUCinf"]) / dose, float(row["MRT"])


def simulated(profile: Profile, fitted: Sequence[Fitted], compound: Compound, method: str) -> torch.Tensor:
    """Returns the concentrations at a profile's times after carrying what was fitted."""
    body, drug = carry(fitted, compound, profile.species, profile.fup, profile.BW, method)
    return simulate(body, drug, profile.regimen, profile.time, engine="linear").concentration("plasma")[0]


def run(config: Config) -> dict[str, Any]:
    """Fits, leaves out, carries, and returns the errors."""
    folder = record.data_folder()
    drugs, fu = compounds(folder)
    data = profiles(folder, drugs, fu)
    rows, fits = [], []
    for name, compound in drugs.items():
        species = sorted({profile.species for profile in data[name]})
        by_species = {s: [p for p in data[name] if p.species == s] for s in species}
        fitted = {s: fit(compound, part, config.Kp_method) for s, part in by_species.items()}
        fits += [{"compound": name, **vars(one)} for one in fitted.values()]
        seen = {
            s: np.mean([np.log(exposure(p, p.concentration)) for p in part], 0)
            for s, part in by_species.items()
        }
        for profile in data[name]:
            own = exposure(profile, profile.concentration)
            others = [one for s, one in fitted.items() if s != profile.species]
            entry: dict[str, Any] = {"compound": name, "species": profile.species, "regimen": profile.regimen}
            same = simulated(profile, [fitted[profile.species]], compound, config.Kp_method)
            entry |= _misses("fitted", exposure(profile, same), own, same, profile)
            if others:
                carried = simulated(profile, others, compound, config.Kp_method)
                entry |= _misses("carried", exposure(profile, carried), own, carried, profile)
                entry |= _misses("scaled", _scaled(seen, profile), own)
            rows.append(entry)
    table = pd.DataFrame(rows)
    draw(table)
    table.to_csv(record.folder("translation") / "profiles.csv", index=False)
    return {
        "profiles": len(table),
        "errors": summary(table),
        "carried to scaled": {quantity: paired(table, quantity) for quantity in ("AUC", "MRT")},
        "fits": fits,
        "humans": humans(folder, drugs, data, config),
    }


def _scaled(seen: dict[str, np.ndarray], profile: Profile) -> tuple[float, float]:
    """Returns AUC for 1 mg/kg and MRT by fixed exponents from the other species."""
    own = float(body_of(profile).BW)
    found = []
    for species, logs in seen.items():
        if species != profile.species:
            BW = float(body_of(Profile(species, "1 mg iv", profile.time, profile.concentration, 1.0)).BW)
            found.append(logs + 0.25 * math.log(own / BW))  # both go with BW^0.25
    AUC, MRT = np.exp(np.mean(found, 0))
    return float(AUC), float(MRT)


def _misses(
    name: str, value: Any, own: Any, C: torch.Tensor | None = None, profile: Profile | None = None
) -> dict[str, float]:
    entry = {f"{name}_AUC": math.log(value[0] / own[0]), f"{name}_MRT": math.log(value[1] / own[1])}
    if C is not None and profile is not None:
        entry[f"{name}_C"] = float((C / profile.concentration).log().abs().mean())
    return entry


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Returns the AAFE, the share within 2-fold and the median fold error of each way and quantity."""
    found = {}
    for way in ("fitted", "carried", "scaled"):
        for quantity in ("AUC", "MRT", "C"):
            if f"{way}_{quantity}" in table:
                miss = table[f"{way}_{quantity}"].abs().dropna()
                found[f"{way} {quantity}"] = {
                    "n": len(miss),
                    "AAFE": math.exp(miss.mean()),
                    "median_fold": math.exp(miss.median()),
                    "within_2": float((miss <= math.log(2.0)).mean()),
                }
    return found


def paired(table: pd.DataFrame, quantity: str, draws: int = 4000) -> list[float]:
    """Returns the ratio of the AAFE carried to that scaled, and its 95 % interval over compounds."""
    more = table[f"carried_{quantity}"].abs() - table[f"scaled_{quantity}"].abs()
    total, n = more.groupby(table["compound"]).agg(["sum", "count"]).to_numpy().T
    which = np.random.default_rng(0).integers(0, len(n), (draws, len(n)))
    drawn = np.exp(total[which].sum(1) / n[which].sum(1))
    return [float(np.exp(more.mean())), *np.quantile(drawn, [0.025, 0.975]).tolist()]


def humans(folder: Path, drugs: dict, data: dict, config: Config) -> list[dict[str, Any]]:
    """Returns CL and Vss in people beside the visible values."""
    frame = pd.read_csv(folder / "drugs" / "e2e_eval.csv")
    frame = frame[~frame["hidden_holdout"].astype(bool)].set_index("drug")
    found = []
    for name, listed in HUMAN.items():
        row = frame.loc[listed]
        species = sorted({profile.species for profile in data[name]})
        fitted = [
            fit(drugs[name], [p for p in data[name] if p.species == s], config.Kp_method) for s in species
        ]
        body, drug = carry(fitted, drugs[name], "human", float(row["human_fu"]), method=config.Kp_method)
        time = torch.logspace(-2.0, 3.0, 400, dtype=torch.float64)
        simulation = simulate(body, drug, "1 mg/kg iv", time, engine="linear")
        AUC = simulation.AUC("plasma", infinite=True).item()
        CL = 1.0 / AUC
        MRT = float(nca(time, simulation.concentration("plasma"), float(body.BW), "iv")["MRT"].iloc[0])
        found.append(
            {
                "drug": name,
                "CL": CL * 1e3 / 60.0,
                "CL_observed": float(row["human_CL"]),
                "Vss": CL * MRT,
                "Vss_observed": float(row["human_Vss"]),
            }
        )
    return found


def draw(table: pd.DataFrame) -> None:
    """Draws the fold errors of AUC and MRT of every profile."""
    from pbpk.report import figure

    fig, axes = figure(9.5, 5.2, ncols=2, sharey=True)
    at = np.arange(len(table))[::-1]
    for axis, quantity in zip(axes, ("AUC", "MRT"), strict=True):
        for way, colour, mark in (
            ("fitted", "#c8a45c", "o"),
            ("scaled", "#9aa7b2", "s"),
            ("carried", "#2f6690", "D"),
        ):
            axis.plot(np.exp(table[f"{way}_{quantity}"]), at, mark, ms=4.5, color=colour, label=way)
        axis.axvspan(0.5, 2.0, color="#eef2f5", zorder=0)
        axis.axvline(1.0, color="#5b6b7a", lw=0.8)
        axis.set(xscale="log", xlabel=f"{quantity} foretold / observed", xlim=(0.1, 10.0))
        axis.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
        axis.minorticks_off()
    labels = [
        f"{c} {s} {r.split(' mg')[0]}"
        for c, s, r in zip(table["compound"], table["species"], table["regimen"], strict=True)
    ]
    axes[0].set_yticks(at, labels, fontsize=7)
    axes[1].legend(frameon=False)
    fig.savefig(record.folder("translation") / "translation.png", dpi=110)


if __name__ == "__main__":
    record.main("translation", Config, run, __doc__)
