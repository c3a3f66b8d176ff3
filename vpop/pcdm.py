r"""The physiologically constrained diffusion model: `fit` on a cohort, then `sample` cohorts.

people (sex, race, age) -> diffusion in normal scores -> coordinates -> lawful bodies

The diffusion learns how the coordinates of :mod:`vpop.coordinates` hang together; the coordinates see to
it that whatever it draws obeys physiology, exactly, without a penalty and without a correction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pbpk.files import write_whole
from pbpk.physiology import Cohort, Physiology
from vpop.calibration import Calibration, Population
from vpop.coordinates import NAMES, WHO, Coordinates
from vpop.demographics import OLDEST, Demographics
from vpop.denoise import Denoiser, loss
from vpop.growth import Growth
from vpop.marginals import Marginals
from vpop.request import Request
from vpop.sample import STEPS, noise_levels, solve

FORMAT = "vpop-pcdm-1"
CHUNK = 1024  # people drawn at once; part of what a seed means
FEWEST = 50  # people below which a fit is refused
PATIENCE = 400  # chunks without one success before a request is given up

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
        weights = torch.ones_like(bodies.BW) if weights is None else weights
        race = bodies.race if bodies.race is not None else torch.full(bodies.shape, -1)
        self.demographics = Demographics.fit(bodies.sex, race, bodies.age, weights)
        self.coordinates = Coordinates.fit(bodies, weights)
        free = self.coordinates.encode(bodies)
        usable = ~torch.isinf(free).any(-1) & torch.isfinite(free[:, NAMES.index("CO") :]).all(-1)
        if int(usable.sum()) < FEWEST:
            raise ValueError(
                f"PCDM.fit needs at least {FEWEST} complete bodies that obey the laws, but has "
                f"{int(usable.sum())} of {len(cohort)}. Look at them with 'pbpk check'."
            )
        bodies, free, weights, race = bodies[usable], free[usable], weights[usable], race[usable]
        self.marginals = Marginals.fit(free, weights)
        self._train(self.marginals.encode(free), bodies, race, weights, progress)
        self._calibrate(Population(free, bodies.sex, bodies.age, weights))
        self.card |= {
            "bodies": int(usable.sum()),
            "left_out": int((~usable).sum()),
            "training": vars(self.training),
            "seed": self.seed,
            "reference": dict(cohort.provenance),
        }
        return self

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
        m = len(free)
        described = self.network.describe(**people).float()
        scores = self.marginals.encode(torch.nan_to_num(free)).float()
        known = torch.isfinite(free).float()

        def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
            noisy = torch.where(known > 0, scores, noisy)
            return self.network(noisy, sigma.expand(m, 1), described, known)

        noise = torch.randn(m, len(NAMES), generator=generator)
        return self.marginals.decode(solve(denoise, noise, noise_levels(steps)).double())

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
            people = request.people(self.demographics, CHUNK, generator)
            drawn += 1
            bodies = self._draw(people, request, generator, steps) if len(people["age"]) else None
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
    def _draw(
        self, people: dict[str, Tensor], request: Request, generator: torch.Generator, steps: int
    ) -> Physiology:
        """Draws one body for each of the people, which are columns of shape (m,)."""
        m = len(people["age"])
        given = {name: people["age"].new_full((m,), value) for name, value in request.given.items()}
        known = self.calibration.undo(request.known(self.coordinates, people, given), people)
        free = self.calibration.apply(self._denoised(people, known, generator, steps), people)
        return self.coordinates.decode(free, people, given)

    def save(self, path: str | Path) -> None:
        """Writes the weights as safetensors, whole or not at all, and beside them the card as JSON.

        The card travels inside the weights too; the one beside them is for people to read.
        """
        from safetensors.torch import save_file

        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {
            "marginals": self.marginals.knots,
            "demographics": self.demographics.share,
            "growth": torch.stack([self.coordinates.charts[name].quantiles for name in WHO]),
            "calibration": torch.stack([self.calibration.scale, self.calibration.shift]),
            "youngest": torch.tensor(self.coordinates.youngest, dtype=torch.float64),
        }
        header = {
            "format": FORMAT,
            "coordinates": ",".join(NAMES),
            "card": json.dumps({k: v for k, v in self.card.items() if k != "sha256"}),
        }
        header["settings"] = json.dumps({"width": self.width, "depth": self.depth, "seed": self.seed})
        with write_whole(path) as partial:
            save_file({name: value.contiguous() for name, value in tensors.items()}, partial, header)
        card = self.card | {"sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}
        with write_whole(Path(path).with_suffix(".json")) as partial:
            partial.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path | None = None) -> PCDM:
        """Reads a model, by default the one that ships with the package.

        Raises:
            ValueError: If the file is not a whole weights file of this version of the model.
        """
        from safetensors import SafetensorError, safe_open

        path = (
            Path(path)
            if path is not None
            else Path(str(resources.files("vpop") / "data" / "pcdm.safetensors"))
        )
        if not path.is_file():
            raise ValueError(f"weights must be a file, but {path} is not there.")
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"weights must be a whole safetensors file, but {path} is not ({error})."
            ) from None
        if header.get("format") != FORMAT or header.get("coordinates") != ",".join(NAMES):
            raise ValueError(
                f"weights must be of format {FORMAT} with this version's coordinates, but {path} is "
                f"{header.get('format', 'something else')!r}. Fit them anew with 'vpop fit'."
            )
        if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
            raise ValueError(f"weights must be finite, but {path} holds NaN or infinity; it is damaged.")
        model = cls(**json.loads(header["settings"]), card=json.loads(header["card"]))
        model._fill(tensors, path)
        model.card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return model

    def _fill(self, tensors: dict[str, Tensor], path: Path) -> None:
        try:
            charts = dict(zip(WHO, map(Growth, tensors.pop("growth")), strict=True))
            self.coordinates = Coordinates(charts, float(tensors.pop("youngest")))
            self.calibration = Calibration(*tensors.pop("calibration"))
            self.marginals = Marginals(tensors.pop("marginals"))
            self.demographics = Demographics(tensors.pop("demographics"))
            self.network = Denoiser(len(NAMES), self.width, self.depth).requires_grad_(False).eval()
            state = {name.removeprefix("network."): value for name, value in tensors.items()}
            self.network.load_state_dict(state)
        except (KeyError, RuntimeError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"weights must hold every tensor of the model, but {path} does not ({reason})."
            ) from None
