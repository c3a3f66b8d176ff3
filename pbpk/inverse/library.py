"""Recipes: a model, what is known of it, what is not, and a design; bundled, or a TOML file of the user's.

::

    name = "example"
    model = "two-compartment"            # brain4, one-compartment, two-compartment, whole-body
    [body]                               # brain4 and whole-body: sex, age [year], height [cm], BW [kg]
    [known]                              # value of each known parameter, in house units
    ka = 1.0
    F = 1.0
    [unknown.CL]                         # start, lower, upper, transform (log, logit, identity)
    start = 10.0
    prior = { median = 10.0, sd = 0.3 }  # sd of the logarithm
    [[dose]]                             # time, amount (or per_kg), duration, compartment
    amount = 100.0
    [seen]
    compartments = ["plasma"]
    times = [1, 2, 4, 8]
    [noise]                              # proportional, additive, kind, known
    proportional = 0.1
    [cmt]                                # what the data file calls a compartment
    1 = "depot"
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pbpk.brain import BODY, Brain, brain_body, permeability_share
from pbpk.checks import choose, nearest
from pbpk.compound import Compound
from pbpk.files import read_text
from pbpk.inverse.compartments import Compartmental
from pbpk.inverse.model import Model
from pbpk.inverse.noise import Noise
from pbpk.inverse.nonmem import Person
from pbpk.inverse.problem import Given, InverseProblem, Seen, Unknown
from pbpk.inverse.whole_body import WholeBody

if TYPE_CHECKING:
    from pbpk.physiology import Physiology

MODELS: tuple[str, ...] = ("brain4", "one-compartment", "two-compartment", "whole-body")
COVARIATES: Mapping[str, tuple[str, ...]] = {
    "BW": ("BW", "WT", "WEIGHT"),
    "age": ("AGE", "age"),
    "height": ("HT", "HEIGHT", "height"),
    "sex": ("SEX", "sex"),
}
"""The columns of a data set in which each covariate is sought."""

_TABLES = ("body", "known", "unknown", "truth", "dose", "seen", "noise", "cmt", "source")
_WORDS = ("name", "model", "note", "compound", "arterial", "bulk_unbound", "Kp_method")
_SCALED = ("PSb", "PSc")  # with the volume of a child's brain


@dataclass(frozen=True)
class Recipe:
    """What a TOML file says.

    Attributes:
        name: Its name.
        model: One of :data:`MODELS`.
        table: The file's tables and words, checked.
    """

    name: str
    model: str
    table: Mapping[str, Any]

    @staticmethod
    def names() -> tuple[str, ...]:
        """Returns the names of the bundled recipes."""
        folder = importlib.resources.files("pbpk") / "data" / "inverse"
        paths = (Path(entry.name) for entry in folder.iterdir())
        return tuple(sorted(path.stem for path in paths if path.suffix == ".toml"))

    @property
    def truth(self) -> dict[str, float]:
        """The values at which a data set is simulated: those under truth, else the starts."""
        starts = {name: entry.get("start") for name, entry in self.table["unknown"].items()}
        return {**starts, **self.table.get("truth", {})}

    @property
    def default(self) -> tuple[str, str]:
        """Where doses and observations are if the data do not say."""
        doses = self.table.get("dose", [])
        seen = self.table.get("seen", {}).get("compartments", ["plasma"])
        return (doses[0].get("compartment", "plasma") if doses else "plasma"), str(seen[0])

    @property
    def driven(self) -> bool:
        """Whether the model is driven by a given concentration, so that there need be no dose."""
        return "arterial" in self.table

    def check_bodies(self) -> None:
        """Checks that the model is of whole bodies.

        Raises:
            ValueError: If it is not: it cannot use a cohort.
        """
        if self.model != "whole-body":
            raise ValueError(
                f"--cohort must come with a whole-body problem, but {self.name} is {self.model}."
            )

    @property
    def cmt(self) -> dict[str, str]:
        """What a data file calls each compartment."""
        return {str(key): str(name) for key, name in self.table.get("cmt", {}).items()}

    def problem(
        self,
        person: Person | None = None,
        body: Physiology | None = None,
        observe: tuple[str, ...] | None = None,
        times: tuple[float, ...] | None = None,
    ) -> InverseProblem:
        """Returns the problem of a person, or of the recipe's own design.

        Arguments:
            person: What was given and seen, with covariates; the recipe's own design by default.
            body: The person's body, for the whole body; made from the covariates by default.
            observe: The compartments of the design, instead of the recipe's.
            times: The times of the design [h], instead of the recipe's.
        """
        traits = self._traits(person)
        model, known = self._model(traits, body)
        unknowns = tuple(
            self._unknown(name, entry, model, known) for name, entry in self.table["unknown"].items()
        )
        unknowns = tuple(_scaled(unknown, traits) for unknown in unknowns)
        given_known = {**known, **self.table.get("known", {})}
        for name in {u.name for u in unknowns}:
            given_known.pop(name, None)
        return InverseProblem(
            model,
            _scaled_known(given_known, traits),
            unknowns,
            person.given if person else self._given(traits),
            person.seen if person else self._design(model, observe, times),
            Noise(**self.table.get("noise", {"proportional": 0.1})),
            person.id if person else "1",
        )

    def simulated(self, seed: int = 0, limit: float = 0.0, **design: Any) -> InverseProblem:
        """Returns the recipe's design with observations drawn at the truth."""
        problem = self.problem(**design)
        theta = problem.theta(self.true_values(problem))
        return problem.simulated(theta, torch.Generator().manual_seed(seed), limit)

    def true_values(self, problem: InverseProblem) -> dict[str, float]:
        """Returns the truth of a problem's unknowns, for this person."""
        starts = {u.name: u.start for u in problem.unknowns}
        given = self.table.get("truth", {})
        share = (
            permeability_share(float(self._traits(None).get("age", 30.0))) if self.model == "brain4" else 1.0
        )
        scaled = {name: value * (share if name in _SCALED else 1.0) for name, value in given.items()}
        values = {name: scaled.get(name, starts[name]) for name in problem.names}
        missing = [name for name, value in values.items() if value is None]
        if missing:
            raise ValueError(f"{self.name} must give a start or a truth for {missing[0]} to be simulated.")
        return values  # type: ignore[return-value]

    def _traits(self, person: Person | None) -> dict[str, Any]:
        """Returns sex, age, height and BW: the person's columns over the recipe's."""
        traits = dict(self.table.get("body", {}))
        for name, columns in COVARIATES.items():
            column = next((c for c in columns if person and person.covariates.get(c)), None)
            if person and column:
                text = person.covariates[column]
                traits[name] = _sex(text) if name == "sex" else _covariate(text, column, person.id)
        return traits

    def _model(self, traits: Mapping[str, Any], body: Physiology | None) -> tuple[Model, dict[str, Any]]:
        if self.model == "brain4":
            terms = self.table.get("arterial")
            arterial = None if terms is None else tuple((float(c), float(k)) for c, k in terms)
            known = {name: value for name, value in self.table.get("known", {}).items() if name in BODY}
            own = {} if len(known) == len(BODY) else brain_body(**_four(traits, self.name))
            brain = Brain(arterial, bool(self.table.get("bulk_unbound", False)))
            defaults = {"ka": 1.0, "F": 1.0, "CLbout": 0.0}
            return brain, {**{k: v for k, v in defaults.items() if k in brain.parameters}, **own}
        if self.model == "whole-body":
            model = WholeBody(
                body if body is not None else _body(traits),
                Compound.load(self.table["compound"]),
                Kp_method=self.table.get("Kp_method", "rodgers-rowland"),
            )
            return model, model.defaults()
        return Compartmental(self.model == "two-compartment"), {"F": 1.0}

    def _unknown(
        self, name: str, entry: Mapping[str, Any], model: Model, known: Mapping[str, Any]
    ) -> Unknown:
        choose(f"{self.name}: an unknown", name, model.parameters)
        own = known.get(name) if self.model == "whole-body" else None
        start = entry.get("start", None if own is None else float(torch.as_tensor(own).mean()))
        prior = entry.get("prior", {})
        transform = entry.get("transform", "log")
        wide = (start / 1e3, start * 1e3) if start and transform == "log" else (1e-4, 1e4)
        return Unknown(
            name,
            lower=entry.get("lower", wide[0]),
            upper=entry.get("upper", wide[1]),
            transform=transform,
            mean=prior.get("median"),
            sd=prior.get("sd"),
            start=start,
        )

    def _given(self, traits: Mapping[str, Any]) -> tuple[Given, ...]:
        doses = []
        for entry in self.table.get("dose", []):
            amount = entry["amount"] if "amount" in entry else entry["per_kg"] * float(traits["BW"])
            for repeat in range(int(entry.get("count", 1))):
                begin = entry.get("time", 0.0) + repeat * entry.get("interval", 0.0)
                doses.append(
                    Given(
                        begin, float(amount), entry.get("duration", 0.0), entry.get("compartment", "plasma")
                    )
                )
        return tuple(doses)

    def _design(self, model: Model, observe: Any, times: Any) -> Seen:
        seen = self.table.get("seen", {})
        where = observe or seen.get("compartments", model.compartments)
        when = times or seen.get("times")
        if not when:
            raise ValueError(
                f"{self.name} must say when samples are taken, but does not. Give --times 0.5,1,2."
            )
        return Seen.design(when, where)


