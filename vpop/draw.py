"""The people of the diffusion model, for any command that asks for them by name: ``pbpk population pcdm``."""

from __future__ import annotations

from collections.abc import Callable

from pbpk.physiology import Cohort
from vpop.demographics import OLDEST
from vpop.pcdm import PCDM
from vpop.sample import STEPS


def pcdm(
    weights: str | None = None,
    age: str | None = None,
    sex: str | None = None,
    where: str | None = None,
    steps: str | None = None,
) -> Callable[[int, int], Cohort]:
    """Opens a model; the entry point ``pbpk.people`` of the name ``pcdm``, and of its weights files.

    Arguments:
        weights: The weights file; None for those that ship with the package.
        age: The closed range of ages [year], ``"18:65"``.
        sex: ``"M"`` or ``"F"``.
        where: A request in the language of :mod:`vpop.where`.
        steps: The steps of the sampler, ``"20"`` if not given; ``"1"`` for the student.

    Returns:
        A sampler, called with the number of people and a seed.

    Raises:
        ValueError: If the weights are damaged, or a condition cannot be read.

    >>> len(pcdm(age="18:65")(3, 0))
    3
    """
    model = PCDM.load(weights)
    ages = _range(age) if age is not None else (0.0, OLDEST)
    count = _steps(steps) if steps is not None else STEPS
    return lambda n, seed: model.sample(n, seed, age=ages, sex=sex, where=where, steps=count)


def _steps(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"--steps must be a whole number, 20 say, but is {text!r}.")
    return int(text)


def _range(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise ValueError(f"--age must be FROM:TO in years, 18:65 say, but is {text!r}.") from None
