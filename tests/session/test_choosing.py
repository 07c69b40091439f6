"""The choice of a plan: what cannot be run is out of the race, and what is seen afterwards is a report at most."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import count

import pytest

from flexpie_mpi import Engine, load, run_ranks
from flexpie_mpi.core.errors import CostError
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.measure.trial import measure
from flexpie_mpi.measure.verdict import WIDE
from flexpie_mpi.runtime import engine, kernels
from flexpie_mpi.session.choosing import Chooser
from flexpie_mpi.session.cluster import InputsFinder
from flexpie_mpi.session.inputs import UNMEASURED
from flexpie_mpi.session.opening import CostSources, PlanChoice

MODEL = load("builtin:tiny_cnn")
INPUTS = random_inputs(MODEL.graph)
CHOICE, SOURCES = PlanChoice(autotune=3), CostSources()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def failing(monkeypatch):
    """Lets kernels of rank 0 fail, once each has run so often, in engines that a test picks by their number."""

    def fail(engines, after=0):
        made, numbers = engine.Engine.__init__, {}

        def make_engine(self, transport, *rest, **named):
            self.number = numbers[transport.rank] = numbers.get(transport.rank, -1) + 1
            made(self, transport, *rest, **named)

        def make_kernel(sessions, program, step, values):
            action, runs, number = kernels.make_kernel(sessions, program, step, values), count(), numbers[program.rank]

            def act():
                if program.rank == 0 and number in engines and next(runs) >= after:
                    raise RuntimeError("no such index")
                action()

            return act

        monkeypatch.setattr(engine.Engine, "__init__", make_engine)
        monkeypatch.setattr(engine, "make_kernel", make_kernel)

    return fail


def choose(cache, inputs=INPUTS, after=lambda chooser, make, chosen: None):
    """What every rank of two chooses, and what comes of it."""

    def rank(transport):
        make = partial(Engine, transport, MODEL, cache=cache)
        chooser = Chooser(transport, MODEL, CHOICE, SOURCES, cache, lambda text: None, reports=True)
        chosen = chooser.choose(None, make, inputs if transport.rank == 0 else None)
        return chosen, after(chooser, make, chosen)

    return run_ranks(2, rank)


def test_all_plans_of_a_race_are_timed(cache, caplog):
    (first, _), (second, _) = choose(cache)
    assert first.plan == second.plan == first.prediction.best.plan
    planners = [priced.plan.provenance["planner"] for priced in first.prediction.search.plans]
    assert planners[:3] == ["auto"] * 3 and len(planners) == len(first.measured_s) > 3 and "auto" not in planners[3:]
    entrants, kept = first.race.entrants, first.prediction.chosen
    assert first.measured_s == second.measured_s == tuple(each.seconds for each in entrants)
    assert entrants[kept].ratio == (1.0, 1.0, 1.0) and first.race.winner == entrants[kept]
    assert not [each for each in entrants if each.ratio[2] < 1 and each.ratio[1] < 1 / WIDE], "none is clearly faster"
    assert not caplog.messages


@pytest.mark.parametrize("lost", [0, 1])
def test_a_plan_that_fails_on_one_rank_is_left_out(cache, failing, caplog, lost):
    plans = [priced.plan for priced in choose(cache)[0][0].prediction.search.plans]
    failing({lost}, after=2)
    (first, _), (second, _) = choose(cache)
    assert first.plan == second.plan and first.measured_s == second.measured_s
    assert [p.plan for p in first.prediction.search.plans] == [p for place, p in enumerate(plans) if place != lost]
    assert len(caplog.messages) == 1 and "rank 0: " in caplog.text and "no such index" in caplog.text


def test_where_all_fail_the_best_predicted_is_taken(cache, caplog, monkeypatch):
    def make_kernel(sessions, program, step, values):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(engine, "make_kernel", make_kernel)
        (first, _), (second, _) = choose(cache)
    assert first.plan == second.plan == first.prediction.search.plans[0].plan
    assert first.measured_s == second.measured_s == () and first.prediction.chosen == 0
    assert "5 of 5 plans could not be run" in caplog.text and "no room" in caplog.text
    assert "none of the plans could be run" in first.prediction.race.note


def test_without_a_request_nothing_is_raced(cache):
    (first, _), (second, _) = choose(cache, inputs=None)
    assert first.plan == second.plan and first.measured_s == ()


def test_a_cost_model_that_fails_gives_way_to_formulas(cache, monkeypatch, caplog):
    class Broken(AnalyticCost):
        def compute_s(self, work, active):
            raise ValueError("another number of features")

    find = InputsFinder.find

    def find_broken(job, *given):
        inputs = find(job, *given)
        return inputs and replace(inputs, cost=Broken(), cost_source="measured")

    monkeypatch.setattr(InputsFinder, "find", find_broken)
    (first, _), (second, _) = choose(cache)
    assert first.plan == second.plan and first.prediction.inputs.cost_source == UNMEASURED
    assert not first.prediction.is_measured and "another number of features" in caplog.text


def test_a_report_that_cannot_be_kept_or_made_is_no_error(cache, monkeypatch, caplog):
    def refuse(self, rows):
        raise CostError("the disk is full")

    def broken(transport, *rest):
        raise KeyError("a defect")

    monkeypatch.setattr(InputsFinder, "add", refuse)

    def compare(chooser, make, chosen):
        made = make(chosen.plan)
        measure(made, INPUTS, repeat=1, warmup=0)
        return chooser.compare(made, make, replaced(chosen), INPUTS, repeat=2)

    def replaced(chosen):
        found = chosen.prediction
        return (
            chosen
            if found is None
            else replace(chosen, prediction=replace(found, inputs=replace(found.inputs, is_here=True)))
        )

    (_, found), (_, nothing) = choose(cache, after=compare)
    assert nothing is None and found.added == "not added to traces: the disk is full"
    assert sum(found.shares.spent_s.values()) == pytest.approx(found.shares.latency_s) and not caplog.messages
    with monkeypatch.context() as patched:
        patched.setattr("flexpie_mpi.measure.profiled_run.read_runs", broken)
        (_, found), _ = choose(cache, after=compare)
    assert found.latency_s > 0 and found.shares is None and "a defect" in found.unshared
    with monkeypatch.context() as patched:  # no room for the whole model beside the plan
        patched.setattr("flexpie_mpi.measure.race.room", lambda *job: (0.0, 0.0))
        (_, found), _ = choose(cache, after=compare)
    assert found.latency_s > 0 and found.shares is None and "no room" in found.unshared and not caplog.messages
    monkeypatch.setattr("flexpie_mpi.measure.observed.front_moves", broken)
    assert [found for _, found in choose(cache, after=compare)] == [None, None] and "a defect" in caplog.text
