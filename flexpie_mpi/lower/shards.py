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
from functools import reduce
from heapq import heapify, heappop, heappush
from math import prod

from ..core.graph import BoundNode, Graph
from ..core.layout import KINDS, Layout, cut_axes
from ..core.program import NodeBlock
from ..core.region import Region
from ..ops import between_borders, part_axes, part_regions, rule_for, whole, widen

Held = tuple[tuple[str, Region | None], ...]
"""(value, region) pairs; the region is None for an opaque value."""


@dataclass(frozen=True, slots=True)
class SegmentShard:
    """One rank's part of a segment."""

    blocks: tuple[NodeBlock, ...]  # the nodes this rank runs, in order
    inputs: Held  # (value, region) pairs. What it must hold of values from outside the segment, constants set aside.
    # (value, region) pairs. What it then holds of the values that leave the segment; at least its shard of each.
    outputs: Held
    weights: Held  # (constant, region) pairs. The regions of constants it reads, each once.
    parts: frozenset[str] = frozenset()  # values among the outputs of which it holds a part only


def live_out(graph: Graph, first: int, end: int) -> tuple[str, ...]:
    """Values written by nodes ``[first, end)`` and read by later nodes or by the caller.

    Those computed from constants alone do not count, since every reader makes its own.
    """
    names = (name for node in graph.nodes[first:end] for name in node.writes)
    kept = (name for name in names if name not in graph.derived or name in graph.outputs)
    return tuple(name for name in kept if graph.last_use.get(name, -1) >= end)


def shard_region(graph: Graph, name: str, layout: Layout, rank: int) -> Region | None:
    """The region of a leaving value that `rank` answers for: its shard, or all of it where `layout` cannot cut it.

    Of a value that is left in parts, a rank that has a part has it of all of the value.
    """
    shape = graph.value(name).shape
    assert shape is not None, "opaque values have no region"
    if is_in_parts(graph, name, layout):
        return Region.full(shape) if part_share(graph, name, layout, rank) is not None else None
    if can_cut(graph, name, layout):
        return layout.region(shape, rank)
    return Region.full(shape) if rank in layout.ranks else None


def can_cut(graph: Graph, name: str, layout: Layout) -> bool:
    """Whether `layout` can cut a value: it has the axes, and the operator that writes it lets them be cut.

    Or it can leave the value in parts.
    """
    return is_in_parts(graph, name, layout) or _can_cut(graph, name, layout.kind)


def is_in_parts(graph: Graph, name: str, layout: Layout) -> bool:
    """Whether ranks of a layout that leaves values in parts hold parts of this one."""
    if not layout.in_parts or name not in graph.producer:
        return False
    node = graph.bound[graph.producer[name]]
    shared = part_axes(node)
    return bool(shared) and frozenset(cut_axes(layout.kind, len(node.in_shape())) or (-1,)) <= shared


def part_share(graph: Graph, name: str, layout: Layout, rank: int) -> Region | None:
    """The share of what a node sums, a region of its first input, of which `rank` makes its part of the result."""
    node = graph.bound[graph.producer[name]]
    return between_borders(node, layout.region(node.in_shape(), rank))


def part_block(graph: Graph, name: str, layout: Layout, rank: int) -> NodeBlock | None:
    """The node that writes a value as one rank computes its part; None where it has no share."""
    node, share = graph.bound[graph.producer[name]], part_share(graph, name, layout, rank)
    if share is None:
        return None
    first = next(each for each in layout.ranks if part_share(graph, name, layout, each) is not None)
    read = part_regions(node, share, is_first=rank == first)
    return NodeBlock(node.node.name, tuple(map(whole, node.outputs)), read, is_part=True)


def _can_cut(graph: Graph, name: str, kind: str) -> bool:
    value = graph.value(name)
    if value.is_opaque or value.shape is None:
        return kind == "single"
    axes = cut_axes(kind, len(value.shape))
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
    growing = Growing(graph, first, layout, rank)
    growing.grow(end)
    return growing.shard()


