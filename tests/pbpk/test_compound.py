"""The compound file: read once, in any unit, refused with a remedy."""

import math

import pytest
import torch

from pbpk.checks import nearest
from pbpk.compound import Compound
from pbpk.in_vitro import Pathway

MINIMAL = """
[values.MW]
value = 300.0
unit = "g/mol"
[values.logP]
value = 2.0
[values.fup]
value = 0.1
"""


def write(folder, text):
    path = folder / "drug.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder, text):
    with pytest.raises(ValueError) as caught:
        Compound.load(write(folder, text))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", Compound.names())
def test_a_bundled_compound_gives_every_value_and_pathway_a_source(name):
    compound = Compound.load(name)
    assert compound.name == name and compound.species == "human"
    assert all(compound.source.values()) and {"MW", "logP", "fup", "BP", "CL"} <= set(compound.source)
    assert compound.pathways and all(pathway.source for pathway in compound.pathways)
    assert set(compound.enzymes) <= set(compound.source)


def test_the_seven_bundled_compounds_are_there():
    names = "acetaminophen caffeine diazepam midazolam theophylline warfarin-r warfarin-s"
    assert Compound.names() == tuple(names.split())


def test_known_traps_of_public_tables_were_avoided():
    assert Compound.load("warfarin-s").pKa_acid == pytest.approx((5.08,))  # not 12.7
    assert Compound.load("theophylline").BP < 1.0  # not 1.33
    assert (
        Compound.load("caffeine").fup < 0.9 and max(Compound.load("caffeine").pKa_base) < 2.0
    )  # not 1, 10.4


def test_a_clearance_in_any_unit_is_read_as_litres_an_hour_and_kg(tmp_path):
    text = MINIMAL + '[values.CL]\nvalue = 5.3\nunit = "mL/min/kg"\n'
    assert pytest.approx(0.318) == Compound.load(write(tmp_path, text)).CL
    text = MINIMAL + '[values.CL]\nvalue = 318.0\nunit = "mL/h/kg"\n'
    assert pytest.approx(0.318) == Compound.load(write(tmp_path, text)).CL


def test_a_permeability_is_read_as_centimetres_an_hour(tmp_path):
    text = MINIMAL + '[values.Peff]\nvalue = 1e-4\nunit = "cm/s"\n'
    assert Compound.load(write(tmp_path, text)).Peff == pytest.approx(0.36)


def test_caco2_permeability_becomes_the_jejunums_by_yangs_equation(tmp_path):
    text = MINIMAL + '[values.Caco2]\nvalue = 1e-5\nunit = "cm/s"\n'
    by_hand = 10.0 ** (0.4926 * 1.0 - 0.1454) * 1e-4 * 3600.0
    assert Compound.load(write(tmp_path, text)).Peff == pytest.approx(by_hand)


def test_absorption_follows_from_permeability_where_it_was_not_measured():
    compound = Compound("x", 300.0, 2.0, 0.1, Peff=0.36 * 2.0)  # 2e-4 cm/s
    assert compound.ka == pytest.approx(2.0 * 0.72 / 1.75)
    assert compound.Fa == pytest.approx(1.0 - (1.0 + 0.54 * 2.0) ** -7)
    assert compound.replace(ka_given=3.0, Fa_given=0.5).ka == 3.0
    assert compound.replace(ka_given=3.0, Fa_given=0.5).Fa == 0.5


@pytest.mark.parametrize(
    ("acids", "bases", "kind"),
    [((), (), "neutral"), ((4.0,), (), "acid"), ((), (9.0,), "base"), ((4.0,), (9.0,), "zwitterion")],
)
def test_the_kind_follows_from_the_groups(acids, bases, kind):
    assert Compound("x", 300.0, 2.0, 0.1, pKa_acid=acids, pKa_base=bases).kind == kind


def test_an_unknown_compound_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'midazolam'"):
        Compound.load("midazolm")


def test_an_unbound_fraction_in_per_cent_is_refused_with_the_remedy(tmp_path):
    message = refused(tmp_path, MINIMAL.replace("value = 0.1", "value = 3.0"))
    assert "fup must lie in (0, 1]" in message and "3" in message and "divide it by 100" in message


@pytest.mark.parametrize("value", ["0.0", "-0.1", "nan"])
def test_an_unbound_fraction_that_is_not_positive_is_refused(tmp_path, value):
    assert "fup must lie in (0, 1]" in refused(tmp_path, MINIMAL.replace("value = 0.1", f"value = {value}"))


