"""The critical path of a request: how much every step of a job adds to it, when all ranks are looked at together.

The steps of all ranks have one common order (:data:`flexpie_mpi.core.program.Order`). Step by step, the *front* is the
time at which the last rank has ended the step or one before it. A step costs what it moves the front by. The costs add
up to the request's latency, and waiting for a late rank's compute is no part of an exchange::

    rank 0   |--compute--|......wait......|unpack|
    rank 1   |---------compute---------|--|unpack|
                                       ^ the exchange costs what is behind here
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from ..core.program import Compute, Order, Program, Start
from ..core.timeline import Event, Timeline


@dataclass(frozen=True, slots=True)
class RankRequest:
    """One rank's part of one request; `origin_s` is its beginning by the root's clock."""

    rank: int
    origin_s: float
    timeline: Timeline


def exchange_costs(programs: Sequence[Program], parts: Iterable[RankRequest]) -> dict[int, float]:
    """Seconds by which each exchange made one request longer, by the number of the exchange.

    Parameters
    ----------
    programs : sequence of Program
        Of all ranks.
    parts : iterable of RankRequest
        Of all ranks, for the same request.
    """
    front_s = -inf
    exchange_of: dict[Order, int | None] = {}
    ends_s: dict[Order, float] = {}
    for part in parts:
        front_s = max(front_s, part.origin_s + part.timeline.events[0].end_s)
        for order, exchange, event in _step_events(programs[part.rank], part.timeline.events):
            exchange_of[order] = exchange
            ends_s[order] = max(ends_s.get(order, -inf), part.origin_s + event.end_s)
    costs: dict[int, float] = {}
    for order in sorted(ends_s):
        exchange = exchange_of[order]
        if exchange is not None:
            costs[exchange] = costs.get(exchange, 0.0) + max(0.0, ends_s[order] - front_s)
        front_s = max(front_s, ends_s[order])
    return costs


def _step_events(program: Program, events: Sequence[Event]) -> Iterable[tuple[Order, int | None, Event]]:
    """Every event of a rank with the order of its step, and the step's exchange, if it is of one.

    The first event is the beginning of the request and the last one its end; they belong to no step.
    """
    number = 1
    for step in program.steps:
        if isinstance(step, Compute):
            yield step.order, None, events[number]
            number += 1
            continue
        index = step.exchange.index
        end = number + 2 if isinstance(step, Start) else len(events) - 1
        while number < end and events[number].segment == index and events[number].kind != "compute":
            yield step.order, index, events[number]
            number += 1
