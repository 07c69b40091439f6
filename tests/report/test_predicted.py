"""Predictions and what became of them, as text that fits the screen and as numbers that add up."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest

from flexpie_mpi import load
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.measure.shares import SegmentShare, Shares
from flexpie_mpi.planner import Task, layout_plan, make_plans, price
from flexpie_mpi.planner.explain import why
from flexpie_mpi.report.comparison import comparison_items, comparison_record
from flexpie_mpi.report.plans import (
    choice_table,
    prediction_lines,
    prediction_record,
)
from flexpie_mpi.report.reasons import boards_line, why_items, why_record
from flexpie_mpi.report.tables import text_of
from flexpie_mpi.session.choosing import Comparison
from flexpie_mpi.session.inputs import PredictionInputs
from flexpie_mpi.session.planning import Prediction
from flexpie_mpi.testbed import Device, switch

GRAPH = load("builtin:tiny_resnet").graph
BOARDS = switch([Device(f"board{rank}", slowdown=50.0 + 25 * rank) for rank in range(4)], 1e9, 1e-6)
COST = AnalyticCost()


@pytest.fixture(scope="module")
def search():
    return make_plans("auto", Task(GRAPH, BOARDS, COST, top=3))


@pytest.fixture(scope="module")
def prediction(search):
    inputs = PredictionInputs(BOARDS, COST, "boards of a test", "a test")
    return Prediction("auto", search, inputs, True, 100, 7)


def shown(items, width=80):
    text = text_of(items, StringIO(), width)
    assert max(map(len, text.splitlines())) <= width
    return " ".join(text.split())


def test_a_prediction_says_how_sure_it_is(prediction, search):
    text = shown(prediction_lines(prediction))
    assert "7 of 100 prices extrapolated" in text and "proved" in text and "boards of a test" in text
    unproved = replace(prediction, search=replace(search, is_optimal=False, lower_bound_s=search.plans[0].seconds / 2))
    assert "50.0 % less" in shown(prediction_lines(unproved)) and "not proved" in shown(prediction_lines(unproved))
    assert not prediction_record(replace(prediction, chosen=1))["is_optimal"]
    assert "kept because" in shown(prediction_lines(replace(prediction, chosen=1)))
    assert "extrapolated" not in shown(prediction_lines(replace(prediction, is_measured=False)))


def test_plans_stand_in_a_table_with_what_they_took(search):
    assert "measured" not in shown([choice_table(search.plans)])
    text = shown([choice_table(search.plans, [3e-3, 1e-3, 2e-3], 1)])
    assert "measured" in text and text.count("kept") == 1


def test_predicted_stands_beside_measured(search):
    best = search.plans[0]
    count = len(best.segments)
    found = Comparison([1e-3] * count, [2e-3] * (count + 1), 2 * best.seconds, "not added")
    text = shown(comparison_items(best, found))
    assert "(+100 %)" in text and "not added" in text and text.count("(sum)") == 1
    faster = replace(found, latency_s=best.seconds / 2)
    assert "(-50.0 %)" in shown(comparison_items(best, faster))
    record = comparison_record(best, found)
    assert "shares" not in record
    assert [part["measured"] for part in record["segments"]] == [{"exchange_s": 2e-3, "compute_s": 1e-3}] * count
    assert record["exit"] == {"predicted_s": best.exit_s, "measured_s": 2e-3}


def test_shares_stand_in_a_table_and_in_the_record(search):
    best = search.plans[0]
    segments = tuple(SegmentShare(8e-3, 1e-3, 2e-3, -1e-3) for _ in best.segments[1:])
    idle = SegmentShare(0.0, 0.0, 1e-3, 0.0)  # such as a reshape
    shares = Shares((idle, *segments), 0.4, 4.0, 0.2, 0.02, 0.15)
    measured = Comparison([1e-3] * len(best.segments), [2e-3] * (len(best.segments) + 1), 0.2, "not added", shares)
    text = shown(comparison_items(best, measured))
    assert "efficiency 50.0 % of 4 boards" in text and text.count("+25.0 %") >= len(segments) and "-12.5 %" in text
    record = comparison_record(best, measured)["shares"]
    assert [each["beyond"] for each in record["segments"]] == [None, *[pytest.approx(0.25)] * len(segments)]
    assert sum(part["seconds"] for part in record["spent"]) == pytest.approx(0.2)
    assert {part["part"]: part["share"] for part in record["spent"]}["ideal"] == pytest.approx(record["efficiency"])


@pytest.mark.parametrize("everything", [False, True])
def test_reasons_fit_the_screen(search, everything):
    best = search.plans[0]
    found = why(best, best, BOARDS.ranks, search.problem, search.paths[0])
    text = shown(why_items(found, everything=everything))
    assert "boards predicted" in text and f"of {BOARDS.ranks} boards" in text
    assert ("more" in text.split("the best plan")[0]) == (not everything)
    assert all(segment["boundary_s"] == 0 for segment in why_record(found)["segments"])


def test_one_more_board_is_told_by_the_same_segments(search):
    best = search.plans[0]
    used = max(len(segment.layout.ranks) for segment in best.plan.segments)
    assert used == 4
    found = why(best, best, 4, search.problem, search.paths[0])
    assert boards_line(found.boards).startswith("4 of 4 boards are used: on 3 the same segments would compute ")


def test_boards_that_are_not_worth_it_are_said_to_be(search):
    """Links so slow that one board does everything."""
    testbed = switch([Device(f"board{rank}") for rank in range(2)], 1e3, 1.0)
    alone = make_plans("auto", Task(GRAPH, testbed, COST))
    found = why(alone.plans[0], alone.plans[0], 2, alone.problem, alone.paths[0])
    assert boards_line(found.boards).startswith("1 of 2 boards is used: no plan that shares")
    single = price(layout_plan(GRAPH, 1, "single"), GRAPH, testbed.subset(1), COST)
    assert why(single, single, 1).reasons is None
