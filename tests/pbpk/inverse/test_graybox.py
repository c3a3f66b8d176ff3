"""A gray box: an unknown term learnt inside known equations, and read back as a formula."""

import math

import pytest
import torch

from pbpk.inverse import graybox_pinn, graybox_ude
from pbpk.inverse.formula import Formula, Piece, library, read_back
from pbpk.inverse.graybox import GrayBox, Series

KG, KB = 0.72, 0.15
SEEN = torch.linspace(0.0, 50.0, 11, dtype=torch.float64)
DENSE = torch.linspace(0.0, 50.0, 501, dtype=torch.float64)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def absorption(t):
    G = 0.1 * torch.exp(-KG * t)
    B = 0.1 * KG / (KG - KB) * (torch.exp(-KB * t) - torch.exp(-KG * t))
    return torch.stack([G, B, 0.1 - G - B], -1)


def known(t, x):
    return torch.stack([-KG * x[..., 0], 0.0 * x[..., 0], KB * x[..., 1]], -1)


def box(*sees):
    return GrayBox(known, tensor([0.0], [1.0], [0.0]), tensor(0.1, 0.0, 0.0), sees)


def series(exact=1e-5):
    y = absorption(SEEN)
    return Series(SEEN, y, exact * y.abs().amax(0))


def error(learned, sees):
    x = absorption(DENSE)
    z = x[:, :2] if sees else torch.log1p(DENSE)[:, None]
    f = KG * x[:, 0] - KB * x[:, 1]
    return float((learned(z)[:, 0] - f).norm() / f.norm())


@pytest.fixture(scope="module")
def of_states():
    return graybox_pinn.learn(box(0, 1), series())


def test_integration_is_of_fourth_order():
    exact = absorption(tensor(8.0))

    def term(z):
        return KG * z[..., :1] - KB * z[..., 1:]

    off = [float((box(0, 1).solve(term, tensor(8.0), h) - exact).norm()) for h in (0.4, 0.2)]
    assert math.log2(off[0] / off[1]) == pytest.approx(4.0, abs=0.3)


def test_a_term_of_the_time_is_twice_as_exact_as_published_from_ten_points():
    assert error(graybox_pinn.learn(box(), series()), False) < 6.92e-2 / 2


def test_a_term_of_the_states_is_ten_times_as_exact_as_published(of_states):
    assert error(of_states, True) < 6.92e-3


def test_the_solver_agrees_with_the_network_of_the_states(of_states):
    through = graybox_ude.learn(box(0, 1), series(), first=of_states, step=0.5)
    z = absorption(DENSE)[:, :2]
    assert torch.allclose(through(z), of_states(z), atol=1e-4)


def test_the_benchmark_reads_back_as_its_formula(of_states):
    found = read_back(of_states, series(), tried=1, step=1.0).formula
    numbers = found.coefficients(["G", "B"])[0]
    assert numbers == {"G": pytest.approx(KG, rel=2e-2), "B": pytest.approx(-KB, rel=2e-2)}


def test_saturable_elimination_is_told_from_linear():
    elimination = GrayBox(lambda t, x: 0.0 * x, tensor([1.0]), tensor(10.0), (0,))
    t = torch.linspace(0.3, 12.0, 40, dtype=torch.float64)
    exact = elimination.solve(lambda z: -2.0 * z / (2.0 + z), t, 0.02)
    noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = Series(t, exact * (1.0 + 0.05 * noise), 0.05 * exact)
    found = read_back(graybox_pinn.learn(elimination, data, hidden=8), data, tried=2, step=0.3).formula
    numbers = found.coefficients(["C"])[0]
    assert numbers == {"C/(K + C)": pytest.approx(-2.0, rel=0.05), "K C": pytest.approx(2.0, rel=0.05)}


def test_the_band_of_a_term_is_wider_where_nothing_was_seen(of_states):
    inside, outside = of_states.sd(tensor([0.05, 0.05], [0.5, 0.5]))
    assert outside > inside


def test_an_unseen_state_may_be_missing():
    y = absorption(SEEN)
    y[:, 0] = math.nan
    learned = graybox_pinn.learn(box(0, 1), Series(SEEN, y, tensor(1.0, 1e-6, 1e-6)))
    assert error(learned, True) < 6.92e-2 / 2


def test_a_library_holds_products_and_saturable_pieces():
    z = tensor([2.0, 3.0])
    assert [float(piece(z, 2.0)) for piece in library(2)] == [1, 2, 3, 4, 6, 9, 0.5, 0.6]


def test_a_formula_evaluates_what_it_writes():
    formula = Formula(((Piece((0,), saturable=True), Piece((1,))),), tensor(-2.0, math.log(3.0), 0.5))
    assert formula.text(["C", "B"]) == ["-2 C/(3 + C) + 0.5 B"]
    assert float(formula(tensor(1.0, 4.0))) == pytest.approx(1.5)


def test_a_state_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"sees must name states 0 to 2, but has 3\."):
        box(3)


def test_enters_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="one row for each of the 3 states"):
        GrayBox(known, tensor([1.0]), tensor(0.1, 0.0, 0.0))


@pytest.mark.parametrize(
    ("times", "value", "sd", "what"),
    [
        ((1.0, 0.5), (1.0, 1.0), 1.0, "ascend"),
        ((0.5, 1.0), (math.nan, math.nan), 1.0, "all are NaN"),
        ((0.5, 1.0), (1.0, 1.0), 0.0, "above 0"),
    ],
)
def test_bad_data_is_refused(times, value, sd, what):
    with pytest.raises(ValueError, match=what):
        Series(tensor(*times), tensor(*value)[:, None], tensor(sd))
