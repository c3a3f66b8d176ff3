"""One interface, same answers: every engine against SciPy's Radau on random graphs, drugs and regimens."""

import numpy as np
import scipy.integrate
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pbpk.graph import COMPARTMENTS, WHOLE_BODY
from pbpk.kinetics import BrainBarrier, Kinetics, Metabolite
from pbpk.regimen import Dose, Regimen
from pbpk.simulate import simulate

TISSUES = [c for c in COMPARTMENTS if c not in ("arterial", "venous")]
powers = st.floats(-2.0, 2.0).map(lambda x: 10.0**x)


def rarely(values):
    return st.one_of(st.none(), st.none(), values)


@st.composite
def graphs(draw):
    """The whole body pooled at random; the brain with its fluid, or one organ walled, now and then."""
    homes = draw(st.lists(st.integers(0, 4), min_size=len(TISSUES), max_size=len(TISSUES)))
    pools = {f"n{k}": [t for t, home in zip(TISSUES, homes, strict=True) if home == k] for k in range(5)}
    pools = {name: group for name, group in pools.items() if group}
    graph = WHOLE_BODY.pool("random", {**pools, "arterial": ["arterial"], "venous": ["venous"]})
    walled = draw(rarely(st.sampled_from(sorted(pools))))
    if walled:
        graph = graph.permeable(walled)
    alone = [name for name, group in pools.items() if group == ["brain"]]
    return graph.with_csf() if alone and walled not in alone else graph


@st.composite
def drugs(draw, graph, saturable):
    PS = {node: draw(powers) for node in graph.walled}
    PS = {graph.members[graph.nodes.index(node)][0]: value for node, value in PS.items()}
    barrier = BrainBarrier(draw(powers), draw(powers), draw(powers), 0.5) if graph.csf else None
    bile = draw(rarely(powers))
    common = {"PS": PS, "brain": barrier}
    metabolite = Kinetics([1.5] * 17, BP=0.9, fup=0.4, CLint=draw(powers), CLrenal=1.0, **common)
    enzymes = draw(st.lists(st.sampled_from(TISSUES), min_size=1, max_size=2)) if saturable else []
    return Kinetics(
        Kp=[draw(st.floats(-0.5, 1.0).map(lambda x: 10.0**x)) for _ in range(17)],
        BP=draw(st.floats(0.55, 2.0)),
        fup=draw(st.floats(0.02, 1.0)),
        CLint=draw(powers),
        CLrenal=draw(st.floats(0.0, 5.0)),
        ka=draw(st.floats(0.1, 5.0)),
        Fa=draw(st.floats(0.3, 1.0)),
        Fg=draw(st.floats(0.3, 1.0)),
        Vmax=[draw(powers) for _ in enzymes],
        Km=[draw(st.floats(-1.0, 1.0).map(lambda x: 10.0**x)) for _ in enzymes],
        enzymes_in=tuple(enzymes),
        CLint_in={organ: draw(powers) for organ in draw(st.lists(st.sampled_from(TISSUES), max_size=2))},
        kge=draw(rarely(st.floats(0.5, 5.0))),
        CLbile=bile,
        kbile=None if bile is None else 0.7,
        metabolites={"M": Metabolite(metabolite, share=0.4, weight=1.3)} if draw(st.booleans()) else {},
        **common,
    )


@st.composite
def regimens(draw):
    doses = []
    for _ in range(draw(st.integers(1, 3))):
        route, count = draw(st.sampled_from(["iv", "po"])), draw(st.integers(1, 3))
        duration = draw(st.sampled_from([0.0, 0.5, 3.0])) if route == "iv" else 0.0
        time = draw(st.sampled_from([0.0, 1.0, 2.5]))
        doses.append(Dose(time, draw(st.floats(1.0, 100.0)), duration, route, 4.0 * (count > 1), count))
    return Regimen(tuple(doses))


def radau(simulation):
    """Solves one body with the numbers of its system, restarted at every instant of its schedule."""
    system, schedule = simulation.system, simulation.regimen.schedule(simulation.time)
    A, n = system.matrix().numpy(), len(system.states)
    source, target = system.saturable_source.numpy(), system.saturable_target.numpy()
    u, Vmax, Km = system.unbound.numpy(), system.Vmax.numpy(), system.Km.numpy()
    into = np.zeros((len(schedule.route), n))
    for dose, route in enumerate(schedule.route):
        into[dose, system.inlet(route)] = float(simulation.dose[dose])
    x, states = np.zeros(n), [np.zeros(n)]
    for k in range(len(schedule.time) - 1):
        x = x + schedule.jump[k].numpy() @ into
        feed = schedule.rate[k].numpy() @ into

        def f(t, x, feed=feed):
            speed = Vmax * u * x[source] / (Km + u * x[source])
            change = A @ x + feed
            np.subtract.at(change, source, speed)
            np.add.at(change, target, speed)
            return change

        def J(t, x):
            slope, J = Vmax * Km * u / (Km + u * x[source]) ** 2, A.copy()
            np.subtract.at(J, (source, source), slope)
            np.add.at(J, (target, source), slope)
            return J

        span = (0.0, float(schedule.time[k + 1] - schedule.time[k]))
        x = scipy.integrate.solve_ivp(f, span, x, "Radau", jac=J, rtol=1e-10, atol=1e-12).y[:, -1]
        states.append(x)
    return np.array(states)[list(schedule.output)]


@given(st.data(), st.booleans())
@settings(max_examples=5, suppress_health_check=list(HealthCheck), deadline=None)
def test_every_engine_gives_what_radau_gives(people, data, saturable):
    graph = data.draw(graphs())
    drug = data.draw(drugs(graph, saturable))
    regimen = data.draw(regimens())
    body = people(1, data.draw(st.integers(0, 10**6)))[0]
    times = torch.tensor([0.5, 2.5, 4.0, 7.0, 12.0], dtype=torch.float64)
    engines = ["stiff", "volterra"] if saturable else ["linear", "laplace", "stiff"]
    expected = None
    for engine in engines:
        rtol = 2e-6 if engine == "volterra" else 1e-7
        simulation = simulate(body, drug, regimen, times, graph=graph, engine=engine, rtol=rtol)
        expected = radau(simulation) if expected is None else expected
        scale = float(simulation.dose.sum())
        error = np.abs(simulation.amount.numpy() - expected).max() / scale
        assert error < (1e-8 if engine == "linear" else 2e-6), (engine, simulation.engine, error)
