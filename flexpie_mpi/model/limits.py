"""What must hold of a message before anything walks over it: names are text, and nodes are not too many.

A few kilobytes of functions that call each other can stand for billions of nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import onnx

from ..core.errors import ModelError
from .tidy import subgraphs

MOST_NODES = 200_000
"""The largest models in use have a tenth of it."""

_Key = tuple[str, str, str]


def check_counts(proto: onnx.ModelProto) -> None:
    """Check that a model has no more than `MOST_NODES` nodes.

    Raises
    ------
    ModelError
        When it has more, or a function calls itself.
    """
    count = count_of(proto)
    if count > MOST_NODES:
        raise ModelError(f"The model has {count} nodes, and {MOST_NODES} are the most that are run.")


def count_of(proto: onnx.ModelProto) -> int:
    """Nodes of a model, calls of its functions counted as what they stand for.

    Raises
    ------
    ModelError
        When a function calls itself.
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
    return _size(_calls(proto.graph.node), sizes)


def check_names(proto: onnx.ModelProto) -> None:
    """Check that the names in a model are text; protobuf gives bytes, or raises, where they are not.

    Raises
    ------
    ModelError
    """
    try:
        is_text = all(isinstance(name, str) for name in _names(proto))
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        raise ModelError("A name in the model is no text (UTF-8).")


def _names(proto: onnx.ModelProto) -> Iterator[object]:
    yield from (item.domain for item in proto.opset_import)
    yield from _names_of_graph(proto.graph)
    for function in proto.functions:
        yield from (function.name, function.domain, *function.input, *function.output, *function.attribute)
        yield from _names_of_nodes(function.node)


def _names_of_graph(graph: onnx.GraphProto) -> Iterator[object]:
    yield graph.name
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    yield from _names_of_nodes(graph.node)


def _names_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[object]:
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
        for graph in subgraphs(node):
            yield from _names_of_graph(graph)


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[_Key]:
    """What nodes, and those of graphs inside them, would be the calls of."""
    for node in nodes:
        yield node.domain, node.op_type, node.overload
        for graph in subgraphs(node):
            yield from _calls(graph.node)


def _size(calls: Iterable[_Key], sizes: dict[_Key, int]) -> int:
    return sum(sizes.get(key, 1) for key in calls)
