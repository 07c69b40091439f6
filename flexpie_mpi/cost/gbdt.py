"""Training of gradient-boosted trees that predict the logarithm of a factor. The only module that knows LightGBM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lightgbm
import numpy as np

from .forest import MOST_LEAVES, Forest

MOST_ROUNDS = 100
"""More would make a planner wait for its prices."""

_AS_GOOD, _WORTH_IT = 1.001, 0.99
"""Errors that are as good as the least; how much of the error without a forest may be left for one to be worth it."""

_STEADY = {"deterministic": True, "force_row_wise": True, "num_threads": 1, "seed": 1, "verbosity": -1}
_SHAPE = {
    "objective": "huber",
    "alpha": 0.05,
    "learning_rate": 0.2,
    "num_leaves": MOST_LEAVES - 1,
    "min_data_in_leaf": 5,
    "min_data_per_group": 5,
    "cat_smooth": 5.0,
    "lambda_l2": 1.0,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "monotone_constraints_method": "intermediate",
}
"""Small trees, many of them; errors above 5 % count by their size only: a disturbed measurement is one."""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What is to be learned."""

    features: np.ndarray  # float array (n, F). The first column is a category, -1 for none.
    target: np.ndarray  # float array (n,)
    weights: np.ndarray  # float array (n,)
    # How the target may change with each feature: 1, it never falls; -1, it never rises; 0, it may do either
    signs: Sequence[int]

    def part(self, rows: np.ndarray) -> Lesson:
        """Some of the rows."""
        return Lesson(self.features[rows], self.target[rows], self.weights[rows], self.signs)

    def dataset(self) -> lightgbm.Dataset:
        """As LightGBM wants it."""
        return lightgbm.Dataset(
            self.features, self.target, weight=self.weights, categorical_feature=[0], params={"verbosity": -1}
        )

    @property
    def parameters(self) -> dict[str, object]:
        """Of the training."""
        return {**_STEADY, **_SHAPE, "monotone_constraints": list(self.signs)}


def train(lesson: Lesson, rounds: int) -> Forest:
    """A forest of so many trees; the same on every run."""
    booster = lightgbm.train(lesson.parameters, lesson.dataset(), num_boost_round=rounds)
    return Forest(booster.model_to_string())


def best_rounds(lesson: Lesson, folds: np.ndarray) -> int:
    """How many trees predict best what was left out; 0 when no forest is better than none.

    `folds`, an int array (n,), has the fold of each row: rows that must be learned or left out together are in one.
    """
    curves = [_curve(lesson, folds == fold) for fold in np.unique(folds)]
    errors = np.sum(curves, axis=0)
    if errors.min() > errors[0] * _WORTH_IT:
        return 0
    # the curve is flat around its minimum: the first place that is as good makes the smallest forest
    return int(np.argmax(errors <= errors.min() * _AS_GOOD))


def _curve(lesson: Lesson, left_out: np.ndarray) -> np.ndarray:
    """Sum of weighted absolute errors on the rows left out, by number of trees from 0 on."""
    train_part, test = lesson.part(~left_out), lesson.part(left_out)
    seen: dict[str, dict[str, list[float]]] = {}
    dataset = train_part.dataset()
    lightgbm.train(
        train_part.parameters | {"metric": "l1"},
        dataset,
        num_boost_round=MOST_ROUNDS,
        valid_sets=[dataset.create_valid(test.features, test.target, weight=test.weights)],
        valid_names=["left out"],
        callbacks=[lightgbm.record_evaluation(seen), lightgbm.early_stopping(50, verbose=False)],
    )
    total = test.weights.sum()
    curve = np.array([np.abs(test.target) @ test.weights / total, *seen["left out"]["l1"]])
    padded = np.concatenate((curve, np.full(MOST_ROUNDS + 1 - len(curve), curve[-1])))
    return padded * total
