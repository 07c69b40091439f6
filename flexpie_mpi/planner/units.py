"""Units: the runs of nodes that a search never cuts, since cutting there cannot pay or cannot be done.

Inside a fused group (:mod:`flexpie_mpi.cost.groups`) a cut wins nothing; inside an atom no cut is possible.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from ..core.graph import Graph
from ..cost.groups import FusedGroup, fused_groups


@dataclass(frozen=True, slots=True)
class Atom:
    """Nodes ``[first, end)`` that must share a segment; `fixed` when they must run on the root."""

    first: int
    end: int
    fixed: bool


def atoms(graph: Graph) -> tuple[Atom, ...]:
    """All nodes of the graph, in order, in the smallest runs that no opaque value leaves.

    A run holds one node, unless opaque values join several, constants are prepared before it, or it is quantised.
    """
    found: list[Atom] = []
    joined, first = _joined(graph), 0
    for end in range(1, len(graph.nodes) + 1):
        if end in joined:
            continue
        fixed = any(graph.is_dynamic(node.node) or node.is_random for node in graph.bound[first:end])
        found.append(Atom(first, end, fixed))
        first = end
    return tuple(found)


def _joined(graph: Graph) -> frozenset[int]:
    """Places between two nodes where no segment may end."""
    last = len(graph.nodes) - 1
    places = {place + 1 for place in graph.preparing if place < last}
    read = {name for node in graph.nodes for name in node.reads}
    until = 0
    for place, node in enumerate(graph.nodes):
        if place <= until and place:
            places.add(place)
        opaque = (name for name in node.writes if name in read and graph.value(name).is_opaque)
        until = max((until, *(min(graph.last_use[name], last) for name in opaque)))
    return frozenset(places | _quantised(graph))


def _quantised(graph: Graph) -> set[int]:
    """Places inside a quantised operator: from a DequantizeLinear to its only reader, and before a QuantizeLinear."""
    readers = Counter(name for node in graph.nodes for name in node.reads)
    places: set[int] = set()
    open_since: dict[str, int] = {}
    for place, node in enumerate(graph.nodes):
        if node.op == "QuantizeLinear" and place:
            open_since |= dict.fromkeys(graph.nodes[place - 1].writes, place - 1)
        begin = min((open_since.get(name, place) for name in node.reads if readers[name] == 1), default=place)
        places.update(range(begin + 1, place + 1))
        if node.op == "DequantizeLinear":
            open_since[node.writes[0]] = place
        elif place not in graph.preparing:
            open_since.clear()
    return places


@dataclass(frozen=True, slots=True)
class Unit:
    """Nodes ``[first, end)``; `fixed` when only the root may run them. `kernels` are numbers of the graph's kernels."""

    first: int
    end: int
    fixed: bool
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Units:
    """A graph as a search sees it: units 0 .. n - 1 with the cuts 0 .. n around them."""

    graph: Graph
    groups: tuple[FusedGroup, ...]
    items: tuple[Unit, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Unit:
        return self.items[index]

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Node behind each cut, 0 .. n."""
        return (0, *(unit.end for unit in self.items))

    @cached_property
    def unit_of_group(self) -> dict[int, int]:
        return {group: place for place, unit in enumerate(self.items) for group in unit.groups}

    @cached_property
    def alive(self) -> tuple[tuple[str, ...], ...]:
        """Values that cross each cut and can be exchanged: made before it (or inputs), read behind it (or outputs)."""
        graph = self.graph
        waiting = deque(name for name in (*graph.inputs, *graph.producer) if self._crosses(name))
        found: list[tuple[str, ...]] = []
        crossing: tuple[str, ...] = ()
        for end in self.ends:
            made = []
            while waiting and graph.producer.get(waiting[0], -1) < end:
                made.append(waiting.popleft())
            crossing = tuple(name for name in (*crossing, *made) if graph.last_use.get(name, -1) >= end)
            found.append(crossing)
        return tuple(found)

    def _crosses(self, name: str) -> bool:
        value = self.graph.value(name)
        settled = value.is_constant or (name in self.graph.derived and name not in self.graph.outputs)
        return not value.is_opaque and not settled


def units(graph: Graph, starts: Iterable[int] | None = None) -> Units:
    """The units of a graph, in order.

    Parameters
    ----------
    graph : Graph
    starts : iterable of int, optional
        Nodes at which a plan begins segments: no unit reaches over them, and none is cut elsewhere for their sake.
    """
    places = None if starts is None else frozenset(starts)
    runs = fused_groups(graph, () if places is None else tuple(places))
    found = atoms(graph)
    cuts = {group.end for group in runs} & {atom.end for atom in found}
    fixed = list(accumulate((atom.fixed for atom in found for _ in range(atom.first, atom.end)), initial=0))
    items, first, group = [], 0, 0
    for end in sorted(cuts):
        last = bisect_left(runs, end, lo=group, key=lambda run: run.first)
        items.append(Unit(first, end, fixed[end] > fixed[first], tuple(range(group, last))))
        first, group = end, last
    return Units(graph, runs, tuple(items))
