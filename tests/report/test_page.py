"""Pages: sections for what there is, the numbers in them, and nothing left out silently."""

from __future__ import annotations

import json
import re
from random import Random

import pytest

from flexpie_mpi.core.errors import ReportError
from flexpie_mpi.report.page import make_page
from flexpie_mpi.report.section import table_lines
from flexpie_mpi.report.tables import Column, Table

from . import rows
from .rows import row

EVERYTHING = [
    "What was measured",
    "Planners side by side",
    "Speed-up and efficiency",
    "Predicted, simulated and measured",
    "Where the time goes",
    "Memory of every board",
    "Planning, traffic and redundant work",
]


def headings(page):
    return re.findall(r"^## (.*)$", page.text, re.M)


def table_under(text, start):
    """Rows of the first table after a line that starts so."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(start):
            break
    found = []
    for line in lines:
        if line.startswith("|"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
        elif found:
            return found
    return found


@pytest.fixture(scope="module")
def paper():
    return make_page(rows.paper(), ["paper.jsonl"])


def test_a_suite_of_planners_has_every_section_but_batches(paper):
    assert headings(paper) == EVERYTHING
    stems = [picture.stem for section in paper.sections for picture in section.pictures()]
    assert stems == ["planners", "cells", "accuracy", "boards", "memory"]
    assert all(f'srcset="{stem}-dark.png"' in paper.text and f'src="{stem}.png"' in paper.text for stem in stems)
    prose = [line for line in paper.text.splitlines() if not line.startswith(("|", "<"))]
    assert max(map(len, prose)) <= 120


def test_studies_of_scaling_have_curves_and_batches():
    page = make_page(rows.scaling(models=["resnet18"]), ["scaling.jsonl"])
    assert headings(page) == [
        *EVERYTHING[:1], "Speed-up and efficiency", "Batches", *EVERYTHING[3:], "What is missing"
    ]  # fmt: skip
    assert [point["ranks"] for point in page.record["scaling"] if point["batch"] == 1] == list(range(1, 9))
    assert "One board only, so there for speed-ups alone: resnet18 on pi4x8, 1 board." in page.text


def test_tables_say_what_the_rows_say():
    seconds = {"auto": 0.10, "fused": 0.11, "layerwise": 0.105, "rows": 0.12, "single": 0.32}
    made = [row(planner, [value] * 3) for planner, value in seconds.items()]
    made += [row(planner, [value * 2] * 3, testbed="ring4") for planner, value in seconds.items() if planner != "rows"]
    made += [row("grid", [0.205] * 3, testbed="ring4", plan_digest="auto")]
    page = make_page(made, ["made.jsonl"])
    scores = table_under(page.text, "The score of the FlexPie paper")
    assert scores[0] == ["cells of", "cells", "auto", "fused", "layerwise", "rows", "grid", "single"]
    assert scores[2] == ["resnet18", "2", "**1.00**", "0.91", "0.95", "0.83", "0.98", "0.31"]
    gains = table_under(page.text, "What `auto` gains")
    assert gains[2][2:] == ["1.109 (1.02 to 1.20)", "1.050 (1.05 to 1.05)", "1.037 (1.02 to 1.05)"]
    assert gains[3][1:4] == ["18", "1.16", "1.08"]
    cells = table_under(page.text, "<summary>resnet18: 2 cells")
    assert cells[2] == ["pi4x4, 4 boards", "100", "**1.00**", "1.10", "1.05", "1.20", "–", "3.20"]
    assert table_under(page.text, "Speed-up is")[2] == ["resnet18", "80.0 % (80.0 % to 80.0 %)"]
    points = table_under(page.text, "<summary>Every cell that is no part of a curve")
    assert points[2] == ["resnet18 on pi4x4, 4 boards", "320", "100", "3.20", "4", "80.0 %"]
    effort = table_under(page.text, "Per model and planner")
    assert [line[1:6] for line in effort[2:4]] == [
        ["auto", "1.50", "1.50", "2", "40"],
        ["fused", "1.50", "1.50", "2", "40"],
    ]
    assert effort[2][-2:] == ["2 of 2", ""] and effort[6][-1] == "1 of 1"
    assert "Without `grid`: resnet18 on pi4x4, 4 boards." in page.text
    assert "Without `rows`: resnet18 on ring4, 4 boards." in page.text


def test_every_cell_where_auto_is_behind_has_its_sentence():
    made = [row("auto", [0.11, 0.22, 0.33]), row("fused", [0.1, 0.2, 0.3])]
    made += [row("auto", [0.1] * 3, testbed="ring4"), row("fused", [0.2] * 3, testbed="ring4")]
    page = make_page(made, ["made.jsonl"])
    assert "`auto` was more than 3.0 % slower than the best of all others in 1 of 2 cells:" in page.text
    assert "- resnet18 on pi4x4, 4 boards: 10.0 % slower than `fused` round by round (quartiles +10.0 % to" in page.text
    assert page.record["planners"]["made"]["behind"][0]["gain"] == pytest.approx(1 / 1.1)
    summary = [str(line) for section in page.sections for line in section.summary]
    assert any(line.startswith("behind   auto is more than 3.0 % slower") for line in summary)
    shared = [row("auto", [0.1], plan_digest="p"), row("rows", [0.1], plan_digest="p")]
    assert "as fast as `rows`, which found the same plan" in make_page(shared, ["made.jsonl"]).text


def test_what_could_not_be_compared_is_named():
    made = [row("auto", [0.1] * 2), row("rows", [0.1] * 3, turn=1), row("grid", ())]
    made += [row("auto", [0.1], testbed="alone"), row("auto", [0.1], ranks=1, testbed="one")]
    text = " ".join(make_page(made, ["made.jsonl"]).text.split())
    for line in (
        "`grid` has no measured round, so it is left out.",
        "One board only, so there for speed-ups alone: resnet18 on one, 1 board.",
        "One planner only, so nothing to compare: resnet18 on alone, 4 boards.",
        "so there is no speed-up: resnet18 on pi4x4, 4 boards; resnet18 on alone, 4 boards.",
        "medians are divided instead of rounds: resnet18 on pi4x4, 4 boards.",
    ):
        assert line in text, line


def test_suites_are_kept_apart():
    made = [
        *rows.cell(Random(0), "resnet18", "a", 4, suite="one"),
        *rows.cell(Random(0), "resnet18", "a", 4, suite="two/2"),
    ]
    page = make_page(made, ["one.jsonl", "two.jsonl"])
    assert headings(page)[1:3] == ["Planners side by side: one", "Planners side by side: two/2"]
    assert list(page.record["planners"]) == ["one", "two/2"] and 'src="two-2-cells.png"' in page.text


def test_the_record_is_json_without_gaps(paper):
    record = json.loads(json.dumps(paper.record, allow_nan=False))
    assert set(record) == {"provenance", "planners", "scaling", "accuracy", "boards", "memory", "effort"}
    assert record["provenance"]["rows"] == 648 and len(record["planners"]["paper"]["cells"]) == 72
    assert record["planners"]["paper"]["groups"]["CNNs, 4 boards"]["cells"] == 27
    unsimulated = make_page([row(simulated_s=float("nan"))], ["made.jsonl"])
    assert json.dumps(unsimulated.record, allow_nan=False) and "simulated: median" not in unsimulated.text


def test_rows_without_a_round_are_nothing_to_report():
    with pytest.raises(ReportError, match="no row in a, b has a measured round"):
        make_page([row(measured_s=())], ["a", "b"])


def test_tables_keep_their_columns():
    table = Table((Column("name"), Column("n", "number")), (("a|b", "1"),), "Two:")
    assert table_lines(table) == ["Two:", "", "| name | n |", "| :--- | ---: |", "| a\\|b | 1 |", ""]
