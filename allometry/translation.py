r"""The way through the body: concentrations in animals -> what clears and binds the drug -> a human's.

In each species the unbound intrinsic clearance of the liver and one factor on all tissue-to-plasma ratios are
fitted to the concentrations by least squares on logarithms, in that species' reference body:

.. math:: \min_{\ln CL_{int}, \ln k} \sum_j (\ln C_j - \ln \hat C(t_j; CL_{int}, k K_p))^2
    + \Big(\frac{\sigma}{\omega} \ln \frac{f_u CL_{int}}{CO / 4}\Big)^2

The last term is a weak prior, :math:`\sigma` the profiles' own residual and :math:`\omega = 2`: of most drugs
the liver removes 2 to 98 %. Without it, where the liver clears all that flows to it, any larger clearance
would fit as well.

What is carried to the other body is the mean over the species of :math:`\ln(CL_{int} / BW^{0.75})` and of
:math:`\ln k`, each weighted by :math:`1/(\tau^2 + se^2)`: what the concentrations do not tell hardly counts.
The ratios :math:`K_p`, the flows and the unbound fraction are those of the other body. Elimination is taken
to be hepatic and the tissues to be limited by their perfusion.

References:
    Boxenbaum (1982). Interspecies scaling, allometry, physiological time, and the ground plan of
        pharmacokinetics. J Pharmacokinet Biopharm 10:201. https://doi.org/10.1007/BF01062336: intrinsic
        clearance of unbound drug as what scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from allometry.profiles import Profile
from pbpk.bodies import SIZE_EXPONENT, reference_body
from pbpk.compound import Compound
from pbpk.partition import Kp, blood_to_plasma
from pbpk.physiology import Physiology
from pbpk.simulate import simulate
from pbpk.simulation import Simulation
from pbpk.topology import Kinetics

_BETWEEN = 0.8  # tau: ln CL of one species given another varies so (allometry/data/human_pk.json) [ours]
_UNEXPLAINED = 0.3  # sigma in the first of two fits: of ln C [ours]
_EXTRACTION_SD = 2.0  # omega: of the logit of the liver's extraction among drugs [ours]
_STEP = 1e-4  # of a logarithm, for the derivatives: the engine is exact to 1e-12
_LOWEST = 1e-9  # mg/L: what is said to have left the body must not become the logarithm of 0
_BOUND = 12.0  # of ln CLint over a quarter of CO, and of ln k, either way
_LEAST_SD = 1e-6  # of the residuals: three points on a curve leave none
_FEWEST = 3  # concentrations that two numbers are fitted to


@dataclass(frozen=True)
class Fitted:
    """What the concentrations in one species say of a drug.

    Attributes:
        species: The species.
        BW: Its body weight [kg].
        CLint: The unbound intrinsic clearance of the whole liver [L/h].
        factor: The factor on all tissue-to-plasma ratios [1].
        sd: The standard deviation of the residuals in ln C.
        error: The standard errors of ln CLint and ln factor.
    """

    species: str
    BW: float
    CLint: float
    factor: float
    sd: float
    error: tuple[float, float]


def body_of(profile: Profile) -> Physiology:
    """Returns the body that a profile was measured in."""
    return reference_body(profile.species, BW=profile.BW)


def kinetics(
    compound: Compound, body: Physiology, fup: float, CLint: Tensor, factor: Tensor, method: str
) -> Kinetics:
    """Returns what the drug does in a body, for clearances and factors of shape (n,)."""
    drug = compound.replace(fup=fup)
    ratios = Kp(drug, species=body.species, method=method)
    BP = blood_to_plasma(drug, body.HCT)
    fraction = torch.tensor(fup, dtype=torch.float64)
    return Kinetics(Kp=factor.unsqueeze(-1) * ratios, BP=BP, fup=fraction, CLint=CLint)


def fit(compound: Compound, profiles: Sequence[Profile], method: str = "rodgers-rowland") -> Fitted:
    """Fits the liver's intrinsic clearance and the factor on Kp to the profiles of one species.

    Arguments:
        compound: The drug; its clearance and unbound fraction are not read.
        profiles: Profiles of one species.
        method: One of :data:`pbpk.partition.METHODS`.

    Raises:
        ValueError: If there are several species, or fewer than three concentrations.
    """
    _check(profiles)
    bodies = [body_of(profile) for profile in profiles]
    own = bodies[0]
    scale = math.log(0.25 * own.CO.item())  # about the liver's flow: where fits begin

    def logs(points: np.ndarray) -> np.ndarray:
        """Returns ln C of all profiles for parameters (n, 2), with shape (n, total)."""
        theta = torch.from_numpy(points)
        parts = []
        for profile, body in zip(profiles, bodies, strict=True):
            size = SIZE_EXPONENT * math.log(body.BW.item() / own.BW.item())
            CLint = torch.exp(theta[:, 0] + scale + size)
            parts.append(_log_concentration(compound, profile, body, CLint, theta[:, 1].exp(), method))
        return torch.cat(parts, -1).numpy()

    observed = torch.cat([profile.concentration for profile in profiles]).log().numpy()
    theta, error, sd = _most_probable(logs, observed, -math.log(profiles[0].fup))
    CLint, factor = math.exp(theta[0] + scale), math.exp(theta[1])
    return Fitted(own.species, own.BW.item(), CLint, factor, sd, (float(error[0]), float(error[1])))


def _check(profiles: Sequence[Profile]) -> None:
    species = {profile.species for profile in profiles}
    total = sum(len(profile.time) for profile in profiles)
    if len(species) != 1:
        raise ValueError(
            f"profiles must be of one species, but are of {', '.join(sorted(species)) or 'none'}."
        )
    if total < _FEWEST:
        raise ValueError(f"profiles must hold at least {_FEWEST} concentrations, but hold {total}.")


def _most_probable(
    logs: Callable[[np.ndarray], np.ndarray], observed: np.ndarray, middle: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fits twice, the second time with the residual that the first has left.

    Arguments:
        logs: Gives ln C for parameters (n, 2), with shape (n, total).
        observed: ln C, with shape (total,).
        middle: The first parameter where half of what flows to the liver is removed.

    Returns:
        The parameters and their standard errors, with shape (2,), and the residual standard deviation.
    """
    from scipy.optimize import least_squares

    n = len(observed)
    starts = np.array([[a, b] for a in (-3.0, 0.0, 2.0) for b in (-1.0, 0.5)])
    theta = starts[np.argmin(((logs(starts) - observed) ** 2).sum(1))]

    def jacobian(theta: np.ndarray) -> np.ndarray:
        points = theta + _STEP * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        up_1, down_1, up_2, down_2 = logs(points)
        return np.stack([up_1 - down_1, up_2 - down_2], 1) / (2.0 * _STEP)

    def solve(start: np.ndarray, pull: float) -> np.ndarray:
        return least_squares(
            lambda theta: np.append(logs(theta[None])[0] - observed, pull * (theta[0] - middle)),
            start,
            lambda theta: np.append(jacobian(theta), [[pull, 0.0]], 0),
            bounds=(-_BOUND, _BOUND),
        ).x

    sd = _UNEXPLAINED
    for _ in range(2):
        theta = solve(theta, sd / _EXTRACTION_SD)
        sd = math.sqrt(((logs(theta[None])[0] - observed) ** 2).sum() / max(n - 2, 1))
    slope = jacobian(theta) / max(sd, _LEAST_SD)
    precision = slope.T @ slope + np.diag([_EXTRACTION_SD**-2, 0.0])
    return theta, np.sqrt(np.linalg.pinv(precision).diagonal()), sd


