r"""What a simulation gives: amounts [mg], and from them concentrations, areas, and exposure.

``"plasma"`` is the venous plasma and ``"blood"`` the venous blood; any node of the graph and any organ is
an output too (an organ in a pooled node shares the node's plasma). What is exact for linear kinetics is
exact here: areas under the curve, clearance, volume and bioavailability come from the rate matrix and not
from samples.
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
from pbpk.graph import COMPARTMENTS
from pbpk.nca import nca, with_names
from pbpk.organs import ORGANS, index
from pbpk.regimen import Regimen
from pbpk.topology import System

if TYPE_CHECKING:
    import pandas as pd

SOLVED, IMPOSSIBLE = 0, 1
STATUS: dict[int, str] = {
    SOLVED: "solved",
    IMPOSSIBLE: "a parameter is missing or impossible",
    2: "it takes more steps than allowed; loosen rtol",
    3: "the step became too small; check the parameters",
}
"""What the numbers of ``Simulation.status`` say; 2 and 3 are the stiff engine's."""

EXACT = ("linear", "laplace")
"""The engines of linear kinetics, whose areas are exact."""

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
        id: The bodies' names, an array of shape :math:`(*)`.
        engine: The engine that ran: ``"linear"``, ``"laplace"`` or ``"stiff"``.
        rtol: The tolerance of the stiff and the laplace engine.
        error: The estimated error of each body's amounts as a share of their peak, with shape :math:`(*)`: 0
            where the exact engine ran, NaN where nothing was solved or no error is estimated (stiff).
    """

    time: Tensor
    amount: Tensor
    status: Tensor
    states: tuple[str, ...]
    system: System
    regimen: Regimen
    dose: Tensor
    id: np.ndarray
    engine: str
    rtol: float
    error: Tensor

    @property
    def outputs(self) -> list[str]:
        """What :meth:`concentration` knows."""
        own = ["plasma", "blood", *self.system.graph.nodes, *ORGANS]
        return [o for o in dict.fromkeys(own) if self._node(o) in self.states]

    def _node(self, output: str) -> str:
        """Returns the node that an output is read from, or "" if there is none."""
        graph = self.system.graph
        if output in graph.nodes:
            return output
        home = "venous" if output in ("plasma", "blood") else output
        return graph.home(home) if home in COMPARTMENTS else ""

    def amount_of(self, state: str) -> Tensor:
        """Returns the amount in one state, a sink say [mg], with shape :math:`(*, T)`."""
        return self.amount[..., self.states.index(choose("state", state, self.states))]

    def _per_mg(self, output: str) -> Tensor:
        """Returns the concentration for each mg in the output's node [1/L], with shape (*)."""
        system, node = self.system, self._node(choose("output", output, self.outputs))
        at = system.graph.nodes.index(node)
        if output == node and output not in ("plasma", "blood"):
            return 1.0 / system.V[..., at]
        factor = torch.ones_like(system.BP)
        if output != "plasma":
            factor = system.BP if output == "blood" else system.Kp[..., index(output)]
        return factor / system.P[..., at]

    def concentration(self, output: str = "plasma") -> Tensor:
        """Returns the concentration of ``output`` [mg/L], with shape :math:`(*, T)`.

        Raises:
            ValueError: If there is no such output; the message offers the nearest name.
        """
        per_mg = self._per_mg(output).unsqueeze(-1)
        return self.amount[..., self.states.index(self._node(output))] * per_mg

    @property
    def given(self) -> Tensor:
        """The amount of each dose that has entered before each time [mg], with shape :math:`(*, T, D)`."""
        schedule = self.regimen.schedule(self.time)
        entered = schedule.given()[list(schedule.output)].to(self.dose)
        return self.dose.unsqueeze(-2) * entered

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
        B, m, column = len(system.rate), system.inner, system.position(self._node(output))
        routes = [system.inlet(dose.route) for dose in self.regimen.doses]
        inlet = torch.tensor(routes, device=self.amount.device)

        def area(bodies: System, x: Tensor, given: Tensor) -> Tensor:
            entered = given.new_zeros(*given.shape[:-1], m).index_add(-1, inlet, given)
            return linear.exposure(bodies, x, entered)[..., column]

        given = self.given[..., when, :].reshape(B, -1, len(routes))
        if infinite:
            unsolved = (self.status != SOLVED).reshape(B, 1, 1)
            amount = self.amount.new_zeros(B, 1, m).masked_fill(unsolved, torch.nan)
        else:
            amount = self.amount[..., when, :m].reshape(B, -1, m)
        areas = _in_chunks(area, system, amount, given) * self._per_mg(output).reshape(-1, 1)
        return areas.reshape(self.system.shape if infinite or last else (*self.system.shape, -1))

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
            raise ValueError("quantiles must have at least one solved body, but every body failed.")
        frames = []
        for output in outputs:
            C = self.concentration(output).detach().reshape(-1, len(self.time))[solved]
            levels = np.quantile(C.cpu().numpy(), probabilities, axis=0)
            columns = {f"p{100 * p:g}": level for p, level in zip(probabilities, levels, strict=True)}
            frames.append(pd.DataFrame({"time": _numbers(self.time), "output": output, **columns}))
        return pd.concat(frames, ignore_index=True)

    def nca(self, output: str = "plasma", names: str = "house") -> pd.DataFrame:
        r"""Analyses the profiles of ``output``: one row a body.

        Cmax, tmax and the terminal slope are those of the samples; of the laplace engine's, those above 100
        times its tolerance, as its error is a share of the peak. For linear kinetics the areas are exact.
        So are, for plasma and whatever was given, the clearance CL and the volume Vss of an intravenous
        dose and the bioavailability F of a dose by mouth. Otherwise they come from :func:`pbpk.nca.nca`.

        Arguments:
            output: An output.
            names: ``"house"`` or ``"CDISC"``.
        """
        given = self.regimen.starts(float(self.time[-1]))
        if not given:
            raise ValueError(
                f"nca must have a dose before the last time, but none is given by {float(self.time[-1]):g} h."
            )
        doses = [self.regimen.doses[number] for number, _ in given]
        route = "po" if any(dose.route == "po" for dose in doses) else "iv"
        total = self.given[..., -1, :].sum(-1).reshape(-1).detach()
        frame = nca(
            self.time,
            self._above_noise(self.concentration(output)).reshape(len(total), len(self.time)),
            dose=total,
            route=route,
            duration=doses[-1].duration,
            after=given[-1][1] + doses[-1].duration,
        )
        if len(doses) > 1:  # the moments of a profile say nothing of the drug once there are several doses
            frame[[name for name in ("MRT", "Vss") if name in frame]] = np.nan
        if self._complete:
            AUC, AUCinf = self.AUC(output, last=True), self.AUC(output, infinite=True)
            exact = {"AUC": AUC, "AUCinf": AUCinf, "extrapolated": 1.0 - AUC / AUCinf}
            exact |= self.disposition() if output == "plasma" else {}
            for name, value in exact.items():
                frame[name] = _numbers(value)
            for ratio, divisor in (("CL/F", frame["AUCinf"]), ("Vz/F", frame["AUCinf"] * frame["lambda_z"])):
                if ratio in frame:
                    frame[ratio] = _numbers(total) / divisor
        frame[_numbers(self.status != SOLVED)] = np.nan
        frame.insert(0, "id", self.id.reshape(-1))
        return with_names(frame, names, route)

    def _above_noise(self, C: Tensor) -> Tensor:
        """Returns concentrations with zero for those of which laplace leaves less than two digits."""
        if self.engine != "laplace":
            return C
        noise = 100.0 * self.rtol * C.detach().amax(-1, keepdim=True)
        return torch.where((noise > C) & (self.error[..., None] > 0), 0.0, C)

    @property
    def _complete(self) -> bool:
        """Whether the exact areas can be had."""
        return self.engine in EXACT and self.states == self.system.states

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
        venous = area[..., flat.position("venous")] * self._per_mg("plasma").reshape(-1, 1)
        steady = area[:, 0, : m - 1].sum(-1)  # what is in the body: without the depot
        values = {"CL": 1.0 / venous[:, 0], "Vss": steady / venous[:, 0], "F": venous[:, 1] / venous[:, 0]}
        return {name: value.reshape(self.system.shape) for name, value in values.items()}


def _numbers(value: Tensor) -> np.ndarray:
    return value.detach().reshape(-1).cpu().numpy()


def _in_chunks(function: Callable[..., Tensor], system: System, *tensors: Tensor) -> Tensor:
    """Calls a function of a system and tensors on parts of the batch, to bound its memory."""
    parts = torch.arange(len(system.rate)).split(_CHUNK)
    return torch.cat([function(system[part], *(tensor[part] for tensor in tensors)) for part in parts])
