"""What a job runs on: the origin of every rank's measurements, its links timed, and the testbed that these show.

A *round* is a set of (source, target) pairs that are at work together, while all other ranks nap in a barrier::

    alone     0 -> 1            port      0 -> 1            apart     0 -> 1
                                          0 -> 2                      2 -> 3
"""

from __future__ import annotations

import hashlib
import platform
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from ..core.quartiles import quartiles
from ..core.versions import processor, version_of
from ..cost.model import Origin
from ..cost.rows import LINK_TRACE
from ..runtime.kernels import own_block
from ..runtime.machine import host_ranks
from ..runtime.provider import agreed_blocks
from ..runtime.transport import Transport
from ..testbed import Device, Testbed, measured
from .agreement import Budget, places_of, repeats_in

_LATENCY_S, _BANDWIDTH = 20e-6, 4e9
"""Of a link nobody has measured, seconds and bytes per second: two processes on one host."""


def origins_of(
    transport: Transport, threads: int, slowdown: float = 1.0, boundaries: str = "auto"
) -> tuple[Origin, ...]:
    """Who all ranks are, by rank, for the rows they measure; the same on every rank, called by all together.

    This rank has so many onnxruntime threads, its compute is paced by the slowdown while it measures, and `boundaries`
    says in which form its values pass between segments (:data:`flexpie_mpi.core.choices.BOUNDARIES`).
    """
    blocks = agreed_blocks(transport, own_block(), boundaries)
    places = places_of(transport)
    host, ranks = next(item for item in host_ranks(places).items() if transport.rank in item[1])
    origin = Origin(
        job=transport.broadcast(secrets.token_hex(8)),
        rank=transport.rank,
        host=host,
        cpu=processor(),
        cores=len({core for rank in ranks for core in places[rank][2]}),
        threads=threads,
        slowdown=float(slowdown),
        onnxruntime=version_of("onnxruntime"),
        python=platform.python_version(),
        package=version_of("flexpie-mpi"),
        block=blocks[transport.rank],
    )
    return tuple(transport.all_gather(origin))


def cluster_digest(origins: Sequence[Origin]) -> str:
    """Hex digest of a job's hosts, their processors and cores, ranks on each, threads, versions and blocks.

    The same for every job that is started alike on the same machines, so what one has measured serves the next.
    """
    ranks = [
        (
            *(origin.host, origin.cpu, origin.cores, origin.threads),
            *(origin.onnxruntime, origin.python, origin.package, origin.block),
        )
        for origin in origins
    ]
    return hashlib.blake2b(repr(ranks).encode(), digest_size=16).hexdigest()


def testbed_of(origins: Sequence[Origin], links: np.ndarray, memory: Sequence[int] = ()) -> Testbed:
    """The devices of a job and the links between them, as they were measured.

    Parameters
    ----------
    origins : sequence of Origin
        Of one job, by rank.
    links : array of LINK_TRACE
        Rows whose `source` and `target` are ranks. Links without a row are like the median of the others.
    memory : sequence of int
        Physical memory of each rank's host, shared by the ranks there; 0 or nothing where it is not known.
    """
    shares = Counter(origin.host for origin in origins)
    sizes = memory or [0] * len(origins)
    devices = tuple(
        Device(
            name=f"rank{rank}",
            slowdown=origin.slowdown,
            threads=origin.threads,
            memory_bytes=size // shares[origin.host] or None,
            host=origin.host,
            cores=origin.cores,
            block=origin.block,
        )
        for rank, (origin, size) in enumerate(zip(origins, sizes, strict=True))
    )
    latency, bandwidth = _matrices(links, len(origins))
    return measured(devices, latency.tolist(), bandwidth.tolist())


testbed_of.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest reads into the name


def _matrices(links: np.ndarray, ranks: int) -> tuple[np.ndarray, np.ndarray]:
    """Latency and bandwidth of every pair, (R, R), from the rows with no other pair at work."""
    latency, bandwidth = np.full((ranks, ranks), np.nan), np.full((ranks, ranks), np.nan)
    rows = links[links["pairs"] == 1]
    for source, target in {(row["source"], row["target"]) for row in rows}:
        pair = rows[(rows["source"] == source) & (rows["target"] == target)]
        line = _line(pair["nbytes"], pair["seconds"])
        for ends in ((source, target), (target, source)):
            latency[ends], bandwidth[ends] = line
    return _filled(latency, _LATENCY_S), _filled(bandwidth, _BANDWIDTH)


def _line(nbytes: np.ndarray, seconds: np.ndarray) -> tuple[float, float]:
    """(latency, bandwidth) of a link: the shortest message's seconds, and the slope from there to the longest."""
    low, high = int(nbytes.argmin()), int(nbytes.argmax())
    slope = (seconds[high] - seconds[low]) / max(1.0, nbytes[high] - nbytes[low])
    return float(seconds[low]), float(1 / slope) if slope > 0 else np.nan


def _filled(matrix: np.ndarray, unknown: float) -> np.ndarray:
    known = matrix[np.isfinite(matrix)]
    return np.where(np.isfinite(matrix), matrix, np.median(known) if known.size else unknown)


Pair = tuple[int, int]
"""(source rank, target rank)."""

