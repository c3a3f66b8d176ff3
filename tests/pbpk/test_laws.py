import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbpk.bodies import reference_body
from pbpk.laws import (
    BESIDE,
    EXACT,
    LAWS,
    REFERENCE_ORGANS,
    WIDTHS,
    growth_band,
    mass_band,
    nhanes_band,
    reference_mass,
    reference_masses,
    violations,
    wilson,
)
from pbpk.laws.interval import independent_checks
from pbpk.organs import ORGANS, index
from pbpk.physiology import Cohort, Physiology

MASS_LAWS = [law for law in LAWS if law.organ]


def number(value):
    return torch.as_tensor(value, dtype=torch.float64)


def people(n=200, seed=0) -> Physiology:
    """Bodies of all ages around the reference ones, each organ off by its own factor: some lawful."""
    generator = torch.Generator().manual_seed(seed)
    bodies = [reference_body("human", sex, age) for sex in "MF" for age in (0, 1, 5, 10, 15, 40)]
    chosen = [bodies[i % len(bodies)] for i in range(n)]
    fields = {name: torch.stack([getattr(b, name) for b in chosen]) for name in chosen[0].tensors()}
    p = Physiology(species="human", **fields)
    wobble = torch.exp(0.3 * torch.randn(n, 3 + 2 * len(ORGANS), generator=generator, dtype=torch.float64))
    masses, flows = p.M * wobble[:, : len(ORGANS)], p.Q * wobble[:, len(ORGANS) : 2 * len(ORGANS)]
    scalars = {name: getattr(p, name) * wobble[:, -1 - i] for i, name in enumerate(("GFR", "HCT", "CO"))}
    return p.replace(M=masses, Q=flows, **scalars)


def man(**changes) -> Physiology:
    return reference_body("human", "M", 30).replace(**changes)


def with_mass(p: Physiology, organ: str, mass) -> Physiology:
    M = p.M.clone()
    M[..., index(organ)] = number(mass)
    return p.replace(M=M)


def broken(p, **keywords) -> set[str]:
    report = violations(p, **keywords)
    return {law.id for law, hit in zip(report.laws, report.violated(), strict=True) if hit}


# ---- the definitions


def test_the_laws_are_C01_to_C34_and_E1_to_E4():
    assert [law.id for law in LAWS] == [f"C{i:02d}" for i in range(1, 35) if i != 3]
    assert [law.id for law in EXACT] == ["E1", "E2", "E3", "E4"]


def test_every_law_names_its_source():
    assert all(law.source for law in (*LAWS, *BESIDE, *EXACT))


@pytest.mark.parametrize("law", MASS_LAWS, ids=lambda law: law.id)
def test_the_band_of_an_organ_law_depends_on_who_the_person_is_and_not_on_organs(law):
    p = people()
    other = p.replace(M=2 * p.M, Q=3 * p.Q, CO=2 * p.CO, GFR=5 * p.GFR)
    for here, there in zip(law.band(p), law.band(other), strict=True):
        torch.testing.assert_close(here, there, rtol=0, atol=0)
    assert torch.equal(law.applies(p), law.applies(other))


@pytest.mark.parametrize("law", MASS_LAWS, ids=lambda law: law.id)
def test_an_organ_exactly_on_its_bound_obeys_and_one_per_cent_beyond_it_does_not(law):
    p = people()
    p = p[law.applies(p)]
    for bound, beyond in zip(law.band(p), (0.99, 1.01), strict=True):
        at = bound > 0  # Deurenberg's lower bound is below zero in thin people
        on = bound[at] / law.per_mass
        assert (law.residual(with_mass(p[at], law.organ, on)) <= 1 + 1e-12).all()
        assert (law.residual(with_mass(p[at], law.organ, beyond * on)) > 1).all()


