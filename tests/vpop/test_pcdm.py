"""The model on a small problem, the shipped weights, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pbpk.laws import violations
from pbpk.physiology import Cohort
from vpop.judge import judge
from vpop.pcdm import PCDM, Training


@pytest.fixture(scope="module")
def shipped() -> PCDM:
    return PCDM.load()


def same(a: Cohort, b: Cohort) -> bool:
    first, second = a.physiology.tensors(), b.physiology.tensors()
    return all(torch.allclose(first[name], second[name], rtol=0, atol=0, equal_nan=True) for name in first)


def test_no_one_of_two_thousand_people_breaks_a_law(shipped):
    assert violations(shipped.sample(2000, seed=3)).rate == 0.0


def test_the_same_seed_gives_the_same_people_and_another_seed_others(shipped):
    assert same(shipped.sample(20, seed=5), shipped.sample(20, seed=5))
    assert not same(shipped.sample(20, seed=5), shipped.sample(20, seed=6))


def test_a_larger_cohort_begins_with_the_smaller(shipped):
    assert same(shipped.sample(1100, seed=1)[:10], shipped.sample(10, seed=1))


def test_a_request_is_met_by_everyone(shipped):
    body = shipped.sample(60, seed=1, age=(20, 70), where="BMI >= 30 and sex == 'F'").physiology
    assert body.BMI.min() >= 30 and body.sex.max() == 0
    assert body.age.min() >= 20 and body.age.max() <= 70


def test_the_ordinary_man_whom_others_refuse_exists(shipped):
    """A man of 33 y, 58 kg, 175 cm: open-systems-pharmacology PK-Sim issue 3355."""
    body = shipped.sample(30, sex="M", given={"age": 33, "BW": 58, "height": 175}).physiology
    assert body.BW.eq(58).all() and (body.height == 175).all() and (body.age == 33).all()
    assert violations(Cohort(body, np.arange(30).astype(str))).rate == 0.0


def test_guidance_exaggerates_what_is_typical_of_a_race_and_breaks_no_law(shipped):
    """Of one size, Black men have more muscle than others: 4 % more in those of the survey."""

    def apart(weight: float) -> float:
        size = {"age": 40, "BW": 80, "height": 175}
        log_muscle = []
        for comparison in ("==", "!="):
            where = f"race {comparison} 'Non-Hispanic Black'"
            men = shipped.sample(150, sex="M", given=size, where=where, guidance=weight).physiology
            assert violations(men).rate == 0.0
            log_muscle.append(torch.log(men.mass("muscle")).mean())
        return float(log_muscle[0] - log_muscle[1])

    assert abs(apart(0.0)) < 0.02 < apart(1.0) < apart(3.0)


@pytest.mark.parametrize(
    ("weight", "steps"), [(-1.0, 20), (11.0, 20), (float("nan"), 20), ("2", 20), (2.0, 1)]
)
def test_guidance_that_is_no_weight_or_beside_the_student_is_refused(shipped, weight, steps):
    with pytest.raises(ValueError, match="guidance must lie in"):
        shipped.sample(2, guidance=weight, steps=steps)


@pytest.mark.parametrize(
    ("argument", "value"), [("n", 0), ("n", 2.5), ("n", True), ("seed", -1), ("seed", "7"), ("steps", 1.5)]
)
def test_counts_that_are_no_whole_numbers_are_refused(shipped, argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be a whole number of at least"):
        shipped.sample(**{"n": 2, argument: value})


def test_more_people_than_fit_the_memory_are_refused(shipped):
    with pytest.raises(ValueError, match="n must be at most 10,000,000, but is 1,000,000,000"):
        shipped.sample(10**9)


def test_a_model_that_has_learnt_nothing_says_so(tmp_path):
    for use in (lambda: PCDM().sample(2), lambda: PCDM().save(tmp_path / "m.safetensors")):
        with pytest.raises(ValueError, match="PCDM must have learnt people first"):
            use()
    assert not list(tmp_path.iterdir())


def test_what_is_no_cohort_or_no_weights_file_is_refused(shipped, tmp_path):
    with pytest.raises(TypeError, match="cohort must be a Cohort, but is a str"):
        PCDM().fit("people.csv")
    with pytest.raises(ValueError, match="the suffix of path must be one of"):
        shipped.save(tmp_path / "m.csv")


def test_conditioning_moves_what_depends_on_it(shipped):
    """Livers of the tall and heavy are larger: the condition reaches the inside."""
    small = shipped.sample(200, sex="M", given={"age": 40, "BW": 60, "height": 165})
    large = shipped.sample(200, sex="M", given={"age": 40, "BW": 110, "height": 190})
    assert large.physiology.mass("liver").mean() > 1.15 * small.physiology.mass("liver").mean()


@pytest.mark.parametrize(
    ("where", "columns"),
    [
        ("BW == 25 and age < 12", {"BW": 25.0}),
        ("BW == 120 and age >= 20", {"BW": 120.0}),
        ("BW == 70 and BMI == 25 and age >= 18", {"BW": 70.0, "BMI": 25.0}),
        ("height == 190", {"height": 190.0}),
        ("SCR == 1.2 and age < 10", {"SCR": 1.2}),
        ("HCT == 0.35 and BMI == 40", {"HCT": 0.35, "BMI": 40.0}),
    ],
)
def test_a_value_fixed_by_a_request_comes_back_in_lawful_people(shipped, where, columns):
    cohort = shipped.sample(100, seed=2, where=where)
    assert judge(cohort).rate == 0.0
    for name, value in columns.items():
        assert torch.allclose(getattr(cohort.physiology, name), torch.tensor(value).double(), rtol=1e-6)


def test_a_fixed_weight_gives_the_people_of_a_narrow_band_of_weights(shipped):
    fixed = shipped.sample(1500, seed=3, where="BW == 120 and age >= 20").physiology
    band = shipped.sample(300, seed=4, where="119 < BW and BW < 121 and age >= 20").physiology
    assert abs(fixed.sex.mean() - band.sex.mean()) < 0.1
    assert abs(fixed.height.mean() - band.height.mean()) < 2.0
    assert abs(fixed.age.mean() - band.age.mean()) < 4.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"where": "BW == 58 and height == 175 and BMI == 30"}, "Leave one of the three out"),
        ({"where": "age == 70", "age": (18, 65)}, "contradicts the range 18:65"),
        ({"where": "BW == 25 and age >= 20"}, "by none of"),
        ({"given": {"age": 30, "height": 180, "BW": 16.2}}, "laws C09 and C10"),
        ({"given": {"age": 30, "HCT": 45}}, "law C08"),
        ({"given": {"SCR": 0.3}, "age": (0, 1)}, r"SCR must be given from 2 years on, .* Leave it out"),
    ],
)
def test_an_impossible_request_names_what_forbids_it(shipped, arguments, words, monkeypatch):
    monkeypatch.setattr("vpop.rare.PATIENCE", 2)
    with pytest.raises(ValueError, match=words):
        shipped.sample(5, **arguments)


@pytest.mark.parametrize("arguments", [{"sex": "F"}, {"where": "sex == 'F' and BMI > 20"}])
def test_a_model_of_men_refuses_to_draw_women(shipped, arguments, monkeypatch):
    monkeypatch.setattr(shipped, "demographics", shipped.demographics.of_sex(1.0))
    with pytest.raises(ValueError, match=r"it knows M alone and F is asked for\. Fit a model") as error:
        shipped.sample(2, **arguments)
    assert "\n" not in str(error.value)


def test_organs_of_a_given_size_scatter_as_those_of_people_of_that_size(shipped):
    free = shipped.sample(1500, seed=3, age=(20, 60)).physiology
    who = {"sex": free.sex, "race": free.race, "age": free.age}
    size = {"height": free.height, "BW": free.BW}
    given = shipped.draw_given(who, size, torch.Generator().manual_seed(1), 20)
    X = torch.stack([torch.ones_like(free.BW), free.height.log(), free.BW.log(), free.sex, free.age], 1)
    scatter = []
    for body in (free, given):
        y = body.mass("large_intestine").log()
        scatter.append((y - X @ torch.linalg.lstsq(X, y[:, None]).solution[:, 0]).std())
    assert abs(scatter[1] / scatter[0] - 1) < 0.2


@pytest.fixture(scope="module")
def adults(shipped) -> Cohort:
    return shipped.sample(3000, seed=11, age=(20, 60))


@pytest.fixture(scope="module")
def fitted(adults) -> PCDM:
    """A small model fitted to people drawn by the shipped one, all of them adults."""
    training = Training(1500, batch=128, rate=6e-3, memory=0.99, calibration=4000)
    return PCDM(width=64, depth=2, training=training).fit(adults)


def test_fit_recovers_the_population_it_was_given(adults, fitted):
    real = adults.physiology
    ours = fitted.sample(3000, seed=1, age=(20, 60)).physiology
    for sex in (0.0, 1.0):
        for name in ("height", "BMI", "CO", "GFR"):
            a, b = (getattr(body, name)[body.sex == sex].log() for body in (real, ours))
            quartiles = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
            (a1, a2, a3), (b1, b2, b3) = a.quantile(quartiles), b.quantile(quartiles)
            assert abs(a2 - b2) < 0.1 * (a3 - a1), name
            assert abs((b3 - b1) / (a3 - a1) - 1) < 0.15, name
    weights = [
        np.log([b.BW.numpy(), b.mass("liver").numpy(), b.mass("adipose").numpy()]) for b in (real, ours)
    ]
    first, second = (np.corrcoef(w) for w in weights)
    assert np.abs(first - second).max() < 0.1


def test_a_saved_model_draws_the_same_people(fitted, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    assert same(PCDM.load(tmp_path / "m.safetensors").sample(5, age=(20, 60)), fitted.sample(5, age=(20, 60)))


def test_a_fit_to_a_handful_of_people_is_refused(shipped):
    with pytest.raises(ValueError, match="at least 50"):
        PCDM().fit(shipped.sample(20))


def test_a_cohort_of_unlawful_bodies_is_refused(shipped):
    cohort = shipped.sample(200)
    broken = Cohort(cohort.physiology.replace(CO=9.0 * cohort.physiology.CO), cohort.id)
    with pytest.raises(ValueError, match="obey the laws, but has 0 of 200"):
        PCDM().fit(broken)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def foreign(path):
    save_file({"weight": torch.zeros(3)}, path)


def tampered(path):
    with safe_open(path, "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["marginals"][0, 0] = float("nan")
    save_file(tensors, path, header)


def reshaped(path):
    with safe_open(path, "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["demographics"] = tensors["demographics"][:1].contiguous()
    save_file(tensors, path, header)


def without_a_card(path):
    with safe_open(path, "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {name: value for name, value in header.items() if name != "card"})


def of_another_version(path):
    with safe_open(path, "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header["format"] = "vpop-pcdm-0"
    save_file(tensors, path, header)


def one_bit_flipped(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [one_bit_flipped, truncated, foreign, tampered, reshaped, without_a_card, of_another_version]
)
def test_a_damaged_or_foreign_weights_file_is_refused_in_one_line(fitted, tmp_path, damage):
    path = tmp_path / "m.safetensors"
    fitted.save(path)
    damage(path)
    with pytest.raises(ValueError, match=r"^weights must") as error:
        PCDM.load(path)
    assert "\n" not in str(error.value)


def test_the_card_beside_the_weights_is_the_one_inside(shipped):
    from importlib import resources

    card = json.loads((resources.files("vpop") / "data" / "pcdm.json").read_text())
    assert card["bodies"] == shipped.card["bodies"]
    assert card["sha256"] == shipped.card["sha256"]
