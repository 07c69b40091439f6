"""Blocks that a network repeats: the problem of a shorter network, and that of the whole one made of its numbers.

A decoder of 32 layers has 32 times the same block. What a segment costs depends on the nodes in it and on which of
their values leave it, so segments that lie alike in two blocks cost the same. So blocks in the middle are left out, the
shorter network is priced, and every segment of the whole one takes over the numbers of the one that lies like it::

    whole    head | block | block | block | block | block | tail
    shorter  head | block | block | tail                            (kept: 2, removed: 3)

Only segments of more than the kept blocks have no counterpart.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..core.graph import Graph, Node
from ..core.layout import Layout
from ..lower.forms import blocked_values
from .boxes import signature
from .units import Units, units

Ends = dict[int, tuple[int, tuple[Layout, ...]]]
"""Segments by the cuts at which they end: the cut at which each begins, and its layouts."""

LEAST = 3
"""Blocks that a network must repeat for some to be left out."""


@dataclass(frozen=True)
class Repeats:
    """Where a network repeats itself: equal blocks of nodes and of units, one behind the other."""

    units: Units
    alike_from: int  # node from which on all have a counterpart a block later, up to the last block
    begin: int  # cut at which the first block begins
    period: int  # units of a block
    count: int  # blocks

    @property
    def first(self) -> int:
        """The first node of the first block."""
        return self.units.ends[self.begin]

    @property
    def nodes(self) -> int:
        """Nodes of a block."""
        return self.units.ends[self.begin + self.period] - self.first

    @property
    def end(self) -> int:
        """The node behind the last block."""
        return self.first + self.count * self.nodes

    @cached_property
    def _inputs(self) -> Mapping[str, tuple[int, int]]:
        """Inputs of the graph that each block has one of: the node that reads it first, and as which input."""
        graph, found = self.units.graph, dict[str, tuple[int, int]]()
        for index in range(self.first, self.end):
            other = index + self.nodes if index + self.nodes < self.end else index - self.nodes
            pairs = zip(graph.nodes[index].inputs, graph.nodes[other].inputs, strict=True)
            for number, (name, counterpart) in enumerate(pairs):
                if name != counterpart and name in graph.inputs:
                    found.setdefault(name, (index, number))
        return found

    def place(self, name: str) -> int | None:
        """The node that makes a value, or the first to read an input that each block has one of."""
        return self.units.graph.producer.get(name, self._inputs.get(name, (None,))[0])

    def counterpart(self, name: str, blocks: int) -> str | None:
        """What stands for a value in what lies so many blocks before: the value itself where all blocks share it.

        None where that is before the first block and what is like it, so that nothing stands for it.
        """
        nodes, place = self.units.graph.nodes, self.place(name)
        if blocks == 0 or place is None or not self.alike_from <= place < self.end:
            return name
        earlier = place - blocks * self.nodes
        if earlier < self.alike_from:
            return None
        if name in self._inputs:
            return nodes[earlier].inputs[self._inputs[name][1]]
        return nodes[earlier].outputs[nodes[place].outputs.index(name)]


def repeats(pieces: Units) -> Repeats | None:
    """Where a network repeats itself most, if it does."""
    graph = pieces.graph
    known: dict[Hashable, int] = {}
    kinds = np.array([known.setdefault(signature(node), len(known)) for node in graph.bound])
    runs = ((nodes, *run) for nodes, first, end in _candidates(kinds) for run in _wired(graph, nodes, first, end))
    found = (_aligned(pieces, *run) for run in runs)
    return max((each for each in found if each is not None), key=_length, default=None)


def _length(found: Repeats) -> int:
    return (found.count - 1) * found.nodes


TRIED = 8
"""Lengths of blocks that are looked at closely, those that repeat longest first."""


def _candidates(kinds: np.ndarray) -> list[tuple[int, int, int]]:
    """(nodes of a block, first, end) of the longest runs of nodes that are each like one a block later."""
    found = []
    for nodes in range(1, len(kinds) // LEAST + 1):
        alike = np.concatenate(([0], (kinds[:-nodes] == kinds[nodes:]).astype(np.int8), [0]))
        begins, ends = np.flatnonzero(np.diff(alike) == 1), np.flatnonzero(np.diff(alike) == -1)
        if begins.size:
            longest = int(np.argmax(ends - begins))
            first, end = int(begins[longest]), int(ends[longest])
            if end - first >= (LEAST - 1) * nodes:
                found.append((nodes, first, end))
    return sorted(found, key=lambda each: (-(each[2] - each[1]), each[0]))[:TRIED]


def _wired(graph: Graph, nodes: int, first: int, end: int) -> Iterator[tuple[int, int]]:
    """Runs of nodes between `first` and `end` that also read what is alike, the same number of nodes later."""
    begin, pairs = first, _Pairs()
    for index in range(first, end + 1):
        if index == end or not _reads_alike(graph, index, nodes, begin, pairs):
            if index - begin >= (LEAST - 1) * nodes:
                yield begin, index
            begin, pairs = index + 1, _Pairs()


class _Pairs:
    """Inputs of a graph that stand for each other, one for one."""

    def __init__(self) -> None:
        self._later: dict[str, str] = {}
        self._earlier: dict[str, str] = {}

    def fit(self, name: str, later: str) -> bool:
        """Whether two go together, given all that do so already."""
        return self._later.setdefault(name, later) == later and self._earlier.setdefault(later, name) == name


def _reads_alike(graph: Graph, index: int, nodes: int, begin: int, pairs: _Pairs) -> bool:
    """Whether a node reads what the one `nodes` later does: the same from before `begin`, or what stands for it."""
    node, later = graph.nodes[index], graph.nodes[index + nodes]
    if node.captures or later.captures or node.has_opaque_attributes:
        return False
    return all(
        _stands_for(graph, name, other, nodes, begin, pairs)
        for name, other in zip(node.inputs, later.inputs, strict=True)
    )


def _stands_for(graph: Graph, name: str, later: str, nodes: int, begin: int, pairs: _Pairs) -> bool:
    if not name or not later or graph.value(name).is_constant:
        return bool(name) == bool(later)
    made, made_later = graph.producer.get(name), graph.producer.get(later)
    if made is None or made_later is None:
        return made is made_later and pairs.fit(name, later)
    if name == later:
        return made < begin
    outputs = graph.nodes[made].outputs, graph.nodes[made_later].outputs
    return made + nodes == made_later and outputs[0].index(name) == outputs[1].index(later)


def _aligned(pieces: Units, nodes: int, alike_from: int, alike_until: int) -> Repeats | None:
    """The blocks of whole units in a run of nodes each of which is like the one a block later."""
    graph, cut_at = pieces.graph, {end: cut for cut, end in enumerate(pieces.ends)}
    for begin, first in enumerate(pieces.ends):
        if first < alike_from or first + nodes not in cut_at:
            continue
        if first + nodes > alike_until:
            break
        if not _keeps_inside(graph, first, first + nodes, alike_from):
            continue
        period, count, face = cut_at[first + nodes] - begin, 0, None
        for cut in range(begin, len(pieces) - period + 1, period):
            other = _face(pieces, cut, period)
            if pieces.ends[cut + period] > alike_until + nodes or (face is not None and other != face):
                break
            face, count = other, count + 1
        return Repeats(pieces, alike_from, begin, period, count) if count >= LEAST else None
    return None


def _keeps_inside(graph: Graph, first: int, end: int, alike_from: int) -> bool:
    """Whether no node of a first block reads what was made before, yet is not the same for all blocks."""
    nodes = end - first
    for index in range(first, end):
        for name, later in zip(graph.nodes[index].inputs, graph.nodes[index + nodes].inputs, strict=True):
            if name != later and graph.producer.get(name, alike_from) < alike_from:
                return False
    return True


def _face(pieces: Units, cut: int, count: int) -> Hashable:
    """What `count` units behind a cut must have in common with others, to be as good as they are."""
    graph, base = pieces.graph, pieces.ends[cut]
    uses = (_use(graph, name, base) for node in graph.nodes[base : pieces.ends[cut + count]] for name in node.writes)
    return tuple(_unit_face(pieces, number, base) for number in range(cut, cut + count)), tuple(uses)


def _use(graph: Graph, name: str, base: int) -> Hashable:
    last = graph.last_use.get(name)
    return name in graph.outputs, None if last in (None, len(graph.nodes)) else last - base


def _unit_face(pieces: Units, number: int, base: int) -> Hashable:
    """A unit with its groups, as nodes from `base` on."""
    unit = pieces[number]
    groups = []
    for index in unit.groups:
        group = pieces.groups[index]
        into = index - group.fused_into if group.fused_into >= 0 else None
        groups.append((group.first - base, group.end - base, group.main - base, into, group.follows))
    part = pieces.parts.get(number + 1)
    return unit.first - base, unit.end - base, unit.fixed, tuple(groups), part and pieces.graph.producer[part] - base


# The shorter network


@dataclass(frozen=True)
class Shortened:
    """A network without some of its blocks."""

    whole: Repeats
    kept: int  # blocks
    units: Units  # of the shorter network

    @property
    def removed(self) -> int:
        """How many blocks were left out."""
        return self.whole.count - self.kept

    @property
    def longest(self) -> int:
        """Units up to which all segments of the whole network have a counterpart."""
        return (self.kept - 1) * self.whole.period + 1

    @property
    def makes_outputs(self) -> bool:
        """Whether blocks make outputs of the network."""
        return any(
            self.whole.alike_from <= (self.whole.place(name) or 0) < self.whole.end
            for name in self.whole.units.graph.outputs
        )

    def origin(self, cut: int) -> tuple[int, int, int]:
        """The cut of the shorter network that stands for one, how many blocks before, and the last end for it."""
        begin, period = self.whole.begin, self.whole.period
        blocks = min(max(0, (cut - begin) // period), self.removed)
        if blocks == self.removed:
            return cut - blocks * period, blocks, len(self.units)
        return cut - blocks * period, blocks, begin + (self.kept - (cut < begin)) * period

    def counterparts(self, ends: Ends) -> Ends | None:
        """The segments that stand for those of a plan, both by their ends; None where blocks are not planned alike."""
        found: Ends = {}
        for end, (begin, layouts) in ends.items():
            origin, blocks, last = self.origin(begin)
            end -= blocks * self.whole.period
            if end > last or found.setdefault(end, (origin, layouts)) != (origin, layouts):
                return None
        return found

    def unfolded(self, spans: Sequence[tuple[int, int, Layout]]) -> list[tuple[int, int, Layout]] | None:
        """Segments of the whole network as those of the shorter one, all three by nodes ``[first, end)``.

        None where no two of its blocks, one behind the other, are planned alike.
        """
        size, last = self.whole.nodes, self.whole.first + self.kept * self.whole.nodes
        firsts = {first: number for number, (first, _, _) in enumerate(spans)}

        def later(some: Sequence[tuple[int, int, Layout]], blocks: int) -> list[tuple[int, int, Layout]]:
            return [(first + blocks * size, end + blocks * size, layout) for first, end, layout in some]

        for first, number in firsts.items():
            middle, end = firsts.get(first + size), firsts.get(first + 2 * size)
            if not self.whole.first <= first <= last - 2 * size or middle is None or end is None:
                continue
            if later(block := spans[number:middle], 1) == list(spans[middle:end]):
                copies = (span for blocks in range(1, self.removed + 1) for span in later(block, blocks))
                return [*spans[:middle], *copies, *later(spans[middle:], self.removed)]
        return None

    def place(self, cut: int) -> int:
        """A cut of the whole network that one of the shorter one stands for."""
        behind = cut > self.whole.begin + self.kept * self.whole.period
        return cut + behind * self.removed * self.whole.period

    def stand_in(self, name: str) -> str:
        """The value of the shorter network that is held and moved as one of the whole network is."""
        node = self.whole.place(name)
        block = (node - self.whole.first) // self.whole.nodes if node is not None else 0
        return self.whole.counterpart(name, min(max(0, block - self.kept + 1), self.removed)) or name


ENOUGH = 48
"""Units of the longest segments that a shorter network is meant to have counterparts of, and two blocks at least."""


def shortened(
    pieces: Units, blocks: Sequence[int], starts: Collection[int] = (), reach: int = ENOUGH
) -> Shortened | None:
    """A network without some of the blocks that it repeats, if it does; all else is as of :func:`shorten`.

    Segments of up to `reach` units have counterparts.
    """
    whole = repeats(pieces)
    return None if whole is None else shorten(whole, max(2, 1 + -(-(reach - 1) // whole.period)), blocks, starts)


def shorten(whole: Repeats, kept: int, blocks: Sequence[int], starts: Collection[int] = ()) -> Shortened | None:
    """The network with so many of its blocks; None where what is left is not the same as before.

    `blocks` are the channels to a block in which ranks may compute convolutions, `starts` the nodes at which segments
    begin for whose sake its units are as they are.
    """
    graph, removed = whole.units.graph, whole.count - kept
    if removed < 1:
        return None
    tail = [_renamed(whole, node, removed) for node in graph.nodes[whole.end :]]
    if None in tail:
        return None
    nodes = (*graph.nodes[: whole.first + kept * whole.nodes], *(node for node in tail if node is not None))
    read = {name for node in nodes for name in node.reads}
    gone = {name for node in graph.nodes for name in node.reads} - read
    made = {name for node in nodes for name in node.writes}
    short = replace(
        graph,
        nodes=nodes,
        inputs=tuple(name for name in graph.inputs if name not in gone),
        outputs=tuple(name for name in graph.outputs if name in made or name in graph.inputs),
    )
    behind = whole.first + kept * whole.nodes
    begun = [at if at < behind else at - removed * whole.nodes for at in starts if not behind <= at < whole.end]
    result = Shortened(whole, kept, units(short, begun, with_parts=bool(whole.units.parts)))
    return result if _is_alike(result) and _holds_alike(result, blocks) else None


def _renamed(whole: Repeats, node: Node, removed: int) -> Node | None:
    """A node behind the blocks that reads what stands for what it read; None where nothing does, or it hides it."""
    if any(whole.counterpart(name, removed) != name for name in node.captures):
        return None
    inputs = [name and whole.counterpart(name, removed) for name in node.inputs]
    known = tuple(name for name in inputs if name is not None)
    return replace(node, inputs=known) if len(known) == len(inputs) else None


def _is_alike(short: Shortened) -> bool:
    """Whether units and groups of the shorter network are those that it has in the whole one."""
    whole, here = short.whole.units, short.units
    if len(here) != len(whole) - short.removed * short.whole.period:
        return False
    last = short.whole.begin + short.kept * short.whole.period
    return all(
        _unit_face(here, number, 0) == _unit_face(whole, number, 0)
        if number < last
        else _unit_face(here, number, here.ends[last])
        == _unit_face(whole, number + short.removed * short.whole.period, short.whole.end)
        for number in range(len(here))
    )


def _holds_alike(short: Shortened, blocks: Sequence[int]) -> bool:
    """Whether values are in blocks of channels where those that stand for them are."""
    whole, graph = short.whole, short.whole.units.graph
    for block in {*blocks} - {0}:
        held, here = blocked_values(graph, block), blocked_values(short.units.graph, block)
        earlier = ((name, whole.counterpart(name, 1)) for name in graph.producer)
        if here != held & short.units.graph.producer.keys():
            return False
        if any(other is not None and (name in held) != (other in held) for name, other in earlier):
            return False
    return True
