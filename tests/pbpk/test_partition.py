"""Partition coefficients: the published equations to the last digit, and the laws they obey."""

import ast
import csv
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbpk.composition import composition
from pbpk.compound import Compound
from pbpk.ionisation import ionised
from pbpk.organs import ORGANS, index, indices
from pbpk.partition import HAEMATOCRIT, METHODS, Kp, blood_to_plasma, by_tissue
from pbpk.schmitt import schmitt_pearce

REFERENCE = Path(__file__).parent.parent / "reference" / "kp_golden_subset.csv"
GOLDEN = {
    "RR_blood_corrected": "rodgers-rowland",
    "RR_original_table": "rodgers-rowland-whole",
    "PT": "poulin-theil",
    "BZ": "berezhkovskiy",
    "PKSimStandard": "pk-sim",
    "Schmitt_wholeorgan": "schmitt-whole",
}
GUT = ("LargeIntestine", "SmallIntestine", "Stomach")


def drug(logP=2.0, fup=0.5, BP=1.0, acids=(), bases=(), **more) -> Compound:
    return Compound("test", 300.0, logP, fup, BP, tuple(acids), tuple(bases), **more)


drugs = st.builds(
    drug,
    logP=st.floats(-3.0, 7.0),
    fup=st.floats(0.001, 1.0),
    BP=st.floats(0.55, 3.0),
    acids=st.lists(st.floats(2.0, 12.0), max_size=2),
    bases=st.lists(st.floats(2.0, 12.0), max_size=2),
)


def test_every_method_reproduces_the_reference_values_to_1e_6():
    with REFERENCE.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} == set(GOLDEN.values())
    for row in rows:
        numbers = [float(row[name]) for name in ("logP", "fup", "BP")]
        groups = [[float(pKa) for pKa in row[name].split()] for name in ("pKa_acid", "pKa_base")]
        found = by_tissue(drug(*numbers, *groups), row["species"], row["method"])[row["tissue"]]
        assert float(found) == pytest.approx(float(row["Kp"]), rel=1e-6), row


@pytest.mark.data
def test_all_golden_values_are_reproduced_to_1e_6(data_folder):
    golden = pd.read_csv(data_folder / "compounds" / "kp_golden.csv")
    for key, rows in golden.groupby(["compound", "species", "method"]):
        row = rows.iloc[0]
        compound = drug(row.logP, row.fu, row.BP, ast.literal_eval(row.acids), ast.literal_eval(row.bases))
        found = by_tissue(compound, row.species, GOLDEN[row.method])
        for tissue, want in zip(rows.tissue, rows.Kp, strict=True):
            name = "gut" if tissue in GUT else {"Fat": "adipose"}.get(tissue, tissue.lower())
            assert float(found[name]) == pytest.approx(want, rel=1e-6), (key, tissue)


@pytest.mark.data
def test_schmitt_with_pearces_regression_agrees_with_httk_to_0_2_per_cent(data_folder):
    oracle = pd.read_csv(data_folder / "oracle" / "kp_schmitt_all_tissues.csv")
    inputs = pd.read_csv(data_folder / "oracle" / "parameters_wide.csv")
    checked = 0
    for _, p in inputs.iterrows():
        if p.chemical.startswith("Methyl 1h"):
            continue  # its acidic pKa was lost on the way to the file
        bases = [6.19, 3.41] if p.chemical == "Midazolam" else [p.pKa_Accept]  # lost likewise; httk's table
        compound = drug(
            torch.log10(torch.tensor(p.Pow)).item(),
            p["Funbound.plasma"],
            acids=[pKa for pKa in [p.pKa_Donor] if pKa == pKa],
            bases=[pKa for pKa in bases if pKa == pKa],
            logMA=torch.log10(torch.tensor(p.MA)).item(),
        )
        found = by_tissue(compound, p.species.lower(), "schmitt-pearce")
        rows = oracle[(oracle.chemical == p.chemical) & (oracle.species == p.species)]
        want = dict(zip(rows.Kp.str[1:-3], rows.value, strict=True))
        for tissue, ratio in found.items():
            assert float(ratio) / p["Funbound.plasma"] == pytest.approx(want[tissue], rel=2e-3), p.chemical
            checked += 1
    assert checked == 22 * 11


