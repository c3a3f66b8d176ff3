r"""Does a body that was fitted to nothing predict midazolam in healthy adults, in a vein and by mouth?

Question: single doses in healthy adults, mean profiles, without a perpetrator: AUC, Cmax and every
concentration, predicted in people like those of each study, with the observed intravenous clearance (the gut
wall by the Qgut model) and from in-vitro intrinsic clearance alone. No parameter is fitted to these curves.
Source: VPOP_DATA/observed/human_profiles.csv; :mod:`experiments.midazolam_studies` says what qualifies.
Command: VPOP_DATA=... python -m experiments.midazolam [--people reference|pcdm] [--n 100]
Measured: fold errors of AUC and Cmax (those of the samples, of the prediction too) and of all concentrations;
a mean is compared with the same mean, arithmetic or geometric, over the people; beside each, the constant.
Bar: AUC and Cmax within 2-fold for 80 % of the profiles; AAFE of all points at most 1.6 (observed clearance)
and 2.0 (in vitro). PK-Sim's own model, fitted to part of these curves, scores 1.45.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from experiments import record
from experiments.midazolam_studies import PEOPLE, People, counted, fluid, load, regimen, unsuitable
from experiments.observed import Profile, constant, exposure, score
from pbpk.bodies import reference_body
from pbpk.compound import Compound
from pbpk.physiology import Physiology
from pbpk.regimen import Regimen
from pbpk.simulate import simulate

HEALTHY_BMI = "BMI >= 18.5 and BMI <= 30"


@dataclass(frozen=True)
class Config:
    """The flags."""

    people: str = ""  # "pcdm", "reference", or "" for pcdm where its weights ship
    n: int = 100
    seed: int = 1
    Kp_method: str = "rodgers-rowland"


@cache
def matched(who: People, n: int, people: str = "", seed: int = 1) -> Physiology:
    """Returns people like those of a study.

    Arguments:
        who: Their age and sex.
        n: How many, for ``"pcdm"``.
        people: ``"pcdm"`` draws them from the shipped model, BMI 18.5 to 30; ``"reference"`` takes the
            reference man and woman, or one of them; ``""`` is pcdm where its weights ship.
        seed: Of the drawing.
    """
    if people != "reference":
        from vpop.pcdm import PCDM

        try:
            model = PCDM.load()
        except ValueError:
            if people == "pcdm":
                raise
        else:
            return model.sample(n, seed=seed, age=who.age, sex=who.sex, where=HEALTHY_BMI).physiology
    age = sum(who.age) / 2
    bodies = [reference_body("human", sex=sex, age=age) for sex in ("MF" if who.sex is None else who.sex)]
    fields = bodies[0].tensors()
    return Physiology("human", **{name: torch.stack([b.tensors()[name] for b in bodies]) for name in fields})


def predict(
    profiles: Sequence[Profile], config: Config, clearance: str, compound: Compound | None = None
) -> list[np.ndarray]:
    """Returns the predicted mean concentrations of each profile at its times [mg/L]; midazolam as bundled."""
    compound = compound or Compound.load("midazolam")
    answer = []
    for profile in profiles:
        bodies = matched(PEOPLE.get(profile.study, People()), config.n, config.people, config.seed)
        simulation = simulate(
            bodies,
            compound,
            Regimen.parse(regimen(profile)),
            torch.as_tensor(profile.time),
            clearance=clearance,
            Kp_method=config.Kp_method,
            keep=["venous"],
        )
        C = simulation.concentration(fluid(profile)).detach().numpy()
        answer.append(np.exp(np.log(C).mean(0)) if profile.mean == "geometric" else C.mean(0))
    return answer


def table_of(profiles: Sequence[Profile], predicted: Sequence[np.ndarray], config: Config) -> Any:
    """Returns one row a profile: what was observed, predicted, and said by the constant of the others."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for profile, C in zip(profiles, predicted, strict=True):
        bodies = matched(PEOPLE.get(profile.study, People()), config.n, config.people, config.seed)
        AUC, Cmax = exposure(profile.time, profile.value, profile.route)
        AUC_predicted, Cmax_predicted = exposure(profile.time, C, profile.route)
        rows.append(
            {
                "profile": profile.name,
                "study": profile.study,
                "route": profile.route,
                "formulation": profile.formulation,
                "food": profile.food,
                "fluid": fluid(profile),
                "mean": profile.mean,
                "dose": regimen(profile),
                "mg": profile.mg(float(bodies.BW.mean())),
                "points": len(profile.time),
                "tlast": profile.time[-1],
                "AUC": AUC,
                "AUC predicted": AUC_predicted,
                "AUC ratio": AUC_predicted / AUC,
                "Cmax": Cmax,
                "Cmax predicted": Cmax_predicted,
                "Cmax ratio": Cmax_predicted / Cmax,
                "AAFE": score(C, profile.value)["AAFE"],
                "bias": score(C, profile.value)["bias"],
            }
        )
    table = pd.DataFrame(rows)
    for route, part in table.groupby("route"):
        for name in ("AUC", "Cmax"):
            values = [np.array([value]) for value in part[name]]
            said = constant(values, list(part["mg"]), list(part["study"]))
            table.loc[table.route == route, f"{name} constant"] = np.concatenate(said)
    return table


