"""The line in the noise and where it is cut, on people whose slack is made up."""

import torch

from vpop.forecast import LOST, Line, Trust

N, D = 4000, 6


def made_up() -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sex = torch.randint(2, (N,), generator=generator).double()
    age = 80.0 * torch.rand(N, generator=generator, dtype=torch.float64)
    people = {"sex": sex, "race": torch.zeros(N).long(), "age": age}
    noise = torch.randn(N, D, generator=generator)
    return people, noise, (2.0 * sex - 1.0) * noise[:, 0].double() + noise[:, 3].double() - 2.0


def test_a_line_whose_slope_depends_on_sex_is_recovered():
    people, noise, slack = made_up()
    line = Line.fit(people, noise, slack, torch.ones_like(slack))
    assert (line(people, noise) - slack).std() < 0.02 * slack.std()


def test_a_cut_loses_no_more_than_it_may_and_spares_most_of_the_work():
    generator = torch.Generator().manual_seed(1)
    forecast, error = torch.randn(2, 400_000, generator=generator, dtype=torch.float64)
    slack = 0.9 * forecast + 0.2 * error - 3.0
    trust = Trust.fit(forecast[:1000], slack[:1000])
    cut = trust.cut(forecast[:50_000], 0.0, 0.0)
    qualify = slack >= 0
    assert qualify[forecast < cut].sum() <= max(1.0, LOST * qualify.sum())
    assert (forecast >= cut).double().mean() < 0.02


def test_the_share_that_is_kept_whatever_is_believed_lies_above_the_cut():
    forecast = torch.linspace(-1.0, 1.0, 1001, dtype=torch.float64)
    cut = Trust.fit(forecast, forecast - 50.0).cut(forecast, 0.0, 0.1)
    assert abs(float((forecast >= cut).double().mean()) - 0.1) < 2e-3
