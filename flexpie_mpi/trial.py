"""Trials: a request run over and over, and what it cost the job as a whole and every rank."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from .engine import Engine, RankFacts
from .timeline import KINDS

_BORN = time.monotonic()
"""When this module was read: what is known of the start of the process where the kernel does not tell."""


@dataclass(frozen=True, slots=True)
class RankTrial:
    """One rank's share of a trial: medians over the repeats, in seconds, and what it holds and sends."""

    facts: RankFacts
    compute_s: float
    send_s: float
    receive_s: float
    wait_s: float

    @property
    def exchange_s(self) -> float:
        """What the rank itself does to exchange: it packs and sends, unpacks and copies."""
        return self.send_s + self.receive_s

    @property
    def total_s(self) -> float:
        return self.compute_s + self.exchange_s + self.wait_s


@dataclass(frozen=True)
class Trial:
    """What repeated requests took.

    Attributes
    ----------
    latencies_s : tuple of float
        One per repeat: from a barrier to the end of the slowest rank.
    first_result_s : float
        From the start of the root's process to the end of its first request.
    ranks : tuple of RankTrial
    """

    latencies_s: tuple[float, ...]
    first_result_s: float
    ranks: tuple[RankTrial, ...]

    @cached_property
    def median_s(self) -> float:
        return statistics.median(self.latencies_s)

    @cached_property
    def min_s(self) -> float:
        return min(self.latencies_s)

    @cached_property
    def p90_s(self) -> float:
        return quantile(self.latencies_s, 0.9)


def quantile(samples: tuple[float, ...], share: float) -> float:
    """The smallest sample that at least `share` of all samples do not exceed.

    >>> quantile((4.0, 1.0, 3.0, 2.0), 0.5), quantile((4.0, 1.0, 3.0, 2.0), 0.9)
    (2.0, 4.0)
    """
    return sorted(samples)[max(0, ceil(share * len(samples)) - 1)]


def measure(
    engine: Engine,
    inputs: Mapping[str, Any],
    repeat: int,
    warmup: int,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Trial, dict[str, Any]]:
    """Run the same request ``warmup + repeat`` times; called by all ranks together.

    Parameters
    ----------
    engine : Engine
    inputs : mapping of str to array
        On the root; ignored elsewhere.
    repeat, warmup : int
        Requests that count, at least one, and those before them that do not.
    tell : callable
        Is told what goes on, between requests.

    Returns
    -------
    trial : Trial
        The same on every rank.
    outputs : dict of str to array
        Of the last request, on the root, copied; empty elsewhere.
    """
    spent: list[float] = []
    shares: list[tuple[float, ...]] = []
    first_result_s = 0.0
    outputs: dict[str, Any] = {}
    for request in range(warmup + repeat):
        tell(f"request {request + 1} of {warmup + repeat}")
        engine.transport.barrier()
        begin_s = time.perf_counter()
        outputs = engine.run(inputs)
        seconds = time.perf_counter() - begin_s
        first_result_s = first_result_s or process_age_s()
        if request >= warmup:
            timeline = engine.timeline()
            spent.append(seconds)
            shares.append(tuple(timeline.total(kind, engine.transport.rank) for kind in KINDS))
    return _gather(engine, spent, shares, first_result_s), {name: _kept(value) for name, value in outputs.items()}


def _gather(engine: Engine, spent: list[float], shares: list[tuple[float, ...]], first_result_s: float) -> Trial:
    medians = [statistics.median(column) for column in zip(*shares, strict=True)]
    mine = RankTrial(engine.facts(), *medians)
    everyone = engine.transport.all_gather((spent, first_result_s, mine))
    return Trial(
        latencies_s=tuple(max(times) for times in zip(*(spent for spent, _, _ in everyone), strict=True)),
        first_result_s=everyone[engine.plan.root][1],
        ranks=tuple(rank for _, _, rank in everyone),
    )


def _kept(value: Any) -> Any:
    """An output that later requests do not overwrite."""
    return np.array(value) if isinstance(value, np.ndarray) else value


def process_age_s() -> float:
    """Seconds since this process was started, to a hundredth; without Linux, since this module was read."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s
    except (OSError, ValueError, AttributeError):
        return time.monotonic() - _BORN
