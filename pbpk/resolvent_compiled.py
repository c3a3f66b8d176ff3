"""The compiled profiles of :mod:`pbpk.laplace` for PyTorch, with their gradient; needs numba."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk import resolvent_adjoint, resolvent_kernel
from pbpk.transforms import Transforms, not_below_zero


class Profiles(torch.autograd.Function):
    """Profiles (outlets, B, T) and what the fits differ by, a share of the peak (B), not differentiated."""

    @staticmethod
    def forward(
        ctx: Any,
        transforms: Transforms,
        weight: Tensor,
        panels: tuple[np.ndarray, int],
        noise: float,
        rate: Tensor,
        amounts: Tensor,
    ) -> Any:
        """Computes them; see :func:`pbpk.resolvent_kernel.profiles`."""
        outlets, B = len(transforms.resolvent.outlets), len(rate)
        x = np.empty((outlets, B, weight.shape[-1]))  # NumPy asks for large pages, which come faster
        share = np.empty(B)
        resolvent_kernel.profiles(*transforms.arrays(rate, amounts), *panels, noise, x, share)
        profiles, beside = torch.from_numpy(x), torch.from_numpy(share)
        ctx.transforms, ctx.weight, ctx.noise = transforms, weight, noise
        ctx.save_for_backward(rate, amounts, profiles)
        ctx.mark_non_differentiable(beside)
        return profiles, beside

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        """Passes the profiles' gradient back to the rates and the doses."""
        if torch.is_grad_enabled():  # the gradient is to be differentiated in its turn
            return None, None, None, None, *_plain(ctx, bars[0])
        rate, amounts, profiles = ctx.saved_tensors
        nothing_there = (profiles == 0.0).all(-1, keepdim=True)
        live = (profiles != 0.0) | nothing_there  # a 0 among others was set to it, and depends on nothing
        bar = ctx.weight @ torch.where(live, bars[0], 0.0).mT
        rate_bar, amounts_bar = np.zeros((rate.shape[1], len(rate))), np.zeros(tuple(amounts.shape))
        arrays = ctx.transforms.arrays(rate, amounts)
        resolvent_adjoint.pull(*arrays, bar.flatten(0, 1).numpy(), rate_bar, amounts_bar)
        return None, None, None, None, torch.from_numpy(rate_bar).mT, torch.from_numpy(amounts_bar)


def _plain(ctx: Any, bar: Tensor) -> tuple[Tensor | None, ...]:
    """Returns the gradients of the rates and the doses by PyTorch alone, with gradients in their turn."""
    rate, amounts, _ = ctx.saved_tensors
    rows = ctx.transforms(rate, amounts).flatten(1, 2).mT
    x = not_below_zero((rows @ ctx.weight).permute(1, 2, 0), ctx.noise).permute(2, 0, 1)
    needed = ctx.needs_input_grad[4:6]
    leaves = [leaf for leaf, need in zip((rate, amounts), needed, strict=True) if need]
    found = iter(torch.autograd.grad(x, leaves, bar, create_graph=True, materialize_grads=True))
    return tuple(next(found) if need else None for need in needed)
