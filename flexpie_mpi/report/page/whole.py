"""The whole page: all sections, its files in a folder, and its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import ReportError
from ...files.atomic import write_text
from ...suite.results import Result
from ..figure import save
from ..results.cells import cells_of
from ..tables import Item
from . import accuracy, boards, effort, missing, scaling, versus
from .provenance import provenance
from .section import Section

PAGE = "README.md"
"""Shown by itself where a folder of a repository is looked at."""


@dataclass(frozen=True, slots=True)
class Page:
    """Sections under a title."""

    title: str
    sections: tuple[Section, ...]

    @property
    def text(self) -> str:
        """The page as Markdown."""
        lines = [f"# {self.title}", ""]
        for section in self.sections:
            lines += section.lines()
        return "\n".join(lines).rstrip("\n") + "\n"

    @property
    def record(self) -> dict[str, Any]:
        """All numbers, in seconds and bytes, by section."""
        found: dict[str, Any] = {}
        for section in self.sections:
            for key, value in section.record.items():
                known = found.get(key)
                found[key] = known | value if isinstance(known, dict) else value
        return found


def make_page(results: Sequence[Result], sources: Sequence[str]) -> Page:
    """The page about rows of results.

    Parameters
    ----------
    results : sequence of Result
    sources : sequence of str
        The files they came from, as a reader knows them.

    Raises
    ------
    ReportError
        When no row has a measured round.
    """
    cells = cells_of(results)
    if not cells:
        raise ReportError(f"no row in {', '.join(sources)} has a measured round, so there is nothing to report")
    suites = list(dict.fromkeys(cell.suite for cell in cells))
    sections = (
        provenance(cells, sources),
        *versus.sections(cells),
        *scaling.sections(cells),
        *accuracy.sections(cells),
        *boards.sections(cells),
        *effort.sections(cells),
        *missing.sections(results, cells),
    )
    return Page(f"Results of {', '.join(suites)}", sections)


def write_page(page: Page, folder: Path, tell: Callable[[str], None] = lambda text: None) -> tuple[Path, ...]:
    """Write `PAGE` and its pictures into `folder`, and return their paths.

    Raises
    ------
    DataError
        When one cannot be written.
    """
    paths: list[Path] = []
    for picture in (picture for section in page.sections for picture in section.pictures()):
        tell(f"drawing {picture.stem}")
        paths += save(picture.draw, folder, picture.stem)
    write_text(folder / PAGE, page.text)
    return (*paths, folder / PAGE)


def summary_items(page: Page, folder: str) -> Iterator[Item]:
    """The page in a few lines."""
    for section in page.sections:
        yield from section.summary
    yield f"report   {Path(folder) / PAGE}"
