"""What `auto` starts was run beside one board and the best fixed layout, once; nothing here depends on a clock."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from functools import partial
from math import inf

import numpy as np
import pytest

from flexpie_mpi import Engine, load, run_ranks
from flexpie_mpi.core.choices import PRESETS
from flexpie_mpi.core.document import DocumentError
from flexpie_mpi.core.errors import CostError
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import digest, lower
from flexpie_mpi.lower.memory import memory_of
from flexpie_mpi.measure import race, trial
from flexpie_mpi.measure.agreement import Budget
from flexpie_mpi.measure.cluster import cluster_digest, origins_of
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.report.plans import race_lines
from flexpie_mpi.session import planning, races
from flexpie_mpi.session.choosing import Chooser
from flexpie_mpi.session.cluster import ClusterCache, InputsFinder
from flexpie_mpi.session.inputs import PredictionInputs
from flexpie_mpi.session.opening import CostSources, PlanChoice
from flexpie_mpi.session.planning import TO_COME, predict, with_rivals
from flexpie_mpi.session.races import RACES, WAIT_S, race_key
from flexpie_mpi.testbed import Device, switch

MODEL = load("builtin:tiny_vgg")
GRAPH, INPUTS = MODEL.graph, random_inputs(MODEL.graph)
BOARDS = switch([Device("first"), Device("second")], 1e9, 1e-6)
AUTO = PlanChoice()
SLOW_AUTO = {"auto": 3.0, "single": 1.0}
"""Seconds of a request by who planned it; all others take two."""


class OnlyCompute(AnalyticCost):
    """Takes exchanges for free and kernels for slow: it cuts everything, whatever that costs."""

    def compute_s(self, work, active):
        return 1e3 * super().compute_s(work, active)

    def call_s(self, calls, active):
        return np.zeros(len(calls))

    def exchange_s(self, transfers):
        return np.zeros(len(transfers))


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    """What jobs in this process predict with, in place of what is measured."""
    inputs = PredictionInputs(BOARDS, OnlyCompute(), "planted", "planted", is_here=True)

    def find(finder, model, request, share=1.0):
        return inputs if finder._transport.rank == 0 else None

    monkeypatch.setattr(InputsFinder, "find", find)


@pytest.fixture
def clock(monkeypatch):
    """Lets requests take the seconds that a test says, by planner, several in turn; counts those of the root."""
    seconds, count, real = dict[str, float | tuple[float, ...]](), Counter[str](), trial.try_request

    def try_request(engine, inputs):
        planner = engine.plan.provenance["planner"]
        count[planner] += engine.transport.rank == 0
        engine.nth = getattr(engine, "nth", -2) + 1
        _, outputs, error = real(engine, inputs)
        given = seconds.get(planner, 2.0)
        return given[engine.nth % len(given)] if isinstance(given, tuple) else given, outputs, error

    monkeypatch.setattr(trial, "try_request", try_request)
    return seconds, count


def choose(cache, *, choice=AUTO, ranks=2, request=INPUTS, runs=(), **sources):
    """What the root chooses, as all other ranks do; the job's requests take the seconds of `runs`."""
    sources = CostSources(**{"trace_budget_s": 1e6, **sources})

    def rank(transport):
        chooser = Chooser(transport, MODEL, choice, sources, cache, lambda text: None)
        make = partial(Engine, transport, MODEL, cache=cache)
        chosen = chooser.choose(None, make, request if transport.rank == 0 else None)
        chooser.ran(chosen, trial.Trial(tuple(runs), 0.0, ()))
        return chosen

    first, *others = run_ranks(ranks, rank)
    assert all(other.plan == first.plan and other.measured_s == first.measured_s for other in others)
    return first


def planners(chosen):
    return [each.planner for each in chosen.prediction.race.entrants]


def test_a_plan_slower_than_one_board_is_not_run_at_this_start_or_the_next(cache, clock):
    seconds, count = clock
    seconds.update(SLOW_AUTO)
    first = choose(cache)
    assert first.plan.provenance["planner"] == "single" and first.prediction.best.plan == first.plan
    assert planners(first)[:2] == ["auto", "single"] and len(planners(first)) == 3
    assert first.measured_s == (3.0, 1.0, 2.0) and first.prediction.race.kept == 1
    count.clear()
    seconds.update(auto=0.1)
    second = choose(cache)
    assert second.plan == first.plan and not count and second.measured_s == ()
    assert planners(second) == planners(first) and "earlier" in second.prediction.race.note
    assert second.prediction.planner == "auto" and second.prediction.best.seconds > 0


