"""The page about rows of results: all sections, its files in a folder, and its record.

The sections without a picture are made here: what was measured, what plans cost, and what is missing. A section appears
only where rows have something to say about it. The one difficulty: nothing may be left out silently, so what could not
be compared is named at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean, median
from typing import Any

from ..core.errors import ReportError
from ..files.atomic import write_text
from ..suite.cells import grouped
from ..suite.results import Result
from . import accuracy, boards, planners, scaling
from .cells import AUTO, SINGLE, Cell, by_model, cells_of, planners_in
from .figure import save
from .section import Section
from .tables import Column, Item, Table
from .units import count_of, mb, percent, ranges

PAGE = "README.md"
"""Hosts of repositories show a file of this name with its folder."""


@dataclass(frozen=True, slots=True)
class Page:
    """Sections under a title."""

    title: str
    sections: tuple[Section, ...]

    @property
    def text(self) -> str:
        """The page as Markdown."""
        lines = chain.from_iterable(section.lines() for section in self.sections)
        return "\n".join((f"# {self.title}", "", *lines)).rstrip("\n") + "\n"

    @property
    def record(self) -> dict[str, Any]:
        """All numbers, in seconds and bytes, by section."""
        record: dict[str, Any] = {}
        for section in self.sections:
            for key, value in section.record.items():
                known = record.get(key)
                record[key] = known | value if isinstance(known, dict) else value
        return record


def make_page(results: Sequence[Result], sources: Sequence[str]) -> Page:
    """The page about rows of results; `sources` are the files they came from, as a reader knows them.

    Raises ReportError when no row has a measured round.
    """
    cells = cells_of(results)
    if not cells:
        raise ReportError(f"no row in {', '.join(sources)} has a measured round, so there is nothing to report")
    suites = list(dict.fromkeys(cell.suite for cell in cells))
    sections = (
        _measured(cells, sources),
        *planners.sections(cells),
        *scaling.sections(cells),
        *accuracy.sections(cells),
        *boards.sections(cells),
        *_effort(cells),
        *_missing(results, cells),
    )
    return Page(f"Results of {', '.join(suites)}", sections)


def write_page(page: Page, folder: Path, tell: Callable[[str], None] = lambda text: None) -> tuple[Path, ...]:
    """Write `PAGE` and its pictures into `folder`, and return their paths.

    Raises DataError when one cannot be written.
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


# What was measured: when, on what, with what, and how


def bit_rate(bandwidth: float) -> str:
    """Bytes per second as networks are sold; empty where there is no link.

    >>> bit_rate(125e6), bit_rate(62.5e6), bit_rate(0.0)
    ('1 Gb/s', '500 Mb/s', '')
    """
    bits = bandwidth * 8
    if not bits:
        return ""
    return f"{bits / 1e9:.3g} Gb/s" if bits >= 1e9 else f"{bits / 1e6:.3g} Mb/s"


def _span(show: Callable[[Any], str]) -> Callable[[Sequence[Any]], str]:
    """Shows the least and the most of ascending numbers."""
    return lambda numbers: " to ".join(dict.fromkeys(map(show, (numbers[0], numbers[-1])))) if numbers else ""


_TESTBEDS = (
    Column("testbed", key="testbed"),
    Column("topology", key="topology"),
    Column("ranks", "recorded", key="ranks"),
    Column("boards", "number", ranges),
    Column("slowest link", "number", bit_rate, "bandwidth"),
    Column("slowdown", "number", _span("{:g}".format), "slowdowns"),
    Column("memory (MB)", "number", lambda sizes: _span(mb)(sizes) or "no limit", "memory_bytes"),
    Column("boards are", "text", lambda is_emulated: "emulated" if is_emulated else "real", "is_emulated"),
)


