r"""What a model must say so that its parameters can be estimated.

Most are linear in their state: with the amounts :math:`x` [mg] and the parameters :math:`p`

.. math:: dx/dt = A(p) \, x + \text{doses}, \qquad C_{seen} = R(p) \, x.

Such a model writes the entries of :math:`A` and :math:`R` with ``+ - * /`` only, so that one line serves for
numbers, for tensors with a batch shape, and for the exact arithmetic of :mod:`pbpk.inverse.structural`. One
that is not linear integrates its equations itself and gives the concentrations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from pbpk.inverse.parts import Given

Number = Any
"""A float, a tensor of shape :math:`(*)`, or an exact number."""


class Model(Protocol):
    """A model with named parameters and compartments; it is a :class:`Linear` or a :class:`Simulated` one.

    Attributes:
        linear: Which of the two it is.
        name: The model's name.
        parameters: The unit of each parameter that it needs, by name.
        compartments: What can be seen, in the order of reports.
    """

    @property
    def linear(self) -> bool:
        """Whether it is linear in its state."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """The unit of each parameter, by name."""

    @property
    def compartments(self) -> tuple[str, ...]:
        """What can be seen, in the order of reports."""

    def inlets(self, p: Mapping[str, Number]) -> Mapping[str, tuple[str, Number]]:
        """Returns, for each compartment that a dose can enter, the state and the share that enters it."""


class Linear(Model, Protocol):
    """A model that writes its equations down.

    Attributes:
        states: The names of its n states; each holds an amount [mg] (a driving concentration [mg/L]).
    """

    @property
    def states(self) -> tuple[str, ...]:
        """The names of its n states."""

    def rates(self, p: Mapping[str, Number]) -> Mapping[tuple[str, str], Number]:
        """Returns the entries of A [1/h] that are not zero, by (row, column)."""

    def reads(self, p: Mapping[str, Number]) -> Mapping[str, Mapping[str, Number]]:
        """Returns, for each compartment, its concentration per mg in each state that it reads [1/L]."""

    def initial(self, p: Mapping[str, Number]) -> Mapping[str, Number]:
        """Returns the states that are not zero at time 0."""


class Simulated(Model, Protocol):
    """A model that is integrated step by step, differentiable in its parameters."""

    def course(self, p: Mapping[str, Number], given: Sequence[Given], times: Tensor) -> Tensor:
        """Returns the concentrations [mg/L] at ascending times [h] of shape (T), with shape (*, T, m)."""
