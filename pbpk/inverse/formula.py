r"""A learnt term read back as a formula.

The candidates are the formulas :math:`f(z) = \sum_j c_j \phi_j(z)` of at most two pieces from a small
library: a constant, :math:`z_i`, :math:`z_i z_j`, and the saturable :math:`z_i / (K + z_i)` with its own K.
They are first held against the learnt curve, where c is linear and K is searched: that only ranks them. The
best are then put into the equations in place of the network and fitted to the data themselves, and the
smallest Bayesian information criterion, :math:`\sum (r/\sigma)^2 + p \ln N` for p numbers, decides: a longer
formula must beat a shorter one by 6, which is strong evidence. So the network proposes and the data decide;
the coefficients owe nothing to the network's prior.

References:
    Brunton, Proctor, Kutz (2016). Discovering governing equations from data by sparse identification of
    nonlinear dynamical systems. PNAS 113:3932. https://doi.org/10.1073/pnas.1517384113
    Schwarz (1978). Estimating the dimension of a model. Ann Stat 6:461.
    https://doi.org/10.1214/aos/1176344136
    Kass, Raftery (1995). Bayes factors. J Am Stat Assoc 90:773. Section 3.2.
    https://doi.org/10.1080/01621459.1995.10476572
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pbpk.inverse.graybox import GrayBox, Learned, Series, most_probable

_K_RANGE = torch.logspace(-2, 2, 41, dtype=torch.float64)  # of K, in units of the largest input [ours]
_STRONG = 6.0  # a difference of the criterion from here on is strong evidence (Kass, Raftery)
_FLAT = 1e4  # prior standard deviation of a coefficient, in units of its first estimate: none to speak of


@dataclass(frozen=True)
class Piece:
    """One piece of a formula: a product of inputs (none: the constant), saturable or not.

    Attributes:
        of: The inputs that it multiplies, by position.
        saturable: Whether it is z/(K + z).
    """

    of: tuple[int, ...] = ()
    saturable: bool = False

    def __call__(self, z: Tensor, K: Tensor | float = 1.0) -> Tensor:
        """Evaluates the piece at inputs (*, k)."""
        value = torch.ones_like(z[..., 0])
        for i in self.of:
            value = value * z[..., i]
        return value / (K + value) if self.saturable else value

    def text(self, names: Sequence[str], K: float | None = None) -> str:
        """Writes the piece."""
        product = " ".join(names[i] for i in self.of)
        if self.saturable:
            return f"{product}/({'K' if K is None else format(K, '.4g')} + {product})"
        return product


def library(inputs: int, degree: int = 2) -> list[Piece]:
    """Returns the pieces of formulas of some inputs.

    >>> [piece.text(["G", "B"]) for piece in library(2)]
    ['', 'G', 'B', 'G G', 'G B', 'B B', 'G/(K + G)', 'B/(K + B)']
    """
    powers = itertools.chain.from_iterable(
        itertools.combinations_with_replacement(range(inputs), d) for d in range(degree + 1)
    )
    return [*map(Piece, powers), *(Piece((i,), saturable=True) for i in range(inputs))]


@dataclass(frozen=True)
class Formula:
    """A formula of each of the m terms.

    Attributes:
        pieces: The pieces of each.
        numbers: The coefficient of each piece, in order, and after that of a saturable one ln K.
    """

    pieces: tuple[tuple[Piece, ...], ...]
    numbers: Tensor

    def evaluate(self, numbers: Tensor, z: Tensor) -> Tensor:
        """Evaluates the formula with other numbers (*, p) at inputs (*, k), with shape (*, m)."""
        position, terms = 0, []
        for pieces in self.pieces:
            total = torch.zeros_like(numbers[..., 0] * z[..., 0])
            for piece in pieces:
                K = numbers[..., position + 1].exp() if piece.saturable else 1.0
                total = total + numbers[..., position] * piece(z, K)
                position += 1 + piece.saturable
            terms.append(total)
        return torch.stack(terms, -1)

    def __call__(self, z: Tensor) -> Tensor:
        """Evaluates the formula at inputs (*, k), with shape (*, m)."""
        return self.evaluate(self.numbers, z)

    def coefficients(self, names: Sequence[str]) -> list[dict[str, float]]:
        """Returns the numbers of each term by what they multiply; K as ``"K z"``."""
        values = iter(self.numbers.tolist())
        found: list[dict[str, float]] = []
        for pieces in self.pieces:
            found.append({})
            for piece in pieces:
                found[-1][piece.text(names) or "1"] = next(values)
                if piece.saturable:
                    found[-1][f"K {names[piece.of[0]]}"] = math.exp(next(values))
        return found

    def text(self, names: Sequence[str]) -> list[str]:
        """Writes the formula of each term.

        >>> pieces = (Piece((0,), saturable=True), Piece((0, 1)))
        >>> Formula((pieces,), torch.tensor([-2.0, 0.0, 0.5])).text(["C", "B"])
        ['-2 C/(1 + C) + 0.5 C B']
        """
        values, lines = iter(self.numbers.tolist()), []
        for pieces in self.pieces:
            parts = []
            for piece in pieces:
                c = next(values)
                K = math.exp(next(values)) if piece.saturable else None
                parts.append(f"{c:.4g} {piece.text(names, K)}".rstrip())
            lines.append(" + ".join(parts).replace("+ -", "- ") or "0")
        return lines


@dataclass(frozen=True)
class ReadBack:
    """A formula and how well it explains the data.

    Attributes:
        formula: The formula.
        sd: The standard errors of its numbers (of ln K for a K), with shape (p).
        cost: The data's sum of squared scaled residuals.
        BIC: The Bayesian information criterion.
        rivals: What else was fitted: (pieces, BIC), the best first.
        converged: Whether the fit's own criterion was met.
    """

    formula: Formula
    sd: Tensor
    cost: float
    BIC: float
    rivals: tuple[tuple[tuple[tuple[Piece, ...], ...], float], ...]
    converged: bool


def read_back(
    learned: Learned,
    series: Series,
    *,
    pieces: Sequence[Piece] | None = None,
    most: int = 2,
    tried: int = 6,
    step: float | None = None,
) -> ReadBack:
    """Reads a learnt term back as a formula.

    Arguments:
        learned: The learnt term.
        series: The data.
        pieces: The library; None for :func:`library` of the inputs.
        most: The most pieces of one term.
        tried: How many formulas are fitted to the data.
        step: The longest step of the integration [h]; None for a 200th of the time seen.

    Returns:
        The shortest formula that no other beats with strong evidence.
    """
    box = learned.box
    z = learned.inputs
    f, weight = learned(z), 1.0 / learned.sd(z)
    weight = weight / weight.amax(0)
    shelf = list(pieces if pieces is not None else library(z.shape[-1]))
    ranked = [_ranked(z, f[:, m], weight[:, m], shelf, most) for m in range(f.shape[-1])]
    each = max(2, math.ceil((3 * tried) ** (1 / len(ranked))))
    together = sorted(
        itertools.product(*(row[:each] for row in ranked)), key=lambda row: sum(score for score, _ in row)
    )
    step = step or float(series.times[-1]) / 200
    fits = [_fit(box, series, [formula for _, formula in row], step) for row in together[:tried]]
    fits.sort(key=lambda fit: fit.BIC)
    rivals = tuple((fit.formula.pieces, fit.BIC) for fit in fits)
    plausible = [fit for fit in fits if fit.BIC < fits[0].BIC + _STRONG]
    best = min(plausible, key=lambda fit: (len(fit.formula.numbers), fit.BIC))
    return ReadBack(best.formula, best.sd, best.cost, best.BIC, rivals, best.converged)


def _ranked(
    z: Tensor, f: Tensor, weight: Tensor, shelf: Sequence[Piece], most: int
) -> list[tuple[float, Formula]]:
    """Fits every formula of one term to the learnt curve; the score is ln of the misfit, plus its length."""
    found = []
    for count in range(1, most + 1):
        for pieces in itertools.combinations(shelf, count):
            if sum(piece.saturable for piece in pieces) > 1:
                continue
            misfit, numbers = _curve_fit(z, f, weight, pieces)
            length = count + sum(piece.saturable for piece in pieces)
            found.append((math.log(misfit + 1e-12) + 0.5 * length, Formula((pieces,), numbers)))
    return sorted(found, key=lambda row: row[0])


def _curve_fit(z: Tensor, f: Tensor, weight: Tensor, pieces: Sequence[Piece]) -> tuple[float, Tensor]:
    """Fits coefficients by weighted least squares; K is the best of a range."""
    at = next((position for position, piece in enumerate(pieces) if piece.saturable), None)
    top = 1.0 if at is None else float(z[:, pieces[at].of[0]].abs().max())
    best: tuple[float, Tensor] = (math.inf, f.new_zeros(0))
    for K in _K_RANGE[:1] if at is None else _K_RANGE * top:
        X = torch.stack([piece(z, K) for piece in pieces], -1) * weight[:, None]
        c = torch.linalg.lstsq(X, (f * weight)[:, None], driver="gelsd").solution[:, 0]
        misfit = float((X @ c - f * weight).square().sum() / (f * weight).square().sum())
        if misfit < best[0]:
            numbers = c if at is None else torch.cat([c[: at + 1], K.log()[None], c[at + 1 :]])
            best = (misfit, numbers)
    return best


def _fit(box: GrayBox, series: Series, formulas: Sequence[Formula], step: float) -> ReadBack:
    """Fits formulas, one a term, to the data."""
    start = torch.cat([formula.numbers for formula in formulas])
    formula = Formula(tuple(f.pieces[0] for f in formulas), start)

    def residuals(numbers: Tensor) -> Tensor:
        x = box.solve(lambda z: formula.evaluate(numbers, z), series.times, step, len(numbers))
        return series.residuals(x)

    prior = _FLAT * start.abs().clamp(min=1e-6)
    found = most_probable(residuals, prior, start)
    N = int(series.seen.sum())
    BIC = found.cost + len(start) * math.log(N)
    sd = found.covariance.diagonal().sqrt()
    return ReadBack(Formula(formula.pieces, found.weights), sd, found.cost, BIC, (), found.converged)