def summary(profiles: Sequence[Profile], predicted: Sequence[np.ndarray], table: Any) -> dict[str, Any]:
    """Scores AUC, Cmax and all points, and beside each the constant predictor."""
    observed = [profile.value for profile in profiles]
    said: list[np.ndarray] = [np.empty(0)] * len(profiles)
    for route in ("iv", "po"):
        at = [i for i, profile in enumerate(profiles) if profile.route == route]
        studies = [profiles[i].study for i in at]
        constants = constant([observed[i] for i in at], list(table["mg"].iloc[at]), studies)
        said = [constants[at.index(i)] if i in at else old for i, old in enumerate(said)]
    answer: dict[str, Any] = {}
    for group in ("all", "iv", "po"):
        at = [i for i, profile in enumerate(profiles) if group in ("all", profile.route)]
        rows = table.iloc[at]
        all_points = np.concatenate([observed[i] for i in at])
        answer[group] = {
            "profiles": len(at),
            "studies": int(rows.study.nunique()),
            "points": len(all_points),
            "AUC": score(rows["AUC predicted"], rows["AUC"]),
            "AUC, constant": score(rows["AUC constant"], rows["AUC"]),
            "Cmax": score(rows["Cmax predicted"], rows["Cmax"]),
            "Cmax, constant": score(rows["Cmax constant"], rows["Cmax"]),
            "concentrations": score(np.concatenate([predicted[i] for i in at]), all_points),
            "concentrations, constant": score(np.concatenate([said[i] for i in at]), all_points),
        }
    return answer


def run(config: Config) -> dict[str, Any]:
    """Screens the profiles, predicts them with each clearance, scores, and draws."""
    import pandas as pd

    folder = record.folder("midazolam")
    everything = load()
    reasons = [unsuitable(profile) for profile in everything]
    screened = pd.DataFrame({"profile": [p.name for p in everything], "excluded because": reasons})
    screened.to_csv(folder / "screening.csv", index=False)
    whole = [profile for profile, reason in zip(everything, reasons, strict=True) if not reason]
    profiles = [counted(profile) for profile in whole]
    bodies = matched(People(), config.n, config.people, config.seed)
    result: dict[str, Any] = {
        "people where not known": f"{len(bodies.BW)} bodies of {float(bodies.BW.mean()):.1f} kg on average",
        "excluded profiles": screened.loc[screened.iloc[:, 1] != "", "excluded because"]
        .value_counts()
        .to_dict(),
        "excluded points": sum(len(a.time) - len(b.time) for a, b in zip(whole, profiles, strict=True)),
    }
    predictions = {}
    for clearance in ("observed", "in-vitro"):
        predicted = predict(profiles, config, clearance)
        table = table_of(profiles, predicted, config)
        table.to_csv(folder / f"profiles_{clearance}.csv", index=False)
        result[clearance] = summary(profiles, predicted, table)
        predictions[clearance] = predicted
    metrics = pd.read_csv(record.data_folder() / "observed" / "pksim_qualification_metrics.csv")
    theirs = metrics[metrics.drug == "Midazolam"]
    result["PK-Sim, fitted to part of these"] = dict(zip(theirs.scope, theirs.gmfe, strict=True))
    result["bars met"] = bars(result)
    _figures(profiles, predictions, config)
    return result


