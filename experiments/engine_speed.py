r"""How fast is linear whole-body kinetics, beside the engines that people use?

Question: what does one body cost, in CPU time on one core, to simulate 100 output times of a linear drug in a
whole body of 18 compartments, (a) 24 h after a dose by mouth, (b) over 7 days of 14 doses by mouth, an
infusion and a bolus; how far is each answer from the exact one; and what does a gradient cost?
Source: the reference man with every mass and flow varied at random; the bundled midazolam.
Command: OMP_NUM_THREADS=1 python -m experiments.engine_speed [--n 16384] [--rounds 5] (extra ``bench``)
Measured: peers and ours take turns in every round of one run; per body the median over the rounds, and the
ratio to each peer within each round, its median. Errors are the largest of any body, as a share of its peak,
against the exact engine in double precision, which is itself compared with LSODA at a tolerance of 1e-11.
"engine" starts from the rates and holds a prepared transform; "command" is all of ``simulate``, from bodies
and drug to profiles, preparation included.
Bars: linear 24 h 800 times scipy and 60 times libroadrunner, 7 days 5,000 times scipy, gradient at most 5
values.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments import record
from pbpk import laplace, linear
from pbpk.bodies import reference_body
from pbpk.compound import Compound
from pbpk.graph import COMPARTMENTS, LUMPED, WHOLE_BODY, OrganGraph
from pbpk.physiology import Physiology
from pbpk.regimen import Regimen
from pbpk.simulate import simulate
from pbpk.topology import Kinetics, System, assemble, kinetics

CASES = {
    "24 h": ("7.5 mg po", 24.0),
    "7 d": ("7.5 mg po q12h x14 + 5 mg iv over 2 h at 30 h + 2 mg iv at 75 h", 168.0),
}
REFERENCE = "pbpk linear (exact)"
BARS = {
    ("24 h", "scipy LSODA"): 800,
    ("24 h", "libroadrunner"): 60,
    ("7 d", "scipy LSODA"): 5000,
}


@dataclass(frozen=True)
class Config:
    """The flags."""

    n: int = 16384  # bodies for ours
    slow: int = 6  # bodies a round for scipy; libroadrunner takes ten times as many
    rounds: int = 5
    seed: int = 1
    rtol: float = 1e-6


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


def case(name: str, config: Config) -> Case:
    """Prepares a case; the exact answer is that of the first 512 bodies."""
    text, hours = CASES[name]
    regimen, times = Regimen.parse(text), torch.linspace(0, hours, 101, dtype=torch.float64)[1:]
    bodies = people(config.n, config.seed)
    drug = kinetics(Compound.load("midazolam"), bodies)
    system = assemble(WHOLE_BODY, bodies, drug)
    few = slice(0, 512)
    exact = linear.solve(system[few], regimen.schedule(times), regimen.amounts(bodies.BW)[few])
    return Case(regimen, times, bodies, drug, system, exact[..., system.position("venous")])


def scipy_lsoda(case: Case, rtol: float) -> Callable[[slice], Tensor]:
    """Returns scipy's LSODA in a loop, restarted at every event, with the Jacobian given."""
    from scipy.integrate import solve_ivp

    matrix = case.system[:512].matrix().numpy()
    schedule = case.regimen.schedule(case.times)
    amounts = case.regimen.amounts(case.bodies.BW)[:512]
    jump = linear._by_inlet(case.system[:512], schedule, schedule.jump, amounts).numpy()
    feed = linear._by_inlet(case.system[:512], schedule, schedule.rate, amounts).numpy()
    time_axis, output = schedule.time.numpy(), set(schedule.output)
    cuts = [k for k in range(len(time_axis)) if schedule.jump[k].any()]
    change = torch.diff(schedule.rate, dim=0, prepend=torch.zeros_like(schedule.rate[:1]))
    cuts = sorted({0, len(time_axis) - 1, *cuts, *torch.nonzero(change.any(-1)).flatten().tolist()})
    atol = 1e-3 * rtol * float(amounts.max())

    def one(body: int) -> np.ndarray:
        A, x, found = matrix[body], np.zeros(matrix.shape[-1]), []
        for start, end in pairwise(cuts):
            x, u = x + jump[start, body], feed[start, body]
            asked = list(range(start + 1, end + 1))
            solution = solve_ivp(
                lambda t, y, A=A, u=u: A @ y + u,
                (time_axis[start], time_axis[end]),
                x,
                method="LSODA",
                jac=lambda t, y, A=A: A,
                rtol=rtol,
                atol=atol,
                t_eval=time_axis[asked],
            )
            found += [solution.y[case.venous, i] for i, k in enumerate(asked) if k in output]
            x = solution.y[:, -1]
        return np.array(found)

    return lambda part: torch.tensor(np.stack([one(body) for body in range(512)[part]]))


