"""Units: the runs of nodes that a search never cuts, since cutting there cannot pay or cannot be done.

Inside a kernel (:mod:`flexpie_mpi.cost.kernels`) nothing is won by a cut, inside an atom none is possible.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from ..core.graph import Graph
from ..cost.kernels import Kernel, kernels
from .atoms import atoms


@dataclass(frozen=True, slots=True)
class Unit:
    """Nodes ``[first, end)``; `fixed` when only the root may run them. `kernels` are numbers of the graph's kernels."""

    first: int
    end: int
    fixed: bool
    kernels: tuple[int, ...]


@dataclass(frozen=True)
class Units:
    """A graph as a search sees it: units 0 .. n - 1 with the cuts 0 .. n around them."""

    graph: Graph
    kernels: tuple[Kernel, ...]
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
    def unit_of_kernel(self) -> dict[int, int]:
        return {kernel: place for place, unit in enumerate(self.items) for kernel in unit.kernels}

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
    runs = kernels(graph, () if places is None else tuple(places))
    found = atoms(graph)
    cuts = {kernel.end for kernel in runs} & {atom.end for atom in found}
    fixed = list(accumulate((atom.fixed for atom in found for _ in range(atom.first, atom.end)), initial=0))
    items, first, kernel = [], 0, 0
    for end in sorted(cuts):
        last = bisect_left(runs, end, lo=kernel, key=lambda run: run.first)
        items.append(Unit(first, end, fixed[end] > fixed[first], tuple(range(kernel, last))))
        first, kernel = end, last
    return Units(graph, runs, tuple(items))
