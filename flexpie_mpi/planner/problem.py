"""From a graph, boards and a cost model to a search problem (:mod:`flexpie_mpi.planner.space`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..core.layout import Layout
from ..cost.links import LinkPrices, arrival_rows
from ..cost.model import CostModel
from ..lower.memory import PROCESS_BYTES
from ..testbed import Testbed
from .boxes import ShardTable
from .gathering import Gathering
from .movement import Movement
from .space import Options, Space
from .units import Units
from .walk import GroupPrices, Keep, Step, Walker


@dataclass(frozen=True)
class Problem:
    """A search problem with what its numbers stand for."""

    units: Units
    shards: ShardTable  # the number of a layout is its index here; of a shorter network where that has been walked over
    space: Space
    work_priced: int  # distinct pieces of work that the cost model was asked about
    least: np.ndarray  # float array (n,). Seconds that each unit takes at least, whatever segment it is in.
    # Seconds of the exit that lie behind computing in the last segment, by its cut and layout, and that the segment is
    # priced less
    hidden_s: Mapping[tuple[int, int], float]

    @property
    def segments(self) -> int:
        """Segments priced: spans of units, each in one layout."""
        return sum(len(options.end) for options in self.space.options)


@dataclass(frozen=True)
class Choice:
    """What a planner may choose from."""

    layouts: tuple[Layout, ...]  # the root alone among them
    # Says in which layouts of a shard table a segment may end at a cut, bool array (L,); in all of them when None
    allowed: Callable[[ShardTable, int], np.ndarray] | None = None
    fuse: Rule | None = None  # rule, optional. Says how far segments reach; as far as they can when None.
    begins: Collection[int] | None = None  # cuts at which segments may begin; all when None
    # Whether one rank of several may do all of a segment's work. Searches need not look there: such a segment is that
    # rank's ``single``.
    lonely: bool = False


@dataclass(frozen=True, slots=True)
class _Entered:
    """The segments that begin at one cut, before their calls are priced."""

    begin: int
    offsets: np.ndarray  # int array (walks + 1,). First row of each walk.
    legal: np.ndarray  # bool array (walks,)
    unpriced: Options  # of all walks, whatever they take
    least_s: float  # as of `Problem.least`

    def options(self, seconds: np.ndarray, hidden_s: np.ndarray) -> Options:
        """The legal ones, whose rows take so many seconds (rows,), less what is hidden (walks,)."""
        slowest = np.maximum.reduceat(seconds, self.offsets[:-1])
        return replace(self.unpriced, seconds=slowest - hidden_s).take(np.flatnonzero(self.legal))

    def ending_at(self, cut: int) -> Iterator[tuple[int, int]]:
        """(walk, layout) of the legal ones that end at a cut."""
        walks = np.flatnonzero(self.legal & (self.unpriced.end == cut))
        return zip(walks.tolist(), self.unpriced.layout[walks].tolist(), strict=True)


class ProblemBuilder:
    """Builds search problems of a graph on a testbed, which share prices though their choices differ.

    `layouts` are all that may occur in any choice.
    """

    def __init__(
        self,
        units: Units,
        testbed: Testbed,
        cost: CostModel,
        layouts: Sequence[Layout],
        root: int = 0,
        hides: bool = True,
    ) -> None:
        self.units = units
        self.shards = ShardTable(units.graph, testbed, _states(layouts, root))
        self._cost = cost
        self._root = root
        self._capacity = _capacity(testbed)
        self._movement = Movement(self.shards, LinkPrices(testbed), cost)
        self._prices = GroupPrices(units.graph, cost)
        self._walker = Walker(units, self.shards, self._prices)
        self._gathering = Gathering(units, self.shards, self._movement, testbed, root, hides)

    def build(self, choice: Choice) -> Problem:
        """The problem of choosing segments and layouts; the choice's layouts are among the builder's."""
        shards, units = self.shards, self.units
        offered = np.array([layout in set(choice.layouts) for layout in shards.layouts])

        def allowed(cut: int) -> np.ndarray:
            if choice.allowed is not None:
                return offered & choice.allowed(shards, cut)
            return offered & self._may_end(cut)

        keep: Keep | None = None
        if choice.fuse is not None:
            keep = partial(choice.fuse, shards)
        ints, nothing = np.zeros(0, int), np.zeros((0, len(self._capacity)))
        options = [
            Options(ints, ints, np.zeros(0), np.zeros((len(alive), 0), int), np.zeros((len(alive), 0), bool), nothing)
            for alive in units.alive[:-1]
        ]
        least, hidden_s = np.zeros(len(units)), dict[tuple[int, int], float]()
        see = partial(self._entered, lonely=choice.lonely)
        for entered, seconds in self._walker.priced(allowed, see, keep, choice.begins):
            hidden = np.zeros(len(entered.legal))
            for walk, layout in entered.ending_at(len(units)):
                own_s = seconds[slice(*entered.offsets[walk : walk + 2])]
                hidden[walk] = self._gathering.hidden_s(entered.begin, layout, own_s)
                hidden_s[entered.begin, layout] = float(hidden[walk])
            arrival = 0.0 if entered.begin else arrival_s(units, self._cost)
            options[entered.begin] = entered.options(seconds + arrival, hidden)
            least[entered.begin] = max(0.0, entered.least_s - hidden.max(initial=0.0))
        return Problem(units, shards, self._space(options), self._prices.priced, least, hidden_s)

    def _may_end(self, cut: int) -> np.ndarray:
        """Layouts in which a segment may end at a cut, bool array (L,): in parts where something can be left so."""
        name = self.units.parts.get(cut)
        leaves_parts = np.array([layout.in_parts for layout in self.shards.layouts])
        parted = self.shards.in_parts(name) if name is not None else np.zeros_like(leaves_parts)
        return parted if cut in self.units.inner else parted | ~leaves_parts

    def _entered(self, step: Step, lonely: bool) -> _Entered:
        """The legal segments among the walks of a step."""
        shards, alive = self.shards, self.units.alive[step.begin]
        legal = step.legal if lonely else step.legal & _is_shared(shards, step)
        needs, fetches = np.zeros((len(alive), len(step.end)), int), np.zeros((len(alive), len(step.end)), bool)
        for row, name in enumerate(alive):
            box = step.needs.get(name)
            if box is not None and legal.any():
                needs[row] = self._movement.columns(name, box, step, legal)
                whole = np.asarray(self.units.graph.value(name).shape or (1,))
                is_whole = ((box.lo == 0) & (box.hi == whole)).all(axis=1)
                fetches[row] = np.logical_and.reduceat(is_whole, step.offsets[:-1])
        weights = np.zeros((len(step.end), len(self._capacity)))
        if self._capacity.size:
            walk = np.repeat(np.arange(len(step.end)), np.diff(step.offsets))
            weights[walk, shards.rank[step.rows]] = step.weights
        options = Options(step.end, step.layout, np.zeros(len(step.end)), needs, fetches, weights)
        least_s = 0.0 if step.begin + 1 in self.units.moments else _least_s(step)
        return _Entered(step.begin, step.offsets, legal, options, least_s)

    def _space(self, options: Sequence[Options]) -> Space:
        units, movement = self.units, self._movement
        names = tuple(dict.fromkeys(name for cut in units.alive for name in cut))
        number_of = {name: number for number, name in enumerate(names)}
        out = {name: movement.whole_at(name, self._root) for name in units.alive[-1]}
        tables = [movement.table(name) for name in names]
        columns = [out.get(name, 0) for name in names]
        return Space(
            options=tuple(options),
            alive=tuple(tuple(number_of[name] for name in cut) for cut in units.alive),
            start=(0,) * len(units.alive[0]),
            latency=tuple(table.latency for table in tables),
            volume=tuple(table.volume for table in tables),
            exit_latency=tuple(table.latency[:, column] for table, column in zip(tables, columns, strict=True)),
            exit_volume=tuple(table.volume[:, column] for table, column in zip(tables, columns, strict=True)),
            upgrade=_upgrade(self.shards),
            capacity=self._capacity,
        )


def arrival_s(units: Units, cost: CostModel) -> float:
    """Seconds that the first segment of a plan takes to take over the inputs of a request."""
    inputs = arrival_rows([sum(units.graph.value(name).nbytes for name in units.alive[0])])
    return float(cost.exchange_s(inputs)[0])


def _states(layouts: Sequence[Layout], root: int) -> tuple[Layout, ...]:
    """How values can be held: by the root alone, in each candidate layout, or whole on every rank of a team."""
    replicas = [Layout("replicated", layout.ranks) for layout in layouts if len(layout.ranks) > 1]
    return tuple(dict.fromkeys((Layout("single", (root,)), *layouts, *replicas)))


def _is_shared(shards: ShardTable, step: Step) -> np.ndarray:
    """Whether more ranks than one compute, where the layout has more: otherwise it is that rank's ``single``."""
    busy = np.add.reduceat((step.calls["kernels"] > 0).astype(int), step.offsets[:-1])
    return (busy > 1) | (np.diff(shards.offsets)[step.layout] == 1)


