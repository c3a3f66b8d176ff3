r"""Who was learnt from? Two attacks, from the people that a model draws.

By distance: people who were learnt from may lie nearer to drawn ones than others do.

By shadow models: an attacker has the people that a model draws, knows how it is trained, and has people of
the same kind. Shadow models are trained on parts of these; of each it is known who was in. From the distances
of a person to the nearest drawn people a classifier learns what having been in looks like, and is tried on
the people that the attacked model did and did not learn from.

The area under the curve is 0.5 where nothing leaks; for a model that copies its people it is near 1.

References:
    Shokri, Stronati, Song, Shmatikov (2017). Membership inference attacks. https://arxiv.org/abs/1610.05820
    Stadler, Oprisanu, Troncoso (2022). Synthetic data: anonymisation groundhog day.
    https://arxiv.org/abs/2011.07018
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vpop.columns import Sample, covariates
from vpop.nearest import nearest, scores
from vpop.two_sample import Interval, auc

NEIGHBOURS = 10

Draw = Callable[[Sample, int], Sample]


def by_distance(drawn: Sample, members: Sample, others: Sample, seed: int = 0) -> Interval:
    """Returns the AUC, with its 95 % interval, with which nearness to drawn people tells members from others.

    Arguments:
        drawn: People that a model draws.
        members: Real people from whom it may have learnt.
        others: Real people from whom it has not.
        seed: The seed of the interval.
    """
    tables = [covariates(sample.bodies) for sample in (drawn, members, others)]
    drawn_points, *points = (scores(table, tables[-1]) for table in tables)
    inside, outside = (-nearest(some, drawn_points)[:, 0] for some in points)
    return auc(outside, inside, others.weights, members.weights, seed)


def shadow_attack(people: Sample, draw: Draw, shadows: int = 4, seed: int = 0) -> Interval:
    """Attacks a model by shadows of it.

    Arguments:
        people: Real people, one body each; each model learns from a random half of them.
        draw: Trains a model on people and returns people that it draws, ``draw(people, seed)``.
        shadows: How many shadow models are trained beside the attacked one.
        seed: The seed of all choices.

    Returns:
        The AUC with which members are told from others, with its 95 % interval.

    Raises:
        ValueError: If there are fewer than 100 people: too few to learn the attack from.
    """
    if len(people) < 100:
        raise ValueError(f"people must be at least 100, but are {len(people)}: give more.")
    from sklearn.ensemble import RandomForestClassifier

    random = np.random.default_rng(seed)
    features, members = [], []
    for model in range(shadows + 1):
        inside = random.permutation(len(people)) < len(people) // 2
        features.append(closeness(people, draw(people[inside], seed + model)))
        members.append(inside)
    attack = RandomForestClassifier(200, min_samples_leaf=20, random_state=seed)
    attack.fit(np.concatenate(features[1:]), np.concatenate(members[1:]))
    score = attack.predict_proba(features[0])[:, 1]
    return auc(score[~members[0]], score[members[0]], seed=seed)


def closeness(people: Sample, drawn: Sample) -> np.ndarray:
    """Returns what the attacker sees of each person, with shape :math:`(n, 14)`.

    The logarithms of the distances to the nearest drawn people, on the columns that a survey measured, and
    how unusual the person is: distances to others of the attacker's own people.
    """
    table = covariates(people.bodies)
    points = scores(table, table)
    away = nearest(points, scores(covariates(drawn.bodies), table), NEIGHBOURS)
    usual = nearest(points, points, 5)[:, 1:]
    return np.log(np.concatenate([away, usual], 1) + 1e-3)
