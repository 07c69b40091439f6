"""Trials: requests run over and over, by one engine or several in turn, and what they cost the job and every rank."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..core.budget import kernel_bytes
from ..core.errors import FlexPieError
from ..core.timeline import KINDS, Timeline
from ..runtime.engine import Engine, RankFacts, settle_pace
from ..runtime.machine import peak_rss_bytes
from ..runtime.transport import anyones
from .agreement import Budget
from .verdict import FEWEST, contenders

_BORN = time.monotonic()
"""When this module was read: the best guess at the start of the process where the kernel does not tell."""

Tell = Callable[[str], None]
"""Is told what goes on, between requests."""

Keep = Callable[[float, Timeline], None]
"""Is given each request that counts: when it began by this rank's clock, and where its time went here."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often requests are run; a round is one request of every engine."""

    repeat: int  # rounds that count, at least one
    warmup: int = 0  # rounds before them that do not
    most: int = 0  # rounds that count, where time allows; no more than `repeat` when smaller
    seconds: float = 0.0  # no round beyond `repeat` begins once those that count have taken so long
    is_knockout: bool = False  # whether engines that are told to be slower take no further part, and one alone none

    @property
    def limit(self) -> int:
        """Rounds at most, those to warm up among them."""
        return self.warmup + max(self.repeat, self.most)


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
    """What repeated requests took."""

    latencies_s: tuple[float, ...]  # one per repeat: from a barrier to the end of the slowest rank
    first_result_s: float  # from the start of the root's process to the end of its first request
    ranks: tuple[RankTrial, ...]

    @cached_property
    def median_s(self) -> float:
        return statistics.median(self.latencies_s)

    @cached_property
    def min_s(self) -> float:
        return min(self.latencies_s)

    @cached_property
    def typical(self) -> int:
        """Place of the repeat whose latency is nearest to the median, the first of several."""
        return min(range(len(self.latencies_s)), key=lambda repeat: abs(self.latencies_s[repeat] - self.median_s))

    @cached_property
    def p90_s(self) -> float:
        """The latency that nine of ten do not exceed."""
        return float(np.quantile(self.latencies_s, 0.9))


def measure(
    engine: Engine,
    inputs: Mapping[str, Any],
    repeat: int,
    warmup: int,
    tell: Tell = lambda text: None,
    keep: Keep | None = None,
) -> tuple[Trial, dict[str, Any]]:
    """Run the same request ``warmup + repeat`` times; called by all ranks together, with inputs on the root.

    Returns
    -------
    trial : Trial
        The same on every rank.
    outputs : dict of str to array
        Of the last request, on the root, copied; empty elsewhere.

    Raises
    ------
    ModelError
        On every rank, when a segment cannot be run on any.
    """
    runner = Runner(engine, keep)
    run_rounds([runner], inputs, Rounds(repeat, warmup), tell)
    if runner.error is not None:
        raise runner.error
    return runner.trial(), held(runner.outputs)


