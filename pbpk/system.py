r"""The equations of a drug in a batch of bodies: states, and the transitions between them.

:math:`A_i` is the amount in state i [mg]. A transition takes from its source what it gives to its target, so
that the total amount is conserved by construction:

.. math:: \text{flow}_k = k \, A_{driver}, \qquad
    \text{flow}_e = V_{max,e} \frac{u_e A_{source}}{K_{m,e} + u_e A_{source}} .

The first states are *spaces*, volumes of the body in which the drug is dissolved; then come the content of
the gut and of the bile; the sinks come last. Where a drug leaves metabolites, each has spaces and sinks of
its own, ``name:liver`` say. Their amounts are counted in mg of the parent from which they came, which keeps
the total; concentrations are the metabolite's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.graph import COMPARTMENTS, OrganGraph
from pbpk.organs import ORGANS, index

INLETS: dict[str, tuple[str, ...]] = {"iv": ("venous",), "po": ("gastric", "depot")}
"""Where each route enters: the first of these that there is."""


@dataclass(frozen=True)
class Distribution:
    """Where in the bodies a drug is, or a metabolite, and what an amount there means.

    Attributes:
        name: Empty for the drug that is given, else the metabolite's name.
        graph: Its organ graph.
        spaces: The names of its S spaces, without the metabolite's name.
        V: Their volumes [L], with shape :math:`(*, S)`.
        P: Their capacities, the volumes of plasma that would hold the same at equilibrium [L], with shape
            :math:`(*, S)`.
        Kp: The organs' partition coefficients with that of blood set to BP, with shape :math:`(*, 17)`.
        BP: The blood-to-plasma ratio [1], with shape :math:`(*)`.
        fup: The unbound fraction in plasma [1], with shape :math:`(*)`.
        weight: Its molecular weight as a share of that of the drug that is given [1], with shape :math:`(*)`.
    """

    name: str
    graph: OrganGraph
    spaces: tuple[str, ...]
    V: Tensor
    P: Tensor
    Kp: Tensor
    BP: Tensor
    fup: Tensor
    weight: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> Distribution:
        """Returns a copy with ``change`` applied to every tensor."""
        names = ("V", "P", "Kp", "BP", "fup", "weight")
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in names}
        return dataclasses.replace(self, **changed)

    @property
    def prefix(self) -> str:
        """What stands before the names of its states and outputs."""
        return f"{self.name}:" if self.name else ""

    def space(self, output: str) -> str:
        """Returns the space that an output is read from, or "" if there is none."""
        home = "venous" if output in ("plasma", "blood") else output
        if home in self.spaces:
            return home
        home = self.graph.home(home) if home in COMPARTMENTS else ""
        return home if home in self.spaces else ""

    def outputs(self) -> list[str]:
        """Returns the names of its outputs: plasma, blood, spaces and organs."""
        own = dict.fromkeys(["plasma", "blood", *self.spaces, *ORGANS])
        return [output for output in own if self.space(output)]

    def per_mg(self, output: str) -> Tensor:
        """Returns the concentration for each mg in the output's space [1/L], with shape :math:`(*)`."""
        at = self.spaces.index(self.space(output))
        if output in self.spaces:
            return self.weight / self.V[..., at]
        ratio = torch.ones_like(self.BP)
        if output != "plasma":
            ratio = self.BP if output == "blood" else self.Kp[..., index(output)]
        return self.weight * ratio / self.P[..., at]