SIZES = (64, 1 << 20, 16 << 10, 4 << 20, 1 << 10, 128 << 10)
"""Bytes of a message, in the order in which they matter: latency, bandwidth, and what lies between."""

MOST_RANKS = 16
"""Up to here every pair is measured, beyond it a sample of as many pairs."""

_SAMPLE = MOST_RANKS * (MOST_RANKS - 1) // 2
_TAG = 1
_WARMUP = 5
_ROUND_S = 0.02
_FEWEST, _MOST = 5, 200
"""Round trips in about `_ROUND_S` seconds, but not fewer or more than these."""


def collect_links(
    transport: Transport, budget: Budget, tell: Callable[[str], None] = lambda text: None
) -> Iterator[np.ndarray]:
    """Measure links until all rounds are done or the budget is over; called by all ranks together.

    Yields rows of `LINK_TRACE` on every rank, the same ones; `source`, `target` and `origin` are ranks.
    """
    for pairs, nbytes in rounds(transport.size):
        if budget.is_over():
            return
        tell(f"links: {_spoken(pairs)}, {nbytes} bytes")
        yield measure_round(transport, pairs, nbytes)


def rounds(ranks: int) -> Iterator[tuple[tuple[Pair, ...], int]]:
    """Every round as (pairs at once, bytes of a message), the most telling first."""
    pairs = sampled_pairs(ranks)
    together = contended(ranks)
    for index, nbytes in enumerate(SIZES):
        yield from (((pair,), nbytes) for pair in pairs)
        if index > 0:
            yield from ((group, nbytes) for group in together)


def sampled_pairs(ranks: int, seed: int = 0) -> tuple[Pair, ...]:
    """All pairs of ranks, or, of more than `MOST_RANKS` ranks, a random sample in which every rank occurs.

    >>> sampled_pairs(3)
    ((0, 1), (0, 2), (1, 2))
    >>> sampled_pairs(1)
    ()
    """
    everything = list(combinations(range(ranks), 2))
    if ranks <= MOST_RANKS:
        return tuple(everything)
    chance = random.Random(f"links {ranks} {seed}")
    order = chance.sample(range(ranks), ranks)
    ring = {(min(ends), max(ends)) for ends in zip(order, order[1:] + order[:1], strict=True)}
    others = [pair for pair in everything if pair not in ring]
    return tuple(sorted(ring | set(chance.sample(others, max(0, _SAMPLE - len(ring))))))


def contended(ranks: int) -> tuple[tuple[Pair, ...], ...]:
    """Groups of pairs that are at work at once: at one port, and apart from each other.

    >>> contended(4)
    (((0, 1), (0, 2)), ((0, 1), (2, 3)), ((0, 1), (0, 2), (0, 3)))
    >>> contended(2)
    ()
    """
    groups = []
    counts = {ranks - 1, *(1 << doubled for doubled in range(1, ranks.bit_length()))}
    for count in sorted(count for count in counts if 1 < count < ranks):
        groups.append(tuple((0, target) for target in range(1, count + 1)))
        if 2 * count <= ranks:
            groups.append(tuple((2 * pair, 2 * pair + 1) for pair in range(count)))
    return tuple(groups)


def measure_round(transport: Transport, pairs: Sequence[Pair], nbytes: int) -> np.ndarray:
    """Measure a round; one row of `LINK_TRACE` for each pair, with half of the seconds of a round trip."""
    targets = [target for source, target in pairs if source == transport.rank]
    sources = [source for source, target in pairs if target == transport.rank]
    memory = np.zeros(nbytes, np.uint8)
    warm = _round_trips(transport, targets, sources, memory, _WARMUP)
    slowest_s = max(transport.all_gather(min(warm, default=0.0)))
    repeats = repeats_in(_ROUND_S, slowest_s, _FEWEST, _MOST)
    transport.barrier()
    spent = transport.all_gather(_round_trips(transport, targets, sources, memory, repeats))
    rows = np.zeros(len(pairs), LINK_TRACE)
    for row, (source, target) in zip(rows, pairs, strict=True):
        lower, median, upper = (seconds / 2 for seconds in quartiles(spent[source]))
        row["source"], row["target"], row["nbytes"], row["pairs"] = source, target, nbytes, len(pairs)
        row["seconds"], row["spread_s"], row["repeats"], row["origin"] = median, upper - lower, repeats, source
    return rows


def _round_trips(
    transport: Transport, targets: Sequence[int], sources: Sequence[int], memory: np.ndarray, repeats: int
) -> list[float]:
    """Seconds of each round trip with all `targets`; what comes from `sources` is sent back. Nothing to do is free."""
    spent = []
    for _ in range(repeats if targets or sources else 0):
        begin_s = time.perf_counter()
        for target in targets:
            transport.send(memory, target, _TAG)
        for source in sources:
            transport.receive(memory, source, _TAG)
            transport.send(memory, source, _TAG)
        for target in targets:
            transport.receive(memory, target, _TAG)
        spent.append(time.perf_counter() - begin_s)
    return spent


def _spoken(pairs: Sequence[Pair]) -> str:
    return " and ".join(f"{source}-{target}" for source, target in pairs[:3]) + (" ..." if len(pairs) > 3 else "")
