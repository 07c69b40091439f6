"""Entry of a segment: the exchange that brings every rank what it must hold before it can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..core.exchange import Transfer, classify, transfers
from ..core.graph import Graph
from ..core.program import Copy, Exchange, Message, Piece
from ..core.region import Region
from .holdings import Held, Holdings

Pair = tuple[int, int]
Needs = Mapping[str, Mapping[int, Region]]
"""Region of each value that each rank must hold."""


@dataclass(slots=True)
class Entry:
    """An exchange as all ranks see it.

    Attributes
    ----------
    kind : str
    after : int
        The segment after which everything sent is there; -1 for the beginning.
    sent, received : pieces of each (source, target) pair, in the buffers of the source and of the target
    outgoing, incoming : pairs that begin and that end at each rank, ascending
    copies : copies of each rank within itself
    buffers : buffer of each (value, rank)
    """

    kind: str = "local"
    after: int = -1
    sent: dict[Pair, list[Piece]] = field(default_factory=dict)
    received: dict[Pair, list[Piece]] = field(default_factory=dict)
    outgoing: dict[int, list[Pair]] = field(default_factory=dict)
    incoming: dict[int, list[Pair]] = field(default_factory=dict)
    copies: dict[int, list[Copy]] = field(default_factory=dict)
    buffers: dict[tuple[str, int], int] = field(default_factory=dict)

    def part(self, rank: int, index: int, graph: Graph) -> Exchange | None:
        """The part of one rank, or None when it has none."""
        sends = [_message(pair, index, self.sent[pair], graph) for pair in self.outgoing.get(rank, ())]
        receives = [_message(pair, index, self.received[pair], graph) for pair in self.incoming.get(rank, ())]
        group = tuple(sorted({*self.outgoing, *self.incoming}))
        copies = tuple(self.copies.get(rank, ()))
        if not (sends or receives or copies):
            return None
        kind = self.kind if sends or receives else "local"
        return Exchange(index, kind, group if kind != "local" else (), tuple(sends), tuple(receives), copies)


def enter(graph: Graph, holdings: Holdings, needs: Needs, segment: int) -> Entry:
    """The exchange before `segment`; new buffers are added to `holdings`."""
    entry = Entry()
    for name, by_rank in needs.items():
        moves = _moves(holdings, name, by_rank)
        before = {rank: list(holdings.of(name, rank)) for rank in range(holdings.ranks)}
        for rank, region in by_rank.items():
            exact = holdings.exact(name, rank, region)
            if exact is None:
                exact = holdings.add(rank, graph.value(name), region, segment)
                entry.copies.setdefault(rank, []).extend(_copies(before[rank], exact, region))
            entry.buffers[name, rank] = exact
        for source, target, region in moves:
            held = next(h for h in before[source] if h.region is not None and h.region.contains(region))
            entry.after = max(entry.after, held.since)
            entry.sent.setdefault((source, target), []).append(Piece(name, region, held.buffer))
            piece = Piece(name, region, entry.buffers[name, target])
            entry.received.setdefault((source, target), []).append(piece)
    for pair in sorted(entry.sent):
        entry.outgoing.setdefault(pair[0], []).append(pair)
        entry.incoming.setdefault(pair[1], []).append(pair)
    contents = {pair: tuple((p.value, p.region) for p in pieces) for pair, pieces in entry.sent.items()}
    entry.kind = classify(contents)
    return entry


def _moves(holdings: Holdings, name: str, by_rank: Mapping[int, Region]) -> list[Transfer]:
    """What must travel of a value so that every rank has what it needs."""
    if not holdings.is_carried(name):
        return transfers(holdings.regions(name), by_rank)
    readers = sorted(by_rank)
    return [move for rank in readers for move in transfers(holdings.regions(name, rank), {rank: by_rank[rank]})]


def _copies(held: list[Held], target: int, need: Region) -> list[Copy]:
    """Copies into a new buffer of what a rank already holds of it, each element once."""
    copies, missing = [], [need]
    for item in held:
        if item.region is None:
            continue
        parts = [part for box in missing if not (part := box.intersect(item.region)).is_empty]
        copies += [Copy(item.buffer, target, part) for part in parts]
        missing = [rest for box in missing for rest in box.subtract(item.region)]
    return copies


def _message(pair: Pair, index: int, pieces: list[Piece], graph: Graph) -> Message:
    nbytes = sum(piece.region.size * graph.value(piece.value).itemsize for piece in pieces)
    return Message(*pair, tag=index, pieces=tuple(pieces), nbytes=nbytes)
