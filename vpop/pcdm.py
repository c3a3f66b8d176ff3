r"""The physiologically constrained diffusion model: `fit` on a cohort, then `sample` cohorts.

people (sex, race, age) -> diffusion in normal scores -> coordinates -> lawful bodies

The diffusion learns how the coordinates of :mod:`vpop.coordinates` hang together; the coordinates see to
it that whatever it draws obeys physiology, exactly, without a penalty and without a correction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.physiology import RACES, Cohort, Physiology
from vpop import demographics, growth, marginals, weights
from vpop.calibration import Calibration, Population
from vpop.coordinates import NAMES, WHO, Coordinates, blank
from vpop.demographics import OLDEST, Demographics
from vpop.denoise import Denoiser, loss
from vpop.growth import Growth
from vpop.marginals import Marginals
from vpop.modulation import alike, tabulated
from vpop.organ_layer import lawful
from vpop.request import Request
from vpop.sample import STEPS, noise_levels, solve
from vpop.standing import Standing, evened
from vpop.weights import Weights

CHUNK = 2048  # people drawn at once; part of what a seed means
BLOCK = 512  # people whom the network sees at once, in an order in which neighbours are alike
FEWEST = 50  # people below which a fit is refused
PATIENCE = 100  # chunks without one success before a request is given up

Progress = Callable[[int, int], None]


@dataclass
class Training:
    """How the network is trained.

    Attributes:
        updates: The number of gradient steps.
        batch: People per step.
        rate: The highest learning rate; it rises over 2 % of the steps and falls along a cosine.
        memory: The decay of the moving average of the weights, which is what is kept.
        calibration: How many people are drawn to calibrate the draws.
    """

    updates: int = 8_000
    batch: int = 1024
    rate: float = 2e-3
    memory: float = 0.999
    calibration: int = 150_000


@dataclass
class PCDM:
    """Draws virtual people.

    Arguments:
        width: The width of the denoiser.
        depth: The number of its residual blocks.
        training: How it is trained.
        seed: The seed of the training.

    Attributes:
        card: What is known of the fit: data, size, versions; stored with the weights.
    """

    width: int = 192
    depth: int = 3
    training: Training = field(default_factory=Training)
    seed: int = 0
    card: dict[str, Any] = field(default_factory=dict)

    def fit(self, cohort: Cohort, weights: Tensor | None = None, progress: Progress | None = None) -> PCDM:
        """Learns a population from a cohort of complete, lawful bodies.

        Arguments:
            cohort: The bodies; those that break a law cannot be written in coordinates and are left out.
            weights: How many people each body stands for, with shape :math:`(n)`.
            progress: Called with the number of updates done and to do.

        Raises:
            ValueError: If fewer than 50 bodies can be used.
        """
        bodies = cohort.physiology
        weight = torch.ones_like(bodies.BW) if weights is None else weights
        good = lawful(bodies)
        self._enough(good)
        bodies, weight = bodies[good], weight[good]
        race = bodies.race if bodies.race is not None else torch.full(bodies.shape, -1)
        self.coordinates = Coordinates.fit(bodies, weight)
        free = self.coordinates.encode(bodies)
        usable = ~torch.isinf(free).any(-1) & torch.isfinite(free[:, NAMES.index("CO") :]).all(-1)
        self._enough(usable)
        bodies, free, weight, race = bodies[usable], free[usable], weight[usable], race[usable]
        self.demographics = Demographics.fit(bodies.sex, race, bodies.age, weight)
        who = {"sex": bodies.sex, "age": bodies.age}
        self.standing = Standing.fit(free, bodies.sex, bodies.age, weight)
        left = self.standing.encode(free, who)
        self.marginals = Marginals.fit(left, weight)
        self._train(self.marginals.encode(left), bodies, race, weight * evened(bodies.age, weight), progress)
        self._calibrate(Population(free, bodies.sex, bodies.age, weight))
        self.card |= {
            "bodies": int(usable.sum()),
            "left_out": len(cohort) - int(usable.sum()),
            "training": vars(self.training),
            "seed": self.seed,
            "reference": dict(cohort.provenance),
        }
        return self

    @staticmethod
    def _enough(usable: Tensor) -> None:
        if int(usable.sum()) < FEWEST:
            raise ValueError(
                f"PCDM.fit needs at least {FEWEST} complete bodies that obey the laws, but has "
                f"{int(usable.sum())} of {len(usable)}. Look at them with 'pbpk check'."
            )

    def _train(
        self, scores: Tensor, bodies: Physiology, race: Tensor, weights: Tensor, progress: Progress | None
    ) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = Denoiser(len(NAMES), self.width, self.depth)
        present = torch.isfinite(scores).float()
        clean = torch.nan_to_num(scores).float().clamp(-6, 6)
        people = network.describe(bodies.sex, race, bodies.age).float()
        plan = self.training
        optimiser = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, plan.rate, total_steps=plan.updates + 1, pct_start=0.02, cycle_momentum=False
        )
        average = torch.optim.swa_utils.AveragedModel(
            network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(plan.memory)
        )
        for update in range(plan.updates):
            rows = torch.multinomial(weights, plan.batch, replacement=True, generator=generator)
            value = loss(network, clean[rows], present[rows], people[rows], generator)
            optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            average.update_parameters(network)
            if progress is not None:
                progress(update + 1, plan.updates)
        network.load_state_dict(average.module.state_dict())
        self.network = network.requires_grad_(False).eval()

    @torch.no_grad()
    def _calibrate(self, reference: Population) -> None:
        """Learns how far the network's own draws are off the reference, from many of them."""
        generator = torch.Generator().manual_seed(self.seed)
        everyone: list[dict[str, Tensor]] = []
        drawn: list[Tensor] = []
        for _ in range(self.training.calibration // CHUNK + 1):
            people = self.demographics.draw(CHUNK, generator)
            unknown = torch.full((CHUNK, len(NAMES)), torch.nan, dtype=torch.float64)
            everyone.append(people)
            drawn.append(self._denoised(people, unknown, generator, STEPS))
        sex, age = (torch.cat([some[name] for some in everyone]) for name in ("sex", "age"))
        self.calibration = Calibration.fit(
            Population(torch.cat(drawn), sex, age, torch.ones_like(age)), reference
        )

    def _denoised(
        self, people: Mapping[str, Tensor], free: Tensor, generator: torch.Generator, steps: int
    ) -> Tensor:
        """Draws the network's coordinates for people, given those in ``free`` that are not NaN."""
        left = torch.nan_to_num(self.standing.encode(free, people))
        scores = self.marginals.encode(left).float()
        known = torch.isfinite(free).float()
        drawn = torch.randn(len(free), len(NAMES), generator=generator)
        levels = noise_levels(steps)
        for part in alike(people).split(BLOCK):
            who = {name: value[part] for name, value in people.items()}
            denoise = self._denoiser(who, scores[part], known[part], steps)
            drawn[part] = solve(denoise, drawn[part], levels)
        return self.standing.decode(self.marginals.decode(drawn.double()), people)

    def _denoiser(
        self, people: Mapping[str, Tensor], scores: Tensor, known: Tensor, steps: int
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Returns the network for some people of whom the scores that are not 0 in ``known`` are given."""
        table = tabulated(self.network, steps)
        rows = table.rows(people)
        described = self.network.describe(**people).float()

        nothing = not bool(known.any())

        def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
            if rows is not None and nothing:
                return self.network.estimate(noisy, sigma, table(sigma, rows))
            noisy = torch.where(known > 0, scores, noisy)
            if rows is not None:
                return self.network.estimate(noisy, sigma, table(sigma, rows), known)
            return self.network(noisy, sigma.expand(len(noisy), 1), described, known)

        return denoise

    def sample(
        self,
        n: int,
        seed: int = 0,
        age: tuple[float, float] = (0.0, OLDEST),
        sex: str | None = None,
        where: str | None = None,
        given: Mapping[str, float] | None = None,
        steps: int = STEPS,
        progress: Progress | None = None,
    ) -> Cohort:
        """Draws n people who meet a request.

        Arguments:
            n: The number of people.
            seed: The same seed and request give the same people; a larger n begins with those of a smaller.
            age: The closed range of ages [year].
            sex: ``"M"``, ``"F"`` or None for both.
            where: A request in the language of :mod:`vpop.where`; ``column == value`` is met exactly.
            given: Values that every person has exactly: height, BW, BMI, HCT, SCR, age.
            steps: The steps of the sampler.
            progress: Called with the number of people found and wanted.

        Returns:
            The cohort, with its origin in ``provenance``.

        Raises:
            ValueError: If the request is impossible, naming the bound that forbids it.

        >>> PCDM.load().sample(2, age=(18, 65), where="BMI >= 30").physiology.BMI.min() >= 30
        tensor(True)
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, but is {n}.")
        request = Request.make(age, sex, where, given)
        found: list[Physiology] = []
        count = 0
        for bodies in self._chunks(request, seed, steps):
            found.append(bodies)
            count += len(bodies.BW)
            if progress is not None:
                progress(min(count, n), n)
            if count >= n:
                break
        tensors = {name: torch.cat([getattr(b, name) for b in found])[:n] for name in found[0].tensors()}
        provenance = {
            "generator": "vpop PCDM",
            "version": metadata.version("vpop"),
            "seed": seed,
            "n": n,
            "conditions": request.text(),
            "asked": request.asked(),
            "weights": self.card.get("sha256", "in memory"),
        }
        return Cohort(Physiology("human", **tensors), np.arange(1, n + 1).astype(str), provenance)

    def _chunks(self, request: Request, seed: int, steps: int) -> Iterator[Physiology]:
        """Yields the people of each chunk who qualify; gives up when no one ever does."""
        empty = 0
        drawn = 0
        while True:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + drawn)
            people, given = request.people(self.demographics, self.coordinates, CHUNK, generator)
            drawn += 1
            bodies = self.draw_given(people, given, generator, steps) if len(people["age"]) else None
            if bodies is not None:
                bodies = bodies[torch.from_numpy(request.holds(bodies))]
            if bodies is None or not len(bodies.BW):
                empty += 1
                if empty >= PATIENCE:
                    raise request.too_rare(drawn * CHUNK)
                continue
            empty = 0
            yield bodies

    @torch.no_grad()
    def draw_given(
        self, people: dict[str, Tensor], given: dict[str, Tensor], generator: torch.Generator, steps: int
    ) -> Physiology:
        """Draws one body for each of the people with what is given; columns of shape (m,)."""
        known = self.calibration.undo(self.coordinates.known(blank(people), given), people)
        free = self.calibration.apply(self._denoised(people, known, generator, steps), people)
        return self.coordinates.decode(free, people, given)

    def save(self, path: str | Path) -> None:
        """Writes the weights as safetensors and beside them the card as JSON, both whole or neither."""
        charts = self.coordinates.charts
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {
            "standing": self.standing.table,
            "marginals": self.marginals.knots,
            "demographics": self.demographics.share,
            "growth": torch.stack([charts[name].quantiles for name in WHO]),
            "calibration": torch.stack([self.calibration.drawn, self.calibration.people]),
            "youngest": torch.tensor(self.coordinates.youngest, dtype=torch.float64),
        }
        settings = {"width": self.width, "depth": self.depth, "seed": self.seed}
        weights.write(path, Weights(tensors, settings, self.card), ",".join(NAMES))

    @classmethod
    def load(cls, path: str | Path | None = None) -> PCDM:
        """Reads a model, by default the one that ships with the package.

        Raises:
            ValueError: If the file is not a whole weights file of this version of the model.
        """
        file = Path(path if path is not None else str(resources.files("vpop") / "data" / "pcdm.safetensors"))
        tensors, settings, card = weights.read(file, ",".join(NAMES))
        if set(settings) != {"width", "depth", "seed"} or not all(type(v) is int for v in settings.values()):
            raise ValueError(f"weights must say width, depth and seed, but {file} says {settings}.")
        model = cls(settings["width"], settings["depth"], seed=settings["seed"], card=card)
        network = Denoiser(len(NAMES), model.width, model.depth)
        shapes: dict[str, tuple[int, ...]] = dict(_SHAPES)
        shapes |= {f"network.{name}": tuple(value.shape) for name, value in network.state_dict().items()}
        weights.check_shapes(tensors, shapes, file)
        charts = dict(zip(WHO, map(Growth, tensors.pop("growth")), strict=True))
        model.coordinates = Coordinates(charts, float(tensors.pop("youngest")))
        model.calibration = Calibration(*tensors.pop("calibration"))
        model.standing = Standing(tensors.pop("standing"))
        model.marginals = Marginals(tensors.pop("marginals"))
        model.demographics = Demographics(tensors.pop("demographics"))
        network.load_state_dict({name.removeprefix("network."): value for name, value in tensors.items()})
        model.network = network.requires_grad_(False).eval()
        return model


_CHART = (2, len(growth.KNOTS), len(growth.SCORES))
_SHAPES: Mapping[str, tuple[int, ...]] = {
    "standing": (2, 2, len(growth.KNOTS), len(NAMES)),
    "marginals": (len(NAMES), marginals.KNOTS),
    "demographics": (2, len(RACES), len(demographics.EDGES)),
    "growth": (len(WHO), *_CHART),
    "calibration": (2, len(WHO), *_CHART),
    "youngest": (),
}
