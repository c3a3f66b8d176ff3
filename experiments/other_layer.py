"""Do the constraint coordinates suit only the organ layer that they were written beside?

Question: the coordinates stay, with their laws, growth charts and scores, and the organs come from another
layer: how easily are drawn people then told from unseen ones?
Source: NHANES 2013-2018 (VPOP_DATA), in whose people the layer ``height-allometry`` puts bodies: viscera by
sex and height alone. The shipped weights, which know the layer ``literature``, learn on from the people of
the training part on their own scales; they are judged by the unseen people of the test part, once.
Command: VPOP_DATA=... python -m experiments.other_layer
Measured: tree C2ST on the covariates, on all columns, on all columns and ratios, each beside its floor
(training people against unseen ones); and the same of the shipped weights before they learnt on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments import record
from pbpk.laws import violations
from vpop.columns import Sample
from vpop.evaluate import TABLES
from vpop.pcdm import PCDM, Training
from vpop.reference import load_reference
from vpop.two_sample import c2st

NAME = "other_layer"


@dataclass(frozen=True)
class Config:
    """The flags."""

    layer: str = "height-allometry"
    part: str = "test"
    updates: int = 2000
    copies: int = 3
    n: int = 5000
    seed: int = 1


def run(config: Config) -> dict[str, Any]:
    shipped = PCDM.load()
    table = record.data_folder() / "nhanes" / "nhanes_2013_2018.csv"

    def survey(part: str, seed: int, copies: int = 1) -> Any:
        return load_reference(table, seed=seed, layer=config.layer, copies=copies, part=part)

    training = Training(updates=config.updates, rate=1e-3, memory=0.995, calibration=60_000)
    cohort, weights = survey("train", config.seed, config.copies)
    model = PCDM(training=training, seed=config.seed).fit(cohort, weights, start=shipped)
    real = Sample.of(*survey(config.part, config.seed + 7)).some(config.n, config.seed)
    drawn = model.sample(config.n, config.seed)
    samples = {
        "learnt on": Sample.of(drawn),
        "shipped": Sample.of(shipped.sample(config.n, config.seed)),
        "floor": Sample.of(*survey("train", config.seed + 8)).some(config.n, config.seed),
    }
    scores = {
        name: {who: told_apart(real, sample, name, config.seed) for who, sample in samples.items()}
        for name in TABLES
    }
    return {"C2ST": scores, "unseen people": len(real), "violations": violations(drawn).rate}


def told_apart(real: Sample, drawn: Sample, table: str, seed: int) -> list[float]:
    columns = TABLES[table]
    first, second = (columns(sample.bodies).to_numpy(float) for sample in (real, drawn))
    found = c2st(first, second, real.weights, seed, real.persons, drawn.weights, drawn.persons)
    return [round(value, 3) for value in found]


if __name__ == "__main__":
    record.main(NAME, Config, run, __doc__)
