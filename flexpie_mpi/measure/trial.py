"""Trials: requests run over and over, by one engine or several in turn, and what they cost the job and every rank.

Engines race each other by turns, in each of which memory holds them together.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, inf
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..core.budget import kernel_bytes
from ..core.errors import FlexPieError, TransportError
from ..core.plan import Plan
from ..core.timeline import KINDS, Timeline
from ..lower.memory import PROCESS_BYTES
from ..runtime.engine import Engine, RankFacts, peak_rss_bytes, settle_pace
from ..runtime.transport import Transport, anyones
from ..testbed import Testbed
from .agreement import places_of

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
        return quantile(self.latencies_s, 0.9)


Outcome = Trial | FlexPieError
"""What a plan's requests took, or why they could not be run."""


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
    runner = _Runner(engine, keep)
    _run([runner], inputs, Rounds(repeat, warmup), tell)
    if runner.error is not None:
        raise runner.error
    outputs = runner.outputs.items()  # which later requests overwrite
    return runner.trial(), {name: np.array(out) if isinstance(out, np.ndarray) else out for name, out in outputs}


def race(
    engines: Sequence[Engine], inputs: Mapping[str, Any], rounds: Rounds, tell: Tell = lambda text: None
) -> tuple[Outcome, ...]:
    """Run the same request by several engines, round after round; called by all ranks together.

    An engine that fails, on any rank, takes no further part. Every round runs one request of every engine, forwards and
    backwards in turn, so that all share the machine's good and bad moments: the latencies with the same number are
    those of one round. All engines are of one job and have the same root, where the inputs are.
    """
    runners = [_Runner(engine) for engine in engines]
    _run(runners, inputs, rounds, tell)
    return tuple(runner.error or runner.trial() for runner in runners)


def race_in_turns(
    plans: Sequence[Plan],
    turns: Sequence[Sequence[int]],
    make: Callable[[Plan], Engine],
    inputs: Mapping[str, Any],
    rounds: Rounds,
    tell: Tell = lambda text: None,
) -> tuple[Outcome, ...]:
    """Trial of each plan, or why it cannot be run, the same on every rank; called by all ranks together.

    Parameters
    ----------
    plans : sequence of Plan
        The same on every rank.
    turns : sequence of sequence of int
        Places of plans whose engines are there together, and race each other; every plan has one. Of a plan with
        several the first counts.
    make : callable
        Makes the engine of a plan, or raises on every rank; it is closed when its turn is over.
    inputs, rounds, tell
        As of :func:`race`, in each turn.
    """
    known: dict[int, Outcome] = {}
    for nth, turn in enumerate(turns, 1):
        front = f"turn {nth} of {len(turns)}: " if len(turns) > 1 else ""
        for number, outcome in _turn({number: plans[number] for number in turn}, make, inputs, rounds, tell, front):
            known.setdefault(number, outcome)
        gc.collect()
    return tuple(known[number] for number in range(len(plans)))


def _turn(
    plans: Mapping[int, Plan],
    make: Callable[[Plan], Engine],
    inputs: Mapping[str, Any],
    rounds: Rounds,
    tell: Tell,
    front: str,
) -> list[tuple[int, Outcome]]:
    """What became of plans whose engines race each other, by place, when no engine is there any more."""
    engines: dict[int, Engine] = {}
    known: list[tuple[int, Outcome]] = []
    for nth, (number, plan) in enumerate(plans.items(), 1):
        tell(f"{front}making the sessions of plan {nth} of {len(plans)}")
        try:
            engines[number] = make(plan)
        except TransportError:  # a rank is late, which the others do not know
            raise
        except FlexPieError as error:
            known.append((number, error))
    if engines:
        outcomes = race(tuple(engines.values()), inputs, rounds, lambda text: tell(front + text))
        known += zip(engines, outcomes, strict=True)
    for engine in engines.values():
        engine.close()
    return known