@pytest.mark.parametrize("name", ["MW", "logP", "fup"])
def test_a_missing_value_is_named(tmp_path, name):
    text = MINIMAL.replace(f"[values.{name}]", "[values.BP]").replace('unit = "g/mol"', "")
    assert f"must give {name}, but does not" in refused(tmp_path, text)


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path):
    assert "Did you mean 'logP'" in refused(tmp_path, MINIMAL + "[values.logp]\nvalue = 1.0\n")
    assert nearest("logp", ["logP"]) == "logP"


@pytest.mark.parametrize(
    ("unit", "says"),
    [('unit = "kg"', "converts to 'L/h/kg'"), ("", "CL a unit that converts to L/h/kg")],
)
def test_a_wrong_or_missing_unit_is_refused(tmp_path, unit, says):
    assert says in refused(tmp_path, MINIMAL + f"[values.CL]\nvalue = 5.0\n{unit}\n")


def test_a_unit_on_a_pure_number_is_refused(tmp_path):
    text = MINIMAL.replace("value = 0.1", 'value = 0.1\nunit = "percent"')
    assert "fup without a unit" in refused(tmp_path, text)


@pytest.mark.parametrize("value", ['"0.1"', "true", "[0.1, 0.2]"])
def test_what_is_not_a_number_is_refused(tmp_path, value):
    assert "fup as" in refused(tmp_path, MINIMAL.replace("value = 0.1", f"value = {value}"))


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ('[enzymes.CYP3A4]\nshare = "all"\n', "enzymes.CYP3A4"),
        ('[[in-vitro]]\nsystem = "microsomes"\nunit = "uL/min/mg"\nCLint = "fast"\n', "in-vitro.CLint"),
    ],
)
def test_a_share_or_an_in_vitro_clearance_that_is_not_a_number_is_refused(tmp_path, more, names):
    assert f"must give {names} as a number" in refused(tmp_path, MINIMAL + more)


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    assert "must be TOML" in refused(tmp_path, "fup: 0.1")


def test_an_in_vitro_clearance_must_carry_the_unit_of_its_system(tmp_path):
    text = MINIMAL + '[[in-vitro]]\nsystem = "microsomes"\nCLint = 5.0\nunit = "mL/min/mg"\n'
    assert "must be 'uL/min/mg' for microsomes" in refused(tmp_path, text)


def test_km_is_read_in_any_unit(tmp_path):
    text = MINIMAL + (
        '[[in-vitro]]\nsystem = "microsomes"\nVmax = 850.0\nunit = "pmol/min/mg"\nKm = 4e-3\n'
        'Km_unit = "mmol/L"\n'
    )
    assert Compound.load(write(tmp_path, text)).pathways[0].Km == pytest.approx(4.0)


def test_a_pathway_is_linear_or_saturable_and_not_both():
    with pytest.raises(ValueError, match="either CLint, or Vmax and Km"):
        Pathway("microsomes", CLint=1.0, Vmax=1.0, Km=1.0)
    with pytest.raises(ValueError, match="either CLint, or Vmax and Km"):
        Pathway("microsomes", Vmax=1.0)


def test_shares_of_enzymes_sum_to_one():
    with pytest.raises(ValueError, match=r"sum to 1, but those of 'x' sum to 0.7"):
        Compound("x", 300.0, 2.0, 0.1, enzymes={"CYP3A4": 0.7})


def test_an_unknown_enzyme_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'CYP3A4'"):
        Compound("x", 300.0, 2.0, 0.1, enzymes={"CYP3A": 1.0})


def test_two_measures_of_renal_clearance_are_refused():
    with pytest.raises(ValueError, match="must not both be given"):
        Compound("x", 300.0, 2.0, 0.1, CL=1.0, fe=0.1, CLrenal=0.1)


def test_a_tensor_of_unbound_fractions_is_checked_as_a_number_is():
    assert Compound("x", 300.0, 2.0, torch.tensor([0.1, 1.0])).fup.shape == (2,)
    with pytest.raises(ValueError, match="fup must lie"):
        Compound("x", 300.0, 2.0, torch.tensor([0.1, 1.1]))


def test_a_molecular_weight_in_kg_is_refused():
    with pytest.raises(ValueError, match="It is in g/mol"):
        Compound("x", 0.3, 2.0, 0.1)


def test_nothing_fitted_is_bundled():
    # the values that a fit to clinical curves gave midazolam in a public model
    midazolam = Compound.load("midazolam")
    assert not math.isclose(midazolam.logP, 2.897, abs_tol=1e-2)
    assert not math.isclose(midazolam.Peff / 60.0, 1.555e-4, rel_tol=1e-2)
