from __future__ import annotations

import time

import numpy as np
import pytest

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.cache import Cache
from flexpie_mpi.data.synthetic import random_inputs
from flexpie_mpi.trial import measure, process_age_s


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def model(cache):
    return load("builtin:tiny_cnn", cache=cache)


def test_the_slowest_rank_counts_and_all_ranks_know_it(model, cache):
    inputs = random_inputs(model.graph)

    def rank(transport):
        engine = Engine(transport, model, layout_plan(model.graph, 2, "rows"), cache=cache)
        run = engine.run
        spent, told = [], []

        def timed(values):
            begin = time.perf_counter()
            outputs = run(values)
            spent.append(time.perf_counter() - begin)
            return outputs

        engine.run = timed
        trial, outputs = measure(engine, inputs, repeat=3, warmup=2, tell=told.append)
        return trial, outputs, spent, told

    (first, outputs, spent0, told), (second, nothing, spent1, _) = run_ranks(2, rank)
    assert first == second and nothing == {} and outputs["scores"].shape == (1, 10)
    assert len(first.latencies_s) == 3 and len(spent0) == len(told) == 5
    for latency, a, b in zip(first.latencies_s, spent0[2:], spent1[2:], strict=True):
        assert latency >= max(a, b)
    assert first.min_s <= first.median_s <= first.p90_s <= max(first.latencies_s)
    assert [rank.facts.rank for rank in first.ranks] == [0, 1]
    assert all(0 < rank.compute_s <= rank.total_s <= max(first.latencies_s) for rank in first.ranks)


def test_outputs_outlive_the_next_request(model, cache):
    def rank(transport):
        engine = Engine(transport, model, layout_plan(model.graph, 1, "single"), cache=cache)
        first, second = (random_inputs(model.graph, seed) for seed in (0, 1))
        _, kept = measure(engine, first, repeat=1, warmup=0)
        before = np.array(kept["scores"])
        engine.run(second)
        return before, kept["scores"]

    before, after = run_ranks(1, rank)[0]
    assert np.array_equal(before, after)


def test_a_process_gets_older():
    begin = process_age_s()
    time.sleep(0.03)
    assert begin < process_age_s() < 24 * 3600
