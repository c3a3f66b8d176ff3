import torch

from vpop.calibration import Calibration, Population
from vpop.coordinates import NAMES


def population(seed: int, shift: float = 0.0, scale: float = 1.0, n: int = 20_000) -> Population:
    generator = torch.Generator().manual_seed(seed)
    free = shift + scale * torch.randn(n, len(NAMES), generator=generator, dtype=torch.float64)
    sex = (torch.rand(n, generator=generator) < 0.5).double()
    age = 80.0 * torch.rand(n, generator=generator, dtype=torch.float64)
    return Population(free, sex, age, torch.ones(n).double())


OFF, TRUE = population(0, 0.2, 1.1), population(1)
CALIBRATION = Calibration.fit(OFF, TRUE)
WHOSE = {"sex": OFF.sex, "age": OFF.age}


def test_calibrated_draws_have_the_quantiles_of_the_people():
    levels = torch.tensor([0.02, 0.05, 0.5, 0.95, 0.98], dtype=torch.float64)
    ours = CALIBRATION.apply(OFF.free, WHOSE)[:, :4].quantile(levels, dim=0)
    theirs = TRUE.free[:, :4].quantile(levels, dim=0)
    assert (OFF.free[:, :4].quantile(levels, dim=0) - theirs).abs().max() > 0.3
    assert (ours - theirs).abs().max() < 0.06


def test_undo_undoes_apply_also_far_in_the_tails():
    free = OFF.free.clone()
    free[:10] *= 5.0
    again = CALIBRATION.undo(CALIBRATION.apply(free, WHOSE), WHOSE)
    assert torch.allclose(again, free, rtol=0, atol=1e-9)


def test_coordinates_of_the_inside_are_left_alone():
    assert torch.equal(CALIBRATION.apply(OFF.free, WHOSE)[:, 4:], OFF.free[:, 4:])
