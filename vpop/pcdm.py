r"""The physiologically constrained diffusion model: `fit` on a cohort, then `sample` cohorts.

people (sex, race, age) -> diffusion in normal scores -> coordinates -> lawful bodies

The diffusion learns how the coordinates of :mod:`vpop.coordinates` hang together; the coordinates see to
it that whatever it draws obeys physiology, exactly, without a penalty and without a correction.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pbpk.checks import check_whole, choose
from pbpk.physiology import Cohort, Physiology, numbered
from vpop import stored, weights
from vpop.calibration import Calibration, Population
from vpop.compiled import kernels
from vpop.coordinates import NAMES, WHO, Coordinates, blank
from vpop.demographics import OLDEST, Demographics
from vpop.denoise import Denoiser, Guided
from vpop.distil import Distillation, distil, pairs
from vpop.drawing import Drawing
from vpop.marginals import Marginals
from vpop.organ_layer import lawful
from vpop.rare import Search
from vpop.request import Request
from vpop.sample import STEPS
from vpop.scores import many_steps, one_step
from vpop.standing import Standing, evened
from vpop.student import Student
from vpop.training import Examples, Progress, Training, denoising, descend, fresh
from vpop.transport import Transport
from vpop.weights import Weights

FEWEST = 50  # people below which a fit is refused
MOST_PEOPLE = 10_000_000  # more do not fit the memory
MOST_GUIDANCE = 10.0
STUDENT = Distillation(updates=3_000)


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
        student: Draws in one step, once taught by :meth:`distil`.
        guidance: How much is made of sex and race; set by :meth:`sample` for its own draws alone.
    """

    width: int = 128
    depth: int = 3
    training: Training = field(default_factory=Training)
    seed: int = 0
    card: dict[str, Any] = field(default_factory=dict)
    student: Student | None = field(default=None, init=False, repr=False)
    guidance: float = field(default=1.0, init=False, repr=False)

    def fit(
        self,
        cohort: Cohort,
        weights: Tensor | None = None,
        progress: Progress | None = None,
        start: PCDM | None = None,
    ) -> PCDM:
        """Learns a population from a cohort of complete, lawful bodies.

        Arguments:
            cohort: The bodies; those that break a law cannot be written in coordinates and are left out.
            weights: How many people each body stands for, with shape :math:`(n)`.
            progress: Called with the number of updates done and to do.
            start: A model of other people that learns on, on its own scales; None to learn from nothing.

        Raises:
            ValueError: If fewer than 50 bodies can be used.
        """
        bodies, weight = self._lawful(cohort, weights)
        self.coordinates: Coordinates = (
            Coordinates.fit(bodies, weight) if start is None else start.coordinates
        )
        bodies, free, weight = self._written(bodies, weight)
        who = _who(bodies)
        self.demographics = Demographics.fit(**who, weights=weight)
        self.standing: Standing = (
            Standing.fit(free, bodies.sex, bodies.age, weight) if start is None else start.standing
        )
        left = self.standing.encode(free, who)
        self.marginals: Marginals = Marginals.fit(left, weight) if start is None else start.marginals
        network = fresh(len(NAMES), self.width, self.depth, self.seed)
        if start is not None:
            self.width, self.depth = start.width, start.depth
            network = copy.deepcopy(start.network).train().requires_grad_(True)
        objective = denoising(network, self._examples(bodies, free, weight), self.training.batch)
        self.network: Denoiser = descend(network, objective, self.training, self.seed, progress)
        self.student = None
        self.transport, self.calibration = self._corrected(bodies, free, weight, STEPS)
        self.card |= {
            "bodies": len(free),
            "left_out": len(cohort) - len(free),
            "training": vars(self.training),
            "seed": self.seed,
            "reference": dict(cohort.provenance),
        }
        return self

    def distil(
        self,
        cohort: Cohort,
        weights: Tensor | None = None,
        plan: Distillation | None = None,
        progress: Progress | None = None,
    ) -> PCDM:
        """Teaches a student to draw in one step where the network's sampler ends: ``sample(..., steps=1)``.

        Arguments:
            cohort: The people that the network has learnt from.
            weights: How many people each body stands for, with shape :math:`(n)`.
            plan: How the student is trained; None for what is usual.
            progress: Called with the number of updates done and to do.
        """
        self._refuse_unfitted()
        plan = plan or STUDENT
        bodies, free, weight = self._written(*self._lawful(cohort, weights))
        generator = torch.Generator().manual_seed(self.seed)
        examples = self._examples(bodies, free, weight)
        shown = pairs(self.network, examples, _who(bodies), plan.pairs, generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            student = Student(len(NAMES))
        self.student = distil(student, shown, plan, self.seed, progress)
        self.student_transport, self.student_calibration = self._corrected(bodies, free, weight, 1)
        self.card |= {"student": vars(plan)}
        return self

    def _lawful(self, cohort: Cohort, weights: Tensor | None) -> tuple[Physiology, Tensor]:
        """Returns the bodies that break no law, with a race each, and their weights."""
        if not isinstance(cohort, Cohort):
            raise TypeError(
                f"cohort must be a Cohort, but is a {type(cohort).__name__}. pbpk.load_cohort reads a file."
            )
        bodies = cohort.physiology
        good = lawful(bodies)
        self._enough(good)
        race = bodies.race if bodies.race is not None else torch.full(bodies.shape, -1)
        weight = torch.ones_like(bodies.BW) if weights is None else weights
        return bodies.replace(race=race)[good], weight[good]

    def _written(self, bodies: Physiology, weight: Tensor) -> tuple[Physiology, Tensor, Tensor]:
        """Returns the bodies that can be written in coordinates, those coordinates, and the weights."""
        free = self.coordinates.encode(bodies)
        usable = ~torch.isinf(free).any(-1) & torch.isfinite(free[:, NAMES.index("CO") :]).all(-1)
        self._enough(usable)
        return bodies[usable], free[usable], weight[usable]

    def _examples(self, bodies: Physiology, free: Tensor, weight: Tensor) -> Examples:
        who = _who(bodies)
        scores = self.marginals.encode(self.standing.encode(free, who))
        described = Denoiser.describe(**who)
        return Examples.of(scores, described, weight * evened(bodies.age, weight), len(WHO))

    def _refuse_unfitted(self) -> None:
        if not hasattr(self, "network"):
            raise ValueError("PCDM must have learnt people first: call fit(cohort), or PCDM.load().")

    @staticmethod
    def _enough(usable: Tensor) -> None:
        if int(usable.sum()) < FEWEST:
            raise ValueError(
                f"PCDM.fit needs at least {FEWEST} complete bodies that obey the laws, but has "
                f"{int(usable.sum())} of {len(usable)}. Look at them with 'pbpk check'."
            )

    @torch.no_grad()
    def _corrected(
        self, bodies: Physiology, free: Tensor, weight: Tensor, steps: int
    ) -> tuple[Transport, Calibration]:
        """Learns how far a network's own draws are off the people, from many of them."""
        generator = torch.Generator().manual_seed(self.seed)
        n = self.training.calibration
        strangers = self.demographics.draw(n, generator)
        noise = torch.randn(n, len(NAMES), generator=generator)
        with kernels(None, n * steps):
            drawn = self._drawn(strangers, None, noise, steps).double()
        left = self.standing.decode(self.marginals.decode(drawn), strangers)
        who = _who(bodies)
        theirs = self.marginals.encode(self.standing.encode(free, who))
        ours = (strangers["sex"], strangers["age"], torch.ones(n, dtype=torch.float64))
        reference = (bodies.sex, bodies.age, weight)
        transport = Transport.fit(Population(drawn, *ours), Population(theirs, *reference))
        return transport, Calibration.fit(Population(left, *ours), Population(free, *reference))

    def _denoised(
        self, people: Mapping[str, Tensor], free: Tensor | None, noise: Tensor, steps: int
    ) -> Tensor:
        """Draws coordinates for people, given those in ``free`` that are not NaN, if any."""
        to_people = self.student_transport if steps == 1 else self.transport
        scores = to_people.apply(self._drawn(people, free, noise, steps), people).double()
        return self.standing.decode(self.marginals.decode(scores), people)

    def _drawn(self, people: Mapping[str, Tensor], free: Tensor | None, noise: Tensor, steps: int) -> Tensor:
        """Draws the scores of a network, or of the student where there is one step."""
        given = None
        if free is not None:
            left = torch.nan_to_num(self.standing.encode(free, people))
            given = self.marginals.encode(left).float(), torch.isfinite(free).float()
        if steps == 1:
            assert self.student is not None  # draw_from has seen to it
            return one_step(self.student, people, noise, given)
        network = self.network if self.guidance == 1.0 else Guided(self.network, self.guidance)
        return many_steps(network, people, noise, given, steps)

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
        compiled: bool | None = None,
        guidance: float = 1.0,
    ) -> Cohort:
        """Draws n people who meet a request.

        Arguments:
            n: The number of people.
            seed: The same seed and request give the same people; a larger n begins with those of a smaller,
                to rounding where more are drawn at once or compiled. Of a rare request only who may qualify
                is drawn in full (:mod:`vpop.rare`).
            age: The closed range of ages [year].
            sex: ``"M"``, ``"F"`` or None for both.
            where: A request in the language of :mod:`vpop.where`; ``column == value`` is met exactly.
            given: Values that all have exactly: age, height, BW, BMI, HCT, SCR, GFR, CO, FAT, M_liver, ...
            steps: The steps of the sampler; 1 for the student, which is several times faster.
            progress: Called with the number of people found and wanted.
            compiled: Whether compiled kernels run (extra ``fast``), which draw the same people to rounding;
                by default for so many people as repay loading them.
            guidance: How much is made of a person's sex and race (:class:`vpop.denoise.Guided`): 1 draws the
                population, more than 1 caricatures.

        Returns:
            The cohort, with its origin in ``provenance``.

        Raises:
            ValueError: If the request is impossible, naming the bound that forbids it.

        >>> PCDM.load().sample(2, age=(18, 65), where="BMI >= 30").physiology.BMI.min() >= 30
        tensor(True)
        """
        check_whole("n", n, 1, MOST_PEOPLE)
        for argument, value, least in (("seed", seed, 0), ("steps", steps, 1)):
            check_whole(argument, value, least)
        self._refuse_unfitted()
        request = Request.make(age, sex, where, given)
        seed = int(seed)
        model = self if guidance == 1.0 else self._guided(guidance, steps)
        found: list[Physiology] = []
        count = 0
        search = Search(Drawing(model, request, steps), seed, n)
        with kernels(compiled, n * steps):
            for bodies in search:
                found.append(bodies)
                count += len(bodies.BW)
                if progress is not None:
                    progress(min(count, n), n)
                if count >= n:
                    break
        tensors = {name: torch.cat([getattr(b, name) for b in found])[:n] for name in found[0].tensors()}
        origin = self._origin(request, n, seed, steps, guidance) | search.note()
        return Cohort(Physiology("human", **tensors), numbered(n), origin)

    def _origin(self, request: Request, n: int, seed: int, steps: int, guidance: float) -> dict[str, Any]:
        """Returns where people drawn for a request come from."""
        return {
            "generator": "vpop PCDM",
            "version": metadata.version("vpop"),
            "seed": seed,
            "steps": steps,
            "guidance": guidance,
            "n": n,
            "conditions": request.text(),
            "asked": request.asked(),
            "weights": self.card.get("sha256", "in memory"),
        }

    def _guided(self, weight: float, steps: int) -> PCDM:
        """Returns this model with a guided network, and without the student, who has seen none."""
        number = isinstance(weight, int | float)
        if not (number and 0.0 <= weight <= MOST_GUIDANCE) or steps == 1:
            raise ValueError(
                f"guidance must lie in [0, {MOST_GUIDANCE:g}] with 2 or more steps, but is {weight!r} with "
                f"steps {steps}. 1 draws the population, with any steps."
            )
        guided = copy.copy(self)
        guided.guidance, guided.student = weight, None
        return guided

    def draw_given(
        self, people: dict[str, Tensor], given: dict[str, Tensor], generator: torch.Generator, steps: int
    ) -> Physiology:
        """Draws one body for each of the people with what is given; columns of shape (m,)."""
        noise = torch.randn(len(people["age"]), len(NAMES), generator=generator)
        return self.draw_from(people, given, noise, steps)

    @torch.no_grad()
    def draw_from(
        self, people: dict[str, Tensor], given: Mapping[str, Tensor], noise: Tensor, steps: int
    ) -> Physiology:
        """Draws the body that comes of each person's noise, shape (m, d), as :meth:`draw_given` does."""
        return self.coordinates.decode(self.draw_free(people, given, noise, steps), people, given)

    @torch.no_grad()
    def draw_free(
        self, people: dict[str, Tensor], given: Mapping[str, Tensor], noise: Tensor, steps: int
    ) -> Tensor:
        """Draws the free numbers of those bodies, with shape (m, d)."""
        if steps < (2 if self.student is None else 1):
            raise ValueError(
                f"steps must be 2 or more, or 1 for a model with a student, but is {steps}. "
                "Teach a student with 'vpop fit --student'."
            )
        calibration = self.student_calibration if steps == 1 else self.calibration
        known = self.coordinates.known(blank(people), given) if given else None
        people = {**people, "age": people["age"].clamp(max=OLDEST)}  # no one older was learnt from
        if known is not None:
            known = calibration.undo(known, people)
        return calibration.apply(self._denoised(people, known, noise, steps), people)

    def save(self, path: str | Path) -> None:
        """Writes the weights as safetensors and beside them the card as JSON, both whole or neither.

        Raises:
            ValueError: If there is nothing to write, or the path is no ``.safetensors``.
        """
        self._refuse_unfitted()
        choose("the suffix of path", Path(path).suffix.lower(), [".safetensors"])
        settings = {"width": self.width, "depth": self.depth, "seed": self.seed}
        weights.write(path, Weights(stored.tensors_of(self), settings, self.card), ",".join(NAMES))

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
        stored.restore(model, tensors, file)
        return model


def _who(bodies: Physiology) -> dict[str, Tensor]:
    assert bodies.race is not None  # set by PCDM._lawful
    return {"sex": bodies.sex, "race": bodies.race, "age": bodies.age}
