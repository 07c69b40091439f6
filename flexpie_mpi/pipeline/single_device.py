"""What one board takes for every span of units by itself: seconds, weights, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.graph import Graph
from ..core.layout import Layout
from ..core.program import NodeBlock
from ..cost.model import CostModel
from ..lower.memory import INNER_COPIES, PROCESS_BYTES, alive_bytes, engine_bytes, heap_bytes, laid_out, starting_bytes
from ..ops import whole
from ..planner.boxes import ShardTable
from ..planner.units import Units
from ..planner.walk import GroupPrices, Walker
from ..testbed import Testbed

COPIES = 2
"""Of everything that comes and goes: in a buffer, and in a message."""


@dataclass(frozen=True, eq=False)
class SingleDeviceCosts:
    """Spans ``[i, j)`` of m units on each of n boards alone."""

    # Float array (n, m + 1, m + 1). Session call included, times the board's slowdown, crowded as it was asked for.
    # Infinite where only the root may run a unit.
    compute_s: np.ndarray
    weight_bytes: np.ndarray  # float array (m + 1, m + 1)
    # `inner_bytes` and `starting_bytes`: float array (m + 1, m + 1). As of
    # :class:`flexpie_mpi.lower.memory.RankMemory`.
    inner_bytes: np.ndarray
    starting_bytes: np.ndarray
    crossing: np.ndarray  # float array (m + 1,). Bytes alive at each cut.
    # Float array (m + 1,). Bytes of them that the root may have already, so that nobody sends them to it.
    kept: np.ndarray

    def need_bytes(self, slots: int) -> np.ndarray:
        """Memory of each span with so many requests under way on its board, float array (m + 1, m + 1)."""
        return self._holding(slots * COPIES * self._ends)

    def root_bytes(self, in_flight: int) -> np.ndarray:
        """The same on the root, which holds inputs and outputs of all that is under way, too."""
        return self._holding(in_flight * COPIES * (self._ends + self.crossing[0] + self.crossing[-1]))

    def idle_root_bytes(self, in_flight: int) -> float:
        """Memory of a root that computes nothing."""
        return PROCESS_BYTES + in_flight * COPIES * float(self.crossing[0] + self.crossing[-1])

    @property
    def _ends(self) -> np.ndarray:
        """Bytes alive at both ends of each span."""
        ends: np.ndarray = self.crossing[:, None] + self.crossing[None, :]
        return ends

    def _holding(self, slots_bytes: np.ndarray) -> np.ndarray:
        """Memory of each span beside so much for requests under way."""
        engine: np.ndarray = engine_bytes(self.weight_bytes, self.inner_bytes, self.starting_bytes, slots_bytes)
        return PROCESS_BYTES + engine


def single_device_costs(
    units: Units, testbed: Testbed, cost: CostModel, root: int, crowds: Sequence[float] | None = None
) -> SingleDeviceCosts:
    """Every span of units on every board, each crowded so much; as much as when all compute when not said."""
    crowds = testbed.active(range(testbed.ranks)) if crowds is None else crowds
    kinds = [(device.slowdown, crowd) for device, crowd in zip(testbed.devices, crowds, strict=True)]
    first = {kind: rank for rank, kind in reversed(list(enumerate(kinds)))} | {kinds[root]: root}
    asked = sorted(set(first.values()), key=lambda rank: rank != root)
    seconds, weights = _priced(units, testbed, cost, asked, crowds)
    compute = seconds[[asked.index(first[kind]) for kind in kinds]]
    others = np.arange(testbed.ranks) != root
    compute[others[:, None, None] & _fixed(units)] = np.inf
    crossing = np.array([_alive_bytes(units.graph, names) for names in units.alive], float)
    own = np.array([_alive_bytes(units.graph, names) for names in kept(units)], float)
    return SingleDeviceCosts(compute, weights, _inner(units), _starting(units), crossing, own)


def kept(units: Units) -> tuple[tuple[str, ...], ...]:
    """What the root may have already, of what is alive at each cut: inputs, and outputs that were made before."""
    graph, last = units.graph, len(units)
    inside = [tuple(name for name in units.alive[cut] if name in graph.given) for cut in range(1, last)]
    before = set(units.alive[last - 1])
    return ((), *inside, tuple(name for name in units.alive[last] if name in before))


def _priced(
    units: Units, testbed: Testbed, cost: CostModel, ranks: Sequence[int], crowds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of every span on each of `ranks`, the root first, and bytes of its constants."""
    shards = ShardTable(units.graph, testbed, [Layout("single", (rank,)) for rank in ranks], crowds)
    walker = Walker(units, shards, GroupPrices(units.graph, cost))
    size = len(units) + 1
    seconds, weights = np.full((len(ranks), size, size), np.inf), np.zeros((size, size))
    for step, step_s in walker.priced(lambda cut: np.ones(len(ranks), bool), lambda step: step):
        seconds[step.layout, step.begin, step.end] = step_s
        weights[step.begin, step.end] = step.weights
    return seconds, weights


def _fixed(units: Units) -> np.ndarray:
    """Spans with a unit that only the root may run: bool array (m + 1, m + 1)."""
    count = np.cumsum([0, *(unit.fixed for unit in units.items)])
    has_fixed: np.ndarray = count[None, :] > count[:, None]
    return has_fixed


def _inner(units: Units) -> np.ndarray:
    """What onnxruntime takes for values inside each span: float array (m + 1, m + 1)."""
    graph, count = units.graph, len(units)
    most = np.zeros((count + 1, count + 1))
    for begin, unit in enumerate(units.items):
        positions = [position for position in range(unit.first, len(graph.nodes)) if position not in graph.preparing]
        alive = np.zeros(len(graph.nodes))
        alive[positions] = alive_bytes(graph, positions, lambda name: graph.value(name).nbytes)
        starts = [other.first for other in units.items[begin:]]
        most[begin, begin + 1 :] = np.maximum.accumulate(np.maximum.reduceat(alive, starts))
    return INNER_COPIES * most


def _starting(units: Units) -> np.ndarray:
    """Second copies while the session of each span is made: float array (m + 1, m + 1)."""
    graph = units.graph
    blocks = [NodeBlock(node.node.name, (), tuple(map(whole, node.inputs))) for node in graph.bound]
    sizes = [laid_out(graph, blocks[unit.first : unit.end]) for unit in units.items]
    until = np.cumsum([0, *map(heap_bytes, sizes)])
    most = np.array([max(each, default=0) for each in sizes])
    largest = np.zeros((len(until), len(until)))
    for begin in range(len(units)):
        largest[begin, begin + 1 :] = np.maximum.accumulate(most[begin:])
    starting: np.ndarray = np.triu(starting_bytes(largest, until[None, :] - until[:, None]))
    return starting


def _alive_bytes(graph: Graph, names: Sequence[str]) -> int:
    return sum(graph.value(name).nbytes for name in names)
