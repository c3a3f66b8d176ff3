r"""How fast is whole-body kinetics, linear and saturable, beside the engines that people use?

Question: what does one body cost, in CPU time on one core, to simulate 100 output times in a whole body of 18
compartments, (a) 24 h after a dose by mouth, (b) over 7 days of 14 doses by mouth, an infusion and a bolus,
with linear metabolism and with Michaelis-Menten metabolism in the liver; how far is each answer from a tight
one; and what does a gradient cost?
Source: the reference man, every mass and flow varied at random; the bundled midazolam. Saturable: the same
CLint at low concentrations, Km near the peak concentration in the liver [ours].
Command: OMP_NUM_THREADS=1 python -m experiments.engine_speed [--n 16384] [--rounds 5] (extras ``bench``,
``fast``); with a GPU: --device cuda, which adds rows timed on it (wall time, synchronised).
Measured: peers and ours take turns in every round of one run; per body the median over the rounds, and the
ratio to each peer within each round, its median. Errors are the largest of any body, as a share of its peak,
against the exact engine in double precision (linear) or the stiff engine at a tolerance of 1e-9 (saturable),
each itself compared with LSODA at a tolerance of 1e-11. "engine" starts from the rates (and, without time
stepping, holds what was prepared); "command" is all of ``simulate``, from bodies and drug to profiles, with
the compiled kernels loaded.
Bars: linear 24 h 3,000 times scipy and 300 times libroadrunner, 7 days 15,000 times scipy; saturable 24 h 300
and 25, 7 days 300; value and gradient at most 5 values.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments import record
from pbpk import laplace, linear, stiff, volterra
from pbpk.bodies import reference_body
from pbpk.compound import Compound
from pbpk.graph import COMPARTMENTS, LUMPED, WHOLE_BODY, OrganGraph
from pbpk.physiology import Physiology
from pbpk.regimen import Regimen
from pbpk.simulate import simulate
from pbpk.topology import Kinetics, System, assemble, kinetics

DAY = ("7.5 mg po", 24.0)
WEEK = ("7.5 mg po q12h x14 + 5 mg iv over 2 h at 30 h + 2 mg iv at 75 h", 168.0)
CASES = {
    "linear, 24 h": (*DAY, False),
    "linear, 7 d": (*WEEK, False),
    "saturable, 24 h": (*DAY, True),
    "saturable, 7 d": (*WEEK, True),
}
KM = 0.002  # mg/L unbound [ours]: the peak in the liver after 7.5 mg is 0.0022 (linear), 0.003 (saturable)
REFERENCE = "pbpk reference"
BARS = {
    ("linear, 24 h", "scipy LSODA"): 3000,
    ("linear, 24 h", "libroadrunner"): 300,
    ("linear, 7 d", "scipy LSODA"): 15000,
    ("saturable, 24 h", "scipy LSODA"): 300,
    ("saturable, 24 h", "libroadrunner"): 25,
    ("saturable, 7 d", "scipy LSODA"): 300,
}


@dataclass(frozen=True)
class Config:
    """The flags."""

    n: int = 16384  # bodies for ours without time stepping
    slow: int = 6  # bodies a round for scipy; libroadrunner takes ten times as many
    stiff: int = 1024  # bodies for our stiff engine
    rounds: int = 5
    seed: int = 1
    rtol: float = 1e-6  # of the peers, and of our linear engine
    stiff_rtol: float = 1e-5  # of our stiff engine, whose error is then as LSODA's at 1e-6
    volterra_rtol: float = 3e-6  # of our engine of saturable kinetics without time stepping, likewise
    device: str = "cpu"


def people(n: int, seed: int) -> Physiology:
    """Draws bodies like the reference man's, every mass and flow log-normal with 0.3."""
    man = reference_body("human", sex="M", age=30)
    noise = torch.randn(
        2, n, man.M.shape[-1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    M, Q = man.M * torch.exp(0.3 * noise[0]), man.Q * torch.exp(0.3 * noise[1])
    like = {name: value.expand(n, *value.shape) for name, value in man.tensors().items()}
    return Physiology("human", **{**like, "M": M, "Q": Q, "BW": M.sum(-1), "CO": Q.sum(-1)})


@dataclass(frozen=True)
class Case:
    """A regimen, its output times, and the bodies with their exact answer."""

    regimen: Regimen
    times: Tensor
    bodies: Physiology
    drug: Kinetics
    system: System
    exact: Tensor

    @property
    def venous(self) -> int:
        """The state that is compared."""
        return self.system.position("venous")


def midazolam(bodies: Physiology, saturable: bool) -> Kinetics:
    """Returns midazolam's kinetics; saturable ones have the same CLint at low concentrations."""
    drug = kinetics(Compound.load("midazolam"), bodies)
    if not saturable:
        return drug
    CLint = drug.CLint.expand(bodies.shape).unsqueeze(-1)
    Km = torch.full((1,), KM, dtype=CLint.dtype)
    return replace(drug, CLint=torch.zeros_like(drug.CLint), Vmax=CLint * Km, Km=Km)


def case(name: str, config: Config) -> Case:
    """Prepares a case; the reference answer is that of the first bodies."""
    text, hours, saturable = CASES[name]
    regimen, times = Regimen.parse(text), torch.linspace(0, hours, 101, dtype=torch.float64)[1:]
    bodies = people(config.n, config.seed)
    drug = midazolam(bodies, saturable)
    system = assemble(WHOLE_BODY, bodies, drug)
    few = slice(0, 64 if saturable else 512)
    schedule, amounts = regimen.schedule(times), regimen.amounts(bodies.BW)[few]
    if saturable:
        exact, *_ = stiff.solve(system[few], schedule, amounts, rtol=1e-9, atol=1e-12, compiled=True)
    else:
        exact = linear.solve(system[few], schedule, amounts)
    return Case(regimen, times, bodies, drug, system, exact[..., system.position("venous")])


def right_side(system: System, body: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns f(t, x, feed) and its Jacobian for one body, in numpy."""
    A = system.matrix()[body].numpy()
    if not len(system.saturable_source):
        return (lambda t, x, feed: A @ x + feed), (lambda t, x, feed: A)
    (source,), (target,) = system.saturable_source.tolist(), system.saturable_target.tolist()
    u, Vmax, Km = (float(v[body, 0]) for v in (system.unbound, system.Vmax, system.Km))

    def f(t: float, x: np.ndarray, feed: np.ndarray) -> np.ndarray:
        change = A @ x + feed
        speed = Vmax * u * x[source] / (Km + u * x[source])
        change[source] -= speed
        change[target] += speed
        return change

    def jacobian(t: float, x: np.ndarray, feed: np.ndarray) -> np.ndarray:
        J, slope = A.copy(), Vmax * Km * u / (Km + u * x[source]) ** 2
        J[source, source] -= slope
        J[target, source] += slope
        return J

    return f, jacobian


def scipy_lsoda(case: Case, rtol: float) -> Callable[[slice], Tensor]:
    """Returns scipy's LSODA in a loop, restarted at every event, with the Jacobian given."""
    from scipy.integrate import solve_ivp

    few = case.system[:64]
    schedule = case.regimen.schedule(case.times)
    amounts = case.regimen.amounts(case.bodies.BW)[:64]
    jump = linear.by_inlet(few, schedule, schedule.jump, amounts).numpy()
    feed = linear.by_inlet(few, schedule, schedule.rate, amounts).numpy()
    time_axis, output = schedule.time.numpy(), set(schedule.output)
    cuts = [k for k in range(len(time_axis)) if schedule.jump[k].any()]
    change = torch.diff(schedule.rate, dim=0, prepend=torch.zeros_like(schedule.rate[:1]))
    cuts = sorted({0, len(time_axis) - 1, *cuts, *torch.nonzero(change.any(-1)).flatten().tolist()})
    sides = [right_side(few, body) for body in range(64)]
    atol = 1e-3 * rtol * float(amounts.max())

    def one(body: int) -> np.ndarray:
        f, jacobian = sides[body]
        x, found = np.zeros(len(few.states)), []
        for start, end in pairwise(cuts):
            x = x + jump[start, body]
            asked = list(range(start + 1, end + 1))
            solution = solve_ivp(
                f,
                (time_axis[start], time_axis[end]),
                x,
                method="LSODA",
                jac=jacobian,
                rtol=rtol,
                atol=atol,
                t_eval=time_axis[asked],
                args=(feed[start, body],),
            )
            found += [solution.y[case.venous, i] for i, k in enumerate(asked) if k in output]
            x = solution.y[:, -1]
        return np.array(found)

    return lambda part: torch.tensor(np.stack([one(body) for body in range(64)[part]]))


def sbml(system: System, dose: float) -> str:
    """Writes a system as SBML: a reaction and a rate constant for each transition, one dose by mouth."""
    names, inlet = system.states, system.states[system.inlet("po")]
    species = "".join(
        f'<species id="{s}" compartment="c" initialAmount="{dose if s == inlet else 0}" '
        'hasOnlySubstanceUnits="true" boundaryCondition="false" constant="false"/>'
        for s in names
    )
    N = len(system.source)
    parameters = "".join(f'<parameter id="k{i}" value="1" constant="false"/>' for i in range(N))
    reactions = ""
    for i in range(N):
        s, t, d = (names[int(x[i])] for x in (system.source, system.target, system.driver))
        modifier = (
            f'<listOfModifiers><modifierSpeciesReference species="{d}"/></listOfModifiers>' if d != s else ""
        )
        reactions += (
            f'<reaction id="r{i}" reversible="false" fast="false">'
            f'<listOfReactants><speciesReference species="{s}" stoichiometry="1" constant="true"/>'
            f'</listOfReactants><listOfProducts><speciesReference species="{t}" stoichiometry="1" '
            f'constant="true"/></listOfProducts>{modifier}<kineticLaw>'
            '<math xmlns="http://www.w3.org/1998/Math/MathML"><apply><times/>'
            f"<ci>k{i}</ci><ci>{d}</ci></apply></math></kineticLaw></reaction>"
        )
    for e in range(len(system.saturable_source)):
        s, t = (names[int(x[e])] for x in (system.saturable_source, system.saturable_target))
        parameters += "".join(f'<parameter id="{p}{e}" value="1" constant="false"/>' for p in "vmu")
        Cu = f"<apply><times/><ci>u{e}</ci><ci>{s}</ci></apply>"
        reactions += (
            f'<reaction id="s{e}" reversible="false" fast="false">'
            f'<listOfReactants><speciesReference species="{s}" stoichiometry="1" constant="true"/>'
            f'</listOfReactants><listOfProducts><speciesReference species="{t}" stoichiometry="1" '
            f'constant="true"/></listOfProducts><kineticLaw>'
            '<math xmlns="http://www.w3.org/1998/Math/MathML"><apply><divide/>'
            f"<apply><times/><ci>v{e}</ci>{Cu}</apply><apply><plus/><ci>m{e}</ci>{Cu}</apply></apply></math>"
            "</kineticLaw></reaction>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><sbml xmlns="http://www.sbml.org/sbml/level3/version1/core" '
        'level="3" version="1"><model id="body"><listOfCompartments><compartment id="c" size="1" '
        f'spatialDimensions="3" constant="true"/></listOfCompartments><listOfSpecies>{species}'
        f"</listOfSpecies><listOfParameters>{parameters}</listOfParameters>"
        f"<listOfReactions>{reactions}</listOfReactions></model></sbml>"
    )


def libroadrunner(case: Case, rtol: float) -> Callable[[slice], Tensor] | None:
    """Returns libroadrunner (compiled model, CVODE), or None where it is not installed; one dose by mouth."""
    try:
        import roadrunner
    except ImportError:
        return None
    roadrunner.Logger.setLevel(roadrunner.Logger.LOG_ERROR)
    dose = float(case.regimen.doses[0].amount)
    model = roadrunner.RoadRunner(sbml(case.system, dose))
    model.integrator.relative_tolerance = rtol
    model.integrator.absolute_tolerance = 1e-3 * rtol * dose
    model.timeCourseSelections = ["venous"]
    few, hours = case.system[:64], float(case.times[-1])
    ids = model.model.getGlobalParameterIds()
    columns = {"k": few.rate, "v": few.Vmax, "m": few.Km, "u": few.unbound}
    values = torch.stack([columns[name[0]][:, int(name[1:])] for name in ids], -1).numpy()

    def one(body: int) -> np.ndarray:
        model.reset()
        model.model.setGlobalParameterValues(values[body])
        return np.array(model.simulate(0, hours, len(case.times) + 1))[1:, 0]

    return lambda part: torch.tensor(np.stack([one(body) for body in range(64)[part]]))


def matrix_exponential(case: Case) -> Callable[[slice], Tensor]:
    """Returns one torch.matrix_exp a body and a product a step; for one dose at zero and equal steps."""
    step, inlet = float(case.times[0]), case.system.inlet(case.regimen.doses[0].route)
    dose = float(case.regimen.doses[0].amount)

    def solve(part: slice) -> Tensor:
        A = case.system[:512][part].matrix()
        E = torch.matrix_exp(A * step)
        x, found = A.new_zeros(len(A), A.shape[-1], 1), []
        x[:, inlet] = dose
        for _ in case.times:
            x = E @ x
            found.append(x[:, case.venous, 0])
        return torch.stack(found, -1)

    return solve


def ours(case: Case, config: Config) -> dict[str, tuple[Callable[[slice], Tensor], int]]:
    """Returns our engines and how many bodies each takes; the first two are "engine" and "command"."""
    schedule, amounts = case.regimen.schedule(case.times), case.regimen.amounts(case.bodies.BW)
    saturable, n = case.drug.saturable, len(case.bodies.BW)
    rtol = config.volterra_rtol if saturable else config.rtol

    def command(part: slice) -> Tensor:
        drug = midazolam(case.bodies, saturable)
        answer = simulate(case.bodies, drug, case.regimen, case.times, keep=["venous"], rtol=rtol)
        return answer.amount[..., 0]

    def stepped(compiled: bool, rtol: float) -> Callable[[slice], Tensor]:
        options: dict[str, Any] = {"atol": 1e-3 * rtol, "kept": [case.venous], "compiled": compiled}
        return lambda part: stiff.solve(case.system[part], schedule, amounts[part], rtol, **options)[0][
            ..., 0
        ]

    if saturable:
        few = config.stiff
        fast, plain = (
            volterra.prepare(case.system, schedule, amounts, [case.venous], rtol, compiled)
            for compiled in (True, False)
        )
        assert fast is not None and plain is not None
        return {
            "pbpk volterra, engine": (
                lambda part: volterra.solve(fast, case.system, schedule, amounts)[0][..., 0],
                n,
            ),
            "pbpk volterra, command": (command, n),
            "pbpk volterra, plain torch": (
                lambda part: volterra.solve(plain, case.system[part], schedule, amounts[part])[0][..., 0],
                few,
            ),
            "pbpk stiff at 1e-5": (stepped(True, config.stiff_rtol), few),
            "pbpk stiff at 1e-6": (stepped(True, 1e-6), few),
        }
    transform, ordinary = (
        laplace.prepare(case.system, schedule, amounts, [case.venous], rtol, compiled)
        for compiled in (True, False)
    )
    assert transform is not None and ordinary is not None
    return {
        "pbpk laplace, engine": (
            lambda part: laplace.solve(transform, case.system, schedule, amounts)[0][..., 0],
            n,
        ),
        "pbpk laplace, command": (command, n),
        "pbpk laplace, plain torch": (
            lambda part: laplace.solve(ordinary, case.system, schedule, amounts)[0][..., 0],
            n,
        ),
        REFERENCE: (
            lambda part: linear.solve(case.system[part], schedule, amounts[part])[..., case.venous],
            256,
        ),
    }


def compare(name: str, config: Config) -> dict[str, Any]:
    """Lets the engines take turns; returns CPU time a body, errors, and ratios to our engine and command."""
    this = case(name, config)
    engines = ours(this, config)
    engine, command = list(engines)[:2]
    engines["scipy LSODA"] = scipy_lsoda(this, config.rtol), config.slow
    if len(this.regimen.doses) == 1:
        if not this.drug.saturable:
            engines["torch matrix_exp"] = matrix_exponential(this), 256
        peer = libroadrunner(this, config.rtol)
        if peer:
            engines["libroadrunner"] = peer, 10 * config.slow
    micro: dict[str, list[float]] = {label: [] for label in engines}
    errors = dict.fromkeys(engines, 0.0)
    for turn in range(config.rounds + 1):  # the first one warms up
        for label, (solve, n) in engines.items():
            with torch.inference_mode():
                start = time.process_time()
                x = solve(slice(0, n))
                spent = time.process_time() - start
            if turn:
                micro[label].append(1e6 * spent / n)
            m = min(n, len(this.exact))
            gap = (x[:m] - this.exact[:m]).abs().amax(-1) / this.exact[:m].amax(-1)
            errors[label] = max(errors[label], float(gap.max()))
    rows = {}
    for label, times in micro.items():
        rows[label] = {"us per body": round(float(np.median(times)), 2), "error / peak": errors[label]}
        for mine, ours_ in (("engine", engine), ("command", command)):
            ratios = np.array(times) / np.array(micro[ours_])
            rows[label][f"times our {mine}"] = round(float(np.median(ratios)), 1)
    tight = scipy_lsoda(this, 1e-11)(slice(0, 3))  # what the errors refer to is itself checked
    gap = (tight - this.exact[:3]).abs().amax(-1) / this.exact[:3].amax(-1)
    return rows | {"the reference from LSODA at 1e-11": {"error / peak": float(gap.max())}}


def gradient(config: Config, saturable: bool) -> dict[str, float]:
    """Measures value and gradient of 20 parameters a body: 17 Kp, CLint or Vmax, fup, ka."""
    n = 1024 if saturable else 2048
    this = case("saturable, 24 h" if saturable else "linear, 24 h", replace(config, n=n))
    schedule, amounts = this.regimen.schedule(this.times), this.regimen.amounts(this.bodies.BW)
    transform = None
    if not saturable:
        transform = laplace.prepare(this.system, schedule, amounts, [this.venous], config.rtol)
    given = this.drug.tensors()
    wide = ("Kp", "Vmax")
    start = {name: given[name].expand(n, *given[name].shape[given[name].ndim - (name in wide) :]).clone()
             for name in ("Kp", "Vmax" if saturable else "CLint", "fup", "ka")}  # fmt: skip

    def value(parameters: dict[str, Tensor]) -> Tensor:
        system = assemble(WHOLE_BODY, this.bodies, Kinetics(**{**given, **parameters}))
        if transform:
            return laplace.solve(transform, system, schedule, amounts)[0].square().sum()
        rtol = config.stiff_rtol
        answer, *_ = stiff.solve(system, schedule, amounts, rtol, 1e-3 * rtol, kept=[this.venous])
        return answer.square().sum()

    spent: dict[str, list[float]] = {"value": [], "value and gradient": []}
    for turn in range(config.rounds + 2):
        begin = time.process_time()
        with torch.no_grad():
            value(start)
        middle = time.process_time()
        value({k: v.requires_grad_() for k, v in start.items()}).backward()
        end = time.process_time()
        if turn > 1:
            spent["value"].append((middle - begin) / n * 1e6)
            spent["value and gradient"].append((end - middle) / n * 1e6)
        for tensor in start.values():
            tensor.grad = None
    ratio = np.median(np.array(spent["value and gradient"]) / np.array(spent["value"]))
    return {k: float(np.median(v)) for k, v in spent.items()} | {"ratio": float(ratio)}


def growth(config: Config) -> dict[str, dict[int, float]]:
    """Measures microseconds a body of the engine over bodies, doses, and nodes of the graph."""
    found: dict[str, dict[int, float]] = {"bodies": {}, "doses": {}, "nodes": {}}

    def spend(n: int, regimen: Regimen, hours: float, graph: OrganGraph) -> float:
        bodies, times = people(n, config.seed), torch.linspace(0, hours, 101, dtype=torch.float64)[1:]
        system = assemble(graph, bodies, kinetics(Compound.load("midazolam"), bodies))
        schedule, amounts = regimen.schedule(times), regimen.amounts(bodies.BW)
        transform = laplace.prepare(system, schedule, amounts, [system.position("venous")], config.rtol)
        assert transform is not None
        spent: list[float] = []
        with torch.inference_mode():
            for _ in range(4):
                start = time.process_time()
                laplace.solve(transform, system, schedule, amounts)
                spent.append(time.process_time() - start)
        return 1e6 * float(np.median(spent[1:])) / n

    day, week = DAY, 168.0
    for n in (256, 1024, 4096, 16384, 65536):
        found["bodies"][n] = spend(n, Regimen.parse(day[0]), day[1], WHOLE_BODY)
    for count in (1, 7, 21, 84, 168):
        regimen = Regimen.parse(f"7.5 mg po q{168 / count:g}h x{count}")
        found["doses"][count] = spend(4096, regimen, week, WHOLE_BODY)
    alone = ["venous", "arterial", "liver", "lung"]
    for more in (2, 5, 8, 11, 13):
        kept = [*alone, *[c for c in COMPARTMENTS if c not in alone][:more]]
        pools = {c: [c] for c in kept} | {"others": [c for c in COMPARTMENTS if c not in kept]}
        graph = WHOLE_BODY.pool(f"{len(pools)}", pools)
        found["nodes"][len(pools)] = spend(4096, Regimen.parse(day[0]), day[1], graph)
    found["nodes"][len(LUMPED.nodes)] = spend(4096, Regimen.parse(day[0]), day[1], LUMPED)
    return found


def on_device(config: Config) -> dict[str, Any]:
    """Times both engines on a GPU, in double and single precision: wall time a body, and the error.

    The plain engines run there; the transfer of the bodies is not counted.
    """
    found: dict[str, Any] = {}
    for name, (text, hours, saturable) in CASES.items():
        this = case(name, replace(config, n=4096))
        schedule = this.regimen.schedule(torch.linspace(0, hours, 101, dtype=torch.float64)[1:])
        amounts = Regimen.parse(text).amounts(this.bodies.BW)
        for dtype in (torch.float64, torch.float32):
            copies = 4 if saturable else 256

            def there(value: Tensor, dtype: torch.dtype = dtype, copies: int = copies) -> Tensor:
                moved = value.to(config.device, dtype if value.is_floating_point() else value.dtype)
                return moved.repeat(copies, *[1] * (value.ndim - 1))

            system, dose = this.system.each(there), there(amounts)
            rtol = config.stiff_rtol if saturable else config.rtol * (1 if dtype == torch.float64 else 100)
            transform = None
            if not saturable:
                transform = laplace.prepare(system, schedule, dose, [this.venous], rtol)
            spent = []
            for _ in range(3):
                torch.cuda.synchronize()
                begin = time.perf_counter()
                if saturable:
                    answer, *_ = stiff.solve(system, schedule, dose, rtol, 1e-3 * rtol, kept=[this.venous])
                elif transform:
                    answer, _ = laplace.solve(transform, system, schedule, dose)
                torch.cuda.synchronize()
                spent.append(time.perf_counter() - begin)
            m = len(this.exact)
            gap = (answer[:m, :, 0].double().cpu() - this.exact).abs().amax(-1) / this.exact.amax(-1)
            found[f"{name}, {dtype}"] = {
                "bodies": len(dose),
                "us per body": 1e6 * float(np.median(spent)) / len(dose),
                "error / peak": float(gap.max()),
            }
    return found


def run(config: Config) -> dict[str, Any]:
    """Compares, differentiates, grows, and draws."""
    torch.set_num_threads(1)
    result: dict[str, Any] = {name: compare(name, config) for name in CASES}
    result["gradient of 20 parameters"] = {
        "linear": gradient(config, False),
        "saturable": gradient(config, True),
    }
    result["growth [us per body]"] = growth(config)
    if config.device != "cpu":
        result[f"on {config.device}"] = on_device(config)
    result["bars"] = {
        f"{name}, {peer}": {
            "bar": bar,
            "engine": result[name][peer]["times our engine"],
            "command": result[name][peer]["times our command"],
        }
        for (name, peer), bar in BARS.items()
        if peer in result[name]
    }
    for kind, found in result["gradient of 20 parameters"].items():
        result["bars"][f"{kind}, gradient / value"] = {"bar": 5, "engine": found["ratio"]}
    _figure(result)
    return result


def _figure(result: dict[str, Any]) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(20, 9))
    for axis, name in zip(axes[:, :2].T.flat, CASES, strict=True):
        rows = sorted(
            ((label, row) for label, row in result[name].items() if "us per body" in row),
            key=lambda row: row[1]["us per body"],
        )
        axis.barh([row[0] for row in rows], [row[1]["us per body"] for row in rows])
        for y, (_, row) in enumerate(rows):
            axis.text(
                row["us per body"],
                y,
                f" {row['us per body']:.3g} (error {row['error / peak']:.0e})",
                va="center",
            )
        axis.set_xscale("log")
        axis.set_xlim(right=axis.get_xlim()[1] * 1e4)
        axis.set_title(f"{name}, 100 times")
        axis.set_xlabel("CPU time per body [us], one core")
    for label, points in result["growth [us per body]"].items():
        axes[0, 2].plot(*zip(*sorted(points.items()), strict=True), "o-", label=label)
    axes[0, 2].set_xscale("log")
    axes[0, 2].set_ylim(bottom=0)
    axes[0, 2].set_xlabel("number of bodies, doses, nodes")
    axes[0, 2].set_ylabel("CPU time per body [us]")
    axes[0, 2].set_title("growth of the linear engine")
    axes[0, 2].legend()
    axes[1, 2].axis("off")
    figure.tight_layout()
    figure.savefig(record.folder("engine_speed") / "speed.png", dpi=80)


if __name__ == "__main__":
    record.main("engine_speed", Config, run, __doc__)
