r"""Eight numbers at once: a vector type for compiled kernels, one body in each lane.

A kernel written with this type does the same arithmetic for eight bodies in vector registers, which a
compiler does not find by itself in code whose indices come from tables. An array of shape (rows, 8) holds one
vector a row: ``load(x, i) * load(y, j)`` multiplies row i by row j, lane by lane, and ``store`` writes a row.
A number beside a vector stands for eight copies of itself.

The module needs numba; what imports it does so inside a function.

References:
    Lam, Pitrou, Seibert (2015). Numba: a LLVM-based Python JIT compiler. LLVM-HPC 2015.
    https://doi.org/10.1145/2833157.2833162
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

WIDTH = 8
"""Lanes of a vector: one register of AVX-512, two of AVX2, four of NEON."""

_IR = ir.VectorType(ir.DoubleType(), WIDTH)
_UNDEFINED = ir.Constant(_IR, ir.Undefined)
_ALL_FIRST = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
_ALIGNED = 8  # bytes: numpy promises no more


class LanesType(types.Type):
    """Numba's name for a vector."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes({WIDTH})")


lanes = LanesType()


@register_model(LanesType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend: Any) -> None:
        super().__init__(manager, frontend, _IR)


def _intrinsic(function: Any) -> Any:
    """Declares an operation that is written in LLVM's language."""
    return intrinsic(function)


def _row(context: Any, builder: Any, kind: Any, array: Any, row: Any) -> Any:
    """Returns the address of a row of a contiguous array of shape (rows, WIDTH)."""
    data = context.make_array(kind)(context, builder, array).data
    first = builder.mul(row, ir.Constant(row.type, WIDTH))
    return builder.bitcast(builder.gep(data, [first]), _IR.as_pointer())


def _splat(builder: Any, number: Any) -> Any:
    one = builder.insert_element(_UNDEFINED, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, _UNDEFINED, _ALL_FIRST)


@_intrinsic
def load(typing: Any, array: Any, row: Any) -> Any:
    """Reads a row."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_row(context, builder, signature.args[0], args[0], args[1]))
        value.align = _ALIGNED
        return value

    return lanes(array, types.intp), generate


@_intrinsic
def store(typing: Any, array: Any, row: Any, value: Any) -> Any:
    """Writes a row."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _row(context, builder, signature.args[0], args[0], args[1]), align=_ALIGNED)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@_intrinsic
def splat(typing: Any, number: Any) -> Any:
    """Returns eight copies of a number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return lanes(types.float64), generate


@_intrinsic
def largest(typing: Any, one: Any, other: Any) -> Any:
    """Returns the larger of two, lane by lane; of one and no number, either."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return lanes(lanes, lanes), generate


@_intrinsic
def magnitude(typing: Any, value: Any) -> Any:
    """Returns the absolute value, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        negative = builder.fneg(args[0])
        return builder.select(builder.fcmp_ordered(">", args[0], negative), args[0], negative)

    return lanes(lanes), generate


def _define(symbol: Callable[..., Any], instruction: str) -> None:
    """Lets an operator of Python act on vectors, and on a vector and a number."""

    @infer_global(symbol)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            known = all(a == lanes or isinstance(a, types.Float) for a in args)
            if len(args) == 2 and lanes in args and known:
                return signature(lanes, *[a if a == lanes else types.float64 for a in args])
            return None

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        both = [v if t == lanes else _splat(builder, v) for t, v in zip(sig.args, args, strict=True)]
        return getattr(builder, instruction)(*both, flags=("contract",))

    for pair in ((lanes, lanes), (lanes, types.float64), (types.float64, lanes)):
        lower_builtin(symbol, *pair)(generate)


for _symbols, _instruction in (
    ((operator.add, operator.iadd), "fadd"),
    ((operator.sub, operator.isub), "fsub"),
    ((operator.mul, operator.imul), "fmul"),
    ((operator.truediv, operator.itruediv), "fdiv"),
):
    for _symbol in _symbols:
        _define(_symbol, _instruction)