def test_what_was_measured_is_kept_with_the_traces(cache, clock):
    choose(cache)
    kept = ClusterCache(cache, origins(2)).traces()
    rows = kept.tables["plan"]
    assert {bytes(name).split()[0] for name in rows["planner"]} > {b"auto", b"single"}
    assert (rows["predicted_s"] > 0).all() and len(kept.tables["exchange"])


def test_what_cannot_be_kept_is_a_warning(cache, clock, monkeypatch, caplog):
    def refuse(*given):
        raise CostError("the disk is full")

    clock[0].update(SLOW_AUTO)
    monkeypatch.setattr(InputsFinder, "keep", refuse)
    monkeypatch.setattr(races, "write_text", refuse)
    assert choose(cache).plan.provenance["planner"] == "single"
    assert [text.count("is not kept for the next") for text in caplog.messages] == [1, 1]


def origins(ranks):
    return run_ranks(ranks, lambda transport: origins_of(transport, 1))[0]


@pytest.mark.parametrize(("single_s", "winner"), [(2.92, "auto"), (2.5, "single")])
def test_the_search_keeps_its_choice_where_another_is_hardly_faster(cache, clock, single_s, winner):
    clock[0].update(dict.fromkeys(PRESETS, 4.0), auto=3.0, single=single_s)
    assert choose(cache).plan.provenance["planner"] == winner


def test_what_is_told_to_be_slower_leaves_the_race(cache, clock):
    seconds, count = clock
    seconds.update({"auto": 1.0, "single": 9.0})
    entrants = choose(cache).prediction.race.entrants
    assert [each.requests for each in entrants] == [3, 3, 3] and count["single"] == 4, "one of them to warm up"
    seconds.update(single=1.02)
    again = choose(cache, choice=PlanChoice(autotune=2)).prediction.race.entrants
    assert {each.requests for each in again if each.seconds < 1.1} == {20}


@pytest.mark.parametrize(
    ("asked", "reason"), [({"trace_budget_s": 0.0}, "--trace-budget is 0"), ({"request": None}, "no request is there")]
)
def test_where_nothing_can_be_measured_that_is_said_and_nothing_is_kept(cache, clock, asked, reason):
    clock[0].update(SLOW_AUTO)
    chosen = choose(cache, **asked)
    assert chosen.plan.provenance["planner"] == "auto" and not clock[1]
    assert chosen.prediction.race.note.startswith("none: ") and reason in chosen.prediction.race.note
    assert choose(cache).plan.provenance["planner"] == "single"
    assert choose(cache, **asked).plan.provenance["planner"] == "single", "what was measured before holds"


def test_a_race_that_is_asked_for_is_held_again_and_counts_from_then_on(cache, clock):
    seconds, count = clock
    seconds.update(SLOW_AUTO)
    choose(cache)
    seconds.update(auto=0.5)
    count.clear()
    chosen = choose(cache, choice=PlanChoice(autotune=2), trace_budget_s=0.0)
    assert chosen.plan.provenance["planner"] == "auto" and planners(chosen).count("auto") == 2 and count
    count.clear()
    assert choose(cache).plan == chosen.plan and not count


@pytest.mark.parametrize(("spent_s", "least"), [(0.0, 0.9), (0.95, 0.25)])
def test_a_race_has_what_is_left_and_a_quarter_at_least(cache, clock, monkeypatch, spent_s, least):
    given, hold = [], race.race_in_turns
    monkeypatch.setattr(
        race, "race_in_turns", lambda *words, **named: given.append(named["budget"].seconds) or hold(*words, **named)
    )
    monkeypatch.setattr(Budget, "left", lambda budget: (1 - spent_s) * budget.seconds)
    choose(cache)
    assert min(given) >= least * 1e6 and max(given) <= 1e6


WILD = {"auto": (1.0, 2.0), "single": (2.0, 1.0)}
"""Something disturbs every other round, and this and that plan in turn."""


