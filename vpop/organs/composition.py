r"""Body composition: fat, bone mineral, and the tissues that are most of a body.

Fat is measured in real people (DXA, see `experiments/body_composition.py`); with it the fat-free mass
:math:`FFM = BW - FAT` is known, and muscle and the rest are shares of that. Adipose tissue, muscle, bone and
rest are medians before closing: what they sum to is brought to the body weight by
:mod:`vpop.organs.closing`.

References:
    Al-Sallami, Goulding, Grant, Taylor, Holford, Duffull (2015). Clin Pharmacokinet 54:1169.
    https://doi.org/10.1007/s40262-015-0277-z
    Janmahasatian, Duffull, Ash, Ward, Byrne, Green (2005). Clin Pharmacokinet 44:1051.
    https://doi.org/10.2165/00003088-200544100-00004
    Verscheijden et al. (2019). PLoS Comput Biol 15:e1007117. https://doi.org/10.1371/journal.pcbi.1007117
    Lee, Wang, Heo, Ross, Janssen, Heymsfield (2000). Am J Clin Nutr 72:796.
    https://doi.org/10.1093/ajcn/72.3.796
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from pbpk.physiology import RACES
from vpop.organs.curves import bracket, curve, interpolate, mix, rows
from vpop.people import People

# The survey with the scans knows four groups, the survey with the creatinine five.
_SCANNED = {"Mexican American": "Hispanic", "Other Hispanic": "Hispanic", "Other": "Other"}
_SCANNED |= {"Non-Hispanic White": "White", "Non-Hispanic Black": "Black"}
_TYPICAL_BMI = 25.0  # where the bend of bone mineral in ln BMI is 0
_YOUNGEST = 1e-3  # year; keeps A^-12.7 finite
_MUSCLE_LOSS = 0.0034  # per year after 35: Lee's 0.098 kg/y of a man's 29 kg; women the same [ours]


@cache
def _fat_grid() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Returns the ages, the log BMIs, and for each sex the logit offsets, shape (ages, BMIs)."""
    cells = {
        (r["sex"], float(r["age"]), float(r["BMI"])): float(r["logit_offset"]) for r in rows("body_fat.csv")
    }
    ages, BMIs = sorted({age for _, age, _ in cells}), sorted({BMI for _, _, BMI in cells})
    grids = {
        sex: torch.tensor([[cells[sex, age, BMI] for BMI in BMIs] for age in ages], dtype=torch.float64)
        for sex in "MF"
    }
    return _tensor(ages), torch.log(_tensor(BMIs)), grids


def _tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@cache
def _terms(quantity: str) -> dict[str, dict[str, float]]:
    """Returns the terms of a regression by sex: exponents of weight and height, offsets of races."""
    found: dict[str, dict[str, float]] = {"M": {}, "F": {}}
    for row in rows("body_composition_terms.csv"):
        if row["quantity"] == quantity:
            found[row["sex"]][row["term"]] = float(row["value"])
    return found


def _of_race(quantity: str, people: People) -> Tensor:
    """Returns the offset of each person's race; none where the race is unknown."""
    male, female = (
        _tensor([*(_terms(quantity)[sex][_SCANNED[race]] for race in RACES), 0.0])[people.race]
        for sex in "MF"
    )
    return mix(people.sex, male, female)


def logit_fat(people: People) -> Tensor:
    r"""Returns the median logit of the body fat fraction, as DXA measures fat.

    Al-Sallami's children's factor times Janmahasatian's :math:`FFM = 9270\,BW / (6680 + 216\,BMI)` (M) or
    :math:`9270\,BW / (8780 + 244\,BMI)` (F), plus an offset, bilinear in age and ln BMI, and one for race:
    [ours], fitted to DXA of people of 8 to 59 years, from the literature below, held beyond.
    """
    A = people.age.clamp(min=_YOUNGEST)
    male = (0.88 + 0.12 / (1.0 + (A / 13.4) ** -12.7)) * 9270.0 / (6680.0 + 216.0 * people.BMI)
    female = (1.11 - 0.11 / (1.0 + (A / 7.1) ** -1.1)) * 9270.0 / (8780.0 + 244.0 * people.BMI)
    published = mix(people.sex, torch.logit(1.0 - male), torch.logit(1.0 - female))
    ages, BMIs, grids = _fat_grid()
    (row, down), (column, along) = bracket(people.age, ages), bracket(torch.log(people.BMI), BMIs)

    def offset(grid: Tensor) -> Tensor:
        younger = torch.lerp(grid[row, column], grid[row, column + 1], along)
        older = torch.lerp(grid[row + 1, column], grid[row + 1, column + 1], along)
        return torch.lerp(younger, older, down)

    return published + mix(people.sex, offset(grids["M"]), offset(grids["F"])) + _of_race("fat", people)


