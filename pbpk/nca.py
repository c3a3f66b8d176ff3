r"""Noncompartmental analysis of sampled profiles.

- :math:`AUC` up to the last positive concentration at :math:`t_{last}`: linear trapezoid where the
  concentration rises, logarithmic where it falls.
- :math:`\lambda_z`: least squares of :math:`\ln C` on t over the last k samples after the maximum (and
  after the last dose), :math:`k \ge 3`. Taken is the largest k whose adjusted R2 is within 1e-4 of the
  best.
- :math:`AUC_\infty = AUC + C_{last}/\lambda_z`, :math:`t_{1/2} = \ln 2/\lambda_z`, and likewise the first
  moment :math:`AUMC_\infty`; :math:`MRT = AUMC_\infty/AUC_\infty`, less half the duration of an infusion.
- :math:`CL = dose/AUC_\infty`, :math:`V_z = CL/\lambda_z`; after an intravenous dose also
  :math:`V_{ss} = CL \cdot MRT`. After a dose by mouth these are CL/F and Vz/F.
- An intravenous bolus whose sample at time 0 was drawn before the dose is extrapolated back log-linearly from
  the next two samples (from a rising profile, the first of them is taken). Of two samples at one time the
  first is before and the second just after a bolus: nothing is extrapolated then.

References:
    Gabrielsson, Weiner (2012). Non-compartmental analysis. Methods Mol Biol 929:377.
    https://doi.org/10.1007/978-1-62703-050-2_16
    Denney, Duvvuri, Buckeridge (2015). Simple, automatic noncompartmental analysis: the PKNCA R package.
    J Pharmacokinet Pharmacodyn 42:11. https://doi.org/10.1007/s10928-015-9432-2
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.regimen import ROUTES

if TYPE_CHECKING:
    import pandas as pd

CDISC: Mapping[str, str] = {
    "Cmax": "CMAX",
    "tmax": "TMAX",
    "Clast": "CLST",
    "tlast": "TLST",
    "AUC": "AUCLST",
    "AUCinf": "AUCIFO",
    "extrapolated": "AUCPEO",
    "lambda_z": "LAMZ",
    "t_half": "LAMZHL",
    "n_lambda": "LAMZNPT",
    "R2adj": "R2ADJ",
    "CL": "CLO",
    "CL/F": "CLFO",
    "Vz": "VZO",
    "Vz/F": "VZFO",
    "Vss": "VSSO",
}
"""The PPTESTCD of CDISC SDTM for each quantity; MRT is MRTIVIFO or MRTEVIFO by the route. Checked against the
SDTM examples of the PP domain and the R package NonCompart (Bae 2023), which names its results so. F has
none."""

UNITS: Mapping[str, str] = {
    "Cmax": "mg/L",
    "tmax": "h",
    "Clast": "mg/L",
    "tlast": "h",
    "AUC": "mg h/L",
    "AUCinf": "mg h/L",
    "extrapolated": "1",
    "lambda_z": "1/h",
    "t_half": "h",
    "n_lambda": "1",
    "R2adj": "1",
    "MRT": "h",
    "CL": "L/h",
    "CL/F": "L/h",
    "Vz": "L",
    "Vz/F": "L",
    "Vss": "L",
    "F": "1",
}
"""The unit of each quantity."""

NAMES = ("house", "CDISC")
_TIE = 1e-4  # of adjusted R2: Phoenix WinNonlin and PKNCA prefer more samples within it
_CHUNK = 1024  # profiles, to bound the memory
_FLAT = 1e-6  # relative difference below which the logarithmic trapezoid is the linear one


def nca(
    time: Tensor,
    concentration: Tensor,
    dose: Tensor | float | None = None,
    route: str = "po",
    duration: float = 0.0,
    after: Tensor | float = 0.0,
    names: str = "house",
) -> pd.DataFrame:
    """Analyses profiles without a model.

    Arguments:
        time: The sampling times [h], ascending, with shape :math:`(T)`, or :math:`(*, T)` for times of each
            profile's own; two may be equal, before and after a bolus.
        concentration: The concentrations [mg/L], with shape :math:`(*, T)`.
        dose: All that was given [mg], a number or with shape :math:`(*)`.
        route: ``"iv"`` or ``"po"``.
        duration: The duration of an infusion [h].
        after: The time of the last dose [h], or one a profile; the terminal slope is sought after it.
        names: ``"house"``, or ``"CDISC"`` for the codes of :data:`CDISC` (AUCPEO is then in per cent).

    Returns:
        One row a profile; NaN where a quantity cannot be had.

    Raises:
        ValueError: If the shapes do not agree or the times do not ascend.

    >>> t = torch.linspace(0, 24, 25, dtype=torch.float64)
    >>> table = nca(t, 10.0 * torch.exp(-0.2 * t), dose=100.0, route="iv")
    >>> table[["AUCinf", "t_half", "CL", "Vss"]].round(3).values.tolist()
    [[50.0, 3.466, 2.0, 10.0]]
    """
    import pandas as pd

    choose("route", route, ROUTES)
    choose("names", names, NAMES)
    time = torch.as_tensor(time, dtype=torch.float64, device="cpu")
    C = torch.as_tensor(concentration, dtype=torch.float64, device="cpu").detach()
    if time.shape not in (C.shape, C.shape[-1:]) or not bool((torch.diff(time) >= 0).all()):
        raise ValueError(
            f"time must ascend, one for each concentration, but has shape {tuple(time.shape)} "
            f"for concentrations {tuple(C.shape)}."
        )
    time = time.expand(C.shape).reshape(-1, C.shape[-1])
    C = C.reshape(-1, C.shape[-1])
    amount = torch.as_tensor(torch.nan if dose is None else dose, dtype=torch.float64, device="cpu").detach()
    begin = torch.as_tensor(after, dtype=torch.float64, device="cpu").reshape(-1).expand(len(C))
    each = (time, C, amount.reshape(-1).expand(len(C)), begin)
    chunks = zip(*(value.split(_CHUNK) for value in each), strict=True)
    parts = [_analyse(t, c, mg, last, route, duration) for t, c, mg, last in chunks]
    columns = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    return with_names(pd.DataFrame(columns), names, route)


def _analyse(
    time: Tensor, C: Tensor, dose: Tensor, after: Tensor, route: str, duration: float
) -> dict[str, Tensor]:
    """Analyses a chunk of profiles, (n, T)."""
    if route == "iv" and duration == 0 and bool((after == 0).all()) and time.shape[-1] > 2:
        C = torch.cat([_back_extrapolated(time, C), C[:, 1:]], -1)
    table = _observed(time, C)
    late = (time > after.unsqueeze(-1)).any(0)  # of the other samples none is on a terminal slope
    late[-1] = True
    table |= _terminal(time[:, late], C[:, late], torch.maximum(table["tmax"], after))
    table |= _to_infinity(table)
    del table["AUMC"]
    table["MRT"] = table.pop("AUMCinf") / table["AUCinf"] - (duration / 2 if route == "iv" else 0.0)
    CL, over = dose / table["AUCinf"], "" if route == "iv" else "/F"
    table |= {f"CL{over}": CL, f"Vz{over}": CL / table["lambda_z"]}
    return table | ({"Vss": CL * table["MRT"]} if route == "iv" else {})


def with_names(frame: pd.DataFrame, names: str, route: str) -> pd.DataFrame:
    """Returns an analysis under the house's names or under CDISC's, which has a fraction in per cent."""
    if choose("names", names, NAMES) == "house":
        return frame
    renamed = {**CDISC, "MRT": "MRTIVIFO" if route == "iv" else "MRTEVIFO"}
    frame = frame.assign(extrapolated=100.0 * frame["extrapolated"])
    return frame.rename(columns=renamed)


def _back_extrapolated(time: Tensor, C: Tensor) -> Tensor:
    """Returns the concentrations at the first time, extrapolated where the sample came before the bolus."""
    first, second = C[:, 1], C[:, 2]
    slope = torch.log(first / second) / (time[:, 2] - time[:, 1])
    falling = torch.isfinite(slope) & (slope > 0)
    back = torch.where(falling, first * torch.exp(slope.nan_to_num() * (time[:, 1] - time[:, 0])), first)
    return torch.where(C[:, 0] > 0, C[:, 0], back).unsqueeze(-1)


def _observed(time: Tensor, C: Tensor) -> dict[str, Tensor]:
    """Returns what needs no extrapolation: maximum, last, and areas."""
    Cmax, at = C.max(-1)
    order = torch.arange(C.shape[-1])
    last = (order * (C > 0)).amax(-1)
    inside = order[1:] <= last.unsqueeze(-1)
    area, moment = _areas(time, C)
    return {
        "Cmax": Cmax,
        "tmax": torch.where(torch.isnan(Cmax), torch.nan, _pick(time, at)),
        "Clast": _pick(C, last),
        "tlast": _pick(time, last),
        "AUC": (area * inside).sum(-1),
        "AUMC": (moment * inside).sum(-1),
    }


def _pick(rows: Tensor, at: Tensor) -> Tensor:
    return rows.gather(-1, at.unsqueeze(-1)).squeeze(-1)


def _areas(time: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the areas under C and under t C in each interval."""
    c1, c2, t1, t2 = C[:, :-1], C[:, 1:], time[:, :-1], time[:, 1:]
    h = t2 - t1
    falls = (c2 > 0) & (c2 < c1 * (1.0 - _FLAT))
    k = torch.log(torch.where(falls, c1 / c2, 2.0)) / h
    area = torch.where(falls, (c1 - c2) / k, h * (c1 + c2) / 2)
    falling_moment = (t1 * c1 - t2 * c2) / k + (c1 - c2) / k**2
    moment = torch.where(falls, falling_moment, h * (t1 * c1 + t2 * c2) / 2)
    return area, moment


