"""How far predictions and simulations are from what was measured: the errors, their picture, and their section."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import isfinite
from statistics import median
from typing import Any

import numpy as np

from ..suite.cells import grouped
from ..suite.results import Result
from .cells import SINGLE, Cell
from .figure import Draw, Figure, dotted, handle, legend, log_scale, numbered, panels
from .section import Part, Picture, Section
from .tables import Column, Item, Table, shorten
from .theme import Theme
from .units import count_of, milli, percent, signed

SOURCES = ("predicted", "simulated")

BAND = 0.1
"""Half the width of the band around the diagonal of the picture, as a share of what was measured."""

# The numbers


@dataclass(frozen=True, slots=True)
class Case:
    """A plan that was measured; planners of a cell that found the same plan are one case."""

    cell: Cell
    row: Result
    planners: tuple[str, ...]

    def error(self, source: str) -> float | None:
        """How much longer it was predicted, or simulated, to take, as a share; None where it was not."""
        seconds = self.seconds(source)
        return None if seconds is None else seconds / self.row.median_s - 1

    def speedup_error(self, source: str) -> float | None:
        """How much larger the speed-up over one board of the cell was predicted to be, as a share; None where unknown.

        Both were measured together, so a machine that is slower or faster than when its costs were measured does not
        count here.
        """
        alone = self.cell.rows.get(SINGLE)
        if alone is None or alone.plan_digest == self.row.plan_digest:
            return None
        whole, own = Case(self.cell, alone, (SINGLE,)).error(source), self.error(source)
        if whole is None or own is None or own <= -1:  # so short a time cannot be told from none
            return None
        return (1 + whole) / (1 + own) - 1

    def seconds(self, source: str) -> float | None:
        """What it was predicted, or simulated, to take; None where that is no time."""
        seconds = self.row.predicted_s if source == "predicted" else self.row.simulated_s
        return seconds if seconds is not None and isfinite(seconds) and seconds > 0 else None


@dataclass(frozen=True)
class Errors:
    """Sizes of the errors of several plans, as shares."""

    plans: int
    median: float
    p90: float
    worst: float


ErrorOf = Callable[[Case, str], float | None]
"""The error of one source in a case."""


def cases_of(cells: Iterable[Cell]) -> list[Case]:
    """Every plan that was measured, once."""
    return [
        Case(cell, same[0][1], tuple(planner for planner, _ in same))
        for cell in cells
        for same in grouped(cell.rows.items(), lambda pair: pair[1].plan_digest or pair[0]).values()
    ]


def errors(cases: Iterable[Case], source: str, error_of: ErrorOf = Case.error) -> Errors | None:
    """Errors of one source; None where there are none."""
    sizes = [abs(error) for case in cases if (error := error_of(case, source)) is not None]
    return Errors(len(sizes), median(sizes), float(np.quantile(sizes, 0.9)), max(sizes)) if sizes else None


def worst(cases: Sequence[Case], source: str) -> tuple[Case, float] | None:
    """The case that is furthest off, and its error with its sign."""
    pairs = [(case, error) for case in cases if (error := case.error(source)) is not None]
    return max(pairs, key=lambda pair: abs(pair[1]), default=None)


def groups_of(cases: Sequence[Case]) -> dict[str, dict[str, list[Case]]]:
    """Cases by suite, by model, by boards and by planner, where there are several; a plan is all its planners'."""
    keys: dict[str, Callable[[Case], Sequence[str]]] = {
        "suite": lambda case: [case.cell.suite],
        "model": lambda case: [case.cell.model],
        "boards": lambda case: [str(case.cell.ranks)],
        "planner": lambda case: case.planners,
    }
    groups = {}
    for name, key in keys.items():
        pairs = grouped(((value, case) for case in cases for value in key(case)), lambda pair: pair[0])
        if len(pairs) > 1:
            groups[name] = {value: [case for _, case in those] for value, those in pairs.items()}
    return groups


# The section


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
    lines = list(_error_lines(cases, sources))
    return [Section("Predicted, simulated and measured", parts, {"accuracy": _record(cases, sources)}, lines)]


