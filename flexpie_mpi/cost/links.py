"""Exchanges as rows that a cost model is asked or that a trace records, and the prices of the links themselves.

A link's price is the sum of latencies, and bytes over bandwidth where most of them meet. Both are lower bounds that
physics gives; what software adds to them is learned from traces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from math import prod

import numpy as np

from ..core.errors import CostError
from ..core.exchange import kind_of
from ..core.program import Compute, Exchange, Program
from ..core.region import Region
from ..lower.facts import moved_bytes
from ..testbed import Testbed
from .model import CostModel
from .rows import TRANSFER

_SLAB = 1 << 19
"""Pairs of ranks looked at together, however many exchanges there are: a few MB at a time, which a cache holds."""


_PRICED_AS = {"broadcast": "scatter", "allgather": "full", "alltoall": "full"}
"""Kinds of exchange that are priced as another one of `KINDS`."""

_KIND_OF = np.empty((4, 2, 2, 2, 2, 2), "S8")
"""Every answer of :func:`flexpie_mpi.core.exchange.kind_of`, as it is priced, by what it is asked."""
for _facts in np.ndindex(_KIND_OF.shape):
    _kind = kind_of(_facts[0], *map(bool, _facts[1:]))
    _KIND_OF[_facts] = _PRICED_AS.get(_kind, _kind).encode()


class LinkPrices:
    """The links of a testbed, ready to price many exchanges at once.

    A resource takes as long as the bytes of all pairs of ranks that use it. Mostly those pairs have one source in
    common (a port's sending side), or one target (its receiving side), or are a single pair; only for other resources,
    the links of a ring, is it noted pair by pair who uses them.
    """

    def __init__(self, testbed: Testbed) -> None:
        ranks = testbed.ranks
        self.ranks = ranks
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
                others.append(np.zeros(ranks * ranks))
                others[-1][[source * ranks + target for source, target in pairs]] = seconds
        self._others = np.stack(others, axis=1) if others else np.zeros((ranks * ranks, 0))

    def price(self, nbytes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two terms of the links' price of exchanges, latency and wire, arrays (...) of seconds.

        `nbytes`, an array (..., R, R), has what travels from rank s to rank t at ``[..., s, t]``, all of one exchange
        at once; what a rank keeps, on the diagonal, does not count. The latency is the most that any rank waits for
        those of the messages it sends, one after another, or of those it receives; the wire the longest that any
        resource needs for the bytes that pass it. Raises CostError when the array is for another number of ranks.
        """
        batch, shape = _listed(nbytes, self.ranks)
        latency, wire = np.empty(len(batch)), np.empty(len(batch))
        for rows, part in _slabs(batch):
            latency[rows] = _busiest(*_by_rank((part > 0) * self._latency))
            wire[rows] = self._wire(part)
        return latency.reshape(shape), wire.reshape(shape)

    def _prices_of(self, pairs: Set[tuple[int, int]]) -> np.ndarray | None:
        """View of the one place where a resource with such users keeps its seconds per byte; None without one."""
        (source, target), full = next(iter(pairs)), self.ranks - 1
        if len(pairs) == full and all(s == source for s, _ in pairs):
            return self._sending[source : source + 1]
        if len(pairs) == full and all(t == target for _, t in pairs):
            return self._receiving[target : target + 1]
        return self._alone[source, target : target + 1] if len(pairs) == 1 else None

    def _wire(self, part: np.ndarray) -> np.ndarray:
        sent, received = _by_rank(part)
        seconds = _busiest(sent * self._sending, received * self._receiving)
        if self._alone.any():
            np.maximum(seconds, (part * self._alone).max(axis=(1, 2)), out=seconds)
        if self._others.size:
            np.maximum(seconds, (part.reshape(len(part), -1) @ self._others).max(axis=1), out=seconds)
        return seconds


def transfer_rows(nbytes: np.ndarray, local_bytes: np.ndarray, network: LinkPrices) -> np.ndarray:
    """Rows of `TRANSFER` of exchanges, array (...).

    The rule of :func:`flexpie_mpi.core.exchange.kind_of` tells which exchanges are collective. Only where some ranks
    send to all others, which send nothing, do contents matter: there, equal sizes stand for equal contents.

    Parameters
    ----------
    nbytes, network
        As of :meth:`LinkPrices.price`; errors too.
    local_bytes : array (...)
        The most that any rank copies within itself.
    """
    batch, shape = _listed(nbytes, network.ranks)
    rows = np.zeros(len(batch), TRANSFER)
    rows["local_bytes"] = np.broadcast_to(local_bytes, shape).ravel()
    rows["latency_s"], rows["wire_s"] = network.price(batch)
    for which, part in _slabs(batch):
        _describe(part, rows[which])
    return rows.reshape(shape)


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


def _describe(part: np.ndarray, rows: np.ndarray) -> None:
    """Fill in what does not depend on the links."""
    exists = part > 0
    sends, receives = np.count_nonzero(exists, axis=2), np.count_nonzero(exists, axis=1)
    sent, received = _by_rank(part)
    group = np.count_nonzero(sends + receives, axis=1)
    sources, targets = np.count_nonzero(sends, axis=1), np.count_nonzero(receives, axis=1)
    is_full, is_mutual = sends.sum(axis=1) == sources * (group - 1), sources == group
    is_alike = is_full.copy()
    unsure = is_full & ~is_mutual  # elsewhere contents do not matter
    is_alike[unsure] = _are_alike(part[unsure])
    facts = np.minimum(group, 3), sources == 1, targets == 1, is_full, is_mutual, is_alike
    rows["kind"] = _KIND_OF[tuple(fact.astype(np.intp) for fact in facts)]
    rows["ranks"] = group
    rows["messages"] = _busiest(sends, receives)
    rows["port_bytes"] = _busiest(sent, received)
    rows["total_bytes"] = sent.sum(axis=1)


def _are_alike(part: np.ndarray) -> np.ndarray:
    """Whether every rank sends equally much to each to which it sends."""
    return ((part == part.max(axis=2, keepdims=True)) | (part == 0)).all(axis=(1, 2))


def _by_rank(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums (n, R) over what every rank sends, and over what it receives, of numbers (n, R, R)."""
    return part.sum(axis=2), part.sum(axis=1)


def _busiest(sending: np.ndarray, receiving: np.ndarray) -> np.ndarray:
    return np.maximum(sending.max(axis=1), receiving.max(axis=1))


def _listed(nbytes: np.ndarray, ranks: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """(array (n, R, R), shape of the leading axes)."""
    nbytes = np.asarray(nbytes)
    shape, pairs = nbytes.shape[:-2], nbytes.shape[-2:]
    if pairs != (ranks, ranks):
        raise CostError(
            f"bytes of shape {nbytes.shape} do not fit a testbed of {ranks} ranks: "
            f"the last two axes must be {ranks} x {ranks}"
        )
    return nbytes.reshape(prod(shape), ranks, ranks), shape


def _slabs(batch: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of a batch (n, R, R), and the bytes there as floats, without those that a rank keeps."""
    ranks = batch.shape[-1]
    step = max(1, _SLAB // ranks**2)
    for first in range(0, len(batch), step):
        part = batch[first : first + step].astype(float)
        part[:, range(ranks), range(ranks)] = 0.0
        yield slice(first, first + step), part


def _users(testbed: Testbed) -> dict[int, set[tuple[int, int]]]:
    """(source, target) of every route that passes a resource, by its number."""
    users: dict[int, set[tuple[int, int]]] = {}
    for source, row in enumerate(testbed.routes):
        for target, route in enumerate(row):
            for number in route.resources if route else ():
                users.setdefault(number, set()).add((source, target))
    return users


# The exchanges of a job


Part = tuple[Exchange, Program]
"""One rank's part of an exchange, and the program it is a part of."""

_JOB_SLAB = 1 << 22
"""Pairs of ranks looked at together."""


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
    step = max(1, _JOB_SLAB // len(programs) ** 2)
    for first in range(0, len(rows), step):
        some = everyones[first : first + step]
        sends = ([message for exchange, _ in parts for message in exchange.sends] for parts in some)
        nbytes = np.stack([moved_bytes(messages, len(programs)) for messages in sends])
        local = np.array([max(copied_bytes(*part) for part in parts) for parts in some], float)
        rows[first : first + step] = transfer_rows(nbytes, local, network)
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
