import torch
from hypothesis import given
from hypothesis import strategies as st

from vpop.growth import KNOTS, Growth


def survey(n: int = 20_000):
    """A quantity that grows, with a skewness that grows too."""
    generator = torch.Generator().manual_seed(0)
    age = 80 * torch.rand(n, generator=generator, dtype=torch.float64) ** 2
    sex = (torch.rand(n, generator=generator) < 0.5).double()
    z = torch.randn(n, generator=generator, dtype=torch.float64)
    log_value = 0.5 * torch.log(age + 1.0) + 0.1 * sex + 0.1 * z + 0.02 * (age / 80) * z**2
    return torch.exp(log_value), sex, age


CHART = Growth.fit(*survey(), torch.ones(20_000).double())


@given(st.floats(0.01, 80), st.sampled_from([0.0, 1.0]), st.floats(-5, 5))
def test_score_undoes_value_at_any_age_and_in_the_tails(age, sex, z):
    age, sex, z = (torch.tensor([v], dtype=torch.float64) for v in (age, sex, z))
    assert torch.allclose(CHART.score(CHART.value(z, sex, age), sex, age), z, atol=1e-9)


def test_scores_are_standard_normal_at_every_age():
    value, sex, age = survey()
    z = CHART.score(value, sex, age)
    for low, high in ((0, 2), (5, 10), (20, 40), (60, 80)):
        inside = z[(age >= low) & (age < high)]
        assert abs(inside.mean()) < 0.06 and abs(inside.std() - 1) < 0.06
        assert abs((inside**3).mean()) < 0.35  # the skewness is gone, up to the straight tails


def test_missing_values_and_a_missing_sex_do_no_harm():
    value, _, age = survey(400)
    value[::2] = torch.nan
    chart = Growth.fit(value, torch.ones(400).double(), age, torch.ones(400).double())
    assert torch.isfinite(chart.quantiles).all()
    assert (chart.quantiles.diff(dim=-1) > 0).all() and chart.quantiles.shape[1] == len(KNOTS)
