"""What more boards, and larger batches, bring: speed-ups and efficiencies, their pictures, and their sections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

from ..suite.cells import grouped
from ..suite.results import Result
from .cells import AUTO, SINGLE, Cell, Ratio, ratio
from .figure import Draw, Figure, curved, entitle, handle, legend, log_scale, numbered, panels, ticks
from .section import Folded, Part, Picture, Section
from .tables import Column, Item, Table, shorten
from .theme import Theme
from .units import count_of, milli, percent

Curves = Mapping[str, Sequence["Point"]]
"""Points over ranks, by model."""

_POINTS = (
    Column("cell"),
    Column("one board (ms)", "number", milli),
    Column("all (ms)", "number", milli),
    Column("speed-up", "number", "{:.2f}".format),
    Column("ideal", "number", "{:.3g}".format),
    Column("efficiency", "number", percent),
)

# The numbers


@dataclass(frozen=True)
class Point:
    """One planner's row held against one board."""

    cell: Cell
    row: Result
    # One board's row: ``single`` of the same cell, or else the row of one rank on the same testbed. None where neither
    # was measured.
    alone: Result | None

    @cached_property
    def speedup(self) -> Ratio | None:
        """Time on one board over time on all; None where one board was not measured."""
        return ratio(self.alone, self.row) if self.alone else None

    @property
    def ideal(self) -> float:
        """Boards, a slower one counted as the part of the root's speed that it has."""
        slowdowns = [rank.slowdown for rank in self.row.per_rank]
        return sum(slowdowns[0] / slowdown for slowdown in slowdowns) or float(self.cell.ranks)

    @property
    def efficiency(self) -> float | None:
        """Speed-up over the ideal one."""
        return self.speedup.median / self.ideal if self.speedup else None

    @property
    def per_second(self) -> float:
        """Inputs per second."""
        return self.cell.batch / self.row.median_s

    @property
    def record(self) -> dict[str, Any]:
        """The point for scripts, in seconds."""
        speedup = self.speedup
        return {
            "suite": self.cell.suite,
            **self.cell.record,
            "planner": self.row.planner,
            "median_s": self.row.median_s,
            "alone_s": self.alone.median_s if self.alone else None,
            "speedup": speedup.median if speedup else None,
            "quartiles": [speedup.low, speedup.high] if speedup else None,
            "rounds": speedup.rounds if speedup else None,
            "ideal": self.ideal,
            "efficiency": self.efficiency,
            "per_second": self.per_second,
        }


def points_of(cells: Iterable[Cell]) -> list[Point]:
    """A point per cell that has ``auto``, or else whichever planner comes first, but never ``single``."""
    cells = tuple(cells)
    ones = {cell.family: cell.rows.get(SINGLE) or cell.rows.get(AUTO) or cell.any for cell in cells if cell.ranks == 1}
    points = []
    for cell in cells:
        others = [row for planner, row in cell.rows.items() if planner != SINGLE or cell.ranks == 1]
        row = cell.rows.get(AUTO) or next(iter(others), None)
        if row is not None:
            points.append(Point(cell, row, cell.rows.get(SINGLE, ones.get(cell.family))))
    return points


def curves(points: Iterable[Point]) -> dict[tuple[str, str, int], dict[str, list[Point]]]:
    """Points over ranks: by (suite, testbed, batch) and model; only curves of several numbers of ranks."""
    known = sorted((point for point in points if point.speedup is not None), key=lambda point: point.cell.ranks)
    groups = grouped(known, lambda point: (point.cell.suite, point.cell.testbed, point.cell.batch))
    return _several({key: grouped(those, lambda point: point.cell.model) for key, those in groups.items()})


def batches(points: Iterable[Point]) -> dict[tuple[str, str, str], dict[int, list[Point]]]:
    """Points over batches: by (suite, testbed, model) and ranks; only curves of several batches."""
    ordered = sorted(points, key=lambda point: (point.cell.ranks, point.cell.batch))
    groups = grouped(ordered, lambda point: (point.cell.suite, point.cell.testbed, point.cell.model))
    return _several({key: grouped(those, lambda point: point.cell.ranks) for key, those in groups.items()})


def _several(groups: dict) -> dict:
    """Groups of curves that have several points; groups without any are left out."""
    kept = {key: {name: curve for name, curve in group.items() if len(curve) > 1} for key, group in groups.items()}
    return {key: group for key, group in kept.items() if group}


