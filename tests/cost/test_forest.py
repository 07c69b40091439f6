"""Forests are predicted as LightGBM predicts them, to the last bit, and nothing else is taken for one."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from flexpie_mpi.core.errors import CostError
from flexpie_mpi.cost.forest import MOST_COLUMNS, MOST_LEAVES, MOST_TREES, Forest, ForestError
from flexpie_mpi.cost.gbdt import _SHAPE, _STEADY


def columns(rows: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """A category, then numbers of many sizes, with zeros and what is missing among them."""
    found = rng.standard_normal((rows, count)) * 10.0 ** rng.integers(-36, 6, count)
    found[rng.random(found.shape) < 0.1] = 0
    found[rng.random(found.shape) < 0.05] = np.nan
    found[:, 0] = rng.integers(-1, 50, rows)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_predictions_are_bitwise_those_of_lightgbm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen = columns(300, 8, rng)
    target = rng.standard_normal(300) + seen[:, 0] / 10 + np.nan_to_num(seen[:, 1])
    zeros = {"zero_as_missing": seed % 2 == 1}
    data = lightgbm.Dataset(seen, target, categorical_feature=[0], params={"verbosity": -1, **zeros})
    shape = {**_SHAPE, "monotone_constraints_method": "basic"}
    text = lightgbm.train({**_STEADY, **shape, **zeros}, data, num_boost_round=1 + 9 * seed).model_to_string()
    asked = np.concatenate((seen, columns(1500, 8, rng)))
    numbers = asked[:, 1:]
    for odd in (np.inf, -np.inf, -1e-36, 1.0000000180025095e-35, -0.0):
        numbers[rng.random(numbers.shape) < 0.02] = odd
    forest, booster = Forest(text), lightgbm.Booster(model_str=text)
    assert forest.rounds == booster.num_trees() and forest.columns == 8
    np.testing.assert_array_equal(forest.predict(asked), booster.predict(asked))
    np.testing.assert_array_equal(forest.predict(asked[:3]), forest.predict(asked)[:3])


GOOD = """tree
version=v4
num_class=1
num_tree_per_iteration=1
max_feature_idx=1

Tree=0
num_leaves=3
num_cat=1
split_feature=0 1
threshold=0 2.5
decision_type=1 2
left_child=-1 -2
right_child=1 -3
leaf_value=1 2 3
cat_boundaries=0 1
cat_threshold=5
is_linear=0

Tree=1
num_leaves=1
num_cat=0
leaf_value=0.5

end of trees
"""


def test_a_forest_that_can_be_followed_by_hand() -> None:
    asked = np.array([[0, 9], [2, 9], [1, 2.5], [1, 2.6], [-1, np.nan]])
    assert Forest(GOOD).predict(asked).tolist() == [1.5, 1.5, 2.5, 3.5, 2.5]
    assert Forest(GOOD).predict(asked[:0]).shape == (0,)
    with pytest.raises(ForestError, match="knows 2 columns"):
        Forest(GOOD).predict(asked[:, :1])


BAD = {
    "nothing": ("", "", "first line is not 'tree'"),
    "cut off": ("end of trees", "", "cut off"),
    "no leaves": ("num_leaves=3", "num_leaves=0", "'num_leaves' must be whole numbers from 1"),
    "many leaves": ("num_leaves=3", "num_leaves=2147483647", f"from 1 to {MOST_LEAVES}"),
    "more leaves than values": ("num_leaves=3", "num_leaves=4", "'leaf_value' must be 4 numbers"),
    "leaves in words": ("num_leaves=3", "num_leaves=three", "'num_leaves' must be whole"),
    "a cycle": ("right_child=1 -3", "right_child=0 -3", "no tree"),
    "a child of two": ("left_child=-1 -2", "left_child=-1 -1", "no tree"),
    "a node below itself": ("right_child=1 -3", "right_child=1 1", "no tree"),
    "a child outside": ("right_child=1 -3", "right_child=7 -3", "'right_child' must be whole numbers from -3 to 1"),
    "a leaf outside": ("left_child=-1 -2", "left_child=-1 -99", "'left_child' must be"),
    "a column outside": ("split_feature=0 1", "split_feature=0 2", "'split_feature' must be whole numbers from 0 to 1"),
    "a negative column": ("split_feature=0 1", "split_feature=-1 1", "'split_feature'"),
    "many columns": ("max_feature_idx=1", "max_feature_idx=999999999", f"from 0 to {MOST_COLUMNS - 1}"),
    "another decision": ("decision_type=1 2", "decision_type=1 77", "'decision_type'"),
    "a set outside": ("threshold=0 2.5", "threshold=1 2.5", "a set of categories that it does not have: 1 of 1"),
    "a set that ends before it begins": ("cat_boundaries=0 1", "cat_boundaries=1 0", "sets of categories"),
    "a large set": ("cat_boundaries=0 1", "cat_boundaries=0 999999", "'cat_boundaries'"),
    "an endless leaf": ("leaf_value=1 2 3", "leaf_value=1 inf 3", "'leaf_value' must be finite"),
    "a threshold that is no number": ("threshold=0 2.5", "threshold=0 nan", "'threshold' must be numbers"),
    "a key twice": ("is_linear=0", "num_leaves=3", "'num_leaves' twice"),
    "a key less": ("num_cat=1\n", "", "lacks 'num_cat'"),
    "linear leaves": ("is_linear=0", "is_linear=1", "linear in its leaves"),
    "a mean": ("version=v4", "average_output", "mean of its trees"),
    "several classes": ("num_class=1", "num_class=3", "'num_class'"),
    "trees out of order": ("Tree=1", "Tree=7", "out of order"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_forest_is_refused(name: str) -> None:
    old, new, sentence = BAD[name]
    assert old in GOOD
    with pytest.raises(ForestError, match=sentence) as caught:
        _ = Forest(GOOD.replace(old, new) if old else new).trees
    assert isinstance(caught.value, CostError) and "\n" not in str(caught.value)


def test_forests_have_an_end() -> None:
    trees = "".join(f"Tree={number}\nnum_leaves=1\nleaf_value=0\n\n" for number in range(MOST_TREES + 1))
    with pytest.raises(ForestError, match=f"more than {MOST_TREES}"):
        _ = Forest(f"{GOOD[: GOOD.index('Tree=0')]}{trees}end of trees\n").trees
