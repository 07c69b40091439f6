"""Whole jobs whose ranks share out sums: exact, alike on every rank, and bit by bit the same every time."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi.core.graph import Graph
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.plan import Plan, Segment
from flexpie_mpi.core.region import split
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.shards import is_in_parts
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.runtime import cpu
from flexpie_mpi.runtime.admission import Requests
from flexpie_mpi.runtime.engine import Engine
from flexpie_mpi.runtime.loopback import run_ranks

from .models import beside_one_session
from .partial import MODELS, leaves_parts, parted_plan

RANKS = (1, 2, 3, 4, 6, 8)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Model, inputs and the outputs of one plain session, each made once."""
    return beside_one_session(tmp_path_factory.mktemp("parts"), MODELS)


def run(case, plan: Plan, *, boundaries: str = "auto", times: int = 1) -> list[dict[str, np.ndarray]]:
    """The outputs of a plan, `times` over, all ranks in this process."""
    model, inputs, _, cache = case

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache, boundaries=boundaries)
        return [{name: np.array(value) for name, value in engine.run(inputs).items()} for _ in range(times)]

    return run_ranks(plan.ranks, rank)[plan.root]


def assert_close(outputs, expected, what: str = "") -> None:
    for name, value in expected.items():
        found = outputs[name]
        assert found.dtype == value.dtype and found.shape == value.shape
        apart = np.abs(found.astype(float) - value).max()
        assert apart <= 1e-5 * np.abs(value).max(), f"{name} is off by {apart}: {what}"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("boundaries", ["auto", "nchw"])
def test_jobs_that_share_out_sums_are_exact_and_repeat_bit_by_bit(name, ranks, boundaries, case):
    model, _, expected, _ = job = case(name)
    parted = 0
    for seed in range(3):
        plan = parted_plan(model.graph, ranks, Random(f"{name} {ranks} {seed}"), root=seed % ranks)
        assert violations(lower(plan, model.graph), plan, model.graph) == []
        first, again = run(job, plan, boundaries=boundaries, times=2)
        assert_close(first, expected, plan.to_json())
        assert all(np.array_equal(first[key], again[key]) for key in expected)
        parted += leaves_parts(plan)
    assert parted or ranks == 1