def test_rodgers_rowland_of_a_strong_acid_is_what_a_pocket_calculator_gives():
    # muscle of man, pKa 5.0, logP 2, fup 0.01; X = 100, Y = 251.1886
    lipid = (100.0 * 0.0220 + (30.0 + 0.7) * 0.0078) / 252.1886
    plasma = (100.0 * 0.0032 + (30.0 + 0.7) * 0.0021) / 252.1886
    bound = (1.0 / 0.01 - 1.0 - plasma) * 0.064
    by_hand = 0.01 * (0.079 + 101.0 / 252.1886 * 0.666 + lipid + bound)
    found = Kp(drug(2.0, 0.01, 0.55, acids=[5.0]))[index("muscle")]
    assert float(found) == pytest.approx(by_hand, rel=1e-6)


def test_an_unbound_hydrophilic_neutral_drug_distributes_into_tissue_water():
    found = by_tissue(drug(-9.0, 1.0), "human", "rodgers-rowland")
    tissue = composition("rodgers-rowland")
    water = tissue["EW"] + tissue["IW"] + 0.7 * tissue["NP"]
    assert torch.allclose(torch.stack(list(found.values())), water, atol=1e-8)


def test_a_base_without_excess_in_blood_cells_binds_to_no_phospholipid():
    poor, poorer = drug(1.0, 0.9, 0.60, bases=[9.0]), drug(1.0, 0.9, 0.50, bases=[9.0])
    organs = [organ for organ in ORGANS if organ != "blood"]
    assert torch.equal(Kp(poor)[indices(organs)], Kp(poorer)[indices(organs)])


def test_the_blood_to_plasma_ratio_of_a_strong_base_raises_its_partition():
    low, high = (Kp(drug(2.0, 0.2, BP, bases=[9.5])) for BP in (0.9, 1.4))
    assert bool((high > low).all())


def test_an_ion_trap_holds_a_base_where_the_tissue_is_acid():
    base, neutral = (by_tissue(drug(2.0, 0.5, bases=pKa), "human", "schmitt") for pKa in ([9.0], []))
    assert float(base["lung"] / neutral["lung"]) > float(base["liver"] / neutral["liver"])  # pH 6.6, 7.23


def test_kp_stands_in_the_order_of_the_organs():
    compound = drug(2.5, 0.1, 0.8, bases=[8.5])
    found, tissues = Kp(compound), by_tissue(compound, "human", "rodgers-rowland")
    assert found.shape == (17,) and found.dtype == torch.float64
    for organ in ("adipose", "liver", "gonads", "spleen"):
        assert found[index(organ)] == tissues[organ]
    for organ in ("stomach", "small_intestine", "large_intestine"):
        assert found[index(organ)] == tissues["gut"]
    assert found[index("rest")] == tissues["muscle"]
    assert float(found[index("blood")]) == 0.8


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_every_organ_of_man_and_animal_a_positive_ratio(method):
    for species in ("human", "rat", "dog"):
        found = Kp(drug(3.0, 0.1, 0.9, bases=[8.0]), species, method)
        assert found.shape == (17,) and bool((found > 0.0).all())


def test_an_animal_takes_the_rats_composition():
    compound = drug(2.0, 0.3)
    assert torch.equal(Kp(compound, "monkey"), Kp(compound, "rat"))
    assert not torch.equal(Kp(compound, "human"), Kp(compound, "rat"))


@pytest.mark.parametrize("method", METHODS)
@given(compound=drugs)
def test_ratios_are_finite_and_positive_for_any_drug(method, compound):
    found = Kp(compound, method=method)
    assert bool(torch.isfinite(found).all()) and bool((found > 0.0).all())


