"""Whole bodies that are integrated: saturable metabolism is estimated through the engine's adjoint."""

from pathlib import Path

import pytest
import torch

from pbpk.bodies import reference_body
from pbpk.inverse import identify, load_problem, lsq, xtfc
from pbpk.inverse.library import Recipe
from pbpk.inverse.simulated import SimulatedBody

TOML = """
model = "whole-body"
compound = "theophylline"
[body]
sex = "M"
age = 30.0
[unknown]
Vmax = { start = 40.0 }
Km = { start = 3.0 }
Kp_scale = { start = 1.0, lower = 0.1, upper = 10.0 }
[[dose]]
amount = 1000.0
duration = 0.5
[seen]
compartments = ["plasma"]
times = [0.6, 2, 8, 18, 30, 48]
[noise]
proportional = 0.05
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    path: Path = tmp_path_factory.mktemp("recipes") / "saturable.toml"
    path.write_text(TOML, encoding="utf-8")
    return load_problem(path)


def test_vmax_and_km_are_found_where_the_dose_saturates(recipe: Recipe) -> None:
    problem = recipe.simulated(seed=1)
    found = lsq.fit(problem)
    assert found.converged and found.starts_converged >= 2
    truth = problem.theta(recipe.true_values(problem))
    assert bool(((found.theta - truth).abs() < 3.0 * found.se).all())
    assert bool((found.se < 0.15).all())


def test_slopes_of_the_adjoint_are_those_of_differences(recipe: Recipe) -> None:
    problem = recipe.problem()
    theta = problem.theta(recipe.true_values(problem))
    f, J = problem.jacobian(theta)
    step = 1e-4 * torch.eye(3, dtype=torch.float64)
    up, down = problem.predict(theta + step), problem.predict(theta - step)
    assert torch.allclose(f, problem.predict(theta), rtol=1e-6)
    assert torch.allclose(J, ((up - down) / 2e-4).mT, rtol=1e-3, atol=1e-4 * float(f.max()))


def test_a_small_dose_tells_only_the_ratio_of_vmax_and_km(recipe: Recipe) -> None:
    problem = recipe.problem()
    low = problem.replace(given=tuple(type(d)(d.time, 1e-3, d.duration) for d in problem.given))
    verdict = identify(low)
    assert set(verdict.open) == {"Vmax", "Km"} and str(verdict.combinations[0]) == "Vmax / Km"
    assert verdict.frame()["structural"].unique().tolist() == ["unknown"]


def test_far_below_km_metabolism_is_the_linear_one_of_a_large_km(recipe: Recipe) -> None:
    """With Km a billion times the concentration, Vmax/Km is a linear intrinsic clearance."""
    problem, plain = recipe.problem(), load_problem("theophylline").problem()
    own = plain.model.defaults()  # type: ignore[attr-defined]
    own.pop("Kp_scale")
    known = {**problem.known, "Vmax": own["CLint"] * 1e9, "Km": 1e9}
    saturable = problem.replace(known=known, unknowns=problem.unknowns[2:])
    linear = plain.replace(known=own, unknowns=problem.unknowns[2:], given=problem.given, seen=problem.seen)
    one = torch.zeros(1, dtype=torch.float64)
    assert torch.allclose(saturable.predict(one), linear.predict(one), rtol=1e-5)


def test_methods_that_write_the_equations_down_refuse_it(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="must be linear for a method that writes its equations down"):
        xtfc.fit(recipe.simulated(seed=1))


def test_a_drug_of_which_the_plain_equations_say_all_is_not_integrated() -> None:
    problem = load_problem("midazolam").problem()
    assert problem.model.linear
    assert not SimulatedBody(reference_body("human"), problem.model.compound).linear  # type: ignore[attr-defined]