@dataclass
class _Runner:
    """One engine that is measured, alone or in a race, and what its requests have taken so far."""

    engine: Engine
    keep: Keep | None = None
    outputs: dict[str, Any] = field(default_factory=dict)
    error: FlexPieError | None = None
    _spent: list[float] = field(default_factory=list)
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
            self._spent.append(seconds)
            self._shares.append(tuple(timeline.total(kind, transport.rank) for kind in KINDS))
            if self.keep is not None:
                self.keep(self.engine.began_s, timeline)

    def trial(self) -> Trial:
        """What the requests took, on every rank; called by all ranks together."""
        engine = self.engine
        medians = [statistics.median(column) for column in zip(*self._shares, strict=True)]
        mine = RankTrial(engine.facts(), *medians)
        spent, first_results_s, ranks = zip(
            *engine.transport.all_gather((self._spent, self._first_result_s, mine)), strict=True
        )
        return Trial(tuple(map(max, zip(*spent, strict=True))), first_results_s[engine.plan.root], ranks)


def _run(runners: Sequence[_Runner], inputs: Mapping[str, Any], rounds: Rounds, tell: Tell) -> None:
    """Round after round, until there are enough and no time is left for more."""
    transport, begin_s = runners[0].engine.transport, 0.0
    settle_pace([runner.engine for runner in runners])
    for number in range(rounds.limit):
        counted = number - rounds.warmup
        if counted == 0:
            begin_s = time.perf_counter()
        if counted >= rounds.repeat and transport.broadcast(time.perf_counter() - begin_s >= rounds.seconds):
            return
        tell(f"round {number + 1} of {rounds.limit}")
        for runner in runners if number % 2 == 0 else reversed(runners):
            runner.request(inputs, counts=counted >= 0)
        if all(runner.error for runner in runners):
            return


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

AVAILABLE_SHARE = 0.8
"""Of the memory that a host has available, so much is given to engines."""


def room(transport: Transport, testbed: Testbed, *, is_emulated: bool = False) -> tuple[float, ...]:
    """Bytes that each rank's engines may take, by rank; called by all ranks together.

    Ranks on one machine share what is available there. No board takes more than it has, but one that is emulated may:
    each plan fits it by itself.
    """
    machines = [machine for _, machine, _ in places_of(transport)]
    available = transport.all_gather(kernel_bytes("meminfo", "MemAvailable") or inf)
    sizes = (None if is_emulated else device.memory_bytes for device in testbed.devices)
    limits = (inf if size is None else size - PROCESS_BYTES for size in sizes)
    return tuple(
        min(limit, AVAILABLE_SHARE * available[rank] / machines.count(machines[rank]))
        for rank, limit in enumerate(limits)
    )


def fitting_turns(
    needed: Sequence[Sequence[int]], room: Sequence[float], always: Collection[int] = ()
) -> tuple[tuple[int, ...], ...]:
    """Indices of plans by the turns in which memory holds their engines together, each turn filled up in order.

    Parameters
    ----------
    needed : sequence of sequence of int
        Bytes of every plan's engine, by rank.
    room : sequence of float
        Bytes of every rank.
    always : collection of int
        Indices of plans that take part in every turn, as long as each other plan still fits beside them.

    Examples
    --------
    >>> fitting_turns([[4], [3], [3], [2]], [9], always=(0,))
    ((0, 1, 3), (0, 2))
    >>> fitting_turns([[4], [3]], [100]), fitting_turns([[4], [6]], [5])
    (((0, 1),), ((0,), (1,)))
    >>> fitting_turns([[4], [6]], [5], always=(0, 1))
    ((0,), (1,))
    """

    def fits(plans: Sequence[int]) -> bool:
        return all(sum(needed[plan][rank] for plan in plans) <= limit for rank, limit in enumerate(room))

    base = tuple(sorted(always))
    waiting = [plan for plan in range(len(needed)) if plan not in base]
    turns: list[tuple[int, ...]] = [base] if not waiting and fits(base) else []
    while waiting:
        start = base if fits((*base, waiting[0])) else ()
        turn = [*start, waiting.pop(0)]
        for plan in tuple(waiting):
            if fits((*turn, plan)):
                turn.append(plan)
                waiting.remove(plan)
        turns.append(tuple(sorted(turn)))
    alone = tuple((plan,) for plan in base if not any(plan in turn for turn in turns))
    return (*alone, *turns)


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
