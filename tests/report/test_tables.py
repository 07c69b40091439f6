from __future__ import annotations

from io import StringIO

import pytest

from flexpie_mpi.report.tables import MAX_ROWS, Column, Table, fold, text_of

COLUMNS = (
    Column("#", "number"),
    Column("layout"),
    Column("node", "name"),
    Column("last", "name"),
    Column("MB", "number"),
)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def wide(rows: int = 5) -> Table:
    name = "/backbone/stages.{}/blocks.11/depthwise_separable/conv/Conv"
    return Table(
        COLUMNS, tuple((str(n), "grid(2x2)", name.format(n), f"{name.format(n)}_relu", "12.5") for n in range(rows))
    )


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_line_is_wider_than_it_may_be_and_only_names_lose_something(width):
    lines = text_of([wide(), "a sentence that is rather long " * 8], StringIO(), width).splitlines()
    assert max(map(len, lines)) <= width
    rows = [line.split() for line in lines[1:6]]
    assert [row[:2] for row in rows] == [[str(n), "grid(2x2)"] for n in range(5)]
    assert [row[-1] for row in rows] == ["12.5"] * 5
    assert all(row[-2].endswith("Conv_relu") for row in rows)


def test_a_wide_terminal_shows_everything():
    assert "…" not in text_of([wide()], StringIO(), 200)
    assert "…" in text_of([wide()], StringIO(), 80)


def test_only_a_terminal_gets_control_codes():
    assert "\x1b" not in text_of([wide()], StringIO(), 80)
    assert "\x1b" in text_of([wide()], Terminal(), 80)


def test_brackets_and_colons_in_names_are_names():
    text = "[bold]x[/bold] :smile: [0:1, 3:4]"
    made = text_of([text, Table((Column("node", "name"),), ((text,),))], StringIO(), 80)
    assert made.count(text) == 2


def test_an_empty_table_has_its_heading():
    assert text_of([Table(COLUMNS, ())], StringIO(), 80).split() == ["#", "layout", "node", "last", "MB"]


def test_prose_is_broken_and_not_cut():
    words = [f"word{n}" for n in range(40)]
    table = Table((Column("model"), Column("about", "prose")), (("name", " ".join(words)),))
    text = text_of([table], StringIO(), 60)
    assert [word for word in text.split() if word.startswith("word")] == words
    assert max(map(len, text.splitlines())) <= 60


def test_a_long_table_is_folded_in_the_middle():
    rows = [(str(n), "") for n in range(300)]
    folded = fold(rows, 2, everything=False)
    half = MAX_ROWS // 2
    assert folded[:half] == rows[:half] and folded[-half:] == rows[-half:] and len(folded) == MAX_ROWS + 1
    assert fold(rows, 2, everything=True) == rows
    assert fold(rows[:MAX_ROWS], 2, everything=False) == rows[:MAX_ROWS]


def test_one_specification_gives_the_text_and_the_record():
    columns = (
        Column("rank", "number", key="rank"),
        Column("time", "number", "{:.1f} s".format, "seconds"),
        Column("host", "recorded", key="host"),
        Column("note"),
    )
    table = Table(columns, [(0, 1.25, "desk", None), (1, None, "pi", None)], missing="-")
    assert table.cells == [["0", "1.2 s", "-"], ["1", "-", "-"]]
    assert table.records == [
        {"rank": 0, "seconds": 1.25, "host": "desk"},
        {"rank": 1, "seconds": None, "host": "pi"},
    ]
    assert "host" not in text_of([table], StringIO(), 80)
    bare = Table(columns, table.rows).without_empty()
    assert [column.heading for column in bare.columns] == ["rank", "time"] and bare.cells[1] == ["1", ""]
