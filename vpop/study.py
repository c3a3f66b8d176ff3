"""A study: people, a drug in each arm, a simulation, and a report, from one TOML file.

study.toml -> Study -> cohort -> one Simulation an arm -> exposure, quantiles, violations, report
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pbpk.checks import choose
from pbpk.compound import Compound
from pbpk.files import check_folder, read_text, write_folder
from pbpk.io import load_cohort
from pbpk.physiology import Cohort
from pbpk.progress import bar
from pbpk.regimen import FEWEST_HOURS, MOST_HOURS, Regimen
from pbpk.simulate import simulate
from pbpk.simulation import Simulation
from pbpk.topology import CLEARANCES
from vpop.judge import judge, refuse_unlawful
from vpop.pcdm import MOST_PEOPLE, PCDM
from vpop.result import Result

POINTS = 120  # about how many output times an arm has
MOST_SEED = 2**32 - 1
DEFAULT = "midazolam.toml"

T = TypeVar("T")


@dataclass(frozen=True)
class People:
    """Who takes part: drawn by the model, or read from a cohort file.

    Attributes:
        n: How many are drawn.
        seed: The seed.
        age: The closed range of ages [year].
        sex: ``"M"``, ``"F"`` or None.
        where: A request in the language of :mod:`vpop.where`.
        cohort: A cohort file, instead of all of the above.
    """

    n: int = 1000
    seed: int = 0
    age: tuple[float, float] = (0.0, 80.0)
    sex: str | None = None
    where: str | None = None
    cohort: str | None = None

    def __post_init__(self) -> None:
        """Finds a wrong number, or what contradicts itself, before people are drawn."""
        for name, least, most in (("n", 1, MOST_PEOPLE), ("seed", 0, MOST_SEED)):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(
                    f"study: [people] {name} must be from {least} to {most}, but is {value}. Correct it."
                )
        ignored = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        if self.cohort is not None and len(ignored) > 1:
            raise ValueError(
                f"study: [people] {ignored[0]} must not come with cohort, but the file gives both. "
                "People are either drawn or read: remove one."
            )

    def gather(self) -> Cohort:
        """Draws or reads the cohort."""
        if self.cohort is not None:
            return load_cohort(self.cohort)
        model = PCDM.load()
        with bar("people", self.n) as progress:
            return model.sample(
                self.n, self.seed, age=self.age, sex=self.sex, where=self.where, progress=progress
            )


@dataclass(frozen=True)
class Arm:
    """What is given.

    Attributes:
        name: The arm's name.
        compound: A bundled compound or the path of a TOML file.
        dose: The regimen as text.
        hours: How long is simulated [h].
        clearance: Where the clearance comes from, ``"observed"`` or ``"in-vitro"``.
    """

    name: str
    compound: str
    dose: str
    hours: float = 24.0
    clearance: str = "observed"

    def __post_init__(self) -> None:
        """Finds a wrong name or number before people are drawn."""
        Compound.load(self.compound)
        Regimen.parse(self.dose)
        choose("study: [[arm]] clearance", self.clearance, CLEARANCES)
        if not self.name.strip() or not self.name.isprintable():
            raise ValueError(f"study: [[arm]] name must be one line of text, but is {self.name!r}.")
        if not FEWEST_HOURS <= self.hours <= MOST_HOURS:
            raise ValueError(
                f"study: [[arm]] hours must be positive and lie in [{FEWEST_HOURS:g}, {MOST_HOURS:g}], "
                f"but is {self.hours!r}. 24 is one day."
            )
        first = min(dose.time for dose in Regimen.parse(self.dose).doses)
        if first >= self.hours:
            raise ValueError(
                f"study: [[arm]] dose must be given before hours, {self.hours:g}, but {self.dose!r} begins "
                f"at {first:g} h. Simulate longer."
            )

    def run(self, cohort: Cohort) -> Simulation:
        """Simulates the arm in every body of the cohort."""
        regimen = Regimen.parse(self.dose)
        return simulate(
            cohort,
            Compound.load(self.compound),
            regimen,
            regimen.times(self.hours, POINTS),
            clearance=self.clearance,
            throw=False,
        )


@dataclass(frozen=True)
class Study:
    """A study as its file states it.

    Attributes:
        name: The name of its folder under ``runs/``.
        title: The heading of its report.
        people: Who takes part.
        arms: What is given to them.
    """

    name: str
    title: str
    people: People
    arms: tuple[Arm, ...]

    @classmethod
    def load(cls, path: str | Path | None = None) -> Study:
        """Reads a study, by default the bundled one.

        Raises:
            ValueError: If the file is not TOML, or a key is unknown, missing or of the wrong kind.
        """
        file = Path(path) if path is not None else Path(str(resources.files("vpop") / "data" / DEFAULT))
        text = read_text(file, "study")
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"study must be a TOML file, but {file} cannot be read: {error}.") from None
        return cls._from_table(table, file.stem)

    @classmethod
    def _from_table(cls, table: dict[str, Any], stem: str) -> Study:
        for key in table:
            choose("study: a key", key, ["name", "title", "people", "arm"])
        arms = table.get("arm", [])
        if not isinstance(arms, list) or not arms:
            raise ValueError("study must have at least one [[arm]] with name, compound and dose.")
        for key in ("name", "title"):
            text = table.get(key, stem)
            if not isinstance(text, str) or not text.strip() or not text.isprintable():
                raise ValueError(f"study: {key} must be one line of text, but is {text!r}. Put it in quotes.")
        name = table.get("name", stem)
        if "/" in name or "\\" in name or name in (".", ".."):
            raise ValueError(f"study: name must be the name of one folder under runs/, but is {name!r}.")
        people = _fill(People, table.get("people", {}), "[people]")
        filled = tuple(_fill(Arm, arm, "[[arm]]") for arm in arms)
        names = [arm.name for arm in filled]
        if len(set(names)) < len(names):
            raise ValueError(f"study: each [[arm]] must have a name of its own, but they are {names}.")
        return cls(name, table.get("title", name), people, filled)

    def run(self, folder: str | Path) -> Result:
        """Runs the study and writes its files into ``folder``, all of them or none.

        Raises:
            ValueError: If a compound, a dose or a request cannot be met.
            OSError: If the folder cannot be written.
        """
        check_folder(folder)
        cohort = self.people.gather()
        report = judge(cohort)
        if self.people.cohort is None:
            refuse_unlawful(report)
        simulations = {arm.name: arm.run(cohort) for arm in self.arms}
        result = Result(self, cohort, simulations, report)
        with write_folder(folder) as partial:
            result.write(partial)
        return result


_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str,), "text in quotes"),
    "str | None": ((str,), "text in quotes"),
    "tuple[float, float]": ((list,), "two numbers, [18, 65] say"),
}


def _fill(kind: type[T], table: Any, where: str) -> T:
    """Makes a dataclass from a table of the study's file.

    Raises:
        ValueError: If a key is unknown or missing, or a value is of the wrong kind.
    """
    if not isinstance(table, dict):
        raise ValueError(f"study: {where} must be a table of keys and values, but is {table!r}.")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        field = fields[choose(f"study: a key of {where}", key, fields)]
        kinds, words = _KINDS[str(field.type)]
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"study: {where} {key} must be {words}, but is {value!r}.")
        values[key] = value
    for name, field in fields.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise ValueError(f"study: {where} must have the key {name!r}, but does not.")
    if "age" in values:
        values["age"] = _range(values["age"])
    return kind(**values)


def _range(value: list[Any]) -> tuple[float, float]:
    if len(value) != 2 or not all(type(v) in (int, float) for v in value):
        raise ValueError(f"study: [people] age must be two numbers, [18, 65] say, but is {value!r}.")
    return float(value[0]), float(value[1])
