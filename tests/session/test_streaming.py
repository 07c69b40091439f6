"""A stream that goes on with another plan between two requests."""

from __future__ import annotations

from functools import partial

import pytest

from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.requests import RandomRequests
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime.engine import Engine
from flexpie_mpi.runtime.loopback import run_ranks
from flexpie_mpi.session.choosing import Chosen
from flexpie_mpi.session.opening import CostSources
from flexpie_mpi.session.streaming import StreamHandler, stream_requests
from flexpie_mpi.session.timing import RunTerms

COUNT = 14
TERMS = RunTerms("builtin:tiny_cnn", CostSources(), settings={"input": []}, verifies=True)


@pytest.mark.parametrize("in_flight", [1, 3])
def test_other_plans_go_on_between_two_requests(monkeypatch, tmp_path, in_flight):
    cache = Cache(tmp_path)
    model = load(TERMS.model, cache=cache)
    deliver, kinds = StreamHandler.deliver, {5: "channels", 9: "single", COUNT: "rows"}

    def turning(handler, number, outputs, latency_s):
        deliver(handler, number, outputs, latency_s)
        if handler.meter.delivered in kinds:
            handler.turn_to(layout_plan(model.graph, 3, kinds[handler.meter.delivered]))

    def rank(transport):
        make = partial(Engine, transport, model, cache=cache, in_flight=in_flight)
        chosen = Chosen(layout_plan(model.graph, 3, "rows"))
        source = RandomRequests(model.graph, 0, COUNT)
        return stream_requests(make(chosen.plan), source, TERMS, str, chosen, reopen=make)

    monkeypatch.setattr(StreamHandler, "deliver", turning)
    run, *others = run_ranks(3, rank)
    assert others == [None, None]
    assert run.findings.is_equal and run.findings.requests == COUNT
    assert [stats.requests for stats in run.measured.stats] == [COUNT] * 3
    assert run.plan == layout_plan(model.graph, 3, "single"), "nothing was left for the last one"
