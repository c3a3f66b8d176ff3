"""The solvers without integration: X-TFC and the physics-informed networks; and the amortised network."""

import dataclasses

import numpy as np
import pytest
import torch

from pbpk.inverse import amortised, eigen, load_problem, lsq, pinn, xtfc
from pbpk.inverse.collocation import Collocation
from pbpk.inverse.crowd import Crowd
from pbpk.inverse.problem import Given

B1 = load_problem("brain4-b1")
DESIGN = B1.problem()
TRUTH = DESIGN.theta(B1.truth)


@pytest.fixture(scope="module")
def noisy():
    return DESIGN.simulated(TRUTH, torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def best(noisy):
    return lsq.fit(noisy)


def start(seed):
    return DESIGN.starts(1, torch.Generator().manual_seed(seed))[0]


def test_clocks_run_from_minus_one_to_one_each_in_its_interval(noisy):
    design = Collocation(noisy, 8)
    clocks, slopes = design.clocks(torch.tensor([0.0, 0.25, 24.0], dtype=torch.float64))
    expected = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    assert torch.allclose(clocks, expected)
    assert (slopes >= 0).all()


def test_derivatives_of_the_rows_are_exact(noisy):
    design, step = Collocation(noisy, 8), 1e-6
    _, slopes = design.rows(TRUTH.numpy())
    for k in range(3):
        up, down = (design.rows((TRUTH + sign * step * torch.eye(3)[k]).numpy())[0] for sign in (1, -1))
        for name in ("A", "forcing", "rate", "R", "rest"):
            slope = (getattr(up, name) - getattr(down, name)) / (2 * step)
            assert np.allclose(slope, getattr(slopes[k], name), rtol=1e-5, atol=1e-6)


def test_the_projected_curve_is_the_exact_solution(noisy):
    clean = noisy.replace(seen=noisy.seen.with_values(noisy.predict(TRUTH)))
    design = Collocation(clean, 24)
    projected = xtfc._Projected(design, 24)
    projected.set(1e-4, design.sd())
    projected(TRUTH.numpy())
    assert np.allclose(projected.prediction, clean.seen.value.numpy(), rtol=1e-3)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_xtfc_ends_where_least_squares_does(noisy, best, seed):
    found = xtfc.fit(noisy, start=start(seed), reference=best)
    assert found.converged
    assert found.distance(best)["parameters"] < 0.3
    assert "above least squares in deviance" in found.messages[-1]


def test_xtfc_takes_repeated_doses_at_once_and_by_mouth():
    recipe = load_problem("one-compartment-oral")
    design = recipe.problem()
    (dose,) = design.given
    twice = design.replace(given=(dose, dataclasses.replace(dose, time=dose.time + 6.0)))
    problem = twice.simulated(twice.theta(recipe.truth), torch.Generator().manual_seed(0))
    assert isinstance(dose, Given)
    reference = lsq.fit(problem)
    assert xtfc.fit(problem, start=reference.theta).distance(reference)["parameters"] < 0.3


def test_the_whole_body_is_refused():
    with pytest.raises(ValueError, match="must have at most 8 states that follow an unknown"):
        xtfc.fit(load_problem("theophylline").simulated(0))


def test_the_improved_network_ends_near_least_squares(noisy, best):
    found = pinn.fit(noisy, start=start(3), seed=1, networks=1, evaluations=15, reference=best)
    assert found.distance(best)["parameters"] < 0.5


def test_derivatives_of_the_network_are_exact(noisy):
    design = Collocation(noisy, 6)
    network = pinn._Network(design, 4, torch.Generator().manual_seed(0))
    network.set(1e-2, design.sd())
    V = np.full((len(design.free), 4), 0.3)

    def rows(u):
        X, y = network.equations.linear(design.rows(u[:3])[0], network.units(u[3:])[0])
        return X @ V.ravel() - y

    u, step = np.concatenate([TRUTH.numpy(), network.first]), 1e-6
    J = network.slopes(*design.rows(u[:3]), *network.units(u[3:]), V)
    assert J.shape[1] == len(u)
    for k, d in enumerate(step * np.eye(len(u))):
        slope = (rows(u + d) - rows(u - d)) / (2 * step)
        assert np.allclose(slope, J[:, k], rtol=1e-5, atol=1e-6 * np.abs(J[:, k]).max() + 1e-4)


def test_the_published_network_runs_and_says_that_it_did_not_converge(noisy, best):
    found = pinn.fit(noisy, start=start(0), variant="published", adam=20, lbfgs=0, reference=best)
    assert not found.converged
    assert "pinn (published) did not converge." in found.messages


@pytest.mark.parametrize(("option", "what"), [("variant", "variant"), ("activation", "activation")])
def test_unknown_kinds_of_network_are_refused(noisy, option, what):
    with pytest.raises(ValueError, match=f"{what} must be one of"):
        pinn.fit(noisy, **{"variant": "published", option: "relu"})


def test_predictions_at_once_are_the_exact_ones():
    theta = DESIGN.starts(20, torch.Generator().manual_seed(2))
    assert torch.allclose(eigen.predict(DESIGN, theta), DESIGN.predict(theta), rtol=1e-6, atol=1e-9)


def test_slopes_at_once_are_the_exact_ones():
    f, J = eigen.jacobian(DESIGN, TRUTH[None])
    exact_f, exact_J = DESIGN.jacobian(TRUTH)
    assert torch.allclose(f[0], exact_f, rtol=1e-9)
    assert torch.allclose(J[0], exact_J, rtol=1e-3, atol=1e-4 * float(exact_J.abs().max()))


def with_prior(design):
    prior = tuple(dataclasses.replace(u, mean=B1.truth[u.name], sd=0.5) for u in design.unknowns)
    return design.replace(unknowns=prior)


def test_the_amortised_network_is_polished_to_the_least_squares_optimum():
    design = with_prior(DESIGN)
    people = [design.simulated(TRUTH, torch.Generator().manual_seed(seed)) for seed in range(3)]
    for found, problem in zip(amortised.fit_many(people, patients=1000, steps=100), people, strict=True):
        assert found.converged
        assert found.distance(lsq.fit(problem))["parameters"] < 0.02


def test_the_network_alone_covers_what_it_says():
    design = with_prior(DESIGN)
    network = amortised.Amortised(design, patients=2000, steps=300).fit()
    generator = torch.Generator().manual_seed(9)
    crowd = Crowd.alike(design, torch.zeros(500, len(design.seen), dtype=torch.float64))
    theta = crowd.draw(generator)
    found = network.read(Crowd.alike(design, design.noise.draw(eigen.predict(design, theta), generator)))
    sd = found.covariance.diagonal(dim1=1, dim2=2).sqrt()
    inside = ((found.theta - theta).abs() < 1.96 * sd).double().mean()
    assert 0.91 < float(inside) < 0.98


def test_a_network_is_trained_once_for_a_design(noisy):
    first = amortised.fit(noisy, patients=500, steps=20)
    count = len(amortised._TRAINED)
    again = amortised.fit(noisy, patients=500, steps=20)
    amortised.fit_many([noisy, noisy], patients=500, steps=20)
    assert len(amortised._TRAINED) == count
    assert torch.equal(first.theta, again.theta)
