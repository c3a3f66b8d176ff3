"""Recipes: a model, what is known of it, what is not, and a design; from :mod:`pbpk.inverse.recipe_file`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pbpk.brain import BODY, Brain, brain_body, permeability_share
from pbpk.checks import choose
from pbpk.compound import Compound
from pbpk.inverse import recipe_file
from pbpk.inverse.compartments import Compartmental
from pbpk.inverse.model import Model
from pbpk.inverse.noise import Noise
from pbpk.inverse.nonmem import Person
from pbpk.inverse.problem import Given, InverseProblem, Seen, Unknown
from pbpk.inverse.simulated import SimulatedBody
from pbpk.inverse.whole_body import WholeBody

if TYPE_CHECKING:
    from pbpk.physiology import Physiology

COVARIATES: Mapping[str, tuple[str, ...]] = {
    "BW": ("BW", "WT", "WEIGHT"),
    "age": ("AGE", "age"),
    "height": ("HT", "HEIGHT", "height"),
    "sex": ("SEX", "sex"),
}
"""The columns of a data set in which each covariate is sought."""

_SCALED = ("PSb", "PSc")  # with the volume of a child's brain


@dataclass(frozen=True)
class Recipe:
    """What a TOML file says.

    Attributes:
        name: Its name.
        model: One of :data:`pbpk.inverse.recipe_file.MODELS`.
        table: The file's tables and words, checked.
    """

    name: str
    model: str
    table: Mapping[str, Any]

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
        known = {**known, **self.table.get("known", {})}
        return InverseProblem(
            model,
            {n: v * _share(n, traits) for n, v in known.items() if n not in self.table["unknown"]},
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
            whole = self._whole_body(body if body is not None else _body(traits))
            return whole, whole.defaults()
        return Compartmental(self.model == "two-compartment"), {"F": 1.0}

    def _whole_body(self, body: Physiology) -> WholeBody | SimulatedBody:
        """Returns the whole body; as it is simulated where the drug asks for more, or a Vmax is named."""
        plain = WholeBody(
            body,
            Compound.load(self.table["compound"]),
            Kp_method=self.table.get("Kp_method", "rodgers-rowland"),
            clearance=self.table.get("clearance", "observed"),
        )
        named = {*self.table["unknown"], *self.table.get("known", {})}
        saturates = any(name.startswith(("Vmax", "Km")) for name in named)
        if plain.complete and not saturates:
            return plain
        return SimulatedBody(body, plain.compound, plain.graph, plain.Kp_method, plain.clearance, saturates)

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
    """Reads a bundled recipe by name, or a TOML file, see :func:`pbpk.inverse.recipe_file.read`."""
    called, table = recipe_file.read(name)
    return Recipe(called, str(table["model"]), table)


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


_SEX = {
    **dict.fromkeys(("m", "male", "1", "1.0"), "M"),
    **dict.fromkeys(("f", "female", "0", "0.0", "2", "2.0"), "F"),
}


def _sex(text: str) -> str:
    """Returns M or F of a cell; 1 is male and 0 or 2 female, as most data sets have it."""
    if text.strip().lower() not in _SEX:
        raise ValueError(f"SEX must be M, F, 1 (male) or 0 (female), but is {text!r}.")
    return _SEX[text.strip().lower()]


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


def _share(name: str, traits: Mapping[str, Any]) -> float:
    return permeability_share(float(traits["age"])) if name in _SCALED and "age" in traits else 1.0
