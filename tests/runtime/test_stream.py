"""Streams: several requests in flight give what one at a time gives, in order, each once, whatever goes wrong."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from flexpie_mpi import engine as engine_module
from flexpie_mpi.cache import Cache
from flexpie_mpi.data.synthetic import random_inputs
from flexpie_mpi.engine import Engine
from flexpie_mpi.errors import DataError, PlanError, TransportError
from flexpie_mpi.layout import Layout
from flexpie_mpi.model import load
from flexpie_mpi.plan import Plan, Segment
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime import flow, kernels, stream
from flexpie_mpi.runtime.flow import Latencies, Requests
from flexpie_mpi.runtime.loopback import alone, run_ranks
from flexpie_mpi.runtime.worker import ComputeThread
from flexpie_mpi.shards import segment_problems

COUNT = 9
"""Requests of a stream, each with inputs of its own."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def model(cache):
    return load("builtin:tiny_cnn", cache=cache)


@pytest.fixture(scope="module")
def requests(model):
    return [random_inputs(model.graph, seed=seed) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def expected(model, requests, cache):
    engine = Engine(alone(), model, layout_plan(model.graph, 1), cache=cache)
    return [copied(engine.run(request)) for request in requests]


def copied(outputs):
    return {name: np.array(value) for name, value in outputs.items()}


def chain(graph, layouts, ranks, root=0):
    """A plan of as many segments as there are layouts, of about as many nodes each; a tuple of layouts takes turns."""
    names = [node.name for node in graph.nodes]
    ends = [round(len(names) * place / len(layouts)) for place in range(len(layouts) + 1)]
    segments = []
    for (first, end), choice in zip(pairwise(ends), layouts, strict=True):
        layout, *turns = choice if isinstance(choice, tuple) else (choice,)
        segments.append(Segment(tuple(names[first:end]), layout, tuple(turns)))
    return Plan(tuple(segments), ranks, graph.digest, root=root)


def on(*ranks):
    """One rank, or several that share the rows."""
    return Layout("single" if len(ranks) == 1 else "rows", ranks)


PLANS = {
    "rows": lambda graph: layout_plan(graph, 3, "rows"),
    "channels": lambda graph: layout_plan(graph, 3, "channels"),
    "pipeline": lambda graph: chain(graph, [on(0), on(1), on(2), on(3)], 4),
    "root in the middle": lambda graph: chain(graph, [on(2), on(1), on(0)], 3, root=1),
    "root apart": lambda graph: chain(graph, [on(0), on(1)], 3, root=2),
    "there and back": lambda graph: chain(graph, [on(0), on(1), on(0), on(1), on(2)], 3),
    "groups": lambda graph: chain(graph, [on(0, 1), on(2, 3)], 4),
    "replicas": lambda graph: chain(graph, [on(0), (on(1), on(2)), on(3)], 4),
    "replicas by 2 and 3": lambda graph: chain(graph, [(on(0), on(1)), (on(2), on(3), on(4))], 5, root=3),
}


@dataclass
class Delivered:
    """What a stream delivers, with what it is to say of it."""

    outputs: list = field(default_factory=list)
    fails_at: int = -1

    def __call__(self, number, outputs, latency_s):
        if number == self.fails_at:
            raise DataError("the disk is full")
        assert number == len(self.outputs) and latency_s > 0
        self.outputs.append(copied(outputs))


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for outputs, wanted in zip(found, expected, strict=True):
        assert outputs.keys() == wanted.keys()
        for name, value in wanted.items():
            assert np.abs(outputs[name] - value).max() <= 1e-4 * np.abs(value).max()


def streamed(model, plan, in_flight, supplies, cache, deadline_s=30.0):
    """Outputs of streams of one engine, one after the other, and the flows of all ranks."""

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache, in_flight=in_flight)
        found = []
        for supply in supplies:
            delivered = Delivered()
            found.append((engine.stream(supply(), delivered), delivered.outputs))
        engine.close()
        return found

    results = run_ranks(plan.ranks, rank, deadline_s)
    outputs = [outputs for _, outputs in results[plan.root]]
    assert not any(outputs for r, result in enumerate(results) if r != plan.root for _, outputs in result)
    return outputs, [[flow for flow, _ in result] for result in results]


# Equal to one request at a time


@pytest.mark.parametrize("in_flight", [1, 2, 3, 7])
@pytest.mark.parametrize("name", PLANS)
def test_any_number_in_flight_gives_what_one_at_a_time_gives(name, in_flight, model, requests, expected, cache):
    plan = PLANS[name](model.graph)
    supplies = [lambda: Requests(requests), lambda: Requests([]), lambda: Requests(requests[::-1])]
    (first, none, second), flows = streamed(model, plan, in_flight, supplies, cache)
    assert_equal(first, expected)
    assert_equal(second, expected[::-1])
    assert none == []
    for rank, (full, empty, _) in enumerate(flows):
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


# Computing meanwhile


def planted(monkeypatch, act):
    """Let `act` be called before each computation, with the rank and the segment."""
    make = engine_module.make_kernel

    def kernel(sessions, program, step, values):
        action = make(sessions, program, step, values)

        def run():
            act(program.rank, step.segment)
            action()

        return run

    monkeypatch.setattr(engine_module, "make_kernel", kernel)


