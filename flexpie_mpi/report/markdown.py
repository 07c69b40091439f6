"""Reports as Markdown: tables, and pictures that follow the reader's light or dark theme."""

from __future__ import annotations

from .tables import Table

PICTURE_WIDTH = 900
"""Pixels, in a page."""


def table_lines(table: Table) -> list[str]:
    """A table, numbers to the right; its title stands before it as a line of its own."""
    heads = [column.heading for column in table.columns]
    rules = ["---:" if column.kind == "number" else ":---" for column in table.columns]
    rows = [heads, rules, *table.rows]
    title = [f"{table.title}", ""] if table.title else []
    return [*title, *(f"| {' | '.join(map(_cell, row))} |" for row in rows), ""]


def picture_lines(stem: str, about: str) -> list[str]:
    """The picture that :func:`flexpie_mpi.report.figure.save` wrote as `stem`; `about` is for who cannot see it."""
    return [
        "<picture>",
        f'  <source media="(prefers-color-scheme: dark)" srcset="{stem}-dark.png">',
        f'  <img src="{stem}.png" width="{PICTURE_WIDTH}" alt="{_attribute(about)}">',
        "</picture>",
        "",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
