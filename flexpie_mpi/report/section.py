"""A section of a page: what is read, what is drawn, what scripts get, and what the terminal says; and its Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from textwrap import fill
from typing import Any

from .figure import Draw
from .tables import Item, Table

PAGE_WIDTH = 120
"""A line of prose has at most so many letters."""

PICTURE_WIDTH = 900
"""Width of a picture in a page, in pixels."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: its files' stem, what it shows in words, and what draws it."""

    stem: str
    about: str
    draw: Draw


@dataclass(frozen=True, slots=True)
class Folded:
    """A table that a reader opens with a click, under a line that says what it is."""

    title: str
    table: Table


Part = str | Table | Picture | Folded
"""A text is a paragraph, a heading, or a list with an item on each line."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section."""

    heading: str
    parts: Sequence[Part]
    record: Mapping[str, Any]  # all numbers behind the parts, by the section's key, in seconds and bytes
    summary: Sequence[Item] = ()  # for a terminal

    def lines(self) -> Iterator[str]:
        """The section as Markdown."""
        return chain((f"## {self.heading}", ""), *map(_lines, self.parts))

    def pictures(self) -> Iterator[Picture]:
        """Pictures of the section, in order."""
        return (part for part in self.parts if isinstance(part, Picture))


def _lines(part: Part) -> Iterable[str]:
    if isinstance(part, Table):
        return table_lines(part)
    if isinstance(part, Picture):
        return _picture_lines(part)
    if isinstance(part, Folded):
        return "<details>", f"<summary>{part.title}</summary>", "", *table_lines(part.table), "</details>", ""
    return *map(_wrapped, part.split("\n")), ""


def _wrapped(line: str) -> str:
    """A line of a paragraph, a heading or a list, no wider than a page; headings stay whole."""
    if line.startswith("#") or not line:
        return line
    indent = "  " if line.startswith("- ") else ""
    return fill(line, PAGE_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def table_lines(table: Table) -> list[str]:
    """A table as Markdown, numbers to the right; its title stands before it as a line of its own."""
    heads = [column.heading for column in table.shown]
    rules = ["---:" if column.kind == "number" else ":---" for column in table.shown]
    title = [table.title, ""] if table.title else []
    rows = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in [heads, rules, *table.cells])
    return [*title, *(f"| {row} |" for row in rows), ""]


def _picture_lines(picture: Picture) -> list[str]:
    """A picture that :func:`flexpie_mpi.report.figure.save` writes; it follows the reader's light or dark theme."""
    about = picture.about.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return [
        "<picture>",
        f'  <source media="(prefers-color-scheme: dark)" srcset="{picture.stem}-dark.png">',
        f'  <img src="{picture.stem}.png" width="{PICTURE_WIDTH}" alt="{about}">',
        "</picture>",
        "",
    ]
