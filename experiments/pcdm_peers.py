"""How do the synthesisers that others use do on the same people?

Question: SDV's GaussianCopula, CTGAN and TVAE at their default epochs, and ForestDiffusion at its defaults,
with the gaps of its people and with these filled, learn the covariates of the training people (sex, race,
age, height, weight, haematocrit, creatinine): how easily are their people told from unseen ones, and how many
break a law of height, body-mass index or haematocrit?
Source: NHANES 2013-2018 (VPOP_DATA), people drawn by their survey weights, for these models know no weights.
Commands, the second in an environment of its own that has SDV 2 (it is not open source) and ForestDiffusion
1.0.6, never dependencies of this project; a row at a time with ``--models NAME``:
    VPOP_DATA=... python -m experiments.pcdm_peers --step table
    OMP_NUM_THREADS=1 OTHER/bin/python -m experiments.pcdm_peers --step peers
    VPOP_DATA=... python -m experiments.pcdm_peers --step judge
Measured: tree C2ST, KS (mean over the measured columns), the share of people outside C08-C11, CPU seconds of
learning; the shipped weights and training people themselves beside them.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from experiments import record

if TYPE_CHECKING:
    import pandas as pd

NAME = "pcdm_peers"
STEPS = ("table", "peers", "judge")
SDV = {"GaussianCopula": "GaussianCopulaSynthesizer", "CTGAN": "CTGANSynthesizer", "TVAE": "TVAESynthesizer"}
MEASURED = ("age", "height", "BW", "HCT", "SCR")
COLUMNS = ("sex", "race", *MEASURED)


@dataclass(frozen=True)
class Config:
    """The flags."""

    step: str = "judge"
    models: str = "GaussianCopula,TVAE,CTGAN,ForestDiffusion,ForestDiffusion filled"
    n: int = 3000
    drawn: int = 5000
    seed: int = 1


def run(config: Config) -> dict[str, Any]:
    return {"table": table, "peers": peers, "judge": judge}[config.step](config)


def table(config: Config) -> dict[str, Any]:
    """Writes the people to learn from; creatinine and haematocrit blank where they were not measured."""
    people = survey("train").sample(config.n, replace=True, weights="weight", random_state=config.seed)
    people[list(COLUMNS)].round(4).to_csv(record.folder(NAME) / "train.csv", index=False)
    return {"people": len(people)}


def survey(part: str) -> pd.DataFrame:
    from vpop.reference import load_nhanes
    from vpop.split import part_of

    everyone = load_nhanes(record.data_folder() / "nhanes" / "nhanes_2013_2018.csv")
    return everyone[part_of(everyone.index) == part]


def peers(config: Config) -> dict[str, Any]:
    """Fits the others' models and writes the people whom they draw; adds to what earlier calls wrote."""
    import pandas as pd

    train = pd.read_csv(record.folder(NAME) / "train.csv")
    times = taken()
    for name in config.models.split(","):
        start = time.process_time()
        synthesised(name, train, config).to_csv(record.folder(NAME) / f"{name}.csv", index=False)
        times[name] = round(time.process_time() - start, 1)
        (record.folder(NAME) / "times.json").write_text(json.dumps(times), encoding="utf-8")
        print(name, times[name], flush=True)
    return {"CPU seconds": times}


def taken() -> dict[str, float]:
    file = record.folder(NAME) / "times.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def synthesised(name: str, train: pd.DataFrame, config: Config) -> pd.DataFrame:
    if name in SDV:
        return by_sdv(name, train, config)
    return by_trees(filled(train) if name.endswith("filled") else train, config)


def filled(train: pd.DataFrame) -> pd.DataFrame:
    """Returns people with their gaps filled by the median of their sex; the judge blanks the young's."""
    return train.fillna(train.groupby("sex")[list(MEASURED)].transform("median"))


