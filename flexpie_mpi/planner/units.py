"""Units: the runs of nodes that a search never cuts, since cutting there cannot pay or cannot be done.

Inside a fused group (:mod:`flexpie_mpi.cost.groups`) a cut wins nothing; inside an atom no cut is possible.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise

from ..core.graph import Graph
from ..cost.groups import FusedGroup, fused_groups
from ..ops import part_axes, rule_for
from ..ops.elementwise import Elementwise
from ..ops.moments import makes_moments


@dataclass(frozen=True, slots=True)
class Atom:
    """Nodes ``[first, end)`` that must share a segment; `fixed` when only the root may run them."""

    first: int
    end: int
    fixed: bool


def atoms(graph: Graph) -> tuple[Atom, ...]:
    """All nodes of the graph, in order, in the smallest runs that a plan can place.

    A run holds one node, unless opaque values join several, constants are prepared before it, or it is quantised:

    - Opaque values never leave a segment.
    - A value computed from constants alone belongs to the node that reads it.
    - What is made of an input of the graph, element by element, and has more bytes, belongs to the node behind it that
      reads it: to send it would take longer than to send the input.
    - What stands between a DequantizeLinear and the QuantizeLinear behind it is one integer kernel of onnxruntime,
      which computes something else when it sees only a part (up to 0.5 % of the largest value in a MatMul, whose float
      operand it then quantises once more by its own scales).
    """
    joined = _joined(graph)
    ends = [end for end in range(1, len(graph.nodes) + 1) if end not in joined]
    return tuple(Atom(first, end, _is_fixed(graph, first, end)) for first, end in pairwise((0, *ends)))


def _is_fixed(graph: Graph, first: int, end: int) -> bool:
    return any(graph.is_dynamic(node.node) or node.is_random for node in graph.bound[first:end])


def _joined(graph: Graph) -> set[int]:
    """Nodes before which no segment may end."""
    last = len(graph.nodes) - 1
    joined = _quantised(graph) | {*_widened(graph)} | {index + 1 for index in graph.preparing if index < last}
    read = {name for node in graph.nodes for name in node.reads}
    until = 0
    for index, node in enumerate(graph.nodes):
        if 0 < index <= until:
            joined.add(index)
        opaque = (name for name in node.writes if name in read and graph.value(name).is_opaque)
        until = max((until, *(min(graph.last_use[name], last) for name in opaque)))
    return joined


def _widened(graph: Graph) -> Iterator[int]:
    """Nodes that read what the one before them makes, element by element, of an input with fewer bytes."""
    width = {name: graph.value(name).itemsize for name in graph.given if not graph.value(name).is_opaque}
    for index, (node, behind) in enumerate(pairwise(graph.bound)):
        read = [name for name in node.node.reads if not graph.value(name).is_constant]
        if len(read) != 1 or read[0] not in width or not isinstance(rule_for(node), Elementwise):
            continue
        made = graph.value(node.node.writes[0])
        width[made.name] = width[read[0]]
        if made.itemsize > width[made.name] and made.name in behind.node.reads:
            yield index + 1


def _quantised(graph: Graph) -> set[int]:
    """Nodes inside a quantised operator: from a DequantizeLinear to its only reader, and up to a QuantizeLinear."""
    readers = Counter(name for node in graph.nodes for name in node.reads)
    inside: set[int] = set()
    open_since: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        if node.op == "QuantizeLinear" and index:
            open_since |= dict.fromkeys(graph.nodes[index - 1].writes, index - 1)
        begin = min((open_since.get(name, index) for name in node.reads if readers[name] == 1), default=index)
        inside.update(range(begin + 1, index + 1))
        if node.op == "DequantizeLinear":
            open_since[node.writes[0]] = index
        elif index not in graph.preparing:
            open_since.clear()
    return inside


@dataclass(frozen=True, slots=True)
class Unit(Atom):
    """Atoms that are never cut apart; `groups` are the numbers of the fused groups in it."""

    groups: tuple[int, ...]


@dataclass(frozen=True)
class Units:
    """A graph as a search sees it: units 0 .. n - 1 with the cuts 0 .. n around them."""

    graph: Graph
    groups: tuple[FusedGroup, ...]
    items: tuple[Unit, ...]
    # Values that a segment may leave in parts, by the cut behind the node that writes them
    parts: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Unit:
        return self.items[index]

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The node behind each cut, 0 .. n."""
        return (0, *(unit.end for unit in self.items))

    @cached_property
    def unit_of_group(self) -> dict[int, int]:
        return {group: number for number, unit in enumerate(self.items) for group in unit.groups}

    @cached_property
    def inner(self) -> frozenset[int]:
        """Cuts inside a fused group or a normalisation: only a segment that leaves parts may end there."""
        follow = {self.unit_of_group[number] for number, group in enumerate(self.groups) if group.follows}
        return frozenset(follow & self.parts.keys()) | self.moments

    @cached_property
    def moments(self) -> frozenset[int]:
        """Cuts behind the moments of a normalisation, which cost nothing in a segment that computes all of it."""
        producer, bound = self.graph.producer, self.graph.bound
        return frozenset(cut for cut, name in self.parts.items() if makes_moments(bound[producer[name]]))

    @cached_property
    def alive(self) -> tuple[tuple[str, ...], ...]:
        """Values that cross each cut and can be exchanged: made before it (or inputs), read behind it (or outputs).

        States, and what is told of their growth, are none of them: they are where they are read.
        """
        graph = self.graph
        waiting = deque(name for name in (*graph.inputs, *graph.producer) if self._can_cross(name))
        alive: list[tuple[str, ...]] = []
        crossing: tuple[str, ...] = ()
        for end in self.ends:
            made = []
            while waiting and graph.producer.get(waiting[0], -1) < end:
                made.append(waiting.popleft())
            crossing = tuple(name for name in (*crossing, *made) if graph.last_read.get(name, -1) >= end)
            alive.append(crossing)
        return tuple(alive)

    def _can_cross(self, name: str) -> bool:
        value = self.graph.value(name)
        is_known = value.is_constant or (name in self.graph.derived and name not in self.graph.outputs)
        return not value.is_opaque and not is_known


