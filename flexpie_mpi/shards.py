"""What one rank does in a segment: the backward walk from its shard to everything it must read.

From the regions a layout gives the rank of the values that leave the segment, the walk goes backwards through the
nodes. Each node says which region of its inputs it reads; a value read by several nodes is computed on the hull. So the
halo grows towards the front of a fused segment, and the redundant work with it::

    shard of y            |--------|
    conv 3x3 reads x     |----------|
    conv 3x3 reads w    |------------|      <- what must be exchanged
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .graph import BoundNode, Graph, Value
from .layout import Layout, cut_axes
from .ops import rule_for, widen
from .program import Block
from .region import Region

Held = tuple[tuple[str, Region | None], ...]
"""(value, region) pairs; the region is None for an opaque value."""


@dataclass(frozen=True, slots=True)
class SegmentShard:
    """One rank's part of a segment.

    Attributes
    ----------
    blocks : tuple of Block
        The nodes this rank runs, in order.
    inputs : (value, region) pairs
        What it must hold of values from outside the segment, constants set aside.
    outputs : (value, region) pairs
        What it then holds of the values that leave the segment; at least its shard of each.
    weights : (constant, region) pairs
        The parts of constants it reads, each once.
    """

    blocks: tuple[Block, ...]
    inputs: Held
    outputs: Held
    weights: Held


def leaving(graph: Graph, first: int, end: int) -> tuple[str, ...]:
    """Values written by nodes ``[first, end)`` and read by later nodes or by the caller.

    Those computed from constants alone do not count, since every reader makes its own.
    """
    names = (name for node in graph.nodes[first:end] for name in node.writes)
    kept = (name for name in names if name not in graph.derived or name in graph.outputs)
    return tuple(name for name in kept if graph.last_use.get(name, -1) >= end)


def shard_region(graph: Graph, name: str, layout: Layout, rank: int) -> Region | None:
    """The region of a leaving value that `rank` answers for: its shard, or all of it where `layout` cannot cut it."""
    shape = graph.value(name).shape
    assert shape is not None, "opaque values have no region"
    if can_cut(graph, name, layout):
        return layout.region(shape, rank)
    return Region.full(shape) if rank in layout.ranks else None


def can_cut(graph: Graph, name: str, layout: Layout) -> bool:
    """Whether `layout` can cut a value: it has the axes, and the operator that writes it lets them be cut."""
    value = graph.value(name)
    if value.is_opaque or value.shape is None:
        return layout.kind == "single"
    axes = cut_axes(layout.kind, len(value.shape))
    if axes is None:
        return False
    node = graph.bound[graph.producer[name]]
    return set(axes) <= rule_for(node).cut_axes(node)[node.node.outputs.index(name)]


def segment_shard(graph: Graph, first: int, end: int, layout: Layout, rank: int) -> SegmentShard | None:
    """The work of `rank` in the segment of nodes ``[first, end)``; None when it has none.

    The segment must have no :func:`segment_problems`.
    """
    if rank not in layout.ranks:
        return None
    wanted = _leaving_regions(graph, leaving(graph, first, end), layout, rank)
    outputs = tuple(wanted)
    blocks: list[Block] = []
    weights: dict[tuple[str, Region | None], None] = {}
    for node in _backwards(graph, first, end):
        if not any(name in wanted for name in node.node.writes):
            continue
        block = _block(node, wanted)
        blocks.append(block)
        for name, region in _reads(graph, node, block):
            if graph.value(name).is_constant:
                weights[name, region] = None
            else:
                wanted[name] = _hull(wanted.get(name), region)
    if not blocks:
        return None
    written = {name for block in blocks for name in graph.nodes[graph.position[block.node]].writes}
    return SegmentShard(
        blocks=tuple(reversed(blocks)),
        inputs=tuple((name, region) for name, region in wanted.items() if name not in written),
        outputs=tuple((name, wanted[name]) for name in outputs),
        weights=tuple(weights),
    )


def node_flops(node: BoundNode) -> int:
    """Floating-point operations of a whole node; outputs of unknown shape count nothing."""
    return rule_for(node).flops(node, tuple(None if value is None else whole(value) for value in node.outputs))


def shard_flops(graph: Graph, shard: SegmentShard) -> int:
    """Floating-point operations of one rank's part of a segment, redundant work included."""
    return blocks_flops(graph, shard.blocks)


