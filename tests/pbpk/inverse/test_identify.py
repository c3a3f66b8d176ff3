"""Identifiability: what the literature's and the design's tables say must come out, and no false alarm."""

import pytest
import torch

from pbpk.inverse import Given, InverseProblem, Noise, Seen, Unknown, identify, load_problem
from pbpk.inverse.compartments import Compartmental
from pbpk.inverse.identify import Identifiability, advice, gate
from pbpk.inverse.structural import structure

LOW = (1.0, 0.5, 0.05, 0.3, 0.2)
HIGH = (135.0, 20.0, 67.5, 300.0, 0.3)


def b0(observe: tuple[str, ...], values: tuple[float, ...]) -> Identifiability:
    problem = load_problem("brain4-b0").problem(observe=observe)
    return identify(problem, problem.theta(torch.tensor(values, dtype=torch.float64)))


@pytest.mark.parametrize(
    ("observe", "values", "percent"),
    [
        (("spinal_csf",), LOW, (20611, 20606, 233, 180, 19857)),
        (("brain_mass", "spinal_csf"), LOW, (2.1, 9.0, 6.6, 23.6, 3.4)),
        (("brain_mass", "cranial_csf", "spinal_csf"), LOW, (2.0, 6.2, 5.1, 17.7, 2.6)),
        (("brain_mass", "cranial_csf", "spinal_csf"), HIGH, (57000, 2400, 140000, 150000, 235)),
    ],
)
def test_benchmark_b0_has_the_tables_coefficients_of_variation(
    observe: tuple[str, ...], values: tuple[float, ...], percent: tuple[float, ...]
) -> None:
    verdict = b0(observe, values)
    assert (100 * verdict.cv).tolist() == pytest.approx(percent, rel=0.05)
    is_open = [cv > 100 for cv in percent]
    assert [name in verdict.open for name in verdict.problem.names] == is_open


def test_benchmark_b1_has_the_tables_coefficients_of_variation() -> None:
    verdict = identify(load_problem("brain4-b1").problem())
    assert (100 * verdict.cv).tolist() == pytest.approx([1.5, 3.0, 8.2], abs=0.05)
    assert verdict.identifiable


def test_every_brain_problem_is_structurally_identifiable_even_where_it_is_practically_not() -> None:
    for observe in (("spinal_csf",), ("brain_mass",)):
        assert structure(load_problem("brain4-b0").problem(observe=observe)).identifiable


def test_paracetamol_as_published_tells_only_the_sum() -> None:
    verdict = identify(load_problem("brain4-paracetamol").problem())
    assert verdict.open == ("PSb", "PSc", "PSe")
    assert str(verdict.combinations[0]) == "PSb + PSc"
    assert "only PSb + PSc" in " ".join(verdict.sentences())


START = {"CL": 3.0, "V1": 30.0, "F": 0.8, "ka": 1.5}


def plain(unknowns: tuple[str, ...], known: dict[str, float], where: str = "depot") -> InverseProblem:
    return InverseProblem(
        Compartmental(), known, tuple(Unknown(name, start=START[name]) for name in unknowns),
        (Given(0.0, 100.0, 0.0, where),), Seen.design([0.5, 1, 2, 4, 8, 24], ["plasma"]), Noise(0.1),
    )  # fmt: skip


def test_bioavailability_after_a_dose_by_mouth_alone_is_structurally_open() -> None:
    told = structure(plain(("CL", "V1", "F"), {"ka": 1.0}))
    assert told.rank == 2 and set(told.open) == {"CL", "V1", "F"}
    assert {("/", ("CL", "V1")), ("/", ("CL", "F")), ("/", ("V1", "F"))} == set(told.combinations)


def test_bioavailability_is_told_once_there_is_an_intravenous_dose_too() -> None:
    both = plain(("CL", "V1", "F"), {"ka": 1.0})
    both = both.replace(given=(*both.given, Given(48.0, 100.0, 0.0, "plasma")))
    assert structure(both).identifiable


def test_two_doses_given_together_are_one_input() -> None:
    together = plain(("CL", "V1", "F"), {"ka": 1.0})
    together = together.replace(given=(*together.given, Given(0.0, 100.0, 0.0, "plasma")))
    assert structure(together).identifiable  # the depot's delay tells the two apart
    alike = together.replace(given=(Given(0.0, 100.0, 0.0, "depot"), Given(0.0, 50.0, 0.0, "depot")))
    assert not structure(alike).identifiable


def test_a_parameter_that_no_dose_reaches_is_open() -> None:
    told = structure(plain(("CL", "V1"), {"F": 1.0, "ka": 1.0}, "plasma"))
    assert told.identifiable
    told = structure(plain(("CL", "V1", "ka"), {"F": 1.0}, "plasma"))
    assert told.open == ("ka",)


def test_intrinsic_clearance_and_unbound_fraction_are_told_only_together_where_Kp_does_not_follow() -> None:
    problem = load_problem("theophylline").problem()
    known = {k: v for k, v in problem.known.items() if k != "fup"}
    more = problem.replace(known=known, unknowns=(*problem.unknowns, Unknown("fup", 0.01, 1.0, start=0.61)))
    verdict = identify(more)
    assert {"CLint", "fup"} <= set(verdict.open) and "ka" not in verdict.open
    narrow = gate(more)
    assert (
        "fup" in narrow.refused
        and identify(narrow.problem, narrow.problem.theta(_starts(narrow.problem))).identifiable
    )


def _starts(problem: InverseProblem) -> dict[str, float]:
    return {u.name: u.start for u in problem.unknowns}  # type: ignore[misc]


@pytest.mark.parametrize(
    "name", ["one-compartment", "one-compartment-oral", "two-compartment", "theophylline"]
)
def test_what_is_identifiable_raises_no_alarm_and_is_left_alone(name: str) -> None:
    problem = load_problem(name).problem()
    assert identify(problem).identifiable and gate(problem).problem is problem


def test_the_gate_joins_what_only_a_sum_tells_and_holds_the_rest() -> None:
    problem = load_problem("brain4-paracetamol").problem()
    narrow = gate(problem)
    assert narrow.problem.names == ("PSb + PSc",) and narrow.held == {"PSe": pytest.approx(300.0)}
    assert set(narrow.refused) == {"PSb", "PSc", "PSe"}
    same = narrow.problem.predict(narrow.problem.theta({"PSb + PSc": 2.8125}))
    whole = problem.predict(problem.theta({"PSb": 1.875, "PSc": 0.9375, "PSe": 300.0}))
    assert torch.allclose(same, whole, rtol=1e-9)


def test_nothing_told_is_refused() -> None:
    nothing = plain(("ka",), {"CL": 3.0, "V1": 30.0, "F": 1.0}, "plasma")
    with pytest.raises(ValueError, match="must tell at least one parameter"):
        gate(nothing)


def test_advice_names_the_compartment_that_tells_the_rest() -> None:
    problem = load_problem("brain4-b0").problem(observe=("spinal_csf",))
    ideas = advice(problem)
    told = ideas[ideas["open"] == ""]["idea"].tolist()
    assert "see brain_mass" in told and "see cranial_csf" not in told
    assert ideas["open"].iloc[0] == ""


def test_a_prior_makes_an_open_parameter_known() -> None:
    problem = plain(("CL", "V1", "F"), {"ka": 1.0})
    prior = Unknown("F", 0.01, 1.0, mean=0.8, sd=0.1, start=0.8)
    assert bool((identify(problem.replace(unknowns=(*problem.unknowns[:2], prior))).cv < 0.3).all())
