r"""What a simulation gives: amounts [mg], and from them concentrations, areas, and exposure.

``"plasma"`` is the venous plasma and ``"blood"`` the venous blood; any node of the graph and any organ is
an output too (an organ in a pooled node shares the node's plasma). What is exact for linear kinetics is
exact here: areas under the curve, clearance, volume and bioavailability come from the rate matrix and not
from samples. Of a metabolite the outputs are ``name:plasma``, ``name:liver`` and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pbpk import linear
from pbpk.checks import choose
from pbpk.clocks import Events
from pbpk.nca import nca, with_names
from pbpk.regimen import Regimen
from pbpk.steady import NO_STEADY_STATE
from pbpk.system import System

if TYPE_CHECKING:
    import pandas as pd

SOLVED, IMPOSSIBLE = 0, 1
STATUS: dict[int, str] = {
    SOLVED: "solved",
    IMPOSSIBLE: "a parameter is missing or impossible",
    2: "it takes more steps than allowed; loosen rtol",
    3: "the step became too small; check the parameters",
    NO_STEADY_STATE: "no steady state was found; less is eliminated than is given",
}
"""What the numbers of ``Simulation.status`` say; 2 and 3 are the stiff engine's."""

EXACT = ("linear", "laplace")
"""The engines of linear kinetics, whose areas are exact."""

