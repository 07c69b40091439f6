from __future__ import annotations

import time
from collections import Counter
from functools import partial
from itertools import chain, count, repeat
from math import inf
from types import SimpleNamespace

import numpy as np
import pytest

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.core.errors import ModelError, PlanError
from flexpie_mpi.core.timeline import Timeline
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import lower
from flexpie_mpi.measure import trial
from flexpie_mpi.measure.agreement import Budget
from flexpie_mpi.measure.race import race_in_turns
from flexpie_mpi.measure.trial import Rounds, measure, process_age_s
from flexpie_mpi.runtime import engine, kernels
from flexpie_mpi.runtime.kernels import Guard
from flexpie_mpi.runtime.loopback import alone
from flexpie_mpi.runtime.pacing import Pacer


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
    for rank in first.ranks:  # medians of different requests: their sum may be more than any request took
        assert 0 < rank.compute_s <= rank.total_s
        assert max(rank.compute_s, rank.send_s, rank.receive_s, rank.wait_s) <= max(first.latencies_s)


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


class NoPlan:
    root = 0


class FakeEngine:
    """Writes down that it ran."""

    def __init__(self, name, log, seconds=0.0):
        self.transport = alone()
        self.plan = NoPlan
        self.pacer = Pacer(lambda step, held: lambda: None, 1)
        self.guard = Guard()
        self.states = SimpleNamespace(reset=lambda: None)
        self.name, self.log, self.seconds = name, log, seconds

    def run(self, inputs):
        self.log.append(self.name)
        time.sleep(self.seconds)
        return {}

    def timeline(self):
        return Timeline(())

    def facts(self):
        return None

    def close(self):
        self.log.append(f"{self.name} closed")


def race(engines, inputs, rounds):
    return race_in_turns(engines, [range(len(engines))], lambda engine: engine, inputs, rounds)


def test_rounds_go_forwards_and_backwards_in_turn():
    log: list[str] = []
    trials = race([FakeEngine(name, log) for name in "abc"], {}, Rounds(repeat=3, warmup=1))
    assert "".join(log[:12]) == "abccbaabccba"
    assert [len(trial.latencies_s) for trial in trials] == [3, 3, 3]


@pytest.mark.parametrize(
    ("rounds", "count"),
    [
        (Rounds(2, 1, most=5, seconds=60.0), 5),
        (Rounds(2, 1, most=5, seconds=0.0), 2),
        (Rounds(4, 0, most=2, seconds=60.0), 4),
        (Rounds(1, 0, most=50, seconds=0.01), None),
    ],
)
def test_there_are_more_rounds_while_time_is_left(rounds, count):
    (trial,) = race([FakeEngine("a", [], seconds=0.002)], {}, rounds)
    found = len(trial.latencies_s)
    assert found == count if count else 1 <= found < 50


def planted(monkeypatch, seconds):
    """Lets requests of engines take the seconds that are given by name, the last of them again and again."""
    given = {name: chain(each, repeat(each[-1])) for name, each in seconds.items()}

    def request(engine, inputs):
        engine.run(inputs)
        return next(given[engine.name]), {}, None

    monkeypatch.setattr(trial, "try_request", request)


@pytest.mark.parametrize(
    ("seconds", "counts"),
    [
        ({"a": [1.0], "b": [1.5], "c": [1.1]}, (6, 3, 6)),  # b at once, c when there is no doubt any more
        ({"a": [1.0], "b": [9.0], "c": [9.0]}, (3, 3, 3)),
        ({"a": [1.0], "b": [1.0], "c": [1.04]}, (12, 12, 12)),
        ({"a": [1.0, 1.0, 9.0, 1.0], "b": [1.2, 1.2, 1.2], "c": [2.0]}, (5, 5, 4)),  # a bad moment puts nobody out
    ],
)
def test_who_is_told_to_be_slower_is_out_of_the_race(monkeypatch, seconds, counts):
    planted(monkeypatch, seconds)
    trials = race([FakeEngine(name, []) for name in seconds], {}, Rounds(1, 1, most=12, seconds=inf, is_knockout=True))
    assert tuple(len(trial.latencies_s) for trial in trials) == counts


