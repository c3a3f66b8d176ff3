"""Which input does the prediction of midazolam hang on, and how far do laboratories and rules move it?

Question: each input is replaced, one at a time, by another published value or method, and each rule of
scoring by its alternative. None is a fit, and none changes what ships: it shows what another source gives.
Source: published values collected in VPOP_DATA/compounds/compounds.csv, named in the table below.
Command: VPOP_DATA=... python -m experiments.midazolam_inputs [--people reference|pcdm]
Measured: AAFE and bias of all concentrations and of AUC, and the share of AUC within 2-fold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from experiments import midazolam, midazolam_studies, record
from experiments.observed import Profile, exposure, score
from pbpk.compound import Compound
from pbpk.in_vitro import Pathway

# Vmax/Km [uL/min/mg or /pmol]: the doses keep the unbound drug far below Km.
IN_VITRO = {
    "hepatocytes, Wambaugh 2019, lowest": Pathway("hepatocytes", CLint=7.59),
    "hepatocytes, Wambaugh 2019, highest": Pathway("hepatocytes", CLint=15.7),
    "microsomes, Patki 2003": Pathway("microsomes", CLint=180 / 3.9, enzyme="CYP3A4"),
    "microsomes, Paine 1997": Pathway("microsomes", CLint=850 / 4.0, enzyme="CYP3A4"),
    "microsomes, Ito 2003": Pathway("microsomes", CLint=4410 / 3.8, enzyme="CYP3A4"),
    "CYP3A4, Galetin 2004": Pathway("recombinant", CLint=1.96 / 2.69, enzyme="CYP3A4"),
    "CYP3A4, Huang 2004": Pathway("recombinant", CLint=1.84 + 0.16, enzyme="CYP3A4"),
    "CYP3A4, Wang 2019": Pathway("recombinant", CLint=5.23 / 2.16, enzyme="CYP3A4"),
}
OTHER_VALUES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("fup 0.017, Obach 2008", {"fup": 0.017}),
    ("fup 0.022, Lown 1995", {"fup": 0.022}),
    ("fup 0.05, Obach 1999", {"fup": 0.05}),
    ("BP 0.53, Obach 1999", {"BP": 0.53}),
    ("logP 2.44, OPERA", {"logP": 2.444}),
    ("logP 3.53, Wang 2019", {"logP": 3.53}),
    ("CL 4.4 mL/min/kg, Pecking 2002 (PMC1874433)", {"CL": 4.4 * 0.06}),
    ("ka 3.04 1/h and Fa 0.88, PBPK_PC", {"ka_given": 3.04, "Fa_given": 0.88}),
)
KP_METHODS = ("poulin-theil", "berezhkovskiy", "pk-sim", "schmitt", "schmitt-pearce")


@dataclass(frozen=True)
class Config:
    """The flags."""

    people: str = "reference"
    n: int = 30
    seed: int = 1


def everything(config: Config) -> Iterator[tuple[str, dict[str, float]]]:
    """Yields what was changed, and the scores."""
    whole = [profile for profile in midazolam_studies.load() if not midazolam_studies.unsuitable(profile)]
    profiles = [midazolam_studies.counted(profile) for profile in whole]
    drug = Compound.load("midazolam")
    setting = midazolam.Config(people=config.people, n=config.n, seed=config.seed)
    for clearance in ("observed", "in-vitro"):
        yield f"as shipped, {clearance} clearance", scored(profiles, setting, clearance, drug)
    for name, pathway in IN_VITRO.items():
        yield f"in vitro: {name}", scored(profiles, setting, "in-vitro", drug.replace(pathways=(pathway,)))
    for name, changes in OTHER_VALUES:
        yield name, scored(profiles, setting, "observed", drug.replace(**changes))
    for method in KP_METHODS:
        yield f"Kp by {method}", scored(profiles, replace(setting, Kp_method=method), "observed", drug)
    for name, others in other_rules(whole).items():
        yield f"scored: {name}", scored(others, setting, "observed", drug)


def other_rules(whole: list[Profile]) -> dict[str, list[Profile]]:
    """Returns the profiles that other rules of scoring would compare."""
    after = [p.keep((p.time > 0) & (p.value > 0) & (p.value >= p.LLOQ)) for p in whole]
    low = [
        p.keep((p.value > 0) & np.isin(p.time, midazolam_studies.counted(replace(p, LLOQ=0.0)).time))
        for p in whole
    ]
    counted = [midazolam_studies.counted(p) for p in whole]
    gorski = [replace(p, fluid="plasma") for p in counted]
    persons = [
        midazolam_studies.counted(p)
        for p in midazolam_studies.load()
        if p.kind != "aggregated" and not midazolam_studies.unsuitable(replace(p, kind="aggregated"))
    ]
    return {
        "intravenous points from the first sample": after,
        "points below the limit of quantification too": low,
        "blood of Gorski 1998 and 2003 taken as serum": gorski,
        "without Allonen 1981": [p for p in counted if p.study != "Allonen 1981"],
        "single persons and typical representatives instead": persons,
    }


def scored(
    profiles: list[Profile], config: midazolam.Config, clearance: str, drug: Compound
) -> dict[str, float]:
    """Predicts and scores."""
    predicted = midazolam.predict(profiles, config, clearance, drug)
    points = score(np.concatenate(predicted), np.concatenate([p.value for p in profiles]))
    observed = [exposure(p.time, p.value, p.route)[0] for p in profiles]
    ours = [exposure(p.time, C, p.route)[0] for p, C in zip(profiles, predicted, strict=True)]
    AUC = score(ours, observed)
    return {
        "points": sum(len(p.time) for p in profiles),
        "AAFE": points["AAFE"],
        "bias": points["bias"],
        "AAFE of AUC": AUC["AAFE"],
        "bias of AUC": AUC["bias"],
        "AUC within 2-fold": AUC["within 2-fold"],
    }


def run(config: Config) -> dict[str, Any]:
    """Scores every change and draws one bar each."""
    result = dict(everything(config))
    _figure(result)
    return result


def _figure(result: dict[str, dict[str, float]]) -> None:
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 7))
    names = list(result)[::-1]
    axis.barh(names, [result[name]["AAFE"] - 1 for name in names], left=1)
    for limit in (1.6, 2.0):
        axis.axvline(limit, color="0.5", linestyle=":")
    axis.set_xlabel("AAFE of all concentrations (dotted: 1.6 and 2.0)")
    figure.tight_layout()
    figure.savefig(record.folder("midazolam_inputs") / "inputs.png", dpi=110)


if __name__ == "__main__":
    record.main("midazolam_inputs", Config, run, __doc__)
