"""What exchanges cost: the steps of all ranks together make up the request, and nobody's compute is an exchange's."""

from __future__ import annotations

import pytest

from flexpie_mpi.core.program import Compute, Exchange, Finish, Message, Program, Start, Step
from flexpie_mpi.core.timeline import Event, Timeline
from flexpie_mpi.measure.observed import RankRequest, front_moves

Span = tuple[str, int, float]
"""(kind, segment, seconds)."""


def program(rank: int, *steps: Step) -> Program:
    return Program(rank, 2, (), steps, (), (), ())


def compute(segment: int) -> Compute:
    return Compute(segment, (), (), ())


def exchange(index: int, rank: int, after: int = 0) -> Exchange:
    def message(source: int) -> Message:
        return Message(source, 1 - source, index, (), 8)

    return Exchange(index, "halo", (0, 1), (message(rank),), (message(1 - rank),), (), after=after)


def trip(rank: int, *spans: Span, origin_s: float = 100.0) -> RankRequest:
    events, now = [], 0.0
    for kind, segment, seconds in spans:
        events.append(Event(rank, kind, segment, now, now + seconds))
        now += seconds
    return RankRequest(rank, origin_s, Timeline(tuple(events)), now)


def halo(index: int, pack: float, wait: float, unpack: float) -> tuple[Span, ...]:
    return (
        ("wait", index, 0.0),
        ("exchange", index, pack),
        ("wait", index, wait),
        ("exchange", index, unpack),
    )


PROGRAMS = tuple(
    program(rank, compute(0), Start(exchange(1, rank)), Finish(exchange(1, rank)), compute(1)) for rank in (0, 1)
)


def test_waiting_for_a_late_rank_is_no_exchange() -> None:
    trips = (
        trip(
            0,
            ("exchange", 0, 1.0),
            ("compute", 0, 10.0),
            *halo(1, 1.0, 91.5, 1.0),
            ("compute", 1, 5.0),
            ("wait", 4, 0.0),
        ),
        trip(
            1,
            ("exchange", 0, 1.0),
            ("compute", 0, 100.0),
            *halo(1, 2.0, 0.5, 1.0),
            ("compute", 1, 5.0),
            ("wait", 4, 0.0),
        ),
    )
    assert front_moves(PROGRAMS, trips).exchange_s == {1: pytest.approx(3.5)}


def test_costs_and_slowest_computes_are_the_latency() -> None:
    trips = (
        trip(
            0, ("exchange", 0, 2.0), ("compute", 0, 7.0), *halo(1, 1.0, 4.0, 2.0), ("compute", 1, 5.0), ("wait", 4, 0.0)
        ),
        trip(
            1, ("exchange", 0, 1.0), ("compute", 0, 8.0), *halo(1, 2.0, 3.0, 1.0), ("compute", 1, 6.0), ("wait", 4, 0.0)
        ),
    )
    found = front_moves(PROGRAMS, trips)
    latency = max(t.timeline.latency_s for t in trips)
    assert 2.0 + found.compute_s + found.exchange_s[1] == pytest.approx(latency)
    assert found.compute_s == pytest.approx(7.0 + 6.0 - 1.0)  # the first of the second computes had a head start


def test_ranks_begin_at_different_times() -> None:
    spans = (("exchange", 0, 0.0), ("compute", 0, 10.0), *halo(1, 1.0, 0.0, 1.0), ("compute", 1, 5.0), ("wait", 4, 0.0))
    late = (("exchange", 0, 0.0), ("compute", 0, 10.0), *halo(1, 1.0, 0.0, 1.0), ("compute", 1, 5.0), ("wait", 4, 0.0))
    found = front_moves(PROGRAMS, (trip(0, *spans), trip(1, *late, origin_s=103.0)))
    assert found.exchange_s == {1: pytest.approx(2.0)}


def test_an_exchange_that_begins_early_counts_in_both_places() -> None:
    """It starts behind segment 0 and is finished before segment 2; the compute between is not its own."""
    programs = tuple(
        program(rank, compute(0), Start(exchange(2, rank)), compute(1), Finish(exchange(2, rank)), compute(2))
        for rank in (0, 1)
    )
    spans = (
        ("exchange", 0, 1.0), ("compute", 0, 10.0), ("wait", 2, 0.5), ("exchange", 2, 1.5), ("compute", 1, 20.0),
        ("wait", 2, 3.0), ("exchange", 2, 4.0), ("compute", 2, 5.0), ("wait", 5, 9.0),
    )  # fmt: skip
    assert front_moves(programs, (trip(0, *spans), trip(1, *spans))).exchange_s == {2: pytest.approx(9.0)}
