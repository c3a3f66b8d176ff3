"""A study's page: its table has units, and what it shows of a bolus is explained."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pbpk.bodies import reference_body
from pbpk.io import save_cohort
from pbpk.physiology import Cohort, Physiology
from vpop.study import Study


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a study of the reference man and woman and returns its page, without pictures."""
    monkeypatch.setattr("pbpk.report.picture", lambda figure: "")
    adults = [reference_body("human", sex=sex).tensors() for sex in "MF"]
    both = Physiology("human", **{name: torch.stack([a[name] for a in adults]) for name in adults[0]})
    save_cohort(Cohort(both, np.array(["M", "F"], dtype=object)), tmp_path / "people.csv")

    def run(dose: str) -> str:
        study = tmp_path / "study.toml"
        study.write_text(
            f'[people]\ncohort = "{tmp_path / "people.csv"}"\n'
            f'[[arm]]\nname = "one"\ncompound = "midazolam"\ndose = "{dose}"\n'
        )
        Study.load(study).run(tmp_path / "out")
        return (tmp_path / "out" / "report.html").read_text()

    return run


def test_the_table_has_units_and_a_bolus_its_explanation(page) -> None:
    bolus, infusion = page("1 mg iv"), page("1 mg iv over 2 min")
    for heading in ("age [year]", "Cmax [mg/L]", "AUCinf P95 [mg h/L]", "t_half [h]", "Vss [L]"):
        assert f"<th>{heading}</th>" in bolus
    said = "Cmax of an intravenous bolus is"
    assert said in bolus and said not in infusion
    provenance = bolus.split("Provenance")[1]
    assert "<td>study: arms 1: dose</td>" in provenance and "{" not in provenance
