"""Simulation: bodies, a drug, doses and times -> :class:`~pbpk.simulation.Simulation`.

An engine is chosen and the batch is solved in chunks. An output at the time of a dose is the state before the
dose; the state just after each intravenous bolus is kept beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.checks import choose
from pbpk.compound import Compound
from pbpk.course import STEPPING, Course, Progress
from pbpk.graph import GRAPHS, WHOLE_BODY, OrganGraph
from pbpk.physiology import Cohort, Physiology
from pbpk.regimen import Regimen
from pbpk.simulation import EXACT, SOLVED, STATUS, Simulation
from pbpk.steady import period
from pbpk.topology import Kinetics, System, assemble, kinetics

__all__ = ["ENGINES", "Simulation", "simulate"]

ENGINES: tuple[str, ...] = ("auto", "linear", "laplace", "stiff", "volterra")
MANY = 256
"""From so many bodies on, "auto" finds it worth while to prepare an engine without time stepping."""


def simulate(
    cohort: Cohort | Physiology,
    compound: Compound | Kinetics | str,
    regimen: Regimen | str,
    times: Sequence[float] | Tensor,
    *,
    graph: OrganGraph | str = WHOLE_BODY,
    engine: str = "auto",
    clearance: str = "observed",
    Kp_method: str = "rodgers-rowland",
    keep: Sequence[str] | None = None,
    lag: float | Tensor = 0.0,
    steady_state: bool = False,
    rtol: float = 1e-6,
    throw: bool = True,
    chunk: int | None = None,
    progress: Progress | None = None,
) -> Simulation:
    """Simulates a drug in a batch of bodies; differentiable in the bodies, the kinetics and the amounts.

    Arguments:
        cohort: The bodies, with shape :math:`(*)`.
        compound: A compound, the name or file of one, or its :class:`~pbpk.topology.Kinetics` in these
            bodies.
        regimen: What is given, or its text.
        times: The output times [h], not negative and ascending, with shape :math:`(T)`; the last one after
            the first dose.
        graph: The organ graph, or the name of one of :data:`pbpk.graph.GRAPHS`; where the drug has a wall, or
            the brain its fluid, it is split.
        engine: ``"linear"`` (exact), ``"laplace"`` (an error of rtol times the peak at most, many times
            faster, for states that are kept), ``"stiff"`` (adaptive), ``"volterra"`` (saturable, as laplace),
            or ``"auto"``: for many bodies of which only some states are kept laplace, or volterra if an
            enzyme saturates, else linear or stiff. Where laplace or volterra cannot meet rtol, linear or
            stiff takes its place; so it does at steady state and where bodies have their own dose times.
            Volterra has no gradient: where one is wanted, stiff runs. The result says which engine ran;
            single bodies that laplace or volterra cannot do are done by the other one under its name.
        clearance: ``"observed"`` or ``"in-vitro"``, see :func:`pbpk.clearance.hepatic_intrinsic`.
        Kp_method: One of :data:`pbpk.partition.METHODS`.
        keep: The states and outputs to keep, all by default; ``["plasma"]`` alone lets a million bodies fit
            in memory.
        lag: How much later a dose by mouth begins to leave the stomach [h], a number or one a body.
        steady_state: Begin with what is there just before the first dose of a regimen that has always been
            repeated at its interval (:mod:`pbpk.steady`). Where an enzyme saturates it has no gradient.
        rtol: The relative tolerance of the stiff engine; of laplace and volterra, as a share of the peak.
        throw: Raise if a body cannot be solved; otherwise its amounts are NaN and its status says why.
        chunk: How many bodies are solved together.
        progress: Called with (bodies done, bodies in all) after each chunk.

    Returns:
        The simulation.

    Raises:
        ValueError: If an argument is not as described, or a body's parameters are impossible.
        TypeError: If the bodies or the regimen are something else.
        ArithmeticError: If the engine fails for a body.

    >>> from pbpk.bodies import reference_body
    >>> simulation = simulate(reference_body("human"), "midazolam", "7.5 mg po", [0.0, 0.5, 1.0, 24.0])
    >>> simulation.concentration("plasma").shape
    torch.Size([4])
    """
    bodies, ids = _bodies(cohort)
    plan = Regimen.parse(regimen) if isinstance(regimen, str) else regimen
    if not isinstance(plan, Regimen):
        raise TypeError(f"regimen must be a Regimen or its text, '7.5 mg po' say, but is {regimen!r}.")
    if not plan.doses:
        raise ValueError("regimen must have at least one dose, but is empty. Write it like '7.5 mg po'.")
    if isinstance(graph, str):
        graph = GRAPHS[choose("graph", graph, GRAPHS)]
    time = _checked_times(times).to(bodies.BW)
    plan = plan.delayed(lag) if isinstance(lag, Tensor) or lag else plan
    _check_plan(plan, time, steady_state)
    drug = _kinetics(compound, bodies, Kp_method, clearance)
    plain = not (steady_state or plan.own_times)
    engine = _chosen(engine, drug, keep is not None and bodies.shape.numel() >= MANY and plain, plain)

    system = assemble(graph, bodies, drug)
    dose = plan.amounts(bodies.BW)
    possible = _possible(system, ids, throw)
    kept = system.states if keep is None else _kept(system, keep)
    course = Course(
        system.flat(),
        plan,
        time,
        dose.reshape(bodies.shape.numel(), -1),
        bodies.BW.reshape(-1),
        [system.states.index(state) for state in kept],
        engine,
        rtol,
        steady_state,
    )
    whole = course.solve(possible.reshape(-1), chunk, progress)
    if throw:
        _raise_for(whole.status, ids)

    def shaped(value: Tensor) -> Tensor:
        return value.reshape(bodies.shape + value.shape[1:])

    return Simulation(
        time=time,
        amount=shaped(whole.amount),
        status=shaped(whole.status),
        states=kept,
        system=system,
        regimen=plan,
        dose=dose,
        entered=shaped(whole.entered) if plan.own_times else whole.entered,
        bolus_time=shaped(whole.bolus_time) if plan.own_times else whole.bolus_time,
        bolus_amount=shaped(whole.bolus_amount),
        initial=None if whole.initial is None else shaped(whole.initial),
        id=ids,
        engine=whole.engine,
        rtol=rtol,
        error=shaped(whole.error),
    )


def _kept(system: System, keep: Sequence[str]) -> tuple[str, ...]:
    """Returns the states named in ``keep``, and those from which the outputs named there are read."""
    if not len(keep):
        raise ValueError("keep must name a state or an output, but is empty. Leave it out to keep all.")
    known = dict.fromkeys([*system.states, *system.outputs()])
    named = (choose("keep", name, known) for name in keep)
    return tuple(dict.fromkeys(n if n in system.states else system.state_of(n) for n in named))


def _bodies(cohort: Cohort | Physiology) -> tuple[Physiology, np.ndarray]:
    if isinstance(cohort, Cohort):
        return cohort.physiology, cohort.id
    if not isinstance(cohort, Physiology):
        raise TypeError(
            f"cohort must be a Cohort or a Physiology, but is {str(cohort)[:60]!r}. "
            "pbpk.load_cohort reads a file."
        )
    names = np.array([f"{number}" for number in range(1, cohort.shape.numel() + 1)], dtype=object)
    return cohort, names.reshape(tuple(cohort.shape))


def _kinetics(compound: Any, bodies: Physiology, Kp_method: str, clearance: str) -> Kinetics:
    if isinstance(compound, Kinetics):
        return compound
    if not isinstance(compound, Compound):
        compound = Compound.load(compound)
    return kinetics(compound, bodies, Kp_method, clearance)


def _check_plan(plan: Regimen, time: Tensor, steady_state: bool) -> None:
    """Checks that the doses fit steady state, or that one is given before the last time."""
    if steady_state and plan.own_times:
        raise ValueError(
            "steady_state must have the same dose times in every body, but a dose has one a body. "
            "Simulate many doses instead."
        )
    if steady_state:
        period(plan)
    first, last = min(dose.first for dose in plan.doses), float(time[-1])
    if last <= first and not steady_state and last > 0:
        raise ValueError(
            f"times must go beyond the first dose, at {first:g} h, but none is given by {last:g} h. "
            "Ask for later times."
        )


def _chosen(engine: str, drug: Kinetics, many: bool, plain: bool) -> str:
    choose("engine", engine, ENGINES)
    if engine in EXACT and drug.saturable:
        raise ValueError(
            f"engine must be 'stiff', 'volterra' or 'auto' for saturable enzymes, but is {engine!r}."
        )
    if engine == "volterra" and not drug.saturable:
        raise ValueError("engine must be another one where no enzyme saturates, but is 'volterra'.")
    if engine == "auto":
        without_steps = "volterra" if drug.saturable else "laplace"
        return without_steps if many else STEPPING[without_steps]
    return engine if plain else STEPPING.get(engine, engine)


def _checked_times(times: Sequence[float] | Tensor) -> Tensor:
    """Returns the output times as a tensor, checked."""
    time = torch.as_tensor(times, dtype=torch.float64)
    if time.ndim != 1 or not len(time):
        raise ValueError(f"times must be a list of at least one time, but has shape {tuple(time.shape)}.")
    wrong = ~torch.isfinite(time) | (time < 0)
    if bool(wrong.any()):
        raise ValueError(f"times must be finite and not negative [h], but hold {float(time[wrong][0]):g}.")
    falls = torch.diff(time) <= 0
    if bool(falls.any()):
        at = int(falls.int().argmax())
        raise ValueError(
            f"times must ascend, but {float(time[at + 1]):g} h follows {float(time[at]):g} h. Sort them."
        )
    return time


def _possible(system: System, ids: np.ndarray, throw: bool) -> Tensor:
    """Returns which bodies can be solved; raises for the first that cannot."""
    possible = torch.ones(system.shape, dtype=torch.bool, device=system.rate.device)
    for reason, mask in system.fault.items():
        if throw:
            first = int(mask.reshape(-1).int().argmax())
            raise ValueError(
                f"every body must have possible parameters, but in body {ids.flat[first]!r} {reason} "
                f"({int(mask.sum())} of {mask.numel()} bodies). Correct or remove it."
            )
        possible = possible & ~mask
    return possible


def _raise_for(status: Tensor, ids: np.ndarray) -> None:
    failed = (status != SOLVED).nonzero().squeeze(-1)
    if len(failed):
        first = int(failed[0])
        raise ArithmeticError(
            f"every body must be solved, but {len(failed)} of {len(status)} were not, "
            f"the first is {ids.flat[first]!r}: {STATUS[int(status[first])]}."
        )
