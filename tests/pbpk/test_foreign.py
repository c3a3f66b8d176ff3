import pandas as pd
import pytest
import torch

from pbpk.bodies import reference_body
from pbpk.foreign import load_table
from pbpk.io import save_cohort, to_frame
from pbpk.laws import violations
from pbpk.organs import ORGANS
from pbpk.physiology import Cohort

HTTK = {"bone": "Skeleton", "kidney": "Kidneys", "rest": "Other"}
PKSIM = {
    "adipose": "Fat", "large_intestine": "LargeIntestine", "small_intestine": "SmallIntestine",
} | {
    organ: organ.capitalize()
    for organ in ("bone", "brain", "gonads", "heart", "kidney", "liver", "lung", "muscle", "pancreas",
                  "skin", "spleen", "stomach")
}  # fmt: skip


def man(rows=2):
    return reference_body("human", "M", 30)._each(lambda value: value.expand(rows, *value.shape).clone())


def httk_table(p) -> pd.DataFrame:
    """The columns of httk's population table for these bodies."""
    columns = {
        "gender": ["Male" if sex == 1 else "Female" for sex in p.sex],
        "reth": "Non-Hispanic White",
        "age_months": (p.age * 12).numpy(),
        "weight": (p.BW * 1.2).numpy(),
        "weight_adj": p.BW.numpy(),
        "height": p.height.numpy(),
        "bmi_adj": p.BMI.numpy(),
        "hematocrit": (100 * p.HCT).numpy(),
        "gfr_est": (p.GFR / 0.06 / p.BSA * 1.73).numpy(),
        "serum_creat": "",
        "CO": p.CO.numpy(),
        "Lung_flow": (0.025 * p.CO).numpy(),
    }
    for organ in ORGANS:
        name = HTTK.get(organ, organ.capitalize())
        columns[f"{name}_mass"] = p.mass(organ).numpy()
        if organ not in ("lung", "blood", "rest"):
            columns[f"{name}_flow"] = p.flow(organ).numpy()
    return pd.DataFrame(columns)


def pksim_table(p, vascular=0.1, **further) -> pd.DataFrame:
    """The columns of a PK-Sim population for these bodies: each organ holds a tenth of blood."""
    columns = {
        "individual": range(len(p.BW)),
        "Organism|Weight": p.BW.numpy(),
        "Organism|BMI": (p.BMI / 100).numpy(),
        "Organism|Age": p.age.numpy(),
        "Organism|Height": (p.height / 10).numpy(),
        "Organism|Hematocrit": p.HCT.numpy(),
        "Gender": ["MALE" if sex == 1 else "FEMALE" for sex in p.sex],
    }
    for organ, name in PKSIM.items():
        volume = p.mass(organ) / (1 - vascular)
        columns[f"Organism|{name}|Volume"] = volume.numpy()
        columns[f"Organism|{name}|Fraction vascular"] = vascular
        if organ != "lung":
            columns[f"Organism|{name}|Specific blood flow rate"] = (p.flow(organ) / 60 / volume).numpy()
    for name, volume in (("VenousBlood", 0.8), ("ArterialBlood", 0.4), ("PortalVein", 0.9)):
        columns[f"Organism|{name}|Volume"] = volume
    return pd.DataFrame(columns | further)


def loaded(frame, tmp_path):
    frame.to_csv(tmp_path / "t.csv", index=False)
    return load_table(tmp_path / "t.csv")


def close(here, there):
    torch.testing.assert_close(here, there, rtol=1e-12, atol=0)


# ---- httk


def test_httks_units_become_ours(tmp_path):
    p = man()
    got = loaded(httk_table(p), tmp_path).cohort.physiology
    for name in ("sex", "age", "height", "BW", "HCT", "GFR", "CO", "M"):
        close(getattr(got, name), getattr(p, name))


def test_httks_bronchial_flow_belongs_to_the_rest_and_the_flows_close_on_cardiac_output(tmp_path):
    p = man()
    got = loaded(httk_table(p), tmp_path).cohort.physiology
    close(got.Q, p.Q)
    assert (got.flow("lung") == 0).all()


def test_httks_drawn_weight_and_stated_BMI_are_kept_beside_the_bodies(tmp_path):
    p = man()
    stated = loaded(httk_table(p), tmp_path).stated
    close(stated["drawn_BW"], 1.2 * p.BW)
    close(stated["BMI"], p.BMI)


def test_httks_flows_are_not_held_against_the_sum_they_were_closed_on(tmp_path):
    table = loaded(httk_table(man()), tmp_path)
    assert "rest" in table.not_applied["E2"] and not table.ours


def test_a_lawful_man_stays_lawful_through_httks_table(tmp_path):
    table = loaded(httk_table(man()), tmp_path)
    report = violations(table.cohort, tolerance=None, stated=table.stated, not_applied=table.not_applied)
    assert report.rate == 0
    assert report.frame().query("law == 'C03' and group == 'all'")["share"].item() == 1  # 1.2 times drawn


# ---- PK-Sim


def test_pksims_units_become_ours(tmp_path):
    p = man()
    got = loaded(pksim_table(p), tmp_path).cohort.physiology
    for name in ("sex", "age", "height", "BW", "HCT"):
        close(getattr(got, name), getattr(p, name))
    named = [organ for organ in PKSIM if organ != "lung"]
    close(got.flow(*named), p.flow(*named))
    close(got.CO, p.flow(*named))


def test_pksims_vascular_blood_moves_from_the_organs_to_the_blood(tmp_path):
    p = man()
    got = loaded(pksim_table(p, vascular=0.1), tmp_path).cohort.physiology
    for organ in PKSIM:
        close(got.mass(organ), p.mass(organ))
    vascular = sum(p.mass(organ) / 0.9 * 0.1 for organ in PKSIM)
    close(got.mass("blood"), vascular + 0.8 + 0.4 + 0.9)


