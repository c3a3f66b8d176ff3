r"""Real people completed: a table of what is known of patients -> whole bodies that have exactly that.

A row says sex and age, and any of race, height, BW, BMI, HCT, SCR, and of what is measured inside: GFR, CO,
FAT, BMC, organ masses and flows; a blank is unknown. What is known conditions the model, or moves what it
draws (:mod:`vpop.update`), so that the rest hangs together with it, and comes back as it was given. Several
bodies a patient show what remains open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.io import row_names
from pbpk.physiology import RACES, Cohort, Physiology
from pbpk.plausible import check_units
from pbpk.table import BLANKS, Table, read_table
from vpop.bayes import likely_heights
from vpop.coordinates import GIVEN, NAMES, WHO, Impossible, blank
from vpop.demographics import Demographics
from vpop.drawing import CHUNK
from vpop.gains import Gains
from vpop.headings import in_canonical_units
from vpop.inside import INSIDE, closed
from vpop.pcdm import PCDM
from vpop.sample import STEPS
from vpop.update import Columns, Update, of

_AGREE = 5e-3  # of a BMI beside height and weight: tables round it
_OLDEST = 90.0  # years; the rest of who is over 80 is drawn as of 80, by the laws of the own age [ours]
_NAMED = 5  # patients in a refusal beside the first
_AT_ONCE = 32  # patients whose ensembles are drawn together


@dataclass(frozen=True)
class Patients:
    """What is known of n people.

    Attributes:
        id: Their names, with shape (n).
        sex: 1 male, 0 female, with shape (n).
        age: The age [year], with shape (n).
        race: The position in :data:`pbpk.physiology.RACES`, -1 where unknown, with shape (n).
        given: By name of :data:`vpop.coordinates.GIVEN`, but BMI where height and BW are known, and of
            :data:`vpop.inside.INSIDE`, the values, NaN where unknown, each with shape (n).
    """

    id: np.ndarray
    sex: Tensor
    age: Tensor
    race: Tensor
    given: Mapping[str, Tensor]

    @classmethod
    def load(cls, path: str | Path) -> Patients:
        """Reads a CSV or Parquet table with the columns id, sex, age, and any of race, GIVEN and INSIDE.

        A heading may name another unit than ours in brackets (:mod:`vpop.headings`).

        Raises:
            ValueError: If a column is missing or in a wrong unit, or a cell cannot be a person's.
            OSError: If there is no such file.
        """
        return cls.of(in_canonical_units(read_table(path))[0])

    @classmethod
    def of(cls, table: Table) -> Patients:
        """Returns the patients of a table just read; see :meth:`load`."""
        table.require(["id", "sex", "age"])
        ids = row_names(table)
        age = table.numbers("age", ids)
        names = [name for name in (*GIVEN, *INSIDE) if name in table.columns]
        numbers = {name: table.numbers(name, ids, blank=True) for name in names}
        unknown = dict.fromkeys(("height", "BW", "CO"), np.full(len(ids), np.nan))
        check_units({**unknown, "age": age, **numbers}, human=True)
        for name, value in zip(ids, age, strict=True):
            if value > _OLDEST:
                raise ValueError(
                    f"age must be at most {_OLDEST:g} years, but row {str(name)!r} of {table.name} has "
                    f"{value:g}: no one near that age was learnt from."
                )
        given = _settled(closed({name: torch.from_numpy(value) for name, value in numbers.items()}), ids)
        return cls(ids, _sex(table, ids), torch.from_numpy(age), _race(table, ids), given)

    def __len__(self) -> int:
        """Returns the number of people."""
        return len(self.id)

    def __getitem__(self, which: Tensor) -> Patients:
        """Returns the people that a mask or positions choose."""
        given = {name: value[which] for name, value in self.given.items()}
        return Patients(self.id[which.numpy()], self.sex[which], self.age[which], self.race[which], given)


def _sex(table: Table, ids: np.ndarray) -> Tensor:
    letters = table.text("sex")
    for name, letter in zip(ids, letters, strict=True):
        choose(f"sex of row {str(name)!r}", letter, ["M", "F"])
    return torch.tensor([float(letter == "M") for letter in letters], dtype=torch.float64)


def _race(table: Table, ids: np.ndarray) -> Tensor:
    names = table.text("race") if "race" in table.columns else [""] * len(ids)
    for name, race in zip(ids, names, strict=True):
        if race not in BLANKS:
            choose(f"race of row {str(name)!r}", race, RACES)
    return torch.tensor([-1 if race in BLANKS else RACES.index(race) for race in names])


def _settled(given: dict[str, Tensor], ids: np.ndarray) -> dict[str, Tensor]:
    """Returns height and weight wherever two of height, weight and BMI are known.

    Raises:
        ValueError: If all three are and do not agree.
    """
    unknown = torch.full((len(ids),), torch.nan, dtype=torch.float64)
    height, BW, BMI = (given.get(name, unknown) for name in ("height", "BW", "BMI"))
    stated = BW / (height / 100.0) ** 2
    apart = (stated / BMI - 1.0).abs() > _AGREE
    if bool(apart.any()):
        at = int(torch.nonzero(apart)[0])
        raise ValueError(
            f"BMI must be BW / (height/100)^2, but row {str(ids[at])!r} says {float(BMI[at]):.4g} beside "
            f"{float(BW[at]):g} kg and {float(height[at]):g} cm, which make {float(stated[at]):.4g}. "
            "Leave one of the three blank."
        )
    both = given | {
        "height": torch.where(torch.isnan(height), 100.0 * (BW / BMI) ** 0.5, height),
        "BW": torch.where(torch.isnan(BW), BMI * (height / 100.0) ** 2, BW),
    }
    known = torch.isfinite(both["height"]) & torch.isfinite(both["BW"])
    return both | {"BMI": torch.where(known, torch.nan, BMI)}


def who(patients: Patients) -> Tensor:
    """Returns height, BMI, haematocrit and creatinine as far as they are known, with shape (n, 4)."""
    nothing = torch.full((len(patients),), torch.nan, dtype=torch.float64)
    given = {name: patients.given.get(name, nothing) for name in (*WHO, "BW")}
    stated = given["BW"] / (given["height"] / 100.0) ** 2
    given["BMI"] = torch.where(stated.isnan(), given["BMI"], stated)
    return torch.stack([given[name] for name in WHO], -1)


def complete(model: PCDM, patients: Patients, each: int = 1, seed: int = 0, steps: int = STEPS) -> Cohort:
    """Draws whole bodies for patients, with exactly what is known of them.

    Arguments:
        model: The model.
        patients: What is known.
        each: How many bodies for each.
        seed: The same seed, the same bodies.
        steps: The steps of the sampler.

    Returns:
        The cohort, a patient's bodies one after another, named ``id`` or, of several, ``id_1``, ``id_2``, ...

    Raises:
        Impossible: If no lawful body has what is known of a patient, naming the patient and the law.
    """
    if each < 1:
        raise ValueError(f"each must be at least 1, but is {each}.")
    row = torch.arange(len(patients)).repeat_interleave(each)
    generator = torch.Generator().manual_seed(seed)
    people = _people(patients, row, model.demographics, generator)
    stated = of(dict(patients.given), row)
    known = _with_heights(stated, people, patients.id[row.numpy()], model, generator)
    groups = [
        _Group.of(part, people, known, row, patients, Update.of(model, asked_for))
        for alike, asked_for in _alike(stated)
        for part in alike.split(CHUNK)
    ]
    _refuse(model, groups)
    drawn = [group.draw(model, generator, steps) for group in groups]
    back = torch.argsort(torch.cat([group.at for group in groups]))
    tensors = {name: torch.cat([getattr(b, name) for b in drawn])[back] for name in drawn[0].tensors()}
    copies = [f"_{copy}" for copy in range(1, each + 1)] if each > 1 else [""]
    ids = [f"{name}{copy}" for name in patients.id for copy in copies]
    origin = {
        "generator": "vpop PCDM, completing patients",
        "version": metadata.version("vpop"),
        "seed": seed,
        "bodies_each": each,
        "weights": model.card.get("sha256", "in memory"),
    }
    return Cohort(Physiology("human", **tensors), np.array(ids, dtype=object), origin)


@dataclass(frozen=True)
class _Group:
    """Bodies to be drawn together, of whom the same is known.

    Attributes:
        at: Their positions among all, with shape (n).
        row: Whose body each is, by the patients' positions, with shape (n).
        ids: The patients' names, with shape (n).
        people: Sex, race and age, with shape (n).
        given: What is known, and a height beside a weight that is known alone, with shape (n).
        update: What draws bodies with these values.
    """

    at: Tensor
    row: Tensor
    ids: np.ndarray
    people: Columns
    given: Columns
    update: Update

    @classmethod
    def of(
        cls, at: Tensor, people: Columns, known: Columns, row: Tensor, patients: Patients, update: Update
    ) -> _Group:
        """Takes those at some positions from columns of all."""
        names = {*update.outside, *update.inside} | ({"height"} if "BW" in update.outside else set())
        given = of({name: known[name] for name in known if name in names}, at)
        return cls(at, row[at], patients.id[row[at].numpy()], of(people, at), given, update)

    def draw(self, model: PCDM, generator: torch.Generator, steps: int) -> Physiology:
        """Draws the bodies.

        Raises:
            Impossible: If a patient cannot have what is given inside, naming the patient and the law.
        """
        if not self.update.inside:
            return model.draw_given(self.people, self.given, generator, steps)
        _, copies, counts = torch.unique_consecutive(self.row, return_inverse=True, return_counts=True)
        first = (counts.cumsum(0) - counts).split(_AT_ONCE)
        found = [
            self.update.of_each(of(self.people, some), of(self.given, some), generator) for some in first
        ]
        gains = Gains.join(found)[copies]
        noise = torch.randn(len(self.at), len(NAMES), generator=generator)
        bodies, refused = self.update.draw(self.people, self.given, gains, noise, steps, generator)
        if bool(refused.who.any()):
            at = int(torch.nonzero(refused.who)[0])
            raise Impossible(f"patient {str(self.ids[at])!r}: {refused.why(at)}")
        return bodies


def _alike(given: Columns) -> Iterator[tuple[Tensor, tuple[str, ...]]]:
    """Yields the positions of people of whom the same is known, and the names of it.

    Of what lies inside it is enough that any of it is known: then all of it is named.
    """
    outside, inside = ([name for name in names if name in given] for names in (GIVEN, INSIDE))
    known = [torch.isfinite(given[name]) for name in outside]
    known += [torch.stack([torch.isfinite(given[name]) for name in inside]).any(0)] if inside else []
    pattern = torch.stack(known, -1)
    for which in torch.unique(pattern, dim=0):
        seen = [name for name, there in zip(outside, which, strict=False) if there]
        hidden = inside if inside and which[-1] else []
        yield torch.nonzero((pattern == which).all(-1)).flatten(), (*seen, *hidden)


def asked(patients: Patients, each: int = 1) -> dict[str, Tensor]:
    """Returns what must come back exactly, by column, NaN where nothing was known (law E4)."""
    columns = {"age": patients.age, **patients.given}
    return {name: value.repeat_interleave(each) for name, value in columns.items()}


def _people(
    patients: Patients, row: Tensor, demographics: Demographics, generator: torch.Generator
) -> dict[str, Tensor]:
    """Returns sex, age and race of each body; an unknown race is drawn among people of that sex and age."""
    for sex in patients.sex.unique().tolist():
        demographics.refuse_absent("M" if sex else "F")
    sex, age, race = (column[row] for column in (patients.sex, patients.age, patients.race))
    drawn = demographics.race(sex, age, generator)
    return {"sex": sex, "race": torch.where(race < 0, drawn, race), "age": age}


def _with_heights(
    known: dict[str, Tensor],
    people: Mapping[str, Tensor],
    ids: np.ndarray,
    model: PCDM,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Draws a height where only the weight is known: weight alone is no coordinate of the model."""
    only = torch.isfinite(known["BW"]) & torch.isnan(known["height"])
    if not bool(only.any()):
        return known
    some = {name: value[only] for name, value in people.items()}
    heights, likely = likely_heights(known["BW"][only], some, model.coordinates)
    hopeless = ~(likely.sum(-1) > 0)
    if bool(hopeless.any()):
        at = int(torch.nonzero(hopeless)[0])
        raise Impossible(
            f"BW must fit a lawful height, but none makes {float(known['BW'][only][at]):g} kg a lawful BMI "
            f"at {float(some['age'][at]):.3g} years: {str(ids[only.numpy()][at])!r} (laws C09, C10, C11)."
        )
    which = torch.multinomial(likely, 1, generator=generator)
    height = known["height"].clone()
    height[only] = heights.gather(1, which)[:, 0]
    return known | {"height": height}


def _refuse(model: PCDM, groups: Sequence[_Group]) -> None:
    """Raises if what is given of some people breaks a law.

    Raises:
        Impossible: Naming the first patient and the law, and the other patients.
    """
    wrong: dict[str, str] = {}
    for group in groups:
        if not _impossible(model, group.people, group.given):
            continue
        for at in sorted(np.unique(group.ids.astype(str), return_index=True)[1]):  # one body of each patient
            one = torch.tensor([at])
            why = _impossible(model, of(group.people, one), of(group.given, one))
            if why:
                wrong[str(group.ids[at])] = why
    if wrong:
        (first, why), *others = wrong.items()
        named = ", ".join(repr(name) for name, _ in others[:_NAMED])
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        also = f" Nor can {named}{more}." if others else ""
        raise Impossible(f"patient {first!r}: {why}{also}")


def _impossible(model: PCDM, people: Columns, given: Columns) -> str:
    """Returns why values break a law, nothing where none does."""
    try:
        model.coordinates.known(blank(people), given)
    except Impossible as error:
        return str(error)
    return ""
