"""Tables, each specified once by its columns: how an entry is headed, shown as text, and named in a record.

In go rows of plain values; out come lines for a terminal, Markdown (:mod:`flexpie_mpi.report.section`) and records for
scripts. The one difficulty is room: text on a terminal is never wider than the width it is given.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

PIPED_WIDTH = 80
"""Width of a text where there is no terminal and ``$COLUMNS`` says nothing."""

MAX_ROWS = 24
"""Tables of more rows than this are folded unless everything is asked for."""

NARROWEST = 6
"""Names are not cut below this."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    heading: str
    # ``text`` and ``number`` are shown whole, a ``name`` may lose its beginning, ``prose`` is broken into lines, and
    # what is ``recorded`` is not shown
    kind: str = "text"
    show: Callable[[Any], str] = str  # makes text of an entry that is not text already
    key: str = ""  # the name of the entry in records; a column without one is not recorded

    def cell(self, entry: Any, missing: str = "") -> str:
        """An entry as text; `missing` stands for None."""
        return entry if isinstance(entry, str) else missing if entry is None else self.show(entry)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of entries under columns, with a line above them if there is something to say.

    An entry is a value that its column can show, or text as it is to be read, or None where there is nothing.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    missing: str = ""

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns that are not only recorded."""
        return tuple(column for column in self.columns if column.kind != "recorded")

    @property
    def cells(self) -> list[list[str]]:
        """Texts of the shown columns, row by row."""
        return [
            [
                column.cell(entry, self.missing)
                for column, entry in zip(self.columns, row, strict=True)
                if column.kind != "recorded"
            ]
            for row in self.rows
        ]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The entries of every row by the keys of their columns."""
        return [
            {column.key: entry for column, entry in zip(self.columns, row, strict=True) if column.key}
            for row in self.rows
        ]

    def without_empty(self) -> Table:
        """The table without the columns that are empty in every row."""
        texts = list(zip(*self.cells, strict=True))
        kept = tuple(column for column, cells in zip(self.shown, texts, strict=True) if any(cells))
        rows = list(zip(*(cells for cells in texts if any(cells)), strict=True))
        return replace(self, columns=kept, rows=rows)

    def folded(self, *, everything: bool) -> Table:
        """The table without the middle of its rows where there are many."""
        return replace(self, rows=fold(self.rows, len(self.columns), everything=everything))


Item = Table | str
"""Part of a report: a table, or a line that is broken between words where it is too long."""


def fold(rows: Sequence[Sequence[Any]], width: int, *, everything: bool) -> list[Sequence[Any]]:
    """Rows with the middle of a long table left out; `width` is the number of its columns."""
    if everything or len(rows) <= MAX_ROWS:
        return list(rows)
    half = MAX_ROWS // 2
    gap = ["..."] + [""] * (width - 1)
    return [*rows[:half], gap, *rows[-half:]]


def text_of(items: Iterable[Item], stream: TextIO, width: int | None = None) -> str:
    """What `items` look like on `stream`.

    Parameters
    ----------
    items : tables and lines
    stream : file
        Decides about colour: only terminals get any.
    width : int, optional
        Columns; by default the terminal's, or ``$COLUMNS``, or `PIPED_WIDTH`.
    """
    width = width or shutil.get_terminal_size((PIPED_WIDTH, 24)).columns
    is_terminal = stream.isatty()
    console = Console(
        file=StringIO(), width=width, force_terminal=is_terminal, no_color=not is_terminal, markup=False, emoji=False,
        highlight=False,
    )  # fmt: skip
    with console.capture() as capture:
        for item in items:
            console.print(_rich(item, width) if isinstance(item, Table) else Text(item))
    return "".join(f"{row.rstrip()}\n" for row in capture.get().splitlines())


def shorten(name: str, width: int) -> str:
    """A name in at most `width` columns; its end is kept, since that is where the names of a model differ.

    >>> shorten("/layer1/layer1.0/conv1/Conv", 16), shorten("stem", 16)
    ('…r1.0/conv1/Conv', 'stem')
    """
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


def _rich(table: Table, width: int) -> RichTable:
    columns, rows = table.shown, table.cells
    widths, gap = _widths(columns, rows, width)
    made = RichTable(
        title=table.title or None, title_justify="left", title_style="", header_style="bold", box=None, pad_edge=False,
        padding=(0, gap, 0, 0),
    )  # fmt: skip
    for column, room in zip(columns, widths, strict=True):
        is_prose = column.kind == "prose"
        made.add_column(
            column.heading,
            justify="right" if column.kind == "number" else "left",
            width=None if is_prose else room,
            no_wrap=not is_prose,
        )
    for row in rows:
        cells = zip(columns, row, widths, strict=True)
        made.add_row(*(shorten(cell, room) if column.kind == "name" else cell for column, cell, room in cells))
    return made


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> tuple[list[int], int]:
    """Width of each column and of the gap between two: names give way, the widest first, until all fit."""
    cells = zip(*([column.heading for column in columns], *rows), strict=True)
    widths = [max(map(cell_len, column)) for column in cells]
    names = [index for index, column in enumerate(columns) if column.kind == "name"]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= width else 1
    room = width - gap * (len(widths) - 1)
    while names and sum(widths) > room:
        widest = max(names, key=lambda index: widths[index])
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    return widths, gap
