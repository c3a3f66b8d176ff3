"""Reference bodies: the table says what its sources say, and every body closes."""

import csv
import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbpk.bodies import SPECIES, facts, reference_body
from pbpk.laws import LAWS, violations
from pbpk.organs import ORGANS, PERFUSED, PORTAL

REFERENCE = Path(__file__).parent.parent / "reference"
VALUES = {(f.species, f.sex, f.age, f.organ, f.quantity): f.value for f in facts()}
PARTS = {  # what a source prints together
    "portal and arterial flow": ("flow", ("liver", *PORTAL)),
    "intestine mass": ("mass", ("small_intestine", "large_intestine")),
    "gut mass": ("mass", ("stomach", "small_intestine", "large_intestine")),
}
KNOTS = ("0", "1", "5", "10", "15", "adult")
YEARS = (0.0, 1.0, 5.0, 10.0, 15.0, 20.0)


def rows(name: str) -> list[dict[str, str]]:
    with (REFERENCE / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def body_of(species: str, sex: str, age: str) -> tuple[float, float]:
    body = (species, sex, age, "body")
    return VALUES[(*body, "BW")], VALUES[(*body, "CO")]


@pytest.mark.parametrize(
    "row",
    rows("reference_bodies.csv"),
    ids=lambda r: f"{r['species']}-{r['age']}-{r['organ']}-{r['quantity']}",
)
def test_the_table_says_what_the_source_prints(row: dict[str, str]) -> None:
    who = (row["species"], row["sex"], row["age"])
    BW, CO = body_of(*who)
    to_table = {
        "% of BW": BW / 100, "% of CO": CO / 100, "g": 1e-3, "kg": 1.0, "cm": 1.0,
        "mL/min": 0.06, "L/min": 60.0, "L/h/kg": BW, "mL/min/kg": 0.06 * BW,
    }  # fmt: skip
    quantity, organs = PARTS.get(row["quantity"], (row["quantity"], (row["organ"],)))
    got = sum(VALUES[(*who, organ, quantity)] for organ in organs)
    assert got == pytest.approx(float(row["stated"]) * to_table[row["unit"]], rel=1e-4)


@pytest.mark.parametrize("row", rows("organ_fractions.csv"), ids=lambda r: f"{r['species']}-{r['organ']}")
def test_a_second_source_agrees_within_a_factor_of_2_3(row: dict[str, str]) -> None:
    BW = VALUES[row["species"], "", "adult", "body", "BW"]
    fraction = VALUES[row["species"], "", "adult", row["organ"], "mass"] / BW
    assert abs(math.log(100 * fraction / float(row["percent_of_BW"]))) < math.log(2.3)


@pytest.mark.parametrize("species", SPECIES)
def test_masses_sum_to_the_body_and_flows_to_the_cardiac_output(species: str) -> None:
    body = reference_body(species)
    assert body.M.sum().item() == pytest.approx(body.BW.item(), rel=1e-14)
    assert body.Q.sum().item() == pytest.approx(body.CO.item(), rel=1e-14)
    assert (body.M > 0).all()
    assert (body.flow(*PERFUSED) > 0).all() and body.flow("lung", "blood") == 0


@given(st.sampled_from("MF"), st.floats(0.0, 100.0), st.floats(0.25, 4.0))
def test_people_of_any_age_and_size_close_with_a_positive_rest(sex: str, age: float, size: float) -> None:
    own = reference_body("human", sex, age)
    body = reference_body("human", sex, age, BW=size * own.BW.item())
    assert body.M.sum().item() == pytest.approx(body.BW.item(), rel=1e-13)
    assert body.Q.sum().item() == pytest.approx(body.CO.item(), rel=1e-13)
    assert body.mass("rest") > 0 and body.flow("rest") > 0


@pytest.mark.parametrize("sex", ["M", "F"])
def test_people_of_every_age_obey_every_law(sex: str) -> None:
    for age in (*YEARS, 0.05, 0.25, 0.5, 2.0, 3.0, 7.5, 12.5, 17.5, 40.0, 80.0):
        report = violations(reference_body("human", sex, age))
        hits = report.violated().reshape(-1)
        broken = [law.id for law, hit in zip(report.laws, hits, strict=True) if hit]
        assert broken == [], f"{sex} at {age}"
    assert {law.id for law in LAWS if law.counted} <= {law.id for law in report.laws}


@pytest.mark.parametrize("sex", ["M", "F"])
@pytest.mark.parametrize(("label", "age"), list(zip(KNOTS, YEARS, strict=True)))
def test_at_an_age_of_icrp_the_body_is_the_table(sex: str, label: str, age: float) -> None:
    body = reference_body("human", sex, age)
    for organ in ORGANS[:-1]:
        want = VALUES["human", sex, label, organ, "mass"]
        assert body.mass(organ).item() == pytest.approx(want, rel=1e-12)
    assert body.height.item() == pytest.approx(VALUES["human", sex, label, "body", "height"])


def test_weight_in_infancy_follows_nhanes() -> None:
    """Weighted medians of NHANES 2013-2018, both sexes, by month of age at examination."""
    for months, median in {3: 6.2, 6: 7.7, 12: 10.6, 24: 12.3, 36: 14.4}.items():
        mean = sum(reference_body("human", sex, months / 12).BW.item() for sex in "MF") / 2
        assert mean == pytest.approx(median, rel=0.09)


@pytest.mark.parametrize("species", SPECIES)
def test_cardiac_output_goes_with_three_quarters_of_body_weight(species: str) -> None:
    body = reference_body(species)
    assert 13.0 < (body.CO / body.BW**0.75).item() < 24.0  # L/h/kg^0.75


def test_every_species_has_every_quantity_once_and_a_source() -> None:
    organs = {(o, "mass") for o in ORGANS[:-1]} | {(o, "flow") for o in PERFUSED if o != "rest"}
    for species in SPECIES:
        own = {"height"} if species == "human" else {"age"}
        want = organs | {("body", q) for q in {"BW", "CO", "GFR", "HCT"} | own}
        bodies = {(f.sex, f.age) for f in facts() if f.species == species}
        for sex, age in bodies:
            got = [(f.organ, f.quantity) for f in facts() if (f.species, f.sex, f.age) == (species, sex, age)]
            assert sorted(got) == sorted(want)
    assert all(len(f.source) > 15 for f in facts())
    assert {f.species for f in facts()} == set(SPECIES)


def test_a_value_is_what_its_source_calculates() -> None:
    """Every row whose source ends in a volume less its blood, or in a share of the body or its output."""
    volume = re.compile(r"([\d.]+) L x 1 kg/L x \(1 - ([\d.]+) vascular\)(?: x ([\d.]+)/([\d.]+) kg BW)?")
    share = re.compile(r"^(?:doi:\S+|[^()])*: ([\d.]+) % of (BW|CO)(?!.*(?:less|share|sum))")
    checked = 0
    for fact in facts():
        BW, CO = body_of(fact.species, fact.sex, fact.age)
        if found := volume.search(fact.source):
            litres, blood, new, old = (float(x) if x else 1.0 for x in found.groups())
            want = litres * (1 - blood) * new / old
        elif fact.quantity in ("mass", "flow") and not fact.filled and (found := share.match(fact.source)):
            want = float(found[1]) / 100 * (BW if found[2] == "BW" else CO)
        else:
            continue
        assert fact.value == pytest.approx(want, rel=1e-3), fact
        checked += 1
    assert checked > 90


def test_a_filled_value_follows_its_rule() -> None:
    """The monkey's muscle takes the rat's perfusion; a child's kidney the adult's."""
    perfusion = VALUES["rat", "", "adult", "muscle", "flow"] / VALUES["rat", "", "adult", "muscle", "mass"]
    muscle = VALUES["monkey", "", "adult", "muscle", "mass"]
    assert VALUES["monkey", "", "adult", "muscle", "flow"] == pytest.approx(
        perfusion * (5.0 / 0.25) ** -0.25 * muscle, rel=1e-4
    )
    adult = VALUES["human", "F", "adult", "kidney", "flow"] / 0.275
    assert VALUES["human", "F", "5", "kidney", "flow"] == pytest.approx(adult * 0.11, rel=1e-4)
    brain = VALUES["human", "M", "10", "brain", "mass"]
    assert VALUES["human", "M", "10", "brain", "flow"] == pytest.approx(68 * 0.6 * brain, rel=1e-4)


def test_only_monkeys_muscle_and_childrens_flows_are_filled() -> None:
    filled = {(f.species, f.age, f.quantity) for f in facts() if f.filled}
    assert filled == {("monkey", "adult", "flow")} | {("human", age, "flow") for age in KNOTS[:-1]}
    assert [f.organ for f in facts() if f.filled and f.species == "monkey"] == ["muscle"]


def test_a_body_of_another_weight_scales_masses_by_1_and_rates_by_three_quarters() -> None:
    rat, heavy = reference_body("rat"), reference_body("rat", BW=0.5)
    assert torch.allclose(heavy.M, 2 * rat.M, rtol=1e-12)
    assert torch.allclose(heavy.Q, 2**0.75 * rat.Q, rtol=1e-12)
    assert heavy.HCT == rat.HCT and heavy.age == rat.age
    assert heavy.GFR.item() == pytest.approx(2**0.75 * rat.GFR.item())


def test_an_animal_is_an_adult_of_mixed_sex_without_height() -> None:
    dog = reference_body("dog")
    assert dog.shape == () and dog.sex == 0.5 and dog.age == 1.0 and dog.height.isnan()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"species": "monky"}, "Did you mean 'monkey'"),
        ({"species": "Human"}, "Did you mean 'human'"),
        ({"sex": "male"}, "sex must be one of M, F"),
        ({"age": -1.0}, "age must lie between 0 and 120"),
        ({"age": math.nan}, "age must lie between 0 and 120"),
        ({"species": "rat", "age": 1.0}, "must be left out for 'rat'"),
        ({"species": "rat", "BW": 250.0}, "BW must lie between 0.05 and 1.25 kg"),
        ({"BW": 0.0}, "BW must lie between 14.6 and 365 kg"),
        ({"BW": math.nan}, "BW must lie between"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        reference_body(**arguments)  # type: ignore[arg-type]


@pytest.mark.data
def test_icrp_masses_are_those_of_two_transcriptions(data_folder: Path) -> None:
    with (data_folder / "organs" / "reference_values.csv").open(newline="", encoding="utf-8") as file:
        stated = {(r["sex"], r["age_label"], r["quantity"]): r for r in csv.DictReader(file)}
    ages = dict(zip(KNOTS, ("newborn", "1", "5", "10", "15", "adult"), strict=True))
    plain = ("brain", "heart", "kidney", "large_intestine", "liver", "lung", "muscle")
    plain = (*plain, "pancreas", "skin", "small_intestine", "spleen", "stomach")
    for sex in "MF":
        for label, age in ages.items():
            for organ in plain:
                want = float(stated[sex, age, organ]["value"]) / 1000
                assert VALUES["human", sex, label, organ, "mass"] == pytest.approx(want, rel=1e-4)
