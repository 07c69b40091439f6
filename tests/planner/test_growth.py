"""Segments that grow node by node: the same as those made at once, at a cost that follows their length."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi.core.choices import PRESETS
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.lower import lower, shards
from flexpie_mpi.lower.shards import Growing, blocks_flops, segment_shard
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.planner import layout_plan

from ..graphs import GRAPHS, GraphBuilder


@st.composite
def growths(draw):
    graph = GRAPHS[draw(st.sampled_from(sorted(GRAPHS)))]
    first = draw(st.integers(0, len(graph.nodes) - 1))
    ends = sorted(draw(st.sets(st.integers(first + 1, len(graph.nodes)), min_size=1)))
    kind = draw(st.sampled_from(["rows", "columns", "channels", "replicated"]))
    layout = Layout(kind, (0, 1, 2), in_parts=kind != "replicated" and draw(st.booleans()))
    return graph, first, ends, layout, draw(st.integers(0, 2))


@given(growths())
@settings(max_examples=60, deadline=None)
def test_a_segment_that_grows_is_the_segment_made_at_once(case):
    graph, first, ends, layout, rank = case
    growing = Growing(graph, first, layout, rank)
    for end in ends:
        growing.grow(end)
        grown, made = growing.shard(), segment_shard(graph, first, end, layout, rank)
        assert (grown is None) == (made is None)
        if grown is not None:
            assert (grown.blocks, grown.inputs, grown.outputs) == (made.blocks, made.inputs, made.outputs)
            assert (set(grown.weights), grown.parts) == (set(made.weights), made.parts)
            assert growing.flops == blocks_flops(graph, grown.blocks)


def run_of(length: int):
    """`length` pairs of a 1 x 1 convolution and what reads it, each adding the first value of all again."""
    b = GraphBuilder()
    x = first = b.relu("x")
    for _ in range(length):
        x = b.add(b.conv(x, kernel=1), first)
    return b.graph(x)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("fusion", ["free", "none", "all-legal"])
def test_planning_and_lowering_a_run_cost_its_length(preset, fusion, monkeypatch):
    calls = []
    monkeypatch.setattr(shards, "widen", lambda *args, widen=shards.widen: calls.append(1) or widen(*args))
    counts = []
    for length in (30, 60):
        graph = run_of(length)
        calls.clear()
        plan = layout_plan(graph, 2, preset, fusion=fusion)
        programs = lower(plan, graph)
        assert violations(programs, plan, graph) == []
        counts.append(len(calls))
    assert counts[1] <= 2.1 * counts[0]
