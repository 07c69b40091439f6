"""A section of a page: what is read, what is drawn, what scripts get, and what the terminal says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import fill
from typing import Any

from ..figure import Draw
from ..markdown import picture_lines, table_lines
from ..tables import Item, Table

PAGE_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: its files' stem, what it shows in words, and what draws it."""

    stem: str
    about: str
    draw: Draw


@dataclass(frozen=True, slots=True)
class Folded:
    """Parts that a reader opens with a click, under a line that says what they are."""

    title: str
    parts: tuple[str | Table | Picture, ...]


Part = str | Table | Picture | Folded
"""A text is a paragraph, a heading, or a list with an item on each line."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section.

    Attributes
    ----------
    heading : str
    parts : sequence of Part
    record : mapping
        All numbers behind the parts, by the section's key, in seconds and bytes.
    summary : sequence of tables and lines
        For a terminal.
    """

    heading: str
    parts: Sequence[Part]
    record: Mapping[str, Any]
    summary: Sequence[Item] = field(default=())

    def lines(self) -> Iterator[str]:
        """The section as Markdown."""
        yield from (f"## {self.heading}", "")
        yield from _lines(self.parts)

    def pictures(self) -> Iterator[Picture]:
        """Pictures of the section, in order."""
        for part in self.parts:
            inner = part.parts if isinstance(part, Folded) else (part,)
            yield from (item for item in inner if isinstance(item, Picture))


def _lines(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Table):
            yield from table_lines(part)
        elif isinstance(part, Picture):
            yield from picture_lines(part.stem, part.about)
        elif isinstance(part, Folded):
            yield from ("<details>", f"<summary>{part.title}</summary>", "")
            yield from _lines(part.parts)
            yield from ("</details>", "")
        else:
            yield from _paragraph(part)


def _paragraph(text: str) -> Iterator[str]:
    """Lines of a paragraph, a heading or a list, no wider than a page."""
    for line in text.split("\n"):
        indent = "  " if line.startswith("- ") else ""
        is_whole = line.startswith("#") or not line
        yield (
            line
            if is_whole
            else fill(line, PAGE_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        )
    yield ""
