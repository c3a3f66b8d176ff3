r"""What an organ extracts from the blood or the dose that passes it.

Three livers that differ in how they mix, and the gut wall. :math:`Q` is the blood flow, :math:`CL_{int}` the
unbound intrinsic clearance of the whole organ, :math:`f_{u,b} = f_{u,p}/BP`. For the same :math:`CL_{int}`,

.. math:: CL_{well-stirred} \le CL_{dispersion} \le CL_{parallel-tube} \le Q

References:
    Rowland, Benet, Graham (1973). J Pharmacokinet Biopharm 1:123. https://doi.org/10.1007/BF01059626
    Pang, Rowland (1977). J Pharmacokinet Biopharm 5:625. https://doi.org/10.1007/BF01059688
    Roberts, Rowland (1986). J Pharmacokinet Biopharm 14:227.
    Yang et al. (2007). Curr Drug Metab 8:676. https://doi.org/10.2174/138920007782109733
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

DISPERSION = 0.17
"""The dispersion number of the liver: Roberts and Rowland (1986)."""

EXTRACTION_CAP = 0.95
"""[ours] The highest extraction from which an intrinsic clearance is calculated back: at 1 it is infinite."""


def well_stirred(Q: Tensor, CLint: Tensor, fup: Tensor | float, BP: Tensor | float) -> Tensor:
    r"""Computes the hepatic blood clearance of the well-stirred liver.

    .. math:: CL_h = Q f_{u,b} CL_{int} / (Q + f_{u,b} CL_{int}), \quad f_{u,b} = f_{u,p} / BP

    Arguments:
        Q: The hepatic blood flow [L/h], with shape :math:`(*)`.
        CLint: The unbound intrinsic clearance of the liver [L/h], with shape :math:`(*)`.
        fup: The unbound fraction in plasma [1].
        BP: The blood-to-plasma ratio [1].

    Returns:
        The blood clearance [L/h], with shape :math:`(*)`: at most Q.

    References:
        Rowland, Benet, Graham (1973).

    >>> float(well_stirred(torch.tensor(90.0), torch.tensor(90.0), 1.0, 1.0))
    45.0
    """
    drive = torch.as_tensor(fup / BP * CLint)
    return Q * (drive / (Q + drive))


def parallel_tube(Q: Tensor, CLint: Tensor, fup: Tensor | float, BP: Tensor | float) -> Tensor:
    r"""Computes the hepatic blood clearance of the parallel-tube liver.

    .. math:: CL_h = Q (1 - e^{-f_{u,b} CL_{int} / Q})

    Arguments and Returns: as :func:`well_stirred`.

    References:
        Pang, Rowland (1977).
    """
    return Q * -torch.expm1(-torch.as_tensor(fup / BP * CLint) / Q)


def dispersion(
    Q: Tensor, CLint: Tensor, fup: Tensor | float, BP: Tensor | float, number: float = DISPERSION
) -> Tensor:
    r"""Computes the hepatic blood clearance of the axial-dispersion liver (closed at both ends).

    .. math:: CL_h = Q (1 - F), \quad
        F = \frac{4 a e^{-(a-1)/(2 D_N)}}{(1+a)^2 - (1-a)^2 e^{-a/D_N}}, \quad
        a = \sqrt{1 + 4 D_N f_{u,b} CL_{int} / Q}

    Arguments and Returns: as :func:`well_stirred`; ``number`` is :math:`D_N`. It tends to the parallel tube
    as :math:`D_N \to 0` and to the well-stirred liver as :math:`D_N \to \infty`.

    References:
        Roberts, Rowland (1986).
    """
    a = torch.sqrt(1.0 + 4.0 * number * torch.as_tensor(fup / BP * CLint) / Q)
    passing = 4.0 * a * torch.exp(-(a - 1.0) / (2.0 * number))
    return Q * (1.0 - passing / ((1.0 + a) ** 2 - (1.0 - a) ** 2 * torch.exp(-a / number)))


def intrinsic_from_plasma(
    CL: Tensor | float,
    Q: Tensor | float,
    fup: Tensor | float,
    BP: Tensor | float,
    cap: float = EXTRACTION_CAP,
) -> Tensor:
    r"""Computes the unbound intrinsic clearance that explains a hepatic plasma clearance, well-stirred.

    .. math:: CL_{int} = \frac{CL / BP}{f_{u,b} (1 - E)}, \qquad E = \min(CL / (BP \, Q), cap)

    Arguments:
        CL: The hepatic plasma clearance [L/h], with shape :math:`(*)`.
        Q: The hepatic blood flow [L/h], with shape :math:`(*)`.
        fup: The unbound fraction in plasma [1].
        BP: The blood-to-plasma ratio [1].
        cap: The highest extraction that is believed; a higher one is taken as this, with a warning.

    Returns:
        The unbound intrinsic clearance [L/h], with shape :math:`(*)`; the inverse of :func:`well_stirred`.

    >>> float(intrinsic_from_plasma(45.0, 90.0, 1.0, 1.0))
    90.0
    """
    E = torch.as_tensor(CL / (BP * Q), dtype=torch.float64)
    if float(E.max()) > cap:
        warnings.warn(
            f"CL must stay below {cap:g} of the hepatic plasma flow to be calculated back, but reaches "
            f"{float(E.max()):.3g} of it: the extraction is capped. Check CL, BP and extrahepatic clearance.",
            stacklevel=2,
        )
    E = E.clamp_max(cap)
    return E * Q / (fup / BP * (1.0 - E))


def gut_wall(Qvilli: Tensor, CLperm: Tensor, CLint: Tensor, fu_gut: float = 1.0) -> Tensor:
    r"""Computes the share of an absorbed dose that survives the gut wall (the Qgut model).

    .. math:: F_g = \frac{Q_{gut}}{Q_{gut} + f_{u,gut} CL_{int}}, \qquad
        Q_{gut} = \frac{Q_{villi} CL_{perm}}{Q_{villi} + CL_{perm}}

    Arguments:
        Qvilli: The blood flow of the villi [L/h], with shape :math:`(*)`.
        CLperm: The permeability times the absorbing surface [L/h], with shape :math:`(*)`.
        CLint: The unbound intrinsic clearance of the wall [L/h], with shape :math:`(*)`.
        fu_gut: The unbound fraction in the enterocyte [1].

    Returns:
        :math:`F_g` [1], with shape :math:`(*)`.

    References:
        Yang et al. (2007), equations 5, 6 and 8.

    >>> float(gut_wall(torch.tensor(18.0), torch.tensor(18.0), torch.tensor(9.0)))
    0.5
    """
    Qgut = Qvilli * CLperm / (Qvilli + CLperm)
    return Qgut / (Qgut + fu_gut * CLint)
