r"""The studies of midazolam in healthy adults: which qualify, what was given to whom, and which points count.

The profiles are VPOP_DATA/observed/human_profiles.csv (Open Systems Pharmacology's collection). Its metadata
hold neither durations of infusion nor the volunteers: those come from the documents named beside the tables.

Rules, fixed before the first prediction was made:

- An intravenous point counts from 0.25 h on: during the first minutes the vein is not well mixed, and a bolus
  is no instant. After an infusion of 30 minutes every point counts.
- A point at or before the dose does not count, nor one below the limit of quantification, which is a
  substitute and not a measurement.
- A profile is a mean of at least two healthy adults after one dose, without a perpetrator, sampled from 1 h
  at the latest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from experiments import record
from experiments.observed import Profile, load_profiles

FIRST_IV = 0.25  # h
LONG = 0.25  # h: an infusion this long fills the sampled vein slowly enough to count from the start
PEAK_SEEN = 1.0  # h: the latest first sample that can have seen the peak
HEALTHY = (18.0, 45.0)  # years: the usual volunteer, where the study's own people are not known
MINUTE = 1 / 60

# h, from the evaluation plan and section 2.2.2 of github.com/Open-Systems-Pharmacology/Midazolam-Model;
# Gorski 1998 and Quinney 2008 also from their abstracts. The others were boluses; Yu 2004 is not known and
# taken as one.
DURATION: Mapping[str, float] = {
    "Allonen 1981": 1 * MINUTE,
    "Gorski 1998": 30 * MINUTE,
    "Gorski 2003": 30 * MINUTE,
    "Hohmann 2015": 5 * MINUTE,
    "Majumdar 2007": 2 * MINUTE,
    "Olkkola 1993": 2 * MINUTE,
    "Olkkola 1996": 2 * MINUTE,
    "Quinney 2008": 30 * MINUTE,
    "Saari 2006": 2 * MINUTE,
    "Schwagmeier 1998": 0.5 * MINUTE,
    "Swart 2002": 1 * MINUTE,
}


@dataclass(frozen=True)
class People:
    """Who took part: ages [year], and ``"M"``, ``"F"`` or None for both."""

    age: tuple[float, float] = HEALTHY
    sex: str | None = None


PEOPLE: Mapping[str, People] = {
    "Gorski 1998": People((20.0, 40.0)),  # abstract, doi:10.1016/S0009-9236(98)90146-1
    "Quinney 2008": People((65.0, 75.0)),  # abstract, doi:10.1111/j.1365-2125.2007.02970.x
    "Shin 2016": People(sex="F"),  # title, AAPS J 18:1254
    "van Dyk 2018": People(sex="M"),  # title, Eur J Clin Pharmacol 74:913
    "Wiesinger 2020": People(
        (50.0, 70.0), "F"
    ),  # postmenopausal: abstract, doi:10.1002/cpt.1848; ages [ours]
}

# The file says whole blood; the abstract of Quinney (2008) says serum.
SERUM = ("Quinney 2008",)

NOT_COMPARABLE: Mapping[str, str] = {
    "Szalat 2007": "patients with cerebrotendinous xanthomatosis (its title)",
    "Tham 2006": "dose and route contradict: labelled 1 mg iv, evaluated by its collectors as 5 mg by mouth",
}


def load() -> list[Profile]:
    """Reads every profile of midazolam."""
    return load_profiles(record.data_folder() / "observed" / "human_profiles.csv", "Midazolam")


def unsuitable(profile: Profile) -> str:
    """Returns why a profile does not qualify, or "" if it does."""
    arm = profile.arm.lower()
    reasons = {
        "urine, not a concentration": profile.fluid == "urine",
        "one person chosen as typical": profile.kind == "typical representative",
        "one person": profile.kind == "individual",
        "with or after a perpetrator": "with perpetrator" in arm or "after perpetrator" in arm,
        NOT_COMPARABLE.get(profile.study, ""): profile.study in NOT_COMPARABLE,
        "second dose, 6 h after one by mouth": profile.study == "Mikus 2017" and profile.route == "iv",
        "sampling begins after 1 h, past the peak": counted(profile).time[0] > PEAK_SEEN,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def counted(profile: Profile) -> Profile:
    """Returns the profile with the points that count."""
    start = FIRST_IV if profile.route == "iv" and DURATION.get(profile.study, 0.0) < LONG else 0.0
    after = profile.time >= start - 1e-6
    return profile.keep(after & (profile.time > 0) & (profile.value > 0) & (profile.value >= profile.LLOQ))


def fluid(profile: Profile) -> str:
    """Returns what the samples were: plasma (or serum) or blood."""
    return "plasma" if profile.study in SERUM else profile.fluid


def regimen(profile: Profile) -> str:
    """Returns the dose as text.

    >>> blank = Profile("", "Saari 2006", "", "", "", "iv", "0.05 mg/kg", 1, "", "", "", "", None, None, 0)
    >>> regimen(blank)
    '0.05 mg/kg iv over 0.0333333 h'
    """
    duration = DURATION.get(profile.study, 0.0) if profile.route == "iv" else 0.0
    return f"{profile.amount} {profile.route}" + (f" over {duration:g} h" if duration else "")
