"""A stream that goes on with another plan between two requests."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import pytest

from flexpie_mpi.core.errors import PlanError
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.requests import RandomRequests
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.measure.throughput import Meter
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime.crew import Loss
from flexpie_mpi.runtime.engine import Engine
from flexpie_mpi.runtime.loopback import run_ranks
from flexpie_mpi.session import streaming, succession
from flexpie_mpi.session.choosing import Chosen
from flexpie_mpi.session.opening import CostSources, PlanChoice
from flexpie_mpi.session.streaming import StreamHandler, stream_handler, stream_requests
from flexpie_mpi.session.succession import Succession
from flexpie_mpi.session.timing import RunTerms

COUNT = 14
TERMS = RunTerms("builtin:tiny_cnn", CostSources(), settings={"input": []}, verifies=True, adapts=PlanChoice())


@pytest.mark.parametrize(("in_flight", "rooms"), [(1, 9), (3, 9), (3, 1), (3, 0)])
def test_other_plans_go_on_between_two_requests(monkeypatch, caplog, tmp_path, in_flight, rooms):
    cache = Cache(tmp_path)
    model = load(TERMS.model, cache=cache)
    deliver, take, kinds = StreamHandler.deliver, StreamHandler.take, {5: "channels", 9: "single", COUNT: "rows"}
    asked, alone, settled = [], [], []

    class Asked(Succession):
        def __init__(self, engine, *others):
            super().__init__(engine, *others)
            asked.extend([self.ask] * (engine.transport.rank == 0))

        def _made_alone(self, plan):
            alone.append(plan)
            return super()._made_alone(plan)

    def turning(handler, number, outputs, latency_s):
        deliver(handler, number, outputs, latency_s)
        if handler.meter.delivered in kinds:
            asked[0](layout_plan(model.graph, 3, kinds[handler.meter.delivered]))

    def waiting(handler):
        """No request is taken while another engine is made."""
        return None if asked[0].__self__._wanted else take(handler)

    def room(chosen, beside=(), control=None):
        if (2 if beside else 1) > rooms:
            raise PlanError("no room")

    def rank(transport):
        make = partial(Engine, transport, model, cache=cache, in_flight=in_flight)
        chosen = Chosen(layout_plan(model.graph, 3, "rows"))
        source, engine = RandomRequests(model.graph, 0, COUNT), make(chosen.plan)
        with ExitStack() as stack:
            handler = stream_handler(engine, source, TERMS, str, stack) if transport.rank == 0 else None
            return stream_requests(engine, handler, TERMS, str, chosen, reopen=make, room=room)

    monkeypatch.setattr(succession, "settle_pace", lambda engines, control=None: settled.extend(engines))
    monkeypatch.setattr(streaming, "Succession", Asked)
    monkeypatch.setattr(StreamHandler, "deliver", turning)
    monkeypatch.setattr(StreamHandler, "take", waiting)
    run, *others = run_ranks(3, rank)
    assert others == [None, None]
    assert run.findings.is_equal and run.findings.requests == COUNT
    assert len(settled) in (2 * 3, 3 * 3), "on every rank for each of two turns, and one that came too late"
    assert [stats.requests for stats in run.measured.stats] == [COUNT] * 3
    assert run.plan == layout_plan(model.graph, 3, "single" if rooms else "rows"), "nothing was left for the last one"
    assert caplog.text.count("is through by the other plan") == 2
    assert bool(alone) == (rooms < 2) and ("as memory does not hold both" in caplog.text) == (rooms < 2)
    assert ("cannot be run: no room" in caplog.text) == (rooms == 0)


def test_what_was_not_delivered_is_taken_again_in_order_whatever_is_lost(tmp_path):
    model = load(TERMS.model, cache=Cache(tmp_path))
    losses = [Loss((2,), ("pi3",), (0, 1), (), at_s=0.0)]
    handler = StreamHandler(RandomRequests(model.graph, 0, 6), Meter(1), str, losses=losses)

    def taken(count):
        found = []
        while len(found) < count and not handler.is_over:
            request = handler.take()
            found += [] if request is None else [request["input"].ravel()[0]]
        return found

    first = taken(4)
    handler.deliver(0, {}, 0.1)
    handler.turn()  # which those that are left cannot
    handler.go_on()
    assert taken(2) == first[1:3]
    handler.go_on()  # before any of them was delivered
    assert taken(9) == [*first[1:], *(random_inputs(model.graph, 0, n)["input"].ravel()[0] for n in (4, 5))]
    for number in range(5):
        handler.deliver(number, {}, 0.1)
    assert handler.is_over and handler.meter.delivered == 6
    assert losses[0].replayed == 2 and losses[0].gap_s > 0