def units(graph: Graph, starts: Iterable[int] = (), *, with_parts: bool = False) -> Units:
    """The units of a graph, in order.

    Parameters
    ----------
    graph : Graph
    starts : iterable of int, optional
        Nodes at which a plan begins segments: no unit reaches over them, and none is cut elsewhere for their sake.
    with_parts : bool
        Whether a unit ends behind every node of which ranks may leave parts, where that may pay.
    """
    parted = dict(_parted(graph)) if with_parts else {}
    groups = fused_groups(graph, {*starts, *parted})
    pieces = atoms(graph)
    cuts = ({group.end for group in groups} & {atom.end for atom in pieces}) - _moments(graph, {*starts, *parted})
    fixed = list(accumulate((atom.fixed for atom in pieces for _ in range(atom.first, atom.end)), initial=0))
    items, first, group = [], 0, 0
    for end in sorted(cuts):
        last = bisect_left(groups, end, lo=group, key=lambda each: each.first)
        items.append(Unit(first, end, fixed[end] > fixed[first], tuple(range(group, last))))
        first, group = end, last
    parts = {number: parted[unit.end] for number, unit in enumerate(items, 1) if unit.end in parted and not unit.fixed}
    return Units(graph, groups, tuple(items), parts)


def _moments(graph: Graph, starts: Set[int]) -> set[int]:
    """Nodes inside a normalisation, between its moments and the rest, but for those at `starts`."""
    return {index for index, node in enumerate(graph.bound, 1) if makes_moments(node)} - starts


_WORTH = 16
"""Bytes that ranks share out for each byte of a sum, from which on it may be worth to share them out."""


def _parted(graph: Graph) -> Iterator[tuple[int, str]]:
    """(node behind it, value) of every sum that may be worth sharing out: of large weights, or of much data."""
    for index, node in enumerate(graph.bound[:-1]):
        if not part_axes(node) or index in graph.preparing or graph.is_dynamic(node.node):
            continue
        value = graph.value(node.node.writes[0])
        weights = sum(each.nbytes for each in node.inputs if each is not None and each.is_constant)
        read = sum(each.nbytes for each in node.inputs if each is not None and not each.is_constant)
        if (weights or read) >= _WORTH * value.nbytes:
            yield index + 1, value.name
