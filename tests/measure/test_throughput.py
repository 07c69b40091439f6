"""Throughput: which segments are one stage, and what deliveries say once the pipeline is full."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment, Stage
from flexpie_mpi.measure.throughput import Meter, throughput
from flexpie_mpi.runtime.admission import StreamStats


def plan_of(*teams: tuple[tuple[int, ...], ...], ranks: int = 8) -> Plan:
    """One segment per item, each the ranks of its replicas."""
    layouts = [[Layout("single" if len(r) == 1 else "rows", r) for r in replicas] for replicas in teams]
    segments = (Segment((f"n{k}", f"m{k}"), first, tuple(rest)) for k, (first, *rest) in enumerate(layouts))
    return Plan(tuple(segments), ranks, "digest")


@pytest.mark.parametrize(
    ("teams", "expected"),
    [
        ([((0,),)], [Stage((0,), (0,), 1)]),
        ([((0, 1),), ((0,),), ((0, 1),)], [Stage((0, 1), (0, 1, 2), 1)]),  # a plan for latency
        ([((0,),), ((1,),), ((2,),)], [Stage((0,), (0,), 1), Stage((1,), (1,), 1), Stage((2,), (2,), 1)]),
        ([((0,),), ((1,), (2,)), ((3, 4),)], [Stage((0,), (0,), 1), Stage((1, 2), (1,), 2), Stage((3, 4), (2,), 1)]),
        ([((0,),), ((1,),), ((0,),)], [Stage((0,), (0, 2), 1), Stage((1,), (1,), 1)]),
        ([((0, 1),), ((2, 3),), ((1, 2),)], [Stage((0, 1, 2, 3), (0, 1, 2), 1)]),
        ([((0,), (1,)), ((0,), (1,), (2,))], [Stage((0, 1, 2), (0, 1), 6)]),
    ],
)
def test_segments_that_share_ranks_are_one_stage(teams: list, expected: list[Stage]) -> None:
    assert plan_of(*teams).stages == tuple(expected)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def metered(gaps: list[float], warmup: int) -> Meter:
    clock = Clock()
    meter = Meter(warmup, clock)
    for gap in gaps:
        clock.now += gap
        meter.deliver()
    return meter


def test_the_rate_leaves_out_what_fills_the_pipeline() -> None:
    assert metered([3.0, 1.0, 0.5, 0.5, 0.5, 0.5], warmup=2).rate == pytest.approx(2.0)
    for gaps, warmup in (([3.0, 1.0], 2), ([], 2), ([1.0], 0)):
        assert metered(gaps, warmup).rate is None


def test_time_without_requests_is_counted_only_while_there_is_room() -> None:
    clock = Clock()
    meter = Meter(0, clock)
    for is_ready, gap in ((True, 5.0), (False, 2.0), (False, 1.0), (True, 7.0), (False, 0.5), (True, 0.0)):
        meter.look(is_ready=is_ready)
        clock.now += gap
    assert meter.starved_s == pytest.approx(3.5)


def test_a_stage_is_as_busy_as_its_busiest_rank() -> None:
    plan = plan_of(((0,),), ((1,), (2,)), ranks=3)
    stats = [StreamStats(0, 10, 5.0, 2.0, 100, tuple(float(n) for n in range(10)))]
    stats += [StreamStats(1, 10, 4.0, 3.0, 10), StreamStats(2, 10, 4.0, 4.0, 10)]
    found = throughput(plan, stats, metered([0.5] * 10, warmup=4), in_flight=6)
    assert (found.requests, found.warmup, found.whole_rate, found.rate) == (10, 4, 2.0, pytest.approx(2.0))
    assert found.latencies_s == (4.0, 5.0, 6.0, 7.0, 8.0, 9.0) and found.latency_s(50) == 6.5
    first, second = found.stages
    assert (first.busy_share, first.seconds, first.nodes) == (0.4, 0.2, ("n0", "m0"))
    assert (second.rank, second.busy_share, second.seconds) == (2, 0.8, 0.4)
    assert found.busiest is second


def test_a_stream_shorter_than_its_warm_up_is_counted_as_a_whole() -> None:
    plan = plan_of(((0,),), ranks=1)
    alone = StreamStats(0, 2, 4.0, 1.0, 0, (1.0, 3.0))
    found = throughput(plan, [alone], metered([1.0, 1.0], warmup=3), in_flight=3)
    assert (found.warmup, found.rate, found.latencies_s) == (0, 0.5, (1.0, 3.0))
    nothing = throughput(plan, [replace(alone, requests=0, elapsed_s=0.0, latencies_s=())], metered([], 3), in_flight=3)
    assert nothing.rate is None and nothing.stages[0].seconds == 0.0