def blocks_flops(graph: Graph, blocks: Iterable[Block]) -> int:
    """Floating-point operations of nodes as one rank computes them."""
    bound = ((graph.bound[graph.position[block.node]], block) for block in blocks)
    return sum(rule_for(node).flops(node, block.outputs) for node, block in bound)


def _backwards(graph: Graph, first: int, end: int) -> Iterator[BoundNode]:
    """The segment's nodes from last to first, then earlier ones that only prepare constants."""
    yield from reversed(graph.bound[first:end])
    for place in reversed(graph.preparing):
        if place < first:
            yield graph.bound[place]


def _leaving_regions(graph: Graph, names: Iterable[str], layout: Layout, rank: int) -> dict[str, Region | None]:
    wanted: dict[str, Region | None] = {}
    for name in names:
        if graph.value(name).is_opaque:
            wanted[name] = None
        elif (region := shard_region(graph, name, layout, rank)) is not None:
            wanted[name] = region
    return wanted


def _block(node: BoundNode, wanted: dict[str, Region | None]) -> Block:
    """The node as this rank computes it; `wanted` then holds the regions that really come out."""
    out = widen(node, tuple(wanted.get(name) for name in node.node.outputs))
    for name, region in zip(node.node.outputs, out, strict=True):
        if name in wanted:
            wanted[name] = region
    return Block(node.node.name, out, rule_for(node).in_regions(node, out))


def _reads(graph: Graph, node: BoundNode, block: Block) -> Iterable[tuple[str, Region | None]]:
    """(value, region) of everything a block reads; values that only a subgraph reads are read whole."""
    for name, value, region in zip(node.node.inputs, node.inputs, block.inputs, strict=True):
        if value is not None and (region is not None or value.is_opaque):
            yield name, region
    for name in node.node.captures:
        yield name, whole(graph.value(name))


def whole(value: Value) -> Region | None:
    """All of a value; None for an opaque one."""
    return None if value.is_opaque or value.shape is None else Region.full(value.shape)


def _hull(known: Region | None, region: Region | None) -> Region | None:
    return region if known is None or region is None else known.hull(region)


def segment_problems(graph: Graph, first: int, end: int, layout: Layout, root: int = 0) -> list[str]:
    """Why the nodes ``[first, end)`` cannot run as one segment in `layout`, as sentences; empty when they can."""
    found = []
    names = leaving(graph, first, end)
    crossing = [name for name in names if graph.value(name).is_opaque and name not in graph.outputs]
    if crossing:
        found.append(
            f"'{crossing[0]}' has a shape or type known only at run time and cannot leave the segment: "
            "put the nodes that write and read it in one segment"
        )
    for node in graph.bound[first:end]:
        fixed = [name for name in (*node.node.reads, *node.node.writes) if _stays_on_root(graph, name)]
        if fixed and layout.ranks != (root,):
            found.append(
                f"'{fixed[0]}' cannot be exchanged, so '{node.node.name}' must run on rank {root}, not {layout}"
            )
        if layout.kind != "single" and (node.is_random or graph.is_dynamic(node.node)):
            found.append(f"node '{node.node.name}' ({node.op}) must run on one rank: use layout 'single', not {layout}")
    if names and not found and not any(can_cut(graph, name, layout) for name in names):
        node = graph.bound[graph.producer[names[0]]]
        allowed = ", ".join(allowed_kinds(graph, node)) or "none"
        found.append(
            f"node '{node.node.name}' ({node.op}) cannot be cut by '{layout.kind}': its output '{names[0]}' has shape "
            f"{graph.value(names[0]).shape} and the operator allows {allowed}"
        )
    return found


def _stays_on_root(graph: Graph, name: str) -> bool:
    """Whether a value is an input or output of the graph that cannot be moved to or from the root."""
    value = graph.value(name)
    return value.is_opaque and not value.is_constant and (name in graph.inputs or name in graph.outputs)


def allowed_kinds(graph: Graph, node: BoundNode) -> tuple[str, ...]:
    """Layout kinds in which a node alone can be run."""
    if node.is_random or graph.is_dynamic(node.node):
        return ("single",)
    candidates = (
        Layout("rows", (0, 1)), Layout("columns", (0, 1)), Layout("grid", (0, 1, 2, 3), grid=(2, 2)),
        Layout("channels", (0, 1)), Layout("batch", (0, 1)), Layout("replicated", (0, 1)), Layout("single", (0,)),
    )  # fmt: skip
    return tuple(c.kind for c in candidates if any(can_cut(graph, name, c) for name in node.node.writes))
