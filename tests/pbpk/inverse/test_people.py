"""Many people: each answered alone, or together by a method that fits many at once."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pbpk.bodies import reference_body
from pbpk.inverse import FitResult, InverseProblem, amortised, eigen, load_problem, lsq, people
from pbpk.inverse.crowd import Crowd
from pbpk.inverse.identify import starting
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


def cohort_problems(people_count: int, times: Sequence[Sequence[float]]) -> list[InverseProblem]:
    """Returns people of different bodies and parameters; those of the second kind have times of their own."""
    recipe = load_problem("theophylline")
    draw = torch.Generator().manual_seed(0)
    asked = []
    for number in range(people_count):
        body = reference_body("human", "MF"[number % 2], 30.0 + number, 60.0 + 4.0 * number)
        problem = recipe.problem(body=body, times=tuple(times[number % len(times)]))
        theta = problem.theta(recipe.true_values(problem))
        theta = theta + 0.3 * torch.randn(problem.K, generator=draw, dtype=torch.float64)
        asked.append(problem.simulated(theta, draw).replace(name=str(number)))
    return asked


def test_one_network_serves_people_of_different_bodies_and_times() -> None:
    asked = cohort_problems(6, [(0.5, 1, 2, 4, 8, 24), (0.25, 1, 3, 5, 9, 12, 24)])
    found = amortised.fit_many(asked, patients=300, steps=30)
    assert len({one.messages for one in found}) == 1 and "for all 6 people" in found[0].messages[0]
    for one, problem in zip(found, asked, strict=True):
        reference = lsq.fit(problem, starts=3)
        assert one.converged and one.problem is problem
        assert one.distance(reference)["parameters"] < 0.02
        assert one.scale == pytest.approx(reference.scale, rel=1e-3)
        assert torch.allclose(one.upper, reference.upper, rtol=1e-2)


def test_a_crowd_foretells_what_each_of_its_people_does() -> None:
    asked = cohort_problems(3, [(0.5, 2, 8)])
    crowd = Crowd.of(asked)
    theta = torch.stack([starting(problem) for problem in asked])
    apart = torch.stack([problem.predict(t) for problem, t in zip(asked, theta, strict=True)])
    assert torch.allclose(eigen.predict(crowd.problem, theta), apart, rtol=1e-7)
    some = torch.tensor([2, 0])
    assert torch.allclose(eigen.predict(crowd.take(some).problem, theta[some]), apart[some], rtol=1e-7)