def test_a_budget_ends_a_race_and_counts_what_making_engines_takes(monkeypatch):
    planted(monkeypatch, {"x": [1.0], "y": [1.0], "z": [1.0]})
    clock, log, now_s = Counter(), [], lambda: clock["s"]

    def make(plan):
        clock["s"] += 10
        return FakeEngine(plan, log)

    budget = Budget(alone(), 90.0, now_s)
    monkeypatch.setattr(FakeEngine, "run", lambda engine, inputs: clock.update(s=5))
    rounds, told = Rounds(1, 1, most=50, is_knockout=True), []
    trials = race_in_turns(["x", "y", "z"], [(0, 1), (2,)], make, {}, rounds, told.append, budget=budget)
    # The first turn has 45 s: 20 for engines, 10 a round, one to warm up; z alone has enough at three
    assert [len(trial.latencies_s) for trial in trials] == [2, 2, 3]
    late = race_in_turns(["x", "y"], [(0, 1)], make, {}, rounds, budget=Budget(alone(), 0.0, now_s))
    assert [len(trial.latencies_s) for trial in late] == [1, 1], "one round each has, however late"


def test_in_turns_only_the_engines_of_one_turn_are_there():
    log: list[str] = []
    told: list[str] = []
    trials = race_in_turns(
        ["x", "y", "z"], [(0, 1), (0, 2)], lambda plan: FakeEngine(plan, log), {}, Rounds(1), told.append
    )
    assert log == ["x", "y", "x closed", "y closed", "x", "z", "x closed", "z closed"]
    assert len(trials) == 3 and told[0].startswith("turn 1 of 2: ")


def test_a_plan_that_cannot_be_made_takes_no_part():
    log: list[str] = []

    def make(plan):
        if plan == "bad":
            raise PlanError("no")
        return FakeEngine(plan, log)

    good, bad = race_in_turns(["good", "bad"], [(0, 1)], make, {}, Rounds(1))
    assert log == ["good", "good closed"] and len(good.latencies_s) == 1 and str(bad) == "no"
    (late,) = race_in_turns(["bad"], [(0,)], make, {}, Rounds(1))
    assert isinstance(late, PlanError)


@pytest.fixture
def broken(monkeypatch):
    """Lets every kernel of a program fail as onnxruntime does, after so many runs."""

    def break_kernels(program, after):
        def make_kernel(sessions, found, step, values):
            action, runs = kernels.make_kernel(sessions, found, step, values), count()

            def act():
                if found == program and next(runs) >= after:
                    raise RuntimeError("no such\nindex")
                action()

            return act

        monkeypatch.setattr(engine, "make_kernel", make_kernel)

    return break_kernels


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("after", [0, 2])
def test_an_engine_that_fails_on_one_rank_is_out_of_the_race_on_all(model, cache, broken, failing, after):
    rows, channels = (layout_plan(model.graph, 2, name) for name in ("rows", "channels"))
    broken(lower(rows, model.graph)[failing], after)

    def rank(transport):
        make = partial(Engine, transport, model, cache=cache, boundaries="nchw")
        return race_in_turns([rows, channels], [(0, 1)], make, random_inputs(model.graph), Rounds(2, 1))

    (lost, won), others = run_ranks(2, rank)
    assert isinstance(lost, ModelError) and f"rank {failing}: " in str(lost) and "no such index" in str(lost)
    assert str(others[0]) == str(lost) and others[1] == won and len(won.latencies_s) == 2


def test_an_error_of_a_request_is_raised_on_every_rank(model, cache, broken):
    plan = layout_plan(model.graph, 2, "rows")
    broken(lower(plan, model.graph)[1], after=1)

    def rank(transport):
        made = Engine(transport, model, plan, cache=cache, boundaries="nchw")
        with pytest.raises(ModelError, match=r"rank 1: .*no such index"):
            measure(made, random_inputs(model.graph), repeat=3, warmup=0)
        return True

    assert run_ranks(2, rank) == [True, True]


def test_several_engines_share_a_job(model, cache):
    inputs = random_inputs(model.graph)

    def rank(transport):
        plans = [layout_plan(model.graph, 2, name) for name in ("rows", "channels")]
        return race([Engine(transport, model, plan, cache=cache) for plan in plans], inputs, Rounds(2, 1))

    first, second = run_ranks(2, rank)
    assert first == second and [len(trial.ranks) for trial in first] == [2, 2]
    assert first[0].ranks[0].facts != first[1].ranks[0].facts