def _capacity(testbed: Testbed) -> np.ndarray:
    """Bytes of constants each rank may hold; empty when no device has a limit."""
    limits = [device.memory_bytes for device in testbed.devices]
    if all(limit is None for limit in limits):
        return np.zeros(0)
    return np.array([np.inf if limit is None else limit - PROCESS_BYTES for limit in limits])


def _upgrade(shards: ShardTable) -> np.ndarray:
    """State of a value after all ranks of a layout have fetched all of it: held by more ranks, or as it was."""
    teams = [set(layout.ranks) for layout in shards.layouts]
    holds_all = [layout.kind in ("replicated", "single") for layout in shards.layouts]
    upgrade = np.tile(np.arange(len(teams))[:, None], (1, len(teams)))
    for state, team in enumerate(teams):
        for layout, fetching in enumerate(teams):
            if shards.replicas[layout] >= 0 and not (holds_all[state] and fetching <= team):
                upgrade[state, layout] = shards.replicas[layout]
    return upgrade


# Pruning: how far walks are worth following. With a few ranks every segment is priced. With dozens, most long segments
# recompute so much that no plan with them can be the fastest: their work, and the least that the rest of the network
# takes, already exceed a plan that is known. In very long networks segments are bounded in length as well: that proves
# nothing, and the search says so.

