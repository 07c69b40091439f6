"""Planners side by side: a section with their scores, the gains of ``auto`` and every cell, and its pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import geometric_mean
from typing import Any

from ..suite.cells import grouped
from .cells import AUTO, FIXED, SEARCHED, Cell, Ratio, by_model, is_cnn, planners_in
from .figure import Draw, Figure, dotted, entitle, handle, legend, numbered, panels, ratio_scale
from .gains import BEHIND, Gain, Summary, Versus, relative, summary
from .section import Folded, Part, Picture, Section
from .tables import Column, Item, Table, shorten
from .theme import Theme, mark
from .units import count_of, milli, percent

PAPER_FIXED, PAPER_SEARCHED = 1.16, 1.08
"""Geometric means of the gains in FlexPie, section 5, over 18 cells of CNNs on 4 boards."""

ROOMY = 12
"""Pictures of up to so many cells have a lane for every planner, and quartiles."""

MOST = 2.0
"""Longer times, relative to the best one's, are drawn at the edge of a panel, so that the others can be told apart."""


# The section


def sections(cells: Iterable[Cell]) -> list[Section]:
    """A section per suite that compares planners."""
    suites = grouped((cell for cell in cells if cell.is_comparison), lambda cell: cell.suite)
    return [_section(suite, Versus(those), is_one=len(suites) == 1) for suite, those in suites.items()]


def _section(suite: str, versus: Versus, *, is_one: bool) -> Section:
    prefix = "" if is_one else f"{stem_of(suite)}-"
    heading = "Planners side by side" + ("" if is_one else f": {suite}")
    parts: list[Part] = [
        "What every planner's plan took, over what the best one's took in the same cell.",
        Picture(f"{prefix}planners", "Time of every planner over the best one's, in every cell", overview(versus)),
        "The score of the FlexPie paper: the best planner's time over a planner's own, the mean over cells; 1 is best.",
        _score_table(versus),
    ]
    if versus.worst:
        parts += [*_gain_parts(versus), _verdicts(versus, versus.worst)]
    edge = f" What took {MOST:g} times as long or longer is drawn at the right edge; the tables have the numbers."
    parts += [
        "Cell by cell, with quartiles where there is room for them." + edge,
        Picture(f"{prefix}cells", "Time of every planner over the best one's, cell by cell", by_cell(versus.cells)),
        *_cell_parts(versus),
    ]
    return Section(heading, parts, {"planners": {suite: _record(versus)}}, list(_lines(suite, versus)))


def stem_of(name: str) -> str:
    """A name as part of a file's.

    >>> stem_of("my suite/2")
    'my-suite-2'
    """
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)


def _bold(number: float | None, is_best: bool) -> str | None:
    return None if number is None else f"**{number:.2f}**" if is_best else f"{number:.2f}"


def _score_table(versus: Versus) -> Table:
    rows = []
    for name, cells in versus.groups.items():
        scores = [versus.score(planner, cells) for planner in versus.planners]
        best = max(score for score in scores if score is not None)
        rows.append((name, len(cells), *(_bold(score, score == best) for score in scores)))
    planners = (Column(planner, "number") for planner in versus.planners)
    return Table((Column("cells of"), Column("cells", "number"), *planners), rows, missing="–")


def _gain_parts(versus: Versus) -> list[Part]:
    def shown(gains: Summary) -> str:
        return f"{gains.mean:.3f} ({gains.least:.2f} to {gains.most:.2f})"

    heads = ("over the best fixed layout", "over the better of layerwise and fused", "over the best of all others")
    columns = [Column("cells of"), Column("cells", "number"), *(Column(head, "number", shown) for head in heads)]
    rows = [
        (name, len(cells), *(summary(gains, cells) for gains in versus.gains.values()))
        for name, cells in versus.groups.items()
    ]
    paper = ("FlexPie, section 5 (CNNs, 4 boards)", 18, f"{PAPER_FIXED}", f"{PAPER_SEARCHED}", "")
    about = (
        "What `auto` gains: how many times longer others took, as a geometric mean over cells, with the least and the "
        f"most of any cell. The fixed layouts are {', '.join(FIXED)}; the best of those that took part counts in each "
        "cell."
    )
    return [about, Table(columns, [*rows, paper], missing="–")]


