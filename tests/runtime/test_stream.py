"""Streams: several requests in flight give what one at a time gives, in order, each once, whatever goes wrong."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from flexpie_mpi.core.errors import DataError, PlanError
from flexpie_mpi.core.plan import Plan, Segment
from flexpie_mpi.lower.shards import segment_problems
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime import stream
from flexpie_mpi.runtime.admission import Requests
from flexpie_mpi.runtime.engine import Engine
from flexpie_mpi.runtime.loopback import alone, run_ranks

from .streams import COUNT, PLANS, Delivered, assert_equal, chain, copied, on, streamed

# Equal to one request at a time


@pytest.mark.parametrize("in_flight", [1, 2, 3, 7])
@pytest.mark.parametrize("name", PLANS)
def test_any_number_in_flight_gives_what_one_at_a_time_gives(name, in_flight, model, requests, expected, cache):
    plan = PLANS[name](model.graph)
    supplies = [lambda: Requests(requests), lambda: Requests([]), lambda: Requests(requests[::-1])]
    (first, none, second), stats = streamed(model, plan, in_flight, supplies, cache)
    assert_equal(first, expected)
    assert_equal(second, expected[::-1])
    assert none == []
    for rank, (full, empty, _) in enumerate(stats):
        assert (full.rank, full.requests, empty.requests) == (rank, COUNT, 0)
        assert full.busy_s >= 0 and (empty.busy_s, empty.elapsed_s, empty.sent_bytes) == (0, 0, 0)
        assert len(full.latencies_s) == (COUNT if rank == plan.root else 0)


@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_plan_streams(data, model, requests, expected, cache):
    ranks = data.draw(st.integers(1, 4))
    group = st.permutations(range(ranks)).flatmap(
        lambda order: st.integers(1, ranks).map(lambda count: on(*order[:count]))
    )
    layouts = data.draw(st.lists(st.one_of(group, st.tuples(group, group)), min_size=1, max_size=6))
    plan = legal(model.graph, chain(model.graph, layouts, ranks, data.draw(st.integers(0, ranks - 1))))
    (found,), _ = streamed(model, plan, data.draw(st.integers(1, 5)), [lambda: Requests(requests)], cache)
    assert_equal(found, expected)


def legal(graph, plan):
    """The plan with one rank where the nodes do not allow several."""
    segments = []
    for segment, first, end in plan.spans:
        layouts = [
            layout if not segment_problems(graph, first, end, layout, plan.root) else on(layout.ranks[0])
            for layout in segment.layouts
        ]
        segments.append(Segment(segment.nodes, layouts[0], tuple(layouts[1:])))
    return Plan(tuple(segments), plan.ranks, plan.model, plan.root)


@pytest.mark.parametrize("in_flight", [1, 4])
def test_single_requests_take_turns_and_mix_with_streams(in_flight, model, requests, expected, cache):
    plan = PLANS["replicas"](model.graph)

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache, in_flight=in_flight)
        delivered = Delivered()
        found = [copied(engine.run(request)) for request in requests[:3]]
        engine.stream(Requests(requests[3:6]), delivered)
        found += delivered.outputs + [copied(engine.run(request)) for request in requests[6:]]
        return found

    assert_equal(run_ranks(4, rank)[0], expected)


@pytest.mark.parametrize("in_flight", [1, 3])
def test_values_of_unknown_shape_stream(in_flight, tmp_path, cache):
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("NonZero", ["y"], ["places"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (6, 4))
    places = helper.make_tensor_value_info("places", TensorProto.INT64, (2, None))
    graph = helper.make_graph(nodes, "g", [x], [places])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(proto, tmp_path / "m.onnx")
    model = load(str(tmp_path / "m.onnx"), cache=cache)
    inputs = [{"x": array} for array in np.random.default_rng(0).standard_normal((COUNT, 6, 4), np.float32)]
    (found,), _ = streamed(model, layout_plan(model.graph, 2, "rows"), in_flight, [lambda: Requests(inputs)], cache)
    assert [outputs["places"].tolist() for outputs in found] == [
        np.argwhere(request["x"] > 0).T.tolist() for request in inputs
    ]


# Sources


class Hesitant(Requests):
    """A source that has each request only when it is asked for the third time."""

    asked = 0

    def take(self):
        self.asked += 1
        return super().take() if self.asked % 3 == 0 else None


class Failing(Requests):
    """A source whose fifth request cannot be read, or has another shape."""

    def __init__(self, requests, bad=None):
        super().__init__(requests[:4])
        self.bad = bad

    def take(self):
        request = super().take()
        if request is None and self.bad is None:
            raise DataError("frame 4 is damaged")
        return self.bad if request is None else request


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_source_may_take_longer_than_ranks_wait_for_each_other(
    in_flight, model, requests, expected, cache, monkeypatch
):
    now = 0.0

    class Late(Requests):
        asked = 0

        def take(self):
            nonlocal now
            self.asked += 1
            now += 1e4  # on every rank, long after the deadline
            return super().take() if self.asked > 20 else None

    monkeypatch.setattr(stream, "perf_counter", lambda: now + time.perf_counter())
    (found,), _ = streamed(model, PLANS["pipeline"](model.graph), in_flight, [lambda: Late(requests[:1])], cache)
    assert_equal(found, expected[:1])


@pytest.mark.parametrize("in_flight", [1, 2, 5])
@pytest.mark.parametrize("name", ["pipeline", "replicas", "rows"])
def test_a_hesitant_source_loses_nothing(name, in_flight, model, requests, expected, cache):
    (found,), _ = streamed(model, PLANS[name](model.graph), in_flight, [lambda: Hesitant(requests)], cache)
    assert_equal(found, expected)


@pytest.mark.parametrize("in_flight", [1, 2, 5])
@pytest.mark.parametrize("failure", ["source", "shape", "delivery"])
def test_what_fails_on_the_root_ends_the_stream_on_every_rank(failure, in_flight, model, requests, expected, cache):
    plan = PLANS["root in the middle"](model.graph)
    bad = {"input": requests[0]["input"][:, :1]} if failure == "shape" else None
    words = {"source": "frame 4 is damaged", "shape": "of shape", "delivery": "the disk is full"}[failure]

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache, in_flight=in_flight)
        delivered = Delivered(fails_at=2 if failure == "delivery" else -1)
        supply = Requests(requests) if failure == "delivery" else Failing(requests, bad)
        with pytest.raises(DataError, match=words):
            engine.stream(supply, delivered)
        again = Delivered()
        engine.stream(Requests(requests), again)
        return delivered.outputs, again.outputs

    before, after = run_ranks(3, rank)[plan.root]
    assert_equal(before, expected[: 2 if failure == "delivery" else 4])
    assert_equal(after, expected)


@pytest.mark.parametrize("in_flight", [1, 3, 4])
def test_no_more_are_admitted_than_may_be_in_flight(in_flight, model, requests, cache):
    plan = PLANS["replicas"](model.graph)
    taken, delivered, most = 0, 0, 0

    class Counted(Requests):
        def take(self):
            nonlocal taken, most
            request = super().take()
            taken += request is not None
            most = max(most, taken - delivered)
            return request

    def deliver(number, outputs, latency_s):
        nonlocal delivered
        delivered += 1

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache, in_flight=in_flight)
        engine.stream(Counted(requests) if transport.rank == 0 else None, deliver)

    run_ranks(4, rank)
    assert most == in_flight


def test_nothing_in_flight_is_refused(model, cache):
    with pytest.raises(PlanError, match="in_flight = 0 must be at least 1"):
        Engine(alone(), model, layout_plan(model.graph, 1), cache=cache, in_flight=0)
