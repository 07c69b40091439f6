"""The numbers of a plan, against what its programs do."""

from __future__ import annotations

from io import StringIO

import pytest

from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment
from flexpie_mpi.core.program import Start
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.facts import facts_of
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.report.models import inspect, inspection_items
from flexpie_mpi.report.plans import plan_items
from flexpie_mpi.report.tables import MAX_ROWS, text_of


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load("builtin:tiny_resnet", cache=Cache(tmp_path_factory.mktemp("cache")))


def facts(model, ranks, preset, fusion):
    plan = layout_plan(model.graph, ranks, preset, fusion=fusion)
    programs = lower(plan, model.graph)
    return facts_of(plan, model.graph, programs), plan, programs


@pytest.mark.parametrize("preset", ["rows", "channels", "grid", "single"])
def test_traffic_of_segments_and_of_ranks_is_all_there_is(model, preset):
    found, plan, programs = facts(model, 3, preset, "none")
    sends = [m for p in programs for step in p.steps if isinstance(step, Start) for m in step.exchange.sends]
    entries = [*(segment.before for segment in found.segments), found.after]
    assert found.messages == sum(entry.messages for entry in entries) == len(sends)
    assert found.sent_bytes == sum(entry.nbytes for entry in entries) == sum(m.nbytes for m in sends)
    assert all(bool(entry.kind) == bool(entry.messages) for entry in entries)
    assert [segment.nodes for segment in found.segments] == [segment.nodes for segment in plan.segments]


def test_one_rank_does_all_the_work_once(model):
    found, _, _ = facts(model, 1, "rows", "none")
    assert found.redundant == 0 and found.messages == 0
    assert sum(segment.flops for segment in found.segments) == found.flops == found.ranks[0].flops > 0
    assert found.ranks[0].weight_bytes == model.graph.weight_bytes


def test_long_segments_are_paid_with_redundant_work(model):
    shares = [facts(model, 4, "rows", fusion)[0].redundant for fusion in ("free", "all-legal")]
    assert 0 <= shares[0] < shares[1]


def test_a_long_plan_is_folded_and_says_how_to_see_all(model):
    found, plan, _ = facts(model, 2, "rows", "none")
    assert len(plan.segments) > MAX_ROWS
    short, full = (text_of(plan_items(found, everything=all_), StringIO(), 100) for all_ in (False, True))
    assert "-v lists them all" in short and "-v" not in full
    assert len(full.splitlines()) == len(plan.segments) + 3  # heading, outputs, sum
    assert len(short.splitlines()) == MAX_ROWS + 4


def test_sums_that_are_shared_out_are_work_done_once_and_have_a_mark(model):
    graph = model.graph
    names = [node.name for node in graph.nodes]
    pool = next(place for place, node in enumerate(graph.nodes) if node.op == "GlobalAveragePool")
    everyone = (0, 1, 2)
    layouts = Layout("single", (0,)), Layout("rows", everyone, (2, 1, 1), in_parts=True), Layout("single", (0,))
    spans = names[:pool], names[pool : pool + 1], names[pool + 1 :]
    plan = Plan(tuple(map(Segment, map(tuple, spans), layouts)), 3, graph.digest)
    found = facts_of(plan, graph, lower(plan, graph))
    assert found.redundant == pytest.approx(0, abs=1e-4)
    assert all(rank.flops > 0 for rank in found.ranks)
    sums = graph.value(graph.nodes[pool].outputs[0]).nbytes
    assert found.segments[2].before.nbytes == 2 * sums
    text = text_of(plan_items(found), StringIO(), 100)
    assert "rows+*" in text and "+ ranks leave parts of a sum" in text and "* rows in parts 2:1:1" in text
    assert "+" not in text_of(plan_items(facts(model, 3, "rows", "free")[0]), StringIO(), 100)


def test_an_inspection_has_a_line_per_node(model):
    nodes = inspect(model.graph)
    text = text_of(inspection_items(model, nodes), StringIO(), 80)
    assert max(map(len, text.splitlines())) <= 80
    lines = text.splitlines()[5 : 5 + len(nodes)]
    assert [int(line.split()[0]) for line in lines] == list(range(len(nodes)))
    convolution = next(node for node in nodes if node.op == "Conv")
    assert (
        set(convolution.layouts) >= {"rows", "columns", "grid", "channels", "single"} and convolution.weight_bytes > 0
    )