def bars(result: Mapping[str, Any]) -> dict[str, bool]:
    """Returns which bars are met."""
    met = {}
    for clearance, limit in (("observed", 1.6), ("in-vitro", 2.0)):
        scores = result[clearance]["all"]
        for name in ("AUC", "Cmax"):
            met[f"{clearance}: {name} within 2-fold for 80 %"] = scores[name]["within 2-fold"] >= 0.8
        met[f"{clearance}: AAFE of all points <= {limit}"] = scores["concentrations"]["AAFE"] <= limit
    return met


COLOUR = {"iv": "tab:blue", "po": "tab:orange"}


def _figures(
    profiles: Sequence[Profile], predictions: Mapping[str, Sequence[np.ndarray]], config: Config
) -> None:
    import matplotlib.pyplot as plt

    folder = record.folder("midazolam")
    figure, axes = plt.subplots(2, 2, figsize=(11, 9))
    for column, (clearance, predicted) in enumerate(predictions.items()):
        for profile, C in zip(profiles, predicted, strict=True):
            style = {"color": COLOUR[profile.route], "alpha": 0.4, "markersize": 4, "linestyle": "none"}
            axes[0, column].loglog(profile.value, C, "o", **style)
            axes[1, column].semilogx(profile.time, np.log10(C / profile.value), "o", **style)
        _identity(axes[0, column], f"{clearance} clearance")
        axes[1, column].set_xlabel("time after the dose [h]")
        axes[1, column].set_ylabel("log10 predicted/observed")
        for level in (-np.log10(2), 0, np.log10(2)):
            axes[1, column].axhline(level, color="0.5", linestyle="-" if level == 0 else ":")
        for route, colour in COLOUR.items():
            axes[0, column].plot([], [], "o", color=colour, label=route)
        axes[0, column].legend()
    figure.tight_layout()
    figure.savefig(folder / "predicted_observed.png", dpi=120)
    _overlay(profiles, config)


def _identity(axis: Any, title: str) -> None:
    low, high = 1e-8, 1.0
    for factor, style in ((1.0, "-"), (0.5, ":"), (2.0, ":")):
        axis.loglog([low, high], [low * factor, high * factor], color="0.5", linestyle=style, linewidth=0.8)
    axis.set_title(title)
    axis.set_xlabel("observed [mg/L]")
    axis.set_ylabel("predicted [mg/L]")


SHOWN = (
    *("Hohmann 2015 - iv 1 mg", "Saari 2006 - iv", "Gorski 1998 - iv", "Link 2008 - iv"),
    *("Hohmann 2015 - po 3 mg", "Saari 2006 - po", "Gorski 1998 - po", "Link 2008 - po"),
    *("Smith 1981 - oral solution", "Smith 1981 - oral tablet", "Backman 1996", "Bornemann 1986 - fasting"),
)


def _overlay(profiles: Sequence[Profile], config: Config) -> None:
    import matplotlib.pyplot as plt

    chosen = [next(p for p in profiles if p.name.startswith(name)) for name in SHOWN]
    fine = [Regimen.parse(regimen(p)).times(float(p.time[-1]), 100).numpy()[1:] for p in chosen]
    dense = [replace(p, time=time) for p, time in zip(chosen, fine, strict=True)]
    curves = {clearance: predict(dense, config, clearance) for clearance in ("observed", "in-vitro")}
    figure, axes = plt.subplots(3, 4, figsize=(15, 9))
    for i, (axis, profile) in enumerate(zip(axes.flat, chosen, strict=True)):
        axis.semilogy(profile.time, profile.value, "ko", markersize=4, label="observed mean")
        for clearance, line in curves.items():
            axis.semilogy(fine[i], line[i], label=f"{clearance} clearance")
        axis.set_ylim(0.5 * profile.value.min(), 4 * profile.value.max())
        arm = profile.arm.replace("Control (Perpetrator Placebo)", "").strip() or profile.route
        axis.set_title(f"{profile.study}, {arm} ({profile.amount}, {fluid(profile)})", fontsize=8)
        axis.set_xlabel("time [h]")
        axis.set_ylabel("concentration [mg/L]")
    axes.flat[0].legend()
    figure.tight_layout()
    figure.savefig(record.folder("midazolam") / "profiles.png", dpi=110)


if __name__ == "__main__":
    record.main("midazolam", Config, run, __doc__)
