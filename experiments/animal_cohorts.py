"""Do the animals that are drawn differ as individual animals do?

Half of the animals are left out (within study, sex, dose group and, for mice, generation), twenty times anew:
rabbits come in groups of five, and one half alone says little of their spread.
From the others are learnt: for each organ its exponent on the body weight within those groups, the residual
spread (about the groups' own means, with the lost degrees of freedom given back) and the residual
correlations, shrunk towards those of all species together. Cohorts are then drawn by
:func:`allometry.cohorts.sample` at the body weights of the animals left out, twenty for each, and compared
with these: the share inside the 90 % interval, the residual spread and the residual correlations about the
groups' means. ``--save`` learns from all animals and writes the tables that the package ships; the scores are
those of the halves.

Levels are of the untreated groups; exponents, spreads and correlations use every dose group about its own
mean. rat_PointCross and rat_Nimble are left out (weights of organs that do not fit their bodies);
rat_instem's body weight is the last one alive. A weight five robust standard deviations from the law of its
group is taken for an error of recording, in either half. The borrowed and the assumed are not scored: there
is nothing to score them by.

Command: VPOP_DATA=... python -m experiments.animal_cohorts --save
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from allometry import cohorts
from allometry.cohorts import Term, Variation, sample
from allometry.drugs import ANIMALS
from experiments import record
from pbpk.bodies import SIZE_EXPONENT, reference_body
from pbpk.organs import ORGANS

SEND = "individual animals of open toxicity studies (SEND organ weights: {})"
SVENSON = "individual outbred mice, Svenson et al. 2012 doi:10.1534/genetics.111.132597"
STUDIES = {
    "rat": ("rat_PDS", "rat_instem"),
    "rabbit": ("rabbit_CBER2", "rabbit_CBER4"),
    "monkey": ("monkey_FFU",),
}
CONTROLS = {
    "rat_PDS": ("01", "02", "13", "14"),
    "rat_instem": ("1",),
    "rabbit_CBER2": ("1M", "1R"),
    "rabbit_CBER4": ("G1A1", "G1A2"),
    "monkey_FFU": ("1",),
}
WEIGHED = ("brain", "heart", "kidney", "liver", "spleen", "lung")
_PRIOR = 50.0  # animals that the correlations of all species together are worth [ours]
_FEWEST = 40  # animals from which a species has an exponent, and the difference of its sexes
_CHANCE = 0.6745 * 2**0.5  # the median of |difference| of two halves, each as uncertain as the other
_MICE = 5  # a group of mice has so many at least, or its mean is not worth taking


@dataclass(frozen=True)
class Config:
    """The command-line flags."""

    splits: int = 20
    copies: int = 20
    save: bool = False


@dataclass(frozen=True)
class Animals:
    """Individual animals: the logarithms of their weight and organs [kg], and the groups they belong to."""

    BW: np.ndarray
    organs: dict[str, np.ndarray]
    group: np.ndarray
    male: np.ndarray
    control: np.ndarray
    source: str

    def take(self, which: np.ndarray) -> Animals:
        """Returns the animals ``which``."""
        organs = {name: values[which] for name, values in self.organs.items()}
        rest = (self.group[which], self.male[which], self.control[which], self.source)
        return Animals(self.BW[which], organs, *rest)


def load(folder: Path) -> dict[str, Animals]:
    """Reads the individual animals of each species."""
    frame = pd.read_csv(folder / "body" / "send_organ_weights.csv", dtype={"set": str})
    found = {}
    for species, studies in STUDIES.items():
        part = frame[frame["study"].isin(studies)]
        BW = part["lastbw"].where(part["study"] == "rat_instem", part["termbw"]).astype(float)
        BW = BW.where(BW < 15.0, BW / 1e3) if species != "rat" else BW / 1e3  # some rabbits are in g
        control = [group in CONTROLS[study] for study, group in zip(part["study"], part["set"], strict=True)]
        found[species] = Animals(
            np.log(BW.to_numpy()),
            {
                o: np.log(part[f"{o}_g"].to_numpy(float) / 1e3)
                for o in WEIGHED
                if part[f"{o}_g"].notna().any()
            },
            (part["study"] + part["sex"] + part["set"]).to_numpy(object),
            (part["sex"] == "M").to_numpy(float),
            np.array(control),
            SEND.format(", ".join(studies)),
        )
    found["mouse"] = _mice(folder)
    return {species: _without_errors(a) for species, a in found.items()}


def _without_errors(animals: Animals) -> Animals:
    """Returns the animals without weights that lie five robust standard deviations from their group's law."""
    organs = {}
    for organ, values in animals.organs.items():
        residual = slope(animals, organ)[1]
        robust = np.nanmedian(np.abs(residual)) / 0.6745
        organs[organ] = np.where(np.abs(residual) > 5.0 * robust, np.nan, values)
    return dataclasses.replace(animals, organs=organs)


