"""Walks over the messages of a model: what nodes read, what is inside of them, and which names are taken."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import onnx


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs among the attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a graph and of the graphs inside it."""
    return nodes_inside(graph.node)


def nodes_inside(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of the graphs inside them."""
    for node in nodes:
        yield node
        for inner in subgraphs(node):
            yield from nodes_inside(inner.node)


def reads(node: onnx.NodeProto) -> list[str]:
    """Names of the values a node reads: its inputs, then what its subgraphs read of the graph around them."""
    return list(dict.fromkeys([*filter(None, node.input), *captures(node)]))


def captures(node: onnx.NodeProto) -> list[str]:
    """Names that the subgraphs of a node read but do not define, in order of first use."""
    names: dict[str, None] = {}
    for graph in subgraphs(node):
        known = defined(graph)
        wanted = [name for inner in graph.node for name in reads(inner)] + [item.name for item in graph.output]
        names |= dict.fromkeys(name for name in wanted if name not in known)
    return list(names)


def defined(graph: onnx.GraphProto) -> set[str]:
    """Names that a graph gives to values itself."""
    names = {item.name for item in (*graph.input, *graph.initializer)}
    names |= {item.values.name for item in graph.sparse_initializer}
    return names | {name for node in graph.node for name in node.output}


def taken_names(proto: onnx.ModelProto) -> set[str]:
    """Every name of a value or a node in a model, those inside its subgraphs included."""
    graph = proto.graph
    names = {item.name for item in (*graph.input, *graph.initializer, *graph.output)}
    for node in all_nodes(graph):
        names.update((node.name, *node.input, *node.output))
        for inner in subgraphs(node):
            names.update(item.name for item in (*inner.input, *inner.initializer, *inner.output))
    return names


def fresh(wanted: str, *taken: Collection[str]) -> str:
    """A name that is in none of `taken`: the one that is wanted, or that with a number behind it."""
    name, count = wanted, 0
    while any(name in names for names in taken):
        count += 1
        name = f"{wanted}~{count}"
    return name


def rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename what nodes read, down to subgraphs that give the name to a value of their own."""
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
        for inner in subgraphs(node):
            if old not in defined(inner):
                rename_reads(inner, old, new)
                for output in inner.output:
                    if output.name == old:
                        output.name = new


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Give a graph other nodes, some of which may be its own."""
    data = [node.SerializeToString() for node in nodes]
    del graph.node[:]
    graph.node.extend(onnx.NodeProto.FromString(item) for item in data)
