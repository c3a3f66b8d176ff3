"""Are the bodies that the organ layer makes right on average, as different as people are, and lawful?

Question: how often do its typical bodies and its raw draws break a law; whose body can never be lawful; how
far are its organs from the reference people of ICRP 89, and its spread from what autopsies and scans found?
Source: 15,821 people of NHANES 2013-2018; VPOP_DATA/organs/reference_values.csv (ICRP 89); laws of pbpk.laws.
Command: VPOP_DATA=... python -m experiments.organ_layer
Measured (seed 1): any law broken by 2.6 % of typical bodies, 13.7 % of raw draws (adults 16.1, 2-<18 y 8.9,
< 2 y 12.7; means of the literature with spreads drawn independently: 71). Beside who is outside C09-C11
himself, typical bodies fail C14 (0.9 %, kidney disease) and C21 (1.1 %, BMI >= 35: fat by DXA against
Deurenberg). In 100 draws 117 people (0.74 %) never comply: 77 outside C09-C11, 40 in kidney failure. E1, E2
to 4e-16. CV of adults: liver .24-.26, kidney .23-.24, heart .20-.21, lung .29-.31, spleen .41-.43.
Figures: each organ against age and against weight, flows against age; dots are draws, lines their medians by
age, open marks the reference people of ICRP 89.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from experiments import record
from pbpk.laws import LAWS
from pbpk.organs import ORGANS, PERFUSED, PORTAL, index
from pbpk.physiology import Physiology
from vpop.organ_layer import draw, draw_lawful, means
from vpop.people import People
from vpop.reference import load_nhanes, people

NAME = "organ_layer"
COLOURS = {"M": "tab:blue", "F": "tab:red"}
MARKS = {"M": "s", "F": "o"}
TICKS = (0, 1, 5, 10, 20, 40, 80, 120, 200)
# How ICRP 89's table names our organs, where the names differ: sums of its rows, signed.
ICRP: Mapping[str, tuple[tuple[float, str], ...]] = {
    "adipose": ((1.0, "adipose_tissue_total"),),
    "bone": ((1.0, "bone"), (-1.0, "marrow_inactive")),
    "gonads": ((1.0, "testes"), (1.0, "ovaries")),
}


@dataclass(frozen=True)
class Config:
    """The flags."""

    seed: int = 1
    tries: int = 100
    dots: int = 4000


def groups(age: Tensor) -> dict[str, Tensor]:
    return {
        "all": age >= 0,
        "adults": age >= 18,
        "2-<18 y": (age >= 2) & (age < 18),
        "< 2 y": age < 2,
        ">= 65 y": age >= 65,
    }


def broken(bodies: Physiology) -> dict[str, dict[str, float]]:
    """Returns the share of bodies that break each law, per cent by age group, and any law."""
    by_law = {law.id: law.residual(bodies) > 1.0 for law in LAWS if law.counted}
    by_law["any"] = torch.stack(list(by_law.values())).any(0)
    inside = [found for law, found in by_law.items() if law not in ("C09", "C10", "C11", "any")]
    by_law["any but C09-C11"] = torch.stack(inside).any(0)
    return {
        law: {
            name: round(100 * found[who].double().mean().item(), 2)
            for name, who in groups(bodies.age).items()
        }
        for law, found in by_law.items()
        if found.any()
    }


def icrp(table: pd.DataFrame, organ: str, sex: str) -> pd.DataFrame:
    """Returns age [year], weight [kg] and mass [kg] of an organ in the reference people of one sex."""
    wide = table[table.sex == sex].pivot_table(
        index="age_y", columns="quantity", values="value", aggfunc="first"
    )
    rows = [(sign, name) for sign, name in ICRP.get(organ, ((1.0, organ),)) if name in wide]
    mass = sum(sign * wide[name] for sign, name in rows) / 1000.0
    return pd.DataFrame(
        {"age": wide.index, "BW": wide.body_weight, "height": wide.height, "mass": mass}
    ).dropna()


def ratios(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Returns our typical organ over ICRP 89's, at each of its reference people."""
    found: dict[str, dict[str, float]] = {}
    for organ in ORGANS:
        if organ == "rest":
            continue
        for sex in "MF":
            reference = icrp(table, organ, sex)
            column = {
                name: torch.tensor(reference[name].to_numpy()) for name in ("age", "BW", "height", "mass")
            }
            who = People.of(float(sex == "M"), column["age"], column["height"], column["BW"])
            ratio = means(who).mass(organ) / column["mass"]
            for age, value in zip(reference.age, ratio.tolist(), strict=True):
                found.setdefault(organ, {})[f"{sex} {age:g} y"] = round(value, 2)
    return found


