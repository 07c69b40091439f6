"""What a request brings, before anything is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import DataError
from ..core.graph import Graph


def check_inputs(graph: Graph, inputs: Mapping[str, Any]) -> None:
    """Raise a DataError unless these are a graph's inputs, each a tensor of its shape and type.

    numpy would stretch or convert others silently.
    """
    missing = [name for name in graph.inputs if name not in inputs]
    if missing:
        raise DataError(f"input '{missing[0]}' is missing: the model needs {', '.join(graph.inputs)}")
    for name in graph.inputs:
        value, array = graph.value(name), inputs[name]
        if value.is_opaque:
            continue
        shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", None)
        if shape != value.shape or str(dtype) != value.dtype:
            raise DataError(
                f"input '{name}' is {type(array).__name__} of shape {shape} and type {dtype}: "
                f"the model takes {value.shape} {value.dtype}"
            )
