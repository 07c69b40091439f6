"""Random inputs: the right shapes and ranges, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie_mpi.core.errors import DataError
from flexpie_mpi.core.graph import ITEM_BYTES
from flexpie_mpi.files.synthetic import random_inputs

from .graphs import graph_of

ALL = graph_of(**{dtype: (dtype, (3, 400)) for dtype in ITEM_BYTES})


def test_shapes_and_types() -> None:
    found = random_inputs(ALL)
    assert {name: array.dtype.name for name, array in found.items()} == {dtype: dtype for dtype in ITEM_BYTES}
    assert {array.shape for array in found.values()} == {(3, 400)}


def test_ranges() -> None:
    found = random_inputs(ALL, seed=1)
    for name in ("float16", "float32", "float64"):
        assert abs(found[name].mean()) < 0.15 and abs(found[name].std() - 1) < 0.15
    assert found["uint8"].min() < 10 and found["uint8"].max() > 245
    assert found["int8"].min() < -118 and found["int8"].max() > 117
    for name in ("int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"):
        assert set(np.unique(found[name]).tolist()) == {0, 1}


def test_the_seed_decides() -> None:
    one, again, other = random_inputs(ALL, 7), random_inputs(ALL, 7), random_inputs(ALL, 8)
    for name in ALL.inputs:
        np.testing.assert_array_equal(one[name], again[name])
        assert (one[name] != other[name]).any()


def test_an_input_keeps_its_numbers_when_another_changes() -> None:
    small = random_inputs(graph_of(a=("float32", (2,)), b=("float32", (5,))))
    large = random_inputs(graph_of(a=("float32", (200,)), b=("float32", (5,))))
    np.testing.assert_array_equal(small["b"], large["b"])


def test_scalars_and_empty_inputs() -> None:
    found = random_inputs(graph_of(a=("float32", ()), b=("int64", (0, 3)), c=("bool", ())))
    assert [array.shape for array in found.values()] == [(), (0, 3), ()]
    assert all(isinstance(array, np.ndarray) for array in found.values())


@pytest.mark.parametrize(
    ("dtype", "shape", "said"), [("float32", None, "static shape"), ("string", (2,), "type string")]
)
def test_what_cannot_be_made_up(dtype: str, shape: tuple[int, ...] | None, said: str) -> None:
    with pytest.raises(DataError, match=f"input 'x' has .*{said}"):
        random_inputs(graph_of(x=(dtype, shape)))


def test_a_negative_seed() -> None:
    with pytest.raises(DataError, match="seed of random inputs is -1"):
        random_inputs(ALL, -1)
