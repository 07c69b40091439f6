"""Models of one node, built in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


def model(
    op: str,
    inputs: Sequence[tuple[int, ...] | np.ndarray | None],
    opset: int = 17,
    outputs: Sequence[Any] = (None,),
    dtype: str = "float32",
    out_dtypes: Mapping[int, str] | None = None,
    shapes: Sequence[tuple[int, ...]] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model with one node `op`.

    Inputs are a shape (an input of the model of type `dtype`), an array (an initializer) or None (absent). `shapes`
    are those of the outputs, where shape inference does not find them.
    """
    names, infos, weights = [], [], []
    for place, item in enumerate(inputs):
        names.append("" if item is None else f"in{place}")
        if isinstance(item, np.ndarray):
            weights.append(numpy_helper.from_array(item, names[-1]))
        elif item is not None:
            infos.append(helper.make_tensor_value_info(names[-1], _element(dtype), item))
    produced = [f"out{place}" if want is None or want else "" for place, want in enumerate(outputs)]
    results = [
        helper.make_tensor_value_info(
            name, _element((out_dtypes or {}).get(place, dtype)), shapes[place] if shapes else None
        )
        for place, name in enumerate(produced)
        if name
    ]
    node = helper.make_node(op, names, produced, name="node", **attributes)
    graph = helper.make_graph([node], "case", infos, results, initializer=weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _element(dtype: str) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def weights(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """Random weights."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    low, high = (0, 100) if np.dtype(dtype).kind == "u" else (-50, 50)
    return rng.integers(low, high, shape).astype(dtype)