@pytest.mark.parametrize("organ", ["adipose", "liver", "blood", "brain"])
def test_mass_band_is_what_the_organ_laws_leave(organ):
    p = people()
    own = [law for law in MASS_LAWS if law.organ == organ]

    def worst(mass):
        return torch.stack([law.residual(with_mass(p, organ, mass)).nan_to_num(0) for law in own]).amax(0)

    lower, upper = (bound[:, index(organ)] for bound in mass_band(p))
    bounded = torch.isfinite(upper)  # no law bounds the adipose tissue of a child
    assert (worst((lower.clamp(min=0) + upper) / 2)[bounded] <= 1).all()
    assert (worst(1.01 * upper)[bounded] > 1).all()
    assert (worst(number(1e3))[~bounded] == 0).all()


def test_an_organ_without_a_law_has_no_bound():
    lower, upper = mass_band(people(n=3))
    assert (lower[:, index("bone")] == 0).all() and torch.isinf(upper[:, index("bone")]).all()


@given(st.floats(1.0, 3.0), st.integers(0, 50))
def test_a_body_is_violated_at_a_width_exactly_when_it_lies_outside_the_widened_band(width, seed):
    p = people(n=24, seed=seed)
    report = violations(p)
    for at, law in enumerate(report.laws):
        if law.kind == "E":
            continue
        x, (low, high) = law.quantity(p).numpy(), (bound.numpy() for bound in law.band(p))
        if law.difference:
            centre, half = (low + high) / 2, (high - low) / 2
            low, high = centre - width * half, centre + width * half
        else:
            low, high = low / width, high * width
        outside = law.applies(p).numpy() & ((x < low) | (x > high))
        near = np.isclose(x, low, rtol=1e-9, atol=0) | np.isclose(x, high, rtol=1e-9, atol=0)  # rounding
        assert (report.violated(width)[:, at].numpy() == outside)[~near].all(), law.id


def test_a_law_of_an_age_speaks_of_that_age_alone():
    ages = number([0.0, 0.5, 1.0, 17.99, 18.0, 80.0])
    p = people(n=6).replace(age=ages)
    applies = {law.id: law.applies(p).tolist() for law in LAWS}
    assert applies["C05"] == [False, False, False, False, True, True]
    assert applies["C06"] == [False, False, True, True, False, False]
    assert applies["C07"] == [True, True, False, False, False, False]


def test_filtration_fraction_has_a_floor_only_where_the_kidneys_are_healthy():
    # 59 and 61 mL/min per 1.73 m2 through kidneys of 60 L/h per kg: fractions below 0.05
    p = man()
    huge = p.Q.clone()
    huge[index("kidney")] = 400.0
    per_173 = 0.06 * p.BSA / 1.73
    assert "C19" in broken(p.replace(Q=huge, GFR=61 * per_173))
    assert "C19" not in broken(p.replace(Q=huge, GFR=59 * per_173))


@pytest.mark.parametrize(("id", "field", "inside", "outside"), [
    ("C08", "HCT", 0.60, 0.61),
    ("C08", "HCT", 0.20, 0.19),
    ("C11", "height", 195.8, 195.9),  # NHANES, men of 30 to 40 years
    ("C11", "height", 146.6, 146.5),
])  # fmt: skip
def test_a_size_on_its_bound_is_lawful_and_beyond_it_is_not(id, field, inside, outside):
    assert id not in broken(man(**{field: number(inside)}))
    assert id in broken(man(**{field: number(outside)}))


# ---- reference numbers


@pytest.mark.parametrize(("organ", "sex", "age", "height", "mass"), [
    ("liver", 1.0, 30.0, 176.0, 1.8),
    ("liver", 0.0, 30.0, 163.0, 1.4),
    ("heart", 0.0, 15.0, 161.0, 0.22),
    ("lung", 1.0, 1.0, 76.0, 0.08),
    ("brain", 0.0, 5.0, 150.0, 1.18),
    ("brain", 1.0, 70.0, 150.0, 1.45),
])  # fmt: skip
def test_reference_people_of_icrp_89_have_their_own_masses(organ, sex, age, height, mass):
    got = reference_mass(organ, number(sex), number(age), number(height))
    assert got.item() == pytest.approx(mass, rel=1e-12)