MANY_ROWS = 160
"""Rows of a shard table (ranks, summed over candidate layouts) up to which all segments are priced."""

MANY_UNITS = 256
"""Units up to which segments may have any length."""

MOST_STEPS = 2_000_000
"""Rows of all steps of all walks beyond that: about a quarter of a minute, and half a GB."""

MARGIN = 0.9
"""Share of a unit's least price alone that it is trusted to cost within any segment: a learned price may fall a little
where the work grows."""


Rule = Callable[[ShardTable, Step], np.ndarray]
"""Which walks may go on behind a step, bool array (walks,): how far a planner fuses."""


def _least_s(step: Step) -> float:
    """The least that the unit a step takes in costs in any layout, alone."""
    slowest = np.maximum.reduceat(step.seconds, step.offsets[:-1])
    alone = slowest[(step.end == step.begin + 1) & step.legal]
    return float(MARGIN * alone.min()) if alone.size else 0.0


def alone(shards: ShardTable, step: Step) -> np.ndarray:
    """The rule by which every unit is a segment of its own."""
    return np.zeros(len(step.end), bool)


def longest(units: int, rows: int) -> int:
    """Most units of a segment that walks over so many units and rows are to follow."""
    return units if units <= MANY_UNITS else max(1, min(units, MOST_STEPS // (units * rows)))


def within(units: int, other: Rule | None = None) -> Rule:
    """The rule by which a walk goes on up to a number of units, and as another rule says."""

    def rule(shards: ShardTable, step: Step) -> np.ndarray:
        short: np.ndarray = step.end - step.begin < units
        return short if other is None else short & other(shards, step)

    return rule


def below(upper_s: float, least: np.ndarray) -> Rule:
    """The rule by which a walk goes on while a plan with it can still take less than `upper_s`."""
    before = np.concatenate(([0.0], np.cumsum(least)))

    def rule(shards: ShardTable, step: Step) -> np.ndarray:
        slowest = np.maximum.reduceat(step.seconds, step.offsets[:-1])
        rest = before[step.begin] + before[-1] - before[step.end]
        going: np.ndarray = slowest + rest <= upper_s
        return going

    return rule
