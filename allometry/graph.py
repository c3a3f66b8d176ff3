r"""Messages along the circulation: which organ hears of which.

The nodes are the 17 organs. Blood reaches every perfused organ and the lung; the portal organs drain into
the liver, the others and the lung into the blood. A layer sends along each edge, in both directions with
weights of their own, and adds what a node says to itself:

.. math:: h_i' = \tanh\Big(W_0 h_i + \tfrac{1}{|N_i^+|} \sum_{j \to i} W_+ h_j
    + \tfrac{1}{|N_i^-|} \sum_{i \to j} W_- h_j + c\Big)

Weights carry leading dimensions, so that every fold and every member of an ensemble is one tensor.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from pbpk.organs import ORGANS, PERFUSED, PORTAL, index


def circulation() -> Tensor:
    """Returns the edges between :data:`pbpk.organs.ORGANS`, with shape (2, edges).

    >>> circulation().shape
    torch.Size([2, 32])
    """
    blood, liver, lung = (index(organ) for organ in ("blood", "liver", "lung"))
    edges = [(blood, index(organ)) for organ in PERFUSED]
    edges += [(index(organ), liver if organ in PORTAL else blood) for organ in PERFUSED]
    edges += [(blood, lung), (lung, blood)]
    return torch.tensor(edges).T


class Messages(MessagePassing):
    r"""One layer, for many networks at once.

    Arguments:
        networks: How many networks, n.
        channels: Of the node features that come in, and that go out.
        connected: Whether organs hear of each other; without, each is on its own: an MLP of the same size.
        generator: The source of randomness.
    """

    def __init__(
        self, networks: int, channels: tuple[int, int], connected: bool, generator: torch.Generator
    ) -> None:
        super().__init__(aggr="mean", node_dim=-2)
        self.connected = connected
        entering, leaving = channels
        bound = 1.0 / math.sqrt(3 * entering)
        draw = torch.rand(3, networks, entering, leaving, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(bound * (2.0 * draw - 1.0))
        self.bias = nn.Parameter(torch.zeros(networks, 1, 1, leaving, dtype=torch.float64))
        self.edges: Tensor
        self.register_buffer("edges", circulation(), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """Maps node features of shape (n, s, 17, entering) to shape (n, s, 17, leaving)."""
        own, forth, back = torch.einsum("nsoc,kncd->knsod", h, self.weight)
        if self.connected:
            own = own + self.propagate(self.edges, x=forth) + self.propagate(self.edges.flip(0), x=back)
        else:
            own = own + forth + back
        return torch.tanh(own + self.bias)

    def message(self, x_j: Tensor) -> Tensor:
        """Returns what is sent along each edge: the sender's features."""
        return x_j


NODES = len(ORGANS)
