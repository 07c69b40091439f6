"""Plans run for real become rows that say what the planner asks, and nothing of their time is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from flexpie_mpi.core.plan import Plan
from flexpie_mpi.core.program import Compute
from flexpie_mpi.cost.groups import fused_groups
from flexpie_mpi.cost.rows import TABLES, WORK
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import lower
from flexpie_mpi.measure import profiled_run
from flexpie_mpi.measure.agreement import UntriedError
from flexpie_mpi.measure.attribution import Work, pooled_gap_s, split
from flexpie_mpi.measure.plans import collect_plans, sample_plans
from flexpie_mpi.measure.turns import Steps
from flexpie_mpi.model import Model, load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.planner.latency import price
from flexpie_mpi.runtime.engine import load_shared
from flexpie_mpi.runtime.loopback import LoopbackTransport, alone, run_ranks
from flexpie_mpi.runtime.pacing import PacedStep
from flexpie_mpi.testbed import Testbed, one_host

Rows = dict[str, np.ndarray]
"""Rows of one plan by table."""


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(profiled_run, "PROFILED_S", 0.0)
    monkeypatch.setattr(profiled_run, "PLAIN_S", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


class Asked:
    """A cost model that remembers what work it was asked about."""

    def __init__(self) -> None:
        self.works: set[tuple[object, ...]] = set()

    def compute_s(self, work: np.ndarray, active: np.ndarray) -> np.ndarray:
        self.works.update(plain(work))
        return np.full(len(work), 1e-5)

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        return np.full(len(calls), 1e-5)

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        return np.full(len(transfers), 1e-5)


def plain(rows: np.ndarray) -> list[tuple[object, ...]]:
    return [tuple(row[name] for name in WORK.names or ()) for row in rows]


def collect(
    name: str,
    ranks: int,
    plans: Iterable[Plan],
    seconds: Iterable[float] = (),
    left_out: list[str] | None = None,
    slowdown: float | None = None,
) -> tuple[list[int], list[Rows]]:
    """Numbers of plans measured by rank, and what was kept of each plan; `left_out` is told of the others."""
    kept: list[Rows] = []
    found: Rows = {}

    def keep(table: str, rows: np.ndarray) -> None:
        assert rows.dtype == TABLES[table]
        found[table] = rows
        if table == "plan":
            kept.append(dict(found))
            found.clear()

    def one_rank(transport: LoopbackTransport) -> int:
        left = iter(seconds)
        model = load_shared(transport, f"builtin:{name}")
        outcome = collect_plans(
            transport,
            model,
            random_inputs(model.graph) if transport.rank == 0 else {},
            plans if transport.rank == 0 else (),
            testbed=one_host(ranks, 2),
            keep=keep,
            clock=lambda: transport.broadcast(next(left, 1e9)),
            slowdown=slowdown,
        )
        if left_out is not None and transport.rank == 0:
            left_out.extend(outcome.left_out)
        return outcome.measured

    return run_ranks(ranks, one_rank), kept


@pytest.mark.parametrize(("name", "ranks"), [("tiny_resnet", 2), ("tiny_bert", 2), ("tiny_cnn", 3)])
def test_rows_are_what_the_planner_asks_about(name: str, ranks: int, tmp_path: Path) -> None:
    graph = load(f"builtin:{name}").graph
    plans = list(islice(sample_plans(graph, ranks), 6))
    counts, kept = collect(name, ranks, plans)
    assert counts == [len(plans)] * ranks
    for plan, rows in zip(plans, kept, strict=True):
        asked, testbed = Asked(), one_host(ranks, 2)
        price(plan, graph, testbed, asked)
        assert set(plain(rows["compute"])) <= asked.works
        check(plan, rows, lower(plan, graph), testbed)
    assert list(tmp_path.iterdir()) == []


def check(plan: Plan, rows: Rows, programs: tuple, testbed: Testbed) -> None:  # type: ignore[type-arg]
    """Every step has its row; seconds are positive; loads are the testbed's."""
    steps = [(p.rank, step) for p in programs for step in p.steps]
    computes = [(rank, step) for rank, step in steps if isinstance(step, Compute)]
    assert len(rows["call"]) == len(computes)
    assert len(rows["exchange"]) == len({s.exchange.index for _, s in steps if not isinstance(s, Compute)})
    loads = [max(testbed.active(plan.segments[step.segment].layout.ranks)) for _, step in computes]
    assert rows["call"]["active"].tolist() == loads
    assert rows["call"]["origin"].tolist() == [rank for rank, _ in computes]
    for table in ("compute", "call"):
        assert (rows[table]["seconds"] > 0).all()
        assert (rows[table]["repeats"] >= 5).all()
    assert len(rows["plan"]) == 1
    assert rows["plan"]["segments"][0] == len(plan.segments)
    assert np.isnan(rows["plan"]["predicted_s"][0])


