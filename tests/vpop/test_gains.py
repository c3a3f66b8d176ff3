"""What values say of the rest, where it is known: linear Gaussian bodies, and means that follow age."""

import torch

from vpop.gains import Gains, GainsByAge

SLOPES = torch.tensor([[2.0, 0.0], [0.5, -1.0], [0.0, 3.0]], dtype=torch.float64)  # of x by y


def linear(n: int, k: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logarithms y of two values, shape (n, k, 2), and x that follows them with noise of 0.1, (n, k, 3)."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(n, k, 2, generator=generator, dtype=torch.float64)
    x = y @ SLOPES.T + 0.1 * torch.randn(n, k, 3, generator=generator, dtype=torch.float64)
    return x, y


def test_the_gain_is_the_slope_of_the_rest():
    gains = Gains.of_each(*linear(4, 2000))
    assert (gains.gain - SLOPES).abs().max() < 0.02
    assert (gains.covariance - torch.eye(2)).abs().max() < 0.1


def test_a_value_that_is_not_known_moves_nothing():
    x, y = linear(3, 500)
    y[1, :, 1] = torch.nan
    gains = Gains.of_each(x, y)
    assert gains.gain[1, :, 1].eq(0).all()
    assert (gains.gain[1, :, 0] - SLOPES[:, 0]).abs().max() < 0.2


def test_a_moved_draw_has_the_mean_and_spread_of_those_who_have_the_value():
    x, y = linear(1, 20_000)
    gains = Gains.of_each(x[:, :500], y[:, :500])
    wanted = torch.tensor([1.5, -0.5], dtype=torch.float64)
    moved = x[0] + (wanted - y[0]) @ gains.gain[0].T
    assert (moved.mean(0) - SLOPES @ wanted).abs().max() < 0.03
    assert (moved.std(0) - 0.1).abs().max() < 0.01


def test_means_follow_age_sex_and_race_and_so_does_the_density():
    generator = torch.Generator().manual_seed(1)
    n = 3000
    age = 80.0 * torch.rand(n, generator=generator, dtype=torch.float64) ** 2
    sex = torch.randint(0, 2, (n,), generator=generator).double()
    race = torch.randint(0, 5, (n,), generator=generator)
    people = {"age": age, "sex": sex, "race": race}
    mean = torch.log(age + 0.5) + 0.3 * sex + 0.2 * (race == 2)
    y = mean[:, None] + 0.1 * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    gains = GainsByAge.fit(people, y + 0.5, y).at(people)
    assert (gains.mean[:, 0] - mean).abs().quantile(0.99) < 0.05
    assert (gains.gain - 1.0).abs().max() < 0.05
    likeliest = gains.log_density(torch.full((n, 1), float(torch.log(torch.tensor(10.5))))).argmax()
    assert abs(float(mean[likeliest]) - 2.35) < 0.15
