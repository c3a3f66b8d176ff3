r"""95 % intervals of shares.

The share of bodies has the interval of Wilson. The checks of one body are not independent of each other,
so the share of checks is given Wilson's interval of the number of independent checks that has the variance
seen between bodies (a ratio estimator over bodies).

References:
    Wilson (1927) J Am Stat Assoc 22:209. https://doi.org/10.1080/01621459.1927.10502953
    Cochran (1977) Sampling Techniques, chapter 6.
"""

from __future__ import annotations

import math

from torch import Tensor

_Z95 = 1.959963984540054  # the 97.5th percentile of the standard normal distribution


def wilson(hits: float, trials: float) -> tuple[float, float]:
    r"""Returns the 95 % interval of a share after Wilson.

    .. math:: \frac{p + z^2/2n \pm z \sqrt{p(1-p)/n + z^2/4n^2}}{1 + z^2/n}

    Arguments:
        hits: How many of the trials were hits.
        trials: The number of independent trials.

    Returns:
        The lower and the upper bound of the share; NaN without trials.

    References:
        Wilson (1927). https://doi.org/10.1080/01621459.1927.10502953

    >>> [round(bound, 4) for bound in wilson(81, 263)]
    [0.2553, 0.3662]
    """
    if trials <= 0:
        return math.nan, math.nan
    p, z2 = hits / trials, _Z95**2
    centre = p + z2 / (2 * trials)
    half = _Z95 * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials**2))
    scale = 1 + z2 / trials
    low, high = (centre - half) / scale, (centre + half) / scale
    return (0.0 if hits == 0 else low), (1.0 if hits == trials else high)


def independent_checks(broken: Tensor, checked: Tensor) -> float:
    """Returns the number of independent checks that has the variance seen between the bodies.

    Arguments:
        broken: The number of checks that each body breaks, with shape :math:`(n,)`.
        checked: The number of checks that apply to it, with shape :math:`(n,)`.
    """
    n, total = len(checked), float(checked.sum())
    share = float(broken.sum()) / max(total, 1.0)
    variance = float(((broken - share * checked) ** 2).sum()) / max(total, 1.0) ** 2 * n / max(n - 1, 1)
    return min(total, share * (1 - share) / variance) if variance > 0 else float(n)