@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_mobilenet", "tiny_bert"])
@pytest.mark.parametrize("place", [0, 1])
def test_kernels_and_call_are_the_whole_segment(name: str, place: int, tmp_path: Path) -> None:
    model = load(f"builtin:{name}")
    plan = list(islice(sample_plans(model.graph, 1), 2))[place]
    found = profiled_run.PlanProfiler(alone(), model, random_inputs(model.graph), tmp_path).run(plan)
    known = fused_groups(model.graph, [first for _, first, _ in plan.spans])
    for times in found.segments:
        work = Work(model.graph, known, found.programs[0], times.step)
        parts = split(times, work, pooled_gap_s(found.segments), found.typical(times.plain_s))
        total = parts.call_s + sum(seconds for seconds, _ in parts.kernels.values())
        assert total == pytest.approx(found.typical(times.plain_s), abs=0.3e-6 * len(work.numbers))
        assert set(parts.kernels) <= set(work.payer.values())
        silent = [number for number in set(work.payer.values()) - set(parts.kernels) if name != "tiny_bert"]
        assert not silent


def test_steps_of_boards_are_timed_one_rank_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """And their requests are as slow as the boards."""
    at_work, most, paced = [0], [0], []
    once, act = Steps.run, PacedStep.__call__

    def run(steps: Steps) -> None:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        once(steps)
        at_work[0] -= 1

    def pace(step: PacedStep) -> None:
        paced.append((step.slowdown, step.seconds))
        act(step)

    monkeypatch.setattr(Steps, "run", run)
    monkeypatch.setattr(PacedStep, "__call__", pace)
    graph = load("builtin:tiny_cnn").graph
    plan = layout_plan(graph, 3, "rows")
    counts, (rows,) = collect("tiny_cnn", 3, [plan], slowdown=4.0)
    assert counts == [1] * 3 and most == [1]
    assert paced and all(slowdown == 4.0 and seconds for slowdown, seconds in paced)
    check(plan, rows, lower(plan, graph), one_host(3, 2))
    assert rows["plan"]["compute_s"][0] >= max(slowdown * seconds for slowdown, seconds in paced)


def test_steps_that_cannot_be_run_by_themselves_are_timed_in_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise UntriedError("there is nothing to make up")

    monkeypatch.setattr(profiled_run, "in_turns", refuse)
    graph = load("builtin:tiny_cnn").graph
    plan = layout_plan(graph, 2, "rows")
    counts, (rows,) = collect("tiny_cnn", 2, [plan], slowdown=4.0)
    assert counts == [1, 1]
    check(plan, rows, lower(plan, graph), one_host(2, 2))


def test_a_plan_that_cannot_run_is_left_out() -> None:
    graph = load("builtin:tiny_cnn").graph
    good = layout_plan(graph, 2, "rows")
    bad = replace(good, model="another")
    told: list[str] = []
    counts, kept = collect("tiny_cnn", 2, [bad, good], left_out=told)
    assert counts == [1, 1]
    assert len(kept) == 1
    assert len(told) == 1 and "another model" in told[0]


def test_a_session_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one rank only; the other is not left waiting."""
    plans = [layout_plan(load("builtin:tiny_cnn").graph, 2, preset) for preset in ("rows", "columns")]
    opened = profiled_run.open_segment
    failures = iter((True,))

    def open_segment(model: Model, program, *rest):  # type: ignore[no-untyped-def]
        if program.rank == 1 and next(failures, False):
            raise MemoryError("all is full")
        return opened(model, program, *rest)

    monkeypatch.setattr(profiled_run, "open_segment", open_segment)
    told: list[str] = []
    counts, kept = collect("tiny_cnn", 2, plans, left_out=told)
    assert counts == [1, 1]
    assert kept[0]["plan"]["planner"][0].startswith(b"columns")
    assert len(told) == 1 and "no room" in told[0] and "rank 1" in told[0]


def test_it_stops_when_time_is_over() -> None:
    plans = list(islice(sample_plans(load("builtin:tiny_cnn").graph, 2), 8))
    counts, kept = collect("tiny_cnn", 2, plans, seconds=[1e9, 1e9, 0.0])
    assert counts == [2, 2]
    assert len(kept) == 2


def test_what_is_typical_of_parts_adds_up() -> None:
    """Also where each part is slow in another request, which the medians of the parts would not show."""
    found = profiled_run.ProfiledRun((), (), (), (3.0, 9.0, 3.5, 3.0, 8.0, 3.0))
    parts = [(2.0, 5.0, 2.5, 0.5, 5.0, 0.5), (0.5, 2.0, 0.5, 2.0, 2.0, 0.5), (0.5, 2.0, 0.5, 0.5, 1.0, 2.0)]
    assert sum(map(found.typical, parts)) == pytest.approx(3.0)
