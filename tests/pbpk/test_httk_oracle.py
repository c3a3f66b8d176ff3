"""httk's seven-compartment model, with httk's own parameters, against httk's own solution.

Conventions of the oracle (VPOP_DATA/DICTIONARY.md): time in days, amounts in umol, unbound Kp; an oral amount
is the dose times Fabsgut; Clmetabolism holds the unbound fraction; four significant digits. Amounts are
linear in the dose, so umol stand for mg here.
"""

import dataclasses

import pytest
import torch

from pbpk.graph import LUMPED
from pbpk.organs import ORGANS, index
from pbpk.physiology import Physiology
from pbpk.regimen import Dose, Regimen
from pbpk.simulate import simulate
from pbpk.topology import Kinetics, density

pd = pytest.importorskip("pandas")
pytestmark = pytest.mark.data

HTTK = dataclasses.replace(LUMPED, arterial_share=0.5)  # httk halves the blood
HOME = {"gut": "small_intestine", "liver": "liver", "kidney": "kidney", "lung": "lung", "rest": "rest"}


@pytest.fixture(scope="module")
def parameters(data_folder):
    return pd.read_csv(data_folder / "oracle" / "parameters_wide.csv")


@pytest.fixture(scope="module")
def solution(data_folder):
    return pd.read_csv(data_folder / "oracle" / "timecourse.csv")


def tensor(column):
    return torch.tensor(column.to_numpy(), dtype=torch.float64)


def bodies(table):
    volume, flow = torch.zeros(2, len(table), len(ORGANS), dtype=torch.float64)
    for node, organ in HOME.items():
        volume[:, index(organ)] = tensor(table[f"V{node}"])
        if node != "lung":
            flow[:, index(organ)] = tensor(table[f"Q{node}"]) / 24
    volume[:, index("blood")] = tensor(table["Vart"] + table["Vven"])
    one = torch.ones(len(table), dtype=torch.float64)
    return Physiology(
        "human",
        sex=one,
        age=one,
        height=one,
        BW=tensor(table["BW"]),
        HCT=tensor(table["hematocrit"]),
        GFR=tensor(table["Qgfr"]) / 24,
        CO=tensor(table["Qcardiac"]) / 24,
        M=volume * density(),
        Q=flow,
    )


def drugs(table, Fa):
    fup = tensor(table["Funbound.plasma"])
    Kp = torch.ones(len(table), len(ORGANS), dtype=torch.float64)
    for node, organ in HOME.items():
        Kp[:, index(organ)] = tensor(table[f"K{node}2pu"]) * fup
    return Kinetics(
        Kp=Kp,
        BP=tensor(table["Rblood2plasma"]),
        fup=fup,
        CLint=tensor(table["Clmetabolism"]) / 24 / fup,
        CLrenal=tensor(table["Qgfr"]) / 24 * fup,
        ka=tensor(table["kgutabs_per_day"]) / 24,
        Fa=Fa,
    )


@pytest.fixture(scope="module")
def run(parameters, solution):
    """Simulates all 24 bodies at once by one route; returns the simulation and the oracle by column."""

    def run(route, engine):
        part = solution[solution.route == route]
        keys = list(zip(parameters.chemical, parameters.species, strict=True))
        rows = [part[(part.chemical == c) & (part.species == s)].sort_values("time") for c, s in keys]
        days = rows[0]["time"].to_numpy()
        dose = torch.tensor([r["dose_umol"].iloc[0] for r in rows], dtype=torch.float64)
        Fa = tensor(parameters["Fabsgut"]) if route == "oral" else torch.ones(len(keys))
        regimen = Regimen((Dose(0.0, dose, route="po" if route == "oral" else "iv"),))
        simulation = simulate(
            bodies(parameters),
            drugs(parameters, Fa),
            regimen,
            24.0 * days,
            graph=HTTK,
            engine=engine,
            rtol=1e-7,
        )
        oracle = {c: torch.stack([tensor(r[c]) for r in rows]) for c in part.columns[6:]}
        used = torch.tensor(days) > 1e-4 + 1e-9
        return simulation, oracle, used

    return run


def test_the_oracle_holds_twelve_chemicals_in_two_species(parameters):
    assert len(parameters) == 24 and parameters.chemical.nunique() == 12


@pytest.mark.parametrize("engine", ["linear", "stiff"])
@pytest.mark.parametrize("route", ["iv_bolus", "oral"])
def test_every_plasma_profile_of_httk_is_reproduced_within_a_thousandth_of_Cmax(run, route, engine):
    simulation, oracle, used = run(route, engine)
    Cmax = oracle["Cplasma"].amax(-1, keepdim=True)
    error = ((simulation.concentration("plasma") - oracle["Cplasma"]).abs() / Cmax)[:, used]
    assert error.max() < 1e-3


@pytest.mark.parametrize("route", ["iv_bolus", "oral"])
@pytest.mark.parametrize("node", ["gut", "liver", "kidney", "lung", "rest"])
def test_every_organ_profile_of_httk_is_reproduced_within_a_thousandth_of_its_maximum(run, route, node):
    simulation, oracle, used = run(route, "linear")
    expected = oracle[f"C{node}"][:, used]
    error = (simulation.concentration(node)[:, used] - expected).abs() / expected.amax(-1, keepdim=True)
    assert error.max() < 1e-3


@pytest.mark.parametrize("route", ["iv_bolus", "oral"])
@pytest.mark.parametrize("sink, column", [("metabolised", "Ametabolized"), ("excreted", "Atubules")])
def test_what_httk_eliminates_by_each_route_is_reproduced(run, route, sink, column):
    simulation, oracle, used = run(route, "linear")
    error = (simulation.amount_of(sink) - oracle[column])[:, used].abs() / simulation.dose
    assert error.max() < 1e-3


@pytest.mark.parametrize("route", ["iv_bolus", "oral"])
def test_the_exact_area_is_that_of_httk_within_a_thousandth(run, route):
    """Relative to the final area: httk's integrator has an absolute error that shows in early ones."""
    simulation, oracle, used = run(route, "linear")
    area, expected = simulation.AUC("plasma")[:, used] / 24, oracle["AUC"][:, used]
    assert (area[:, -1] / expected[:, -1] - 1).abs().max() < 1e-3
    assert ((area - expected).abs() / expected[:, -1:]).max() < 1e-3


@pytest.mark.parametrize("route", ["iv_bolus", "oral"])
def test_no_drug_is_lost_or_made_in_the_model_of_httk(run, route):
    simulation, _, used = run(route, "linear")
    total = simulation.amount.sum(-1)[:, used]
    assert (total / simulation.dose - 1).abs().max() < 1e-10
