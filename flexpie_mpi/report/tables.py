"""Tables and lines as text: coloured on a terminal, plain elsewhere, never wider than the width they are given."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 80
"""Columns where there is no terminal and ``$COLUMNS`` says nothing."""

MAX_ROWS = 24
"""Tables of more rows than this are folded unless everything is asked for."""

Item = Table | Text


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its heading, whether it holds numbers, and whether it gives way when the table is too wide."""

    heading: str
    is_number: bool = False
    is_elastic: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], title: str = "") -> Table:
    """A table without lines; numbers to the right, elastic columns cut with an ellipsis where there is no room."""
    made = Table(title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        made.add_column(
            column.heading,
            justify="right" if column.is_number else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if column.is_elastic else 1,
            ratio=1 if column.is_elastic else None,
        )
    for row in rows:
        made.add_row(*row)
    return made


def line(text: str = "") -> Text:
    """A line or paragraph, broken between words where it is too long."""
    return Text(text)


def fold(rows: Sequence[Sequence[str]], width: int, everything: bool) -> list[Sequence[str]]:
    """Rows with the middle of a long table left out; `width` is the number of its columns."""
    if everything or len(rows) <= MAX_ROWS:
        return list(rows)
    half = MAX_ROWS // 2
    gap = ("...", f"{len(rows) - 2 * half} more, all with -v", *[""] * (width - 2))
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
    is_terminal = stream.isatty()
    console = Console(
        file=StringIO(),
        width=width or shutil.get_terminal_size((PIPED_WIDTH, 24)).columns,
        force_terminal=is_terminal,
        no_color=not is_terminal,
        markup=False,
        emoji=False,
        highlight=False,
    )
    with console.capture() as capture:
        for item in items:
            console.print(item)
    return "".join(f"{row.rstrip()}\n" for row in capture.get().splitlines())
