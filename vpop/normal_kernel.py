r"""Exponential, logarithm, the normal distribution and its inverse, for compiled loops over many numbers.

Without branches or calls, so that a compiler does four or eight numbers at once; in double precision, with a
relative error of a few :math:`10^{-15}`. The module needs numba; what imports it does so inside a function.

References:
    Shepherd, Laframboise (1981). Chebyshev approximation of :math:`(1+2x) e^{x^2} \mathrm{erfc}(x)` in
    :math:`0 \le x < \infty`. Math Comp 36:249. https://doi.org/10.1090/S0025-5718-1981-0595058-X
    Wichura (1988). Algorithm AS 241: the percentage points of the normal distribution. Appl Stat 37:477.
    https://doi.org/10.2307/2347330
    Cephes (Moshier 1989) and FDLIBM (Sun Microsystems 1993), as everyone has them: the reductions of ``exp``
    and ``log``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import intrinsic

LOOP: Any = {"fastmath": {"contract"}, "error_model": "numpy", "cache": True, "nogil": True}
part: Any = njit(forceinline=True, fastmath={"contract"}, error_model="numpy")
"""Compiles what is called inside a loop: it must dissolve in the loop for the loop to become vectors."""

_SHIFT = 1.5 * 2.0**52  # added to a small number, it leaves the nearest integer in the lowest bits
_LN2 = (6.93145751953125e-1, 1.42860682030941723212e-6)  # Cephes: ln 2 in two parts, the first with few bits
_EXP = tuple(1.0 / math.factorial(k) for k in range(13, -1, -1))
_LOG = (  # FDLIBM: odd terms of the series in s, from s^14 down
    1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
    2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01, 0.0,
)  # fmt: skip
_CENTRE = 3.75
_DEGREE = 24


def _scaled_tail() -> tuple[float, ...]:
    r"""Returns :math:`(1+2z) e^{z^2} \mathrm{erfc}(z)` as a polynomial in :math:`(z-3.75)/(z+3.75)`."""
    t = np.polynomial.chebyshev.chebpts1(64)
    z = _CENTRE * (1.0 + t) / (1.0 - t)
    values = (1.0 + 2.0 * z) * torch.special.erfcx(torch.from_numpy(z)).numpy()
    series = np.polynomial.chebyshev.Chebyshev.fit(t, values, _DEGREE, domain=[-1.0, 1.0])
    return tuple(float(c) for c in series.convert(kind=np.polynomial.Polynomial).coef[::-1])


_TAIL = _scaled_tail()
# Wichura (1988), PPND16: numerators and denominators, highest power first.
_A = (
    2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
    13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608,
)  # fmt: skip
_B = (
    5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
    5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0,
)  # fmt: skip
_C = (
    7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
    3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734,
)  # fmt: skip
_D = (
    1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
    0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0,
)  # fmt: skip
_E = (
    2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
    0.29656057182650489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772,
)  # fmt: skip
_F = (
    2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
    0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0,
)  # fmt: skip


def in_llvm(function: Any) -> Any:
    """Declares an operation that is written in LLVM's language."""
    return intrinsic(function)


@in_llvm
def _polynomial(typing: Any, x: Any, coefficients: Any) -> Any:
    """Evaluates a polynomial, highest power first, by Estrin's scheme: in pairs, then pairs of pairs."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        power = args[0]
        terms = [builder.extract_value(args[1], k) for k in reversed(range(coefficients.count))]
        while len(terms) > 1:
            pairs = [
                builder.fadd(low, builder.fmul(high, power, flags=("contract",)), flags=("contract",))
                for low, high in zip(terms[::2], terms[1::2], strict=False)
            ]
            terms = pairs + terms[2 * len(pairs) :]
            power = builder.fmul(power, power)
        return terms[0]

    return types.float64(x, coefficients), generate


def _reinterpret(source: Any, target: Any) -> Any:
    @in_llvm
    def bits(typing: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], context.get_value_type(target))

        return target(source), generate

    return bits


_as_integer = _reinterpret(types.float64, types.int64)
_as_float = _reinterpret(types.int64, types.float64)


@part
def exp(x):
    """Returns e to the power of x; of x below -708, the smallest normal number."""
    x = min(max(x, -708.0), 709.0)
    shifted = x * 1.4426950408889634 + _SHIFT
    n = shifted - _SHIFT
    r = (x - n * _LN2[0]) - n * _LN2[1]
    return _polynomial(r, _EXP) * _as_float((_as_integer(shifted) + 1023) << 52)


@part
def log(x):
    """Returns the natural logarithm of a positive normal number."""
    bits = _as_integer(x)
    k = (bits - 0x3FE6A09E667F3BCD) >> 52  # so that x 2^-k lies between the square roots of 1/2 and 2
    f = _as_float(bits - (k << 52)) - 1.0
    n = _as_float(_as_integer(_SHIFT) + k) - _SHIFT
    s, half = f / (2.0 + f), 0.5 * f * f
    low = s * (half + _polynomial(s * s, _LOG)) + n * 1.90821492927058770002e-10
    return n * 6.93147180369123816490e-01 - ((half - low) - f)


@part
def ndtr(x):
    """Returns the normal distribution function, with its lower tail."""
    z = abs(x) * math.sqrt(0.5)
    one, other = 1.0 + 2.0 * z, z + _CENTRE
    both = 1.0 / (one * other)
    tail = 0.5 * exp(-z * z) * _polynomial((z - _CENTRE) * one * both, _TAIL) * other * both
    return tail if x < 0.0 else 1.0 - tail


@part
def ndtri(p):
    """Returns the score with this probability below it, 0 < p < 1."""
    q = p - 0.5
    r = math.sqrt(-log(min(p, 1.0 - p)))
    near = _polynomial(r - 1.6, _C) / _polynomial(r - 1.6, _D)
    far = _polynomial(r - 5.0, _E) / _polynomial(r - 5.0, _F)
    tail = near if r <= 5.0 else far
    square = 0.180625 - q * q
    centre = q * (_polynomial(square, _A) / _polynomial(square, _B))
    return centre if abs(q) <= 0.425 else (-tail if q < 0.0 else tail)
