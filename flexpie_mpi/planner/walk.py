"""The backward walk of :mod:`flexpie_mpi.lower.shards` for every segment, layout and rank at once.

A walk begins at a cut with the shards of a layout and goes back unit by unit; every unit it passes is one more segment
``[i, j)``. Nothing that it has passed changes when it goes on, so n walks cover all n (n + 1) / 2 segments. All walks
take each step together: their rows (one per rank) are stacked, and a step is a handful of array operations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from ..core.graph import BoundNode, Graph
from ..cost.groups import FusedGroup, describe, epilogue_ops, is_blocked
from ..cost.model import CostModel
from ..cost.rows import CALL, distinct_rows
from ..lower.memory import held_bytes
from .boxes import Boxes, NodeMap, ShardTable, signature
from .units import Unit, Units


class GroupPrices:
    """Seconds of a graph's fused groups on the reference device; `priced` counts the distinct pieces of work.

    Equal pieces of work are priced once.
    """

    def __init__(self, graph: Graph, cost: CostModel) -> None:
        self.priced = 0
        self.cost = cost
        self._graph = graph
        self._known: dict[Hashable, dict[tuple[float, ...], float]] = {}

    def seconds(
        self, group: FusedGroup, out: Boxes, inputs: Sequence[Boxes | None], sums: np.ndarray, active: np.ndarray
    ) -> np.ndarray:
        """Seconds of each of n shards of a group, float array (n,).

        `out` has what each shard computes of the main node's first output, `inputs` what it reads of the main node's
        inputs, `sums` (n,) whether the group takes an addition along; `active` (n,) is as of
        :meth:`flexpie_mpi.cost.model.CostModel.compute_s`.
        """
        node = self._graph.bound[group.main]
        first = next((box for box in inputs if box is not None), out)
        read = sum((box.present for box in inputs if box is not None), np.zeros(len(sums)))  # one rank adds a bias
        keys = np.column_stack((out.extents, first.extents, read, sums, active))
        index, inverse = distinct_rows(keys)
        epilogue = epilogue_ops(self._graph, group)
        known = self._known.setdefault((signature(node), epilogue), {})
        shapes = [tuple(row) for row in keys[index].tolist()]
        new = [number for number, shape in enumerate(shapes) if shape not in known]
        if new:
            at = index[new]
            extents = [None if box is None else box.take(at).extents for box in inputs]
            work = describe(node, out.take(at).extents, extents, epilogue)
            work["sums"] = sums[at]
            prices = self.cost.compute_s(work, active[at])
            known.update(zip((shapes[number] for number in new), prices.tolist(), strict=True))
            self.priced += len(new)
        return np.array([known[shape] for shape in shapes])[inverse]


@dataclass(frozen=True, slots=True)
class Step:
    """Every walk as it stands at cut `begin`: one segment each, and a row for each rank of its layout."""

    begin: int
    # `end` and `layout`: int array (walks,)
    end: np.ndarray
    layout: np.ndarray
    offsets: np.ndarray  # int array (walks + 1,). First row of each walk.
    rows: np.ndarray  # int array (rows,). Where the rank and the layout stand in the shard table.
    seconds: np.ndarray  # float array (rows,), of the fused groups that the rank runs
    weights: np.ndarray  # float array (rows,). Bytes of constants that the rank reads.
    calls: np.ndarray  # array (rows,) of CALL
    needs: dict[str, Boxes]  # what the rank must hold of each value from before the cut
    legal: np.ndarray  # bool array (walks,). Whether the layout cuts anything that leaves the segment.


Allowed = Callable[[int], np.ndarray]
"""Layouts in which a segment may end at a cut, bool array (L,)."""

Keep = Callable[[Step], np.ndarray]
"""Which walks go on behind a step, bool array (walks,)."""

Seen = TypeVar("Seen")


@dataclass
class _Walks:
    """The walks under way, as in :class:`Step`; `walk` is the walk of each row.

    Arrays are new after each `begin`, so that those of a step stay as they were.

    `wanted` is what later nodes of a segment read of values that are not made yet. `deferred_cost` is, by unit, the
    seconds of groups that are free once the walk takes in that unit, since the group there runs them along.
    """

    end: np.ndarray
    layout: np.ndarray
    legal: np.ndarray
    walk: np.ndarray
    rows: np.ndarray
    seconds: np.ndarray
    weights: np.ndarray
    calls: np.ndarray
    barred: np.ndarray  # bool array (walks,). Walks over a reader of what they were to leave in parts.
    wanted: dict[str, Boxes] = field(default_factory=dict)
    deferred_cost: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def none(cls) -> _Walks:
        """Before the first walk begins."""
        ints, floats = np.zeros(0, int), np.zeros(0)
        return cls(ints, ints, np.zeros(0, bool), ints, ints, floats, floats, np.zeros(0, CALL), np.zeros(0, bool))

    def begin(self, shards: ShardTable, cut: int, layouts: np.ndarray) -> None:
        """Add a walk that ends at `cut` for each of `layouts`."""
        sizes = shards.offsets[layouts + 1] - shards.offsets[layouts]
        rows = np.flatnonzero(np.isin(shards.layout, layouts))
        zeros = np.zeros(len(rows))
        self.walk = np.concatenate((self.walk, len(self.end) + np.repeat(np.arange(len(layouts)), sizes)))
        self.end = np.concatenate((self.end, np.full(len(layouts), cut)))
        self.layout = np.concatenate((self.layout, layouts))
        self.legal = np.concatenate((self.legal, np.zeros(len(layouts), bool)))
        self.barred = np.concatenate((self.barred, np.zeros(len(layouts), bool)))
        self.rows = np.concatenate((self.rows, rows))
        self.seconds = np.concatenate((self.seconds, zeros))
        self.weights = np.concatenate((self.weights, zeros))
        self.calls = np.concatenate((self.calls, np.zeros(len(rows), CALL)))
        self.wanted = {name: box.join(Boxes.absent(len(rows), box.lo.shape[1])) for name, box in self.wanted.items()}
        self.deferred_cost = {unit: np.concatenate((cost, zeros)) for unit, cost in self.deferred_cost.items()}

    def keep(self, going: np.ndarray) -> None:
        """End every walk that is not marked in `going`, bool array (walks,)."""
        if going.all():
            return
        kept = going[self.walk]
        self.walk = (np.cumsum(going) - 1)[self.walk[kept]]
        self.end, self.layout, self.legal = self.end[going], self.layout[going], self.legal[going]
        self.barred = self.barred[going]
        self.rows, self.seconds = self.rows[kept], self.seconds[kept]
        self.weights, self.calls = self.weights[kept], self.calls[kept]
        self.wanted = {name: box.take(kept) for name, box in self.wanted.items()}
        self.deferred_cost = {unit: cost[kept] for unit, cost in self.deferred_cost.items()}

    @property
    def offsets(self) -> np.ndarray:
        return np.searchsorted(self.walk, np.arange(len(self.end) + 1))


class Walker:
    """Walks over a graph's units."""

    def __init__(self, units: Units, shards: ShardTable, prices: GroupPrices) -> None:
        self._units = units
        self._graph = units.graph
        self._shards = shards
        self._prices = prices
        self._maps: dict[object, NodeMap] = {}
        self._ends = np.array(units.ends)

    def steps(
        self, allowed: Allowed, keep: Keep | None = None, begins: Collection[int] | None = None
    ) -> Iterator[Step]:
        """Every step of all walks, from the last cut but one down to cut 0; or those at some cuts."""
        walks = _Walks.none()
        for cut in range(len(self._units) - 1, -1, -1):
            unit = self._units[cut]
            if unit.fixed:
                walks.keep(walks.layout == 0)
            layouts = np.flatnonzero(allowed(cut + 1))
            walks.begin(self._shards, cut + 1, layouts[layouts == 0] if unit.fixed else layouts)
            if len(walks.end):
                walks.seconds = walks.seconds - walks.deferred_cost.pop(cut, 0.0)
                self._pass(walks, unit)
                walks.keep(~walks.barred)
                if begins is not None and cut not in begins:
                    continue
                step = self._step(walks, cut)
                yield step
                if keep is not None:
                    walks.keep(keep(step))

    def priced(
        self,
        allowed: Allowed,
        see: Callable[[Step], Seen],
        keep: Keep | None = None,
        begins: Collection[int] | None = None,
    ) -> list[tuple[Seen, np.ndarray]]:
        """What `see` makes of every such step, and the seconds (rows,) of its rows with their session calls.

        All calls are priced in one batch in the end, equal ones once, so that no step need be kept until then.
        """
        seen, calls, count = list[tuple[Seen, np.ndarray, np.ndarray, np.ndarray]](), list[np.ndarray](), 0
        for step in self.steps(allowed, keep, begins):
            asked = np.column_stack(
                (step.calls.view("f8").reshape(len(step.calls), -1), self._shards.active[step.rows])
            )
            index, number = distinct_rows(asked)
            calls.append(asked[index])
            seen.append((see(step), step.rows, step.seconds, count + number))
            count += len(index)
        call_s = self._call_s(np.concatenate(calls)) if calls else np.zeros(0)
        slowdown = self._shards.slowdown
        return [(each, seconds + call_s[number] * slowdown[rows]) for each, rows, seconds, number in seen]

    def _call_s(self, asked: np.ndarray) -> np.ndarray:
        """Seconds (n,) of calls, rows (n, 7) of the columns of `CALL` and the load; none where no kernel runs."""
        index, inverse = distinct_rows(asked)
        calls = np.ascontiguousarray(asked[index, :-1]).view(CALL).reshape(-1)
        call_s = self._prices.cost.call_s(calls, asked[index, -1])
        call_s[calls["kernels"] == 0] = 0.0
        return np.asarray(call_s[inverse])

    def _step(self, walks: _Walks, cut: int) -> Step:
        needs = {name: walks.wanted[name] for name in self._units.alive[cut] if name in walks.wanted}
        calls = walks.calls.copy()
        for name, box in needs.items():
            nbytes = box.sizes * self._graph.value(name).itemsize
            calls["in_bytes"] += nbytes
            calls["laid_bytes"] += nbytes * self._shards.are_blocked(name, box, walks.rows)
            calls["inputs"] += box.present
        return Step(
            cut, walks.end, walks.layout, walks.offsets, walks.rows, walks.seconds, walks.weights, calls, needs,
            walks.legal,
        )  # fmt: skip

    def _pass(self, walks: _Walks, unit: Unit) -> None:
        """Take the nodes of a unit along, last to first."""
        starting = {self._units.groups[number].main: number for number in unit.groups}
        for position in range(unit.end - 1, unit.first - 1, -1):
            node = self._graph.bound[position]
            if position in self._graph.preparing and not set(node.node.writes) & set(self._graph.outputs):
                continue
            taken = self._take_whole(walks, node) if unit.fixed else self._take(walks, node)
            if taken is not None and position in starting:
                self._charge(walks, starting[position], *taken)

    def _take(self, walks: _Walks, node: BoundNode) -> tuple[np.ndarray, Boxes, list[Boxes | None]] | None:
        """The regions a node computes and reads on every row that wants any: (those rows, out, inputs)."""
        parted = self._parted(walks, node)
        out = [self._wanted(walks, name) if name else None for name in node.node.outputs]
        there = [box.present for box in out if box is not None]
        active = np.flatnonzero(np.logical_or.reduce(there)) if there else np.zeros(0, int)
        if not active.size:
            return None
        reader = self._map(node)
        taken = reader.widen([None if box is None else box.take(active) for box in out])
        inputs = self._with_parts(walks, node, parted, active, reader.read(taken))
        self._want_all(walks, node, active, inputs)
        main = next(box for box in taken if box is not None)
        return active, main, inputs

    def _parted(self, walks: _Walks, node: BoundNode) -> np.ndarray:
        """Rows that are to leave a node's value in parts, bool array (rows,).

        A walk ends where a node of its segment reads all of the value.
        """
        name = node.node.writes[0]
        leaving = self._shards.in_parts(name)[walks.layout]
        if leaving.any():
            leaving &= self._ends[walks.end] <= self._graph.last_use.get(name, -1)
            inside = walks.wanted.get(name)
            if inside is not None:
                walks.barred[walks.walk[inside.present & leaving[walks.walk]]] = True
        return np.asarray(leaving[walks.walk])

    def _with_parts(
        self, walks: _Walks, node: BoundNode, parted: np.ndarray, active: np.ndarray, inputs: list[Boxes | None]
    ) -> list[Boxes | None]:
        """What a node reads on the rows `active`; those that leave its value in parts read for their part only."""
        which = np.flatnonzero(parted[active])
        if not which.size:
            return inputs
        boxes, rows = list[Boxes | None](), walks.rows[active[which]]
        for box, part in zip(inputs, self._shards.part_reads(node.node.writes[0]), strict=True):
            if box is not None and part is not None:
                box = Boxes(box.lo.copy(), box.hi.copy())
                box.lo[which], box.hi[which] = part.lo[rows], part.hi[rows]
            boxes.append(box)
        return boxes

    def _take_whole(self, walks: _Walks, node: BoundNode) -> tuple[np.ndarray, Boxes, list[Boxes | None]]:
        """The same for a node that the root runs whole, whatever is wanted of it."""
        active = np.arange(len(walks.rows))
        for name in node.node.writes:
            if not self._graph.value(name).is_opaque:
                self._wanted(walks, name)
        whole = [
            None if value is None or value.is_opaque else Boxes.whole(len(active), value.shape or ())
            for value in (*node.inputs, *node.outputs)
        ]
        self._want_all(walks, node, active, whole[: len(node.inputs)])
        out = next((box for box in whole[len(node.inputs) :] if box is not None), Boxes.whole(len(active), ()))
        walks.legal[:] = True
        return active, out, whole[: len(node.inputs)]

    def _wanted(self, walks: _Walks, name: str) -> Boxes:
        """What every row must compute of a value: what later nodes of its segment read, and its shard if it leaves."""
        graph = self._graph
        inside = walks.wanted.pop(name, None)
        leaves = self._ends[walks.end] <= graph.last_use.get(name, -1)
        if name in graph.derived and name not in graph.outputs:
            leaves[:] = False
        ndim = len(graph.value(name).shape or ())
        box = Boxes.absent(len(walks.rows), ndim) if inside is None else inside
        if not leaves.any():
            return box
        walks.legal |= leaves & self._shards.cuts(name)[walks.layout]
        leaving = np.flatnonzero(leaves[walks.walk])
        owned = self._shards.owned(name).take(walks.rows[leaving])
        hull, written = box.take(leaving).hull(owned), owned.present
        box.lo[leaving], box.hi[leaving] = hull.lo, hull.hi
        walks.calls["outputs"][leaving] += written
        nbytes = np.where(written, hull.sizes * graph.value(name).itemsize, 0.0)
        walks.calls["out_bytes"][leaving] += nbytes
        walks.calls["laid_bytes"][leaving] += nbytes * self._shards.are_blocked(name, hull, walks.rows[leaving])
        return box

    def _want_all(self, walks: _Walks, node: BoundNode, active: np.ndarray, inputs: Sequence[Boxes | None]) -> None:
        """Note what a node reads on the rows `active`: of constants the bytes that stay in memory, else the region.

        Values that only a subgraph reads are read whole.
        """
        rows = inputs[1].sizes if len(inputs) > 1 and inputs[1] is not None else np.zeros(len(active))
        for index, (name, box) in enumerate(zip(node.node.inputs, inputs, strict=True)):
            if box is None:
                continue
            value = self._graph.value(name)
            if value.is_constant and not value.is_opaque:
                walks.weights[active] += held_bytes(node, index, box.sizes * value.itemsize, rows)
            else:
                self._want(walks, name, active, box)
        for name in node.node.captures:
            self._want(walks, name, active, Boxes.whole(len(active), self._graph.value(name).shape or ()))

    def _want(self, walks: _Walks, name: str, active: np.ndarray, box: Boxes) -> None:
        value = self._graph.value(name)
        if value.is_opaque:
            return
        if value.is_constant or name in self._graph.derived:
            walks.weights[active] += box.sizes * value.itemsize
            return
        known = walks.wanted.get(name)
        if known is None:
            known = walks.wanted[name] = Boxes.absent(len(walks.rows), box.lo.shape[1])
        else:
            box = box.hull(known.take(active))
        known.lo[active], known.hi[active] = box.lo, box.hi

    def _charge(
        self, walks: _Walks, number: int, active: np.ndarray, out: Boxes, inputs: Sequence[Boxes | None]
    ) -> None:
        """Add a group's price to the rows that run it; note it for later if another group takes this one along."""
        group, shards, units = self._units.groups[number], self._shards, self._units
        rows = walks.rows[active]
        seconds = np.zeros(len(active))
        for each, chosen in self._with_epilogue(walks, number, active):
            walks.calls["kernels"][active[chosen]] += each is group  # an epilogue has been counted
            read = [None if box is None else box.take(chosen) for box in inputs]
            sums, load = self._sums(walks, number)[active[chosen]], shards.active[rows[chosen]]
            seconds[chosen] = self._prices.seconds(each, out.take(chosen), read, sums, load)
        seconds = seconds * shards.slowdown[rows]
        walks.calls["blocked"][active] = np.maximum(walks.calls["blocked"][active], is_blocked(self._graph, group))
        walks.seconds[active] += seconds
        unit = units.unit_of_group.get(group.fused_into, -1)
        if 0 <= unit < units.unit_of_group[number]:
            deferred = walks.deferred_cost.setdefault(unit, np.zeros(len(walks.rows)))
            deferred[active] += seconds

    def _with_epilogue(self, walks: _Walks, number: int, active: np.ndarray) -> Iterator[tuple[FusedGroup, np.ndarray]]:
        """The group as rows run it, and which rows: with its epilogue, or without where their segment ends before."""
        group, groups, everyone = self._units.groups[number], self._units.groups, np.arange(len(active))
        if number + 1 == len(groups) or not groups[number + 1].follows:
            yield group, everyone
            return
        goes_on = (walks.end > self._units.unit_of_group[number + 1])[walks.walk[active]]
        parts = (group, everyone[~goes_on]), (replace(group, end=groups[number + 1].end), everyone[goes_on])
        yield from (part for part in parts if part[1].size)

    def _sums(self, walks: _Walks, number: int) -> np.ndarray:
        """Whether each row's segment holds an addition that this group takes along: bool array (rows,)."""
        units = self._units
        adding = [
            units.unit_of_group[later]
            for later, group in enumerate(units.groups[number + 1 : number + 5], number + 1)
            if group.fused_into == number and not group.follows
        ]
        return np.asarray((walks.end > min(adding, default=len(units)))[walks.walk])

    def _map(self, node: BoundNode) -> NodeMap:
        key = signature(node)
        if key not in self._maps:
            self._maps[key] = NodeMap(node)
        return self._maps[key]
