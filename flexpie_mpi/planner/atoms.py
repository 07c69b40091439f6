"""Atoms: the smallest runs of nodes a plan can place.

Opaque values never leave a segment, and a value computed from constants alone belongs to the node that reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph


@dataclass(frozen=True, slots=True)
class Atom:
    """Nodes ``[first, end)`` that must share a segment; `fixed` when they must run on the root."""

    first: int
    end: int
    fixed: bool


def atoms(graph: Graph) -> tuple[Atom, ...]:
    """All nodes of the graph, in order, in the smallest runs that no opaque value leaves.

    A run holds one node, unless opaque values join several or constants are prepared before it.
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
    for name, producer in graph.producer.items():
        if graph.value(name).is_opaque:
            last = min(graph.last_use.get(name, producer), len(graph.nodes) - 1)
            is_read = any(name in node.reads for node in graph.nodes[producer + 1 :])
            places.update(range(producer + 1, last + 1) if is_read else ())
    return frozenset(places)
