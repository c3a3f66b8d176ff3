"""Elements of a compound file, through the command: each against a closed form or a mass balance."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch

from pbpk.__main__ import main
from pbpk.bodies import reference_body
from pbpk.brain import Brain
from pbpk.clearance import hepatic_flow
from pbpk.compound import Compound
from pbpk.extraction import well_stirred
from pbpk.kinetics import kinetics
from pbpk.partition import blood_to_plasma
from pbpk.simulate import simulate

MAN = reference_body("human")
VALUES = {"MW": "300.0 g/mol", "logP": "1.0", "fup": "0.2", "ka": "1.5 1/h"}


def values(**changes: str) -> str:
    """The values of a compound file, a number and its unit each."""
    lines = []
    for name, value in {**VALUES, **changes}.items():
        number, _, unit = value.partition(" ")
        lines += [f"[values.{name}]", f"value = {number}", f'unit = "{unit}"' if unit else ""]
    return "\n".join(lines) + "\n"


def metabolism(organ: str, **numbers: float) -> str:
    keys = "\n".join(f"{name} = {value}" for name, value in numbers.items())
    unit = "mg/h" if "Vmax" in numbers else "L/h"
    Km = 'Km_unit = "mg/L"\n' if "Km" in numbers else ""
    return f'[[metabolism]]\norgan = "{organ}"\n{keys}\nunit = "{unit}"\n{Km}'


def metabolite(compound: str, share: float, more: str = "") -> str:
    return f'[[metabolite]]\ncompound = "{compound}"\nshare = {share}\n{more}\n'


def wall(organ: str, PS: float) -> str:
    return f'[[wall]]\norgan = "{organ}"\nPS = {PS}\nunit = "L/h"\n'


@pytest.fixture
def file(tmp_path):
    """Writes a compound file and returns its path."""

    def write(text: str, name: str = "drug"):
        (tmp_path / f"{name}.toml").write_text(text)
        return tmp_path / f"{name}.toml"

    return write


@pytest.fixture
def run(tmp_path):
    """Simulates a drug in the reference man by the command; returns his exposure and the profiles."""

    def simulated(drug, dose="10 mg iv", outputs="plasma", hours=48):
        folder = tmp_path / "out"
        asked = ["human", str(drug), dose, "--outputs", outputs, "--hours", str(hours)]
        assert main(["simulate", *asked, "-o", str(folder)]) == 0
        return pd.read_csv(folder / "exposure.csv").iloc[0], pd.read_csv(folder / "quantiles.csv")

    return simulated


def BP_of(drug) -> float:
    return float(blood_to_plasma(Compound.load(drug), MAN.HCT))


def test_an_organ_s_metabolism_clears_as_a_well_stirred_organ(file, run):
    drug = file(values() + metabolism("kidney", CLint=30.0))
    BP, Q = BP_of(drug), MAN.flow("kidney")
    expected = BP * well_stirred(Q, torch.tensor(30.0, dtype=torch.float64), 0.2, BP)
    assert run(drug)[0]["CL"] == pytest.approx(float(expected), rel=1e-9)


def test_a_saturable_organ_is_linear_in_a_trace_and_takes_Vmax_of_a_flood(file, run):
    drug = file(values() + metabolism("muscle", Vmax=6.0, Km=0.2))
    linear = file(values() + metabolism("muscle", CLint=30.0), "linear")
    trace, expected = (run(d, "0.01 mg iv")[1]["p50"] for d in (drug, linear))
    assert (trace / expected - 1).abs()[1:].max() < 1e-3
    flood = simulate(MAN, str(drug), "1e6 mg iv over 1 h", [5.0, 10.0]).amount_of("metabolised")
    assert float(flood[1] - flood[0]) == pytest.approx(6.0 * 5.0, rel=1e-3)


def test_Vmax_and_Km_may_be_amounts_of_substance(file):
    mass = file(values() + metabolism("lung", Vmax=6.0, Km=0.6))
    amount = file(
        values()
        + '[[metabolism]]\norgan = "lung"\nVmax = 20.0\nunit = "umol/h"\nKm = 2.0\nKm_unit = "umol/L"\n',
        "amount",
    )
    one, other = (Compound.load(f).metabolism[0] for f in (mass, amount))
    assert (one.Vmax, one.Km) == pytest.approx((other.Vmax, other.Km))


def test_bile_brings_back_what_is_absorbed_again(file, run):
    """All is lost from the liver: b of a unit into bile, of which Fa is absorbed and sees the liver again."""
    text = metabolism("liver", CLint=40.0)
    drug = file(values(CLbile="60 L/h", kbile="0.5 1/h", Fa="0.7") + text)
    CLint, BP = float(kinetics(Compound.load(drug), MAN).CLint_in["liver"]), BP_of(drug)
    b = 60.0 / (60.0 + CLint)
    CL = BP * well_stirred(hepatic_flow(MAN), torch.tensor(60.0 + CLint, dtype=torch.float64), 0.2, BP)
    F = 0.7 * (1 - float(CL) / BP / float(hepatic_flow(MAN)))
    po = F / float(CL) / (1 - b * 0.7)
    iv = 1 / float(CL) + b * po
    assert run(drug, "10 mg iv")[0]["AUCinf"] == pytest.approx(10 * iv, rel=1e-9)
    assert run(drug, "10 mg po")[0]["AUCinf"] == pytest.approx(10 * po, rel=1e-9)


def test_the_stomach_adds_its_own_time_and_no_area(file, run):
    text = metabolism("liver", CLint=40.0)
    plain, slow = file(values() + text), file(values(kge="2.0 1/h") + text, "slow")
    one, other = (run(drug, "10 mg po")[0] for drug in (plain, slow))
    assert other["AUCinf"] == pytest.approx(one["AUCinf"], rel=1e-9) and other["tmax"] > one["tmax"]
    first, later = (simulate(MAN, str(drug), "10 mg po", [24.0]).mean_time() for drug in (plain, slow))
    assert float(later - first) == pytest.approx(0.5, rel=1e-9)


def test_a_wall_delays_the_tissue_and_changes_neither_clearance_nor_volume(file, run):
    text = metabolism("liver", CLint=40.0)
    drugs = [file(values() + text + wall("muscle", PS), f"wall{k}") for k, PS in enumerate((0.5, 500.0))]
    (slow, late), (fast, early) = (run(drug, outputs="muscle,muscle_blood") for drug in drugs)
    assert slow[["CL", "Vss"]].tolist() == pytest.approx(fast[["CL", "Vss"]].tolist(), rel=1e-9)
    peaks = [t[t.output == "muscle"].set_index("time")["p50"].idxmax() for t in (late, early)]
    assert peaks[0] > 4 * peaks[1]


def test_the_brain_s_fluid_balances_as_the_four_published_equations_at_rest(file):
    """Integrated over all time, A x = - what the arterial blood brings."""
    PS = {"PSb": 1.875, "PSc": 0.9375, "PSe": 300.0, "CLbout": 0.4}
    barriers = "".join(f'[brain.{n}]\nvalue = {v}\nunit = "L/h"\n' for n, v in PS.items())
    drug = file(values() + metabolism("liver", CLint=40.0) + barriers + "[brain.fum]\nvalue = 0.5\n")
    simulation = simulate(MAN, str(drug), "10 mg iv", [24.0])
    names = ("brain_blood", "brain", "cranial_csf", "spinal_csf")
    V = dict(zip(simulation.system.drugs[0].spaces, simulation.system.V.tolist(), strict=True))
    p = {"Vbb": V["brain_blood"], "Vbm": V["brain"], "Vc": V["cranial_csf"], "Vs": V["spinal_csf"]}
    p |= PS | {"fu": 0.2, "BP": BP_of(drug), "fum": 0.5, "fuc": 1.0, "Qbr": float(MAN.flow("brain"))}
    production = 0.021
    sink = 0.38 * production
    p |= {"Qbulk": 0.25 * production, "Qsout": 0.9 * sink, "Qssink": sink, "Qsin": 1.9 * sink}
    p |= {"Qcsink": production - p["Qsin"] + p["Qsout"]}
    model, A = Brain(arterial=()), torch.zeros(4, 4, dtype=torch.float64)
    for (row, column), rate in model.rates(p).items():
        A[model.states.index(row), model.states.index(column)] = rate
    brought = torch.zeros(4, dtype=torch.float64)
    brought[0] = p["Qbr"] * float(simulation.AUC("arterial", infinite=True))
    areas = -torch.linalg.solve(A, brought)
    mine = [float(simulation.AUC(name, infinite=True)) * V[name] for name in names]
    assert mine == pytest.approx(areas.tolist(), rel=1e-6)


def test_a_metabolite_has_the_area_of_its_formation_over_its_clearance(file, run, tmp_path):
    file(values(MW="450.0 g/mol", filtration="1.0"), "M1")
    formed = metabolite("M1.toml", 0.4, 'source = "a test"')
    drug = file(values() + metabolism("liver", CLint=40.0) + formed)
    CLrenal = 0.2 * float(MAN.GFR)
    exposure, profiles = run(drug, outputs="plasma,M1:plasma,M1:kidney")
    assert exposure["M1:AUCinf"] == pytest.approx(10 * 0.4 * 1.5 / CLrenal, rel=1e-9)
    assert profiles["output"].unique().tolist() == ["plasma", "M1:plasma", "M1:kidney"]
    assert "a test" in (tmp_path / "out" / "report.html").read_text()

    asked = ["population", "human", str(drug), "10 mg iv", "--outputs", "M1:plasma", "--hours", "48"]
    assert main([*asked, "--workers", "1", "-o", str(tmp_path / "many")]) == 0
    row = pd.read_parquet(tmp_path / "many" / "bodies").iloc[0]
    for name in ("Cmax", "AUCinf", "M1:Cmax", "M1:tmax", "M1:AUCinf", "M1:t_half"):
        assert row[name] == pytest.approx(exposure[name], rel=0.01 if "half" in name else 1e-5)


def test_a_metabolite_of_a_metabolite_is_formed_from_it(file, run):
    file(values(filtration="1.0"), "M2")
    file(
        values() + metabolism("kidney", CLint=7.0) + metabolite("M2.toml", 1.0),
        "M1",
    )
    drug = file(values() + metabolism("liver", CLint=40.0) + metabolite("M1.toml", 0.5))
    assert Compound.load(drug).descent == ("M1", "M1:M2")
    assert run(drug)[0]["M1:M2:AUCinf"] == pytest.approx(10 * 0.5 / (0.2 * float(MAN.GFR)), rel=1e-9)


def test_what_an_element_does_goes_with_the_organ_s_mass(file):
    text = values(CLbile="60 L/h", kbile="0.5 1/h") + metabolism("kidney", CLint=30.0) + wall("skin", 4.0)
    compound = Compound.load(file(text + metabolism("spleen", Vmax=3.0, Km=1.0)))
    own, larger = (kinetics(compound, body) for body in (MAN, MAN.replace(M=2.0 * MAN.M, BW=2.0 * MAN.BW)))
    for drug, size in ((own, 1.0), (larger, 2.0)):
        found = (drug.CLbile, drug.CLint_in["kidney"], drug.PS["skin"], drug.Vmax[0])
        assert [float(f) for f in found] == pytest.approx([60.0 * size, 30.0 * size, 4.0 * size, 3.0 * size])


def test_metabolism_of_the_gut_wall_takes_the_place_of_the_wall_s_own_CYP3A4(file):
    text = values(CL="0.3 L/h/kg", Peff="1e-4 cm/s") + "[enzymes.CYP3A4]\nshare = 1.0\n"
    plain, own = (
        kinetics(Compound.load(file(t)), MAN) for t in (text, text + metabolism("small_intestine", CLint=1.0))
    )
    assert plain.Fg < 1.0 and own.Fg == 1.0


BAD = {
    "an organ": (wall("muscel", 1.0), "Did you mean 'muscle'?"),
    "a wall of blood": (wall("blood", 1.0), "[[wall]] organ must be one of"),
    "two walls": (wall("skin", 1.0) + wall("skin", 2.0), "repeats 'skin'"),
    "no unit": ('[[wall]]\norgan = "skin"\nPS = 1.0\n', "a unit that converts to L/h, but has none"),
    "less than nothing": (wall("skin", -1.0), "PS of skin must be finite and not negative, but is -1"),
    "not a number": (wall("skin", float("nan")), "PS of skin must be finite"),
    "a key": ('[[wall]]\norgan = "skin"\nPSA = 1.0\n', "unknown key 'PSA'. Did you mean 'PS'?"),
    "not a list": ('[wall]\norgan = "skin"\n', "must give each entry as [[wall]]"),
    "half an enzyme": (metabolism("kidney", Vmax=1.0), "either CLint, or Vmax and Km"),
    "both kinds": (metabolism("kidney", CLint=1.0, Vmax=1.0, Km=1.0), "metabolism.CLint"),
    "Km of nothing": (metabolism("kidney", Vmax=1.0, Km=0.0), "metabolism.Km must be above 0"),
    "half a bile": (values(CLbile="1 L/h"), "CLbile and kbile must both be given or neither"),
    "half a brain": ('[brain.PSb]\nvalue = 1.0\nunit = "L/h"\n', "lacks PSc. Add [brain.PSc]"),
    "an empty brain": ("[brain]\n", "[brain] must give PSb, PSc, PSe, but is empty"),
    "a unit of nothing": (
        metabolism("kidney", CLint=1.0) + 'Km_unit = "mg/L"\n',
        "Km_unit must come with Km, but Km is missing",
    ),
    "a strange brain": ('[brain.PSx]\nvalue = 1.0\nunit = "L/h"\n', "unknown key 'PSx'"),
    "no file": (metabolite("M9.toml", 0.5), "M9.toml is not there"),
    "no share": ('[[metabolite]]\ncompound = "caffeine"\n', "a table with 'share'"),
    "too much": (metabolite("caffeine", 1.5), "the share of metabolite 'caffeine' must be in [0, 1]"),
    "a circle": (metabolite("drug.toml", 0.5), "must not lead back to itself"),
    "no way back": (metabolite("caffeine", 0.5, "returns = true"), "returns must come with bile"),
    "more than all": (metabolite("caffeine", 0.7) + metabolite("diazepam", 0.7), "sum to at most 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_element_is_refused_in_one_line(name, file, tmp_path, capsys):
    text, words = BAD[name]
    drug = file(text if "[values.MW]" in text else values() + text)
    assert main(["simulate", "human", str(drug), "1 mg iv", "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_brain_in_a_graph_that_pools_it_is_refused(file, tmp_path, capsys):
    barriers = "".join(f'[brain.{n}]\nvalue = 1.0\nunit = "L/h"\n' for n in ("PSb", "PSc", "PSe"))
    asked = ["human", str(file(values() + barriers)), "1 mg iv", "--graph", "lumped"]
    assert main(["simulate", *asked, "-o", str(tmp_path / "out")]) == 2
    assert "keep the brain alone" in capsys.readouterr().err


def test_the_file_of_the_reference_is_simulated_as_it_says(tmp_path, monkeypatch, capsys):
    """Every block of docs/compounds.md, and its command."""
    text = (Path(__file__).parents[2] / "docs" / "compounds.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "drug.toml").write_text("\n".join(blocks[:-1]))
    (tmp_path / "glucuronide.toml").write_text(blocks[-1])
    monkeypatch.chdir(tmp_path)
    command = shlex.split(re.findall(r"^    pbpk (.*)$", text, re.MULTILINE)[0])
    assert main(command) == 0
    assert "glucuronide:AUC " in capsys.readouterr().out