def test_reference_mass_is_log_linear_between_rows_and_a_power_of_height_beyond_them():
    def liver(height):
        return reference_mass("liver", number(1.0), number(9.0), number(height)).item()

    assert liver(math.sqrt(109 * 138)) == pytest.approx(math.sqrt(0.570 * 0.830), rel=1e-12)
    assert liver(2 * 176) == pytest.approx(4 * 1.8, rel=1e-12)
    assert liver(51 / 2) == pytest.approx(0.130 / 8, rel=1e-12)


def test_reference_masses_are_those_of_each_organ():
    p = people()
    together = reference_masses(p.sex, p.age, p.height)
    for at, organ in enumerate(REFERENCE_ORGANS):
        alone = reference_mass(organ, p.sex, p.age, p.height)
        assert torch.allclose(together[:, at], alone, rtol=1e-13, atol=0), organ


@given(st.sampled_from(REFERENCE_ORGANS), st.floats(20, 250), st.floats(0, 90))
def test_reference_mass_of_unknown_sex_lies_between_the_sexes(organ, height, age):
    female, either, male = (
        reference_mass(organ, number(sex), number(age), number(height)).item() for sex in (0.0, 0.5, 1.0)
    )
    assert min(female, male) * (1 - 1e-12) <= either <= max(female, male) * (1 + 1e-12)


@pytest.mark.parametrize(("months", "lower"), [(2.999, 48.6), (3, 53.1), (959, 136.3), (1100, 136.3)])
def test_nhanes_bands_are_half_open_and_the_last_has_no_end(months, lower):
    low, _ = nhanes_band("height", number(0.0), number(months / 12))
    assert low.item() == lower


def test_to_15_months_who_widens_the_bands_of_height_and_bmi():
    low, high = growth_band("height", number(1.0), number(0.0))
    assert low.item() == pytest.approx(49.8842 * (1 - 3.0902 * 0.03795)) and high.item() == 64.0
    for day, values in ((0, (13.4069, 49.8842)), (365, (16.7992, 75.7391))):
        for quantity, median in zip(("BMI", "height"), values, strict=True):
            low, high = growth_band(quantity, number(1.0), number(day / 365.25))
            assert low < median < high


@given(st.floats(0, 90), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(["BMI", "height"]))
def test_the_band_of_growth_holds_that_of_nhanes_and_is_it_from_15_months(age, sex, quantity):
    wide, narrow = (band(quantity, number(sex), number(age)) for band in (growth_band, nhanes_band))
    assert wide[0] <= narrow[0] and wide[1] >= narrow[1]
    assert age < 457 / 365.25 + 1e-9 or wide == narrow


def test_a_newborn_of_49_cm_breaks_no_law_of_growth_and_a_preterm_does():
    for height, BW, broken in ((49.5, 3.3, set()), (48.0, 2.65, set()), (41.0, 1.6, {"C10", "C11"})):
        body = man().replace(age=number(0.01), height=number(height), BW=number(BW))
        found = {law.id for law in LAWS if law.id in ("C09", "C10", "C11") and law.residual(body) > 1}
        assert found == broken


def test_unknown_organ_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean 'spleen'"):
        reference_mass("spleeen", number(1.0), number(30.0), number(170.0))


# ---- counting