def older(cache, seconds=2 * WAIT_S):
    """Let the kept race be as old as that; its record."""
    (path,) = (cache.folder / RACES).glob("*[!m]")
    record = json.loads(path.read_text())
    record["races"][0]["held_s"] -= seconds
    path.write_text(json.dumps(record))
    return record


def test_a_race_that_is_disturbed_keeps_the_prediction_and_says_so(cache, clock):
    seconds, count = clock
    seconds.update(WILD)
    chosen = choose(cache)
    race = chosen.race
    assert chosen.plan.provenance["planner"] == "auto" and not race.is_clear
    assert race.winner.quartiles_s == (1.0, 1.5, 2.0) and count["single"] == 61, "as many rounds as there are"
    low, _, high = race.entrants[1].ratio
    assert low < 1 < high and "undecided" in race_lines(race)[0]


@pytest.mark.parametrize(("first", "winner"), [(WILD, "auto"), (SLOW_AUTO, "single")])
def test_a_race_that_may_say_something_else_is_held_again_after_a_while(cache, clock, first, winner):
    seconds, count = clock
    seconds.update(first)
    assert choose(cache).plan.provenance["planner"] == winner
    older(cache, 0.9 * WAIT_S)
    seconds.update(auto=1.0, single=0.5)
    count.clear()
    assert choose(cache).plan.provenance["planner"] == winner and not count
    older(cache, 0.2 * WAIT_S)
    assert choose(cache, trace_budget_s=0.0).plan.provenance["planner"] == winner and not count, "none may be held"
    chosen = choose(cache)
    assert chosen.plan.provenance["planner"] == "single" and count["auto"] and chosen.race.note == "just now"
    races = older(cache)["races"]
    assert [race["entrants"][race["kept"]]["planner"] for race in races] == ["single", winner]
    count.clear()
    assert choose(cache).plan == chosen.plan and not count, "the second lasts longer"
    older(cache, 2 * WAIT_S)
    assert choose(cache).plan == chosen.plan and count


def test_a_clear_race_that_says_what_was_predicted_is_not_held_again(cache, clock):
    seconds, count = clock
    seconds.update(auto=1.0, single=2.0)
    chosen = choose(cache)
    older(cache, 1e9)
    count.clear()
    assert chosen.race.is_sure and choose(cache).plan == chosen.plan and not count


def test_a_disturbed_race_leaves_a_clear_one_before_it_as_it_was(cache, clock):
    seconds, _ = clock
    seconds.update(SLOW_AUTO)
    assert choose(cache).plan.provenance["planner"] == "single"
    older(cache)
    seconds.update(WILD)
    chosen = choose(cache)
    assert chosen.plan.provenance["planner"] == "single" and not chosen.race.is_clear
    older(cache, 20 * WAIT_S)
    seconds.update(auto=1.0, single=2.0)
    assert choose(cache).plan.provenance["planner"] == "auto"


def test_what_takes_another_time_than_in_its_race_makes_the_next_start_race_again(cache, clock):
    seconds, count = clock
    seconds.update(auto=1.0, single=2.0)
    first = choose(cache, runs=[1.05, 1.1, 1.2])
    count.clear()
    assert choose(cache, runs=[3.0, 3.0]).plan == first.plan and not count, "near enough, and too few to say"
    assert choose(cache, runs=[3.0, 3.0, 3.1]).plan == first.plan and not count
    seconds.update(auto=3.0)
    chosen = choose(cache, runs=[3.0, 3.0, 3.1])
    assert chosen.plan.provenance["planner"] == "single" and count
    count.clear()
    assert choose(cache).plan.provenance["planner"] != "auto" and count, "it took 3 s, not the 2 s of its race"
    record = older(cache)
    assert len(record["races"]) == 3 and record["taken_s"][0] == [2.0, 2.0, 2.0]


def test_a_time_that_was_seen_before_starts_no_race(cache, clock):
    seconds, count = clock
    seconds.update(auto=1.0, single=2.0)
    choose(cache, runs=[0.5] * 3)
    choose(cache, runs=[1.0] * 3)
    count.clear()
    for run in (0.5, 1.0, 0.52, 0.5):
        assert choose(cache, runs=[run] * 3).race.note == "at an earlier start" and not count
    choose(cache, runs=[0.3] * 3)
    assert choose(cache).race.note == "just now" and count


