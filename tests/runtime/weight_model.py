"""A model with constants of several element types, and slices of it that a job of any size needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flexpie_mpi.core.region import Region, split
from flexpie_mpi.model import Model
from flexpie_mpi.model.read import read_source
from flexpie_mpi.model.weights import WeightStore

Slice = tuple[str, Region | None]

SHAPES = {"filter": (40, 8, 3, 3), "matrix": (64, 96), "bytes": (50, 41), "brain": (60, 20), "nibbles": (33, 65)}
_TYPES = {"bytes": TensorProto.INT8, "brain": TensorProto.BFLOAT16, "nibbles": TensorProto.INT4}


def write(path: Path) -> Path:
    """The model file, the same on every call."""
    rng = np.random.default_rng(7)
    tensors = [numpy_helper.from_array(rng.standard_normal(3, np.float32), "small")]
    for name, shape in SHAPES.items():
        data_type = _TYPES.get(name, TensorProto.FLOAT)
        array = rng.integers(-8, 8, shape) if data_type != TensorProto.FLOAT else rng.standard_normal(shape)
        dtype = helper.tensor_dtype_to_np_dtype(data_type)
        tensors.append(numpy_helper.from_array(array.astype(np.float32).astype(dtype), name))
    outputs = [helper.make_tensor_value_info(f"{t.name}_out", t.data_type, t.dims) for t in tensors]
    nodes = [helper.make_node("Identity", [t.name], [f"{t.name}_out"]) for t in tensors]
    graph = helper.make_graph(nodes, "weights", [], outputs, initializer=tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def on_rank(rank: int, path: Path, root: int) -> Model:
    """The model with its weights on the root and without on the others."""
    source = read_source(path, threshold=1024)
    return Model.from_proto(source.proto, WeightStore(source.stored) if rank == root else None)


def needed(rank: int, size: int) -> list[Slice]:
    """What a rank needs: a part of its own, parts that it shares with others, whole constants, and a small one."""
    rows, columns = split(SHAPES["filter"][0], size, rank), split(SHAPES["matrix"][1], size, rank)
    slices: list[Slice] = [
        ("small", None),
        ("filter", Region.full(SHAPES["filter"]).with_axis(0, rows)),
        ("matrix", Region.full(SHAPES["matrix"]).with_axis(1, columns)),
        ("bytes", Region.full(SHAPES["bytes"])),
    ]
    shared = Region(((3, 40), (5, 90)))
    return slices + ([("matrix", shared), ("brain", None), ("nibbles", None)] if rank != size // 2 or size == 1 else [])


def expected_bytes(path: Path, constant: str, region: Region | None) -> bytes:
    """Raw data of a slice, from the file itself."""
    tensor = next(t for t in onnx.load(path).graph.initializer if t.name == constant)
    if region is None:
        return tensor.raw_data
    array = numpy_helper.to_array(tensor)
    return np.ascontiguousarray(array[region.slices(Region.full(array.shape))]).tobytes()
