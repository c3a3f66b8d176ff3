r"""Several numbers at once: vector types for compiled kernels, one body in each lane.

A kernel written with these types does the same arithmetic for eight or sixteen bodies in vector registers,
which a compiler does not find by itself in code whose indices come from tables. An array of shape (rows, 8)
holds one vector a row: ``load(x, i) * load(y, j)`` multiplies row i by row j, lane by lane, and ``store``
writes a row; ``load_wide``, ``store_wide`` and ``splat_wide`` do the same for rows of sixteen. A number
beside a vector stands for as many copies of itself. Eight lanes suit a kernel whose bodies go their own ways;
sixteen one that waits for its own results, as they give the processor more to do at once.

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

WIDTH, WIDE = 8, 16
"""Lanes of a vector, and of a wide one: one and two registers of AVX-512, two and four of AVX2."""

_ALIGNED = 8  # bytes: numpy promises no more


class LanesType(types.Type):
    """Numba's name for a vector."""

    def __init__(self, width: int) -> None:
        super().__init__(name=f"Lanes({width})")
        self.vector = ir.VectorType(ir.DoubleType(), width)


@register_model(LanesType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.vector)


def _intrinsic(function: Any) -> Any:
    """Declares an operation that is written in LLVM's language."""
    return intrinsic(function)


def _row(context: Any, builder: Any, kind: LanesType, array: Any, value: Any, row: Any) -> Any:
    """Returns the address of a row of a contiguous array of shape (rows, lanes)."""
    data = context.make_array(array)(context, builder, value).data
    first = builder.mul(row, ir.Constant(row.type, kind.vector.count))
    return builder.bitcast(builder.gep(data, [first]), kind.vector.as_pointer())


def _copies(builder: Any, kind: LanesType, number: Any) -> Any:
    """Returns a vector of copies of a number."""
    undefined = ir.Constant(kind.vector, ir.Undefined)
    first = ir.Constant(ir.VectorType(ir.IntType(32), kind.vector.count), [0] * kind.vector.count)
    one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, undefined, first)


def _access(kind: LanesType) -> tuple[Any, Any, Any]:
    """Returns what reads a row, writes a row, and copies a number, for one type of vector."""

    @_intrinsic
    def load(typing: Any, array: Any, row: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = builder.load(_row(context, builder, kind, signature.args[0], *args))
            value.align = _ALIGNED
            return value

        return kind(array, types.intp), generate

    @_intrinsic
    def store(typing: Any, array: Any, row: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            row = _row(context, builder, kind, signature.args[0], *args[:2])
            builder.store(args[2], row, align=_ALIGNED)
            return context.get_dummy_value()

        return types.void(array, types.intp, kind), generate

    @_intrinsic
    def splat(typing: Any, number: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _copies(builder, kind, args[0])

        return kind(types.float64), generate

    return load, store, splat


load, store, splat = _access(LanesType(WIDTH))
load_wide, store_wide, splat_wide = _access(LanesType(WIDE))


@_intrinsic
def largest(typing: Any, one: Any, other: Any) -> Any:
    """Returns the larger of two, lane by lane; of one and no number, either."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return one(one, one), generate


@_intrinsic
def magnitude(typing: Any, value: Any) -> Any:
    """Returns the absolute value, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        negative = builder.fneg(args[0])
        return builder.select(builder.fcmp_ordered(">", args[0], negative), args[0], negative)

    return value(value), generate


def _define(symbol: Callable[..., Any], instruction: str) -> None:
    """Lets an operator of Python act on vectors, and on a vector and a number."""

    @infer_global(symbol)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            kinds = {a for a in args if isinstance(a, LanesType)}
            known = all(a in kinds or isinstance(a, types.Float) for a in args)
            if len(args) == 2 and len(kinds) == 1 and known:
                return signature(*kinds, *[a if a in kinds else types.float64 for a in args])
            return None

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.return_type
        both = [v if t == kind else _copies(builder, kind, v) for t, v in zip(sig.args, args, strict=True)]
        return getattr(builder, instruction)(*both, flags=("contract",))

    for pair in ((LanesType, LanesType), (LanesType, types.float64), (types.float64, LanesType)):
        lower_builtin(symbol, *pair)(generate)


for _symbols, _instruction in (
    ((operator.add, operator.iadd), "fadd"),
    ((operator.sub, operator.isub), "fsub"),
    ((operator.mul, operator.imul), "fmul"),
    ((operator.truediv, operator.itruediv), "fdiv"),
):
    for _symbol in _symbols:
        _define(_symbol, _instruction)
