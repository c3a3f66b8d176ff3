"""Clearance: the limits of each liver, scaling by hand, and the way back from plasma."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbpk.bodies import reference_body
from pbpk.clearance import (
    MAN,
    dispersion,
    gut_availability,
    hepatic_flow,
    hepatic_intrinsic,
    hepatic_saturable,
    intrinsic_from_plasma,
    parallel_tube,
    renal,
    well_stirred,
)
from pbpk.compound import Compound
from pbpk.extraction import gut_wall
from pbpk.in_vitro import ABUNDANCE, Pathway
from pbpk.ontogeny import gut_maturation, maturation, microsomal_protein
from pbpk.partition import blood_to_plasma

LIVERS = (well_stirred, parallel_tube, dispersion)
positive = st.floats(1e-6, 1e6)


def T(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def drug(*pathways: Pathway, **more) -> Compound:
    return Compound("test", 400.0, 2.0, 0.1, pathways=pathways, **more)


@pytest.fixture(scope="module")
def man():
    return reference_body("human", sex="M", age=35.0)


@pytest.mark.parametrize("liver", LIVERS)
def test_a_liver_that_metabolises_all_it_sees_clears_its_flow(liver):
    assert float(liver(T(90.0), T(1e12), 0.5, 0.8)) == pytest.approx(90.0, rel=1e-6)


@pytest.mark.parametrize("liver", LIVERS)
def test_a_liver_without_enzymes_clears_nothing(liver):
    assert float(liver(T(90.0), T(0.0), 0.5, 0.8)) == 0.0


@pytest.mark.parametrize("liver", LIVERS)
def test_a_low_clearance_is_unbound_fraction_times_intrinsic(liver):
    assert float(liver(T(90.0), T(1e-3), 0.2, 0.5)) == pytest.approx(0.4e-3, rel=1e-4)


@pytest.mark.parametrize("liver", LIVERS)
@given(Q=positive, CLint=positive, fup=st.floats(1e-4, 1.0), BP=st.floats(0.5, 10.0))
def test_no_liver_clears_more_than_its_flow(liver, Q, CLint, fup, BP):
    CL = float(liver(T(Q), T(CLint), fup, BP))
    assert 0.0 <= CL <= Q * (1.0 + 1e-12)


@given(Q=positive, CLint=positive)
def test_mixing_costs_clearance(Q, CLint):
    stirred, dispersed, tube = (
        float(liver(T(Q), T(CLint), 1.0, 1.0)) for liver in (well_stirred, dispersion, parallel_tube)
    )
    slack = 1e-9 * Q
    assert stirred <= dispersed + slack and dispersed <= tube + slack


def test_dispersion_lies_between_the_tube_and_the_stirred_tank():
    Q, CLint = T(90.0), T(200.0)
    assert float(dispersion(Q, CLint, 1.0, 1.0, 1e-4)) == pytest.approx(
        float(parallel_tube(Q, CLint, 1.0, 1.0)), rel=1e-3
    )
    assert float(dispersion(Q, CLint, 1.0, 1.0, 1e4)) == pytest.approx(
        float(well_stirred(Q, CLint, 1.0, 1.0)), rel=1e-3
    )


@pytest.mark.parametrize("liver", LIVERS)
def test_the_gradient_of_a_liver_is_finite_at_any_intrinsic_clearance(liver):
    CLint = torch.logspace(-6.0, 9.0, 40, dtype=torch.float64, requires_grad=True)
    liver(T(90.0), CLint, 0.1, 0.7).sum().backward()
    assert bool(torch.isfinite(CLint.grad).all()) and bool((CLint.grad >= 0.0).all())


@given(Q=st.floats(1.0, 200.0), E=st.floats(1e-6, 0.94), fup=st.floats(1e-3, 1.0), BP=st.floats(0.5, 3.0))
def test_the_way_back_from_plasma_is_the_inverse_of_the_well_stirred_liver(Q, E, fup, BP):
    CLint = intrinsic_from_plasma(T(E * Q * BP), T(Q), fup, BP)
    assert float(well_stirred(T(Q), CLint, fup, BP)) == pytest.approx(E * Q, rel=1e-9)


def test_a_clearance_above_the_hepatic_flow_is_capped_with_a_warning():
    with pytest.warns(UserWarning, match="extraction is capped"):
        CLint = intrinsic_from_plasma(200.0, T(90.0), 1.0, 1.0)
    assert float(CLint) == pytest.approx(0.95 * 90.0 / 0.05)


def test_hepatocytes_are_scaled_by_the_cells_of_the_bodys_own_liver(man):
    # 10 uL/min/1e6 cells x 120e6 cells/g x 1800 g = 2.16e6 uL/min = 129.6 L/h
    CLint = hepatic_intrinsic(drug(Pathway("hepatocytes", CLint=10.0)), man)
    assert float(man.mass("liver")) == pytest.approx(1.8)
    assert float(CLint) == pytest.approx(129.6, rel=1e-6)


def test_microsomes_are_scaled_by_their_protein_and_corrected_for_binding(man):
    # 20 uL/min/mg / 0.5 x 39.83 mg/g x 1800 g = 2.868e6 uL/min = 172.1 L/h
    CLint = hepatic_intrinsic(drug(Pathway("microsomes", CLint=20.0, fu_inc=0.5)), man)
    protein = 10.0 ** (1.407 + 0.0158 * 35 - 0.00038 * 35**2 + 0.0000024 * 35**3)
    assert float(CLint) == pytest.approx(40.0 * protein * 1800.0 * 60e-6, rel=1e-6)


def test_a_recombinant_enzyme_is_scaled_by_its_abundance_and_isef(man):
    pathway = Pathway("recombinant", CLint=0.5, enzyme="CYP2C9", ISEF=0.4)
    in_microsomes = Pathway("microsomes", CLint=0.5 * ABUNDANCE["CYP2C9"] * 0.4, enzyme="CYP2C9")
    assert float(hepatic_intrinsic(drug(pathway), man)) == pytest.approx(
        float(hepatic_intrinsic(drug(in_microsomes), man))
    )


def test_pathways_add(man):
    one, two = Pathway("hepatocytes", CLint=3.0), Pathway("microsomes", CLint=5.0)
    total = hepatic_intrinsic(drug(one, two), man)
    assert float(total) == pytest.approx(
        float(hepatic_intrinsic(drug(one), man) + hepatic_intrinsic(drug(two), man))
    )


def test_a_saturable_pathway_gives_its_linear_clearance_far_below_km(man):
    linear = drug(Pathway("microsomes", CLint=850.0 / 4.0, fu_inc=0.8))
    saturable = drug(Pathway("microsomes", Vmax=850.0, Km=4.0, fu_inc=0.8))
    Vmax, Km = hepatic_saturable(saturable, man)
    assert Vmax.shape == (1,) and float(Km[0]) == pytest.approx(4.0 * 0.8 * 0.4)  # umol/L x kg/mol
    assert float(Vmax[0] / Km[0]) == pytest.approx(float(hepatic_intrinsic(linear, man)))


def test_vmax_in_mg_an_hour_is_what_a_pocket_calculator_gives(man):
    # 100 pmol/min/1e6 cells x 120e6 x 1800 = 2.16e7 pmol/min = 1.296e-3 mol/h x 400 g/mol = 518.4 mg/h
    Vmax, _ = hepatic_saturable(drug(Pathway("hepatocytes", Vmax=100.0, Km=7.0)), man)
    assert float(Vmax[0]) == pytest.approx(518.4, rel=1e-6)


def test_a_saturable_pathway_is_left_out_of_the_linear_clearance(man):
    both = drug(Pathway("hepatocytes", CLint=3.0), Pathway("hepatocytes", Vmax=100.0, Km=7.0))
    assert float(hepatic_intrinsic(both, man)) == pytest.approx(3.0 * 12.96)
    assert hepatic_saturable(drug(Pathway("hepatocytes", CLint=3.0)), man)[0].shape == (0,)


def test_an_observed_clearance_comes_back_in_the_man_it_was_observed_in(man):
    compound = Compound.load("midazolam")
    CLint = hepatic_intrinsic(compound, man)
    CL = well_stirred(T(MAN.Q), CLint, compound.fup, compound.BP) * compound.BP + renal(compound, man)
    assert float(CL) == pytest.approx(compound.CL * 73.0, rel=2e-3)


def test_an_observed_clearance_leaves_no_saturable_enzyme(man):
    compound = drug(Pathway("hepatocytes", Vmax=100.0, Km=7.0), CL=0.1)
    assert hepatic_saturable(compound, man)[0].shape == (0,)
    assert hepatic_saturable(compound, man, "in-vitro")[0].shape == (1,)


def test_a_compound_with_one_kind_of_clearance_takes_it_whatever_was_asked(man):
    seen, scaled = drug(CL=0.1), drug(Pathway("hepatocytes", CLint=3.0))
    assert float(hepatic_intrinsic(seen, man, "in-vitro")) == float(hepatic_intrinsic(seen, man, "observed"))
    assert float(hepatic_intrinsic(scaled, man, "in-vitro")) == float(hepatic_intrinsic(scaled, man))


def test_intrinsic_clearance_goes_with_the_mass_of_the_liver(man):
    heavy = man.replace(M=man.M * 1.5)
    for clearance in ("observed", "in-vitro"):
        ratio = hepatic_intrinsic(Compound.load("caffeine"), heavy, clearance) / hepatic_intrinsic(
            Compound.load("caffeine"), man, clearance
        )
        assert float(ratio) == pytest.approx(1.5)


@pytest.mark.parametrize("clearance", ["observed", "in-vitro"])
def test_a_child_has_the_enzymes_and_the_protein_of_its_age(man, clearance):
    child = man.replace(age=T(0.5))
    compound = drug(Pathway("hepatocytes", CLint=3.0), CL=0.1, enzymes={"CYP3A4": 0.75, "other": 0.25})
    ratio = hepatic_intrinsic(compound, child, clearance) / hepatic_intrinsic(compound, man, clearance)
    mature = 0.75 * maturation("CYP3A4", 0.5) + 0.25
    assert float(ratio) == pytest.approx(float(mature * microsomal_protein(0.5) / microsomal_protein(35.0)))


def test_a_batch_of_bodies_is_its_singles(man):
    ages = torch.tensor([0.1, 1.0, 8.0, 70.0], dtype=torch.float64)
    one = man.replace(age=ages[2])
    batch = man.replace(
        **{name: value.expand(4, *value.shape) for name, value in man.tensors().items()} | {"age": ages}
    )
    compound = Compound.load("midazolam")
    for part in (hepatic_intrinsic, renal, gut_availability):
        assert float(part(compound, batch)[2]) == pytest.approx(float(part(compound, one)), rel=1e-12)


def test_filtration_clears_the_unbound_drug(man):
    assert float(renal(drug(filtration=1.0), man)) == pytest.approx(0.1 * float(man.GFR))


def test_an_observed_renal_clearance_goes_with_the_filtration_rate(man):
    compound = drug(CLrenal=0.05, CL=0.2)
    half = man.replace(GFR=T(MAN.GFR / 2.0))
    assert float(renal(compound, half)) == pytest.approx(0.05 * 73.0 / 2.0)


def test_the_renal_share_of_the_observed_clearance_is_not_metabolised_twice(man):
    renal_only = drug(CL=0.2, fe=1.0)
    assert float(hepatic_intrinsic(renal_only, man)) == pytest.approx(0.0, abs=1e-12)
    assert float(renal(renal_only, man)) == pytest.approx(0.2 * 73.0 * float(man.GFR) / MAN.GFR)


def test_a_renal_clearance_above_the_whole_is_refused(man):
    with pytest.raises(ValueError, match="must be at least the renal clearance"):
        hepatic_intrinsic(drug(CL=0.1, CLrenal=0.2), man)


def test_without_any_renal_measurement_nothing_is_excreted(man):
    assert float(renal(drug(CL=0.1), man)) == 0.0


def test_a_clearance_is_not_carried_to_another_species():
    with pytest.raises(ValueError, match=r"must be 'human'.*but is 'rat'"):
        hepatic_intrinsic(Compound.load("midazolam"), reference_body("rat"))


def test_an_animal_is_its_own_reference():
    rat = reference_body("rat")
    compound = drug(CL=1.0, species="rat")
    CL = well_stirred(hepatic_flow(rat), hepatic_intrinsic(compound, rat), compound.fup, compound.BP)
    assert float(CL * compound.BP) == pytest.approx(float(rat.BW), rel=1e-9)


def test_an_animal_gives_back_its_clearance_at_its_own_haematocrit():
    rat = reference_body("rat").replace(HCT=T(0.30))
    compound = drug(CL=1.0, BP=0.7, species="rat")
    BP = blood_to_plasma(compound, rat.HCT)
    CL = well_stirred(hepatic_flow(rat), hepatic_intrinsic(compound, rat), compound.fup, BP)
    assert float(BP) == pytest.approx(0.8)  # 0.7 of plasma, 0.3 of cells that hold a third of it
    assert float(CL * BP) == pytest.approx(float(rat.BW), rel=1e-9)


def test_the_gut_wall_of_a_permeable_drug_is_limited_by_the_villi():
    assert float(gut_wall(T(18.0), T(1e9), T(18.0))) == pytest.approx(0.5, rel=1e-6)
    assert float(gut_wall(T(18.0), T(18.0), T(0.0))) == 1.0


@pytest.mark.parametrize("clearance", ["observed", "in-vitro"])
def test_midazolam_survives_the_gut_wall_near_as_often_as_observed(man, clearance):
    # observed 0.56 (Gertz 2008), 0.57 (Thummel 1996), 0.39 and 0.47 (Hohmann 2015); nothing was fitted
    assert float(gut_availability(Compound.load("midazolam"), man, clearance)) == pytest.approx(
        0.56, rel=0.25
    )


def test_a_drug_that_cyp3a4_leaves_alone_passes_the_gut_wall_whole(man):
    assert float(gut_availability(Compound.load("caffeine"), man)) == 1.0


def test_the_immature_gut_wall_lets_more_through(man):
    midazolam, newborn = Compound.load("midazolam"), man.replace(age=T(0.0))
    old, young = (gut_availability(midazolam, body) for body in (man, newborn))
    odds = (1.0 / young - 1.0) / (1.0 / old - 1.0)
    assert float(odds) == pytest.approx(float(gut_maturation(0.0)), rel=1e-6)


@pytest.mark.parametrize(
    "name", ["caffeine", "diazepam", "midazolam", "theophylline", "warfarin-r", "warfarin-s"]
)
def test_in_vitro_clearance_of_a_bundled_drug_is_within_three_fold_of_the_observed(man, name):
    compound = Compound.load(name)
    CLint = hepatic_intrinsic(compound, man, "in-vitro")
    CL = well_stirred(hepatic_flow(man), CLint, compound.fup, compound.BP) * compound.BP + renal(
        compound, man
    )
    assert abs(math.log(float(CL) / (compound.CL * 73.0))) < math.log(3.0)