def _log_concentration(
    compound: Compound, profile: Profile, body: Physiology, CLint: Tensor, factor: Tensor, method: str
) -> Tensor:
    bodies = body[None][torch.zeros(len(CLint), dtype=torch.long)]
    drug = kinetics(compound, body, profile.fup, CLint, factor, method)
    simulation = simulate(bodies, drug, profile.regimen, profile.time, keep=["venous"], engine="linear")
    return simulation.concentration("plasma").clamp_min(_LOWEST).log()


def carry(
    fitted: Sequence[Fitted],
    compound: Compound,
    to: str = "human",
    fup: float | None = None,
    BW: float | None = None,
    method: str = "rodgers-rowland",
) -> tuple[Physiology, Kinetics]:
    """Carries what was fitted in animals to another species.

    Arguments:
        fitted: What was fitted, one entry a species.
        compound: The drug.
        to: The species asked for.
        fup: The unbound fraction in its plasma; None is the compound's.
        BW: Its body weight [kg]; None is the reference's.
        method: The partition method of the fits.

    Returns:
        The body, and what the drug does in it.
    """
    if not fitted:
        raise ValueError("fitted must hold at least one species, but is empty.")
    body = reference_body(to, BW=BW)
    per_size, factor = _weighted(fitted)
    CLint = torch.tensor([per_size], dtype=torch.float64).exp() * body.BW**SIZE_EXPONENT
    fraction = float(compound.fup) if fup is None else fup
    ratio = torch.tensor([factor], dtype=torch.float64).exp()
    drug = kinetics(compound, body, fraction, CLint, ratio, method)
    return body[None], drug


