"""Numbers of a report, for rows that were made by hand."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan, sqrt

import pytest

from flexpie_mpi.report.accuracy import Case, cases_of, errors, groups_of, worst
from flexpie_mpi.report.boards import duels, fullest, over_limit
from flexpie_mpi.report.cells import cells_of, ratio
from flexpie_mpi.report.gains import Versus, relative, summary
from flexpie_mpi.report.scaling import batches, by_ranks, curves, points_of

from .rows import row

SECONDS = {
    "pi4x4": {"auto": 0.10, "fused": 0.11, "layerwise": 0.105, "rows": 0.12, "grid": 0.125, "single": 0.32},
    "ring4": {"auto": 0.20, "fused": 0.22, "layerwise": 0.25, "rows": 0.25, "grid": 0.24, "single": 0.64},
    "bert": {"auto": 1.05, "fused": 1.00, "layerwise": 1.10, "rows": 1.30, "single": 3.15},
}


@pytest.fixture(scope="module")
def cells():
    return cells_of(
        row(planner, [seconds] * 3, testbed=testbed, model="bert_base" if testbed == "bert" else "builtin:resnet18")
        for testbed, planners in SECONDS.items()
        for planner, seconds in planners.items()
    )


def test_rows_of_a_cell_stand_together_in_the_order_of_planners(cells):
    assert [cell.testbed for cell in cells] == ["pi4x4", "ring4", "bert"]
    assert list(cells[0].rows) == ["auto", "fused", "layerwise", "rows", "grid", "single"]
    assert cells[0].model == "resnet18" and cells[0].name == "resnet18 on pi4x4, 4 boards"
    assert cells[0].best.planner == "auto" and cells[2].best.planner == "fused"
    assert cells_of([row(), row(suite="other"), row(measured_s=())])[1].suite == "other"


def test_a_ratio_is_taken_round_by_round():
    one, other = row("auto", [1.0, 2.0, 3.0]), row("fused", [1.0, 1.0, 3.0])
    found = ratio(one, other)
    assert (found.median, found.low, found.high, found.rounds) == (1.0, 1.0, 1.5, 3)
    assert one.median_s / other.median_s == 2.0
    for apart in (row("fused", [1.0, 1.0]), row("fused", [1.0, 1.0, 3.0], turn=1), row("fused", [1.0] * 3, suite="b")):
        found = ratio(one, apart)
        assert (found.median, found.rounds) == (2.0, 0)


def test_gains_and_scores(cells):
    versus = Versus(cells)
    assert [(gain.other, round(gain.ratio.median, 6)) for gain in versus.gains["over_fixed"]] == [
        ("rows", 1.2), ("grid", 1.2), ("rows", round(1.3 / 1.05, 6))
    ]  # fmt: skip
    assert [gain.other for gain in versus.gains["over_searched"]] == ["layerwise", "fused", "fused"]
    found = summary(versus.gains["over_searched"], cells[:2])
    assert found.cells == 2 and found.mean == pytest.approx(sqrt(1.05 * 1.1))
    assert (found.least, found.most) == (pytest.approx(1.05), pytest.approx(1.1))
    assert summary(versus.gains["over_fixed"], []) is None
    assert versus.score("auto", cells) == pytest.approx((1 + 1 + 1 / 1.05) / 3)
    assert versus.score("grid", cells) == pytest.approx((0.1 / 0.125 + 0.2 / 0.24) / 2)
    assert versus.score("channels", cells) is None and relative(cells[2], "auto").median == pytest.approx(1.05)


def test_cells_are_grouped_by_model_by_boards_and_as_cnns(cells):
    assert {name: len(those) for name, those in Versus(cells).groups.items()} == {
        "resnet18": 2, "bert_base": 1, "all": 3
    }  # fmt: skip
    more = cells_of([row(model=model, ranks=ranks) for model in ("a", "b", "bert") for ranks in (3, 4)])
    assert list(Versus(more).groups) == ["a", "b", "bert", "CNNs, 3 boards", "CNNs, 4 boards", "CNNs", "all"]


def test_cells_where_auto_is_behind_are_found(cells):
    versus = Versus(cells)
    assert [gain.cell.testbed for gain in versus.behind] == ["bert"] and versus.worst is versus.behind[0]
    near = cells_of([row("auto", [1.02]), row("fused", [1.0])])
    assert Versus(near).behind == [] and Versus(near).worst.ratio.median == pytest.approx(1 / 1.02)


def test_efficiency_counts_slow_boards_for_what_they_are():
    slowdowns = (8.0, 8.0, 16.0, 16.0)
    rows = [row("auto", [0.12] * 3, slowdowns=slowdowns), row("single", [0.30] * 3, slowdowns=slowdowns)]
    (point,) = points_of(cells_of(rows))
    assert point.ideal == 3.0 and point.speedup.median == pytest.approx(2.5)
    assert point.efficiency == pytest.approx(2.5 / 3) and point.speedup.rounds == 3
    assert by_ranks([point]) == {("resnet18", 4): [point]}


def test_one_board_is_the_same_cell_s_or_else_the_row_of_one_rank():
    rows = [row("auto", [0.4], ranks=1), row("auto", [0.2], ranks=2), row("auto", [0.1], ranks=4)]
    rows += [row("single", [0.5], ranks=4), row("auto", [0.1], ranks=4, testbed="other")]
    points = points_of(cells_of(rows))
    found = {(point.cell.testbed, point.cell.ranks): point.speedup and point.speedup.median for point in points}
    assert found == {("pi4x4", 1): 1.0, ("pi4x4", 2): 2.0, ("pi4x4", 4): 5.0, ("other", 4): None}
    groups = curves(points)
    assert list(groups) == [("made", "pi4x4", 1)]
    assert [point.cell.ranks for point in groups["made", "pi4x4", 1]["resnet18"]] == [1, 2, 4]


def test_batches_give_inputs_per_second():
    rows = [row("auto", [seconds], batch=batch) for batch, seconds in ((4, 0.2), (1, 0.1))]
    groups = batches(points_of(cells_of(rows)))
    ((curve,),) = (group.values() for group in groups.values())
    assert [(point.cell.batch, point.per_second) for point in curve] == [(1, 10.0), (4, 20.0)]
    assert batches(points_of(cells_of(rows[:1]))) == {}


def test_a_slow_day_is_no_error_of_the_speed_up():
    rows = [
        row("single", [0.44], predicted_s=0.4, simulated_s=0.4),
        row("auto", [0.11], predicted_s=0.1, simulated_s=0.125),
    ]
    cases = cases_of(cells_of(rows))
    assert [case.speedup_error("predicted") for case in cases] == [pytest.approx(0.0), None]
    assert errors(cases, "predicted").worst == pytest.approx(1 / 11), "the day was 10 % slower"
    assert errors(cases, "simulated", Case.speedup_error).worst == pytest.approx(0.2)
    assert errors(cases_of(cells_of(rows[1:])), "predicted", Case.speedup_error) is None
    assert cases_of(cells_of([rows[0], replace(rows[1], predicted_s=1e-300)]))[0].speedup_error("predicted") is None


def test_errors_of_predictions():
    rows = [
        row("auto", [0.1], predicted_s=0.09, simulated_s=0.102, plan_digest="a"),
        row("flexpie", [0.1], predicted_s=0.09, simulated_s=0.102, plan_digest="a"),
        row("rows", [0.2], predicted_s=0.26, simulated_s=nan, plan_digest="b"),
        row("grid", [0.2], predicted_s=0.2, simulated_s=inf, ranks=3),
    ]
    cases = cases_of(cells_of(rows))
    assert [case.planners for case in cases] == [("auto", "flexpie"), ("rows",), ("grid",)]
    found = errors(cases, "predicted")
    assert found.plans == 3 and found.median == pytest.approx(0.1) and found.worst == pytest.approx(0.3)
    assert found.p90 == pytest.approx(0.1 + 0.8 * 0.2)
    assert errors(cases, "simulated").plans == 1 and errors(cases[1:], "simulated") is None
    case, error = worst(cases, "predicted")
    assert case.row.planner == "rows" and error == pytest.approx(0.3)
    assert {key: list(groups) for key, groups in groups_of(cases).items()} == {
        "boards": ["4", "3"], "planner": ["auto", "flexpie", "rows", "grid"]
    }  # fmt: skip


def test_the_hardest_cell_of_every_model_is_drawn(cells):
    slow = row("rows", [0.5], testbed="slow", bandwidth=1e6)
    few = row("auto", [0.5], testbed="few", bandwidth=1e3, ranks=2)
    found = duels((*cells, *cells_of([slow, few, row(model="other", ranks=1)])))
    assert [duel.cell.testbed for duel in found] == ["slow", "bert"]
    assert [[one.planner for one in duel.rows] for duel in found] == [["rows"], ["auto", "fused"]]


def test_memory_beyond_a_limit_is_found():
    cells = cells_of([row("auto", memory_bytes=100_000_000), row("rows", memory_bytes=None)])
    beyond = over_limit(cells)
    assert len(beyond) == 4 and {found.planner for _, found, _ in beyond} == {"auto"}
    assert fullest(cells[0].rows.values()).needed_bytes == 200_000_000 and fullest([]) is None
