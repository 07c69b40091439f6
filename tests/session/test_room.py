"""What is really free on hosts, held against what a plan needs there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flexpie_mpi.core.errors import PlanError
from flexpie_mpi.lower import turns_of
from flexpie_mpi.lower.memory import RankMemory, memory_of
from flexpie_mpi.measure.limits import Memory
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.session import choosing
from flexpie_mpi.session.inference import InferenceSession
from flexpie_mpi.session.opening import requests_in_flight
from flexpie_mpi.session.room import most_that_fits, shortages, words_that_fit
from flexpie_mpi.testbed import one_host

MB = 1_000_000


def need(rank: int, weights: int, slot: int = 0) -> RankMemory:
    return RankMemory(rank, weights * MB, 0, 0, slot * MB, slot * MB, 1, is_root=rank == 0)


def free(megabytes: int | None, bound_by: str = "a control group") -> Memory:
    return Memory(4000 * MB, None if megabytes is None else megabytes * MB, bound_by)


def test_ranks_of_one_host_share_what_is_free_there() -> None:
    needs, hosts = [need(0, 100), need(1, 100), need(2, 150)], {"a": (0, 1), "b": (2,)}
    assert not [*shortages(needs, [free(200), free(200), free(150)], hosts)]
    assert [*shortages(needs, [free(200), free(199), free(150)], hosts)] == [
        (
            (0, 1),
            "'a' has 199 MB of memory free, as a control group has it, and the plan needs 200 MB more there "
            "(rank 0 100 MB, rank 1 100 MB)",
        )
    ]
    assert not [*shortages(needs, [free(None)] * 3, hosts)]


def test_fewer_requests_are_under_way_where_only_those_fit() -> None:
    needs, hosts = [need(0, 100, slot=10)], {"a": (0,)}
    assert [most_that_fits(needs, [free(size)], hosts, 8) for size in (180, 179, 110, 109)] == [8, 7, 1, 0]


def test_a_plan_that_does_not_fit_is_refused_before_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("FLEXPIE_CACHE", str(tmp_path))
    monkeypatch.setattr(choosing, "memory_here", lambda: Memory(1 << 30, 1000, "ulimit -v"))
    with pytest.raises(PlanError, match=r"has 0 MB of memory free, as ulimit -v has it, and the plan needs .* more"):
        InferenceSession("builtin:tiny_cnn", layout="single")


def test_the_words_for_a_plan_that_fits() -> None:
    """Where one board has no room for a share, the other one may have room for all."""
    graph, hosts = load("builtin:tiny_cnn").graph, {"a": (0,), "b": (1,)}
    assert words_that_fit(graph, 2, (), [free(100), free(100)], hosts).startswith("--layout rows fits, with 1 MB on")
    assert words_that_fit(graph, 2, (), [free(100), free(0)], hosts).startswith("--layout batch fits")
    assert words_that_fit(graph, 2, (), [free(0), free(0)], hosts) == ""


def test_a_board_must_have_room_for_what_it_holds_beside() -> None:
    graph, boards = load("builtin:tiny_cnn").graph, one_host(2, 2)
    plan = layout_plan(graph, 2, "rows")
    [*needs] = memory_of(turns_of(plan, graph, boards.blocks), graph)
    most = max(need.total_bytes() for need in needs)
    boards = replace(boards, devices=tuple(replace(device, memory_bytes=most) for device in boards.devices))
    assert requests_in_flight(plan, graph, boards, 1) == 1
    with pytest.raises(PlanError, match=r"needs .* of memory"):
        requests_in_flight(plan, graph, boards, 1, beside=[MB, MB])
