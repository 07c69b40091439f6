"""A model node by node: shapes, work, weights, and the layouts each node allows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..core.graph import BoundNode, Graph
from ..lower.shards import allowed_kinds, node_flops
from ..model import Model
from .plans import model_lines, model_record
from .tables import Column, Item, Table
from .units import count_of, flops, mb, mega, shape_of

LETTERS = {"rows": "r", "columns": "c", "grid": "g", "channels": "k", "batch": "b"}
"""Layouts that differ from node to node, as the table abbreviates them."""

_COLUMNS = (
    Column("#", "number"),
    Column("node", "name"),
    Column("op", "name"),
    Column("output", "name"),
    Column("Mflop", "number"),
    Column("MB", "number"),
    Column("layouts"),
)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node: what comes out, what it costs, and how it may be laid over ranks."""

    name: str
    op: str
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...] | None, ...]
    flops: int
    weight_bytes: int
    layouts: tuple[str, ...]


def inspect(graph: Graph) -> tuple[NodeFacts, ...]:
    """Facts of every node, in order."""
    return tuple(_node_facts(graph, node) for node in graph.bound)


def inspection_items(model: Model, nodes: tuple[NodeFacts, ...]) -> list[Item]:
    """A line per node, and the totals."""
    rows = tuple(_row(place, node) for place, node in enumerate(nodes))
    total = sum(node.flops for node in nodes)
    sharded = sum(bool(set(node.layouts) & LETTERS.keys()) for node in nodes)
    legend = ", ".join(f"{letter} {kind}" for kind, letter in LETTERS.items())
    return [
        *model_lines(model),
        "",
        Table(_COLUMNS, rows),
        f"layouts: {legend}, + replicated; any node may run on a single rank",
        f"{flops(total)} per request; {sharded} of {count_of(len(nodes), 'node')} can be cut",
    ]


def inspection_record(model: Model, source: str, nodes: tuple[NodeFacts, ...]) -> dict[str, Any]:
    """All of it, in flops and bytes."""
    total = sum(node.flops for node in nodes)
    return {"model": model_record(model, source) | {"flops": total}, "nodes": [asdict(node) for node in nodes]}


def builtins_table(described: dict[str, str]) -> Item:
    """The built-in models: name and a line about each."""
    columns = (Column("model"), Column("", "prose"))
    return Table(columns, tuple((f"builtin:{name}", text) for name, text in described.items()))


def _node_facts(graph: Graph, node: BoundNode) -> NodeFacts:
    reads = {name: graph.value(name) for name in node.node.reads}
    return NodeFacts(
        name=node.node.name,
        op=node.op if node.node.domain in ("", "ai.onnx") else f"{node.node.domain}.{node.op}",
        outputs=node.node.writes,
        shapes=tuple(graph.value(name).shape for name in node.node.writes),
        flops=node_flops(node),
        weight_bytes=sum(value.nbytes for value in reads.values() if value.is_constant),
        layouts=allowed_kinds(graph, node),
    )


def _row(place: int, node: NodeFacts) -> tuple[str, ...]:
    letters = "".join(letter if kind in node.layouts else "-" for kind, letter in LETTERS.items())
    return (
        str(place),
        node.name,
        node.op,
        " ".join(shape_of(shape) for shape in node.shapes),
        mega(node.flops),
        mb(node.weight_bytes),
        letters + ("+" if "replicated" in node.layouts else "-"),
    )
