from __future__ import annotations

import numpy as np
import pytest

from flexpie_mpi.report.run import top_scores


def test_the_five_best_come_in_order():
    scores = np.array([[0.1, 5.0, -2.0, 3.0, 4.0, 4.5, 1.0]], np.float32)
    assert [index for index, _ in top_scores({"y": scores})["y"]] == [1, 5, 4, 3, 6]


@pytest.mark.parametrize("shape", [(8,), (1, 8), (1, 8, 1, 1)])
def test_score_vectors(shape):
    assert top_scores({"y": np.arange(8.0).reshape(shape)})["y"][0] == (7, 7.0)


@pytest.mark.parametrize("shape", [(), (4,), (1, 4), (2, 8), (1, 8, 2, 2), (1, 1, 8), (1, 3, 8, 8), (8, 1)])
def test_everything_else_is_none(shape):
    assert top_scores({"y": np.ones(shape)}) == {}


@pytest.mark.parametrize("value", [np.array(["a"] * 8), np.ones(8, bool), [1.0] * 8, {"a": 1}])
def test_only_numbers_are_scores(value):
    assert top_scores({"y": value}) == {}


def test_ties_keep_their_order_and_nan_comes_last():
    assert [index for index, _ in top_scores({"y": np.array([1.0, np.nan, 1.0, 1.0, 1.0, 1.0])})["y"]] == [
        0,
        2,
        3,
        4,
        5,
    ]
