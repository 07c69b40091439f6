"""How much of the outputs travels to the root while other ranks still compute the last segment."""

from __future__ import annotations

from functools import cache

import numpy as np

from ..simulate.flows import Sent, together_s
from ..testbed import Testbed
from .boxes import ShardTable
from .movement import Movement
from .units import Units

AT_ONCE = 0.02
"""Ranks are done at once where their seconds differ by less than this share of what they take, and outputs after."""


class Gathering:
    """How the outputs of a graph come to the root, from whichever layout the last segment leaves them in.

    `hides` is whether one segment may make all of them.
    """

    def __init__(
        self, units: Units, shards: ShardTable, movement: Movement, testbed: Testbed, root: int, hides: bool
    ) -> None:
        self._units, self._shards, self._movement, self._testbed, self._root = units, shards, movement, testbed, root
        first = min((units.graph.producer.get(name, -1) for name in units.graph.outputs), default=-1)
        self._first = first if hides else -1
        self._sent = cache(self._messages)

    def hidden_s(self, begin: int, layout: int, seconds: np.ndarray) -> float:
        """Seconds that the last segment and the exit take less than if all ranks were done with the slowest.

        A rank sends what it has as soon as it has computed. Where another segment makes an output as well, or ranks
        leave parts of one, nothing is taken to be hidden.

        Parameters
        ----------
        begin, layout : int
            Cut at which the segment begins, and its layout.
        seconds : float array (ranks of the layout,)
            What each rank computes.
        """
        if self._first < self._units.ends[begin]:
            return 0.0
        sent, at_once_s = self._sent(layout)
        last_s, ranks = float(seconds.max()), self._shards.layouts[layout].ranks
        if last_s - float(seconds.min()) <= AT_ONCE * (last_s + at_once_s) or not sent:
            return 0.0
        begins_s = [own_s for rank, own_s in zip(ranks, seconds.tolist(), strict=True) if rank != self._root]
        hidden_s = last_s + at_once_s - max(last_s, together_s(self._testbed, sent, begins_s))
        return min(max(0.0, hidden_s), self._exit_s(layout))

    def _messages(self, number: int) -> tuple[list[Sent], float]:
        """What every other rank of a layout sends the root, and seconds of all that together."""
        shards, graph = self._shards, self._shards.graph
        layout, rows = shards.layouts[number], np.arange(*shards.offsets[number : number + 2])
        has_shards = all(shards.cuts(name)[number] and not graph.value(name).is_opaque for name in graph.outputs)
        if layout.in_parts or not has_shards:
            return [], 0.0
        nbytes = np.zeros(len(rows))
        for name in graph.outputs:
            nbytes += shards.owned(name).take(rows).sizes * graph.value(name).itemsize
        routes = (
            (self._testbed.routes[rank][self._root], size) for rank, size in zip(layout.ranks, nbytes, strict=True)
        )
        sent = [(route, float(size)) for route, size in routes if route is not None]
        return sent, together_s(self._testbed, sent)

    def _exit_s(self, layout: int) -> float:
        """The price of the exit, where a layout leaves all outputs."""
        names = self._shards.graph.outputs
        columns = [self._movement.whole_at(name, self._root) for name in names]
        tables = [self._movement.table(name) for name in names]
        ways = list(zip(tables, columns, strict=True))
        latency_s = max(float(table.latency[layout, column]) for table, column in ways)
        return latency_s + sum(float(table.volume[layout, column]) for table, column in ways)
