"""What a Model offers on every rank, and what only on the rank that loaded it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.core.region import Region
from flexpie_mpi.model import Model

from .build import classifier, make, noise


def test_other_ranks_know_everything_but_large_data(loaded):
    root = loaded(classifier(16))
    other = Model.from_skeleton(root.skeleton())
    large = [value.name for value in root.graph.constants if root.is_stored(value.name)]
    small = [value.name for value in root.graph.constants if not root.is_stored(value.name)]
    assert large
    assert small
    for name in (*large, *small):
        assert other.weight_digest(name) == root.weight_digest(name)
        assert other.element_type(name) == onnx.TensorProto.FLOAT
    for name in small:
        assert np.array_equal(other.array(name), root.array(name))
    with pytest.raises(ModelError, match="only on the rank that loaded"):
        other.array(large[0])
    assert (other.name, other.proto.opset_import[0].version) == ("model", 17)
    assert other.proto.ir_version == root.proto.ir_version


def test_the_skeleton_is_small_and_says_nothing_of_places(loaded, tmp_path):
    model = loaded(classifier(64))
    assert len(model.skeleton()) < 20_000 < model.graph.weight_bytes
    assert str(tmp_path).encode() not in model.skeleton()


def test_store_reads_slices_of_folded_and_of_untouched_weights(loaded):
    proto = make(
        [("MatMul", ["x", "w"], ["y"]), ("Add", ["y", "v"], ["z"])],
        {"x": (1, 200)},
        ["z"],
        {"w": noise(200, 200), "v": noise(40, 200)},
    )
    model = loaded(proto)
    for name in ("w", "v"):
        part = model.store.read(name, Region(((3, 30), (100, 200))))
        assert np.array_equal(part, {"w": noise(200, 200), "v": noise(40, 200)}[name][3:30, 100:200])


def test_types_of_computed_values(loaded):
    proto = make([("Cast", ["x"], ["c"])], {"x": (2, 3)}, ["c"], dtypes={"c": onnx.TensorProto.FLOAT16})
    proto.graph.node[0].attribute.add(name="to", type=onnx.AttributeProto.INT, i=onnx.TensorProto.FLOAT16)
    model = loaded(proto)
    assert model.element_type("c") == onnx.TensorProto.FLOAT16
    assert model.graph.value("c").dtype == "float16"
    assert [dim.dim_value for dim in model.type_proto("c").tensor_type.shape.dim] == [2, 3]