@given(compound=drugs)
def test_the_order_in_which_pka_are_given_does_not_matter(compound):
    turned = compound.replace(pKa_acid=compound.pKa_acid[::-1], pKa_base=compound.pKa_base[::-1])
    assert torch.equal(Kp(compound), Kp(turned))


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_drugs_is_its_singles(method):
    logP, fup, BP = torch.tensor([[0.5, 2.0, 4.0], [0.9, 0.3, 0.02], [1.0, 0.7, 0.9]]).double()
    batch = Kp(drug(logP, fup, BP, bases=[8.8]), method=method)
    singles = [
        Kp(drug(*map(float, row), bases=[8.8]), method=method) for row in zip(logP, fup, BP, strict=True)
    ]
    assert batch.shape == (3, 17)
    assert torch.allclose(batch, torch.stack(singles), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_in_logp_fup_and_bp_is_that_of_finite_differences(method):
    point = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (2.1, 0.21, 0.93)]
    assert torch.autograd.gradcheck(lambda *x: Kp(drug(*x, bases=[8.8]), method=method), point)


def test_a_diprotic_base_counts_both_of_its_charged_forms():
    anions, cations = ionised(7.0, [], [6.0, 9.0])
    assert float(anions) == 0.0
    assert float(cations) == pytest.approx(10.0**2 + 10.0**2 * 10.0**-1)


def test_pearces_regression_is_linear_in_the_logarithm():
    tissue = composition("schmitt", "rat")
    found = [float(schmitt_pearce(drug(2.0, fup), tissue)[0]) for fup in (0.1, 0.5)]
    raw = [float(METHODS["schmitt"][0](drug(2.0, fup), tissue)[0]) for fup in (0.1, 0.5)]
    slope = torch.log10(torch.tensor(found[1] / found[0])) / torch.log10(torch.tensor(raw[1] / raw[0]))
    assert float(slope) == pytest.approx(0.574, rel=1e-5)  # adipose


def test_an_unknown_method_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'rodgers-rowland'"):
        Kp(drug(), method="rodgers_rowland")


def test_every_fact_of_the_composition_has_a_source():
    from importlib.resources import files

    with (files("pbpk") / "data" / "tissue_composition.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert all(row["source"] and row["unit"] for row in rows)
    names = [(row["table"], row["species"], row["tissue"], row["quantity"]) for row in rows]
    assert len(set(names)) == len(names)


@given(BP=st.floats(0.55, 3.0))
def test_blood_to_plasma_is_the_measured_one_at_the_haematocrit_of_the_measurement(BP):
    assert float(blood_to_plasma(drug(BP=BP), HAEMATOCRIT)) == pytest.approx(BP, rel=1e-12)
    assert float(blood_to_plasma(drug(BP=BP), float("nan"))) == pytest.approx(BP, rel=1e-12)


@given(BP=st.floats(0.1, 3.0), HCT=st.floats(0.0, 0.7))
def test_blood_is_plasma_and_cells(BP, HCT):
    cells = max(0.0, (BP - 0.55) / 0.45)  # to plasma
    found = float(blood_to_plasma(drug(BP=BP), HCT))
    assert found == pytest.approx((1.0 - HCT) + HCT * cells, rel=1e-12)
    assert found >= (1.0 - HCT) * (1.0 - 1e-12)


def test_blood_to_plasma_follows_each_body_and_each_drug():
    HCT, BP = torch.tensor([0.30, 0.45, 0.53]).double(), torch.tensor([[0.55], [1.0], [1.45]]).double()
    by_hand = torch.tensor([[0.70, 0.55, 0.47], [1.0, 1.0, 1.0], [1.30, 1.45, 1.53]]).double()
    assert torch.allclose(blood_to_plasma(drug(BP=BP), HCT), by_hand, rtol=1e-6, atol=0.0)