def fat(people: People, z: Tensor) -> Tensor:
    r"""Returns the body fat [kg]: :math:`BW\,\mathrm{logit}^{-1}(\mu + \sigma z)`.

    Arguments:
        people: Who they are, with shape :math:`(n)`.
        z: The standard residual, with shape :math:`(n)`; :math:`\sigma` falls with BMI and changes with age,
            and people are not normal about the median (`composition_spread.csv`).
    """
    spread = curve("fat_spread", people.BMI, people.sex) * curve("fat_spread_by_age", people.age, people.sex)
    return people.BW * torch.sigmoid(logit_fat(people) + spread * curve("fat_shape", z, people.sex))


def bone_mineral(people: People, z: Tensor) -> Tensor:
    """Returns the bone mineral content [kg]: powers of weight and height, by age, sex and race.

    [ours]: fitted to DXA at 8 to 59 years; Gallo (2012) in the first year, a line to 8; -0.4 %/y after 60.

    Arguments:
        people: Who they are, with shape :math:`(n)`.
        z: The standard residual, with shape :math:`(n)`; its spread changes with age.
    """
    by_sex = []
    for sex in "MF":
        ages, values = zip(*sorted(_bone_ages()[sex]), strict=True)
        terms = _terms("bone")[sex]
        size = (
            torch.log(people.BW / 70.0) * terms["weight"] + torch.log(people.height / 170.0) * terms["height"]
        )
        size = size + torch.log(people.BMI / _TYPICAL_BMI) ** 2 * terms["bend"]
        by_sex.append(size + interpolate(people.age, _tensor(list(ages)), _tensor(list(values))))
    spread = curve("bone_mineral_spread", people.age, people.sex)
    residual = spread * curve("bone_mineral_shape", z, people.sex)
    return torch.exp(mix(people.sex, *by_sex) + _of_race("bone", people) + residual)


def fat_with_bone(people: People) -> Tensor:
    """Returns the correlation of the residuals of fat and bone mineral, by sex and age, shape (n)."""
    return curve("fat_with_bone", people.age, people.sex)


@cache
def _bone_ages() -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {"M": [], "F": []}
    for row in rows("bone_mineral.csv"):
        found[row["sex"]].append((float(row["age"]), float(row["log_kg"])))
    return found


def bone(people: People, BMC: Tensor) -> Tensor:
    """Returns the skeleton without blood and without fatty marrow, which is adipose tissue [kg].

    Bone mineral times the ratio of the two in the reference people of ICRP 89, by age and sex [ours].
    """
    return BMC * curve("bone_per_mineral", people.age, people.sex, log=True)


def adipose(people: People, FAT: Tensor) -> Tensor:
    """Returns adipose tissue [kg]: fat over the share of fat in it.

    The ratio falls as fat cells fill, from 1.85 at birth to 1.06 at 10 years, is 1.10 in adults, and rises to
    1.22 at 80 [ours]. ICRP 89 has 2.5 to 1.25; but fat by DXA, muscle by MRI and its own other organs then
    sum to more than the body, and of these the definition of adipose tissue is the softest.
    """
    return FAT * curve("adipose_per_fat", people.age, people.sex)


def muscle(people: People, FAT: Tensor) -> Tensor:
    """Returns skeletal muscle [kg]: a share of the fat-free mass, by age and sex, and 0.34 %/y less after 35.

    The adult share is that of Verscheijden (2019); the children's is ICRP 89's muscle over its weight less
    our fat [ours].
    """
    loss = 1.0 - _MUSCLE_LOSS * (people.age - 35.0).clamp(min=0.0)
    return curve("muscle_share", people.age, people.sex) * loss * (people.BW - FAT)


def rest(people: People, FAT: Tensor) -> Tensor:
    """Returns what no organ names [kg], gut contents and connective tissue: a share of the fat-free mass."""
    return curve("rest_share", people.age, people.sex) * (people.BW - FAT)