def test_a_batch_equals_its_bodies_one_by_one():
    p = people(n=30)
    together = violations(p).residual
    alone = torch.stack([violations(p[i]).residual for i in range(30)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0, equal_nan=True)


def test_a_batch_may_have_two_dimensions():
    p = people(n=24)
    folded = violations(p._each(lambda value: value.reshape(4, 6, *value.shape[1:])))
    assert folded.rate == violations(p).rate
    assert len(folded.offenders()) == len(violations(p).offenders())


@given(st.integers(0, 20))
def test_wider_bands_are_never_broken_by_more_people(seed):
    shares = violations(people(n=60, seed=seed), tolerance=None).sweep()
    of_all = shares[(shares["group"] == "all") & (shares["law"] == "any")]["share"]
    assert of_all.is_monotonic_decreasing and len(of_all) == len(WIDTHS)


def test_rates_by_hand_on_three_bodies():
    # a lawful man, the same with four livers, and the same with four livers and a quarter of a heart
    p = man()
    liver, heart = p.mass("liver"), p.mass("heart")
    heavy = with_mass(p, "liver", 4 * liver)
    both = with_mass(heavy, "heart", heart / 4)
    fields = {name: torch.stack([getattr(b, name) for b in (p, heavy, both)]) for name in p.tensors()}
    frame = violations(Physiology(species="human", **fields), tolerance=None).frame()
    of_all = frame[frame["group"] == "all"].set_index("law")
    assert of_all.loc["C26", "violated"] == 2
    assert of_all.loc["C28", "violated"] == 1
    assert of_all.loc["any", "share"] == pytest.approx(2 / 3)
    broken_checks = of_all[of_all["counted"] & of_all["width"].eq(1)].drop(["any", "checks"])
    assert of_all.loc["checks", "violated"] == broken_checks["violated"].sum()
    assert of_all.loc["checks", "applicable"] == broken_checks["applicable"].sum()


@pytest.mark.parametrize("organ", ["liver", "rest", "blood"])
@pytest.mark.parametrize("mass", [float("nan"), -0.1, 0.0, float("inf")])
def test_a_mass_that_is_no_positive_number_breaks_C01_at_every_width(organ, mass):
    report = violations(with_mass(man(), organ, mass))
    first = [law.id for law in report.laws].index("C01")
    assert report.violated(1e9)[first] and report.rate == 1


def test_a_body_without_a_weight_breaks_the_laws_and_does_not_escape_them():
    assert {"C01", "C10", "C22", "C26"} - broken(man(BW=number(float("nan")))) == {"C26"}


def test_sums_that_miss_by_a_thousandth_break_E1_and_E2_unless_exact_laws_are_not_counted():
    p = man()
    off = p.replace(BW=p.BW * 1.001, CO=p.CO * 0.999)
    assert {"E1", "E2"} <= broken(off)
    assert violations(off).rate == 1
    assert not {"E1", "E2"} & broken(off, tolerance=0.01)
    assert violations(off, tolerance=None).rate == 0
    shares = violations(off, tolerance=None).exact().query("law == 'E1' and group == 'all'")
    assert shares.set_index("tolerance")["share"].to_dict() == {1e-2: 0.0, 1e-3: 0.0, 1e-6: 1.0}


def test_a_stated_BMI_that_disagrees_breaks_E3():
    p = man()
    assert "E3" not in broken(p, stated={"BMI": p.BMI})
    assert "E3" in broken(p, stated={"BMI": p.BMI * 1.01})


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"sex": "M", "age": 30.0}, True),
        ({"sex": "F"}, False),
        ({"M_liver": 9.9}, False),
        ({"BMI": 99.0}, False),
        ({"age": float("nan"), "sex": "M"}, True),
    ],
)
def test_what_was_asked_for_must_come_back(asked, kept):
    assert ("E4" not in broken(man(), asked=asked)) is kept


def test_asking_for_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match="hight"):
        violations(man(), asked={"hight": 170})


def test_laws_that_are_not_applied_are_named_with_their_reason():
    report = violations(man(), not_applied={"C26": "the liver is someone else's"})
    assert report.not_applied["C26"] == "the liver is someone else's"
    assert "C26" not in [law.id for law in report.laws]
    assert "C26: the liver is someone else's" in report.text()


def test_only_the_laws_of_any_species_apply_to_animals_and_the_report_says_so():
    report = violations(reference_body("rat"))
    assert [law.id for law in report.laws] == ["E1", "E2", "C01", "C02", "C04"]
    assert "C03, C05-C34: a law of the human body" in report.text()
    assert list(report.groups) == ["all"]


def test_the_weight_a_body_was_drawn_from_is_reported_and_not_counted():
    p = man()
    report = violations(p, stated={"drawn_BW": 1.2 * p.BW})
    row = report.frame().query("law == 'C03' and group == 'all'").iloc[0]
    assert row["violated"] == 1 and report.rate == 0