def by_ranks(points: Sequence[Point]) -> dict[tuple[str, int], list[Point]]:
    """Points of several boards with a known efficiency, by (model, ranks)."""
    known = (point for point in points if point.efficiency is not None and point.cell.ranks > 1)
    return grouped(known, lambda point: (point.cell.model, point.cell.ranks))


def _in(groups: Mapping[Any, Mapping[Any, Sequence[Point]]]) -> list[Point]:
    return [point for group in groups.values() for curve in group.values() for point in curve]


# The sections


def sections(cells: Iterable[Cell]) -> list[Section]:
    """Strong scaling, and batches; each only where there are rows."""
    points = points_of(cells)
    return [*_strong(points), *_batched(points)]


def _strong(points: Sequence[Point]) -> list[Section]:
    groups, known = curves(points), by_ranks(points)
    if not known:
        return []
    parts: list[Part] = [
        "Speed-up is the time on one board over the time on all, round by round where both were measured in one cell. "
        "Efficiency is the speed-up over the ideal one: the number of boards, a slower board counted as the part of "
        "the root's speed that it has. The table has medians over testbeds, with the least and the most.",
        _efficiency_table(known),
    ]
    if groups:
        about = "Speed-up and efficiency over the number of boards, with the ideal line"
        parts.append(Picture("scaling", about, speedups(groups)))
        parts += [_curve_table(key, group) for key, group in groups.items()]
    drawn = set(map(id, _in(groups)))
    others = [point for those in known.values() for point in those if id(point) not in drawn]
    if others:
        parts.append(Folded("Every cell that is no part of a curve", _point_table(others)))
    record = {"scaling": [point.record for point in points]}
    return [Section("Speed-up and efficiency", parts, record, list(_summary(known)))]


def _summary(known: Mapping[tuple[str, int], Sequence[Point]]) -> Iterator[Item]:
    """A line per model: on 4 boards, as papers do, and on the most."""
    for model in dict.fromkeys(model for model, _ in known):
        counts = [ranks for name, ranks in known if name == model]
        shown = sorted({*counts} & {4, max(counts)})
        told = (f"{percent(median(_efficiencies(known[model, ranks])))} on {ranks}" for ranks in shown)
        yield f"scaling  {model}: {', '.join(told)} boards, of the ideal speed-up"


def _point_table(points: Sequence[Point]) -> Table:
    rows = [
        (point.cell.name, point.alone.median_s, point.row.median_s, point.speedup.median, point.ideal, point.efficiency)
        for point in points
        if point.alone and point.speedup
    ]
    return Table(_POINTS, rows)


def _efficiency_table(known: Mapping[tuple[str, int], Sequence[Point]]) -> Table:
    counts = sorted({ranks for _, ranks in known})
    columns = [Column("model"), *(Column(f"{ranks} boards", "number", _span) for ranks in counts)]
    models = dict.fromkeys(model for model, _ in known)
    rows = [(model, *(_efficiencies(known.get((model, ranks), ())) or None for ranks in counts)) for model in models]
    return Table(columns, rows, missing="–")


def _efficiencies(points: Sequence[Point]) -> list[float]:
    return [point.efficiency for point in points if point.efficiency is not None]


def _span(shares: Sequence[float]) -> str:
    """The median of several shares, with the least and the most."""
    if len(shares) == 1:
        return percent(shares[0])
    return f"{percent(median(shares))} ({percent(min(shares))} to {percent(max(shares))})"


def _curve_table(key: tuple[str, str, int], group: Curves) -> Folded:
    _, testbed, batch = key
    counts = sorted({point.cell.ranks for points in group.values() for point in points})
    columns = [Column("model"), *(Column(f"{ranks}", "number", _in_short) for ranks in counts)]
    rows = []
    for model, points in group.items():
        at = {point.cell.ranks: point for point in points}
        rows.append((model, *map(at.get, counts)))
    title = f"{testbed}, batch {batch}: milliseconds, speed-up and efficiency by the number of boards"
    return Folded(title, Table(columns, rows, missing="–"))


def _in_short(point: Point) -> str:
    assert point.speedup is not None and point.efficiency is not None, "curves are of points with a speed-up"
    return f"{milli(point.row.median_s)}<br>×{point.speedup.median:.2f}<br>{percent(point.efficiency)}"