def spreads(typical: Physiology, drawn: Physiology) -> dict[str, dict[str, float]]:
    """Returns the log-SD about the typical body, and the CV in adults of 20-59 years of all sizes."""
    adult = (drawn.age >= 20) & (drawn.age < 60)
    found = {}
    for organ in ORGANS:
        residual = torch.log(drawn.mass(organ) / typical.mass(organ))
        men = drawn.mass(organ)[adult & (drawn.sex == 1)]
        women = drawn.mass(organ)[adult & (drawn.sex == 0)]
        found[organ] = {
            "log-SD": round(residual.std().item(), 3),
            "CV men": round((men.std() / men.mean()).item(), 3),
            "CV women": round((women.std() / women.mean()).item(), 3),
        }
    return found


def panels(
    x: np.ndarray,
    values: Mapping[str, np.ndarray],
    sex: np.ndarray,
    references: Mapping[str, Any],
    label: str,
    file: str,
) -> None:
    """Draws one panel a quantity: dots, the median by ``x`` and sex, and reference points."""
    import matplotlib.pyplot as plt

    columns = 5
    canvas, axes = plt.subplots(
        -(-len(values) // columns),
        columns,
        figsize=(17, 3.1 * -(-len(values) // columns)),
        layout="constrained",
    )
    edges = np.quantile(x, np.linspace(0, 1, 41))
    for ax, (name, value) in zip(axes.flat, values.items(), strict=False):
        for key, colour in COLOURS.items():
            here = sex == key
            ax.plot(x[here], value[here], ".", ms=1.5, alpha=0.25, color=colour)
            bins = np.digitize(x, edges)
            middle = [(np.median(x[here & (bins == b)]), np.median(value[here & (bins == b)]))
                      for b in range(1, 41) if (here & (bins == b)).any()]  # fmt: skip
            ax.plot(*zip(*middle, strict=True), color=colour, lw=1.5)
            if name in references:
                at, reference = references[name][key]
                ax.plot(at, reference, MARKS[key], mfc="white", mec="black", ms=7)
        ax.set(title=name, yscale="log", xlabel=label)
        ax.set_xscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
        ax.set(xlim=(0, x.max()), xticks=[tick for tick in TICKS if tick < x.max()])
    for ax in axes.flat[len(values) :]:
        ax.set_axis_off()
    canvas.savefig(record.folder(NAME) / file, dpi=80)
    plt.close(canvas)


def figures(bodies: Physiology, table: pd.DataFrame, config: Config) -> None:
    some = torch.randperm(len(bodies.BW), generator=torch.Generator().manual_seed(config.seed))[: config.dots]
    some = torch.cat([some, torch.nonzero(bodies.age < 2).flatten()]).unique()
    shown = bodies[some]
    sex = np.where(shown.sex.numpy() == 1, "M", "F")
    masses = {f"{organ} [kg]": shown.mass(organ).numpy() for organ in ORGANS}
    masses |= {"FAT [kg]": shown.FAT.numpy(), "BMC [kg]": shown.BMC.numpy()}  # type: ignore[union-attr]
    by = {name: {} for name in ("age", "BW")}  # type: dict[str, dict[str, Any]]
    for organ in ORGANS[:-1]:
        at = {key: icrp(table, organ, key) for key in "MF"}
        for name, points in by.items():
            points[f"{organ} [kg]"] = {key: (at[key][name], at[key].mass) for key in "MF"}
    panels(shown.age.numpy(), masses, sex, by["age"], "age [year]", "masses_by_age.png")
    panels(shown.BW.numpy(), masses, sex, by["BW"], "weight [kg]", "masses_by_weight.png")
    flows = {
        "cardiac index [L/min/m2]": shown.CO / 60 / shown.BSA,
        "GFR [mL/min/1.73 m2]": shown.GFR / 0.06 / shown.BSA * 1.73,
        "filtration fraction [1]": shown.GFR / shown.flow("kidney") / (1 - shown.HCT),
        "liver with portal vein [% CO]": 100 * shown.flow("liver", *PORTAL) / shown.CO,
        "haematocrit [1]": shown.HCT,
    }
    flows |= {f"{organ} [% CO]": 100 * shown.flow(organ) / shown.CO for organ in PERFUSED}
    adults = table[(table.age_label == "adult") & table.quantity.str.startswith("flow_")]
    share = {(row.quantity, row.sex): row.value for row in adults.itertuples()}
    marks = {
        f"{organ} [% CO]": {key: ([35.0], [share[f"flow_{name}", key]]) for key in "MF"}
        for organ in PERFUSED
        if (f"flow_{(name := 'hepatic_artery' if organ == 'liver' else organ)}", "M") in share
    }
    panels(
        shown.age.numpy(),
        {n: v.numpy() for n, v in flows.items()},
        sex,
        marks,
        "age [year]",
        "flows_by_age.png",
    )


def run(config: Config) -> dict[str, Any]:
    folder = record.data_folder()
    frame = load_nhanes(folder / "nhanes" / "nhanes_2013_2018.csv", keep_unlawful=True)
    table = pd.read_csv(folder / "organs" / "reference_values.csv")
    who = people(frame)
    typical = means(who)

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(config.seed)

    drawn = draw(who, generator())
    lawful, complied = draw_lawful(who, generator(), tries=config.tries)
    outside = torch.stack([law.residual(typical) > 1 for law in LAWS if law.id in ("C09", "C10", "C11")]).any(
        0
    )
    figures(drawn, table, config)
    muscle = index("muscle")
    lean_adults = (drawn.age >= 20) & (drawn.age < 60) & (drawn.BMI < 30)
    return {
        "people": len(who),
        "E1, largest relative error": ((drawn.M.sum(-1) - drawn.BW) / drawn.BW).abs().max().item(),
        "E2, largest relative error": ((drawn.Q.sum(-1) - drawn.CO) / drawn.CO).abs().max().item(),
        "typical bodies, % that break": broken(typical),
        "raw draws, % that break": broken(drawn),
        "raw draws, viscera independent, % any": broken(draw(who, generator(), correlation="independent"))[
            "any"
        ],
        f"never lawful in {config.tries} draws": {
            "people": int((~complied).sum()),
            "outside C09-C11 themselves": int((~complied & outside).sum()),
            "share": round((~complied).double().mean().item(), 5),
            "median creatinine of the others": drawn.SCR[~complied & ~outside].nanmedian().item(),  # type: ignore
        },
        "log-SD of CO, drawn and lawful": [
            torch.log(b.CO / typical.CO)[complied].std().item() for b in (drawn, lawful)
        ],
        "muscle SD at a given size, adults with BMI < 30 [kg]": (drawn.M - typical.M)[lean_adults, muscle]
        .std()
        .item(),
        "spread": spreads(typical, drawn),
        "typical organ / ICRP 89": ratios(table),
    }


if __name__ == "__main__":
    record.main(NAME, Config, run, __doc__)
