import torch
from hypothesis import given
from hypothesis import strategies as st

from vpop.marginals import Marginals


def skewed(n: int = 20_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return torch.stack([torch.exp(normal[:, 0]), torch.sinh(normal[:, 1])], dim=-1)


def test_scores_of_the_training_data_are_standard_normal():
    data = skewed()
    scores = Marginals.fit(data, torch.ones(len(data)).double()).encode(data)
    probabilities = torch.tensor([0.01, 0.25, 0.5, 0.75, 0.99], dtype=torch.float64)
    expected = torch.special.ndtri(probabilities)
    assert (scores.quantile(probabilities, dim=0) - expected[:, None]).abs().max() < 0.03


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_decode_undoes_encode_even_far_in_the_tails(a, b):
    data = skewed(2000)
    marginals = Marginals.fit(data, torch.ones(2000).double())
    values = torch.tensor([[a, b]], dtype=torch.float64)
    assert torch.allclose(marginals.decode(marginals.encode(values)), values, rtol=1e-9, atol=1e-9)


def test_the_map_rises_everywhere():
    data = skewed(3000).round(decimals=1)  # ties
    marginals = Marginals.fit(data, torch.ones(3000).double())
    scores = torch.linspace(-8, 8, 500, dtype=torch.float64)[:, None].expand(-1, 2)
    assert (marginals.decode(scores).diff(dim=0) > 0).all()


def test_weights_count_as_repetition():
    data = torch.arange(200.0, dtype=torch.float64)[:, None]
    weights = torch.where(data[:, 0] < 100, 3.0, 1.0).double()
    repeated = torch.cat([data[:100].repeat_interleave(3, 0), data[100:]])
    by_weight = Marginals.fit(data, weights).knots
    by_repetition = Marginals.fit(repeated, torch.ones(len(repeated)).double()).knots
    assert (by_weight - by_repetition).abs().max() < 1.5
