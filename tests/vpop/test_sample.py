import torch

from vpop.sample import noise_levels, solve


def test_noise_levels_fall():
    levels = noise_levels(20)
    assert bool((levels.diff() < 0).all())


def test_a_gaussian_denoiser_gives_back_its_gaussian():
    """For data N(m, s^2) the best denoiser is known, and the flow maps noise to m + s z exactly."""
    mean, sd = 1.5, 0.7

    def denoise(x, sigma):
        return mean + sd**2 / (sd**2 + sigma**2) * (x - mean)

    noise = torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None]
    levels = noise_levels(240, largest=80.0)
    drawn = solve(denoise, noise, levels)
    exact = mean + sd * (noise * levels[0] - mean) / (sd**2 + levels[0] ** 2) ** 0.5
    assert (drawn - exact).abs().max() < 1e-3


def test_the_solver_converges_with_second_order():
    def denoise(x, sigma):
        return torch.tanh(x / (1 + sigma**2))

    noise = torch.linspace(-2, 2, 21, dtype=torch.float64)[:, None]
    fine = solve(denoise, noise, noise_levels(2000))
    errors = [(solve(denoise, noise, noise_levels(n)) - fine).abs().max() for n in (40, 80)]
    assert errors[0] / errors[1] > 3.0