def test_messages_move_while_a_rank_computes(model, requests, expected, cache, monkeypatch):
    """Rank 0 computes on until a request that another rank returns meanwhile has been delivered, by rank 0 itself."""
    delivered, begun, waited = threading.Event(), [], []

    def act(rank, segment):
        if rank == 0 and threading.current_thread().name == "compute":
            begun.append(segment)
            if len(begun) == 2:
                waited.append(delivered.wait(20))

    planted(monkeypatch, act)
    plan = chain(model.graph, [on(0), on(1)], 2)

    def rank(transport):
        outputs = Delivered()

        def deliver(number, found, latency_s):
            outputs(number, found, latency_s)
            delivered.set()

        Engine(transport, model, plan, cache=cache, in_flight=2).stream(Requests(requests), deliver)
        return outputs.outputs

    assert_equal(run_ranks(2, rank)[0], expected)
    assert waited == [True]


def test_sessions_are_made_once_for_all_slots_and_turns(model, requests, cache, monkeypatch):
    made, make = [], kernels.make_session
    monkeypatch.setattr(kernels, "make_session", lambda *args: made.append(1) or make(*args))
    plan = chain(model.graph, [on(0), (on(1), on(2)), on(0)], 3)
    streamed(model, plan, 6, [lambda: Requests(requests)], cache)
    assert len(made) == 4, "two on rank 0, and one on each rank that takes turns"


@pytest.mark.parametrize("in_flight", [1, 3])
def test_an_error_of_onnxruntime_is_the_ranks_own(in_flight, model, requests, cache, monkeypatch):
    def act(rank, segment):
        if rank == 1:
            raise ValueError("the kernel is broken")

    planted(monkeypatch, act)
    with pytest.raises(ValueError, match="the kernel is broken"):
        streamed(model, PLANS["pipeline"](model.graph), in_flight, [lambda: Requests(requests)], cache)


def test_what_is_done_is_heard_of_while_waiting_and_while_not():
    with ComputeThread() as worker:
        for _ in range(200):
            assert worker.submit("owner", lambda: None, 1.0) is None
            while worker.pending:
                worker.take()
            assert worker.take(1e-5) is None
            worker.submit("owner", lambda: None, 1.0)
            assert worker.take(20.0)[0] == "owner"
    assert worker.busy_s > 0


def test_what_is_short_is_computed_at_once_unless_the_thread_is_at_work():
    begun, over, threads = threading.Event(), threading.Event(), []

    def long():
        begun.set()
        over.wait(20)

    with ComputeThread() as worker:
        assert worker.submit("a", lambda: threads.append(threading.current_thread().name), 0.0) >= 0
        worker.submit("b", long, 1.0)
        assert begun.wait(20) and not worker.is_full
        assert worker.submit("c", lambda: threads.append(threading.current_thread().name), 0.0) is None
        assert worker.is_full
        over.set()
        assert (worker.take(20.0)[0], worker.take(20.0)[0], worker.pending) == ("b", "c", 0)
    assert threads == [threading.current_thread().name, "compute"]


# Waiting in vain


def silent(engine, at):
    """Let the engine send nothing in an exchange."""
    for executor in engine._executors:
        executor.tasks = tuple(task for task in executor.tasks if (task.kind, task.segment) != ("send", at))


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_stream_that_cannot_go_on_is_noticed_at_once(in_flight, model, requests, cache):
    def rank(transport):
        engine = Engine(transport, model, PLANS["pipeline"](model.graph), cache=cache, in_flight=in_flight)
        if transport.rank == 1:
            silent(engine, 2)
        engine.stream(Requests(requests), Delivered())

    words = r"all ranks wait and none can go on: rank 0 waits for .*; rank 2 waits for rank 1 in exchange 2 \(halo\)"
    with pytest.raises(TransportError, match=words):
        run_ranks(4, rank, deadline_s=1e6)


@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_late_rank_is_named_with_the_exchange(in_flight, model, requests, cache, monkeypatch):
    over = threading.Event()

    def act(rank, segment):
        if rank == 1:
            over.wait(60)

    planted(monkeypatch, act)

    def rank(transport):
        engine = Engine(transport, model, PLANS["pipeline"](model.graph), cache=cache, in_flight=in_flight)
        transport.patience = replace(transport.patience, deadline_s=0.1)
        try:
            engine.stream(Requests(requests), Delivered())
        finally:
            over.set()

    with pytest.raises(TransportError, match=r"waited 0\.\d+ s in exchange [234] \(halo\) for rank [123]: see whether"):
        run_ranks(4, rank)


# What is kept


def test_only_the_last_latencies_are_kept(monkeypatch):
    monkeypatch.setattr(flow, "KEPT", 4)
    latencies = Latencies()
    seen = []
    for number in range(7):
        latencies.add(float(number))
        seen.append(latencies.tuple())
    assert seen[2] == (0, 1, 2) and seen[3] == (0, 1, 2, 3) and seen[6] == (3, 4, 5, 6)