def _measured(cells: Sequence[Cell], sources: Sequence[str]) -> Section:
    """When, on what machine and with what versions; and the testbeds."""
    rows = [row for cell in cells for row in cell.rows.values()]
    days = sorted(row.date[:10] for row in rows)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    rounds = ranges(sorted({len(row.measured_s) for row in rows})).replace(",", ", ")
    warmup = ranges(sorted({row.warmup for row in rows}))
    models = list(dict.fromkeys(cell.model for cell in cells))
    suites = list(dict.fromkeys(cell.suite for cell in cells))
    pairs = grouped(dict.fromkeys(pair for row in rows for pair in row.versions.items()), lambda pair: pair[0])
    versions = {name: [version for _, version in those] for name, those in pairs.items()}
    testbeds = _testbeds(cells)
    facts = {
        "suite": ", ".join(suites),
        "models": ", ".join(models),
        "planners": ", ".join(planners_in(cells)),
        "measured": f"{when}, on {'; '.join(dict.fromkeys(row.machine for row in rows))}",
        "versions": ", ".join(f"{name} {' and '.join(each)}" for name, each in versions.items()),
        "cost model": "; ".join(dict.fromkeys(row.cost for row in rows)),
        "rounds": f"{rounds} after {warmup} to warm up; one request of every plan per round, in turn",
        "rows": f"{count_of(len(rows), 'row')} of {count_of(len(cells), 'cell')}, from {', '.join(sources)}",
    }
    about = (
        "A cell is one model and batch on the first boards of one testbed. Times are those of one request, from its "
        "input on the root to its output there. Medians are over rounds, and ratios of two planners are taken round by "
        "round before their median is. Slowdown is how many times slower than the machine a board is paced to be."
    )
    record = {
        "sources": list(sources),
        "suites": suites,
        "models": models,
        "planners": planners_in(cells),
        "dates": [days[0], days[-1]],
        "machines": sorted({row.machine for row in rows}),
        "versions": versions,
        "costs": sorted({row.cost for row in rows}),
        "rows": len(rows),
        "testbeds": testbeds.records,
    }
    text = "\n".join(f"- {key}: {value}" for key, value in facts.items())
    return Section("What was measured", [text, about, testbeds], {"provenance": record})


def _testbeds(cells: Sequence[Cell]) -> Table:
    """Facts about every testbed, as the last cell with most of its boards has them."""
    rows = []
    for testbed, those in grouped(cells, lambda cell: cell.testbed).items():
        counts = sorted({cell.ranks for cell in those})
        row = next(cell.any for cell in reversed(those) if cell.ranks == counts[-1])
        slowdowns = sorted({rank.slowdown for rank in row.per_rank})
        memory = sorted({rank.memory_bytes for rank in row.per_rank if rank.memory_bytes is not None})
        rows.append((testbed, row.topology, counts[-1], counts, row.bandwidth, slowdowns, memory, row.is_emulated))
    return Table(_TESTBEDS, rows)


# What plans cost: time to find them, bytes and messages to carry them out, and work done more than once

_EFFORT = (
    Column("model", key="model"),
    Column("planner", key="planner"),
    Column("cells", "recorded", key="cells"),
    Column("planning: median (s)", "number", "{:.2f}".format, "planning_s"),
    Column("longest (s)", "number", "{:.2f}".format, "longest_s"),
    Column("sent (MB)", "number", lambda nbytes: mb(round(nbytes)), "sent_bytes"),
    Column("messages", "number", "{:.0f}".format, "messages"),
    Column("redundant work", "number", percent, "redundant"),
    Column("optimal", "recorded", key="optimal"),
    Column("same", "recorded", key="same"),
    Column("proved best", "number"),
    Column("auto's own plan", "number"),
)


