"""Predicted and simulated against measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..plots.accuracy import scatter
from ..results.accuracy import SOURCES, Case, Errors, cases_of, errors, grouped, worst
from ..results.cells import Cell
from ..tables import Column, Item, Table
from ..units import count_of, milli, percent, signed
from .section import Part, Picture, Section


def sections(cells: Iterable[Cell]) -> list[Section]:
    """One section; none where nothing was predicted."""
    cases = cases_of(cells)
    sources = [source for source in SOURCES if errors(cases, source)]
    if not sources:
        return []
    parts: list[Part] = [
        "Predicted is what the planner adds up, simulated what a walk over all ranks' programs gives; the error is "
        "held against the median measured. Planners of a cell that found the same plan are one plan here. "
        "A machine is not equally fast all day: the error of the speed-up over one board of the same cell omits that.",
        Picture("accuracy", "Predicted and simulated against measured latency", scatter(cases, sources)),
        _table(cases, sources),
        "\n".join(f"- {line}" for line in _worst_lines(cases, sources)),
    ]
    lines: list[Item] = [_line(source, errors(cases, source)) for source in sources]
    return [Section("Predicted, simulated and measured", parts, {"accuracy": _record(cases, sources)}, lines)]


def _table(cases: Sequence[Case], sources: Sequence[str]) -> Table:
    heads = [Column("error of"), Column("plans", "number")]
    heads += [Column(f"{source}: {what}", "number") for source in sources for what in ("median", "p90", "worst")]
    rows = [["**all**", str(len(cases)), *_errors(cases, sources)]]
    shared = errors(cases, sources[0], Case.speedup_error)
    if shared:
        rows += [["speed-up over one board", str(shared.cases), *_errors(cases, sources, Case.speedup_error)]]
    for key, groups in grouped(cases).items():
        rows += [[f"{key} {name}", str(len(those)), *_errors(those, sources)] for name, those in groups.items()]
    return Table(tuple(heads), tuple(rows))


def _errors(
    cases: Sequence[Case], sources: Sequence[str], error_of: Callable[[Case, str], float | None] = Case.error
) -> list[str]:
    found = [errors(cases, source, error_of) for source in sources]
    return [
        text
        for each in found
        for text in ((percent(each.median), percent(each.p90), percent(each.worst)) if each else ("–", "–", "–"))
    ]


def _worst_lines(cases: Sequence[Case], sources: Sequence[str]) -> list[str]:
    lines = []
    for source in sources:
        found = worst(cases, source)
        if found:
            case, error = found
            seconds = case.seconds(source) or 0.0
            times = f"{milli(seconds)} {source}, {milli(case.row.median_s)} ms measured"
            what = f"{case.cell.name} with {' and '.join(f'`{planner}`' for planner in case.planners)}"
            lines.append(f"Furthest off, {source}: {what}, {signed(error)} ({times}).")
    return lines


def _line(source: str, found: Errors | None) -> str:
    assert found is not None, "sources have errors"
    shares = f"median {percent(found.median)}, p90 {percent(found.p90)}, worst {percent(found.worst)}"
    return f"error    {source}: {shares} over {count_of(found.cases, 'plan')}"


def _record(cases: Sequence[Case], sources: Sequence[str]) -> dict[str, Any]:
    groups = {"all": {"all": list(cases)}, **grouped(cases)}
    return {
        "speedup": {source: _numbers(errors(cases, source, Case.speedup_error)) for source in sources},
        "groups": {
            key: {
                name: {source: _numbers(errors(those, source)) for source in sources} for name, those in group.items()
            }
            for key, group in groups.items()
        },
        "plans": [
            {
                "suite": case.cell.suite,
                "model": case.cell.model,
                "batch": case.cell.batch,
                "testbed": case.cell.testbed,
                "ranks": case.cell.ranks,
                "planners": list(case.planners),
                "measured_s": case.row.median_s,
                **{f"{source}_s": case.seconds(source) for source in sources},
            }
            for case in cases
        ],
    }


def _numbers(found: Errors | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"plans": found.cases, "median": found.median, "p90": found.p90, "worst": found.worst}
