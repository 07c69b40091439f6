"""Pacing: a step of c processor seconds ends k * c seconds after it began, by clocks of the test's own."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest

from flexpie_mpi.core.errors import TestbedError
from flexpie_mpi.core.program import Compute, NodeBlock
from flexpie_mpi.core.region import Region
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime import machine
from flexpie_mpi.runtime.engine import Engine
from flexpie_mpi.runtime.loopback import alone, run_ranks
from flexpie_mpi.runtime.pacing import MOST, Clocks, PacedStep, Pacer, can_step_back, settle

ONE_STEP = Compute(0, (), (("x", 0), ("n", 1)), (("y", 2),))


@dataclass
class Machine:
    """Clocks that move only when something computes, waits or rests."""

    now: float = 100.0
    computed: float = 7.0
    rested: float = 0.0
    seen: list = field(default_factory=list)

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: self.now, lambda: self.computed, self.rest)

    def rest(self, seconds: float) -> None:
        assert seconds > 0
        self.rested += seconds
        self.now += seconds

    def compute(self, seconds: float, waiting: float = 0.0) -> None:
        self.computed += seconds
        self.now += seconds + waiting

    def paced(self, slowdown: float, seconds: float, waiting: float = 0.0) -> PacedStep:
        return PacedStep("work", lambda: self.compute(seconds, waiting), slowdown, self.clocks, nullcontext)


def values() -> dict:
    return {0: np.zeros(4, np.float32), 1: np.zeros(3, np.int64), 2: np.zeros(4, np.float32)}


@pytest.mark.parametrize("slowdown", [1.5, 2, 8, 20])
@pytest.mark.parametrize("seconds", [0.001, 0.25])
def test_a_step_ends_when_a_slower_board_would_end_it(slowdown, seconds):
    machine = Machine()
    run = machine.paced(slowdown, seconds)
    for turn in range(1, 4):
        run()
        assert machine.now - 100 == pytest.approx(turn * slowdown * seconds)
    assert machine.computed - 7 == pytest.approx(3 * seconds), "resting costs no processor time"


@pytest.mark.parametrize(("waiting", "rested"), [(0.0, 0.7), (0.3, 0.4), (0.7, 0.0), (2.0, 0.0)])
def test_time_spent_waiting_for_a_core_is_not_rested_again(waiting, rested):
    machine = Machine()
    machine.paced(8, 0.1, waiting)()
    assert machine.rested == pytest.approx(rested)
    assert machine.now - 100 == pytest.approx(max(0.8, 0.1 + waiting))


def test_a_step_that_does_not_compute_does_not_rest():
    machine = Machine()
    machine.paced(8, 0.0, waiting=0.5)()
    assert machine.rested == 0


def test_what_was_measured_beforehand_counts_and_slow_moments_do_not():
    counted, cold = [0.2, 0.1, 0.9, 0.1, 0.1], 5.0
    machine, durations = Machine(), iter([*(each for seconds in counted for each in (cold, seconds)), 0.3])
    pacer = Pacer(lambda step, held: lambda: machine.compute(next(durations)), 8, machine.clocks)
    run = pacer(ONE_STEP, values())
    settle(alone(), [pacer], clock=lambda: machine.now * 1e9)  # so late that the fewest rounds are enough
    assert run.seconds == pytest.approx(0.1)
    begin = machine.now
    run()
    assert machine.now - begin == pytest.approx(0.8), "not 8 times the 0.3 s that this run took"


def test_rounds_end_when_there_are_enough():
    seen = []
    pacer = Pacer(lambda step, held: lambda: seen.append(1), 2, Machine().clocks)
    pacer(ONE_STEP, values())
    settle(alone(), [pacer], clock=lambda: 0.0)
    assert len(seen) == 2 * MOST


def test_engines_that_are_compared_take_turns():
    order = []
    pacers = [Pacer(lambda step, held, name=name: lambda: order.append(name), 2, Machine().clocks) for name in "ab"]
    for pacer in pacers:
        pacer(ONE_STEP, values())
    settle(alone(), pacers, clock=lambda: 0.0)
    assert order == ["a", "a", "b", "b"] * MOST


def test_equal_work_takes_as_long_on_every_rank_and_in_every_engine():
    def block(first, end, node="conv"):
        return NodeBlock(node, (Region(((first, end), (0, 4))),), (Region(((first, end + 1), (0, 4))),))

    blocks = {0: [block(0, 3), block(0, 3)], 1: [block(3, 6), block(6, 8)]}  # two engines: shapes alike but the last
    costs = {0: [0.1, 0.4], 1: [0.2, 0.7]}

    def paces(transport):
        machine, runs, pacers = Machine(), [], []
        for held, cost in zip(blocks[transport.rank], costs[transport.rank], strict=True):
            pacers.append(Pacer(lambda step, held, cost=cost: lambda: machine.compute(cost), 2, machine.clocks))
            runs.append(pacers[-1](replace(ONE_STEP, blocks=(held,)), values()))
        settle(transport, pacers, clock=lambda: 0.0)
        return [run.seconds for run in runs]

    (first, second), (third, fourth) = run_ranks(2, paces)
    assert first == second == third == pytest.approx(0.1), "the lower quartile of 0.1, 0.4 and 0.2"
    assert fourth == pytest.approx(0.7)


def test_made_up_inputs_are_no_wrong_index_no_zero_divisor_and_no_tiny_numbers():
    machine, held = Machine(), values()
    held[0].fill(1e-40)  # sums of such take many times as long
    pacer = Pacer(lambda step, held: lambda: machine.seen.append(held[1].copy()), 2, machine.clocks)
    run = pacer(ONE_STEP, held)
    run.sample()
    assert machine.seen[0].tolist() == [1, 1, 1] and held[0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("opaque", [0, 2])
def test_a_step_with_values_of_unknown_shape_is_paced_as_it_comes(opaque):
    machine, held = Machine(), values()
    del held[opaque]
    pacer = Pacer(lambda step, held: lambda: machine.compute(0.1), 3, machine.clocks)
    run = pacer(ONE_STEP, held)
    settle(alone(), [pacer])
    assert run.seconds is None and machine.computed == 7
    run()
    assert machine.now - 100 == pytest.approx(0.3)


def test_a_kernel_that_refuses_made_up_inputs_is_paced_as_it_comes():
    machine, refusals = Machine(), iter([False, True])

    def act() -> None:
        if next(refusals, False):
            raise RuntimeError("indices out of range")
        machine.compute(0.1)

    pacer = Pacer(lambda step, held: act, 3, machine.clocks)
    run = pacer(ONE_STEP, values())
    settle(alone(), [pacer])
    assert run.seconds is None
    begin = machine.now
    run()
    assert machine.now - begin == pytest.approx(0.3)


@pytest.mark.parametrize("slowdown", [1, 1.0, 0.5])
def test_what_need_not_be_slower_is_left_as_it_is(slowdown):
    action = Machine().compute
    pacer = Pacer(lambda step, held: action, slowdown)
    assert pacer(ONE_STEP, values()) == action and pacer.steps == []
    settle(alone(), [pacer])


@pytest.mark.parametrize("slowdown", [0, -1, float("nan"), float("inf")])
def test_a_slowdown_is_a_number_above_0(slowdown):
    with pytest.raises(TestbedError, match="must be a number above 0"):
        Pacer(lambda step, held: lambda: None, slowdown)


def test_a_failing_step_fails_at_once_and_steps_forward_again():
    policy = os.sched_getscheduler(0)
    clocks = Clocks(rest=lambda seconds: pytest.fail("rested after a failure"))

    def fail() -> None:
        raise ZeroDivisionError

    run = Pacer(lambda step, held: fail, 8, clocks)(ONE_STEP, {})
    with pytest.raises(ZeroDivisionError):
        run()
    assert os.sched_getscheduler(0) == policy


def test_who_computes_gives_way_where_that_can_be_undone():
    if not can_step_back():
        pytest.skip("this process may not raise a thread that it has lowered")
    seen = []
    run = Pacer(lambda step, held: lambda: seen.append(os.sched_getscheduler(0)), 2)(ONE_STEP, {})
    run()
    assert seen == [os.SCHED_IDLE] and os.sched_getscheduler(0) == os.SCHED_OTHER


def test_nobody_gives_way_for_good(monkeypatch):
    """Where a thread cannot be raised again, none but the one that tries it is lowered."""
    policies = []

    def lower_only(_, policy, param) -> None:
        policies.append(policy)
        if policy != os.SCHED_IDLE:
            raise PermissionError

    fake = SimpleNamespace(sched_setscheduler=lower_only, sched_getscheduler=lambda _: os.SCHED_IDLE)
    for name in ("SCHED_IDLE", "SCHED_OTHER", "sched_param", "sched_yield"):
        setattr(fake, name, getattr(os, name))
    monkeypatch.setattr(machine, "os", fake)
    assert not can_step_back()
    Pacer(lambda step, held: lambda: None, 2)(ONE_STEP, {})()
    assert policies.count(os.SCHED_IDLE) == 2, "once to try, once for the pacer to try; never to compute"


# The engine


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


def test_each_rank_is_as_slow_as_it_is_told_and_results_stay(cache, monkeypatch):
    """Every Compute step is paced, by the slowdown of its own rank, and only those of ranks that have one."""
    steps = []

    def noted(step):
        steps.append(step.slowdown)
        step.action()

    monkeypatch.setattr(PacedStep, "__call__", noted)
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
    assert steps == []
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