@given(st.sampled_from(sorted(MODELS)), st.sampled_from(RANKS), st.integers(0, 10**6), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_any_plan_with_parts_is_sound_and_exact(case, name, ranks, seed, longest):
    model, _, expected, _ = job = case(name)
    plan = parted_plan(model.graph, ranks, Random(seed), longest=longest, root=seed % ranks)
    assert Plan.from_json(plan.to_json()) == plan
    assert violations(lower(plan, model.graph), plan, model.graph) == []
    (outputs,) = run(job, plan)
    assert_close(outputs, expected, plan.to_json())


def cut_at(graph: Graph, value: str, layout: Layout, rest: Layout, root: int = 0) -> Plan:
    """A plan in which `value` leaves a segment that ends with its node, all that follows one that runs in `rest`."""
    end = graph.producer[value] + 1
    names = [node.name for node in graph.nodes]
    segments = [Segment((name,), Layout("single", (0,))) for name in names[: end - 1]]
    segments += [Segment((names[end - 1],), layout), Segment(tuple(names[end:]), rest)]
    return Plan(tuple(segments), max(*layout.ranks, *rest.ranks) + 1, graph.digest, root)


SUMS = [("squeeze", "mean", "rows"), ("bottleneck", "narrow", "channels"), ("perceptron", "second", "channels")]


@pytest.mark.parametrize(("name", "value", "kind"), SUMS)
def test_every_rank_puts_together_the_same_sum(name, value, kind, case):
    """Whichever rank goes on with the sum alone, the outputs are bit by bit the same."""
    model, _, expected, _ = job = case(name)
    ranks, shared = 4, Layout(kind, (2, 0, 3, 1), (1, 3, 2, 2), in_parts=True)
    assert is_in_parts(model.graph, value, shared)
    found = []
    for rank in range(ranks):
        (outputs,) = run(job, cut_at(model.graph, value, shared, Layout("single", (rank,))))
        assert_close(outputs, expected)
        found.append(outputs)
    assert all(np.array_equal(found[0][key], other[key]) for other in found for key in expected)


def test_a_rank_that_has_the_sum_reads_it_and_not_its_part_again(case):
    """The sum is put together whole on all ranks; later each rank reads a slice of it, and one of them all."""
    model, _, expected, _ = job = case("perceptron")
    names, everyone = [node.name for node in model.graph.nodes], (0, 1, 2)
    layouts = [
        Layout("rows", everyone), Layout("rows", everyone), Layout("rows", everyone),
        Layout("channels", everyone, in_parts=True),  # `second`, a graph output as well
        Layout("replicated", everyone), Layout("channels", everyone, in_parts=True), Layout("rows", everyone),
        Layout("rows", everyone, in_parts=True), Layout("channels", everyone, in_parts=True),
    ]  # fmt: skip
    plan = Plan(tuple(map(Segment, ((name,) for name in names), layouts)), 3, model.graph.digest)
    assert violations(lower(plan, model.graph), plan, model.graph) == []
    assert_close(run(job, plan)[0], expected)


@pytest.mark.skipif(not cpu.block_size(), reason="onnxruntime has no blocked layout on this processor")
def test_parts_are_put_together_in_blocks_of_channels(case):
    model, _, expected, _ = job = case("bottleneck")
    block = cpu.block_size()
    plan = cut_at(model.graph, "narrow", Layout("channels", (0, 1, 2), in_parts=True), Layout("rows", (2, 1)))
    programs = lower(plan, model.graph, (block, block, block))
    pieces = [
        piece for program in programs for exchange in program.exchanges
        for message in exchange.receives for piece in message.pieces if piece.combine
    ]  # fmt: skip
    assert pieces and all(piece.block == block for piece in pieces)
    blocked, rows = (run(job, plan, boundaries=form)[0] for form in ("blocked", "nchw"))
    assert_close(blocked, expected)
    assert_close(rows, expected)


def test_two_values_of_one_segment_travel_in_one_message(case):
    model, _, expected, _ = job = case("statistics")
    names = [node.name for node in model.graph.nodes]
    first, end = sorted(model.graph.producer[name] for name in ("mean", "square"))
    assert end == first + 1
    layouts = Layout("single", (0,)), Layout("grid", (0, 1, 2), grid=(3, 1), in_parts=True), Layout("single", (1,))
    segments = map(Segment, map(tuple, (names[:first], names[first : end + 1], names[end + 1 :])), layouts)
    plan = Plan(tuple(segments), 3, model.graph.digest)
    programs = lower(plan, model.graph)
    assert violations(programs, plan, model.graph) == []
    (message,) = [m for m in programs[2].sends if m.target == 1]
    assert {piece.value for piece in message.pieces} == {"mean", "square"}
    assert_close(run(job, plan)[0], expected)


def test_a_share_that_is_empty_takes_no_part(case):
    """More ranks than rows: those without a row hold no part, and nobody waits for one of theirs."""
    model, _, expected, _ = job = case("statistics")
    layout = Layout("rows", tuple(range(12)), in_parts=True)
    plan = cut_at(model.graph, "mean", layout, Layout("replicated", (11, 3)))
    holders = [any(b.is_part for b in program.buffers) for program in lower(plan, model.graph)]
    assert holders == [lo < hi for lo, hi in (split(9, 12, rank) for rank in range(12))]
    assert_close(run(job, plan)[0], expected)


def test_streams_put_parts_together_in_every_slot(case):
    model, _, _, cache = case("squeeze")
    requests = [random_inputs(model.graph, seed=seed) for seed in range(6)]
    plan = cut_at(model.graph, "mean", Layout("rows", (0, 1, 2), in_parts=True), Layout("channels", (2, 1)))

    def rank(transport):
        engine, found = Engine(transport, model, plan, cache=cache, in_flight=3), []
        engine.stream(
            Requests(requests),
            lambda number, outputs, latency_s: found.append({k: v.copy() for k, v in outputs.items()}),
        )
        return found

    streamed = run_ranks(3, rank)[0]
    alone = [run((model, request, None, cache), plan)[0] for request in requests]
    assert len(streamed) == len(alone)
    assert all(np.array_equal(a[key], b[key]) for a, b in zip(streamed, alone, strict=True) for key in a)


def test_replicas_that_take_turns_leave_parts_each(case):
    model, _, expected, _ = job = case("squeeze")
    plan = cut_at(model.graph, "mean", Layout("rows", (0, 1), in_parts=True), Layout("replicated", (1, 4)))
    index = next(number for number, segment in enumerate(plan.segments) if segment.layout.in_parts)
    turning = replace(plan.segments[index], replicas=(Layout("columns", (2, 3), in_parts=True),))
    plan = replace(plan, segments=(*plan.segments[:index], turning, *plan.segments[index + 1 :]))
    for outputs in run(job, plan, times=4):
        assert_close(outputs, expected)


@pytest.mark.parametrize("layout", [("rows", ()), ("columns", ()), ("grid", (2, 2))])
@pytest.mark.parametrize(("mean", "deviation"), [(300.0, 1.0), (10.0, 1e-3)])
def test_moments_keep_the_variance_beside_a_large_mean(layout, mean, deviation, case):
    """Against double precision: in single precision, mean squares would leave nothing of it."""
    model, inputs, _, cache = case("moments")
    data = (mean + deviation * inputs["x"]).astype(np.float32)
    wide = data.astype(float)
    normal = (wide - wide.mean((2, 3), keepdims=True)) / np.sqrt(wide.var((2, 3), keepdims=True) + 1e-3)
    scale, shift = (model.array(name).reshape(-1, 1, 1) for name in ("s0", "b0"))
    kind, grid = layout
    shared = Layout(kind, (0, 1, 2, 3), grid=grid)
    (value,) = (name for name in model.graph.nodes[0].writes)
    plan = cut_at(model.graph, value, replace(shared, in_parts=True), shared)
    (outputs,) = run((model, {"x": data}, None, cache), plan)
    apart = np.abs(outputs["first_on"] - np.maximum(normal * scale + shift, 0)).max()
    assert apart <= 1e-4 * np.abs(outputs["first_on"]).max()