@dataclass(frozen=True)
class System:
    r"""The equations of a batch of bodies: n states, and the transitions between them.

    Attributes:
        graph: The organ graph.
        states: The names of the n states: the spaces, the contents of the gut and the bile, and the sinks.
        sinks: The names of the sinks, which come last.
        source: The state each transition takes from, with shape :math:`(N)`.
        target: The state it gives to, with shape :math:`(N)`.
        driver: The state whose amount drives it, with shape :math:`(N)`.
        rate: The rates :math:`k` [1/h], with shape :math:`(*, N)`.
        saturable_source: The state that each saturable transition takes from and that drives it, with shape
            :math:`(E)`; E may be 0.
        saturable_target: The state it gives to, with shape :math:`(E)`.
        Vmax: Its maximal rate [mg/h], with shape :math:`(*, E)`.
        Km: The unbound concentration of half that rate [mg/L], with shape :math:`(*, E)`.
        unbound: The unbound concentration for each mg in its source [1/L], with shape :math:`(*, E)`.
        drugs: Where the drug is that is given, and then each metabolite.
        fault: Why a body cannot be simulated, by reason, a mask with shape :math:`(*)`.
    """

    graph: OrganGraph
    states: tuple[str, ...]
    sinks: tuple[str, ...]
    source: Tensor
    target: Tensor
    driver: Tensor
    rate: Tensor
    saturable_source: Tensor
    saturable_target: Tensor
    Vmax: Tensor
    Km: Tensor
    unbound: Tensor
    drugs: tuple[Distribution, ...]
    fault: dict[str, Tensor]

    @property
    def V(self) -> Tensor:
        """The volumes of the given drug's spaces [L], with shape :math:`(*, S)`."""
        return self.drugs[0].V

    @property
    def P(self) -> Tensor:
        """Their capacities [L of plasma], with shape :math:`(*, S)`."""
        return self.drugs[0].P

    @property
    def Kp(self) -> Tensor:
        """The given drug's partition coefficients, BP for blood, with shape :math:`(*, 17)`."""
        return self.drugs[0].Kp

    @property
    def BP(self) -> Tensor:
        """The given drug's blood-to-plasma ratio [1], with shape :math:`(*)`."""
        return self.drugs[0].BP

    @property
    def fup(self) -> Tensor:
        """The given drug's unbound fraction in plasma [1], with shape :math:`(*)`."""
        return self.drugs[0].fup

    @property
    def shape(self) -> torch.Size:
        """The batch shape ``*``."""
        return self.rate.shape[:-1]

    @property
    def linear(self) -> bool:
        """Whether no transition is saturable."""
        return not len(self.saturable_source)

    @property
    def inner(self) -> int:
        """How many states are not sinks: they come first."""
        return len(self.states) - len(self.sinks)

    def each(self, change: Callable[[Tensor], Tensor]) -> System:
        """Returns a copy with ``change`` applied to every batched tensor."""
        names = ("rate", "Vmax", "Km", "unbound")
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in names}
        return dataclasses.replace(
            self,
            **changed,
            drugs=tuple(drug.each(change) for drug in self.drugs),
            fault={reason: change(mask) for reason, mask in self.fault.items()},
        )

    def flat(self) -> System:
        """Returns the bodies in one batch dimension B."""
        dims = len(self.shape)
        return self.each(lambda value: value.reshape(self.shape.numel(), *value.shape[dims:]))

    def __getitem__(self, which: Any) -> System:
        """Returns the bodies ``which``."""
        return self.each(lambda value: value[which])

    def faster(self, factor: Tensor) -> System:
        """Returns the same equations on clocks that run ``factor`` times as fast, of shape :math:`(*)`."""
        factor = factor.unsqueeze(-1)
        return dataclasses.replace(self, rate=self.rate * factor, Vmax=self.Vmax * factor)

    def drug_of(self, output: str) -> tuple[Distribution, str]:
        """Returns what an output or a state belongs to, and its name without the metabolite's."""
        name, colon, own = output.rpartition(":")
        for drug in self.drugs:
            if drug.name == name and (colon or not name):
                return drug, own
        return self.drugs[0], output

    def outputs(self) -> list[str]:
        """Returns the names of everything that has a concentration."""
        return [drug.prefix + output for drug in self.drugs for output in drug.outputs()]

    def state_of(self, output: str) -> str:
        """Returns the state that an output is read from."""
        drug, own = self.drug_of(choose("output", output, self.outputs()))
        return drug.prefix + drug.space(own)

    def per_mg(self, output: str) -> Tensor:
        """Returns the concentration for each mg in an output's state [1/L], with shape :math:`(*)`."""
        drug, own = self.drug_of(choose("output", output, self.outputs()))
        return drug.per_mg(own)

    def position(self, compartment: str) -> int:
        """Returns the position of a state, or of the space that holds a compartment."""
        if compartment in self.states:
            return self.states.index(compartment)
        drug, own = self.drug_of(compartment)
        space = drug.space(own)
        return self.states.index(drug.prefix + space if space else self.state_of(compartment))

    def inlet(self, route: str) -> int:
        """Returns the position of the state that a dose by ``route`` enters."""
        there = [name for name in INLETS[route] if name in self.states]
        return self.position(there[0] if there else INLETS[route][-1])

    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the rate matrix as (rows, columns, values): shapes (2N), (2N) and (*, 2N); repeats add."""
        rows = torch.cat([self.target, self.source])
        columns = torch.cat([self.driver, self.driver])
        return rows, columns, torch.cat([self.rate, -self.rate], -1)

    def matrix(self) -> Tensor:
        r"""Returns the rate matrix :math:`A` [1/h] of :math:`dA/dt = A A`, with shape :math:`(*, n, n)`.

        Saturable transitions are no part of it.
        """
        n = len(self.states)
        rows, columns, values = self.entries()
        flat = values.new_zeros(*self.shape, n * n).index_add(-1, rows * n + columns, values)
        return flat.reshape(*self.shape, n, n)