METHODS = ("exact", "classical")
"""How exposure is found: from the rate matrix, or from samples alone."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_CHUNK = 256  # bodies: small matrices want to stay in the cache


@dataclass(frozen=True)
class Simulation:
    """What became of the doses.

    Attributes:
        time: The output times [h], with shape :math:`(T)`.
        amount: The amounts in the kept states [mg], with shape :math:`(*, T, s)`.
        status: 0 where a body was solved, else a key of :data:`STATUS`, with shape :math:`(*)`.
        states: The names of the s kept states.
        system: The equations, with batch shape :math:`(*)`.
        regimen: What was given.
        dose: The amounts of its doses [mg], with shape :math:`(*, D)`.
        entered: How often each dose has been given before each time, in parts of an infusion, with shape
            :math:`(T, D)` or :math:`(*, T, D)`.
        bolus_time: When something was given at once into the veins [h], with shape :math:`(P)` or
            :math:`(*, P)`.
        bolus_amount: The amounts in the kept states just after that [mg], with shape :math:`(*, P, s)`.
        initial: What was in the states before time 0 [mg], with shape :math:`(*, n)`, or None for nothing.
        id: The bodies' names, an array of shape :math:`(*)`.
        engine: The engine that ran: ``"linear"``, ``"laplace"``, ``"volterra"`` or ``"stiff"``.
        rtol: The tolerance of any but the linear engine.
        error: The estimated error of each body's amounts as a share of their peak, with shape :math:`(*)`: 0
            where the exact engine ran, NaN where nothing was solved, and where the stiff engine followed
            dose times of the body's own.
    """

    time: Tensor
    amount: Tensor
    status: Tensor
    states: tuple[str, ...]
    system: System
    regimen: Regimen
    dose: Tensor
    entered: Tensor
    bolus_time: Tensor
    bolus_amount: Tensor
    initial: Tensor | None
    id: np.ndarray
    engine: str
    rtol: float
    error: Tensor

    @property
    def outputs(self) -> list[str]:
        """What :meth:`concentration` knows."""
        return [o for o in self.system.outputs() if self.system.state_of(o) in self.states]

    def amount_of(self, state: str) -> Tensor:
        """Returns the amount in one state, a sink say [mg], with shape :math:`(*, T)`."""
        return self.amount[..., self.states.index(choose("state", state, self.states))]

    def concentration(self, output: str = "plasma") -> Tensor:
        """Returns the concentration of ``output`` [mg/L], with shape :math:`(*, T)`.

        Raises:
            ValueError: If there is no such output; the message offers the nearest name.
        """
        at = self.states.index(self.system.state_of(choose("output", output, self.outputs)))
        return self.amount[..., at] * self.system.per_mg(output).unsqueeze(-1)

    def after_bolus(self, output: str = "plasma") -> tuple[Tensor, Tensor]:
        """Returns when something was given at once into the veins, and the concentration just after it.

        :meth:`concentration` gives the state before a dose; this one does not depend on the output times.

        Returns:
            The times [h] with shape :math:`(P)`, or :math:`(*, P)` where bodies have their own, and the
            concentrations [mg/L] with shape :math:`(*, P)`.
        """
        at = self.states.index(self.system.state_of(choose("output", output, self.outputs)))
        return self.bolus_time, self.bolus_amount[..., at] * self.system.per_mg(output).unsqueeze(-1)

    @property
    def given(self) -> Tensor:
        """The amount of each dose that has entered before each time [mg], with shape :math:`(*, T, D)`."""
        return self.dose.unsqueeze(-2) * self.entered

    @property
    def not_given(self) -> int:
        """How many doses come at or after the last time and had no effect."""
        last = float(self.time[-1])
        return sum(dose.count for dose in self.regimen.doses) - sum(
            start < last for _, start in self.regimen.starts(last)
        )

    def AUC(self, output: str = "plasma", infinite: bool = False, last: bool = False) -> Tensor:
        r"""Returns the area under the concentration of ``output``, exact for linear kinetics.

        Arguments:
            output: An output.
            infinite: Give the area to infinity of all that was given, not the areas up to each time.
            last: Give only the area up to the last time.

        Returns:
            The area [mg h/L], with shape :math:`(*, T)`, or :math:`(*)` if ``infinite`` or ``last``.

        Raises:
            ValueError: If kinetics are saturable, or states that it needs were not kept.
        """
        if self.engine not in EXACT:
            raise ValueError("AUC must have linear kinetics, but these are saturable; use nca().")
        if not infinite and self.states != self.system.states:
            missing = next(state for state in self.system.states if state not in self.states)
            raise ValueError(f"AUC must have every state, but {missing!r} was not kept. Leave out 'keep'.")
        system, when = self.system.flat(), slice(-1 if infinite or last else 0, None)
        B, m, column = len(system.rate), system.inner, system.position(system.state_of(output))
        there = self._there(m)

        def area(bodies: System, x: Tensor, given: Tensor, there: Tensor) -> Tensor:
            return linear.exposure(bodies, x, self._into(given, m) + there[:, None])[..., column]

        given = self.given[..., when, :].reshape(B, -1, self.dose.shape[-1])
        if infinite:
            unsolved = (self.status != SOLVED).reshape(B, 1, 1)
            amount = self.amount.new_zeros(B, 1, m).masked_fill(unsolved, torch.nan)
        else:
            amount = self.amount[..., when, :m].reshape(B, -1, m)
        areas = _in_chunks(area, system, amount, given, there) * self.system.per_mg(output).reshape(-1, 1)
        return areas.reshape(self.system.shape if infinite or last else (*self.system.shape, -1))

    def _into(self, given: Tensor, m: int) -> Tensor:
        """Distributes what each dose gave, (..., D), over the m inner states that it enters."""
        routes = [self.system.inlet(dose.route) for dose in self.regimen.doses]
        inlet = torch.tensor(routes, device=given.device)
        return given.new_zeros(*given.shape[:-1], m).index_add(-1, inlet, given)

    def _there(self, m: int) -> Tensor:
        """Returns what was in the m inner states before time 0, with shape (B, m)."""
        B = self.system.shape.numel()
        if self.initial is None:
            return self.amount.new_zeros(B, m)
        return self.initial[..., :m].reshape(B, m)

    def mean_time(self, output: str = "plasma") -> Tensor:
        r"""Returns the exact mean residence time in linear kinetics [h], with shape :math:`(*)`.

        :math:`AUMC_\infty / AUC_\infty` less the mean time at which what was given entered. Of a dose by
        mouth it holds the time of absorption.

        Raises:
            ValueError: If kinetics are saturable, or the simulation began at steady state.
        """
        if self.engine not in EXACT or self.initial is not None:
            raise ValueError("mean_time must have linear kinetics that begin with nothing; use nca().")
        system = self.system.flat()
        B, m, column = len(system.rate), system.inner, system.position(system.state_of(output))
        given = self.given[..., -1, :].reshape(B, 1, -1)
        moment = given * self._mean_start().reshape(-1, 1, self.dose.shape[-1])

        def mean(bodies: System, given: Tensor, moment: Tensor) -> Tensor:
            zero, U = torch.zeros_like(given[..., :1]).expand(-1, -1, m), self._into(given, m)
            area = linear.exposure(bodies, zero, U)
            finite = torch.where(torch.isinf(area), 0.0, area)
            AUMC = linear.exposure(bodies, zero, finite + self._into(moment, m))[..., column]
            entry = moment.sum(-1) / given.sum(-1)
            return torch.where(torch.isinf(area[..., column]), torch.inf, AUMC / area[..., column] - entry)

        return _in_chunks(mean, system, given, moment).reshape(self.system.shape)

    def _mean_start(self) -> Tensor:
        """Returns the mean time at which what was given of each dose entered [h], (D) or (*, D)."""
        starts = self.regimen.starts(float(self.time[-1]))
        means = []
        for number, dose in enumerate(self.regimen.doses):
            shifts = [s - dose.first for d, s in starts if d == number] or [0.0]
            middle = (
                torch.as_tensor(dose.time, dtype=torch.float64).to(self.dose)
                + sum(shifts) / len(shifts)
                + dose.duration / 2
            )
            means.append(middle.expand(self.system.shape))
        return torch.stack(means, -1)

    def frame(self, outputs: Sequence[str] = ("plasma",)) -> pd.DataFrame:
        """Returns the profiles as a table: id, time [h], and one column [mg/L] an output."""
        import pandas as pd

        T = len(self.time)
        ids = self.id.reshape(-1)
        columns = {"id": np.repeat(ids, T), "time": np.tile(_numbers(self.time), len(ids))}
        for output in outputs:
            columns[output] = _numbers(self.concentration(output))
        return pd.DataFrame(columns)

    def quantiles(
        self, outputs: Sequence[str] = ("plasma",), probabilities: Sequence[float] = QUANTILES
    ) -> pd.DataFrame:
        """Returns the quantiles over the solved bodies: time [h], output, p5, p25, ... [mg/L]."""
        import pandas as pd

        solved = (self.status == 0).reshape(-1)
        if not bool(solved.any()):
            reasons = ", ".join(sorted({STATUS[s] for s in self.status.reshape(-1).tolist()}))
            raise ValueError(
                f"quantiles must have at least one solved body, but none is: {reasons}. See who breaks a law "
                "with 'pbpk check'."
            )
        frames = []
        for output in outputs:
            C = self.concentration(output).detach().reshape(-1, len(self.time))[solved]
            levels = np.quantile(C.cpu().numpy(), probabilities, axis=0)
            columns = {f"p{100 * p:g}": level for p, level in zip(probabilities, levels, strict=True)}
            frames.append(pd.DataFrame({"time": _numbers(self.time), "output": output, **columns}))
        return pd.concat(frames, ignore_index=True)

    def nca(self, output: str = "plasma", names: str = "house", method: str | None = None) -> pd.DataFrame:
        r"""Analyses the profiles of ``output``: one row a body.

        ``"classical"`` is :func:`pbpk.nca.nca`, with the concentration just after each intravenous bolus as a
        sample of its own. ``"exact"``, for linear kinetics, takes Cmax, tmax and the terminal slope from it;
        the area to infinity and the mean residence time come from the rate matrix whatever was kept, the area
        to the last time if every state was; and so do, for plasma, the clearance CL and the volume Vss of an
        intravenous dose and the bioavailability F of a dose by mouth. Of the laplace and the volterra
        engine's concentrations those above 100 times the tolerance count, as the error is a share of the
        peak. What refers to a
        single dose is NaN where the simulation began at steady state.

        Arguments:
            output: An output.
            names: ``"house"`` or ``"CDISC"``.
            method: One of :data:`METHODS`; exact where kinetics are linear, by default.
        """
        linear_one = self.engine in EXACT
        method = choose("method", method or METHODS[not linear_one], METHODS)
        if method == "exact" and not linear_one:
            raise ValueError("method must be 'classical' for saturable kinetics, but is 'exact'.")
        given = self.regimen.starts(float(self.time[-1]))
        if not given:
            raise ValueError(
                f"nca must have a dose before the last time, but none is given by {float(self.time[-1]):g} h."
            )
        doses = [self.regimen.doses[number] for number, _ in given]
        route = "po" if any(dose.route == "po" for dose in doses) else "iv"
        total = self.given[..., -1, :].sum(-1).reshape(-1).detach()
        time, C = self._samples(output)
        frame = nca(
            time, C, dose=total, route=route, duration=doses[-1].duration, after=self._last_end(given[-1])
        )
        if len(doses) > 1 or self.initial is not None:  # moments of several doses say nothing of the drug
            frame[[name for name in ("MRT", "Vss") if name in frame]] = np.nan
        if self.initial is not None:
            single = ("AUCinf", "extrapolated", "CL", "Vz", "CL/F", "Vz/F")
            frame[[name for name in single if name in frame]] = np.nan
        if method == "exact":
            self._make_exact(frame, output, total)
        frame[_numbers(self.status != SOLVED)] = np.nan
        frame.insert(0, "id", self.id.reshape(-1))
        return with_names(frame, names, route)

    def _samples(self, output: str) -> tuple[Tensor, Tensor]:
        """Returns the profiles with the concentrations just after each bolus, (T + P) or (B, T + P)."""
        C = self._above_noise(self.concentration(output))
        when, peak = self.after_bolus(output)
        own = when.ndim > 1
        batch = (*self.system.shape, -1) if own else (-1,)
        time = torch.cat([self.time.to(when).expand(*self.system.shape, -1) if own else self.time, when], -1)
        time, order = torch.sort(
            time.detach().reshape(batch), dim=-1, stable=True
        )  # what is before comes first
        C = torch.cat([C, peak.detach()], -1)
        C = C.gather(-1, order.expand(C.shape))
        n = C.shape[-1]
        return (time.reshape(-1, n) if own else time), C.reshape(-1, n)

    def _last_end(self, last: tuple[int, float]) -> Tensor | float:
        """Returns when the last dose has been given [h], a number or one a body."""
        if not self.regimen.own_times:
            return last[1] + self.regimen.doses[last[0]].duration
        return self._own_ends()

    def _own_ends(self) -> Tensor:
        """Returns when the last dose has been given in each body [h], of those before the last time."""
        events = Events.of(self.regimen, self.dose.detach().reshape(-1, self.dose.shape[-1])[:, 0])
        ends = (events.start + events.duration).detach()
        return torch.where(events.start.detach() < self.time[-1], ends, 0.0).amax(-1)

    def _make_exact(self, frame: pd.DataFrame, output: str, total: Tensor) -> None:
        """Replaces what linear kinetics give exactly."""
        exact = {} if self.states != self.system.states else {"AUC": self.AUC(output, last=True)}
        if self.initial is None:
            AUCinf = self.AUC(output, infinite=True)
            up_to = exact.get(
                "AUC",
                torch.tensor(frame["AUC"].tolist(), dtype=torch.float64).to(AUCinf).reshape(AUCinf.shape),
            )
            exact |= {"AUCinf": AUCinf, "extrapolated": 1.0 - up_to / AUCinf}
            if len({dose.route for dose in self.regimen.doses}) == 1:
                exact["MRT"] = self.mean_time(output)
        exact |= self.disposition() if output == "plasma" else {}
        for name, value in exact.items():
            frame[name] = _numbers(value)
        for ratio, divisor in (("CL/F", frame["AUCinf"]), ("Vz/F", frame["AUCinf"] * frame["lambda_z"])):
            if ratio in frame and self.initial is None:
                frame[ratio] = _numbers(total) / divisor
        if "Vz" in frame and "CL" in exact:
            frame["Vz"] = frame["CL"] / frame["lambda_z"]

    def _above_noise(self, C: Tensor) -> Tensor:
        """Returns concentrations with zero for those of which less than two digits are left."""
        if self.engine not in ("laplace", "volterra"):
            return C
        noise = 100.0 * self.rtol * C.detach().amax(-1, keepdim=True)
        return torch.where((noise > C) & (self.error[..., None] > 0), 0.0, C)

    def disposition(self) -> dict[str, Tensor]:
        r"""Returns the exact CL [L/h], Vss [L] and F [1] of linear kinetics, with shape :math:`(*)`.

        Under a constant intravenous infusion of 1 mg/h :math:`CL = 1/C_{ss}` and
        :math:`V_{ss} = \sum A_{ss}/C_{ss}`; F is the ratio of the areas of a dose by mouth and an equal one
        into the veins.
        """
        flat = self.system.flat()
        m = flat.inner
        unit = flat.rate.new_zeros(len(flat.rate), 2, m)
        unit[:, 0, flat.inlet("iv")] = 1.0
        unit[:, 1, flat.inlet("po")] = 1.0
        area = _in_chunks(linear.exposure, flat, torch.zeros_like(unit), unit)
        venous = area[..., flat.position("venous")] * self.system.per_mg("plasma").reshape(-1, 1)
        steady = area[:, 0, : flat.P.shape[-1]].sum(-1)  # in the drug's spaces: not in the gut's content
        values = {"CL": 1.0 / venous[:, 0], "Vss": steady / venous[:, 0], "F": venous[:, 1] / venous[:, 0]}
        return {name: value.reshape(self.system.shape) for name, value in values.items()}


def _numbers(value: Tensor) -> np.ndarray:
    return value.detach().reshape(-1).cpu().numpy()


def _in_chunks(function: Callable[..., Tensor], system: System, *tensors: Tensor) -> Tensor:
    """Calls a function of a system and tensors on parts of the batch, to bound its memory."""
    parts = torch.arange(len(system.rate)).split(_CHUNK)
    return torch.cat([function(system[part], *(tensor[part] for tensor in tensors)) for part in parts])
