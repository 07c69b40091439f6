"""What was measured: when, on what, with what, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...suite.results import Result
from ..results.cells import Cell, planners_in
from ..tables import Column, Table
from ..units import count_of, mb, ranges
from .section import Section

_TESTBEDS = (
    Column("testbed"),
    Column("topology"),
    Column("boards", "number"),
    Column("slowest link", "number"),
    Column("slowdown", "number"),
    Column("memory (MB)", "number"),
    Column("boards are"),
)


def provenance(cells: Sequence[Cell], sources: Sequence[str]) -> Section:
    """When, on what machine and with what versions; and the testbeds."""
    rows = [row for cell in cells for row in cell.rows.values()]
    days = sorted(row.date[:10] for row in rows)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    rounds = ranges(sorted({len(row.measured_s) for row in rows})).replace(",", ", ")
    warmup = ranges(sorted({row.warmup for row in rows}))
    models = list(dict.fromkeys(cell.model for cell in cells))
    suites = list(dict.fromkeys(cell.suite for cell in cells))
    facts = {
        "suite": ", ".join(suites),
        "models": ", ".join(models),
        "planners": ", ".join(planners_in(cells)),
        "measured": f"{when}, on {_each(row.machine for row in rows)}",
        "versions": _versions(rows),
        "cost model": _each(row.cost for row in rows),
        "rounds": f"{rounds} after {warmup} to warm up; one request of every plan per round, in turn",
        "rows": f"{count_of(len(rows), 'row')} of {count_of(len(cells), 'cell')}, from {', '.join(sources)}",
    }
    text = "\n".join(f"- {key}: {value}" for key, value in facts.items())
    about = (
        "A cell is one model and batch on the first boards of one testbed. Times are those of one request, from its "
        "input on the root to its output there. Medians are over rounds, and ratios of two planners are taken round by "
        "round before their median is. Slowdown is how many times slower than the machine a board is paced to be."
    )
    record = {
        "sources": list(sources), "suites": suites, "models": models, "planners": planners_in(cells),
        "dates": [days[0], days[-1]], "machines": sorted({row.machine for row in rows}),
        "versions": _all_versions(rows), "costs": sorted({row.cost for row in rows}), "rows": len(rows),
        "testbeds": [dict(zip(_KEYS, values, strict=True)) for values in _testbeds(cells).values()],
    }  # fmt: skip
    return Section("What was measured", [text, about, _testbed_table(cells)], {"provenance": record})


_KEYS = ("testbed", "topology", "ranks", "bandwidth", "slowdowns", "memory_bytes", "is_emulated")


def _testbeds(cells: Sequence[Cell]) -> dict[str, tuple[Any, ...]]:
    """Facts about every testbed, as the cell with most of its boards has them."""
    found: dict[str, tuple[Any, ...]] = {}
    for cell in sorted(cells, key=lambda cell: cell.ranks):
        row = cell.any
        slowdowns = sorted({rank.slowdown for rank in row.per_rank})
        memory = sorted({rank.memory_bytes for rank in row.per_rank if rank.memory_bytes is not None})
        facts = (cell.testbed, row.topology, cell.ranks, row.bandwidth, slowdowns, memory, row.is_emulated)
        found[cell.testbed] = facts
    return {cell.testbed: found[cell.testbed] for cell in cells}


def _testbed_table(cells: Sequence[Cell]) -> Table:
    counts: dict[str, set[int]] = {}
    for cell in cells:
        counts.setdefault(cell.testbed, set()).add(cell.ranks)
    rows = [
        (
            name,
            topology,
            ranges(sorted(counts[name])),
            rate(bandwidth),
            " to ".join(f"{value:g}" for value in dict.fromkeys((slowdowns[0], slowdowns[-1]))) if slowdowns else "",
            " to ".join(mb(value) for value in dict.fromkeys((memory[0], memory[-1]))) if memory else "no limit",
            "emulated" if is_emulated else "real",
        )
        for name, topology, _, bandwidth, slowdowns, memory, is_emulated in _testbeds(cells).values()
    ]
    return Table(_TESTBEDS, tuple(rows))


def rate(bandwidth: float) -> str:
    """Bytes per second as networks are sold; empty where there is no link.

    >>> rate(125e6), rate(62.5e6), rate(0.0)
    ('1 Gb/s', '500 Mb/s', '')
    """
    bits = bandwidth * 8
    if not bits:
        return ""
    return f"{bits / 1e9:.3g} Gb/s" if bits >= 1e9 else f"{bits / 1e6:.3g} Mb/s"


def _each(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def _all_versions(rows: Iterable[Result]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for name, version in row.versions.items():
            found.setdefault(name, {})[version] = None
    return {name: list(versions) for name, versions in found.items()}


def _versions(rows: Iterable[Result]) -> str:
    found: Mapping[str, Sequence[str]] = _all_versions(rows)
    return ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())
