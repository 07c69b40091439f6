"""Blocks that a network repeats: the problem made of a shorter network's numbers is the problem of the whole one."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie_mpi.core.graph import Graph, Value
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.planner import Task, latency, layout_plan, make_plans, price, rules
from flexpie_mpi.planner import repeats as repeating
from flexpie_mpi.planner.problem import Choice, Problem, ProblemBuilder
from flexpie_mpi.planner.repeats import Shortened, repeats, shorten
from flexpie_mpi.planner.search import search
from flexpie_mpi.planner.unfold import unfold
from flexpie_mpi.planner.units import units
from flexpie_mpi.testbed import Device, switch

from ..graphs import GraphBuilder

TESTBED = switch(tuple(Device(f"board{rank}") for rank in range(3)), 125e6, 50e-6)
LAYOUTS = (Layout("single", (0,)), Layout("rows", (0, 1, 2)), Layout("channels", (0, 1)), Layout("replicated", (0, 1)))


def decoder(blocks: int, *, keeps: bool = True, read_again: int = -1) -> Graph:
    """Blocks that each read an input of their own and a value of all, and leave an output if it `keeps` it.

    The last node also reads what block number `read_again` has made.
    """
    b = GraphBuilder()
    shared, x = b.relu(b.conv("x")), b.conv("x", kernel=1)
    pasts, outputs, made = [], [], [x]
    for block in range(blocks):
        pasts.append(f"past{block}")
        b.values[pasts[-1]] = Value(pasts[-1], (1, 4, 12, 10), "float32")
        y = b.add(b.conv(x), pasts[-1])
        outputs += [y] if keeps else []
        x = b.add(b.conv(b.add(y, shared), kernel=5), x)
        made.append(x)
    last = b.add(b.conv(x), made[read_again])
    graph = b.graph(*outputs, b.relu(b.conv(last)))
    return Graph("test", graph.nodes, graph.values, ("x", *pasts), graph.outputs)


def problems(graph: Graph, kept: int, testbed=TESTBED) -> tuple[Problem, Problem, Shortened]:
    """The problem of a network, the same made of a shorter one's, and that network."""
    whole = repeats(units(graph))
    assert whole is not None
    short = shorten(whole, kept, (8,))
    assert short is not None
    cost, choice = AnalyticCost(), Choice(LAYOUTS)
    builder = ProblemBuilder(short.units, testbed, cost, LAYOUTS, hides=not short.makes_outputs)
    whole_one = ProblemBuilder(whole.units, testbed, cost, LAYOUTS).build(choice)
    return whole_one, unfold(builder.build(choice), short, cost), short


@pytest.mark.parametrize("kept", [1, 2, 3])
@pytest.mark.parametrize("keeps", [True, False])
def test_the_numbers_are_those_of_the_whole_network(keeps: bool, kept: int) -> None:
    whole, made, short = problems(decoder(7, keeps=keeps), kept)
    assert short.removed >= 2
    assert (whole.space.alive, whole.space.start) == (made.space.alive, made.space.start)
    for value in whole.space.alive[-1]:
        np.testing.assert_allclose(whole.space.exit_volume[value], made.space.exit_volume[value])
        np.testing.assert_allclose(whole.space.exit_latency[value], made.space.exit_latency[value])
    assert made.hidden_s == pytest.approx({key: whole.hidden_s[key] for key in made.hidden_s}, abs=1e-15)
    for cut in range(whole.space.cuts):
        _check_options(whole, made, cut, short.longest)


def _check_options(whole: Problem, made: Problem, cut: int, longest: int) -> None:
    """Options of one are options of the other, those that are short enough of both."""
    all_of, some = whole.space.options[cut], made.space.options[cut]
    rows = {key: row for row, key in enumerate(zip(all_of.end.tolist(), all_of.layout.tolist(), strict=True))}
    found = list(zip(some.end.tolist(), some.layout.tolist(), strict=True))
    assert {key for key in rows if key[0] - cut <= longest} <= set(found) <= rows.keys()
    at = [rows[key] for key in found]
    np.testing.assert_allclose(all_of.seconds[at], some.seconds)
    np.testing.assert_array_equal(all_of.fetches[:, at], some.fetches)
    for row, value in enumerate(whole.space.alive[cut]):
        needs = all_of.needs[row, at], some.needs[row]
        np.testing.assert_allclose(whole.space.latency[value][:, needs[0]], made.space.latency[value][:, needs[1]])
        np.testing.assert_allclose(whole.space.volume[value][:, needs[0]], made.space.volume[value][:, needs[1]])


