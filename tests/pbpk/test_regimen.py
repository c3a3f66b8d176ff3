"""Doses and regimens: what text means, and how it is laid out in time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pbpk.regimen import Dose, Regimen

numbers = st.floats(1e-6, 1e6, allow_nan=False).map(lambda x: float(f"{x:.12g}"))
times = st.one_of(st.just(0.0), st.floats(1e-3, 1e4))


@st.composite
def doses(draw) -> Dose:
    route = draw(st.sampled_from(["iv", "po"]))
    count = draw(st.integers(1, 30))
    return Dose(
        time=draw(times),
        amount=draw(numbers),
        duration=draw(times) if route == "iv" else 0.0,
        route=route,
        interval=draw(st.floats(1e-2, 1e3)) if count > 1 else 0.0,
        count=count,
        per_kg=draw(st.booleans()),
    )


regimens = st.lists(doses(), min_size=1, max_size=4).map(lambda d: Regimen(tuple(d)))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("7.5 mg po", [Dose(0.0, 7.5, route="po")]),
        ("100 mg iv over 2 h q24h x7", [Dose(0.0, 100.0, 2.0, "iv", 24.0, 7)]),
        (
            "5 mg/kg iv then 2 mg/kg/h iv over 12 h",
            [Dose(0.0, 5.0, per_kg=True), Dose(0.0, 24.0, 12.0, per_kg=True)],
        ),
        ("0.1 mg/kg po q12h x14", [Dose(0.0, 0.1, 0.0, "po", 12.0, 14, per_kg=True)]),
        ("1g iv + 250ug po at 6 h", [Dose(0.0, 1000.0), Dose(6.0, 0.25, route="po")]),
        ("100 mg iv over 30 min then 50 mg po", [Dose(0.0, 100.0, 0.5), Dose(0.5, 50.0, route="po")]),
        (
            "10 mg po q12h x2 then 5 mg po bid x 4",
            [Dose(0.0, 10.0, 0.0, "po", 12.0, 2), Dose(24.0, 5.0, 0.0, "po", 12.0, 4)],
        ),
        ("60 mg/h iv over 1 day", [Dose(0.0, 1440.0, 24.0)]),
        ("1 mg/min iv over 10 min", [Dose(0.0, 10.0, 1 / 6)]),
        ("5 µg iv bolus at 1 d", [Dose(24.0, 0.005)]),
        ("2 mg orally", [Dose(0.0, 2.0, route="po")]),
        ("1e+1 mg iv +2 mg po THEN 3 mg iv", [Dose(0.0, 10.0), Dose(0.0, 2.0, route="po"), Dose(0.0, 3.0)]),
    ],
)
def test_text_means_what_a_clinician_means_by_it(text, expected):
    for dose, other in zip(Regimen.parse(text).doses, expected, strict=True):
        assert (dose.route, dose.count, dose.per_kg) == (other.route, other.count, other.per_kg)
        for name in ("time", "amount", "duration", "interval"):
            assert getattr(dose, name) == pytest.approx(getattr(other, name), rel=1e-12)


@given(regimens)
def test_a_regimen_written_out_reads_back_equal(regimen):
    assert Regimen.parse(str(regimen)) == regimen


@pytest.mark.parametrize(
    "text, named",
    [
        ("", "the amount"),
        ("midazolam 5 mg po", "the amount"),
        ("5 ml po", "the amount"),
        ("5 mg", "the route"),
        ("5 mg im", "iv, po"),
        ("5 mg po q12h", "x7"),
        ("5 mg po twice", "'twice'"),
        ("5 mg iv over 1 h over 2 h", "'over 2 h'"),
        ("5 mg po over 2 h", "duration"),
        ("5 mg/h iv", "how long"),
        ("5 mg iv then 5 mg iv at 3 h", "both"),
        ("5 mg po x7", "'x7'"),
        ("5 mg po q12h x0", "count"),
        ("-5 mg po", "the amount"),
    ],
)
def test_text_that_cannot_be_read_is_refused_in_one_line_that_names_it(text, named):
    with pytest.raises(ValueError, match=named) as error:
        Regimen.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"time": -1.0, "amount": 1.0},
        {"time": 0.0, "amount": float("nan")},
        {"time": 0.0, "amount": 1.0, "count": 2},
        {"time": 0.0, "amount": 1.0, "interval": 12.0},
        {"time": 0.0, "amount": 1.0, "route": "po", "duration": 1.0},
        {"time": 0.0, "amount": 1.0, "duration": 1e-9},
    ],
)
def test_a_dose_that_contradicts_itself_is_refused(wrong):
    with pytest.raises(ValueError, match="Dose"):
        Dose(**wrong)


def test_amounts_per_kg_are_multiplied_by_each_body_weight_and_others_are_not():
    BW = torch.tensor([50.0, 80.0], dtype=torch.float64)
    assert Regimen.parse("2 mg/kg iv + 7 mg po").amounts(BW).tolist() == [[100.0, 7.0], [160.0, 7.0]]


def test_each_body_may_have_its_own_amount():
    dose = Dose(0.0, torch.tensor([1.0, 3.0]), per_kg=True)
    assert dose.mg(torch.tensor([10.0, 10.0])).tolist() == [10.0, 30.0]
    with pytest.raises(ValueError, match="one for each body"):
        dose.mg(torch.ones(3))


@given(regimens, st.floats(1.0, 1e4))
def test_a_schedule_gives_each_dose_in_full_by_its_end_and_nothing_before_its_start(regimen, horizon):
    schedule = regimen.schedule([0.0, horizon])
    given_by_then = schedule.given()[schedule.output[-1]]
    for dose, share in zip(regimen.doses, given_by_then.tolist(), strict=True):
        expected = 0.0
        for k in range(dose.count):
            since = horizon - dose.time - k * dose.interval
            expected += float(since > 0) if dose.duration == 0 else min(max(since / dose.duration, 0), 1)
        assert share == pytest.approx(expected, abs=1e-6)
    assert schedule.given()[0].abs().max() == 0


def test_an_output_at_a_dose_time_comes_before_the_dose():
    schedule = Regimen.parse("1 mg iv q12h x3").schedule([0.0, 12.0, 12.0 + 1e-12 + 1e-6, 24.0])
    assert schedule.given()[list(schedule.output)].squeeze(-1).tolist() == [0.0, 1.0, 2.0, 2.0]


def test_a_grid_that_misses_a_dose_time_by_rounding_still_meets_it():
    grid = torch.linspace(0, 168, 7 * 31 + 1, dtype=torch.float64)
    schedule = Regimen.parse("1 mg iv q24h x7").schedule(grid)
    assert len(schedule.time) == len(grid)


def test_suggested_times_hold_the_end_and_every_dose_and_are_finer_after_it():
    times = Regimen.parse("1 mg po q24h x7").times(168, 100)
    assert times[-1] == 168 and all((times - 24 * k).abs().min() < 1e-9 for k in range(7))
    step = torch.diff(times)
    assert step[0] < step.max() / 7 and (step > 0).all()


@pytest.mark.parametrize("hours, points", [(0, 100), (float("inf"), 100), (24, 1)])
def test_suggested_times_need_a_finite_span(hours, points):
    with pytest.raises(ValueError, match=r"hours must be positive|points must be at least 2"):
        Regimen.parse("1 mg po").times(hours, points)
