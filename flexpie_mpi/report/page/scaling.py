"""What more boards, and larger batches, bring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from ..plots.scaling import batch_rates, speedups
from ..results.cells import Cell
from ..results.scaling import Point, batches, by_ranks, curves, points_of
from ..tables import Column, Item, Table
from ..units import milli, percent
from .section import Folded, Part, Picture, Section

_POINTS = (
    Column("cell"),
    Column("one board (ms)", "number"),
    Column("all (ms)", "number"),
    Column("speed-up", "number"),
    Column("ideal", "number"),
    Column("efficiency", "number"),
)


def sections(cells: Iterable[Cell]) -> list[Section]:
    """Strong scaling, and batches; each only where there are rows."""
    points = points_of(cells)
    return [*_strong(points), *_batched(points)]


def _strong(points: Sequence[Point]) -> list[Section]:
    groups, found = curves(points), by_ranks(points)
    if not found:
        return []
    parts: list[Part] = [
        "Speed-up is the time on one board over the time on all, round by round where both were measured in one cell. "
        "Efficiency is the speed-up over the ideal one: the number of boards, a slower board counted as the part of "
        "the root's speed that it has. The table has medians over testbeds, with the least and the most.",
        _efficiency_table(found),
    ]
    if groups:
        about = "Speed-up and efficiency over the number of boards, with the ideal line"
        parts.append(Picture("scaling", about, speedups(groups)))
        parts += [_curve_table(key, group) for key, group in groups.items()]
    drawn = {id(point) for group in groups.values() for those in group.values() for point in those}
    others = [point for those in found.values() for point in those if id(point) not in drawn]
    if others:
        parts.append(Folded("Every cell that is no part of a curve", (_point_table(others),)))
    record = {"scaling": [_point_record(point) for point in points]}
    return [Section("Speed-up and efficiency", parts, record, _summary(found))]


def _summary(found: Mapping[tuple[str, int], Sequence[Point]]) -> list[Item]:
    """A line per model: on 4 boards, as papers do, and on the most."""
    lines: list[Item] = []
    for model in dict.fromkeys(model for model, _ in found):
        counts = [ranks for name, ranks in found if name == model]
        shown = sorted({*counts} & {4, max(counts)})
        told = (f"{percent(median(_efficiencies(found[model, ranks])))} on {ranks}" for ranks in shown)
        lines.append(f"scaling  {model}: {', '.join(told)} boards, of the ideal speed-up")
    return lines


def _point_table(points: Sequence[Point]) -> Table:
    rows = [
        [point.cell.name, milli(point.alone.median_s), milli(point.row.median_s), f"{point.speedup.median:.2f}",
         f"{point.ideal:.3g}", percent(point.efficiency)]
        for point in points
        if point.alone and point.speedup and point.efficiency is not None
    ]  # fmt: skip
    return Table(_POINTS, tuple(rows))


def _efficiency_table(found: Mapping[tuple[str, int], Sequence[Point]]) -> Table:
    counts = sorted({ranks for _, ranks in found})
    models = list(dict.fromkeys(model for model, _ in found))
    rows = [[model, *(_efficiency(found.get((model, ranks), ())) for ranks in counts)] for model in models]
    heads = [Column("model"), *(Column(f"{ranks} boards", "number") for ranks in counts)]
    return Table(tuple(heads), tuple(rows))


def _efficiency(points: Sequence[Point]) -> str:
    shares = _efficiencies(points)
    if not shares:
        return "–"
    if len(shares) == 1:
        return percent(shares[0])
    return f"{percent(median(shares))} ({percent(min(shares))} to {percent(max(shares))})"


def _efficiencies(points: Sequence[Point]) -> list[float]:
    return [point.efficiency for point in points if point.efficiency is not None]


def _curve_table(key: tuple[str, str, int], group: Mapping[str, Sequence[Point]]) -> Folded:
    _, testbed, batch = key
    counts = sorted({point.cell.ranks for points in group.values() for point in points})
    rows = []
    for model, points in group.items():
        at = {point.cell.ranks: point for point in points}
        rows.append([model, *(_speedup(at.get(ranks)) for ranks in counts)])
    heads = [Column("model"), *(Column(f"{ranks}", "number") for ranks in counts)]
    title = f"{testbed}, batch {batch}: milliseconds, speed-up and efficiency by the number of boards"
    return Folded(title, (Table(tuple(heads), tuple(rows)),))


def _speedup(point: Point | None) -> str:
    if point is None or point.speedup is None or point.efficiency is None:
        return "–"
    return f"{milli(point.row.median_s)}<br>×{point.speedup.median:.2f}<br>{percent(point.efficiency)}"


def _batched(points: Sequence[Point]) -> list[Section]:
    groups = batches(points)
    if not groups:
        return []
    sizes = sorted({point.cell.batch for group in groups.values() for those in group.values() for point in those})
    heads = [Column("cells"), *(Column(f"batch {size}", "number") for size in sizes)]
    rows = []
    for (_, testbed, model), group in groups.items():
        for ranks, those in group.items():
            at = {point.cell.batch: f"{point.per_second:.4g}" for point in those}
            rows.append([f"{model} on {testbed}, boards: {ranks}", *(at.get(size, "–") for size in sizes)])
    picture = Picture("batches", "Inputs per second over the batch", batch_rates(groups))
    parts: list[Part] = ["Inputs per second: the batch over the time of a request.", picture]
    parts.append(Table(tuple(heads), tuple(rows)))
    points_record = [_point_record(point) for group in groups.values() for those in group.values() for point in those]
    return [Section("Batches", parts, {"batches": points_record})]


def _point_record(point: Point) -> dict[str, Any]:
    cell, speedup = point.cell, point.speedup
    return {
        "suite": cell.suite,
        "model": cell.model,
        "batch": cell.batch,
        "testbed": cell.testbed,
        "ranks": cell.ranks,
        "planner": point.row.planner,
        "median_s": point.row.median_s,
        "alone_s": point.alone.median_s if point.alone else None,
        "speedup": speedup.median if speedup else None,
        "quartiles": [speedup.low, speedup.high] if speedup else None,
        "rounds": speedup.rounds if speedup else None,
        "ideal": point.ideal,
        "efficiency": point.efficiency,
        "per_second": point.per_second,
    }
