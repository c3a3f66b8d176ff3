"""The tabulated modulation: what the network would have said, to a small share of a standard deviation."""

import torch

from vpop.denoise import YOUNGEST
from vpop.modulation import Modulation, alike, tabulated
from vpop.pcdm import PCDM
from vpop.sample import noise_levels, solve


def test_scores_drawn_with_the_table_are_those_of_the_network() -> None:
    model, n = PCDM.load(), 2000
    network, levels = model.network, noise_levels(20)
    people = model.demographics.draw(n, torch.Generator().manual_seed(1))
    described = network.describe(**people).float()
    noise = torch.randn(n, network.settings["coordinates"], generator=torch.Generator().manual_seed(2))
    nothing, table = torch.zeros_like(noise), tabulated(network, 20)
    rows = table.rows(people)
    assert rows is not None
    exact = solve(lambda x, s: network(x, s.expand(n, 1), described, nothing), noise, levels)
    found = solve(lambda x, s: network.estimate(x, s, table(s, rows)), noise, levels)
    assert (found - exact).abs().mean() < 1e-3 and (found - exact).abs().max() < 0.03


def test_at_a_knot_the_table_is_exact() -> None:
    model = PCDM.load()
    levels = noise_levels(3)
    table = Modulation.of(model.network, levels)
    people = {
        "sex": torch.tensor([0.0, 1.0, 1.0]).double(),
        "race": torch.tensor([-1, 0, 4]),
        "age": torch.tensor([YOUNGEST, 100.0, YOUNGEST]).double(),
    }
    described = model.network.describe(**people).float()
    for level in levels.float():
        exact = model.network.modulation(described, level.expand(3, 1))
        torch.testing.assert_close(table(level, table.rows(people)), exact, rtol=1e-4, atol=1e-4)


def test_an_unknown_sex_is_not_in_the_table() -> None:
    people = {"sex": torch.tensor([0.5]), "race": torch.tensor([0]), "age": torch.tensor([30.0]).double()}
    assert tabulated(PCDM.load().network, 20).rows(people) is None


def test_neighbours_in_order_are_alike() -> None:
    people = {
        "sex": torch.tensor([1.0, 0.0, 1.0, 0.0]),
        "race": torch.tensor([2, 1, 2, 1]),
        "age": torch.tensor([50.0, 3.0, 20.0, 2.0]).double(),
    }
    assert alike(people).tolist() == [3, 1, 2, 0]
