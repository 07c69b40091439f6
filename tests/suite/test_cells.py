from __future__ import annotations

from dataclasses import replace

import pytest

from flexpie_mpi.suite.cells import Cell, Site, is_done, planners_done
from tests.suite.rows import ROW

CELL = Cell("builtin:tiny_cnn", "builtin:tiny_cnn", 1, Site("pi4x2"), 2, ("auto", "single"))
SINGLE = replace(ROW, planner="single")


def test_a_cell_is_done_when_every_planner_has_its_row():
    assert planners_done([ROW], "study", CELL, "m", "t") == {"auto"}
    assert not is_done([ROW], "study", CELL, "m", "t")
    assert is_done([ROW, SINGLE], "study", CELL, "m", "t")


@pytest.mark.parametrize(
    "other", [{"suite": "s"}, {"model_digest": "n"}, {"testbed_digest": "u"}, {"ranks": 3}, {"batch": 2}]
)
def test_a_row_of_anything_else_does_not_count(other):
    assert not is_done([ROW, replace(SINGLE, **other)], "study", CELL, "m", "t")


def test_how_often_it_was_measured_does_not_matter():
    rows = [replace(row, repeats=1, warmup=0, cost="another") for row in (ROW, SINGLE)]
    assert is_done(rows, "study", CELL, "m", "t")