def test_age_groups_part_the_people():
    p = people(n=48).replace(age=torch.linspace(0, 80, 48, dtype=torch.float64))
    groups = violations(p).groups
    assert torch.equal(groups[">= 18 y"] | groups["2-<18 y"] | groups["< 2 y"], groups["all"])
    assert torch.equal(groups["< 18 y"], groups["2-<18 y"] | groups["< 2 y"])
    assert groups["< 2 y"].tolist() == (p.age < 2).tolist()


def test_offenders_lists_each_broken_check_of_a_cohort_by_name():
    p = man()._each(lambda value: value[None])
    cohort = Cohort(with_mass(p, "liver", 5 * p.mass("liver")), np.array(["Ada"]))
    found = violations(cohort).offenders()
    assert set(found["id"]) == {"Ada"} and "C26" in set(found["law"])
    assert found["residual"].is_monotonic_decreasing


@pytest.mark.parametrize("law", MASS_LAWS, ids=lambda law: law.id)
def test_an_organ_too_heavy_is_pulled_down_by_the_gradient_of_its_law(law):
    p = people(n=12)
    p = p[law.applies(p)]
    _, upper = law.band(p)
    mass = (1.5 * upper / law.per_mass).requires_grad_()
    M = torch.stack([mass if organ == law.organ else p.mass(organ) for organ in ORGANS], -1)
    law.residual(p.replace(M=M)).sum().backward()
    assert mass.grad is not None and (mass.grad > 0).all()


@pytest.fixture
def one_thread():
    """One thread: two that wait for each other on a busy machine burn twenty times the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_twenty_thousand_bodies_take_less_than_a_second(one_thread):
    p = people(n=20_000)
    start = time.process_time()
    violations(p)
    assert time.process_time() - start < 1


# ---- intervals


@pytest.mark.parametrize(("hits", "trials", "low", "high"), [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
])  # fmt: skip
def test_wilson_intervals_are_those_of_newcombe_1998(hits, trials, low, high):
    # Newcombe (1998) Stat Med 17:857, table I, method 3
    assert wilson(hits, trials) == pytest.approx((low, high), abs=5e-5)


def test_checks_that_fall_together_count_as_one():
    # 400 bodies of 30 checks: where a body breaks one it breaks all, so there are 400 trials, not 12,000
    falls = torch.arange(400) % 4 == 0
    together = independent_checks(30.0 * falls, torch.full((400,), 30.0))
    assert together == pytest.approx(400, rel=0.01)


def test_checks_that_fall_apart_count_one_by_one():
    generator = torch.Generator().manual_seed(1)
    broken_checks = (torch.rand(4000, 30, generator=generator) < 0.2).sum(-1).double()
    assert independent_checks(broken_checks, torch.full((4000,), 30.0)) == pytest.approx(120_000, rel=0.05)


# ---- the report


def test_the_last_line_of_the_text_is_the_violation_rate():
    report = violations(with_mass(man(), "liver", 20.0))
    assert report.text().splitlines()[-1].startswith("Violation rate: 100.0 % of 1 body")


def test_the_text_lists_only_broken_laws_unless_all_are_wanted():
    report = violations(with_mass(man(), "liver", 20.0))
    assert "C26" in report.text() and "C08" not in report.text()
    assert all(law.id in report.text(all_laws=True) for law in LAWS if law.applies(man()))


def test_lines_of_the_text_fit_a_terminal():
    assert max(map(len, violations(people()).text(all_laws=True).splitlines())) <= 100


def test_the_html_holds_every_law_and_no_raw_less_than_sign():
    html = violations(people()).html()
    assert all(law.id in html for law in LAWS)
    assert "&lt; 18 y" in html and "< 18 y" not in html


def test_the_table_holds_laws_sweep_exact_tolerances_and_reasons():
    table = violations(people()).table()
    assert set(table["width"].dropna()) == set(WIDTHS)
    assert {1e-2, 1e-3, 1e-6, 1e-9} <= set(table["tolerance"].dropna())
    assert table.loc[table["law"] == "C03", "source"].str.startswith("not applied").all()