def _batched(points: Sequence[Point]) -> list[Section]:
    groups = batches(points)
    if not groups:
        return []
    sizes = sorted({point.cell.batch for point in _in(groups)})
    columns = [Column("cells"), *(Column(f"batch {size}", "number", "{:.4g}".format) for size in sizes)]
    rows = []
    for (_, testbed, model), group in groups.items():
        for ranks, those in group.items():
            at = {point.cell.batch: point.per_second for point in those}
            rows.append((f"{model} on {testbed}, boards: {ranks}", *map(at.get, sizes)))
    parts: list[Part] = [
        "Inputs per second: the batch over the time of a request.",
        Picture("batches", "Inputs per second over the batch", batch_rates(groups)),
        Table(columns, rows, missing="–"),
    ]
    return [Section("Batches", parts, {"batches": [point.record for point in _in(groups)]})]


# The pictures


def speedups(groups: Mapping[tuple[str, str, int], Curves]) -> Draw:
    """For every testbed and batch two panels: speed-up and efficiency over ranks, a curve per model."""
    models = list(dict.fromkeys(model for curves in groups.values() for model in curves))

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(0.9 + 2.9 * len(groups))
        styles = {model: curved(*numbered(theme, index), theme) for index, model in enumerate(models)}
        ideal = {"color": theme.faint, "linestyle": (0, (4, 3)), "linewidth": 1.2}
        placed = iter(panels(figure, 2 * len(groups), 2))
        for (_, testbed, batch), curves in groups.items():
            left, right = next(placed), next(placed)
            ends = sorted({(point.cell.ranks, point.ideal) for points in curves.values() for point in points})
            left.plot(*zip(*ends, strict=True), **ideal)  # equal boards give the diagonal
            for model, points in curves.items():
                _curve(left, points, [1.0] * len(points), styles[model])
                _curve(right, points, [100 / point.ideal for point in points], styles[model])
            counts = sorted({ranks for ranks, _ in ends})
            labels = {"speed-up": "times faster than one board", "efficiency": "speed-up over the ideal (%)"}
            for axes, (what, label) in zip((left, right), labels.items(), strict=True):
                ticks(axes.xaxis, counts, [str(count) for count in counts])
                entitle(axes, (testbed + (f", batch {batch}" if batch > 1 else ""),), 3.6, f": {what}")
                axes.set_xlabel("boards")
                axes.set_ylabel(label)
            right.set_ylim(0, max(105.0, right.get_ylim()[1]))
            right.axhline(100, **ideal)
            left.set_ylim(bottom=0)
        handles = [handle(style, shorten(model, 24)) for model, style in styles.items()]
        legend(figure, [*handles, handle(ideal, "ideal")])

    return draw


def _curve(axes: Any, points: Sequence[Point], scale: Sequence[float], style: Mapping[str, Any]) -> None:
    """One model's speed-ups, each times its scale, with quartiles where the rounds tell them."""
    ranks = [point.cell.ranks for point in points]
    medians, lows, highs = (
        [getattr(point.speedup, end) * factor for point, factor in zip(points, scale, strict=True)]
        for end in ("median", "low", "high")
    )
    axes.vlines(ranks, lows, highs, color=style["color"], linewidth=1)
    axes.plot(ranks, medians, **style)


def batch_rates(groups: Mapping[tuple[str, str, str], Mapping[int, Sequence[Point]]]) -> Draw:
    """A panel per model and testbed: inputs per second over the batch, a curve per number of ranks."""
    counts = sorted({ranks for curves in groups.values() for ranks in curves})
    across = min(2, len(groups))

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(0.9 + 2.6 * -(-len(groups) // across))
        styles = {ranks: curved(*numbered(theme, index), theme) for index, ranks in enumerate(counts)}
        placed = panels(figure, len(groups), across)
        for axes, ((_, testbed, model), curves) in zip(placed, groups.items(), strict=True):
            for ranks, points in curves.items():
                rates = [(point.cell.batch, point.per_second) for point in points]
                axes.plot(*zip(*rates, strict=True), **styles[ranks])
            everything = [point for points in curves.values() for point in points]
            sizes = sorted({point.cell.batch for point in everything})
            log_scale(axes.xaxis, sizes[0], sizes[-1])
            ticks(axes.xaxis, sizes, [str(size) for size in sizes])
            axes.set_ylim(0, 1.1 * max(point.per_second for point in everything))
            entitle(axes, (model, testbed), 7.6 / across - 0.2)
            axes.set_xlabel("batch")
            axes.set_ylabel("inputs per second")
        legend(figure, [handle(style, count_of(ranks, "board")) for ranks, style in styles.items()])

    return draw
