"""Races: plans tried by turns, in each of which memory holds their engines together, to see which is the fastest."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any

from ..core.budget import kernel_bytes
from ..core.errors import FlexPieError, TransportError
from ..core.graph import Graph
from ..core.plan import Plan
from ..lower import lower
from ..lower.memory import PROCESS_BYTES, memory_of
from ..runtime.engine import Engine
from ..runtime.transport import Transport
from ..testbed import Testbed
from .agreement import Budget, UntriedError, places_of
from .observed import Observation, Recorder, observed
from .trial import Rounds, Runner, Tell, Trial, run_rounds

log = logging.getLogger(__name__)

Outcome = Trial | FlexPieError
"""What a plan's requests took, or why they could not be run."""

Seen = Callable[[int, Observation], None]
"""Is told on the root, with the place of a plan, what its requests say together."""


def race_in_turns(
    plans: Sequence[Plan],
    turns: Sequence[Sequence[int]],
    make: Callable[[Plan], Engine],
    inputs: Mapping[str, Any],
    rounds: Rounds,
    tell: Tell = lambda text: None,
    *,
    budget: Budget | None = None,
    seen: Seen | None = None,
) -> tuple[Outcome, ...]:
    """Trial of each plan, or why it cannot be run, the same on every rank; called by all ranks together.

    Every round runs one request of every plan, forwards and backwards in turn, so that all share the machine's good and
    bad moments: the latencies with the same number are those of one round. A plan that fails, on any rank, takes no
    further part.

    Parameters
    ----------
    plans : sequence of Plan
        The same on every rank, all with the same root.
    turns : sequence of sequence of int
        Places of plans whose engines are there together, and race each other; every plan has one. Of a plan with
        several the first counts.
    make : callable
        Makes the engine of a plan, or raises on every rank; it is closed when its turn is over.
    inputs : mapping of str to array
        The request, on the root; ignored elsewhere.
    rounds : Rounds
        Of each turn.
    tell : callable
        Is told what goes on.
    budget : Budget, optional
        In place of the seconds of the rounds: each turn has its share, in which its engines are made as well.
    seen : callable, optional
        Is told what the requests of each plan say, unless that makes no sense.
    """
    known: dict[int, Outcome] = {}
    for nth, turn in enumerate(turns, 1):
        said = partial(_told, tell, f"turn {nth} of {len(turns)}: " if len(turns) > 1 else "")
        share = budget.part(1 / len(turns)) if budget else None
        engines, outcomes = _opened({number: plans[number] for number in turn}, make, said)
        if engines:
            outcomes |= _raced(engines, inputs, rounds, said, share, seen)
        for engine in engines.values():
            engine.close()
        known = outcomes | known
        engines.clear()
        gc.collect()
    return tuple(known[number] for number in range(len(plans)))


def _told(tell: Tell, front: str, text: str) -> None:
    tell(front + text)


def _opened(
    plans: Mapping[int, Plan], make: Callable[[Plan], Engine], tell: Tell
) -> tuple[dict[int, Engine], dict[int, Outcome]]:
    """Engines of plans, by place, and what is wrong with plans that have none."""
    engines, refused = dict[int, Engine](), dict[int, Outcome]()
    for nth, (number, plan) in enumerate(plans.items(), 1):
        tell(f"making the sessions of plan {nth} of {len(plans)}")
        try:
            engines[number] = make(plan)
        except TransportError:  # a rank is late, which the others do not know
            raise
        except FlexPieError as error:
            refused[number] = error
    return engines, refused


def _raced(
    engines: Mapping[int, Engine],
    inputs: Mapping[str, Any],
    rounds: Rounds,
    tell: Tell,
    budget: Budget | None,
    seen: Seen | None,
) -> dict[int, Outcome]:
    recorders = {number: Recorder(it.transport, it.plan.root) for number, it in engines.items() if seen}
    runners = {number: Runner(it, recorders[number].keep if seen else None) for number, it in engines.items()}
    run_rounds(list(runners.values()), inputs, rounds, tell, budget)
    able = {number: runner for number, runner in runners.items() if runner.error is None}
    if seen and able:
        parts = [recorders[number].requests(runner.spent_s) for number, runner in able.items()]
        try:
            for number, each in zip(able, observed([it.engine for it in able.values()], parts), strict=False):
                seen(number, each)  # on the root
        except UntriedError as error:
            log.info("nothing is kept of plans that were tried: %s", error)
    return {number: runner.error or runner.trial() for number, runner in runners.items()}


def turns_of_plans(
    transport: Transport, graph: Graph, plans: Sequence[Plan], testbed: Testbed
) -> tuple[tuple[int, ...], ...]:
    """Places of plans by the turns in which memory holds their engines together; called by all ranks together."""
    jobs = [[lower(plan, graph, testbed.blocks)] for plan in plans]
    needed = [[need.engine_bytes() for need in memory_of(job, graph)] for job in jobs]
    return fitting_turns(needed, room(transport, testbed))


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
