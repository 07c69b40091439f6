"""Pacing: a step of c processor seconds ends k * c seconds after it began, by clocks of the test's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from flexpie_mpi.cache import Cache
from flexpie_mpi.engine import Engine
from flexpie_mpi.errors import TestbedError
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime import pacing
from flexpie_mpi.runtime.loopback import run_ranks
from flexpie_mpi.runtime.pacing import paced, paced_kernels


@dataclass
class Machine:
    """Clocks that move only when something computes, waits or sleeps."""

    now: float = 100.0
    computed: float = 7.0
    slept: float = 0.0

    def clock(self) -> float:
        return self.now

    def processor(self) -> float:
        return self.computed

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept += seconds
        self.now += seconds

    def compute(self, seconds: float, waiting: float = 0.0) -> None:
        self.computed += seconds
        self.now += seconds + waiting

    def paced(self, slowdown: float, seconds: float, waiting: float = 0.0):
        action = lambda: self.compute(seconds, waiting)  # noqa: E731 - an action is a callable
        return paced(action, slowdown, clock=self.clock, processor=self.processor, sleep=self.sleep)


@pytest.mark.parametrize("slowdown", [1.5, 2, 8, 20])
@pytest.mark.parametrize("seconds", [0.001, 0.25])
def test_a_step_ends_when_a_slower_board_would_end_it(slowdown, seconds):
    machine = Machine()
    run = machine.paced(slowdown, seconds)
    for turn in range(1, 4):
        run()
        assert machine.now - 100 == pytest.approx(turn * slowdown * seconds)
    assert machine.computed - 7 == pytest.approx(3 * seconds), "sleeping costs no processor time"


@pytest.mark.parametrize(("waiting", "slept"), [(0.0, 0.7), (0.3, 0.4), (0.7, 0.0), (2.0, 0.0)])
def test_time_spent_waiting_for_a_core_is_not_slept_again(waiting, slept):
    machine = Machine()
    machine.paced(8, 0.1, waiting)()
    assert machine.slept == pytest.approx(slept)
    assert machine.now - 100 == pytest.approx(max(0.8, 0.1 + waiting))


def test_a_step_that_does_not_compute_does_not_sleep():
    machine = Machine()
    machine.paced(8, 0.0, waiting=0.5)()
    assert machine.slept == 0


@pytest.mark.parametrize("slowdown", [1, 1.0, 0.5])
def test_what_need_not_be_slower_is_left_as_it_is(slowdown):
    action = Machine().paced
    assert paced(action, slowdown) is action


@pytest.mark.parametrize("slowdown", [0, -1, float("nan"), float("inf")])
def test_a_slowdown_is_a_number_above_0(slowdown):
    with pytest.raises(TestbedError, match="must be a number above 0"):
        paced(lambda: None, slowdown)


def test_a_failing_step_fails_at_once():
    def fail() -> None:
        raise ZeroDivisionError

    def no_sleep(seconds: float) -> None:
        pytest.fail("slept after a failure")

    with pytest.raises(ZeroDivisionError):
        paced(fail, 8, sleep=no_sleep)()


def test_a_factory_makes_the_same_actions_paced():
    made = []
    action = Machine().paced
    factory = paced_kernels(lambda step, values: made.append((step, values)) or action, 1)
    assert factory("step", {1: 2}) is action
    assert made == [("step", {1: 2})]
    assert paced_kernels(lambda step, values: action, 2)("step", {}) is not action


# The engine


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


def test_each_rank_is_as_slow_as_it_is_told_and_results_stay(cache, monkeypatch):
    """Every Compute step is paced, by the slowdown of its own rank, and only those of ranks that have one."""
    steps = []

    def noted(action, slowdown):
        steps.append(slowdown)
        return action

    monkeypatch.setattr(pacing, "paced", noted)
    model = load("builtin:tiny_cnn", {}, cache)
    inputs = {name: np.ones(model.graph.value(name).shape, np.float32) for name in model.graph.inputs}
    plan = layout_plan(model.graph, 2, "rows")

    def results(slowdowns):
        def run(transport):
            engine = Engine(transport, model, plan, cache=cache, slowdown=slowdowns[transport.rank])
            outputs = {name: array.copy() for name, array in engine.run(inputs).items()}
            return outputs, len(engine.program.computes)

        return run_ranks(2, run)

    (expected, _), _ = results([1.0, 1.0])
    assert set(steps) == {1.0}
    steps.clear()
    (found, first), (_, second) = results([1.25, 3.0])
    assert (steps.count(1.25), steps.count(3.0), len(steps)) == (first, second, first + second)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_wrong_slowdown_is_refused_on_every_rank(cache):
    model = load("builtin:tiny_cnn", {}, cache)
    plan = layout_plan(model.graph, 2, "rows")

    def make(transport):
        with pytest.raises(TestbedError, match="slowdown = -2 must be a number above 0"):
            Engine(transport, model, plan, cache=cache, slowdown=-2 if transport.rank else 1)
        return True

    assert run_ranks(2, make) == [True, True]