def sbml(system: System, dose: float) -> str:
    """Writes a system as SBML: a reaction and a rate constant for each transition, the dose in the depot."""
    names = system.states
    species = "".join(
        f'<species id="{s}" compartment="c" initialAmount="{dose if s == "depot" else 0}" '
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
    rates, hours = case.system.rate[:512].numpy(), float(case.times[-1])
    ids = model.model.getGlobalParameterIds()
    order = [int(name[1:]) for name in ids]

    def one(body: int) -> np.ndarray:
        model.reset()
        model.model.setGlobalParameterValues(rates[body][order])
        return np.array(model.simulate(0, hours, len(case.times) + 1))[1:, 0]

    return lambda part: torch.tensor(np.stack([one(body) for body in range(512)[part]]))


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
    """Returns our engines and how many bodies each takes."""
    schedule, amounts = case.regimen.schedule(case.times), case.regimen.amounts(case.bodies.BW)
    transform = laplace.prepare(case.system, schedule, amounts, [case.venous], config.rtol)
    assert transform is not None

    def command(part: slice) -> Tensor:
        drug = kinetics(Compound.load("midazolam"), case.bodies)
        answer = simulate(
            case.bodies, drug, case.regimen, case.times, engine="laplace", keep=["venous"], rtol=config.rtol
        )
        return answer.amount[..., 0]

    return {
        REFERENCE: (
            lambda part: linear.solve(case.system[part], schedule, amounts[part])[..., case.venous],
            256,
        ),
        "pbpk laplace, engine": (
            lambda part: laplace.solve(transform, case.system, schedule, amounts)[0][..., 0],
            config.n,
        ),
        "pbpk laplace, command": (command, config.n),
    }


def compare(name: str, config: Config) -> dict[str, Any]:
    """Lets the engines take turns; returns CPU time a body, errors, and ratios to the Laplace engine."""
    this = case(name, config)
    engines = ours(this, config)
    engines["scipy LSODA"] = scipy_lsoda(this, config.rtol), config.slow
    if name == "24 h":
        engines["torch matrix_exp"] = matrix_exponential(this), 256
        peer = libroadrunner(this, config.rtol)
        if peer:
            engines["libroadrunner"] = peer, 10 * config.slow
    micro: dict[str, list[float]] = {engine: [] for engine in engines}
    errors = dict.fromkeys(engines, 0.0)
    for turn in range(config.rounds + 1):  # the first one warms up
        for engine, (solve, n) in engines.items():
            with torch.inference_mode():
                start = time.process_time()
                x = solve(slice(0, n))
                spent = time.process_time() - start
            if turn:
                micro[engine].append(1e6 * spent / n)
            m = min(n, len(this.exact))
            gap = (x[:m] - this.exact[:m]).abs().amax(-1) / this.exact[:m].amax(-1)
            errors[engine] = max(errors[engine], float(gap.max()))
    rows = {}
    for engine, spent in micro.items():
        rows[engine] = {"us per body": round(float(np.median(spent)), 2), "error / peak": errors[engine]}
        if engine == REFERENCE:  # what the errors refer to is itself checked against a tight solver
            tight = scipy_lsoda(this, 1e-11)(slice(0, 3))
            gap = (tight - this.exact[:3]).abs().amax(-1) / this.exact[:3].amax(-1)
            rows[engine] |= {"error / peak": "reference", "from LSODA at 1e-11": float(gap.max())}
        for mine in ("engine", "command"):
            ratios = np.array(spent) / np.array(micro[f"pbpk laplace, {mine}"])
            rows[engine][f"times our {mine}"] = round(float(np.median(ratios)), 1)
    return rows


def gradient(config: Config) -> dict[str, float]:
    """Measures value and gradient of 20 parameters a body: 17 Kp, CLint, fup, ka."""
    n = 2048
    this = case("24 h", Config(n=n, seed=config.seed))
    schedule, amounts = this.regimen.schedule(this.times), this.regimen.amounts(this.bodies.BW)
    transform = laplace.prepare(this.system, schedule, amounts, [this.venous], config.rtol)
    assert transform is not None
    given = this.drug.tensors()
    start = {name: given[name].expand(n, *given[name].shape[given[name].ndim - (name == "Kp") :]).clone()
             for name in ("Kp", "CLint", "fup", "ka")}  # fmt: skip

    def value(parameters: dict[str, Tensor]) -> Tensor:
        drug = Kinetics(**{**given, **parameters})
        system = assemble(WHOLE_BODY, this.bodies, drug)
        return laplace.solve(transform, system, schedule, amounts)[0].square().sum()

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
        spent = []
        with torch.inference_mode():
            for _ in range(4):
                start = time.process_time()
                laplace.solve(transform, system, schedule, amounts)
                spent.append(time.process_time() - start)
        return 1e6 * float(np.median(spent[1:])) / n

    day, week = CASES["24 h"], 168.0
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


def run(config: Config) -> dict[str, Any]:
    """Compares, differentiates, grows, and draws."""
    torch.set_num_threads(1)
    result: dict[str, Any] = {name: compare(name, config) for name in CASES}
    result["gradient of 20 parameters"] = gradient(config)
    result["growth [us per body]"] = growth(config)
    result["bars"] = {
        f"{name}, {peer}": {
            "bar": bar,
            "engine": result[name][peer]["times our engine"],
            "command": result[name][peer]["times our command"],
        }
        for (name, peer), bar in BARS.items()
        if peer in result[name]
    }
    result["bars"]["gradient / value"] = {"bar": 5, "engine": result["gradient of 20 parameters"]["ratio"]}
    _figure(result)
    return result


def _figure(result: dict[str, Any]) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5))
    for axis, name in zip(axes, CASES, strict=False):
        rows = sorted(result[name].items(), key=lambda row: row[1]["us per body"])
        axis.barh([row[0] for row in rows], [row[1]["us per body"] for row in rows])
        for y, (_, row) in enumerate(rows):
            error = row["error / peak"]
            error = error if isinstance(error, str) else f"error {error:.0e}"
            axis.text(row["us per body"], y, f" {row['us per body']:.3g} ({error})", va="center")
        axis.set_xscale("log")
        axis.set_xlim(right=axis.get_xlim()[1] * 1e4)
        axis.set_title(f"linear, {name}, 100 times")
        axis.set_xlabel("CPU time per body [us], one core")
    for label, points in result["growth [us per body]"].items():
        pairs = sorted(points.items())
        axes[2].plot(*zip(*pairs, strict=True), "o-", label=label)
    axes[2].set_xscale("log")
    axes[2].set_ylim(bottom=0)
    axes[2].set_xlabel("number of bodies, doses, nodes")
    axes[2].set_ylabel("CPU time per body [us]")
    axes[2].set_title("growth of the Laplace engine")
    axes[2].legend()
    figure.tight_layout()
    figure.savefig(record.folder("engine_speed") / "speed.png", dpi=110)


if __name__ == "__main__":
    record.main("engine_speed", Config, run, __doc__)
