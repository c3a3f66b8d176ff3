"""The brain model: its body, its equations, and what it says of drugs that others simulated."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from pbpk.brain import COMPARTMENTS, VOLUMES, Brain, brain_body, permeability_share
from pbpk.inverse import load_problem

MAN = {"Vbb": 0.06718, "Vbm": 1.12858, "Vc": 0.11286, "Vs": 0.02821, "Qbr": 38.75, "Qbulk": 0.00525}
MAN |= {"Qssink": 0.00798, "Qsout": 0.00718, "Qsin": 0.01516, "Qcsink": 0.01302}


def test_a_man_of_70_kg_has_the_published_volumes_and_flows() -> None:
    body = brain_body("M", 30, 176, 70)
    assert {name: round(body[name], 2 if name == "Qbr" else 5) for name in MAN} == MAN


@pytest.mark.parametrize(
    "person", [("M", 30, 176, 70), ("F", 60, 160, 55), ("M", 5, 110, 18), ("F", 0.1, 53, 4)]
)
def test_as_much_fluid_leaves_each_space_as_enters_it(person: tuple[str, float, float, float]) -> None:
    body = brain_body(*person)
    production = 4 * body["Qbulk"]
    assert body["Qsin"] == pytest.approx(body["Qsout"] + body["Qssink"])
    assert body["Qcsink"] + body["Qssink"] == pytest.approx(production)


def test_a_childs_permeability_grows_to_that_of_an_adult() -> None:
    shares = [permeability_share(age) for age in (0.1, 1, 5, 15)]
    assert shares == sorted(shares) and shares[-1] < 1.05 and permeability_share(40) == 1.0


@pytest.mark.parametrize(
    ("person", "says"),
    [(("X", 30, 176, 70), "sex must be one of"), (("M", -1, 176, 70), "age must be positive"),
     (("M", 30, 176, 2), "room for its mass"), (("M", 0.001, 50, 3), "fluid is made")],
)  # fmt: skip
def test_an_impossible_person_is_refused(person: tuple[str, float, float, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        brain_body(*person)


def test_the_states_obey_the_equations_as_they_are_written() -> None:
    """The four equations in concentrations, typed again from the paper's form and integrated by Radau."""
    problem = load_problem("brain4-b1").problem()
    p = problem.parameters(problem.theta({"PSb": 0.1875, "PSc": 0.09375, "PSe": 0.3}))
    p = {name: float(value) for name, value in p.items()} | {"CLbout": 0.05}
    fub = p["fu"] / p["BP"]

    def slope(t: float, y: np.ndarray) -> list[float]:
        A1, A2, bb, bm, c, s = y
        Cp, given = A1 / p["V1"], 1000 / 0.25 if t < 0.25 else 0.0
        to_mass = p["PSb"] * (fub * bb - p["fum"] * bm)
        to_csf = p["PSc"] * (fub * bb - p["fuc"] * c)
        across = p["PSe"] * (p["fum"] * bm - p["fuc"] * c)
        efflux, bulk = p["CLbout"] * p["fum"] * bm, p["Qbulk"] * bm
        back = p["Qssink"] * s + p["Qcsink"] * c
        between = p["Q"] * (Cp - A2 / p["V2"])
        return [
            given - p["CL"] * Cp - between,
            between,
            (p["Qbr"] * (p["BP"] * Cp - bb) - to_mass - to_csf + back + efflux) / p["Vbb"],
            (to_mass - across - bulk - efflux) / p["Vbm"],
            (across + to_csf + bulk + p["Qsout"] * s - (p["Qsin"] + p["Qcsink"]) * c) / p["Vc"],
            (p["Qsin"] * c - (p["Qsout"] + p["Qssink"]) * s) / p["Vs"],
        ]

    options = {"method": "Radau", "rtol": 1e-9, "atol": 1e-11}
    during = solve_ivp(slope, (0, 0.25), np.zeros(6), **options).y[:, -1]
    late = solve_ivp(slope, (0.25000001, 12), during, t_eval=[1.0, 4.0, 12.0], **options).y
    own = problem.replace(known={**problem.known, "CLbout": 0.05})
    C = own.concentration(
        own.theta({"PSb": 0.1875, "PSc": 0.09375, "PSe": 0.3}), torch.tensor([1.0, 4.0, 12.0]).double()
    )
    assert np.allclose(C[:, 1:].T.numpy(), late[2:], rtol=1e-5)


def test_linezolid_reaches_the_published_exposure_at_steady_state() -> None:
    """AUC over 24 h of 600 mg twice daily: plasma 281 and cranial fluid 181 mg h/L, Litjens et al. (2023)
    Antibiotics 12:702, geometric means of a population; here one man."""
    recipe = load_problem("brain4-linezolid")
    problem = recipe.problem()
    time = torch.linspace(156, 180, 2401, dtype=torch.float64)
    C = problem.concentration(problem.theta(recipe.true_values(problem)), time)
    area = dict(zip(problem.model.compartments, torch.trapezoid(C, time, dim=0).tolist(), strict=True))
    assert area["plasma"] == pytest.approx(281, rel=0.1)
    assert area["cranial_csf"] == pytest.approx(181, rel=0.1)
    assert area["cranial_csf"] / area["plasma"] == pytest.approx(181 / 281, rel=0.05)


def test_without_fluid_flow_and_efflux_all_spaces_come_to_one_unbound_concentration() -> None:
    p = dict.fromkeys(Brain(((2.0, 0.0),)).parameters, 0.0) | dict.fromkeys(VOLUMES.values(), 0.5)
    p |= {"Qbr": 40.0, "PSb": 1.0, "PSc": 2.0, "PSe": 3.0, "fu": 0.4, "BP": 0.8, "fum": 0.1, "fuc": 1.0}
    model = Brain(((2.0, 1e-12),))
    A = torch.zeros(5, 5, dtype=torch.float64)
    for (row, column), rate in model.rates(p).items():
        A[model.states.index(row), model.states.index(column)] = rate
    inner = [model.states.index(name) for name in COMPARTMENTS if name != "spinal_csf"]
    mass = -torch.linalg.solve(A[inner][:, inner], A[inner, 0] * 2.0)
    unbound = mass / 0.5 * torch.tensor([0.4 / 0.8, 0.1, 1.0], dtype=torch.float64)
    assert torch.allclose(unbound, unbound[0].expand(3), rtol=1e-10)