def test_pksims_headings_may_state_its_units_and_sex_be_a_number(tmp_path):
    plain = pksim_table(man())
    units = {
        "Weight": "kg",
        "Age": "year(s)",
        "Height": "dm",
        "BMI": "kg/dm²",
        "Volume": "l",
        "rate": "l/min/kg organ",
    }
    named = {c: f"{c} [{u}]" for c in plain.columns for word, u in units.items() if c.endswith(word)}
    stated = plain.rename(columns=named).assign(Gender=1)
    assert len(named) > 30
    for one, other in zip(
        *(loaded(f, tmp_path).cohort.physiology.tensors().values() for f in (plain, stated)), strict=True
    ):
        torch.testing.assert_close(one, other, equal_nan=True)
    wrong = stated.rename(columns={"Organism|Height [dm]": "Organism|Height [cm]"})
    with pytest.raises(ValueError, match=r"base units .* but has 'Organism\|Height \[cm\]'"):
        loaded(wrong, tmp_path)


def test_pksims_own_vascular_fractions_hold_where_the_table_states_none(tmp_path):
    frame = pksim_table(man(), vascular=0.58)
    got = loaded(frame.drop(columns=[c for c in frame if "vascular" in c]), tmp_path).cohort.physiology
    close(got.mass("lung"), man().mass("lung"))  # the lung's is 0.58


def test_laws_that_pksims_table_cannot_answer_are_named_with_why(tmp_path):
    reasons = loaded(pksim_table(man()), tmp_path).not_applied
    assert {"C01", "C04", "C12", "C19", "E2", "E4"} == set(reasons)
    assert all(len(reason) > 20 for reason in reasons.values())


@pytest.mark.parametrize(("column", "word"), [("stage", "CKD-Stage3"), ("Population", "Renal impairment")])
def test_a_renal_population_is_not_judged_by_its_kidneys(tmp_path, column, word):
    reasons = loaded(pksim_table(man(), **{column: word}), tmp_path).not_applied
    assert "ill" in reasons["C14"] and "ill" in reasons["C16"]


# ---- telling them apart, and bad tables


def test_our_own_file_is_told_from_foreign_ones(tmp_path):
    import numpy as np

    cohort = Cohort(man(), np.array(["a", "b"]))
    save_cohort(cohort, tmp_path / "c.csv")
    table = load_table(tmp_path / "c.csv")
    assert table.ours and torch.equal(table.stated["BMI"], cohort.physiology.BMI)
    assert to_frame(table.cohort).equals(to_frame(cohort))


@pytest.mark.parametrize(("make", "column", "words"), [
    (httk_table, "Liver_mass", "'Liver_mass'"),
    (httk_table, "gfr_est", "'gfr_est'"),
    (pksim_table, "Organism|Liver|Volume", "'Organism|Liver|Volume'"),
    (pksim_table, "Gender", "'Gender'"),
])  # fmt: skip
def test_a_missing_column_of_a_foreign_table_is_named(tmp_path, make, column, words):
    with pytest.raises(ValueError, match="must have a column") as caught:
        loaded(make(man()).drop(columns=column), tmp_path)
    assert words in str(caught.value)


def test_a_negative_mass_in_a_foreign_table_is_refused_with_its_row(tmp_path):
    frame = httk_table(man())
    frame.loc[1, "Liver_mass"] = -1.0
    with pytest.raises(ValueError, match=r"Liver_mass.*'2'.*-1"):
        loaded(frame, tmp_path)


def test_another_gender_is_refused(tmp_path):
    with pytest.raises(ValueError, match="MALE or FEMALE"):
        loaded(pksim_table(man(), Gender="UNKNOWN"), tmp_path)


# ---- the real tables


@pytest.mark.data
@pytest.mark.parametrize("stage", [3, 4, 5])
def test_pksims_people_hold_tissue_and_blood_in_the_amounts_of_icrp_89(data_folder, stage):
    """Without its blood the lung weighs near ICRP's 0.42 to 0.50 kg, and the blood is near 70 mL/kg."""
    p = load_table(data_folder / "populations" / f"pksim_population_CKD-Stage{stage}.csv").cohort.physiology
    assert 0.42 < p.mass("lung").median() < 0.55
    assert 0.065 < (p.mass("blood") / 1.06 / p.BW).median() < 0.075


@pytest.mark.data
@pytest.mark.parametrize("stage", [3, 4, 5])
def test_moving_pksims_blood_loses_none_of_its_volume(data_folder, stage):
    path = data_folder / "populations" / f"pksim_population_CKD-Stage{stage}.csv"
    volumes = pd.read_csv(path).filter(regex=r"\|Volume$").sum(axis=1)
    close(load_table(path).cohort.physiology.M.sum(-1), torch.tensor(volumes.to_numpy()))


@pytest.mark.data
def test_pksims_masses_sum_to_a_little_less_than_the_weight(data_folder):
    p = load_table(data_folder / "populations" / "pksim_population_CKD-Stage3.csv").cohort.physiology
    assert (p.M.sum(-1) / p.BW).mean() == pytest.approx(0.9986, abs=1e-4)  # as LAWS.md measured


@pytest.mark.data
def test_httks_masses_close_on_the_weight_it_adjusted(data_folder):
    table = load_table(data_folder / "populations" / "httkpop_virtual_individuals_10k.csv")
    p = table.cohort.physiology
    assert (p.M.sum(-1) / p.BW - 1).abs().max() < 1e-3
    moved = (p.BW / table.stated["drawn_BW"] - 1).abs().median().item()
    assert moved == pytest.approx(0.095, abs=0.005)  # as LAWS.md measured