def _mice(folder: Path) -> Animals:
    frame = pd.read_csv(folder / "body" / "mouse_DO_svenson.csv")
    frame = frame[frame["heart_wt"].notna() & (frame["spleen_wt"] < 0.3)]  # a few spleens are ill
    organs = {
        "heart": frame["heart_wt"],
        "kidney": frame["kidney_wt_l"] + frame["kidney_wt_r"],
        "spleen": frame["spleen_wt"],
        "adipose": frame["ftm2"],
        "bone": frame["bmc2"],
    }
    return Animals(
        np.log(frame["necr_wt"].to_numpy(float) / 1e3),
        {name: np.log(values.to_numpy(float) / 1e3) for name, values in organs.items()},
        (frame["sex"] + frame["diet"] + frame["gen"].astype(str)).to_numpy(object),
        (frame["sex"] == "M").to_numpy(float),
        (frame["diet"] == "chow").to_numpy(),
        SVENSON,
    )


def within(values: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns values about their groups' means, and how many means were taken."""
    known = ~np.isnan(values)
    means = pd.Series(values).groupby(group).transform("mean").to_numpy()
    return values - means, len(set(group[known]))


def slope(animals: Animals, organ: str) -> tuple[float, np.ndarray, int]:
    """Returns the exponent within groups, the residuals (n,) and the degrees of freedom lost."""
    y = animals.organs[organ]
    x = np.where(np.isnan(y), np.nan, animals.BW)
    (dy, groups), (dx, _) = within(y, animals.group), within(x, animals.group)
    if np.sum(~np.isnan(y)) <= groups + 1:
        return float("nan"), np.full_like(dy, np.nan), groups + 1
    b = float(np.nansum(dx * dy) / np.nansum(dx**2))
    return b, dy - b * dx, groups + 1


def spread(residual: np.ndarray, lost: int) -> float:
    """Returns the standard deviation of residuals, with the lost degrees of freedom given back."""
    return float(np.sqrt(np.nansum(residual**2) / (np.sum(~np.isnan(residual)) - lost)))


def learn(animals: dict[str, Animals]) -> tuple[dict[str, dict], dict[str, dict]]:
    """Returns by species the terms (organ -> Term, n, source) and the correlations (pair -> r, n, source)."""
    fits = {s: {o: slope(a, o) for o in a.organs} for s, a in animals.items()}
    fits = {s: {o: f for o, f in fit.items() if not np.isnan(f[0])} for s, fit in fits.items()}
    pooled_slope = {
        o: _mean([f[o][0] for s, f in fits.items() if o in f and s in ("rat", "rabbit")]) for o in WEIGHED
    }
    pairs = {s: _correlations(fit) for s, fit in fits.items()}
    pooled = _pooled(pairs.values())
    terms: dict[str, dict] = {}
    correlation: dict[str, dict] = {}
    for species, a in animals.items():
        few = len(a.BW) < _FEWEST
        terms[species] = {}
        for organ, (own, residual, lost) in fits[species].items():
            b = pooled_slope[organ] if few else own
            level, male = _level(a, organ, b, species, few)
            n = int(np.sum(~np.isnan(residual)))
            note = " (exponent of rats and rabbits)" if few else ""
            terms[species][organ] = (Term(level, b, male, spread(residual, lost)), n, a.source + note)
        correlation[species] = {
            pair: ((n * r + _PRIOR * pooled.get(pair, 0.0)) / (n + _PRIOR), n, a.source)
            for pair, (r, n) in pairs[species].items()
        }
    correlation["pooled"] = {
        pair: (r, 0, "borrowed: rats, rabbits and mice together") for pair, r in pooled.items()
    }
    return terms, correlation


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 1.0


def _correlations(fit: dict[str, tuple]) -> dict[tuple[str, str], tuple[float, int]]:
    found = {}
    for a, b in itertools.combinations(sorted(fit), 2):
        x, y = fit[a][1], fit[b][1]
        both = ~np.isnan(x + y)
        if both.sum() > 2:
            r = np.sum(x[both] * y[both]) / np.sqrt(np.sum(x[both] ** 2) * np.sum(y[both] ** 2))
            found[a, b] = (float(r), int(both.sum()))
    return found


def _pooled(parts: Any) -> dict[tuple[str, str], float]:
    """Returns the correlations of all species together, each weighted by its animals."""
    total: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for part in parts:
        for pair, (r, n) in part.items():
            total.setdefault(pair, []).append((r, min(n, 250)))
    return {pair: sum(r * n for r, n in found) / sum(n for _, n in found) for pair, found in total.items()}


def _level(a: Animals, organ: str, b: float, species: str, few: bool) -> tuple[float, float]:
    """Returns the organ's mass at the reference weight in untreated animals [kg], and ln(male/female)."""
    own = float(reference_body(species).BW)
    at = a.organs[organ] - b * (a.BW - np.log(own))
    at = np.where(a.control, at, np.nan)
    sexes = [np.nanmean(at[a.male == sex]) for sex in (0.0, 1.0) if (a.male == sex).any()]
    if organ in (
        "adipose",
        "bone",
    ):  # DXA's fat and mineral are no organs: their spread is taken, not their level
        return float("nan"), 0.0
    male = sexes[1] - sexes[0] if len(sexes) == 2 and not few else 0.0
    return float(np.exp(np.mean(sexes))), float(male)


SEALS = "Cape fur seals at given body weight (Stewardson et al. 1999, as cfseal in the R package DAAG)"
MOUSE_LIVER = (0.119, "1,581 LG/J x SM/J F3 mice at given sex, weight and tail length")
ASSUMED = "assumed [ours]: no individual animals were found"
OTHERS: dict[str, Any] = {  # of quantities that were not weighed in the species: sd and source
    "M_adipose": "borrowed: mouse, " + SVENSON,
    "M_bone": "borrowed: mouse, " + SVENSON,
    "M_stomach": (0.164, f"borrowed: 29 {SEALS}"),
    "M_small_intestine": (0.194, f"borrowed: 24 {SEALS}, intestines together"),
    "M_large_intestine": (0.194, f"borrowed: 24 {SEALS}, intestines together"),
    "M_lung": "borrowed: rabbit, " + SEND.format("rabbit_CBER4"),
}


def tables(
    terms: dict[str, dict], correlation: dict[str, dict], hct: float, weight: dict[str, float]
) -> tuple:
    """Returns the rows of the two shipped tables."""
    rows, pairs = [], []
    for species in ANIMALS:
        own = terms.get(species, {})
        for organ in ORGANS:
            name = f"M_{organ}"
            if organ in cohorts.CLOSING:
                term, n, source = Term(float("nan"), 1.0, 0.0, 0.0), 0, "closes the masses on BW"
            elif organ in own:
                term, n, source = own[organ]
            else:
                term, n, source = _borrowed(organ, species, terms)
            rows.append((species, name, term, n, source))
        for name, (sd, source) in _rates(hct).items():
            exponent = SIZE_EXPONENT if name in ("CO", "GFR") else 0.0
            rows.append((species, name, Term(float("nan"), exponent, 0.0, sd), 0, source))
        sd, source = (
            weight.get(species, weight["rat"]),
            "spread of body weight within sex and untreated group",
        )
        source = source if species in weight else "borrowed: rat, " + source
        rows.append((species, "BW", Term(float("nan"), 0.0, 0.0, sd), 0, source))
        found = dict(correlation["pooled"]) | correlation.get(species, {})
        for (a, b), (r, n, source) in sorted(found.items()):
            pairs.append((species, f"M_{a}", f"M_{b}", r, n, source))
    return rows, pairs


def _borrowed(organ: str, species: str, terms: dict[str, dict]) -> tuple[Term, int, str]:
    """Returns the term of an organ that was not weighed in a species: the reference's level, exponent 1."""
    if (species, organ) == ("mouse", "liver"):
        return Term(float("nan"), 1.0, 0.0, MOUSE_LIVER[0]), 0, MOUSE_LIVER[1]
    if organ in WEIGHED and organ != "lung":
        sd = float(np.median([terms[s][organ][0].sd for s in terms if organ in terms[s]]))
        return Term(float("nan"), 1.0, 0.0, sd), 0, "borrowed: median spread of the species that were weighed"
    given = OTHERS.get(f"M_{organ}")
    if given is None:
        return Term(float("nan"), 1.0, 0.0, 0.15), 0, ASSUMED
    if isinstance(given, tuple):
        return Term(float("nan"), 1.0, 0.0, given[0]), 0, given[1]
    donor = "rabbit" if organ == "lung" else "mouse"
    return Term(float("nan"), 1.0, 0.0, terms[donor][organ][0].sd), 0, given


def _rates(hct: float) -> dict[str, tuple[float, str]]:
    return {
        "CO": (
            0.15,
            "assumed [ours]: between 29.0 +- 2.4 mL/min/100 g in rats (microspheres, 1980) and the 18 % of "
            "people in doi:10.1155/2012/760281 table 2",
        ),
        "GFR": (
            0.14,
            "10 conscious rats, FITC-inulin by osmotic pump: 2.31 +- 0.33 mL/min; male F344 rats 40 to 60 "
            "mL/min/m2 (J Appl Toxicol 2011 31:360) say 0.10",
        ),
        "HCT": (hct, "robust spread within sex and diet, " + SVENSON),
        "flow": (0.2, "assumed [ours]: people's organ flows at given mass and CO vary by 15 to 20 %"),
    }


def score(
    train: dict[str, Animals], test: dict[str, Animals], copies: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Draws cohorts for the animals left out and compares."""
    terms, correlation = learn(train)
    rows, pairs = tables(terms, correlation, 0.05, {"rat": 0.08})
    result: dict[str, Any] = {}
    for species, left in test.items():
        spread_of = Variation(
            {name: term for s, name, term, *_ in rows if s == species},
            {(a, b): r for s, a, b, r, *_ in pairs if s == species},
        )
        generator = torch.Generator().manual_seed(seed)
        BW = torch.from_numpy(np.tile(np.exp(left.BW), copies))
        drawn = sample(species, len(BW), BW, generator, spread_of).physiology
        result[species] = _compare(left, train[species], terms[species], drawn, species)
    return result


def _compare(left: Animals, train: Animals, terms: dict, drawn: Any, species: str) -> dict[str, Any]:
    own = float(reference_body(species).BW)
    drawn_residual, real_residual, entry = {}, {}, {}
    for organ in left.organs.keys() & terms.keys():
        term = terms[organ][0]
        level = float(reference_body(species).mass(organ)) if np.isnan(term.level) else term.level
        law = np.log(level) + term.exponent * (drawn.BW / own).log() + term.male * (drawn.sex - 0.5)
        deviate = (drawn.mass(organ).log() - law).numpy()
        expected = left.organs[organ] - term.exponent * left.BW
        base = (
            pd.Series(train.organs[organ] - term.exponent * train.BW)
            .groupby(train.group)
            .agg(["mean", "count"])
        )
        mean, count = (base[name].reindex(left.group).to_numpy(float) for name in ("mean", "count"))
        residual = expected - mean
        widen = np.sqrt(
            1.0 + 1.0 / np.where(count > 0, count, np.nan)
        )  # the group's mean is known from so many animals only
        low, high = np.quantile(deviate, [0.05, 0.95])
        ok = ~np.isnan(residual)
        own_residual, lost = within(np.where(np.isnan(left.organs[organ]), np.nan, expected), left.group)
        real_residual[organ], drawn_residual[organ] = own_residual, deviate
        n = int(np.sum(~np.isnan(own_residual)))
        entry[organ] = {
            "n": n,
            "coverage_90": float(np.mean((residual >= low * widen)[ok] & (residual <= high * widen)[ok])),
            "sd_drawn": float(deviate.std()),
            "sd_left_out": spread(own_residual, lost),
            "sd_error": float(1.0 / np.sqrt(2.0 * max(n - lost, 1))),
        }
        entry[organ]["sd_ratio"] = entry[organ]["sd_drawn"] / entry[organ]["sd_left_out"]
    pairs = {}
    for a, b in itertools.combinations(sorted(real_residual), 2):
        x, y = real_residual[a], real_residual[b]
        both = ~np.isnan(x + y)
        real = float(np.corrcoef(x[both], y[both])[0, 1])
        free = both.sum() - len(set(left.group[both])) - 1
        pairs[f"{a}-{b}"] = {
            "left_out": real,
            "drawn": float(np.corrcoef(drawn_residual[a], drawn_residual[b])[0, 1]),
            "error": float((1 - real**2) / np.sqrt(free)) if free > 1 else float("nan"),
        }
    return {"organs": entry, "pairs": pairs}


def halves(animals: Animals, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns two halves of the animals, each with about half of every group; groups of one are left out."""
    generator = np.random.default_rng(seed)
    first = np.zeros(len(animals.BW), bool)
    keep = np.ones(len(animals.BW), bool)
    for group in sorted(set(animals.group)):
        members = generator.permutation(np.flatnonzero(animals.group == group))
        keep[members] = len(members) >= 4
        first[members[: (len(members) + 1) // 2]] = True
    return np.flatnonzero(first & keep), np.flatnonzero(~first & keep)


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns what the bars ask for, by species: means over the halves, and medians of each organ."""
    return {
        species: _organs([result[species]["organs"] for result in results])
        | _pairs([result[species]["pairs"] for result in results])
        for species in results[0]
    }


def _organs(halves: list[dict[str, Any]]) -> dict[str, Any]:
    ratio = {name: np.array([half[name]["sd_ratio"] for half in halves]) for name in sorted(halves[0])}
    inside = [
        np.average([o["coverage_90"] for o in half.values()], weights=[o["n"] for o in half.values()])
        for half in halves
    ]
    return {
        "animals_left_out": max(organ["n"] for organ in halves[0].values()),
        "coverage_90": float(np.mean(inside)),
        "organs": len(ratio),
        "sd_within_15": float(sum(np.mean(np.abs(values - 1.0) <= 0.15) for values in ratio.values())),
        "sd_ratio_median": {name: float(np.median(values)) for name, values in ratio.items()},
        "sd_ratio_spread": {name: float(np.std(np.log(values))) for name, values in ratio.items()},
    }


def _pairs(halves: list[dict[str, Any]]) -> dict[str, Any]:
    drawn, real, error = (
        np.array([[pair[key] for pair in half.values()] for half in halves])
        for key in ("drawn", "left_out", "error")
    )
    off, mean = np.abs(drawn - real), np.abs(drawn.mean(0) - real.mean(0))
    return {
        "pairs": off.shape[1],
        "correlations_within_0.1": float((off <= 0.1).sum(1).mean()),
        "correlation_median_off": float(np.median(off, 1).mean()),
        "correlation_median_off_by_chance": float(np.nanmedian(_CHANCE * error, 1).mean()),
        "mean_correlations_within_0.1": int((mean <= 0.1).sum()),
        "mean_correlation_largest_off": float(mean.max()),
    }


def save(animals: dict[str, Animals], folder: Path) -> None:
    """Learns from all animals and writes the tables that the package ships."""
    terms, correlation = learn(animals)
    mice = pd.read_csv(folder / "body" / "mouse_DO_svenson.csv")
    log = np.log(mice["hct2"].to_numpy(float))
    about, _ = within(log, (mice["sex"] + mice["diet"]).to_numpy(object))
    low, high = np.nanquantile(about, [0.25, 0.75])
    weight = {}
    for species, a in animals.items():
        about_mean, groups = within(np.where(a.control, a.BW, np.nan), a.group)
        if np.sum(~np.isnan(about_mean)) > 2 * groups:
            weight[species] = spread(about_mean, groups)
    rows, pairs = tables(terms, correlation, float((high - low) / 1.349), weight)
    to = Path(cohorts.__file__).parent / "data"
    with (to / "animal_variation.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("species", "quantity", "level", "exponent", "male", "sd", "n", "source"))
        for species, name, term, n, source in rows:
            level = "" if np.isnan(term.level) else f"{term.level:.5g}"
            writer.writerow(
                (
                    species,
                    name,
                    level,
                    f"{term.exponent:.4g}",
                    f"{term.male:.4g}",
                    f"{term.sd:.4g}",
                    n,
                    source,
                )
            )
    with (to / "animal_correlation.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("species", "a", "b", "r", "n", "source"))
        writer.writerows((s, a, b, f"{r:.3f}", n, source) for s, a, b, r, n, source in pairs)


def draw(left: Animals) -> None:
    """Draws the median and the 90 % band of rats that are drawn, beside untreated rats left out."""
    from pbpk.report import figure

    generator = torch.Generator().manual_seed(1)
    rats = sample("rat", 40_000, (0.15, 0.5), generator).physiology
    edges = torch.logspace(np.log10(0.15), np.log10(0.5), 25, dtype=torch.float64)
    bin_of = torch.bucketize(rats.BW, edges[1:-1])
    middle = (edges[1:] * edges[:-1]).sqrt()
    fig, axes = figure(11.0, 3.2, ncols=4)
    for axis, organ in zip(axes, ("brain", "heart", "kidney", "liver"), strict=True):
        for sex, colour in ((0.0, "#c8a45c"), (1.0, "#2f6690")):
            mass = 1e3 * rats.mass(organ)
            ends = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
            band = torch.stack([mass[(bin_of == b) & (rats.sex == sex)].quantile(ends) for b in range(24)])
            axis.fill_between(middle, band[:, 0], band[:, 2], color=colour, alpha=0.2, lw=0)
            axis.plot(middle, band[:, 1], color=colour, lw=1.0)
            own = left.control & (left.male == sex)
            axis.plot(np.exp(left.BW[own]), 1e3 * np.exp(left.organs[organ][own]), "o", ms=3.5, color=colour)
        axis.set(xscale="log", yscale="log", xlabel="body weight [kg]", title=f"{organ} [g]")
        axis.minorticks_off()
        axis.set_xticks([0.2, 0.3, 0.5], ["0.2", "0.3", "0.5"])
    fig.savefig(record.folder("animal_cohorts") / "animal_cohorts.png", dpi=110)


def run(config: Config) -> dict[str, Any]:
    """Scores the halves, and saves the tables where asked."""
    folder = record.data_folder()
    animals = load(folder)
    results = []
    for seed in range(config.splits):
        parts = {species: halves(a, seed) for species, a in animals.items()}
        train = {species: a.take(parts[species][0]) for species, a in animals.items()}
        test = {
            species: a.take(parts[species][1]) for species, a in animals.items() if len(parts[species][1])
        }
        results.append(score(train, test, config.copies, seed))
    draw(test["rat"])
    if config.save:
        save(animals, folder)
    return summary(results)


if __name__ == "__main__":
    record.main("animal_cohorts", Config, run, __doc__)
