"""Walks over the messages of a model: what nodes read, what is inside of them, and which names are taken."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from typing import Any

import onnx

from ..core.graph import ONNX_DOMAINS

_DEFAULT_OPSET = 17
"""Of models that use no operator of ONNX's own; what is added around their nodes does."""
PRODUCTS = ("MatMul", "Gemm")
"""ONNX's own products of two matrices, of which the second may be weights."""


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs among the attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def nodes_inside(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of the graphs inside them."""
    for node in nodes:
        yield node
        for inner in subgraphs(node):
            yield from nodes_inside(inner.node)


def is_onnx(node: onnx.NodeProto, op: str) -> bool:
    """Whether a node is that operator of ONNX's own."""
    return node.op_type == op and node.domain in ONNX_DOMAINS


def opset_of(proto: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a model is written in; of several that it names, the last."""
    versions = [item.version for item in proto.opset_import if item.domain in ONNX_DOMAINS]
    return versions[-1] if versions else _DEFAULT_OPSET


def reads(node: onnx.NodeProto) -> list[str]:
    """Names of the values a node reads: its inputs, then what its subgraphs read of the graph around them."""
    return list(dict.fromkeys([*filter(None, node.input), *captures(node)]))


def captures(node: onnx.NodeProto) -> list[str]:
    """Names that the subgraphs of a node read but do not define, in order of first use."""
    names: dict[str, None] = {}
    for graph in subgraphs(node):
        known = _defined(graph)
        wanted = [name for inner in graph.node for name in reads(inner)] + [item.name for item in graph.output]
        names |= dict.fromkeys(name for name in wanted if name not in known)
    return list(names)


def _defined(graph: onnx.GraphProto) -> set[str]:
    """Names that a graph gives to values itself."""
    names = {item.name for item in (*graph.input, *graph.initializer)}
    names |= {item.values.name for item in graph.sparse_initializer}
    return names | {name for node in graph.node for name in node.output}


def rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename what nodes read, down to subgraphs that give the name to a value of their own."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        for inner in subgraphs(node):
            if old not in _defined(inner):
                rename_reads(inner, old, new)
                for output in inner.output:
                    output.name = new if output.name == old else output.name


def replace(field: Any, items: Iterable[Any]) -> None:
    """Give a repeated field of a message other items, some of which may be its own."""
    kept = list(items)
    del field[:]
    field.extend(kept)


def taken_names(proto: onnx.ModelProto) -> set[str]:
    """Every name of a value or a node in a model, those inside its subgraphs included."""
    graph = proto.graph
    names = {item.name for item in (*graph.input, *graph.initializer, *graph.output)}
    for node in nodes_inside(graph.node):
        names.update((node.name, *node.input, *node.output))
        for inner in subgraphs(node):
            names.update(item.name for item in (*inner.input, *inner.initializer, *inner.output))
    return names


def fresh(wanted: str, made: set[str], taken: Collection[str] = ()) -> str:
    """A name that is in neither set, and from now on in `made`: the wanted one, or that with a number behind it."""
    name, count = wanted, 0
    while name in made or name in taken:
        count += 1
        name = f"{wanted}~{count}"
    made.add(name)
    return name


def nearest(name: str, names: Iterable[str], noun: str) -> str:
    """Ending of a sentence about a name that is none of `names`, which are those of its `noun`: what there is."""
    close = get_close_matches(name, list(names), 1)
    listed = ", ".join(f"'{item}'" for item in names) or "none"
    return f"; did you mean '{close[0]}'" if close else f"; its {noun} are {listed}"
