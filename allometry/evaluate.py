r"""How well is a species foretold that no model has seen?

Each of the seven species is left out, all its strains together; every model learns from the other six and
foretells the consensus (:mod:`allometry.consensus`) of its organ masses, flows, cardiac output, GFR and
haematocrit at its body weight. ``rest``, which only closes, is not scored.

- AAFE :math:`= \exp \overline{|\ln \hat x / x|}`; *clean* scores the quantities on which two or more
  independent sources were found.
- The ratio to the free power law is paired, :math:`\exp(\overline{|e|} - \overline{|e_{power}|})`; its 95 %
  interval resamples species, all of a species' quantities together.
- A 90 % interval is :math:`\mu \pm 1.645 \sqrt{\sigma^2 + s^2}`, with the sources' own noise :math:`s`.
- *Few-shot*: three quantities of the target are told; only the others are scored, against the same quantities
  by the power law.
- The floor is what a perfect model would score against a consensus with noise s: :math:`\overline{s
  \sqrt{2/\pi}}`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from allometry.clade import leave_one_out
from allometry.consensus import Consensus, consensus
from allometry.hierarchical import Normal
from allometry.mammals import Mammals, load_mammals
from allometry.neural import NeuralAllometry
from allometry.power import fixed_exponents
from allometry.species import QUANTITIES, decode
from allometry.taxonomy import TAXA
from pbpk.physiology import Physiology

Z90 = 1.6448536269514722
FEW: dict[str, tuple[str, ...]] = {
    "brain, liver, cardiac output": ("M_brain", "M_liver", "CO"),
    "what the model is least sure of": (),
}
_KNOWN_SD = 0.05  # of ln of a quantity that is told [ours]
_BALANCE_BW = (0.01, 0.1, 1.0, 10.0, 100.0, 500.0)  # kg
_HEADS = ("brain", "BMR")


@dataclass(frozen=True)
class Score:
    """The errors of one model.

    Attributes:
        model: Its name.
        seed: Of its training; -1 where nothing is random.
        mean: The logarithms foretold, with shape (s, q).
        sd: Their standard deviation, with shape (s, q); NaN where the model gives none.
    """

    model: str
    seed: int
    mean: Tensor
    sd: Tensor


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        known: The consensus.
        scores: Of each model and seed.
        few: Of each way to choose three quantities, which were told of each species, and the errors of the
            neural model with them, shape (s, q); NaN where not scored.
        mammals: By head, the number of species, AAFE of the power law and of the clade model, coverage.
        balance: The largest relative error of a sum of masses, and of flows.
        draws: Of the bootstrap.
    """

    known: Consensus
    scores: tuple[Score, ...]
    few: Mapping[str, tuple[list[tuple[str, ...]], Tensor]]
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
        return pd.DataFrame(rows)

    def few_shot(self) -> list[dict[str, object]]:
        """Returns the scores of the few-shot ways."""
        base = self.error(self.of("free power law")[0])
        free = self.error(self.of("graph")[0])
        rows: list[dict[str, object]] = []
        for way, (told, error) in self.few.items():
            rest = torch.isfinite(error)
            error = error.nan_to_num()
            low, high = _bootstrap(error, base, rest, self.draws)
            rows.append(
                {
                    "told": way,
                    "of each": [list(names) for names in told],
                    "AAFE of the others": _mean(error, rest),
                    "the same, nothing told": _mean(free, rest),
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
        shown = self.table.drop(columns=["seed"]) if (self.table.seed < 1).all() else self.table
        ninety = [name for name in shown if name.endswith(" 90")]
        covered = shown.drop(columns=["AAFE", "ratio", "low", "high", "clean", *self.known.species])
        covered = covered.rename(columns=lambda name: name.removesuffix(" 90"))
        lines = ["ratio to the free power law, its 95 % interval over species, and by species held out"]
        lines += [_plain(shown.drop(columns=ninety)), "", "share inside the 90 % interval"]
        lines += [_plain(covered.dropna()), ""]
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

    def numbers(self) -> dict[str, object]:
        """Returns every score, for a JSON file."""
        return {
            "species": list(self.known.species),
            "scored": int(self.known.scored.sum()),
            "clean": int((self.known.count > 1).sum()),
            "models": [_without_nan(row) for row in self.table.to_dict("records")],
            "ablation": self.ablation(),
            "few_shot": self.few_shot(),
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
    scores = [*power_scores(known), _score("hierarchical", -1, known, _foretell(shipped, "hierarchical"))]
    scores += [
        _score(name, seed, known, _foretell(model, "neural")) for (name, seed), model in models.items()
    ]
    few = {way: _few(known, shipped, names) for way, names in FEW.items()}
    mammals = {} if folder is None else {h: _mammals(load_mammals(folder)[h]) for h in _HEADS}
    return Evaluation(known, tuple(scores), few, mammals, balance(shipped), draws)


def power_scores(known: Consensus) -> list[Score]:
    """Scores the laws without a prior: nearest species, fixed and free exponents."""

    def free(fold: Consensus, x: Tensor) -> tuple[Tensor, Tensor]:
        return _line(fold, x, None)

    def fixed(fold: Consensus, x: Tensor) -> tuple[Tensor, Tensor]:
        return _line(fold, x, fixed_exponents())

    def switch(fold: Consensus, x: Tensor) -> tuple[Tensor, Tensor]:
        near = (fold.x - x).abs().unsqueeze(-1).where(torch.isfinite(fold.sd), torch.inf).argmin(0)
        at = torch.arange(len(QUANTITIES))
        mean = fold.y[near, at] + fixed_exponents() * (x - fold.x[near])
        return mean, torch.full_like(mean, torch.nan)

    laws = {"nearest species": switch, "fixed exponents": fixed, "free power law": free}
    return [_power_score(known, name, law) for name, law in laws.items()]


def _power_score(
    known: Consensus, name: str, law: Callable[[Consensus, Tensor], tuple[Tensor, Tensor]]
) -> Score:
    every = range(len(known.x))
    pairs = [law(known[[j for j in every if j != i]], known.x[i]) for i in every]
    return Score(name, -1, torch.stack([mean for mean, _ in pairs]), torch.stack([sd for _, sd in pairs]))


def _line(fold: Consensus, x: Tensor, exponent: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns the least-squares line of each quantity at x, and the deviation of a new species from it."""
    w = torch.isfinite(fold.sd).double()
    n = w.sum(0)
    mean_x, mean_y = (w * fold.x.unsqueeze(-1)).sum(0) / n, (w * fold.y).sum(0) / n
    dx, dy = w * (fold.x.unsqueeze(-1) - mean_x), w * (fold.y - mean_y)
    spread = (dx**2).sum(0)
    b = (dx * dy).sum(0) / spread if exponent is None else exponent
    free = n - (2 if exponent is None else 1)
    variance = ((dy - b * dx) ** 2).sum(0) / free
    more = 1.0 + 1.0 / n + (0.0 if exponent is not None else (x - mean_x) ** 2 / spread)
    student = torch.tensor([_T90[int(k)] for k in free]) / Z90
    return mean_y + b * (x - mean_x), student * (variance * more).sqrt()


_T90 = {3: 2.3534, 4: 2.1318, 5: 2.0150, 6: 1.9432}  # Student's t at 95 %, one-sided: standard tables


def _foretell(model: NeuralAllometry, kind: str) -> Callable[[str, float], Normal]:
    return lambda name, BW: model.predict(name, BW, model=kind)


def _score(name: str, seed: int, known: Consensus, foretell: Callable[[str, float], Normal]) -> Score:
    normals = [foretell(s, x.exp().item()) for s, x in zip(known.species, known.x, strict=True)]
    q = len(QUANTITIES)
    mean, sd = (torch.stack([getattr(normal, part)[:q] for normal in normals]) for part in ("mean", "sd"))
    # the power laws' spread holds the sources' noise already; here it is added where the score is taken
    return Score(name, seed, mean, (sd**2 + known.sd.nan_to_num(posinf=0.0) ** 2).sqrt())


def _few(
    known: Consensus, model: NeuralAllometry, names: tuple[str, ...]
) -> tuple[list[tuple[str, ...]], Tensor]:
    """Returns what is told of each species, and the absolute errors of what is not; NaN where not scored."""
    told, errors = [], torch.full(known.y.shape, torch.nan, dtype=torch.float64)
    for i, (species, x) in enumerate(zip(known.species, known.x.tolist(), strict=True)):
        open_ = model.predict(species, math.exp(x), closing=False)
        own = names or _least_sure(open_, known.scored[i])
        at = {name: QUANTITIES.index(name) for name in own}
        normal = open_.given({n: (known.y[i, j].item(), _KNOWN_SD) for n, j in at.items()}).closed(x)
        error = (normal.mean[: len(QUANTITIES)] - known.y[i]).abs()
        rest = known.scored[i].clone()
        rest[list(at.values())] = False
        errors[i, rest] = error[rest]
        told.append(own)
    return told, errors


def _least_sure(normal: Normal, scored: Tensor, count: int = 3) -> tuple[str, ...]:
    """Chooses, one after the other, what would lower the summed deviations most; it looks at no value."""
    chosen: list[str] = []
    for _ in range(count):
        left = [QUANTITIES[j] for j in scored.nonzero().squeeze(-1).tolist() if QUANTITIES[j] not in chosen]

        def after(name: str, normal: Normal = normal) -> float:
            told = normal.given({name: (normal.mean[QUANTITIES.index(name)].item(), _KNOWN_SD)})
            return told.sd[: len(QUANTITIES)][scored].sum().item()

        best = min(left, key=after)
        normal = normal.given({best: (normal.mean[QUANTITIES.index(best)].item(), _KNOWN_SD)})
        chosen.append(best)
    return tuple(chosen)


def _mammals(table: Mammals) -> tuple[int, float, float, float]:
    error, sd = leave_one_out(table)
    design = torch.stack([torch.ones_like(table.x), table.x], -1)
    hat = design @ torch.linalg.pinv(design)
    line = (table.y - hat @ table.y) / (1.0 - hat.diagonal())
    inside = ((error / sd).abs() < Z90).double().mean().item()
    return len(table), line.abs().mean().exp().item(), error.abs().mean().exp().item(), inside


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
    return {str(name): None if value != value else value for name, value in row.items()}


def _plain(frame: pd.DataFrame) -> str:
    return frame.to_string(index=False, float_format=lambda value: f"{value:.3f}")


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
    return pd.DataFrame(rows)