def test_what_is_read_again_behind_the_blocks_is_not_left_out() -> None:
    found = repeats(units(decoder(8, read_again=2)))
    assert found is None or found.units.graph.producer["add14"] < found.first
    everything = repeats(units(decoder(8)))
    assert everything is not None
    assert everything.count >= 6


@pytest.mark.parametrize("memory_bytes", [None, 120_001_000])
def test_plans_are_those_of_the_planner_that_shares_nothing(monkeypatch, memory_bytes: int | None) -> None:
    boards = switch(tuple(Device(f"b{rank}", memory_bytes=memory_bytes) for rank in range(2)), 1e9, 1e-7)
    task = Task(decoder(9), boards, AnalyticCost(), top=3)
    monkeypatch.setattr(latency, "ENOUGH", 5)
    monkeypatch.setattr(repeating, "ENOUGH", 5)
    monkeypatch.setattr(latency, "search", lambda space, top, is_quick: search(space, top=top))
    monkeypatch.setattr(latency, "longest", lambda units, rows: 5)
    apart = make_plans("auto", task)
    monkeypatch.setattr(latency, "MANY_UNITS", 10)
    shared = make_plans("auto", task)
    assert shared.work_priced == apart.work_priced
    assert shared.segments_priced == apart.segments_priced
    assert [plan.plan.segments for plan in shared.plans] == [plan.plan.segments for plan in apart.plans]
    assert [plan.seconds for plan in shared.plans] == pytest.approx([plan.seconds for plan in apart.plans], rel=1e-12)


def perceptrons(blocks: int) -> Graph:
    """Pairs of products with a sum behind each, between products of their own, as transformers have them."""
    b = GraphBuilder((1, 12, 16))

    def product(x: str, features: int) -> str:
        *rows, size = b.values[x].shape
        return b.node("MatMul", (x, b.weight((size, features))), (*rows, features))

    x = b.relu(product("x", 16))
    for _ in range(blocks):
        x = b.add(x, product(b.relu(b.relu(product(b.relu(x), 64))), 16))
    return b.graph(product(b.relu(x), 40))


@pytest.mark.parametrize(
    ("preset", "fusion", "is_once"),
    [
        ("megatron", "none", True),
        ("megatron", "free", True),
        ("sequence", "none", True),
        ("sequence", "free", False),  # all of it is one segment
        ("sequence", "all-legal", False),
    ],
)
def test_rules_plan_blocks_once(monkeypatch, preset: str, fusion: str, is_once: bool) -> None:
    graph, unfolded = perceptrons(9), []
    unfold_spans = Shortened.unfolded
    monkeypatch.setattr(Shortened, "unfolded", lambda *given: unfolded.append(found := unfold_spans(*given)) or found)
    made = layout_plan(graph, 3, preset, fusion=fusion)
    assert (unfolded[0] is not None) == is_once
    monkeypatch.setattr(rules, "_shorter", lambda _: None)
    assert made == layout_plan(graph, 3, preset, fusion=fusion)
    assert len(unfolded) == 1
    assert preset == "sequence" or made.provenance["pairs"] == "10"  # the first product has one too


@pytest.mark.parametrize("fusion", ["none", "free", "7", "all-legal"])
def test_plans_are_priced_by_a_shorter_network_that_has_their_segments(monkeypatch, fusion: str) -> None:
    graph = decoder(9)
    plan = layout_plan(graph, 3, "channels", fusion=fusion)
    apart = price(plan, graph, TESTBED, AnalyticCost())
    unfolded = []
    monkeypatch.setattr(latency, "MANY_UNITS", 10)
    monkeypatch.setattr(repeating, "ENOUGH", 5)
    monkeypatch.setattr(latency, "unfold", lambda *given: unfolded.append(given) or unfold(*given))
    shared = price(plan, graph, TESTBED, AnalyticCost())
    assert (shared.plan, shared.segments) == (apart.plan, apart.segments)
    assert shared.exit_s == pytest.approx(apart.exit_s, rel=1e-12)
    assert bool(unfolded) == (fusion != "all-legal")
