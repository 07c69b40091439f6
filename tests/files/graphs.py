"""Graphs that consist of inputs only: all that this room looks at."""

from __future__ import annotations

from flexpie_mpi.core.graph import Graph, Value


def graph_of(**inputs: tuple[str, tuple[int, ...] | None]) -> Graph:
    """A graph with the given inputs, each a (dtype, shape)."""
    values = {name: Value(name, shape, dtype) for name, (dtype, shape) in inputs.items()}
    return Graph("inputs only", (), values, tuple(values), ())
