"""Random inputs for a model whose user gives none: the same seed, the same numbers, on every machine."""

from __future__ import annotations

import numpy as np

from ..core.errors import DataError
from ..core.graph import ITEM_BYTES, Graph, Value


def random_inputs(graph: Graph, seed: int = 0, request: int = 0) -> dict[str, np.ndarray]:
    """One array per input of the graph, by name.

    Floats are standard normal. Integers of 8 bits, which hold pixels and quantised numbers, cover their whole range;
    wider ones, which hold positions and token ids, are 0 or 1, so that they are valid for a table of any length. Every
    request of a stream has numbers of its own, which depend on the seed and its number alone. Raises DataError when an
    input has no static shape or a type that cannot be made up, or the seed is negative.
    """
    if seed < 0:
        raise DataError(f"the seed of random inputs is {seed}: give 0 or more")
    # A stream per input: one input keeps its numbers when another changes its shape.
    sequence = np.random.SeedSequence(seed, spawn_key=(request,) if request else ())
    streams = sequence.spawn(len(graph.inputs))
    values = [graph.value(name) for name in graph.inputs]
    return {
        value.name: _random(value, np.random.default_rng(stream)) for value, stream in zip(values, streams, strict=True)
    }


def _random(value: Value, generator: np.random.Generator) -> np.ndarray:
    if value.shape is None or value.dtype not in ITEM_BYTES:
        what = "no static shape (give it one)" if value.shape is None else f"type {value.dtype}"
        raise DataError(f"input '{value.name}' has {what}, so no random values can be made for it: give a file")
    dtype = np.dtype(value.dtype)
    if dtype.kind == "f":
        return generator.standard_normal(value.shape).astype(dtype)
    if dtype.kind == "b":
        return generator.integers(0, 2, value.shape).astype(dtype)
    limits = np.iinfo(dtype)
    low, high = (limits.min, limits.max + 1) if dtype.itemsize == 1 else (0, 2)
    return generator.integers(low, high, value.shape, dtype=dtype)
