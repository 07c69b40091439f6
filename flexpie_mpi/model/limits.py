"""How many nodes a model may have once its functions are inlined: a few kilobytes of calls can stand for billions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import onnx

from ..errors import ModelError
from .tidy import subgraphs

MOST_NODES = 200_000
"""The largest models in use have a tenth of it."""

_Key = tuple[str, str, str]


def check_counts(proto: onnx.ModelProto) -> None:
    """Check that a model has no more than `MOST_NODES` nodes, calls of its functions counted as what they stand for.

    Raises
    ------
    ModelError
        When it has more, or a function calls itself.
    """
    functions = {(item.domain, item.name, item.overload): item for item in proto.functions}
    calls = {key: [*_calls(item.node)] for key, item in functions.items()}
    sizes: dict[_Key, int] = {}
    try:
        order = tuple(
            TopologicalSorter({key: set(called) & functions.keys() for key, called in calls.items()}).static_order()
        )
    except CycleError as error:
        raise ModelError(
            f"The model's function '{error.args[1][0][1]}' calls itself, directly or through others."
        ) from error
    for key in order:
        sizes[key] = _size(calls[key], sizes)
    count = _size(_calls(proto.graph.node), sizes)
    if count > MOST_NODES:
        raise ModelError(f"The model has {count} nodes, and {MOST_NODES} are the most that are run.")


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[_Key]:
    """What nodes, and those of graphs inside them, would be the calls of."""
    for node in nodes:
        yield node.domain, node.op_type, node.overload
        for graph in subgraphs(node):
            yield from _calls(graph.node)


def _size(calls: Iterable[_Key], sizes: dict[_Key, int]) -> int:
    return sum(sizes.get(key, 1) for key in calls)