def _effort(cells: Iterable[Cell]) -> list[Section]:
    """One section, of cells with several boards; none where there are none."""
    rows = [
        (model, planner, *_effort_of(planner, [cell for cell in those if planner in cell.rows]))
        for model, those in by_model(cell for cell in cells if cell.ranks > 1).items()
        for planner in planners_in(those)
    ]
    if not rows:
        return []
    about = (
        "Per model and planner, over its cells with several boards. Sent and messages are means over cells, of all "
        "ranks together and one request; redundant is work done more than once, as a share of the model's. Proved "
        "best: cells in which the planner proved that nothing it may choose from is predicted to be faster. The last "
        "column counts cells in which it found the very plan of `auto`."
    )
    table = Table(_EFFORT, rows)
    mine = [record for record in table.records if record["planner"] == AUTO]
    lines = []
    if mine:
        typical, longest = median(each["planning_s"] for each in mine), max(each["longest_s"] for each in mine)
        lines.append(f"planning auto takes {typical:.2f} s in the median, {longest:.1f} s at most")
    return [Section("Planning, traffic and redundant work", [about, table], {"effort": table.records}, lines)]


def _effort_of(planner: str, cells: Sequence[Cell]) -> tuple[Any, ...]:
    """One planner's rows of one model: medians, but means of what is sent and done twice."""
    rows, count = [cell.rows[planner] for cell in cells], len(cells)
    optimal = sum(row.is_optimal for row in rows)
    autos = (cell.rows.get(AUTO) for cell in cells)
    same = sum(auto is not None and auto.plan_digest == row.plan_digest for auto, row in zip(autos, rows, strict=True))
    return (
        count,
        median(row.planning_s for row in rows),
        max(row.planning_s for row in rows),
        fmean(row.sent_bytes for row in rows),
        fmean(row.messages for row in rows),
        fmean(row.redundant for row in rows),
        optimal,
        same,
        f"{optimal} of {count}",
        "" if planner == AUTO else f"{same} of {count}",
    )


# What is missing: rows that were not measured, planners that are absent, cells of one board


def _missing(results: Sequence[Result], cells: Sequence[Cell]) -> list[Section]:
    """One section; none where nothing is missing."""
    lines = [
        f"{result.model} on {result.testbed}, {count_of(result.ranks, 'board')}, batch {result.batch}: "
        f"`{result.planner}` has no measured round, so it is left out."
        for result in results
        if not result.measured_s
    ]
    lines += [*_incomplete(cells), *_incomparable(cells)]
    if not lines:
        return []
    summary = [f"missing  {count_of(len(lines), 'remark')} at the end of the report"]
    text = "\n".join(f"- {line}" for line in lines)
    return [Section("What is missing", [text], {"missing": lines}, summary)]


def _incomplete(cells: Sequence[Cell]) -> Iterator[str]:
    """Cells without planners that others of their suite have; cells that lack the same ones share a line."""
    for those in grouped(cells, lambda cell: cell.suite).values():
        compared = [cell for cell in those if cell.is_comparison]
        everyone = planners_in(compared)
        pairs = [(tuple(name for name in everyone if name not in cell.rows), cell) for cell in compared]
        for absent, lacking in grouped(pairs, lambda pair: pair[0]).items():
            if absent:
                names = "; ".join(cell.name for _, cell in lacking)
                yield f"Without {', '.join(f'`{name}`' for name in absent)}: {names}."


def _incomparable(cells: Sequence[Cell]) -> Iterator[str]:
    """Cells that no comparison has, or no speed-up, or no ratio round by round."""
    grounded = {cell.family for cell in cells if cell.ranks == 1}
    remarks: dict[str, Callable[[Cell], bool]] = {
        "One board only, so there for speed-ups alone": lambda cell: cell.ranks == 1,
        "One planner only, so nothing to compare": lambda cell: cell.ranks > 1 and len(cell.rows) == 1,
        "One board was not measured (planner `single`, or 1 rank), so there is no speed-up": lambda cell: (
            cell.ranks > 1 and SINGLE not in cell.rows and cell.family not in grounded
        ),
        "Not all planners were measured side by side, so medians are divided instead of rounds": lambda cell: (
            len({(row.turn, len(row.measured_s)) for row in cell.rows.values()}) > 1
        ),
    }
    for remark, holds in remarks.items():
        names = "; ".join(cell.name for cell in cells if holds(cell))
        if names:
            yield f"{remark}: {names}."
