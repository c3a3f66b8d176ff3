"""The plain engines on a GPU against themselves on the CPU."""

import pytest
import torch

from pbpk import laplace, stiff
from pbpk.graph import LUMPED
from pbpk.regimen import Regimen
from pbpk.topology import assemble

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
TIMES = torch.linspace(0, 12, 13, dtype=torch.float64)
PLAN = Regimen.parse("20 mg po q5h x2 + 3 mg iv over 2 h at 1 h")


def moved(value):
    return value.cuda()


def test_the_stiff_engine_takes_the_same_steps_on_a_gpu(people, saturable):
    bodies = people(6)
    system, schedule, amounts = (
        assemble(LUMPED, bodies, saturable),
        PLAN.schedule(TIMES),
        PLAN.amounts(bodies.BW),
    )
    here, *_ = stiff.solve(system, schedule, amounts, rtol=1e-4, compiled=False)
    there, status, _ = stiff.solve(system.each(moved), schedule, amounts.cuda(), rtol=1e-4)
    assert not status.any()
    assert (there.cpu() - here).abs().max() < 1e-8 * amounts.max()


def test_the_laplace_engine_gives_the_same_profiles_on_a_gpu(people, drug):
    bodies = people(300)
    system, schedule, amounts = assemble(LUMPED, bodies, drug), PLAN.schedule(TIMES), PLAN.amounts(bodies.BW)
    profiles = []
    for change in (lambda value: value, moved):
        given = system.each(change), schedule, change(amounts)
        transform = laplace.prepare(*given, [system.position("venous")])
        profiles.append(laplace.solve(transform, *given)[0].cpu())
    assert (profiles[0] - profiles[1]).abs().max() < 1e-6 * profiles[0].max()