def load_problem(name: str | Path) -> Recipe:
    """Reads a bundled recipe by name, or a TOML file.

    Arguments:
        name: One of :meth:`Recipe.names`, or a path that ends in ``.toml``. ``"brain4"`` is ``"brain4-b1"``.

    Raises:
        ValueError: If there is none, or the file is wrong; the message says where.
        OSError: If the file cannot be read.
    """
    if str(name).endswith(".toml"):
        text, where = read_text(name, "PROBLEM"), str(name)
    else:
        bundled = choose("PROBLEM", "brain4-b1" if name == "brain4" else str(name), Recipe.names())
        folder = importlib.resources.files("pbpk") / "data" / "inverse"
        text, where = (folder / f"{bundled}.toml").read_text(encoding="utf-8"), f"{bundled}.toml"
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} must be TOML, but is not: {error}.") from None
    return _checked(table, where)


def _checked(table: dict[str, Any], where: str) -> Recipe:
    """Checks the tables' names and kinds."""
    for key, value in table.items():
        if key not in (*_WORDS, *_TABLES):
            close = nearest(key, (*_WORDS, *_TABLES))
            remedy = f"Did you mean {close!r}?" if close else f"Known are {', '.join(_TABLES)}."
            raise ValueError(f"{where} has an unknown key {key!r}. {remedy}")
        if key in _TABLES and not isinstance(value, list if key == "dose" else dict):
            raise ValueError(f"{where} must give {key} as a table, but has {value!r}.")
    model = choose(f"{where}: model", str(table.get("model", "")), MODELS)
    if not table.get("unknown"):
        raise ValueError(f"{where} must have at least one unknown. Add [unknown.CL].")
    if model == "whole-body" and "compound" not in table:
        raise ValueError(f"{where} must name a compound for the whole body. Add compound = 'midazolam'.")
    _check_fields(table, where)
    _check_numbers(table, where)
    return Recipe(str(table.get("name", Path(where).stem)), model, table)