def _table(cases: Sequence[Case], sources: Sequence[str]) -> Table:
    columns = [Column("error of"), Column("plans", "number")]
    for source in sources:
        columns += [Column(f"{source}: {what}", "number", percent) for what in ("median", "p90", "worst")]

    def row(name: str, those: Sequence[Case], count: int, error_of: ErrorOf = Case.error) -> tuple[Any, ...]:
        sizes = (errors(those, source, error_of) for source in sources)
        shares = [(each.median, each.p90, each.worst) if each else (None,) * 3 for each in sizes]
        return name, count, *(share for each in shares for share in each)

    rows = [row("**all**", cases, len(cases))]
    shared = errors(cases, sources[0], Case.speedup_error)
    if shared:
        rows.append(row("speed-up over one board", cases, shared.plans, Case.speedup_error))
    for key, groups in groups_of(cases).items():
        rows += [row(f"{key} {name}", those, len(those)) for name, those in groups.items()]
    return Table(columns, rows, missing="–")


def _worst_lines(cases: Sequence[Case], sources: Sequence[str]) -> Iterator[str]:
    for source in sources:
        furthest = worst(cases, source)
        if furthest:
            case, error = furthest
            times = f"{milli(case.seconds(source) or 0.0)} {source}, {milli(case.row.median_s)} ms measured"
            planners = " and ".join(f"`{planner}`" for planner in case.planners)
            yield f"Furthest off, {source}: {case.cell.name} with {planners}, {signed(error)} ({times})."


def _error_lines(cases: Sequence[Case], sources: Sequence[str]) -> Iterator[Item]:
    for source in sources:
        sizes = errors(cases, source)
        assert sizes is not None, "sources have errors"
        shares = f"median {percent(sizes.median)}, p90 {percent(sizes.p90)}, worst {percent(sizes.worst)}"
        yield f"error    {source}: {shares} over {count_of(sizes.plans, 'plan')}"


def _record(cases: Sequence[Case], sources: Sequence[str]) -> dict[str, Any]:
    def numbers(those: Sequence[Case], error_of: ErrorOf = Case.error) -> dict[str, Any]:
        sizes = {source: errors(those, source, error_of) for source in sources}
        return {source: each and asdict(each) for source, each in sizes.items()}

    groups = {"all": {"all": list(cases)}, **groups_of(cases)}
    return {
        "speedup": numbers(cases, Case.speedup_error),
        "groups": {key: {name: numbers(those) for name, those in group.items()} for key, group in groups.items()},
        "plans": [
            {
                "suite": case.cell.suite,
                **case.cell.record,
                "planners": list(case.planners),
                "measured_s": case.row.median_s,
                **{f"{source}_s": case.seconds(source) for source in sources},
            }
            for case in cases
        ],
    }


# The picture


def scatter(cases: Sequence[Case], sources: Sequence[str]) -> Draw:
    """A panel per source, a dot per case, the diagonal, and the band of ±10 % around it."""
    models = list(dict.fromkeys(case.cell.model for case in cases))
    dots: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for source, case in product(sources, cases):
        seconds = case.seconds(source)
        if seconds:
            dots.setdefault((source, case.cell.model), []).append((case.row.median_s * 1e3, seconds * 1e3))
    values = [value for pairs in dots.values() for pair in pairs for value in pair]
    least, most = min(values) / 1.1, max(values) * 1.1

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(4.9 if len(sources) > 1 else 5.4)
        styles = [dotted(*numbered(theme, index), theme) for index in range(len(models))]
        for axes, source in zip(panels(figure, len(sources), len(sources)), sources, strict=True):
            line = (least / 2, most * 2)
            below, above = ([end * (1 + share) for end in line] for share in (-BAND, BAND))
            axes.fill_between(line, below, above, color=theme.line, linewidth=0, alpha=0.6)
            axes.plot(line, line, color=theme.faint, linewidth=1)
            for model, style in zip(models, styles, strict=True):
                if (source, model) in dots:
                    axes.plot(*zip(*dots[source, model], strict=True), **style)
            log_scale(axes.xaxis, least, most)
            log_scale(axes.yaxis, least, most)
            axes.set_box_aspect(1)
            axes.set_title(source)
            axes.set_xlabel("measured (ms)")
            axes.set_ylabel(f"{source} (ms)")
        handles = [handle(style, shorten(model, 24)) for style, model in zip(styles, models, strict=True)]
        band = {"color": theme.line, "linewidth": 6}
        legend(figure, [*handles, handle(band, f"within {BAND:.0%}".replace("%", " %"))])

    return draw
