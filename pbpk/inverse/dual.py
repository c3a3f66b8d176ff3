"""A number that carries its derivatives: what a model's ``+ - * /`` need for exact slopes at little cost."""

from __future__ import annotations

from typing import Any

import numpy as np


class Dual:
    """A float with its derivatives by the K unknowns.

    >>> x = Dual(2.0, np.array([1.0]))
    >>> (1.0 / x).value, (1.0 / x).slope
    (0.5, array([-0.25]))
    """

    __slots__ = ("slope", "value")

    def __init__(self, value: float, slope: np.ndarray) -> None:
        self.value, self.slope = value, slope

    def __add__(self, other: Any) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value + other.value, self.slope + other.slope)
        return Dual(self.value + other, self.slope)

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.slope)

    def __sub__(self, other: Any) -> Dual:
        return self + (-other)

    def __rsub__(self, other: Any) -> Dual:
        return -self + other

    def __mul__(self, other: Any) -> Dual:
        if isinstance(other, Dual):
            return Dual(self.value * other.value, self.slope * other.value + other.slope * self.value)
        return Dual(self.value * other, self.slope * other)

    def __truediv__(self, other: Any) -> Dual:
        if isinstance(other, Dual):
            return self * (1.0 / other)
        return Dual(self.value / other, self.slope / other)

    def __rtruediv__(self, other: float) -> Dual:
        value = other / self.value
        return Dual(value, self.slope * (-value / self.value))

    __radd__ = __add__
    __rmul__ = __mul__
