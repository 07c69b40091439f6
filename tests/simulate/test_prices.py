"""Prices of steps: the cost model's, once for equal work, and an exchange by itself takes what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flexpie_mpi.core.choices import PRESETS
from flexpie_mpi.core.graph import Graph
from flexpie_mpi.core.plan import Plan
from flexpie_mpi.core.program import Compute, Finish, Program, Start
from flexpie_mpi.cost.links import job_transfers
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.lower import lower
from flexpie_mpi.planner import layout_plan, price
from flexpie_mpi.simulate import simulate
from flexpie_mpi.simulate.prices import Prices, compute_seconds, price_job
from flexpie_mpi.simulate.walk import Walk
from flexpie_mpi.testbed import Device, Testbed, one_host, switch

from ..graphs import GRAPHS
from .jobs import parts

COST = AnalyticCost()


class Asked:
    """A cost model that remembers how many rows each question had."""

    def __init__(self) -> None:
        self.questions: dict[str, list[int]] = {"compute": [], "call": [], "exchange": []}

    def compute_s(self, work: np.ndarray, active: np.ndarray) -> np.ndarray:
        self.questions["compute"].append(len(work))
        return COST.compute_s(work, active)

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        self.questions["call"].append(len(calls))
        return COST.call_s(calls, active)

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        self.questions["exchange"].append(len(transfers))
        return COST.exchange_s(transfers)


def boards(count: int, slowdown: float = 1.0, bandwidth: float = 125e6) -> Testbed:
    return switch([Device(f"b{rank}", slowdown=slowdown) for rank in range(count)], bandwidth, 50e-6)


def job(graph: Graph, preset: str, ranks: int, fusion: str = "free") -> tuple[Plan, tuple[Program, ...]]:
    plan = layout_plan(graph, ranks, preset, fusion=fusion)
    return plan, lower(plan, graph)


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("preset", ["rows", "grid", "channels", "single"])
@pytest.mark.parametrize("testbed", [boards(4, 3.0), one_host(4, cores=2)], ids=["boards", "host"])
def test_computing_takes_what_the_planner_says(graph: Graph, preset: str, testbed: Testbed) -> None:
    plan, programs = job(graph, preset, 4)
    found = compute_seconds(programs, graph, testbed, COST)
    planned = [each.compute_s for each in price(plan, graph, testbed, COST).segments]
    planned[0] -= price_job(programs, graph, testbed, COST).arrival_s[0]
    slowest = [max(s for (_, segment), s in found.items() if segment == number) for number in range(len(planned))]
    assert slowest == pytest.approx(planned)


def test_the_cost_model_is_asked_once_and_for_equal_work_once() -> None:
    graph, asked = GRAPHS["chain"], Asked()
    wide = replace(graph, values={name: _taller(value) for name, value in graph.values.items()})
    for ranks in (8, 24):
        simulate(job(wide, "rows", ranks, "none")[1], wide, boards(ranks), asked)
    assert [len(found) for found in asked.questions.values()] == [2, 2, 2]
    few, many = asked.questions["compute"]
    # the top, the bottom, and those between; each rank by itself would be 24 times 5 kernels
    assert few <= many <= 3 * 5


def _taller(value):
    return value if value.is_constant else replace(value, shape=(1, value.shape[1], 48, value.shape[3]))


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "single"])
def test_an_exchange_that_all_begin_at_once_takes_what_the_cost_model_says(graph: Graph, preset: str) -> None:
    """Or what the links need, where that is more; unequal ranks may be a little done before."""
    programs = job(graph, preset, 4, "none")[1]
    for bandwidth in (1e6, 1e8, 1e10):
        testbed = boards(4, bandwidth=bandwidth)
        prices = price_job(programs, graph, testbed, COST)
        numbers, rows = job_transfers(programs, testbed)
        for number, row, expected in zip(numbers, rows, COST.exchange_s(rows), strict=True):
            took = _only(programs, number, prices, testbed)
            least = row["wire_s"] + (50e-6 if row["total_bytes"] else 0.0)
            assert least * (1 - 1e-9) <= took <= expected * 1.02
            assert took >= 0.75 * expected


def _only(programs, number: int, prices: Prices, testbed: Testbed) -> float:
    """Seconds of one exchange of a job, everything else left out."""
    kept = [
        replace(p, steps=tuple(s for s in p.steps if not isinstance(s, Compute) and s.exchange.index == number))
        for p in programs
    ]
    return Walk(kept, testbed, replace(prices, arrival_s={})).timeline().latency_s


def test_the_software_of_a_scatter_is_mostly_the_root_s() -> None:
    graph = GRAPHS["chain"]
    prices = price_job(job(graph, "rows", 4)[1], graph, boards(4), COST)
    assert prices.pack_s[0, 0] > 2 * prices.unpack_s[1, 0] > 0
    assert prices.pack_s[1, 0] == 0.0


def test_a_slower_board_computes_slower_and_exchanges_alike() -> None:
    """As boards that are emulated do, and as plans are priced."""
    graph = GRAPHS["residual"]
    programs = job(graph, "rows", 3)[1]
    quick, slow = (price_job(programs, graph, boards(3, slowdown), COST) for slowdown in (1.0, 4.0))
    assert slow.compute_s == pytest.approx({place: 4 * seconds for place, seconds in quick.compute_s.items()})
    assert (slow.pack_s, slow.unpack_s) == (quick.pack_s, quick.unpack_s)


def test_ranks_of_one_host_crowd_each_other_only_where_they_compute_together() -> None:
    graph = GRAPHS["chain"]
    alone, crowded = (
        compute_seconds(job(graph, preset, 4)[1], graph, one_host(4, cores=2), COST) for preset in ("single", "rows")
    )
    roomy = compute_seconds(job(graph, "rows", 4)[1], graph, one_host(4, cores=4), COST)
    assert crowded == pytest.approx({place: 2 * seconds for place, seconds in roomy.items()})
    assert alone == pytest.approx(compute_seconds(job(graph, "single", 4)[1], graph, boards(4), COST))


def test_equal_work_on_a_crowded_host_takes_longer() -> None:
    graph = GRAPHS["chain"]
    hosts = switch([Device(f"b{rank}", host="one" if rank < 2 else "other") for rank in range(3)], 1e8, 1e-5)
    programs = job(graph, "channels", 2, "none")[1]
    third = replace(programs[1], rank=2)
    found = compute_seconds((*programs, third), graph, hosts, COST)
    assert found[1, 0] == pytest.approx(2 * found[2, 0])


@pytest.mark.parametrize(
    ("exchange", "ratio"),
    [((1e-5,) * 6 + (1e30, 1e30, 0.0), 1.0), ((0.0,) * 6 + (1e9, 1e9, 0.0), 50.0)],
    ids=["messages", "bytes"],
)
def test_software_goes_by_messages_or_by_bytes_as_the_cost_model_does(exchange, ratio: float) -> None:
    """Rank 0 sends 1 MB and rank 2 sends 50, a message each."""
    found = parts(0, {(0, 1): 1, (2, 3): 50})
    programs = [Program(rank, 4, (), (Start(found[rank]), Finish(found[rank])), (), (), ()) for rank in range(4)]
    prices = price_job(programs, GRAPHS["chain"], boards(4, bandwidth=1e12), AnalyticCost(exchange=exchange))
    assert prices.pack_s[2, 0] == pytest.approx(ratio * prices.pack_s[0, 0], rel=1e-3)
    assert prices.unpack_s[3, 0] == pytest.approx(prices.pack_s[2, 0], rel=1e-3)
