"""Streams: messages move while a rank computes, a rank that waits in vain says so, and what is kept is bounded."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace

import pytest

from flexpie_mpi.core.errors import TransportError
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime import admission, machine, pacing
from flexpie_mpi.runtime import engine as engine_module
from flexpie_mpi.runtime.admission import Requests, RootAdmission, credit_exchange
from flexpie_mpi.runtime.cpu import CpuProvider
from flexpie_mpi.runtime.engine import Engine
from flexpie_mpi.runtime.loopback import alone, run_ranks
from flexpie_mpi.runtime.stream import Worker

from .streams import PLANS, Delivered, assert_equal, chain, on, streamed

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


@pytest.mark.parametrize("slowdown, lowered", [(1.0, []), (1.5, ["compute"])])
def test_only_the_thread_that_computes_and_is_paced_gives_way(slowdown, lowered, model, requests, cache, monkeypatch):
    seen = []
    monkeypatch.setattr(pacing, "give_way", lambda: seen.append(threading.current_thread().name))
    monkeypatch.setattr(
        pacing, "can_step_back", lambda: pytest.fail("it would keep Python's lock from the main thread")
    )
    engine = Engine(alone(), model, layout_plan(model.graph, 1), cache=cache, in_flight=2, slowdown=slowdown)
    engine.stream(Requests(requests[:2]), Delivered())
    engine.run(requests[0])
    assert seen == lowered


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_giving_way_is_of_one_thread():
    def nice(thread=0):
        return os.getpriority(os.PRIO_PROCESS, thread)

    def lower():
        before = nice()
        machine.give_way()
        found.append((before, nice()))

    found = []
    thread = threading.Thread(target=lower)
    thread.start()
    thread.join()
    ((before, after),) = found
    assert after == min(19, before + 10) and nice() == before


def test_sessions_are_made_once_for_all_slots_and_turns(model, requests, cache, monkeypatch):
    made, make = [], CpuProvider.open
    monkeypatch.setattr(CpuProvider, "open", lambda *args: made.append(1) or make(*args))
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
    with Worker(lambda: None) as worker:
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

    with Worker(lambda: None) as worker:
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
    monkeypatch.setattr(admission, "KEPT", 4)
    (channel,) = alone().open([credit_exchange(0, 1, 0, 0)])
    root = RootAdmission(Requests(()), Delivered(), dict, channel)
    seen = []
    for number in range(7):
        root.deliver(number, {}, number + 1.0)
        seen.append(tuple(latency - 1 for latency in root.latencies_s))
    assert seen[2] == (0, 1, 2) and seen[3] == (0, 1, 2, 3) and seen[6] == (3, 4, 5, 6)