def _weighted(fitted: Sequence[Fitted]) -> tuple[float, float]:
    """Returns the means of ln(CLint / BW^0.75) and of ln factor."""
    values = [
        (math.log(one.CLint) - SIZE_EXPONENT * math.log(one.BW), math.log(one.factor)) for one in fitted
    ]
    weights = 1.0 / (_BETWEEN**2 + np.array([one.error for one in fitted]) ** 2)
    per_size, factor = (weights * np.array(values)).sum(0) / weights.sum(0)
    return float(per_size), float(factor)


def translate(
    compound: Compound,
    profiles: Sequence[Profile],
    regimen: str,
    times: Sequence[float] | Tensor,
    to: str = "human",
    fup: float | None = None,
    BW: float | None = None,
    method: str = "rodgers-rowland",
) -> tuple[Simulation, list[Fitted]]:
    """Fits every species, carries the drug to another and simulates it there.

    Arguments:
        compound: The drug.
        profiles: What was measured, in any number of species.
        regimen: What the other species is given.
        times: The times of the simulation [h].
        to: The species asked for.
        fup: The unbound fraction in its plasma; None is the compound's.
        BW: Its body weight [kg].
        method: One of :data:`pbpk.partition.METHODS`.

    Returns:
        The simulation of one body, with shape (1,), and what was fitted.

    Raises:
        ValueError: If a profile is malformed, or the compound has elements (a wall, bile, ...), which are not
            carried between species.

    >>> rat = Profile("rat", "5 mg/kg iv", torch.tensor([0.5, 1.0, 4.0]), torch.tensor([4.0, 3.5, 1.5]), 0.4)
    >>> simulation, fitted = translate(Compound.load("theophylline"), [rat], "5 mg/kg iv", [0.0, 1.0, 24.0])
    >>> fitted[0].species, simulation.concentration("plasma").shape
    ('rat', torch.Size([1, 3]))
    """
    if compound.elements:
        raise ValueError(
            f"compound must have no elements here, but {compound.name!r} has {', '.join(compound.elements)}: "
            "they are not carried between species. Remove them."
        )
    species = sorted({profile.species for profile in profiles})
    fitted = [fit(compound, [p for p in profiles if p.species == name], method) for name in species]
    body, drug = carry(fitted, compound, to, fup, BW, method)
    return simulate(body, drug, regimen, times, engine="linear"), fitted
