r"""Convolutions with the unit responses of bodies, by exponentials that all bodies share.

A unit response is a sum of terms :math:`r e^{\lambda t}` over the eigenvalues of a body. On a span of time it
is nearly a sum over a few dozen real rates :math:`p_m` that are the same for every body,

.. math:: k(t) \approx \sum_m c_m e^{-p_m t}, \qquad
    c_m = \sum_k \mathrm{Re}\,[M_{mk} F(z_k)],

with :math:`F` the response's Laplace transform. M is fitted so that the integral of each term,
:math:`(e^{\lambda t} - 1)/\lambda`, is met for all :math:`\lambda` in a sector about the negative axis: what
is convolved is smooth, so that only the integral of k matters, and the fastest rates need not be followed.

The convolution of k with a polynomial on an interval is then a product of c with a table that depends on the
interval's length alone, and its past is remembered by one number a rate,
:math:`Y_m(t) = \int e^{-p_m (t - \tau)} v(\tau) d\tau`. Everything here is the same for all bodies, and is
computed once.

Polynomials are given by their values at the p Radau nodes of the interval, the last of which is its end; one
more, the *bubble*, vanishes there and is 1 at a check point between.

References:
    Hairer, Wanner (1996). Solving Ordinary Differential Equations II, 2nd ed., section IV.5 (Radau IIA).
    https://doi.org/10.1007/978-3-642-05221-7
    Lubich, Schaedle (2002). Fast convolution for nonreflecting boundary conditions. SIAM J Sci Comput 24:161.
    https://doi.org/10.1137/S1064827501388741
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

_PER_DECADE = 8  # rates: for 1e-6 in a sector of 0.6 rad
_SLOWEST = 0.3  # the slowest rate but 0, times the span
_LONGER = 2.0  # the fit reaches so many times beyond the span, as it is worst at its end
_RCOND = 1e-16  # of products of singular values: M then stays below 1e10
_PANELS = 26  # of the quadrature of the tables, each half as long as the one before
_RAYS = np.array([0.0, 0.5, 0.8, 1.0])  # of the test eigenvalues, as shares of the sector's half-angle


def rates(span: float, slowest: float, fastest: float) -> np.ndarray:
    """Returns geometric rates [1/h] for a span of time [h] and eigenvalues down to the slowest, maybe 0."""
    first = max(_SLOWEST / span, slowest)
    fastest = max(fastest, 10.0 * first)  # over a short span nothing else is fast
    found = np.geomspace(first, fastest, math.ceil(_PER_DECADE * math.log10(fastest / first)))
    return found if slowest else np.append(0.0, found)


def from_transform(z: np.ndarray, p: np.ndarray, span: float, slowest: float, sector: float) -> np.ndarray:
    r"""Fits the weights that turn a transform into coefficients of exponentials.

    Arguments:
        z: The points where the transform is known [1/h], with shape (K).
        p: The rates [1/h], with shape (P).
        span: The longest time [h].
        slowest: The slowest eigenvalue [1/h], which may be 0.
        sector: The half-angle of the sector that holds the eigenvalues [rad].

    Returns:
        The weights of Re F and of Im F, with shape (P, 2K). Where the product of a singular value of the
        transform's side with one of the exponentials' is lost in rounding, the pair is left out.
    """
    t = np.append(0.0, np.geomspace(1e-2 / p[-1], _LONGER * span, 120))
    r = np.geomspace(max(0.02 / span, slowest), 7.0 * p[-1], 90)
    poles = np.append([] if slowest else [0.0], -r * np.exp(1j * sector * _RAYS[:, None]))
    plus, minus = 1.0 / (z - poles[:, None]), 1.0 / (z.conj() - poles[:, None])
    known = _real(np.concatenate([(plus + minus) / 2, (plus - minus) / 2j], -1))
    wanted, basis = _real(_risen(poles, t)), _risen(-p, t)
    size, length = np.linalg.norm(known, axis=0), np.linalg.norm(basis, axis=1)
    U, a, V = np.linalg.svd(known / size, full_matrices=False)
    W, b, X = np.linalg.svd((basis / length[:, None]).T, full_matrices=False)
    strength = np.outer(a, b)
    core = np.where(strength > _RCOND * strength.max(), U.T @ wanted @ W / strength, 0.0)
    return ((V.T @ core @ X) / size[:, None] / length).T


def _risen(exponents: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Returns the integrals of exp(x t) from 0 to t, with shape (exponents, T)."""
    x = np.where(exponents == 0.0, 1.0, exponents)[:, None]
    return np.where(exponents[:, None] == 0.0, t, np.expm1(exponents[:, None] * t) / x)


def _real(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values.real, values.imag])


@functools.cache
def radau(count: int) -> np.ndarray:
    """Returns the Radau nodes in (0, 1], the last of which is 1.

    >>> radau(2).round(4)
    array([0.3333, 1.    ])
    """
    k = np.arange(1.0, count - 1)  # Golub and Welsch for the weight 1 - x: Jacobi polynomials (1, 0)
    n = np.arange(count - 1.0)
    diagonal = -1.0 / ((2 * n + 1) * (2 * n + 3))
    beside = np.sqrt(k * (k + 1)) / (2 * k + 1)
    inner = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    return np.append((inner + 1.0) / 2.0, 1.0)


def check_point(nodes: np.ndarray) -> float:
    """Returns the point between the last two nodes at which a solution is checked."""
    return float((nodes[-2] + nodes[-1]) / 2.0)


def lagrange(nodes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Returns the polynomials that are 1 at one node and 0 at the others, with shape (nodes, *x)."""
    share = (x[..., None] - nodes) / (nodes[:, None] - nodes + np.eye(len(nodes)))[
        (slice(None), *(None,) * x.ndim)
    ]
    mine = np.eye(len(nodes), dtype=bool)[(slice(None), *(None,) * x.ndim)]
    return np.where(mine, 1.0, share).prod(-1)


@dataclass(frozen=True)
class Tables:
    """What an interval of one length does; the rows are its p nodes and then the check point.

    Attributes:
        past: What is left of each rate's number there, with shape (p + 1, P).
        inside: The convolutions of exp(-p_m t) with the polynomials and the bubble, (p + 1, p + 1, P).
    """

    past: np.ndarray
    inside: np.ndarray

    @property
    def step(self) -> np.ndarray:
        """What the polynomials and the bubble add to it, with shape (p + 1, P)."""
        return self.inside[-2]


def tables(p: np.ndarray, h: float, count: int) -> Tables:
    """Integrates the tables for an interval of length h [h] with so many nodes."""
    nodes = radau(count)
    check = check_point(nodes)
    x, weight = np.polynomial.legendre.leggauss(max(8, count))
    edges = np.append(1.0 - 0.5 ** np.arange(_PANELS), 1.0)  # finer towards the end, where exp(-p t) is 1
    width = np.diff(edges)[:, None]
    q, share = (edges[:-1, None] + width * (x + 1) / 2).ravel(), (width * weight / 2).ravel()
    at = np.append(nodes, check)
    inner = at[:, None] * q
    bubble = np.prod((inner[..., None] - nodes) / (check - nodes), -1)
    polynomials = np.concatenate([lagrange(nodes, inner), bubble[None]])
    left = np.exp(-p[:, None, None] * h * at[:, None] * (1.0 - q))
    inside = np.einsum("miq,jiq->ijm", left * (share * at[:, None] * h), polynomials, optimize=True)
    return Tables(np.exp(-np.outer(at, p) * h), inside)
