"""What an engine's requests take, taken apart, adds up; and the rows of it are traces."""

from __future__ import annotations

import numpy as np
import pytest

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.cost.traces import Traces
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.measure.cluster import origins_of
from flexpie_mpi.measure.observed import observe
from flexpie_mpi.testbed import one_host

MODEL = load("builtin:tiny_vgg")


@pytest.mark.parametrize("ranks", [1, 3])
def test_an_observation_adds_up_and_becomes_traces(ranks, tmp_path):
    plan = layout_plan(MODEL.graph, ranks, "rows", fusion="4")

    def rank(transport):
        engine = Engine(transport, MODEL, plan, cache=Cache(tmp_path))
        inputs = random_inputs(MODEL.graph)
        return observe([engine], inputs, 5), origins_of(transport, 1)

    ((found,), origins), *others = run_ranks(ranks, rank)
    assert all(other == () for other, _ in others)
    assert len(found.compute_s) == len(plan.segments) and len(found.exchange_s) == len(plan.segments) + 1
    assert min(found.compute_s) > 0 and len(found.latencies_s) == 5
    # In each request, what exchanges add is less than all of it.
    for moves, latency in zip(found.moves, found.latencies_s, strict=True):
        assert moves.compute_s > 0 and sum(moves.exchange_s.values()) + moves.compute_s < latency
    rows = found.rows(one_host(ranks, 1), predicted_s=1.5)
    assert (len(rows["exchange"]) > 0) == (ranks > 1) and len(rows["plan"]) == 1
    (row,) = Traces(rows, origins).tables["plan"]
    assert row["predicted_s"] == 1.5 and row["compute_s"] == pytest.approx(sum(found.compute_s))
    assert row["seconds"] == pytest.approx(np.median(found.latencies_s)) and row["planner"] == b"rows 4"
    assert row["segments"] == len(plan.segments) and row["ranks"] == ranks
