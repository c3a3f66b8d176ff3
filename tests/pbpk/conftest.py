"""What the tests of pbpk share: a man, people like him, and a drug that is easy to follow."""

import dataclasses

import pytest
import torch

from pbpk.bodies import reference_body
from pbpk.organs import ORGANS
from pbpk.physiology import Physiology
from pbpk.topology import Kinetics


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors lose time to a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def man() -> Physiology:
    """The reference man."""
    return reference_body("human", sex="M", age=30)


@pytest.fixture(scope="session")
def people(man):
    """Makes n bodies like the man's, every mass and flow drawn at random; BW and CO are their sums."""

    def draw(n: int, seed: int = 0) -> Physiology:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(2, n, len(ORGANS), generator=generator, dtype=torch.float64)
        M, Q = man.M * torch.exp(0.3 * noise[0]), man.Q * torch.exp(0.3 * noise[1])
        like = {name: value.expand(n, *value.shape) for name, value in man.tensors().items()}
        return Physiology("human", **{**like, "M": M, "Q": Q, "BW": M.sum(-1), "CO": Q.sum(-1)})

    return draw


@pytest.fixture(scope="session")
def drug() -> Kinetics:
    """A drug that is absorbed in part, lost in part to the gut wall, metabolised and excreted."""
    Kp = torch.linspace(0.5, 4.0, len(ORGANS), dtype=torch.float64)
    return Kinetics(Kp=Kp, BP=0.7, fup=0.1, CLint=200.0, CLrenal=1.0, ka=1.5, Fa=0.9, Fg=0.6)


@pytest.fixture(scope="session")
def saturable(drug) -> Kinetics:
    """The same drug, metabolised by two enzymes of which one is half saturated by some mg."""
    return dataclasses.replace(
        drug,
        CLint=torch.zeros((), dtype=torch.float64),
        Vmax=torch.tensor([2.0, 100.0], dtype=torch.float64),
        Km=torch.tensor([0.01, 5.0], dtype=torch.float64),
    )
