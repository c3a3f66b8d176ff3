r"""What a model must say so that its parameters can be estimated.

A model is linear in its state: with the amounts :math:`x` [mg] and the parameters :math:`p`

.. math:: dx/dt = A(p) \, x + \text{doses}, \qquad C_{seen} = R(p) \, x.

It writes the entries of :math:`A` and :math:`R` with ``+ - * /`` only, so that one line serves for numbers,
for tensors with a batch shape, and for the exact arithmetic of :mod:`pbpk.inverse.structural`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Number = Any
"""A float, a tensor of shape :math:`(*)`, or an exact number."""


class Model(Protocol):
    """A linear model with named states, parameters and compartments.

    Attributes:
        name: The model's name.
        states: The names of its n states; each holds an amount [mg] (a driving concentration [mg/L]).
        parameters: The unit of each parameter that it needs, by name.
        compartments: What can be seen, in the order of reports.
    """

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def states(self) -> tuple[str, ...]:
        """The names of its n states."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """The unit of each parameter, by name."""

    @property
    def compartments(self) -> tuple[str, ...]:
        """What can be seen, in the order of reports."""

    def rates(self, p: Mapping[str, Number]) -> Mapping[tuple[str, str], Number]:
        """Returns the entries of A [1/h] that are not zero, by (row, column)."""

    def reads(self, p: Mapping[str, Number]) -> Mapping[str, Mapping[str, Number]]:
        """Returns, for each compartment, its concentration per mg in each state that it reads [1/L]."""

    def inlets(self, p: Mapping[str, Number]) -> Mapping[str, tuple[str, Number]]:
        """Returns, for each compartment that a dose can enter, the state and the share that enters it."""

    def initial(self, p: Mapping[str, Number]) -> Mapping[str, Number]:
        """Returns the states that are not zero at time 0."""
