"""Boundaries of segments: what every rank holds, and the exchange that brings it what the next segment needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..core.blocks import nbytes_of
from ..core.exchange import Transfer, classify, transfers
from ..core.graph import Graph, Value
from ..core.program import Buffer, Exchange, LocalCopy, Message, Piece
from ..core.region import Region
from ..ops import rule_for
from .forms import Forms

Pair = tuple[int, int]
Needs = Mapping[str, Mapping[int, Region]]
"""Region of each value that each rank must hold."""


@dataclass(frozen=True, slots=True)
class Held:
    """A buffer that holds `region` of a value once segment `since` has run (-1: from the beginning).

    Or, where it `is_part`, a part of what is summed there.
    """

    buffer: int
    region: Region | None
    since: int
    is_part: bool = False


@dataclass(slots=True)
class Holdings:
    """Buffers of every rank, and what they hold of which value."""

    ranks: int
    forms: Forms
    buffers: list[list[Buffer]] = field(init=False)
    _held: dict[str, dict[int, list[Held]]] = field(default_factory=dict)
    _carriers: dict[str, frozenset[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.buffers = [[] for _ in range(self.ranks)]

    def add(
        self,
        rank: int,
        value: Value,
        region: Region | None,
        since: int,
        *,
        is_part: bool = False,
        is_state: bool = False,
    ) -> int:
        """A new buffer of `rank` for `region` of `value`, or for a part of it; its number."""
        index = len(self.buffers[rank])
        block = self.forms.block(rank, value.name, region)
        nbytes = nbytes_of(region, block, value.itemsize) if region is not None else 0
        self.buffers[rank].append(Buffer(index, value.name, region, value.dtype, nbytes, block, is_part, is_state))
        self._held.setdefault(value.name, {}).setdefault(rank, []).append(Held(index, region, since, is_part))
        return index

    def lacking(self, value: str, needs: Mapping[int, Region]) -> dict[int, Region]:
        """What ranks need of a value that is in parts, and nobody has put together for them."""
        if self.is_carried(value) or not self.parts(value):
            return {}
        return {
            rank: region
            for rank, region in needs.items()
            if not any(each.contains(region) for each in self.regions(value).get(rank, ()))
        }

    def parts(self, value: str) -> dict[int, Held]:
        """The part of a value that each rank holds, by rank; none of a value that is not in parts."""
        return {
            rank: held for rank, items in sorted(self._held.get(value, {}).items()) for held in items if held.is_part
        }

    def of(self, value: str, rank: int) -> list[Held]:
        """Everything `rank` holds of a value."""
        return self._held.get(value, {}).get(rank, [])

    def whole(self, value: str, rank: int) -> list[Held]:
        """What `rank` holds of a value, but for a part of it."""
        return [held for held in self.of(value, rank) if not held.is_part]

    def exact(self, value: str, rank: int, region: Region | None) -> int | None:
        """A buffer of `rank` that holds exactly `region` of a value."""
        return next((held.buffer for held in self.whole(value, rank) if held.region == region), None)

    def common_block(self, *held: tuple[int, int]) -> int:
        """Channels to a block of two buffers, each of (rank, buffer); 0 where they differ."""
        first, second = (self.buffers[rank][buffer].block for rank, buffer in held)
        return first if first == second else 0

    def carry(self, value: str, ranks: Iterable[int]) -> None:
        """From now on only `ranks` give a value to others."""
        self._carriers[value] = frozenset(ranks)

    def is_carried(self, value: str) -> bool:
        """Whether only some of those who hold a value give it to others."""
        return value in self._carriers

    def regions(self, value: str, reader: int | None = None) -> dict[int, list[Region]]:
        """What each rank holds of a value; of one that is carried, its carriers, and a `reader` for itself."""
        ranks, givers = self._held.get(value, {}), self._carriers.get(value)
        return {
            rank: [held.region for held in items if held.region is not None and not held.is_part]
            for rank, items in ranks.items()
            if givers is None or rank in givers or rank == reader
        }


@dataclass(slots=True)
class Boundary:
    """An exchange as all ranks see it."""

    kind: str = "local"
    after: int = -1  # the segment after which everything sent is there; -1 for the beginning
    # `sent` and `received`: pieces of each (source, target) pair, in the buffers of the source and of the target
    sent: dict[Pair, list[Piece]] = field(default_factory=dict)
    received: dict[Pair, list[Piece]] = field(default_factory=dict)
    # `outgoing` and `incoming`: pairs that begin and that end at each rank, ascending
    outgoing: dict[int, list[Pair]] = field(default_factory=dict)
    incoming: dict[int, list[Pair]] = field(default_factory=dict)
    copies: dict[int, list[LocalCopy]] = field(default_factory=dict)  # copies of each rank within itself
    buffers: dict[tuple[str, int], int] = field(default_factory=dict)  # buffer of each (value, rank)

    def part(self, rank: int, index: int, graph: Graph) -> Exchange | None:
        """The part of one rank, or None when it has none."""
        sends = [_message(pair, index, self.sent[pair], graph) for pair in self.outgoing.get(rank, ())]
        receives = [_message(pair, index, self.received[pair], graph) for pair in self.incoming.get(rank, ())]
        group = tuple(sorted({*self.outgoing, *self.incoming}))
        copies = tuple(self.copies.get(rank, ()))
        if not (sends or receives or copies):
            return None
        kind = self.kind if sends or receives else "local"
        members = group if kind != "local" else ()
        return Exchange(index, kind, members, tuple(sends), tuple(receives), copies, after=self.after)


def build_exchange(graph: Graph, holdings: Holdings, needs: Needs, segment: int) -> Boundary:
    """The exchange before `segment`; new buffers are added to `holdings`."""
    boundary = Boundary()
    for name, by_rank in needs.items():
        lacking = holdings.lacking(name, by_rank)
        if lacking:
            _put_together(boundary, graph, holdings, name, lacking, segment)
            by_rank = {rank: region for rank, region in by_rank.items() if rank not in lacking}
        moves = _moves(holdings, name, by_rank)
        before = {rank: holdings.whole(name, rank) for rank in range(holdings.ranks)}
        for rank, region in by_rank.items():
            exact = holdings.exact(name, rank, region)
            if exact is None:
                exact = holdings.add(rank, graph.value(name), region, segment)
                boundary.copies.setdefault(rank, []).extend(_copies(before[rank], exact, region))
            boundary.buffers[name, rank] = exact
        for source, target, region in moves:
            held = next(h for h in before[source] if h.region is not None and h.region.contains(region))
            boundary.after = max(boundary.after, held.since)
            into = boundary.buffers[name, target]
            block = holdings.common_block((source, held.buffer), (target, into))
            boundary.sent.setdefault((source, target), []).append(Piece(name, region, held.buffer, block))
            boundary.received.setdefault((source, target), []).append(Piece(name, region, into, block))
    for pair in sorted(boundary.sent):
        boundary.outgoing.setdefault(pair[0], []).append(pair)
        boundary.incoming.setdefault(pair[1], []).append(pair)
    contents = {pair: tuple((p.value, p.region) for p in pieces) for pair, pieces in boundary.sent.items()}
    boundary.kind = classify(contents)
    return boundary


def _put_together(
    boundary: Boundary,
    graph: Graph,
    holdings: Holdings,
    name: str,
    lacking: Mapping[int, Region],
    segment: int,
) -> None:
    """Bring the parts of a value to every rank that lacks a region of it, each once, to be combined there.

    The first rank's part is copied, and all others are added to it in the order of ranks: every rank gets the same sum,
    bit by bit.
    """
    node, parts = graph.bound[graph.producer[name]], holdings.parts(name)
    combine = rule_for(node).combines(node)
    for target, region in lacking.items():
        into = boundary.buffers[name, target] = holdings.add(target, graph.value(name), region, segment)
        for number, (source, held) in enumerate(parts.items()):
            how = combine if number else ""
            boundary.after = max(boundary.after, held.since)
            if source == target:
                boundary.copies.setdefault(target, []).append(LocalCopy(held.buffer, into, region, how))
                continue
            block = holdings.common_block((source, held.buffer), (target, into))
            boundary.sent.setdefault((source, target), []).append(Piece(name, region, held.buffer, block))
            boundary.received.setdefault((source, target), []).append(Piece(name, region, into, block, how))


def _moves(holdings: Holdings, name: str, by_rank: Mapping[int, Region]) -> list[Transfer]:
    """What must travel of a value so that every rank has what it needs."""
    if not holdings.is_carried(name):
        return transfers(holdings.regions(name), by_rank)
    readers = sorted(by_rank)
    return [move for rank in readers for move in transfers(holdings.regions(name, rank), {rank: by_rank[rank]})]


def _copies(held: list[Held], target: int, need: Region) -> list[LocalCopy]:
    """Copies into a new buffer of what a rank already holds of it, each element once."""
    copies, missing = [], [need]
    for item in held:
        if item.region is None:
            continue
        parts = [part for box in missing if not (part := box.intersect(item.region)).is_empty]
        copies += [LocalCopy(item.buffer, target, part) for part in parts]
        missing = [rest for box in missing for rest in box.subtract(item.region)]
    return copies


def _message(pair: Pair, index: int, pieces: list[Piece], graph: Graph) -> Message:
    nbytes = sum(piece.region.size * graph.value(piece.value).itemsize for piece in pieces)
    return Message(*pair, tag=index, pieces=tuple(pieces), nbytes=nbytes)
