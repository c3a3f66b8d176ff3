"""The compiled profiles of :mod:`pbpk.laplace` for PyTorch, with their gradient; needs numba."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pbpk import resolvent_adjoint, resolvent_kernel
from pbpk.transforms import Transforms


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
        ctx.transforms, ctx.weight = transforms, weight
        ctx.save_for_backward(rate, amounts, profiles)
        ctx.mark_non_differentiable(beside)
        return profiles, beside

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *bars: Any) -> Any:
        """Passes the profiles' gradient back to the rates and the doses."""
        rate, amounts, profiles = ctx.saved_tensors
        bar = ctx.weight @ (bars[0] * (profiles != 0.0)).mT  # what was set to 0 depends on nothing
        rate_bar, amounts_bar = np.zeros((rate.shape[1], len(rate))), np.zeros(tuple(amounts.shape))
        arrays = ctx.transforms.arrays(rate, amounts)
        resolvent_adjoint.pull(*arrays, bar.flatten(0, 1).numpy(), rate_bar, amounts_bar)
        return None, None, None, None, torch.from_numpy(rate_bar).mT, torch.from_numpy(amounts_bar)