def _verdicts(versus: Versus, worst: Gain) -> str:
    """A list of plain sentences: the worst cell, and every one in which ``auto`` is behind."""
    count = count_of(len(versus.gains["over_all"]), "cell")
    how_far = f"`auto` was more than {percent(BEHIND)} slower than the best of all others"
    head = f"{how_far} in {len(versus.behind)} of {count}{':' if versus.behind else '.'}"
    lines = (f"Worst cell of `auto`: {worst.words}.", head, *(f"{gain.words}." for gain in versus.behind))
    return "\n".join(f"- {line}" for line in lines)


def _cell_parts(versus: Versus) -> list[Part]:
    """A table per model: the time of ``auto``, or else of the best, and all planners over the best one."""
    parts: list[Part] = []
    for model, cells in by_model(versus.cells).items():
        planners = planners_in(cells)
        whose = AUTO if AUTO in planners else "best"
        columns = [Column("cell"), Column(f"{whose} (ms)", "number", lambda row: milli(row.median_s))]
        columns += [Column(planner, "number") for planner in planners]
        rows = []
        for cell in cells:
            shown = (_relative(cell, planner) for planner in planners)
            rows.append((cell.where, cell.rows.get(AUTO) if whose == AUTO else cell.best, *shown))
        title = f"{model}: {count_of(len(cells), 'cell')}, times over the best one's"
        parts.append(Folded(title, Table(columns, rows, missing="–")))
    return parts


def _relative(cell: Cell, planner: str) -> str | None:
    if planner not in cell.rows:
        return None
    return _bold(relative(cell, planner).median, cell.rows[planner].median_s == cell.best.median_s)


def _record(versus: Versus) -> dict[str, Any]:
    groups = {}
    for name, cells in versus.groups.items():
        summaries = {kind: summary(gains, cells) for kind, gains in versus.gains.items()}
        groups[name] = {
            "cells": len(cells),
            "scores": {planner: versus.score(planner, cells) for planner in versus.planners},
            "gains": {kind: each and asdict(each) for kind, each in summaries.items()},
        }
    return {
        "groups": groups,
        "paper": {"over_fixed": PAPER_FIXED, "over_searched": PAPER_SEARCHED, "cells": 18},
        "gains": {kind: [gain.record for gain in gains] for kind, gains in versus.gains.items()},
        "behind": [gain.record for gain in versus.behind],
        "cells": [
            {
                **cell.record,
                "best": cell.best.planner,
                "planners": {planner: _row_record(cell, planner) for planner in cell.rows},
            }
            for cell in versus.cells
        ],
    }


def _row_record(cell: Cell, planner: str) -> dict[str, Any]:
    row, time = cell.rows[planner], relative(cell, planner)
    return {
        "median_s": row.median_s,
        "quartiles_s": list(row.quartiles_s),
        "relative": time.median,
        "relative_quartiles": [time.low, time.high],
        "rounds": time.rounds,
        "plan_digest": row.plan_digest,
    }


def _lines(suite: str, versus: Versus) -> Iterator[Item]:
    """A line for the terminal per question that one has of planners."""
    yield f"planners {suite}: {count_of(len(versus.cells), 'cell')}, {', '.join(versus.planners)}"
    if versus.worst is None:
        return
    cnns = [cell for cell in versus.cells if is_cnn(cell.model)]
    for name, kind, paper in (
        ("the best fixed layout", "over_fixed", PAPER_FIXED),
        (f"the better of {' and '.join(SEARCHED)}", "over_searched", PAPER_SEARCHED),
    ):
        gained = summary(versus.gains[kind], cnns or versus.cells)
        if gained:
            yield f"gain     {gained.mean:.3f} over {name} on {'CNNs' if cnns else 'all cells'} (the paper: {paper})"
    yield f"worst    {versus.worst.words}".replace("`", "")
    if versus.behind:
        cells = count_of(len(versus.behind), "cell")
        yield f"behind   auto is more than {percent(BEHIND)} slower than the best of all others in {cells}"
    mean = geometric_mean([gain.ratio.median for gain in versus.gains["over_all"]])
    yield f"overall  {mean:.3f} over the best of all others in each cell"


# The pictures


