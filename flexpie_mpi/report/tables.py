"""Tables and lines as text: coloured on a terminal, plain elsewhere, never wider than the width they are given."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

PIPED_WIDTH = 80
"""Columns where there is no terminal and ``$COLUMNS`` says nothing."""

MAX_ROWS = 24
"""Tables of more rows than this are folded unless everything is asked for."""

NARROWEST = 6
"""Names are not cut below this."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading and what it holds.

    ``text`` and ``number`` are shown whole, a ``name`` may lose its beginning, ``prose`` is broken into lines.
    """

    heading: str
    kind: str = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under columns, with a line above them if there is something to say."""

    columns: tuple[Column, ...]
    rows: tuple[Sequence[str], ...]
    title: str = ""


Item = Table | str
"""Part of a report: a table, or a line that is broken between words where it is too long."""


def fold(rows: Sequence[Sequence[str]], width: int, *, everything: bool) -> list[Sequence[str]]:
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
    widths, gap = _widths(table, width)
    made = RichTable(
        title=table.title or None, title_justify="left", title_style="", header_style="bold", box=None, pad_edge=False,
        padding=(0, gap, 0, 0),
    )  # fmt: skip
    for column, columns in zip(table.columns, widths, strict=True):
        is_prose = column.kind == "prose"
        made.add_column(
            column.heading,
            justify="right" if column.kind == "number" else "left",
            width=None if is_prose else columns,
            no_wrap=not is_prose,
        )
    for row in table.rows:
        cells = zip(table.columns, row, widths, strict=True)
        made.add_row(*(shorten(cell, columns) if column.kind == "name" else cell for column, cell, columns in cells))
    return made


def _widths(table: Table, width: int) -> tuple[list[int], int]:
    """Width of each column and of the gap between two: names give way, the widest first, until all fit."""
    cells = zip(*([column.heading for column in table.columns], *table.rows), strict=True)
    widths = [max(map(cell_len, column)) for column in cells]
    names = [place for place, column in enumerate(table.columns) if column.kind == "name"]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= width else 1
    room = width - gap * (len(widths) - 1)
    while names and sum(widths) > room:
        widest = max(names, key=lambda place: widths[place])
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    return widths, gap
