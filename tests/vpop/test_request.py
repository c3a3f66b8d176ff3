import pytest

from vpop.request import Request


def make(where=None, age=(0.0, 80.0), sex=None, given=None):
    return Request.make(age, sex, where, given)


def test_bounds_on_age_narrow_the_ages_that_are_drawn():
    assert make("18 <= age and age < 65 and BMI > 30").age == (18.0, 65.0)


def test_an_equality_conditions_the_model():
    request = make("sex == 'M' and age == 33 and height == 175 and BW == 58")
    assert request.given == {"height": 175.0, "BW": 58.0}
    assert request.age == (33.0, 33.0)
    assert [part.text for part in request.before] == ["sex == 'M'"]
    assert not request.after


def test_parts_about_a_body_are_settled_after_it_is_drawn():
    request = make("(sex == 'F' or age > 60) and M_liver > 1.5")
    assert [len(request.before), len(request.after)] == [1, 1]


def test_the_request_is_written_down():
    assert make("BMI >= 30", (18, 65), "F").text() == "18 <= age <= 65 and sex == 'F' and (BMI >= 30)"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"where": "age >= 200"}, r"'age >= 200' is not: age lies in \[0, 80\]"),
        ({"where": "BMI <= 5 and height >= 180"}, "laws C09 and C10"),
        ({"where": "eGFR == 50"}, "Ask for a range: 49.5 <= eGFR <= 50.5"),
        ({"where": "eGFR < 4"}, r"eGFR lies in \[5, 200\] \(law C12\)"),
        ({"age": (200.0, 300.0)}, "age must be a range inside 0:80"),
        ({"age": (65.0, 18.0)}, "age must be a range"),
        ({"sex": "X"}, "sex must be one of"),
        ({"given": {"BW": 70.0}, "where": "BW >= 80"}, "must not contradict what is given"),
        ({"where": "BW == 70 and height == 170 and BMI >= 40"}, "BMI 24.22"),
        ({"given": {"BW": 70.0}, "where": "BW == 80"}, "BW must be one, but is given as 70 and 80"),
        ({"given": {"heigth": 170.0}}, "Did you mean 'height'"),
        ({"given": {"GFR": float("nan")}}, "GFR is nan"),
        ({"where": "agee > 3"}, "Did you mean 'age'"),
    ],
)
def test_an_impossible_request_is_refused_in_one_line(arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        make(**arguments)
    assert "\n" not in str(error.value)
