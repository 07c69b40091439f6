"""The trees, and the features they see."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie_mpi.cost import features
from flexpie_mpi.cost.forest import Forest
from flexpie_mpi.cost.gbdt import Lesson, best_rounds, train
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.cost.samples import folds
from tests.cost import laws

SIGNS = (0, 1, 0)


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    """Each category has its level, the second column only ever raises, the third says nothing."""
    rng = np.random.default_rng(0)
    columns = np.column_stack((rng.integers(0, 3, 600), rng.uniform(0, 4, 600), rng.uniform(0, 1, 600)))
    return Lesson(columns, columns[:, 0] * 0.3 + np.floor(columns[:, 1]) * 0.2, np.ones(600), SIGNS)


def test_a_forest_learns_and_is_the_same_on_every_run(lesson):
    one, other = train(lesson, 200), train(lesson, 200)
    assert one == other and one.rounds == 200
    assert np.abs(one.predict(lesson.features) - lesson.target).mean() < 0.03
    assert np.array_equal(Forest(one.text).predict(lesson.features), one.predict(lesson.features))
    assert one.predict(lesson.features[:0]).shape == (0,)


def test_a_sign_is_kept_whatever_the_data_say(lesson):
    falling = Lesson(lesson.features, -lesson.target, lesson.weights, SIGNS)
    grid = np.column_stack((np.zeros(50), np.linspace(0, 4, 50), np.full(50, 0.5)))
    assert (np.diff(train(falling, 60).predict(grid)) >= 0).all()
    assert (
        np.diff(train(Lesson(lesson.features, -lesson.target, lesson.weights, (0, 0, 0)), 60).predict(grid)) < 0
    ).any()


def test_rounds_follow_what_was_left_out(lesson):
    group = np.arange(600)
    assert best_rounds(lesson, folds(group, 4)) > 20
    noise = Lesson(lesson.features, np.random.default_rng(1).standard_normal(600), lesson.weights, SIGNS)
    assert best_rounds(noise, folds(group, 4)) < 5
    nothing = Lesson(lesson.features, np.zeros(600), lesson.weights, SIGNS)
    assert best_rounds(nothing, folds(group, 4)) == 0


def test_every_table_of_features_has_the_columns_it_names():
    rng, prior, one = np.random.default_rng(0), AnalyticCost(), np.ones(30)
    work = laws.work(30, rng)
    found = {
        "COMPUTE": features.features_of("compute", work, one, prior, ("Conv", "Conv/1x1")),
        "CALL": features.features_of("call", laws.calls(30, rng), one, prior),
        "EXCHANGE": features.features_of("exchange", laws.transfers(30, rng), one, prior),
    }
    for name, matrix in found.items():
        assert matrix.shape == (30, len(getattr(features, name))) and np.isfinite(matrix).all()
    codes = {b"Conv": 0, b"Conv/1x1": 1}
    assert found["COMPUTE"][:, 0].tolist() == [codes.get(op, -1) for op in work["op"]]


def test_features_of_nothing_at_all_are_finite():
    row = np.zeros(1, laws.WORK)
    assert np.isfinite(features.features_of("compute", row, np.ones(1), AnalyticCost(), ())).all()
    assert np.isfinite(features.features_of("call", np.zeros(1, laws.CALL), np.ones(1), AnalyticCost())).all()
    assert np.isfinite(features.features_of("exchange", np.zeros(1, laws.TRANSFER), np.ones(1), AnalyticCost())).all()


@pytest.mark.parametrize(("channels", "waste"), [(1, 16.0), (16, 1.0), (17, 32 / 17), (48, 1.0)])
def test_waste_is_what_filling_the_last_block_adds(channels, waste):
    row = np.zeros(1, laws.WORK)
    row["out_channels"] = channels
    matrix = features.features_of("compute", row, np.ones(1), AnalyticCost(), ())
    assert matrix[0, list(features.COMPUTE).index("out_waste_16")] == pytest.approx(waste)
