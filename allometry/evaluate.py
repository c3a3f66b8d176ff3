r"""How well is a species foretold that no model has seen?

Each of the seven species is left out, all its strains together; every model learns from the other six and
foretells the consensus (:mod:`allometry.consensus`) of its organ masses, flows, cardiac output, GFR and
haematocrit at its body weight. ``rest``, which only closes, is not scored.

- AAFE :math:`= \exp \overline{|\ln \hat x / x|}`; *clean* scores the quantities on which two or more
  independent sources were found.
- The ratio to the free power law is paired, :math:`\exp(\overline{|e|} - \overline{|e_{power}|})`; its 95 %
  interval resamples species, all of a species' quantities together.
- A 90 % interval is :math:`\mu \pm 1.645 \sqrt{\sigma^2 + s^2}`, with the sources' own noise :math:`s`.
- *Chance*: how often the intervals of every species would hold 85 to 95 %, were the model exactly right. A
  species has some 33 quantities that are related: the model's joint distribution is drawn from.
- *Few-shot*: three quantities of the target are told (:mod:`allometry.few_shot`); the others are scored,
  against the same quantities by the power law.
- The floor is what a perfect model would score against a consensus with noise s: :math:`\overline{s
  \sqrt{2/\pi}}`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from allometry.baselines import Z90, Score, power_scores
from allometry.clade import leave_one_out
from allometry.consensus import Consensus, consensus
from allometry.few_shot import WAYS, FewShot, few_shot
from allometry.hierarchical import Normal
from allometry.mammals import Mammals, load_mammals
from allometry.neural import NeuralAllometry
from allometry.species import QUANTITIES, decode
from allometry.taxonomy import TAXA
from pbpk.physiology import Physiology

_BALANCE_BW = (0.01, 1.0, 500.0)  # kg
_HEADS = ("brain", "BMR")
_ASKED = (0.85, 0.95)  # between which the share inside 90 % intervals should lie, of each species


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        known: The consensus.
        scores: Of each model and seed.
        few: What the neural model makes of three quantities told, by the way they are chosen.
        chance: How often every species' 90 % intervals would hold 85 to 95 %, were the model exactly right.
        mammals: By head, the number of species, AAFE of the power law and of the clade model, coverage.
        balance: The largest relative error of a sum of masses, and of flows.
        draws: Of the bootstrap.
    """

    known: Consensus
    scores: tuple[Score, ...]
    few: Mapping[str, FewShot]
    chance: float
    mammals: Mapping[str, tuple[int, float, float, float]]
    balance: tuple[float, float]
    draws: int
    table: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        """Makes the table of scores."""
        object.__setattr__(self, "table", _table(self))

    def error(self, score: Score) -> Tensor:
        """Returns the absolute errors of the logarithms, with shape (s, q)."""
        return (score.mean - self.known.y).abs()

    def of(self, model: str) -> list[Score]:
        """Returns the scores of a model, one a seed."""
        return [score for score in self.scores if score.model == model]

    def mean_error(self, model: str) -> Tensor:
        """Returns the absolute errors of a model, the mean over its seeds, with shape (s, q)."""
        return torch.stack([self.error(score) for score in self.of(model)]).mean(0)

    def predictions(self) -> pd.DataFrame:
        """Returns one row for each model, seed, species and quantity that is scored."""
        rows = []
        for score in self.scores:
            for i, j in self.known.scored.nonzero().tolist():
                half = Z90 * score.sd[i, j].item()
                mean = score.mean[i, j].item()
                rows.append(
                    {
                        "model": score.model,
                        "seed": score.seed,
                        "held_out": self.known.species[i],
                        "quantity": QUANTITIES[j],
                        "predicted": math.exp(mean),
                        "lower90": math.exp(mean - half),
                        "upper90": math.exp(mean + half),
                        "consensus": math.exp(self.known.y[i, j].item()),
                        "consensus_sd_ln": self.known.sd[i, j].item(),
                        "sources": int(self.known.count[i, j]),
                    }
                )
        return pd.DataFrame(rows).astype({"seed": "Int64"})

    def few_shot(self) -> list[dict[str, object]]:
        """Returns the scores of the few-shot ways."""
        base = self.error(self.of("free power law")[0])
        free = self.error(self.of("graph")[0])
        rows: list[dict[str, object]] = []
        for way, found in self.few.items():
            rest = torch.isfinite(found.error)
            error = found.error.nan_to_num()
            low, high = _bootstrap(error, base, rest, self.draws)
            rows.append(
                {
                    "told": way,
                    "of each": [list(names) for names in found.told],
                    "AAFE of the others": _mean(error, rest),
                    "the same, nothing told": _mean(free, rest),
                    "expected change": found.expected,
                    "ratio to power": _mean(error, rest) / _mean(base, rest),
                    "low": low,
                    "high": high,
                    "ratio, told ones counted as right": math.exp(
                        ((error * rest).sum() - (base * self.known.scored).sum()).item()
                        / int(self.known.scored.sum())
                    ),
                }
            )
        return rows

    def floor(self) -> dict[str, float]:
        """Returns the AAFE of a perfect model against this consensus, and the floor of the ratio."""
        scored = self.known.scored
        noise = self.known.sd[scored].mean().item() * math.sqrt(2.0 / math.pi)
        power = math.log(_mean(self.error(self.of("free power law")[0]), scored))
        return {"AAFE": math.exp(noise), "ratio to power": math.exp(noise - power)}

    def text(self) -> str:
        """Returns the scores as a table for a terminal."""
        accuracy, covered = self.tables()
        lines = ["ratio to the free power law, its 95 % interval over species, and by species held out"]
        lines += [_plain(accuracy), "", "share inside the 90 % interval", _plain(covered)]
        lines += [f"(were the graph exactly right, all seven in 85-95 %: {self.chance:.1%} of the time)", ""]
        for row in self.few_shot():
            lines.append(
                f"three told ({row['told']}): ratio to power {row['ratio to power']:.3f} "
                f"[{row['low']:.3f}, {row['high']:.3f}] on the others"
            )
        for head, (n, power, model, inside) in self.mammals.items():
            lines.append(
                f"{head}, {n} species, leave one out: AAFE {power:.3f} power, {model:.3f}; 90 %: {inside:.1%}"
            )
        if not self.mammals:
            lines.append("brain and metabolic rate: not scored, for want of data (--data or VPOP_DATA)")
        lines.append(f"largest error of a sum: masses {self.balance[0]:.1e}, flows {self.balance[1]:.1e}")
        return "\n".join(lines)

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Returns the scores, and the shares inside the 90 % intervals, as they are shown."""
        shown = self.table
        if shown.seed.nunique() < 2:  # networks of one seed: it tells nothing
            shown = shown.drop(columns="seed")
        ninety = [name for name in shown if name.endswith(" 90")]
        own = [name for name in ("model", "seed") if name in shown]
        covered = shown[[*own, *ninety]].dropna(subset=ninety)
        return shown.drop(columns=ninety), covered.rename(columns=lambda name: name.removesuffix(" 90"))

    def numbers(self) -> dict[str, object]:
        """Returns every score, for a JSON file."""
        return {
            "species": list(self.known.species),
            "scored": int(self.known.scored.sum()),
            "clean": int((self.known.count > 1).sum()),
            "models": [_without_nan(row) for row in self.table.to_dict("records")],
            "ablation": self.ablation(),
            "few_shot": self.few_shot(),
            "chance that every species has 85 to 95 % inside": self.chance,
            "floor": self.floor(),
            "mammals": {
                head: dict(zip(("species", "AAFE power", "AAFE", "coverage90"), row, strict=True))
                for head, row in self.mammals.items()
            },
            "balance": {"masses": self.balance[0], "flows": self.balance[1]},
        }

    def ablation(self) -> list[dict[str, object]]:
        """Returns paired ratios of the mean error over seeds, with their intervals."""
        pairs = [("graph", "MLP"), ("graph", "hierarchical"), ("MLP", "hierarchical")]
        rows: list[dict[str, object]] = []
        for one, other in pairs:
            if self.of(one) and self.of(other):
                scored, own, base = self.known.scored, self.mean_error(one), self.mean_error(other)
                low, high = _bootstrap(own, base, scored, self.draws)
                ratio = _mean(own, scored) / _mean(base, scored)
                rows.append({"model": one, "against": other, "ratio": ratio, "low": low, "high": high})
        return rows


def evaluate(folder: str | os.PathLike[str] | None = None, seeds: int = 0, draws: int = 4000) -> Evaluation:
    """Scores every model.

    Arguments:
        folder: The folder of third-party data, for the mammals' own scores; None leaves them out.
        seeds: How often the networks are trained anew, with messages and without; 0 scores the shipped ones.
        draws: Of the species bootstrap.
    """
    known = consensus()
    shipped = NeuralAllometry.load()
    models = {("graph", 0): shipped}
    for seed in range(seeds):
        for name, connected in (("graph", True), ("MLP", False)):
            model = NeuralAllometry(shipped.members, shipped.steps, connected, seed)
            models[name, seed] = model.fit(folds=list(shipped.folds.values()))
    plain = _closed(known, _foretell(known, shipped, "hierarchical"))
    scores = [*power_scores(known), _score("hierarchical", None, known, plain)]
    foretold = {which: _foretell(known, model, "neural") for which, model in models.items()}
    scores += [_score(*which, known, _closed(known, normals)) for which, normals in foretold.items()]
    own = foretold["graph", 0]
    few = {way: few_shot(known, own, names) for way, names in WAYS.items()}
    luck = chance(known, _closed(known, own), draws)
    mammals = {} if folder is None else {h: _mammals(load_mammals(folder)[h]) for h in _HEADS}
    return Evaluation(known, tuple(scores), few, luck, mammals, balance(shipped), draws)


def _foretell(known: Consensus, model: NeuralAllometry, kind: str) -> list[Normal]:
    """Returns what a model says of each species without having seen it, before the sums."""
    each = zip(known.species, known.x.exp().tolist(), strict=True)
    return [model.predict(name, BW, model=kind, closing=False) for name, BW in each]


def _closed(known: Consensus, normals: Sequence[Normal]) -> list[Normal]:
    return [normal.closed(x) for normal, x in zip(normals, known.x.tolist(), strict=True)]


def _score(name: str, seed: int | None, known: Consensus, normals: Sequence[Normal]) -> Score:
    q = len(QUANTITIES)
    mean, sd = (torch.stack([getattr(normal, part)[:q] for normal in normals]) for part in ("mean", "sd"))
    # the power laws' spread holds the sources' noise already; here it is added where the score is taken
    return Score(name, seed, mean, (sd**2 + known.sd.nan_to_num(posinf=0.0) ** 2).sqrt())


def _mammals(table: Mammals) -> tuple[int, float, float, float]:
    error, sd = leave_one_out(table)
    design = torch.stack([torch.ones_like(table.x), table.x], -1)
    hat = design @ torch.linalg.pinv(design)
    line = (table.y - hat @ table.y) / (1.0 - hat.diagonal())
    inside = ((error / sd).abs() < Z90).double().mean().item()
    return len(table), line.abs().mean().exp().item(), error.abs().mean().exp().item(), inside


def chance(known: Consensus, normals: Sequence[Normal], draws: int) -> float:
    """Returns how often 85 to 95 % lie inside the 90 % intervals in every species, were these all right."""
    generator = torch.Generator().manual_seed(3)
    inside = torch.ones(draws, dtype=torch.bool)
    for i, normal in enumerate(normals):
        at = known.scored[i].nonzero().squeeze(-1)
        cov = normal.cov[at][:, at] + torch.diag(known.sd[i, at] ** 2)
        standard = torch.randn(draws, len(at), generator=generator, dtype=cov.dtype)
        z = standard @ torch.linalg.cholesky(cov).T / cov.diagonal().sqrt()
        share = (z.abs() < Z90).double().mean(-1)
        inside &= (share >= _ASKED[0]) & (share <= _ASKED[1])
    return inside.double().mean().item()


def balance(model: NeuralAllometry) -> tuple[float, float]:
    """Returns the largest relative error of the sums of masses and of flows, over species and weights."""
    worst = [0.0, 0.0]
    for species in TAXA:
        for BW in _BALANCE_BW:
            values = model.predict(species, BW).mean[: len(QUANTITIES)].unsqueeze(0)
            body: Physiology = decode(values, species, torch.tensor([BW], dtype=torch.float64))
            for k, (found, total) in enumerate(((body.M, body.BW), (body.Q, body.CO))):
                worst[k] = max(worst[k], ((found.sum(-1) - total) / total).abs().max().item())
    return worst[0], worst[1]


def _without_nan(row: Mapping[Hashable, object]) -> dict[str, object]:
    """Returns a row with null for NaN, which JSON does not know."""
    return {str(name): None if pd.isna(value) else value for name, value in row.items()}


def _plain(frame: pd.DataFrame) -> str:
    return frame.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="")


def _mean(error: Tensor, scored: Tensor) -> float:
    return error[scored].mean().exp().item()


def _bootstrap(error: Tensor, base: Tensor, scored: Tensor, draws: int) -> tuple[float, float]:
    """Returns the 95 % interval of a paired ratio, over species."""
    s = len(error)
    which = torch.randint(s, (draws, s), generator=torch.Generator().manual_seed(7))
    count = scored.sum(-1).double()[which].sum(-1)
    gain = ((error - base) * scored).sum(-1)[which].sum(-1) / count
    low, high = torch.quantile(gain.exp(), torch.tensor([0.025, 0.975], dtype=gain.dtype)).tolist()
    return low, high


def _table(result: Evaluation) -> pd.DataFrame:
    """Returns one row a model and seed."""
    base = result.error(result.of("free power law")[0])
    scored, clean = result.known.scored, result.known.count > 1
    rows = []
    for score in result.scores:
        error = result.error(score)
        low, high = _bootstrap(error, base, scored, result.draws)
        inside = (error < Z90 * score.sd).double()
        row: dict[str, object] = {
            "model": score.model,
            "seed": score.seed,
            "AAFE": _mean(error, scored),
            "ratio": _mean(error, scored) / _mean(base, scored),
            "low": low,
            "high": high,
            "clean": _mean(error, clean) / _mean(base, clean),
        }
        for i, name in enumerate(result.known.species):
            row[name] = _mean(error[i], scored[i]) / _mean(base[i], scored[i])
        for i, name in enumerate(result.known.species):
            has = not torch.isnan(score.sd[i]).any()
            row[f"{name} 90"] = inside[i][scored[i]].mean().item() if has else math.nan
        rows.append(row)
    return pd.DataFrame(rows).astype({"seed": "Int64"})
