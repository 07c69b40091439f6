"""What the boards and links of a job are like, looked at for a second or so: clocks, pace, sources, pairs of ranks.

Nothing is judged here. All ranks examine together; one rank, or one pair of ranks, is at work at a time.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from tempfile import gettempdir

import numpy as np

from ..files.cache import Cache
from ..runtime.transport import Transport
from ..testbed import Testbed
from .agreement import clock_offset
from .board import Board, boards_of, free_bytes
from .cluster import SIZES, Pair, measure_round, sampled_pairs
from .interfaces import grown, sent_here

_SHORT, _LONG = SIZES[:2]
"""Bytes of the messages that show a link's latency and its bandwidth."""

_AGAIN, _DOUBTFUL = 3, 0.8
"""What is worse than this share of the usual is looked at so often again: others may have been at work for a moment."""

_ALIKE = 0.95
"""Two looks that differ by less saw the same."""

_MOMENT_S = 100e-6
"""So much later a message may be without doubt."""

_PACE_S = 0.05
_NUMBERS, _PASSES = 1 << 14, 50
"""A piece of work: so many square roots, which stay in a cache, so many times."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a board computes when no other rank does."""

    seconds: float  # of processor time for a fixed piece of work, the shortest of many
    share: float  # of the time that went by while it computed, in which it had a core

    def better(self, other: Pace) -> Pace:
        """The best of two moments."""
        return Pace(min(self.seconds, other.seconds), max(self.share, other.share))


@dataclass(frozen=True, slots=True)
class Link:
    """What two ranks have seen of the way between them; seconds are one way, the mean of both."""

    ends: Pair
    latency_s: float
    bandwidth: float  # bytes per second
    sent_bytes: int  # by each end, at least
    passed: tuple[Mapping[str, int], Mapping[str, int]]  # bytes that interfaces of both ends' hosts sent meanwhile

    def is_local(self, boards: Sequence[Board]) -> bool:
        """Whether both ends are on one host."""
        source, target = (boards[rank].place[:2] for rank in self.ends)
        return source == target

    def better(self, other: Link) -> Link:
        """The best of two looks at it."""
        return replace(
            self if self.bandwidth >= other.bandwidth else other, latency_s=min(self.latency_s, other.latency_s)
        )


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, by rank, the same on every rank."""

    boards: tuple[Board, ...]
    offsets_s: tuple[float, ...]  # of each host's clock, to be added to have the root's
    paces: tuple[Pace, ...]
    disks: tuple[int | None, ...]  # free bytes where the cache is
    links: tuple[Link, ...]


def examine(
    transport: Transport,
    installed: Sequence[Mapping[str, str]],
    cache: Cache,
    testbed: Testbed | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Examination:
    """Look at all boards and links; called by all ranks together, with every rank's versions.

    What seems worse than a testbed says is looked at again as well.
    """
    tell("looking at every board")
    boards = boards_of(transport, installed)
    offsets = transport.all_gather(clock_offset(transport, clock=time.time))
    paces = _paces(transport, boards)
    disks = transport.all_gather(free_bytes(cache.folder or Path(gettempdir())))
    links = _links(transport, boards, testbed, tell)
    return Examination(boards, tuple(offsets), paces, tuple(disks), links)


def pace_here() -> Pace:
    """How this board computes now, in one thread."""
    numbers, roots = np.full(_NUMBERS, 2.0, np.float32), np.empty(_NUMBERS, np.float32)
    spent, began_s, used_s = [], time.perf_counter(), time.thread_time()
    while time.perf_counter() - began_s < _PACE_S:
        piece_s = time.thread_time()
        for _ in range(_PASSES):
            np.sqrt(numbers, out=roots)
        spent.append(time.thread_time() - piece_s)
    return Pace(min(spent), min(1.0, (time.thread_time() - used_s) / (time.perf_counter() - began_s)))


def source_digest() -> str:
    """Hex digest of the files of this package: two of one version may have been changed by hand."""
    package, state = Path(__file__).parents[1], hashlib.blake2b(digest_size=8)
    for path in sorted(package.rglob("*.py")):
        state.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return state.hexdigest()


def _paces(transport: Transport, boards: Sequence[Board]) -> tuple[Pace, ...]:
    """Every rank's pace, one rank after the other; those that seem worse than others like them more than once."""
    paces: dict[int, Pace] = {}
    doubtful: Sequence[int] = range(transport.size)
    for _ in range(1 + _AGAIN):
        for rank in doubtful:
            pace = transport.broadcast(pace_here() if transport.rank == rank else None, rank)
            paces[rank] = pace.better(paces.get(rank, pace))
        doubtful = [
            rank
            for rank, pace in paces.items()
            if pace.share < _DOUBTFUL or _DOUBTFUL * pace.seconds > least_s(boards, rank, paces)
        ]
    return tuple(paces[rank] for rank in range(transport.size))


def least_s(boards: Sequence[Board], rank: int, paces: Mapping[int, Pace]) -> float:
    """The least seconds that any board with the same processor as a rank's takes."""
    return min(pace.seconds for other, pace in paces.items() if boards[other].processor == boards[rank].processor)


def _links(
    transport: Transport, boards: Sequence[Board], testbed: Testbed | None, tell: Callable[[str], None]
) -> tuple[Link, ...]:
    """All pairs of ranks, or a sample of very many; those that seem worse than they should be more than once."""
    looks: dict[Pair, list[Link]] = {ends: [] for ends in sampled_pairs(transport.size)}
    doubtful: Sequence[Pair] = tuple(looks)
    for _ in range(1 + _AGAIN):
        for ends in doubtful:
            tell(f"looking at the link of ranks {ends[0]} and {ends[1]}")
            looks[ends].append(_look_at(transport, ends))
        links = {ends: reduce(Link.better, seen) for ends, seen in looks.items()}
        worse = _doubtful([link for link in links.values() if not link.is_local(boards)], testbed)
        doubtful = [ends for ends in worse if not _agree(looks[ends])]
    return tuple(links.values())


def _agree(looks: Sequence[Link]) -> bool:
    """Whether the two best looks at a link saw the same: it is what it is, and another look would tell no more."""
    *_, second, best = (0.0, *sorted(link.bandwidth for link in looks))
    return second > _ALIKE * best


def _doubtful(links: Sequence[Link], testbed: Testbed | None) -> Iterator[Pair]:
    """Ends of the links that carry less, or take longer, than the best of all, or than a testbed says."""
    best, least_s = max((x.bandwidth for x in links), default=0.0), min((x.latency_s for x in links), default=0.0)
    for link in links:
        expected = testbed.bandwidth(*link.ends) if testbed else best
        if link.bandwidth < _DOUBTFUL * expected or _DOUBTFUL * link.latency_s > least_s + _MOMENT_S:
            yield link.ends


def _look_at(transport: Transport, ends: Pair) -> Link:
    (short,) = measure_round(transport, [ends], _SHORT)
    before = sent_here()
    (long,) = measure_round(transport, [ends], _LONG)
    passed: Sequence[Mapping[str, int]] = transport.all_gather(grown(before, sent_here()))
    latency_s, whole_s = float(short["seconds"]), float(long["seconds"])
    bandwidth = (_LONG - _SHORT) / max(whole_s - latency_s, whole_s / 2)
    return Link(ends, latency_s, bandwidth, int(long["repeats"]) * _LONG, (passed[ends[0]], passed[ends[1]]))
