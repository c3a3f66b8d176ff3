"""Whether the compiled kernels of this package run: asked for once, by whoever draws, and heard below.

The plain PyTorch lines are the reference, and the only ones that know gradients and devices; the kernels do
the same arithmetic where numba (the extra ``fast``) is installed, equal to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor

MANY = 160_000
"""From so many people times steps on the kernels are worth loading: 8,000 people take plain PyTorch 1 to 2 s
with 20 steps; numba and the kernels load from disk in 2 s, the first compilation takes 25 s."""

_running: ContextVar[bool] = ContextVar("compiled kernels run", default=False)


@contextmanager
def kernels(wish: bool | None, count: int) -> Iterator[None]:
    """Lets compiled kernels run inside the block.

    Arguments:
        wish: True or False; None where so much work repays loading them, and they can be loaded.
        count: The number of people times steps.

    Raises:
        ValueError: If they are wished for, but cannot be loaded.
    """
    if wish and not _loadable():
        raise ValueError(
            "compiled must be False or None without numba and a folder to keep what it compiles. "
            "Install the extra 'fast'."
        )
    before = _running.set(count >= MANY and _loadable() if wish is None else wish)
    try:
        yield
    finally:
        _running.reset(before)


def here(*tensors: Tensor, dtype: torch.dtype = torch.float64) -> bool:
    """Tells whether a compiled kernel is to do what is done with these tensors."""
    return (
        _running.get()
        and all(tensor.dtype == dtype and tensor.device.type == "cpu" for tensor in tensors)
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
    )


def fill(kernel: Callable[..., None], *arguments: Tensor | float, into: Tensor) -> Tensor:
    """Lets a kernel, whose last argument is what it fills, work on the memory of tensors."""
    kernel(*(a.numpy() if isinstance(a, Tensor) else a for a in arguments), into.numpy())
    return into


@cache
def _loadable() -> bool:
    """Tells whether numba is installed and has somewhere to keep what it compiles."""
    try:
        import vpop.denoise_kernel
        import vpop.intervals_kernel
        import vpop.knots_kernel  # noqa: F401
    except (ImportError, RuntimeError):
        return False
    return True