class Growing:
    """The work of one rank of a layout in a segment that begins at node `first` and grows at its end.

    A node is looked at again only when later ones change what is wanted of it, so that a segment costs its length also
    when it takes in its nodes one by one.

    Attributes
    ----------
    end : int
        The segment is that of nodes ``[first, end)``.
    flops : int
        Floating-point operations of the rank's part, redundant work included.
    """

    def __init__(self, graph: Graph, first: int, layout: Layout, rank: int) -> None:
        self.end = first
        self.flops = 0
        self._graph, self._first, self._layout, self._rank = graph, first, layout, rank
        self._leaving: dict[str, Region | None] = {}
        self._readers: dict[str, dict[int, Region | None]] = {}
        self._blocks: dict[int, NodeBlock] = {}

    def grow(self, end: int) -> None:
        """Take in the nodes up to `end`."""
        positions = range(self.end, end)
        self.end = end
        stale = [-position for position in {*positions, *self._staying(positions)}]
        for name in live_out(self._graph, positions.start, end):
            value = self._graph.value(name)
            region = None if value.is_opaque else shard_region(self._graph, name, self._layout, self._rank)
            if value.is_opaque or region is not None:
                self._leaving[name] = region
        heapify(stale)
        while stale:  # from the last to the first: what is read of a node is then known
            position = -heappop(stale)
            for earlier in self._settle(position):
                heappush(stale, -earlier)
            while stale and stale[0] == -position:
                heappop(stale)

    def shard(self) -> SegmentShard | None:
        """The work as it is now; None when there is none."""
        inputs: dict[str, Region | None] = {}
        weights: dict[tuple[str, Region | None], None] = {}
        for position in sorted(self._blocks, reverse=True):
            for name, region in _reads(self._graph, self._graph.bound[position], self._blocks[position]):
                if self._graph.value(name).is_constant:
                    weights[name, region] = None
                elif self._graph.producer.get(name) not in self._blocks:
                    inputs[name] = _hull((inputs[name], region)) if name in inputs else region
        if not self._blocks:
            return None
        return SegmentShard(
            blocks=tuple(self._blocks[position] for position in sorted(self._blocks)),
            inputs=tuple(inputs.items()),
            outputs=tuple((name, self._computed(name)) for name in self._leaving),
            weights=tuple(weights),
            parts=frozenset(name for name in self._leaving if self._is_part(name)),
        )

    def _staying(self, positions: range) -> Iterator[int]:
        """Nodes of the segment that write what leaves it no longer, once it ends behind `positions`."""
        for node in self._graph.nodes[positions.start : positions.stop]:
            for name in node.reads:
                if name in self._leaving and self._graph.last_use[name] < positions.stop:
                    del self._leaving[name]
                    yield self._graph.producer[name]

    def _settle(self, position: int) -> Iterator[int]:
        """Bring a node's block up to date; the nodes of which it then reads something else."""
        node, before = self._graph.bound[position], self._blocks.pop(position, None)
        block = self._block(node)
        if block is not None:
            self._blocks[position] = block
        if block == before:
            return
        self.flops += sum(sign * _block_flops(node, b) for sign, b in ((1, block), (-1, before)) if b)
        old, new = (_read_by(self._graph, node, b) if b else {} for b in (before, block))
        for name in {**old, **new}:
            if self._graph.value(name).is_constant:
                continue
            readers = self._readers.setdefault(name, {})
            readers.pop(position, None)
            if name in new:
                readers[position] = new[name]
            if self._makes(name) and (name in old or not self._covers(name, new[name])):
                yield self._graph.producer[name]

    def _block(self, node: BoundNode) -> NodeBlock | None:
        """The node as this rank computes it; None when nothing of it is wanted."""
        wanted = [self._wanted(name) for name in node.node.outputs]
        if not any(wanted):
            return None
        name = node.node.writes[0]
        if name in self._leaving and not self._readers.get(name) and is_in_parts(self._graph, name, self._layout):
            return part_block(self._graph, name, self._layout, self._rank)
        out = widen(node, tuple(_hull(regions) if regions else None for regions in wanted))
        return NodeBlock(node.node.name, out, rule_for(node).in_regions(node, out))

    def _wanted(self, name: str) -> list[Region | None]:
        """Everything wanted of a value that the segment makes: its shard, and what later nodes read."""
        own = [self._leaving[name]] if name in self._leaving else []
        return own + list(self._readers.get(name, {}).values())

    def _makes(self, name: str) -> bool:
        """Whether the segment makes a value; those computed from constants are made wherever they are read."""
        position = self._graph.producer.get(name, -1)
        return position >= self._first or (position >= 0 and name in self._graph.derived)

    def _computed(self, name: str) -> Region | None:
        """What the segment computes of a value now."""
        position = self._graph.producer[name]
        return self._blocks[position].outputs[self._graph.nodes[position].outputs.index(name)]

    def _is_part(self, name: str) -> bool:
        block = self._blocks.get(self._graph.producer[name])
        return block is not None and block.is_part

    def _covers(self, name: str, region: Region | None) -> bool:
        """Whether a value is computed now, and a region of it with it."""
        if self._graph.producer[name] not in self._blocks or self._is_part(name):
            return False
        computed = self._computed(name)
        return region is None or (computed is not None and computed.contains(region))


