r"""The compiled form of :mod:`vpop.denoise`: all but the matrix products, in two passes a block.

The first looks up a person's scales and shifts between two rows of the table (:mod:`vpop.modulation`), which
neighbours share, normalises and modulates; the second is :math:`x / (1 + e^{-x})`. Each adds the bias of the
product before it. Single precision; no gradients.
"""

from __future__ import annotations

from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from torch import Tensor, nn
from torch.nn import functional

from vpop.denoise import Denoiser
from vpop.normal_kernel import LOOP, in_llvm

_single = np.float32
_ONE, _EPSILON = _single(1.0), _single(1e-5)  # the epsilon of torch.nn.LayerNorm
_SHIFT = _single(1.5 * 2.0**23)  # added to a small number, it leaves the nearest integer in the lowest bits
_PER_LN2 = _single(1.44269504)
# Cephes (Moshier 1989), expf: ln 2 in two parts, and the polynomial on |x| <= ln(2) / 2.
_LN2 = (_single(0.693359375), _single(-2.12194440e-4))
_P5, _P4, _P3, _P2, _P1, _P0 = (
    _single(c)
    for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 0.16666665459, 0.5)
)
_LEAST, _MOST = _single(-87.0), _single(88.0)
_ORDER: Any = LOOP | {"fastmath": {"contract", "reassoc", "nsz"}}  # sums may be taken in any order


_twins: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()


def fused(module: nn.Module) -> nn.Module:
    """Returns a twin with the same weights in which every :class:`Denoiser` is a :class:`Fused` one."""
    if module not in _twins:
        _twins[module] = _twin(module)
    return _twins[module]


def _twin(module: nn.Module) -> nn.Module:
    kind = Fused if type(module) is Denoiser else type(module)
    twin = kind.__new__(kind)
    children = {name: _twin(child) for name, child in module.named_children()}
    twin.__dict__.update(module.__dict__, _modules=children)
    return twin


class Fused(Denoiser):
    """A denoiser that is compiled, for people and a noise level that a table holds."""

    def learnt(self, entered: Tensor, modulation: Any, known: Tensor | None = None) -> Tensor:
        """Returns F as :meth:`Denoiser.learnt` does.

        Arguments:
            entered: As there.
            modulation: What :meth:`vpop.modulation.Modulation.between` returns.
            known: As there.
        """
        if known is not None:
            entered = torch.cat([entered, known], dim=-1)
        hidden = functional.linear(entered, self.enter.weight[:, : entered.shape[-1]], self.enter.bias)
        inner, outer, width = torch.empty_like(hidden), torch.empty_like(hidden), hidden.shape[-1]
        table, low, share = (part.numpy() for part in modulation)
        bias = np.zeros(width, dtype=_single)
        for i, block in enumerate(cast(list[Any], list(self.blocks))):
            _modulate(hidden.numpy(), bias, table, 2 * width * i, low, share, inner.numpy())
            torch.mm(inner, block.first.weight.T, out=outer)
            _silu(outer.numpy(), block.first.bias.numpy())
            hidden.addmm_(outer, block.second.weight.T)
            bias = block.second.bias.numpy()
        _silu(hidden.numpy(), bias)
        return self.leave(hidden)


@in_llvm
def _two_to(typing: Any, shifted: Any) -> Any:
    """Returns 2 to the power of the integer in the lowest bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integer = ir.IntType(32)
        bits = builder.add(builder.bitcast(args[0], integer), ir.Constant(integer, 127))
        return builder.bitcast(builder.shl(bits, ir.Constant(integer, 23)), ir.FloatType())

    return types.float32(types.float32), generate


@njit(forceinline=True, fastmath={"contract"}, error_model="numpy")
def _exp(x):
    x = min(max(x, _LEAST), _MOST)
    shifted = x * _PER_LN2 + _SHIFT
    n = shifted - _SHIFT
    r = (x - n * _LN2[0]) - n * _LN2[1]
    series = ((((_P5 * r + _P4) * r + _P3) * r + _P2) * r + _P1) * r + _P0
    return (series * (r * r) + r + _ONE) * _two_to(shifted)


@njit(**LOOP)
def _silu(hidden, bias):
    """Adds a bias and takes x / (1 + exp(-x)), in place."""
    for i in range(len(hidden)):
        row = hidden[i]
        for j in range(len(bias)):
            x = row[j] + bias[j]
            row[j] = x / (_ONE + _exp(-x))


@njit(**_ORDER)
def _modulate(hidden, bias, table, start, low, share, inner):
    """Adds a bias to hidden, in place, and fills inner with what is normalised, scaled and shifted of it.

    A block's own columns of the table begin at ``start``: its scales, then its shifts.
    """
    width = len(bias)
    end = start + 2 * width
    for i in range(len(hidden)):
        row, out, t = hidden[i], inner[i], share[i]
        below, above = table[low[i], start:end], table[low[i] + 1, start:end]
        scale, scale_above, shift, shift_above = below[:width], above[:width], below[width:], above[width:]
        mean = _single(0.0)
        for j in range(width):
            row[j] += bias[j]
            mean += row[j]
        mean /= _single(width)
        square = _single(0.0)
        for j in range(width):
            square += (row[j] - mean) * (row[j] - mean)
        per_SD = _ONE / np.sqrt(square / _single(width) + _EPSILON)
        for j in range(width):
            own = scale[j] + t * (scale_above[j] - scale[j])
            out[j] = (row[j] - mean) * per_SD * own + (shift[j] + t * (shift_above[j] - shift[j]))
