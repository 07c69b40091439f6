"""What one board takes for every span of units by itself: seconds, weights, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.graph import Graph
from ..core.layout import Layout
from ..cost.model import CostModel
from ..planner.boxes import ShardTable
from ..planner.problem import RESERVE_BYTES
from ..planner.units import Units
from ..planner.walk import GroupPrices, Walker
from ..testbed import Testbed
from .memory import COPIES


@dataclass(frozen=True, eq=False)
class SingleDeviceCosts:
    """Spans ``[i, j)`` of m units on each of n boards alone.

    Attributes
    ----------
    compute_s : float array (n, m + 1, m + 1)
        Session call included, times the board's slowdown, crowded as it was asked for. Infinite where only the root may
        run a unit.
    weight_bytes : float array (m + 1, m + 1)
    inner_bytes : float array (m + 1, m + 1)
        Most bytes of values alive at once anywhere inside the span.
    crossing : float array (m + 1,)
        Bytes alive at each cut.
    kept : float array (m + 1,)
        Bytes of them that the root may have already, so that nobody sends them to it.
    """

    compute_s: np.ndarray
    weight_bytes: np.ndarray
    inner_bytes: np.ndarray
    crossing: np.ndarray
    kept: np.ndarray

    def need_bytes(self, slots: int) -> np.ndarray:
        """Memory of each span with so many requests under way on its board, float array (m + 1, m + 1)."""
        ends = self.crossing[:, None] + self.crossing[None, :]
        need: np.ndarray = RESERVE_BYTES + self.weight_bytes + self.inner_bytes + slots * COPIES * ends
        return need

    def root_bytes(self, in_flight: int) -> np.ndarray:
        """The same on the root, which holds inputs and outputs of all that is under way, too."""
        return self.need_bytes(in_flight) + self.idle_root_bytes(in_flight) - RESERVE_BYTES

    def idle_root_bytes(self, in_flight: int) -> float:
        """Memory of a root that computes nothing."""
        return RESERVE_BYTES + in_flight * COPIES * float(self.crossing[0] + self.crossing[-1])


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
    return SingleDeviceCosts(compute, weights, _inner(units), crossing, own)


def kept(units: Units) -> tuple[tuple[str, ...], ...]:
    """What the root may have already, of what is alive at each cut: inputs, and outputs that were made before."""
    graph, last = units.graph, len(units)
    inside = [tuple(name for name in units.alive[cut] if name in graph.inputs) for cut in range(1, last)]
    before = set(units.alive[last - 1])
    return ((), *inside, tuple(name for name in units.alive[last] if name in before))


def _priced(
    units: Units, testbed: Testbed, cost: CostModel, ranks: Sequence[int], crowds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of every span on each of `ranks`, the root first, and bytes of its constants."""
    shards = ShardTable(units.graph, testbed, [Layout("single", (rank,)) for rank in ranks], crowds)
    walker = Walker(units, shards, GroupPrices(units.graph, cost))
    steps = list(walker.steps(lambda cut: np.ones(len(ranks), bool)))
    calls = np.concatenate([step.calls for step in steps])
    rows = np.concatenate([step.rows for step in steps])
    call_s = np.where(calls["kernels"] > 0, cost.call_s(calls, shards.active[rows]) * shards.slowdown[rows], 0.0)
    size = len(units) + 1
    seconds, weights = np.full((len(ranks), size, size), np.inf), np.zeros((size, size))
    begin = np.concatenate([np.full(len(step.end), step.begin) for step in steps])
    end, layout = np.concatenate([step.end for step in steps]), np.concatenate([step.layout for step in steps])
    seconds[layout, begin, end] = np.concatenate([step.seconds for step in steps]) + call_s
    weights[begin, end] = np.concatenate([step.weights for step in steps])
    return seconds, weights


def _fixed(units: Units) -> np.ndarray:
    """Spans with a unit that only the root may run: bool array (m + 1, m + 1)."""
    count = np.cumsum([0, *(unit.fixed for unit in units.items)])
    found: np.ndarray = count[None, :] > count[:, None]
    return found


def _inner(units: Units) -> np.ndarray:
    """Most bytes alive around any node of every span: float array (m + 1, m + 1)."""
    peaks = _peaks(units.graph)
    inside = np.array([max(peaks[unit.first : unit.end]) for unit in units.items])
    found = np.zeros((len(units) + 1, len(units) + 1))
    for begin in range(len(units)):
        found[begin, begin + 1 :] = np.maximum.accumulate(inside[begin:])
    return found


def _peaks(graph: Graph) -> list[int]:
    """Bytes of all values alive while each node runs, what it writes included."""
    alive = _alive_bytes(graph, graph.inputs)
    ending: dict[int, int] = {}
    for name in graph.inputs:
        until = graph.last_use.get(name, -1)
        ending[until] = ending.get(until, 0) + graph.value(name).nbytes
    found = []
    for place, node in enumerate(graph.nodes):
        for name in node.writes if place not in graph.preparing else ():
            nbytes, until = graph.value(name).nbytes, graph.last_use.get(name, place)
            alive += nbytes
            ending[until] = ending.get(until, 0) + nbytes
        found.append(alive)
        alive -= ending.pop(place, 0)
    return found


def _alive_bytes(graph: Graph, names: Sequence[str]) -> int:
    return sum(graph.value(name).nbytes for name in names)