def node_flops(node: BoundNode) -> int:
    """Floating-point operations of a whole node; outputs of unknown shape count nothing."""
    return rule_for(node).flops(node, tuple(map(whole, node.outputs)))


def blocks_flops(graph: Graph, blocks: Iterable[NodeBlock]) -> int:
    """Floating-point operations of nodes as one rank computes them."""
    return sum(_block_flops(graph.bound[graph.position[block.node]], block) for block in blocks)


def _block_flops(node: BoundNode, block: NodeBlock) -> int:
    flops = rule_for(node).flops(node, block.outputs)
    if not block.is_part or block.inputs[0] is None:
        return flops
    return flops * block.inputs[0].size // prod(node.in_shape())


def _reads(graph: Graph, node: BoundNode, block: NodeBlock) -> Iterable[tuple[str, Region | None]]:
    """(value, region) of everything a block reads; values that only a subgraph reads are read whole."""
    for name, value, region in zip(node.node.inputs, node.inputs, block.inputs, strict=True):
        if value is not None and (region is not None or value.is_opaque):
            yield name, region
    for name in node.node.captures:
        yield name, whole(graph.value(name))


def _read_by(graph: Graph, node: BoundNode, block: NodeBlock) -> dict[str, Region | None]:
    """What a block reads of each value."""
    read: dict[str, Region | None] = {}
    for name, region in _reads(graph, node, block):
        read[name] = _hull((read[name], region)) if name in read else region
    return read


def _hull(regions: Iterable[Region | None]) -> Region | None:
    """The smallest region that holds all; None for those of an opaque value."""
    known = [region for region in regions if region is not None]
    return reduce(Region.hull, known) if known else None


def segment_problems(graph: Graph, first: int, end: int, layout: Layout, root: int = 0) -> list[str]:
    """Why the nodes ``[first, end)`` cannot run as one segment in `layout`, as sentences; empty when they can."""
    reasons = []
    names = live_out(graph, first, end)
    crossing = [name for name in names if graph.value(name).is_opaque and name not in graph.outputs]
    if crossing:
        reasons.append(
            f"'{crossing[0]}' has a shape or type known only at run time and cannot leave the segment: "
            "put the nodes that write and read it in one segment"
        )
    for node in graph.bound[first:end]:
        fixed = [name for name in (*node.node.reads, *node.node.writes) if _stays_on_root(graph, name)]
        if fixed and layout.ranks != (root,):
            reasons.append(
                f"'{fixed[0]}' cannot be exchanged, so '{node.node.name}' must run on rank {root}, not {layout}"
            )
        if layout.kind != "single" and (node.is_random or graph.is_dynamic(node.node)):
            reasons.append(
                f"node '{node.node.name}' ({node.op}) must run on one rank: use layout 'single', not {layout}"
            )
    if layout.in_parts and not reasons:
        reasons += _part_problems(graph, first, end, layout)
    if names and not reasons and not any(can_cut(graph, name, layout) for name in names):
        node = graph.bound[graph.producer[names[0]]]
        allowed = ", ".join(allowed_kinds(graph, node)) or "none"
        reasons.append(
            f"node '{node.node.name}' ({node.op}) cannot be cut by '{layout.kind}': its output '{names[0]}' has shape "
            f"{graph.value(names[0]).shape} and the operator allows {allowed}"
        )
    return reasons


def _part_problems(graph: Graph, first: int, end: int, layout: Layout) -> Iterator[str]:
    """Why a segment can leave nothing in parts."""
    names = [name for name in live_out(graph, first, end) if is_in_parts(graph, name, layout)]
    if not names:
        yield f"nothing that leaves the segment of '{graph.nodes[first].name}' is a sum over what '{layout.kind}' cuts"
    for node in graph.nodes[first:end]:
        for name in names:
            if name in node.reads:
                yield f"'{name}' is to leave the segment in parts, but node '{node.name}' reads all of it there"


def _stays_on_root(graph: Graph, name: str) -> bool:
    """Whether a value is an input or output of the graph that cannot be moved to or from the root."""
    value = graph.value(name)
    return value.is_opaque and not value.is_constant and (name in graph.given or name in graph.outputs)


def allowed_kinds(graph: Graph, node: BoundNode) -> tuple[str, ...]:
    """Layout kinds in which a node alone can be run."""
    if node.is_random or graph.is_dynamic(node.node):
        return ("single",)
    return tuple(kind for kind in KINDS if any(_can_cut(graph, name, kind) for name in node.node.writes))
