"""How networks are trained, on problems small enough to see through."""

import torch

from vpop.training import Examples, Training, denoising, descend, fresh

PLAN = Training(updates=100, batch=128, rate=1e-2, memory=0.9)


def examples(n: int = 400) -> Examples:
    """People whose second score is their first; the third is missing in half of them."""
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x[:, 1] = x[:, 0]
    x[::2, 2] = torch.nan
    people = fresh(3, 16, 1, 0).describe(torch.zeros(n), torch.zeros(n).long(), torch.full((n,), 30.0))
    return Examples.of(x, people, torch.ones(n), givable=2)


def test_the_same_seed_gives_the_same_network():
    one, two = (
        descend(network, denoising(network, examples(), PLAN.batch), PLAN, seed=3)
        for network in (fresh(3, 16, 1, 7), fresh(3, 16, 1, 7))
    )
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_trained_network_reads_one_score_off_another():
    network = fresh(3, 16, 1, 0)
    network = descend(network, denoising(network, examples(), PLAN.batch), PLAN, seed=3)
    some = examples()
    known = torch.tensor([1.0, 0.0, 0.0]).expand(400, 3)
    lost = torch.where(known > 0, some.scores, 5.0 * torch.randn(400, 3))
    found = network(lost, torch.full((400, 1), 5.0), some.people, known)
    assert ((found[:, 1] - some.scores[:, 0]) ** 2).mean() < 0.7


def test_a_missing_score_is_absent_and_zero():
    some = examples()
    assert (some.present[::2, 2] == 0).all() and (some.scores[::2, 2] == 0).all()
    assert (some.present[1::2] == 1).all()


def test_only_what_can_be_given_and_is_there_is_ever_known():
    some = examples(4000)
    rows = torch.arange(4000)
    known = some.some_known(rows, torch.Generator().manual_seed(2))
    assert known[:, 2].eq(0).all()
    assert 0.2 < known[:, :2].mean() < 0.3  # of half of the rows half, on average
    missing = Examples.of(torch.full((9, 3), torch.nan, dtype=torch.float64), some.people[:9], rows[:9], 3)
    assert missing.some_known(torch.arange(9), torch.Generator().manual_seed(0)).eq(0).all()
