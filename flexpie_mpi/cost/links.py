"""Exchanges as rows that a cost model is asked or that a trace records, and the prices of the links themselves.

A link's price is the sum of latencies, and bytes over bandwidth where most of them meet. Both are lower bounds that
physics gives; what software adds to them is learned from traces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from copy import copy as duplicate
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from ..core.exchange import kind_of
from ..core.program import Compute, Exchange, Program
from ..core.region import Region
from ..lower.facts import moved_bytes
from ..testbed import Testbed
from .model import CostModel
from .rows import TRANSFER

_PRICED_AS = {"broadcast": "scatter", "allgather": "full", "alltoall": "full"}
"""Kinds of exchange that are priced as another one of `KINDS`."""

_KIND_OF = np.empty((4, 2, 2, 2, 2, 2), "S8")
"""Every answer of :func:`flexpie_mpi.core.exchange.kind_of`, as it is priced, by what it is asked."""
for _facts in np.ndindex(_KIND_OF.shape):
    _kind = kind_of(_facts[0], *map(bool, _facts[1:]))
    _KIND_OF[_facts] = _PRICED_AS.get(_kind, _kind).encode()


class LinkPrices:
    """The links of a testbed, ready to price many exchanges at once, from `sources` (S,) to `targets` (T,).

    A resource takes as long as the bytes of all pairs of ranks that use it. Mostly those pairs have one source in
    common (a port's sending side), or one target (its receiving side), or are a single pair; only for other resources,
    the links of a ring, is it noted pair by pair who uses them.
    """

    def __init__(self, testbed: Testbed) -> None:
        ranks = testbed.ranks
        self.ranks = ranks
        self.sources = self.targets = np.arange(ranks)
        # Where the ranks that are both stand among the sources, and among the targets
        self.both: tuple[np.ndarray, np.ndarray] = (self.sources, self.targets)
        self._latency = np.zeros((ranks, ranks))
        self._sending, self._receiving, self._alone = np.zeros(ranks), np.zeros(ranks), np.zeros((ranks, ranks))
        others: list[np.ndarray] = []
        for source, row in enumerate(testbed.routes):
            for target, route in enumerate(row):
                self._latency[source, target] = route.latency_s if route else 0.0
        for number, pairs in _users(testbed).items():
            prices, seconds = self._prices_of(pairs), 1.0 / testbed.resources[number].bandwidth
            if prices is not None:
                np.maximum(prices, seconds, out=prices)
            else:
                others.append(np.zeros((ranks, ranks)))
                others[-1][tuple(np.array(sorted(pairs)).T)] = seconds
        self._others = np.stack(others) if others else np.zeros((0, ranks, ranks))

    def among(self, sources: np.ndarray, targets: np.ndarray) -> LinkPrices:
        """The same for exchanges in which no other ranks send and receive than these, int arrays (S,) and (T,)."""
        part, pairs = duplicate(self), np.ix_(sources, targets)
        part.sources, part.targets = self.sources[sources], self.targets[targets]
        part._latency, part._alone = self._latency[pairs], self._alone[pairs]
        part._others = self._others[:, pairs[0], pairs[1]]
        part._sending, part._receiving = self._sending[sources], self._receiving[targets]
        source, target = np.nonzero(part.sources[:, None] == part.targets)
        part.both = source, target
        return part

    def terms(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        """The two terms of the links' price of n exchanges, latency and wire, float arrays (n,) of seconds.

        The latency is the most that any rank waits for those of the messages it sends, one after another, or of those
        it receives; the wire the longest that any resource needs for the bytes that pass it.
        """
        seconds = _busiest(pairs.sent * self._sending[:, None], pairs.received * self._receiving[:, None])
        if self._alone.any():
            np.maximum(seconds, (pairs.nbytes * self._alone[..., None]).max(axis=(0, 1)), out=seconds)
        if self._others.size:
            flat = self._others.reshape(len(self._others), -1) @ pairs.nbytes.reshape(-1, len(seconds))
            np.maximum(seconds, flat.max(axis=0), out=seconds)
        return self._waiting(pairs), seconds

    def _waiting(self, pairs: Pairs) -> np.ndarray:
        """Seconds (n,) of the latencies of all messages of the rank that waits longest."""
        most = self._latency.max(initial=0.0)
        if np.count_nonzero(self._latency == most) == self._latency.size - len(self.both[0]):
            return np.asarray(most * pairs.messages)
        waits = pairs.exists * self._latency[..., None]
        return _busiest(waits.sum(axis=1), waits.sum(axis=0))

    def _prices_of(self, pairs: Set[tuple[int, int]]) -> np.ndarray | None:
        """View of the one place where a resource with such users keeps its seconds per byte; None without one."""
        (source, target), full = next(iter(pairs)), self.ranks - 1
        if len(pairs) == full and all(s == source for s, _ in pairs):
            return self._sending[source : source + 1]
        if len(pairs) == full and all(t == target for _, t in pairs):
            return self._receiving[target : target + 1]
        return self._alone[source, target : target + 1] if len(pairs) == 1 else None


@dataclass(frozen=True)
class Pairs:
    """What travels between ranks in n exchanges: `nbytes`, a float array (S, T, n), without what a rank keeps."""

    nbytes: np.ndarray

    @cached_property
    def exists(self) -> np.ndarray:
        """Which messages there are, as ones of a small type, int array (S, T, n)."""
        return (self.nbytes > 0).astype(np.int16)

    # By source (S, n) or by target (T, n): bytes and messages

    @cached_property
    def sent(self) -> np.ndarray:
        return np.asarray(self.nbytes.sum(axis=1, dtype=float))

    @cached_property
    def received(self) -> np.ndarray:
        return np.asarray(self.nbytes.sum(axis=0, dtype=float))

    @cached_property
    def sends(self) -> np.ndarray:
        return np.asarray(self.exists.sum(axis=1, dtype=np.int16))

    @cached_property
    def receives(self) -> np.ndarray:
        return np.asarray(self.exists.sum(axis=0, dtype=np.int16))

    @cached_property
    def messages(self) -> np.ndarray:
        """The most (n,) that any rank sends or receives."""
        return _busiest(self.sends, self.receives)


def arrival_rows(nbytes: Sequence[int]) -> np.ndarray:
    """Rows of `TRANSFER` of taking over the inputs of requests, of so many bytes each: no rank but the root copies."""
    rows = np.zeros(len(nbytes), TRANSFER)
    rows["kind"], rows["ranks"], rows["local_bytes"] = b"local", 1, nbytes
    return rows


def exchange_terms(transfers: np.ndarray, cost: CostModel) -> tuple[np.ndarray, np.ndarray]:
    """Seconds (n,) of rows of `TRANSFER`, without their bytes and with them; equal rows are asked once."""
    distinct, inverse = np.unique(transfers, return_inverse=True)
    bare = distinct.copy()
    for name in ("port_bytes", "total_bytes", "local_bytes", "runs", "wire_s"):
        bare[name] = 0.0
    seconds = cost.exchange_s(np.concatenate((distinct, bare)))
    whole_s, bare_s = seconds[: len(distinct)], seconds[len(distinct) :]
    return np.minimum(bare_s, whole_s)[inverse], whole_s[inverse]


def pair_rows(pairs: Pairs, network: LinkPrices) -> np.ndarray:
    """Rows of `TRANSFER` (n,) of exchanges, but for what ranks copy.

    The rule of :func:`flexpie_mpi.core.exchange.kind_of` tells which exchanges are collective. Only where some ranks
    send to all others, which send nothing, do contents matter: there, equal sizes stand for equal contents.
    """
    rows = np.zeros(pairs.nbytes.shape[-1], TRANSFER)
    sends, receives = pairs.sends > 0, pairs.receives > 0
    source, target = network.both
    sources, targets = np.count_nonzero(sends, axis=0), np.count_nonzero(receives, axis=0)
    group = sources + targets - np.count_nonzero(sends[source] & receives[target], axis=0)
    is_full, is_mutual = pairs.sends.sum(axis=0, dtype=int) == sources * (group - 1), sources == group
    is_alike = is_full.copy()
    unsure = is_full & ~is_mutual  # elsewhere contents do not matter
    is_alike[unsure] = _are_alike(pairs.nbytes[..., unsure])
    facts = np.minimum(group, 3), sources == 1, targets == 1, is_full, is_mutual, is_alike
    rows["kind"] = _KIND_OF[tuple(fact.astype(np.intp) for fact in facts)]
    rows["ranks"] = group
    rows["messages"] = pairs.messages
    rows["port_bytes"] = _busiest(pairs.sent, pairs.received)
    rows["total_bytes"] = pairs.sent.sum(axis=0)
    rows["latency_s"], rows["wire_s"] = network.terms(pairs)
    return rows


def _are_alike(nbytes: np.ndarray) -> np.ndarray:
    """Whether every rank sends equally much to each to which it sends."""
    return np.asarray(((nbytes == nbytes.max(axis=1, keepdims=True)) | (nbytes == 0)).all(axis=(0, 1)))


def _busiest(sending: np.ndarray, receiving: np.ndarray) -> np.ndarray:
    """The most over all sources (S, n) and targets (T, n)."""
    return np.maximum(sending.max(axis=0, initial=0), receiving.max(axis=0, initial=0))


def _users(testbed: Testbed) -> dict[int, set[tuple[int, int]]]:
    """(source, target) of every route that passes a resource, by its number."""
    users: dict[int, set[tuple[int, int]]] = {}
    for source, row in enumerate(testbed.routes):
        for target, route in enumerate(row):
            for number in route.resources if route else ():
                users.setdefault(number, set()).add((source, target))
    return users


# The exchanges of a job


_SLAB = 1 << 19
"""Pairs of ranks looked at together, however many exchanges there are: a few MB at a time, which a cache holds."""

Part = tuple[Exchange, Program]
"""One rank's part of an exchange, and the program it is a part of."""


def job_parts(programs: Sequence[Program]) -> Mapping[int, Sequence[Part]]:
    """Every rank's part of each exchange of a job, by the exchange's number, ascending."""
    parts_of: dict[int, list[Part]] = {}
    for program in programs:
        parts = {step.exchange.index: step.exchange for step in program.steps if not isinstance(step, Compute)}
        for index, exchange in parts.items():
            parts_of.setdefault(index, []).append((exchange, program))
    return {index: parts_of[index] for index in sorted(parts_of)}


def job_transfers(programs: Sequence[Program], testbed: Testbed) -> tuple[tuple[int, ...], np.ndarray]:
    """Numbers of a job's exchanges, and a row of `TRANSFER` for each, for the programs of all ranks."""
    parts_of = job_parts(programs)
    rows = np.zeros(len(parts_of), TRANSFER)
    if not parts_of:
        return (), rows
    network, everyones = LinkPrices(testbed), list(parts_of.values())
    step = max(1, _SLAB // len(programs) ** 2)
    for first in range(0, len(rows), step):
        sends = ((m for exchange, _ in parts for m in exchange.sends) for parts in everyones[first : first + step])
        nbytes = np.stack([moved_bytes(messages, len(programs)) for messages in sends], axis=-1)
        rows[first : first + step] = pair_rows(Pairs(nbytes), network)
    rows["local_bytes"] = [max(copied_bytes(*part) for part in parts) for parts in everyones]
    rows["runs"] = [max(_runs(*part) for part in parts) for parts in everyones]
    return tuple(parts_of), rows


def copied_bytes(exchange: Exchange, program: Program) -> int:
    """Bytes that a rank copies: packs, unpacks, has already."""
    return sum(message.nbytes for message in (*exchange.sends, *exchange.receives)) + own_bytes(exchange, program)


def own_bytes(exchange: Exchange, program: Program) -> int:
    """Bytes that a rank copies between its own buffers."""
    sizes = ((copy.region.size, program.buffers[copy.target]) for copy in exchange.copies)
    return sum(size * buffer.nbytes // max(1, buffer.region.size) for size, buffer in sizes if buffer.region)


def _runs(exchange: Exchange, program: Program) -> int:
    """Contiguous runs of memory in which a rank copies."""
    return sum(
        max((runs(region, held) for held in buffers), default=1) for region, buffers in _copies(exchange, program)
    )


def _copies(exchange: Exchange, program: Program) -> Iterator[tuple[Region, list[Region]]]:
    """Every region that is copied, with the regions of the buffers it is copied from or to."""
    for message in (*exchange.sends, *exchange.receives):
        for piece in message.pieces:
            yield piece.region, [held for held in (program.buffers[piece.buffer].region,) if held]
    for copy in exchange.copies:
        both = (program.buffers[index].region for index in (copy.source, copy.target))
        yield copy.region, [held for held in both if held]


def runs(region: Region, held: Region) -> int:
    """Contiguous runs that a region makes in the memory of a buffer that holds `held`, row-major.

    >>> runs(Region(((0, 8), (3, 4), (0, 9))), Region(((0, 8), (0, 4), (0, 9))))
    8
    """
    cut = [axis for axis, (ours, all_) in enumerate(zip(region.shape, held.shape, strict=True)) if ours != all_]
    return prod(region.shape[: cut[-1]]) if cut else 1