_FIELDS: Mapping[str, tuple[str, ...]] = {
    "body": ("sex", "age", "height", "BW"),
    "unknown": ("start", "lower", "upper", "transform", "prior", "source"),
    "dose": ("time", "amount", "per_kg", "duration", "compartment", "interval", "count"),
    "seen": ("compartments", "times"),
    "noise": tuple(f.name for f in dataclasses.fields(Noise)),
    "prior": ("median", "sd"),
}


def _check_fields(table: Mapping[str, Any], where: str) -> None:
    groups = [
        ("body", table.get("body", {})),
        ("seen", table.get("seen", {})),
        ("noise", table.get("noise", {})),
    ]
    groups += [("dose", entry) for entry in table.get("dose", [])]
    groups += [("unknown", entry) for entry in table["unknown"].values()]
    groups += [("prior", entry.get("prior", {})) for _, entry in list(groups) if isinstance(entry, dict)]
    for kind, entry in groups:
        if not isinstance(entry, dict):
            raise ValueError(f"{where} must give each {kind} as a table, but has {entry!r}.")
        for key in entry:
            choose(f"{where}: a key of {kind}", key, _FIELDS[kind])
    for entry in table.get("dose", []):
        if ("amount" in entry) == ("per_kg" in entry):
            raise ValueError(f"{where} must give each dose an amount [mg], or per_kg [mg/kg], one of them.")