def by_trees(train: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Draws by boosted trees that have learnt a flow, at their defaults: 50 levels, 100 noises a row.

    There is no outcome to learn one model for each value of. Rows with gaps take part, but nobody is drawn
    with gaps, and so few children: they have no creatinine.

    References:
        Jolicoeur-Martineau, Fatras, Kachman (2024). Generating and imputing tabular data via diffusion and
        flow-based gradient-boosted trees. https://arxiv.org/abs/2309.09968
    """
    import numpy as np
    import pandas as pd

    codes, races = pd.factorize(train.race)
    numbers = train.assign(sex=train.sex == "M", race=codes)[list(COLUMNS)].to_numpy(float)
    trees = import_module("ForestDiffusion").ForestDiffusionModel
    model = trees(numbers, bin_indexes=[0], cat_indexes=[1], n_jobs=1, seed=config.seed)  # sex, race
    drawn = pd.DataFrame(model.generate(config.drawn), columns=list(COLUMNS))
    return drawn.assign(sex=np.where(drawn.sex == 1.0, "M", "F"), race=races[drawn.race.astype(int)])


def by_sdv(name: str, train: pd.DataFrame, config: Config) -> pd.DataFrame:
    tables = {"people": train}  # as SDV 2 wants them
    metadata = import_module("sdv.metadata").Metadata.detect_from_dataframes(tables)
    model = getattr(import_module("sdv.single_table"), SDV[name])(metadata)
    model.fit(tables)
    drawn = model.sample(config.drawn)
    return drawn["people"] if isinstance(drawn, dict) else drawn


def judge(config: Config) -> dict[str, Any]:
    import pandas as pd

    from vpop.pcdm import PCDM

    unseen = survey("test")
    drawn = {path.stem: pd.read_csv(path) for path in sorted(record.folder(NAME).glob("*.csv"))}
    drawn["the training people"] = drawn.pop("train")
    drawn["shipped weights"] = as_survey(PCDM.load().sample(config.drawn, config.seed))
    times = taken()
    return {
        name: score(people, unseen, config.seed) | {"CPU seconds": times.get(name)}
        for name, people in drawn.items()
    }


def as_survey(cohort: Any) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    from pbpk.physiology import RACES

    body = cohort.physiology
    found = pd.DataFrame({name: getattr(body, name).numpy() for name in MEASURED})
    race = [RACES[race] for race in body.race.tolist()]
    return found.assign(sex=np.where(body.sex.numpy() == 1.0, "M", "F"), race=race)


def score(drawn: pd.DataFrame, unseen: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Returns how far drawn people are from unseen ones; values that a survey would not have are blank."""
    import numpy as np

    from vpop.distance import kolmogorov_smirnov
    from vpop.two_sample import c2st

    real, ours = (as_numbers(people) for people in (unseen, drawn))
    weights = unseen.weight.to_numpy()
    copies = ours.groupby(list(COLUMNS), dropna=False).ngroup().to_numpy()  # one person, one fold
    auc = c2st(real.to_numpy(float), ours.to_numpy(float), weights, seed, drawn_groups=copies)
    equal = np.ones(len(ours))
    KS = [
        kolmogorov_smirnov(real[c].to_numpy(float), ours[c].to_numpy(float), weights, equal) for c in MEASURED
    ]
    return {
        "C2ST": [round(value, 3) for value in auc],
        "KS, mean": round(float(np.mean(KS)), 4),
        "outside C08-C11": round(outside(drawn), 4),
    }


def as_numbers(people: pd.DataFrame) -> pd.DataFrame:
    """Returns numbers, rounded as the survey rounds, blank where it measures nothing."""
    from pbpk.physiology import RACES

    out = people.assign(sex=(people.sex == "M").astype(float), race=people.race.map(list(RACES).index))
    out = out[list(COLUMNS)].astype(float).round({"age": 2, "height": 1, "BW": 1, "HCT": 3, "SCR": 2})
    return out.assign(HCT=out.HCT.where(out.age >= 1), SCR=out.SCR.where(out.age >= 12))


def outside(people: pd.DataFrame) -> float:
    """Returns the share of people whose height, body-mass index or haematocrit no law allows."""
    import torch

    from vpop import limits
    from vpop.coordinates import blank

    sex = torch.tensor((people.sex == "M").to_numpy(dtype=float))
    age = torch.tensor(people.age.to_numpy(dtype=float)).clamp(0.0, 80.0)
    body = blank({"sex": sex, "race": torch.zeros(len(sex)).long(), "age": age})
    values = {name: torch.tensor(people[name].to_numpy(dtype=float)) for name in ("height", "HCT")}
    values["BMI"] = torch.tensor((people.BW / (people.height / 100.0) ** 2).to_numpy(dtype=float))
    broken = torch.zeros(len(sex), dtype=torch.bool)
    for name, value in values.items():
        lower, upper = limits.who(name, body)
        broken |= (value <= lower) | (value >= upper)
    return float(broken.double().mean())


if __name__ == "__main__":
    record.main(NAME, Config, run, __doc__)
