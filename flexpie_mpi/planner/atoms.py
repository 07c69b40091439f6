"""Atoms: the smallest runs of nodes a plan can place.

Opaque values never leave a segment, and a value computed from constants alone belongs to the node that reads it. So do
the ends of a quantised operator: what stands between a DequantizeLinear and the QuantizeLinear behind is one integer
kernel of onnxruntime, which computes something else when it sees only a part (up to 0.5 % of the largest value in a
MatMul, whose float operand it then quantises once more by its own scales).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..core.graph import Graph


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