def held(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs of a request that later ones do not overwrite."""
    return {name: np.array(out) if isinstance(out, np.ndarray) else out for name, out in outputs.items()}


@dataclass
class Runner:
    """One engine that is measured, alone or in a race, and what its requests have taken so far."""

    engine: Engine
    keep: Keep | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    error: FlexPieError | None = None
    spent_s: list[float] = field(default_factory=list)  # by this rank's clock
    _shares: list[tuple[float, ...]] = field(default_factory=list)
    _first_result_s: float = 0.0

    def request(self, inputs: Mapping[str, Any], counts: bool) -> None:
        """Run a request from a barrier on; none after one that failed, which all ranks then know."""
        if self.error is not None:
            return
        transport = self.engine.transport
        seconds, self.outputs, self.error = try_request(self.engine, inputs)
        if self.error is not None:
            return
        self._first_result_s = self._first_result_s or process_age_s()
        if counts:
            timeline = self.engine.timeline()
            self.spent_s.append(seconds)
            self._shares.append(tuple(timeline.total(kind, transport.rank) for kind in KINDS))
            if self.keep is not None:
                self.keep(self.engine.began_s, timeline)

    def trial(self) -> Trial:
        """What the requests took, on every rank; called by all ranks together."""
        engine = self.engine
        medians = [statistics.median(column) for column in zip(*self._shares, strict=True)]
        mine = RankTrial(engine.facts(), *medians)
        spent, first_results_s, ranks = zip(
            *engine.transport.all_gather((self.spent_s, self._first_result_s, mine)), strict=True
        )
        return Trial(tuple(map(max, zip(*spent, strict=True))), first_results_s[engine.plan.root], ranks)


def run_rounds(
    runners: Sequence[Runner], inputs: Mapping[str, Any], rounds: Rounds, tell: Tell, budget: Budget | None = None
) -> None:
    """Round after round, until there are enough and no time is left for more: of the budget, where there is one."""
    transport, begin_s, running = runners[0].engine.transport, 0.0, list(runners)
    settle_pace([runner.engine for runner in runners])
    for runner in runners:
        runner.engine.states.reset()
    for number in range(rounds.limit):
        counted = number - rounds.warmup
        if counted == 0:
            begin_s = time.perf_counter()
        if counted >= rounds.repeat:
            left_s = budget.left() if budget else rounds.seconds - (time.perf_counter() - begin_s)
            places = transport.broadcast(_going_on(running, rounds) if left_s > 0 else ())
            running = [running[place] for place in places]
        if all(runner.error for runner in running):
            return
        tell(f"round {number + 1} of {rounds.limit}")
        for runner in running if number % 2 == 0 else reversed(running):
            runner.request(inputs, counts=counted >= 0)


def _going_on(running: Sequence[Runner], rounds: Rounds) -> list[int]:
    """Places of those that take part in one more round."""
    able = [place for place, runner in enumerate(running) if runner.error is None]
    if not rounds.is_knockout or any(len(running[place].spent_s) < FEWEST for place in able):
        return able
    going = [able[place] for place in contenders([running[place].spent_s for place in able])]
    return going if len(going) > 1 else []


def try_request(engine: Engine, inputs: Mapping[str, Any]) -> tuple[float, dict[str, Any], FlexPieError | None]:
    """Run a request from a barrier on; called by all ranks together.

    This rank's seconds; the outputs, on the root, valid until the next request; and what any rank has failed with, on
    every rank: then seconds and outputs are of no use.
    """
    engine.transport.barrier()
    begin_s = time.perf_counter()
    with engine.guard.on():
        outputs = engine.run(inputs)
    seconds = time.perf_counter() - begin_s
    return seconds, outputs, anyones(engine.transport, engine.guard.take())


def process_age_s() -> float:
    """Seconds since this process was started, to a hundredth; without Linux, since this module was read."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s
    except (OSError, ValueError, AttributeError):
        return time.monotonic() - _BORN


T = TypeVar("T")


class Footprint:
    """Tells how much memory this process would have taken with one of several engines, each made after the other."""

    def __init__(self) -> None:
        self._base = _status_bytes("VmRSS")

    def of(self, make: Callable[[], T]) -> tuple[T, int]:
        """What `make` gives, and the peak of resident bytes while it was made, less what was there before it.

        To this comes what the process had when it began to count. Where the kernel does not let the peak be reset, it
        is the largest of all so far.
        """
        before, is_reset = _status_bytes("VmRSS"), _reset_peak()
        made = make()
        return made, self._base + max(0, _status_bytes("VmHWM") - before) if is_reset else peak_rss_bytes()


def _reset_peak() -> bool:
    with suppress(OSError):
        return Path("/proc/self/clear_refs").write_text("5") > 0
    return False


def _status_bytes(key: str) -> int:
    return kernel_bytes("self/status", key) or 0
