"""Models for people and for scripts: what goes in and out, and node by node shapes, work, weights and layouts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..core.graph import Graph
from ..core.layout import KINDS
from ..lower.shards import allowed_kinds, node_flops
from .tables import Column, Item, Table
from .units import count_of, flops, mb, mega, shape_of

if TYPE_CHECKING:
    from ..model import Model

_NODES = (
    Column("#", "number"),
    Column("node", "name"),
    Column("op", "name"),
    Column("output", "name", lambda shapes: " ".join(map(shape_of, shapes))),
    Column("Mflop", "number", mega),
    Column("MB", "number", mb),
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

    @property
    def letters(self) -> str:
        """The layouts as the table abbreviates them, with a ``-`` for each that the node does not allow."""
        letters = [letter if kind in self.layouts else "-" for kind, letter in _letters().items()]
        return "".join([*letters, "+" if "replicated" in self.layouts else "-"])


def model_lines(model: Model) -> list[Item]:
    """What is run: name, size, and the shape of all that goes in and out."""
    graph = model.graph

    def described(names: tuple[str, ...]) -> str:
        values = (graph.value(name) for name in names)
        return ", ".join(f"{value.name} ({shape_of(value.shape)} {value.dtype})" for value in values)

    kept = [graph.value(state.input) for state in graph.states]
    size = f"{count_of(len(graph.nodes), 'node')}, {mb(graph.weight_bytes)} MB of weights"
    return [
        f"model    {model.name}: {size}",
        f"inputs   {described(graph.inputs) or 'none'}",
        f"outputs  {described(graph.outputs)}",
        *([f"states   {len(kept)} inputs, {mb(sum(value.nbytes for value in kept))} MB in all"] if kept else []),
    ]


def model_record(model: Model, source: str) -> dict[str, Any]:
    """What is run; `source` is the file, or ``builtin:NAME``."""
    graph = model.graph
    values = {
        side: [{"name": n, "shape": graph.value(n).shape, "dtype": graph.value(n).dtype} for n in names]
        for side, names in (("inputs", graph.inputs), ("outputs", graph.outputs))
    }
    return {
        "source": source,
        "name": model.name,
        "digest": graph.digest,
        "nodes": len(graph.nodes),
        "weight_bytes": graph.weight_bytes,
        **values,
    }


def inspect(graph: Graph) -> tuple[NodeFacts, ...]:
    """Facts of every node, in order."""
    return tuple(
        NodeFacts(
            name=node.node.name,
            op=node.operator,
            outputs=node.node.writes,
            shapes=tuple(graph.value(name).shape for name in node.node.writes),
            flops=node_flops(node),
            weight_bytes=sum(graph.value(name).nbytes for name in {*node.node.reads} if graph.value(name).is_constant),
            layouts=allowed_kinds(graph, node),
        )
        for node in graph.bound
    )


def inspection_items(model: Model, nodes: tuple[NodeFacts, ...]) -> list[Item]:
    """A line per node, and the totals."""
    rows = [
        (index, node.name, node.op, node.shapes, node.flops, node.weight_bytes, node.letters)
        for index, node in enumerate(nodes)
    ]
    total = sum(node.flops for node in nodes)
    letters = _letters()
    sharded = sum(bool(set(node.layouts) & letters.keys()) for node in nodes)
    legend = ", ".join(f"{letter} {kind}" for kind, letter in letters.items())
    return [
        *model_lines(model),
        "",
        Table(_NODES, rows),
        f"layouts: {legend}, + replicated; any node may run on a single rank",
        f"{flops(total)} per request; {sharded} of {count_of(len(nodes), 'node')} can be cut",
    ]


def inspection_record(model: Model, source: str, nodes: tuple[NodeFacts, ...]) -> dict[str, Any]:
    """The model and its nodes, in flops and bytes."""
    total = sum(node.flops for node in nodes)
    return {"model": model_record(model, source) | {"flops": total}, "nodes": [asdict(node) for node in nodes]}


def builtins_table(described: dict[str, str]) -> Table:
    """The built-in models: name and a line about each."""
    rows = [(f"builtin:{name}", text) for name, text in described.items()]
    return Table((Column("model"), Column("", "prose")), rows)


def _letters() -> dict[str, str]:
    """Kinds of layouts that differ from node to node, as the table abbreviates them."""
    return {name: kind.letter for name, kind in KINDS.items() if kind.letter}