def _terminal(time: Tensor, C: Tensor, begin: Tensor) -> dict[str, Tensor]:
    """Returns the terminal slope from the samples later than ``begin``, with shape (n)."""
    used = (C > 0) & (time > begin.unsqueeze(-1))
    weight = used.to(C)
    final = (torch.arange(C.shape[-1]) * used).amax(-1, keepdim=True)
    last = time.gather(-1, final)
    t = (time - last) * weight  # measured from the last sample, so that sums of squares do not cancel
    y = torch.where(used, torch.log(C.clamp(min=torch.finfo(C.dtype).tiny)), 0.0)
    y = (y - y.gather(-1, final)) * weight
    n, st, sy, stt, sty, syy = (
        value.flip(-1).cumsum(-1).flip(-1) for value in (weight, t, y, t * t, t * y, y * y)
    )
    vt, vy, cov = stt - st * st / n, syy - sy * sy / n, sty - st * sy / n
    R2adj = 1.0 - (1.0 - cov * cov / (vt * vy)) * (n - 1) / (n - 2)
    allowed = used & (n >= 3) & (cov < 0) & torch.isfinite(R2adj)
    R2adj = torch.where(allowed, R2adj, -torch.inf)
    best = R2adj.amax(-1, keepdim=True)
    chosen = (allowed & (R2adj >= best - _TIE)).to(torch.int8).argmax(-1, keepdim=True)  # the earliest start
    found = torch.isfinite(best).squeeze(-1)

    def pick(value: Tensor) -> Tensor:
        return torch.where(found, value.gather(-1, chosen).squeeze(-1), torch.nan)

    return {"lambda_z": pick(-cov / vt), "n_lambda": pick(n), "R2adj": pick(R2adj)}


def _to_infinity(table: dict[str, Tensor]) -> dict[str, Tensor]:
    slope, last = table["lambda_z"], table["Clast"]
    tail = last / slope
    AUCinf = table["AUC"] + tail
    return {
        "t_half": torch.log(torch.tensor(2.0, dtype=slope.dtype)) / slope,
        "AUCinf": AUCinf,
        "extrapolated": tail / AUCinf,
        "AUMCinf": table["AUMC"] + last * table["tlast"] / slope + last / slope**2,
    }
