r"""A body's residual, carried along a path: from the mammals' centre to the species, and from adult to child.

A body stands at :math:`c = (\ln W_{adult} - x_0, z, \ln W / W_{adult})`: the size of its species, how far
the species lies off the mammals' lines in brain, metabolic, heart and breathing rate (:math:`z`, foretold
from its clade, :mod:`allometry.clade`), and its growth. The path is straight, :math:`c(t) = t c`, and along
it

.. math:: \frac{dr}{dt} = \rho \tanh\big(F(r, c(t))\big) \cdot c, \quad r(0) = 0,

for the residual :math:`r` of the logarithm of every mass, flow and rate. :math:`F` passes messages along
the circulation; :math:`\rho = 0.1` bounds by how much an exponent may change. The last layer is zero at the
start: then :math:`r = 0` everywhere, and the model is the hierarchical power law, to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchdiffeq import odeint

from allometry.graph import NODES, Messages
from allometry.mammals import HEADS
from allometry.species import QUANTITIES
from pbpk.organs import index

COORDINATES: int = 2 + len(HEADS)  # size, the heads' deviations, growth
BOUND = 0.1  # rho: how much an exponent may change [ours]
_STEPS = 3  # of the fourth-order Runge-Kutta method; the field is bounded and smooth
_HIDDEN, _EMBEDDING = 12, 4
_SINGLE = {"CO": "heart", "GFR": "kidney", "HCT": "blood"}


def _slot(quantity: str) -> tuple[int, int]:
    """Returns the node, and the place in it, of a quantity: mass, flow, or what belongs to the organ."""
    if quantity in _SINGLE:
        return index(_SINGLE[quantity]), 2
    return index(quantity[2:]), 0 if quantity.startswith("M_") else 1


class Flow(nn.Module):
    """The residual of many networks at once.

    Arguments:
        networks: How many networks, n: folds times members.
        connected: Whether organs hear of each other, see :class:`allometry.graph.Messages`.
        generator: The source of randomness.
    """

    def __init__(self, networks: int, connected: bool, generator: torch.Generator) -> None:
        super().__init__()
        entering = 3 + COORDINATES + _EMBEDDING
        shape = (networks, 1, NODES, _EMBEDDING)
        self.organ = nn.Parameter(0.5 * torch.randn(shape, generator=generator, dtype=torch.float64))
        self.first = Messages(networks, (entering, _HIDDEN), connected, generator)
        self.second = Messages(networks, (_HIDDEN, _HIDDEN), connected, generator)
        self.last = nn.Parameter(torch.zeros(networks, _HIDDEN, 3 * COORDINATES, dtype=torch.float64))
        self.node, self.place = (torch.tensor(at) for at in zip(*map(_slot, QUANTITIES), strict=True))

    def part(self, first: int, networks: int) -> Flow:
        """Returns the flow of some of the networks: a cheaper one, with the same numbers."""
        part = Flow(networks, self.first.connected, torch.Generator())
        for name, value in part.state_dict().items():
            axis = 1 if name.endswith("weight") else 0
            value.copy_(self.state_dict()[name].narrow(axis, first, networks))
        return part

    def field(self, r: Tensor, c: Tensor) -> Tensor:
        r"""Returns :math:`\rho \tanh F`: how r grows with each coordinate.

        Arguments:
            r: The residual, with shape (n, s, 17, 3).
            c: Where the bodies stand, with shape (n, s, coordinates).

        Returns:
            With shape (n, s, 17, 3, coordinates).
        """
        wide = c.unsqueeze(-2).expand(*r.shape[:-1], COORDINATES)
        h = torch.cat([r, wide, self.organ.expand(*r.shape[:-1], _EMBEDDING)], -1)
        out = torch.einsum("nsoc,ncd->nsod", self.second(self.first(h)), self.last)
        return BOUND * torch.tanh(out.unflatten(-1, (3, COORDINATES)))

    def forward(self, c: Tensor) -> Tensor:
        """Integrates along the path.

        Arguments:
            c: Where the bodies end, with shape (n, s, coordinates).

        Returns:
            The residual of the logarithm of :data:`allometry.species.QUANTITIES`, with shape (n, s, q).
        """
        start = c.new_zeros(*c.shape[:-1], NODES, 3)
        times = torch.linspace(0.0, 1.0, _STEPS + 1, dtype=c.dtype)

        def slope(t: Tensor, r: Tensor) -> Tensor:
            return torch.einsum("nsodc,nsc->nsod", self.field(r, t * c), c)

        end = odeint(slope, start, times, method="rk4")[-1]
        return end[..., self.node, self.place]