def overview(versus: Versus) -> Draw:
    """A line per planner, the best mean first: its time over the best one's in every cell, and the mean of these."""
    models = list(by_model(versus.cells))
    times = {
        planner: [(cell.model, relative(cell, planner).median) for cell in versus.cells if planner in cell.rows]
        for planner in versus.planners
    }
    means = {planner: geometric_mean([value for _, value in pairs]) for planner, pairs in times.items()}
    order = sorted(times, key=lambda planner: means[planner])
    values = [value for pairs in times.values() for _, value in pairs]

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(1.2 + len(order) * max(0.34, 0.09 * len(models)))
        axes = figure.subplots()
        handles = []
        for index, model in enumerate(models):
            lift = ((index + 0.5) / len(models) - 0.5) * 0.78
            dots = [(value, line + lift) for line, name in enumerate(order) for of, value in times[name] if of == model]
            style = dotted(*numbered(theme, index), theme)
            axes.plot(*zip(*dots, strict=True), **style)
            handles.append(handle(style, shorten(model, 24)))
        for line, name in enumerate(order):
            axes.plot([means[name]] * 2, [line - 0.45, line + 0.45], color=theme.ink, linewidth=2, zorder=1.5)
            axes.annotate(  # at the right of the line, outside of the data
                f"{means[name]:.2f}", (1.0, line), xycoords=("axes fraction", "data"), xytext=(4, 0),
                textcoords="offset points", va="center", color=theme.ink, fontsize=8, annotation_clip=False,
            )  # fmt: skip
        ratio_scale(axes, min(values), max(values), 6.8)
        axes.set_yticks(range(len(order)), labels=order)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("time over the best planner's of the same cell: a dot per cell; the line is the geometric mean")
        legend(figure, handles)

    return draw


def by_cell(cells: Sequence[Cell]) -> Draw:
    """A panel per model with a line per cell, and on it every planner's time over the best one's."""
    models, planners = by_model(cells), planners_in(cells)
    lanes = planners if len(cells) <= ROOMY else []
    times = {(id(cell), planner): relative(cell, planner) for cell in cells for planner in cell.rows}
    least, most = min(time.low for time in times.values()), max(time.high for time in times.values())
    across = min(2, len(models))
    line = 0.12 + 0.075 * len(lanes) if lanes else 0.19
    rows = [list(models.values())[first : first + across] for first in range(0, len(models), across)]
    heights = [0.6 + line * max(map(len, row)) for row in rows]
    title, label, scale = (7.0, 40, 7.0) if across == 1 else (2.5, 24, 2.9)

    def draw(figure: Figure, theme: Theme) -> None:
        figure.set_figheight(0.75 + sum(heights))
        styles = {
            planner: dotted(theme.planner(planner), mark(planner), theme, 6 if planner == AUTO else 5)
            for planner in planners
        }
        placed = panels(figure, len(models), across, height_ratios=heights)
        for axes, (model, those) in zip(placed, models.items(), strict=True):
            for planner in reversed(planners):  # auto lies on top
                dots = [(times[id(cell), planner], at) for at, cell in enumerate(those) if planner in cell.rows]
                if dots:
                    lift = (lanes.index(planner) + 0.5) / len(lanes) * 0.84 - 0.42 if lanes else 0.0
                    _draw_planner(axes, dots, lift, styles[planner])
            ratio_scale(axes, least, min(most, MOST), scale, is_cut=most > MOST)
            axes.set_yticks(range(len(those)), labels=_labels(those, cells, label))
            axes.set_ylim(len(those) - 0.4, -0.6)
            entitle(axes, (model,), title)
            if lanes:
                axes.grid(visible=False, axis="y")
                for at in range(len(those) - 1):
                    axes.axhline(at + 0.5, color=theme.line, linewidth=0.6)
        figure.supxlabel("time over the best planner's of the same cell", fontsize=9, color=theme.faint)
        legend(figure, [handle(style, planner) for planner, style in styles.items()])

    return draw


def _draw_planner(axes: Any, dots: Sequence[tuple[Ratio, int]], lift: float, style: Mapping[str, Any]) -> None:
    """Dots of one planner in one panel; with quartiles where it has a lane of its own, `lift` from the cell's line."""
    lines = [at + lift for _, at in dots]
    if lift:
        lows, highs = ([min(getattr(time, end), MOST) for time, _ in dots] for end in ("low", "high"))
        axes.hlines(lines, lows, highs, color=style["color"], linewidth=1)
    axes.plot([min(time.median, MOST) for time, _ in dots], lines, **style, clip_on=False)


def _labels(cells: Sequence[Cell], every: Sequence[Cell], width: int) -> list[str]:
    """Testbeds, with boards and batch where one testbed has cells of several."""
    boards = {(cell.testbed, cell.ranks) for cell in every}
    is_sized = len(boards) > len({testbed for testbed, _ in boards})
    is_batched = len({cell.batch for cell in every}) > 1
    return [
        shorten(cell.testbed + f" · {cell.ranks}" * is_sized + f" · batch {cell.batch}" * is_batched, width)
        for cell in cells
    ]