def test_planners_of_papers_run_what_they_find(cache, clock):
    clock[0].update(flexpie=9.0, single=1.0)
    chosen = choose(cache, choice=PlanChoice("flexpie"))
    assert chosen.plan.provenance["planner"] == "flexpie" and chosen.prediction.race is None and not clock[1]


def test_one_rank_has_nothing_to_choose(cache, clock):
    assert choose(cache, ranks=1).prediction is None and not clock[1]


def test_a_race_that_is_of_no_use_is_held_anew(cache, clock, caplog, monkeypatch):
    clock[0].update(SLOW_AUTO)
    first = choose(cache)
    record = older(cache, 0)
    plans = {"another model's": (load("builtin:tiny_cnn").graph, 2), "another job's": (GRAPH, 3)}
    damaged = {name: {**record, "plan": layout_plan(*of, "rows").to_json()} for name, of in plans.items()}
    damaged |= {"no race": {}, "no winner": {**record, "races": []}, "no plan": {**record, "plan": "?"}}
    for damage, text in {**{name: json.dumps(each) for name, each in damaged.items()}, "rubbish": "?"}.items():
        (path,) = (cache.folder / RACES).glob("*[!m]")
        path.write_text(text)
        clock[1].clear()
        caplog.clear()
        assert choose(cache).plan == first.plan, damage
        assert "raced anew" in caplog.text and clock[1]["auto"], damage
    monkeypatch.setattr(planning, "lacking", lambda plan, *rest: ["too large"] * (plan == first.plan))
    clock[1].clear()
    assert choose(cache).plan != first.plan and clock[1]["auto"] and not clock[1]["single"]


def test_a_race_holds_for_one_job_only(cache, tmp_path):
    boards, cost = tmp_path / "boards.toml", tmp_path / "cost.json"
    boards.write_text("one")
    cost.write_text("{}")
    two, sources = cluster_digest(origins(2)), CostSources()

    def key(cluster=two, library="MPI 1", graph=GRAPH, choice=AUTO, sources=sources):
        return race_key(cluster, library, graph, choice, sources)

    given = replace(sources, testbed=str(boards))
    keys = [
        key(),
        key(cluster_digest(origins(3))),
        key(library="MPI 2"),
        key(graph=load("builtin:tiny_cnn").graph),
        key(choice=PlanChoice("flexpie")),
        key(sources=replace(sources, cost=str(cost))),
        key(sources=replace(sources, boundaries="nchw")),
        key(sources=given),
    ]
    boards.write_text("two")
    assert len({*keys, key(sources=given)}) == len(keys) + 1
    assert (
        key(cluster_digest(origins(2)), choice=PlanChoice(autotune=3), sources=CostSources(trace_budget_s=1.0))
        == keys[0]
    )


def test_a_pipe_is_not_read_before_whoever_wants_it(tmp_path):
    os.mkfifo(tmp_path / "cost.json")
    with pytest.raises(DocumentError, match="pipe"):
        race_key("cluster", "MPI", GRAPH, AUTO, CostSources(cost=str(tmp_path / "cost.json")))


def test_rivals_fit_the_boards_and_none_is_there_twice():
    def rivals(testbed, cost, most_s=inf):
        inputs = PredictionInputs(testbed, cost, "", "")
        found = predict(AUTO, GRAPH, inputs)
        assert found.race == TO_COME
        plans = [priced.plan for priced in with_rivals(found, GRAPH, most_s).search.plans]
        assert len({digest(lower(plan, GRAPH)) for plan in plans}) == len(plans)
        return [plan.provenance["planner"] for plan in plans]

    assert rivals(BOARDS, OnlyCompute())[:2] == ["auto", "single"]
    assert "single" not in rivals(BOARDS, Dear()), "it is what the search has found"
    assert rivals(BOARDS, OnlyCompute(), most_s=0.0) == ["auto"], "no rank shall be late"
    need = memory_of([lower(layout_plan(GRAPH, 1, "single"), GRAPH)], GRAPH)[0].total_bytes()
    small = [replace(device, memory_bytes=need - 1) for device in BOARDS.devices]
    assert "single" not in rivals(replace(BOARDS, devices=tuple(small)), OnlyCompute())


class Dear(AnalyticCost):
    """No exchange is worth it."""

    def exchange_s(self, transfers):
        return np.full(len(transfers), 1e3)
