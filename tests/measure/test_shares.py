"""What a share costs beyond its share: parts that add up, and a law for each of them."""

from __future__ import annotations

import pytest

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.cost.groups import fused_groups
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.facts import facts_of
from flexpie_mpi.lower.shards import blocks_flops
from flexpie_mpi.measure import profiled_run
from flexpie_mpi.measure.agreement import UntriedError
from flexpie_mpi.measure.observed import observe
from flexpie_mpi.measure.shares import RankPace, StepSplit, measure_shares, segment_shares

MODEL = load("builtin:tiny_resnet")
GRAPH = MODEL.graph


@pytest.fixture(autouse=True)
def in_a_moment(monkeypatch):
    monkeypatch.setattr(profiled_run, "STEPS_S", 0.0)


def shares_by(ranks, preset="rows", fusion="free", factor=1.0, call_s=0.0):
    """Shares of a plan whose kernels take `factor` seconds per operation, where one rank alone takes a second."""
    plan = layout_plan(GRAPH, ranks, preset, fusion=fusion)
    programs, starts = lower(plan, GRAPH), [first for _, first, _ in plan.spans]
    groups = fused_groups(GRAPH, starts)
    owner = {index: n for n, group in enumerate(groups) for index in range(group.first, group.end)}

    def split(program):
        steps = []
        for step in program.computes:
            kernels_s = {}
            for block in step.blocks:
                number = owner[GRAPH.position[block.node]]
                kernels_s[number] = kernels_s.get(number, 0.0) + blocks_flops(GRAPH, [block])
            steps.append(StepSplit(step.segment, call_s, {n: s * factor for n, s in kernels_s.items()}))
        return steps

    alone = lower(layout_plan(GRAPH, 1, "single"), GRAPH)[0]
    (whole,) = split(alone)
    one = [StepSplit(0, 0.0, {n: seconds / factor for n, seconds in whole.kernels_s.items()})]
    found = segment_shares(GRAPH, groups, starts, programs, [split(program) for program in programs], one)
    return found, facts_of(plan, GRAPH, programs), plan


@pytest.mark.parametrize("preset", ["rows", "channels"])
def test_a_share_that_costs_its_share_costs_nothing_beyond(preset):
    found, facts, _ = shares_by(4, preset)
    assert sum(each.one_s for each in found) == pytest.approx(facts.flops)
    assert all(each.beyond is None or each.beyond == pytest.approx(0.0, abs=1e-12) for each in found)


@pytest.mark.parametrize("preset", ["rows", "grid"])
def test_what_is_computed_twice_is_the_programs_and_nothing_else_is_beyond(preset):
    found, facts, _ = shares_by(4, preset, fusion="all-legal")
    assert facts.redundant > 0.05
    assert sum(each.redundant_s for each in found) == pytest.approx(facts.redundant * facts.flops)
    assert all(each.calls_s == 0 and each.kernels_s == pytest.approx(0.0, abs=1e-6) for each in found)


def test_slow_kernels_and_calls_are_told_apart():
    found, facts, plan = shares_by(2, factor=1.25, call_s=7.0)
    assert sum(each.kernels_s for each in found) == pytest.approx(0.25 * facts.flops)
    for segment, each in zip(plan.segments, found, strict=True):
        assert each.calls_s == pytest.approx(7.0 * len(segment.layout.ranks))
        assert each.all_s == pytest.approx(each.one_s * 1.25 + each.calls_s)


def test_one_ranks_call_belongs_to_all_its_nodes():
    groups = fused_groups(GRAPH, [0])
    program = lower(layout_plan(GRAPH, 1, "single"), GRAPH)[0]
    alone = [StepSplit(0, 5.0, dict.fromkeys(range(len(groups)), 10.0))]
    (found,) = segment_shares(GRAPH, groups, [0], [program], [alone], alone)
    assert found.one_s == found.all_s == pytest.approx(10.0 * len(groups) + 5.0) and found.beyond == 0


@pytest.mark.parametrize("speeds", [(1.0, 1.0, 1.0), (1.0, 0.5, 0.25)])
def test_where_the_time_of_a_request_goes_is_all_of_it(speeds, tmp_path):
    plans = [layout_plan(GRAPH, 3, preset, fusion="all-legal") for preset in ("rows", "single")]

    def rank(transport):
        engines = [Engine(transport, MODEL, plan, cache=Cache(tmp_path)) for plan in plans]
        seen = observe(engines, random_inputs(GRAPH), 4)
        programs = [engine.programs for engine in engines]
        return seen, measure_shares(transport, MODEL, seen, programs, [RankPace(s, 1.0) for s in speeds], 1)

    (seen, found), *others = run_ranks(3, rank)
    assert all(nothing == ((), None) for nothing in others)
    plan, alone = seen
    assert sum(found.spent_s.values()) == pytest.approx(found.latency_s) and found.boards == sum(speeds)
    one_s = sum(alone.ranks_s[0].values())
    assert found.total.one_s == pytest.approx(one_s, rel=0.01)
    all_s = sum(speed * sum(spent.values()) for speed, spent in zip(speeds, plan.ranks_s, strict=True))
    assert found.inflation == pytest.approx(all_s / one_s, rel=0.01)
    assert found.efficiency == pytest.approx(found.spent_s["ideal"] / found.latency_s)
    assert found.spent_s["redundant work"] > 0


def test_a_step_that_fails_by_itself_ends_looking_on_every_rank(monkeypatch):
    def refuse(path):
        raise OSError("the disk is full")

    monkeypatch.setattr(profiled_run, "read_runs", refuse)
    programs = lower(layout_plan(GRAPH, 2, "rows"), GRAPH)

    def rank(transport):
        with pytest.raises(UntriedError, match="the disk is full"):
            profiled_run.profiled_steps(transport, MODEL, [programs[transport.rank]])
        return True

    assert run_ranks(2, rank) == [True, True]