def _check_numbers(table: Mapping[str, Any], where: str) -> None:
    named = [(f"known.{name}", value) for name, value in table.get("known", {}).items()]
    named += [(f"truth.{name}", value) for name, value in table.get("truth", {}).items()]
    for name, entry in table["unknown"].items():
        named += [(f"unknown.{name}.{k}", entry[k]) for k in ("start", "lower", "upper") if k in entry]
        named += [(f"unknown.{name}.prior.{k}", value) for k, value in entry.get("prior", {}).items()]
    words = ("compartment",)
    named += [(f"dose.{k}", v) for entry in table.get("dose", []) for k, v in entry.items() if k not in words]
    named += [("seen.times", time) for time in table.get("seen", {}).get("times", [])]
    for name, value in named:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or value < 0
        ):
            raise ValueError(f"{where} must give {name} as a number of 0 or more, but has {value!r}.")


def _four(traits: Mapping[str, Any], name: str) -> dict[str, Any]:
    missing = [key for key in ("sex", "age", "height", "BW") if key not in traits]
    if missing:
        raise ValueError(
            f"{name} must know the person's {missing[0]}. Add it to [body] or to the data's columns."
        )
    return {key: traits[key] for key in ("sex", "age", "height", "BW")}


def _body(traits: Mapping[str, Any]) -> Physiology:
    from pbpk.bodies import reference_body

    return reference_body("human", traits.get("sex"), traits.get("age"), traits.get("BW"))


def _sex(text: str) -> str:
    """Returns M or F of a cell; 1 is male and 0 or 2 female, as most data sets have it."""
    meaning = {
        "m": "M",
        "male": "M",
        "1": "M",
        "1.0": "M",
        "f": "F",
        "female": "F",
        "0": "F",
        "0.0": "F",
        "2": "F",
    }
    if text.strip().lower() not in meaning:
        raise ValueError(f"SEX must be M, F, 1 (male) or 0 (female), but is {text!r}.")
    return meaning[text.strip().lower()]


def _covariate(text: str, column: str, person: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{column} must be a positive number, but person {person!r} has {text!r}.")
    return value


def _scaled(unknown: Unknown, traits: Mapping[str, Any]) -> Unknown:
    """Scales a child's permeability with the volume of its brain."""
    share = _share(unknown.name, traits)
    if share == 1.0:
        return unknown
    changes = {name: getattr(unknown, name) for name in ("mean", "start")}
    return dataclasses.replace(unknown, **{k: v * share for k, v in changes.items() if v is not None})


def _scaled_known(known: Mapping[str, Any], traits: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value * share if (share := _share(name, traits)) != 1.0 else value
        for name, value in known.items()
    }


def _share(name: str, traits: Mapping[str, Any]) -> float:
    return permeability_share(float(traits["age"])) if name in _SCALED and "age" in traits else 1.0
