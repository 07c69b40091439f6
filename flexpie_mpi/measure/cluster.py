"""What a job runs on: the origin of every rank's measurements, and the testbed that they show."""

from __future__ import annotations

import hashlib
import platform
import secrets
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..core.versions import processor, version_of
from ..cost.origins import Origin
from ..runtime.machine import host_ranks
from ..runtime.transport import Transport
from ..testbed import Device, Testbed, measured
from .agreement import places_of

_LATENCY_S, _BANDWIDTH = 20e-6, 4e9
"""Of a link nobody has measured, seconds and bytes per second: two processes on one host."""


def origins_of(transport: Transport, threads: int, slowdown: float = 1.0) -> tuple[Origin, ...]:
    """Who all ranks are, by rank, for the rows they measure; the same on every rank, called by all together.

    Parameters
    ----------
    transport : Transport
    threads : int
        onnxruntime threads of this rank.
    slowdown : float
        By which this rank's compute is paced while it measures; 1 when it is not.
    """
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
    )
    return tuple(transport.all_gather(origin))


def cluster_digest(origins: Sequence[Origin]) -> str:
    """Hex digest of a job's hosts, their processors and cores, ranks on each, threads and versions.

    The same for every job that is started alike on the same machines, so what one has measured serves the next.
    """
    ranks = [
        (origin.host, origin.cpu, origin.cores, origin.threads, origin.onnxruntime, origin.python, origin.package)
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
    """A matrix with its gaps filled by the median of what is known."""
    known = matrix[np.isfinite(matrix)]
    return np.where(np.isfinite(matrix), matrix, np.median(known) if known.size else unknown)
