"""Many people: each answered alone, or together by a method that fits many at once."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pbpk.bodies import reference_body
from pbpk.inverse import FitResult, InverseProblem, load_problem, lsq, people
from pbpk.inverse.nonmem import Person
from pbpk.inverse.problem import Given, Seen
from pbpk.physiology import Cohort


def many(problems: Sequence[InverseProblem], seed: int = 0) -> list[FitResult]:
    return [lsq.fit(problem, starts=1).replace(method="amortised") for problem in problems]


def test_of_many_people_the_first_are_looked_at_and_the_others_only_fitted_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(people, "module", lambda name: SimpleNamespace(fit_many=many))
    monkeypatch.setattr(people, "_LOOKED_AT", 2)
    asked = [load_problem("one-compartment").simulated(seed).replace(name=str(seed)) for seed in range(5)]
    found = people.answers(asked, ["amortised"])
    assert [one.problem.name for one in found] == ["0", "1", "2", "3", "4"]
    assert [one.reference.method for one in found] == ["lsq"] * 2 + ["amortised"] * 3
    assert len(people.methods_table(found)) == 7 and len(people.estimates(found)) == 10


def test_people_whose_parameters_cannot_be_told_are_all_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(people, "module", lambda name: SimpleNamespace(fit_many=many))
    monkeypatch.setattr(people, "_LOOKED_AT", 1)
    asked = [load_problem("brain4-paracetamol").simulated(seed) for seed in range(2)]
    found = people.answers(asked, ["amortised"])
    assert all(one.fitted.names == ("PSb + PSc",) and one.reference.method == "lsq" for one in found)


def test_each_person_has_the_body_of_the_cohort_with_the_same_id() -> None:
    bodies = [reference_body("human", "F", 40, BW) for BW in (50.0, 90.0)]
    fields = {n: torch.stack([b.tensors()[n] for b in bodies]) for n in bodies[0].tensors()}
    cohort = Cohort(bodies[0].replace(**fields), np.array(["light", "heavy"], dtype=object))
    seen = Seen.design([1.0, 4.0], ["plasma"])
    persons = [Person(name, (Given(0.0, 5.0, 0.0, "plasma"),), seen) for name in ("heavy", "light")]
    asked = people.problems(load_problem("midazolam"), persons, cohort)
    assert [float(problem.model.physiology.BW) for problem in asked] == [90.0, 50.0]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="but has none of 'other'"):
        people.problems(load_problem("midazolam"), [Person("other", (), seen)], cohort)


def test_a_persons_weight_and_sex_make_the_body() -> None:
    seen = Seen.design([1.0, 4.0], ["plasma"])
    person = Person("a", (Given(0.0, 5.0, 0.0, "plasma"),), seen, {"WT": "55", "SEX": "0"})
    body = load_problem("midazolam").problem(person).model.physiology  # type: ignore[attr-defined]
    assert float(body.BW) == 55.0 and float(body.sex) == float(reference_body("human", "F").sex)


def test_a_childs_brain_problem_has_a_childs_permeability() -> None:
    seen = Seen.design([1.0, 4.0], ["plasma"])
    traits = {"WT": "18", "SEX": "F", "AGE": "5", "HT": "110"}
    child = load_problem("brain4-paracetamol").problem(Person("a", (), seen, traits))
    starts = {u.name: u.start for u in child.unknowns}
    assert starts["PSb"] == pytest.approx(1.875 * 0.89635, rel=1e-4) and starts["PSe"] == 300.0
    assert child.known["Vc"] == 0.143
