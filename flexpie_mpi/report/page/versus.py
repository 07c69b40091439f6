"""Planners side by side: scores, gains of ``auto``, where it falls behind, and every cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..plots.planners import MOST, by_cell, overview
from ..results.cells import AUTO, FIXED, SEARCHED, Cell, by_model, geometric_mean, is_cnn, planners_in
from ..results.versus import BEHIND, Gain, Summary, Versus, gain_record, relative, summary
from ..tables import Column, Item, Table
from ..units import count_of, milli, percent, signed
from .section import Folded, Part, Picture, Section

PAPER_FIXED, PAPER_SEARCHED = 1.16, 1.08
"""Geometric means of the gains in FlexPie, section 5, over 18 cells of CNNs on 4 boards."""

_GAINS = (
    Column("cells of"),
    Column("cells", "number"),
    Column("over the best fixed layout", "number"),
    Column("over the better of layerwise and fused", "number"),
    Column("over the best of all others", "number"),
)


def sections(cells: Iterable[Cell]) -> list[Section]:
    """A section per suite that compares planners."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.is_comparison:
            found.setdefault(cell.suite, []).append(cell)
    is_one = len(found) == 1
    return [_section(suite, Versus(those), is_one) for suite, those in found.items()]


def _section(suite: str, versus: Versus, is_one: bool) -> Section:
    prefix = "" if is_one else f"{stem_of(suite)}-"
    heading = "Planners side by side" + ("" if is_one else f": {suite}")
    parts: list[Part] = [
        "What every planner's plan took, over what the best one's took in the same cell.",
        Picture(f"{prefix}planners", "Time of every planner over the best one's, in every cell", overview(versus)),
        "The score of the FlexPie paper: the best planner's time over a planner's own, the mean over cells; 1 is best.",
        _score_table(versus),
    ]
    if versus.over_all:
        parts += [*_gain_parts(versus), "\n".join(f"- {line}" for line in _verdicts(versus))]
    edge = f" What took {MOST:g} times as long or longer is drawn at the right edge; the tables have the numbers."
    parts += [
        "Cell by cell, with quartiles where there is room for them." + edge,
        Picture(f"{prefix}cells", "Time of every planner over the best one's, cell by cell", by_cell(versus.cells)),
        *_cell_parts(versus),
    ]
    return Section(heading, parts, {"planners": {suite: _record(versus)}}, _summary(suite, versus))


def stem_of(name: str) -> str:
    """A name as part of a file's.

    >>> stem_of("my suite/2")
    'my-suite-2'
    """
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)


def _score_table(versus: Versus) -> Table:
    rows = []
    for name, cells in versus.groups.items():
        scores = [versus.score(planner, cells) for planner in versus.planners]
        best = max(score for score in scores if score is not None)
        rows.append([name, str(len(cells)), *(_bold(score, score == best) for score in scores)])
    heads = [Column("cells of"), Column("cells", "number")]
    return Table((*heads, *(Column(planner, "number") for planner in versus.planners)), tuple(rows))


def _bold(score: float | None, is_best: bool) -> str:
    if score is None:
        return "–"
    return f"**{score:.2f}**" if is_best else f"{score:.2f}"


def _gain_parts(versus: Versus) -> list[Part]:
    kinds = (versus.over_fixed, versus.over_searched, versus.over_all)
    rows = []
    for name, cells in versus.groups.items():
        found = [summary(gains, cells) for gains in kinds]
        rows.append([name, str(len(cells)), *map(_span, found)])
    paper = ["FlexPie, section 5 (CNNs, 4 boards)", "18", f"{PAPER_FIXED}", f"{PAPER_SEARCHED}", ""]
    about = (
        "What `auto` gains: how many times longer others took, as a geometric mean over cells, with the least and the "
        f"most of any cell. The fixed layouts are {', '.join(FIXED)}; the best of those that took part counts in each "
        "cell."
    )
    return [about, Table(_GAINS, (*rows, paper))]


def _span(found: Summary | None) -> str:
    return f"{found.mean:.3f} ({found.least:.2f} to {found.most:.2f})" if found else "–"


def _verdicts(versus: Versus) -> list[str]:
    """Plain sentences: the worst cell, and every one in which ``auto`` is behind."""
    worst = versus.worst
    assert worst is not None, "there are gains"
    lines = [f"Worst cell of `auto`: {_against(worst)}."]
    count = count_of(len(versus.over_all), "cell")
    how_far = f"`auto` was more than {percent(BEHIND)} slower than the best of all others"
    lines.append(f"{how_far} in {len(versus.behind)} of {count}{':' if versus.behind else '.'}")
    return lines + [f"{_against(gain)}." for gain in versus.behind]


def _against(gain: Gain) -> str:
    """One cell in words."""
    cell, found = gain.cell, gain.ratio
    mine, other = cell.rows[AUTO], cell.rows[gain.other]
    slower = 1 / found.median - 1
    told = f"{percent(abs(slower))} {'slower' if slower > 0 else 'faster'} than `{gain.other}`"
    times = f"medians {milli(mine.median_s)} and {milli(other.median_s)} ms"
    if mine.plan_digest == other.plan_digest:
        return f"{cell.name}: as fast as `{gain.other}`, which found the same plan ({milli(mine.median_s)} ms)"
    if not found.rounds:
        return f"{cell.name}: {told} ({times}, which were not measured together)"
    quartiles = f"{signed(1 / found.high - 1)} to {signed(1 / found.low - 1)}"
    return f"{cell.name}: {told} round by round (quartiles {quartiles}; {times})"


def _cell_parts(versus: Versus) -> list[Part]:
    """A table per model: the time of ``auto``, or else of the best, and all planners over the best one."""
    parts: list[Part] = []
    for model, cells in by_model(versus.cells).items():
        planners = planners_in(cells)
        whose = AUTO if AUTO in planners else "best"
        heads = [Column("cell"), Column(f"{whose} (ms)", "number"), *(Column(name, "number") for name in planners)]
        rows = [[cell.place, _time(cell, whose), *(_relative(cell, name) for name in planners)] for cell in cells]
        title = f"{model}: {count_of(len(cells), 'cell')}, times over the best one's"
        parts.append(Folded(title, (Table(tuple(heads), tuple(rows)),)))
    return parts


def _time(cell: Cell, whose: str) -> str:
    row = cell.rows.get(whose) if whose == AUTO else cell.best
    return milli(row.median_s) if row else "–"


def _relative(cell: Cell, planner: str) -> str:
    if planner not in cell.rows:
        return "–"
    found = relative(cell, planner).median
    is_best = cell.rows[planner].median_s == cell.best.median_s
    return f"**{found:.2f}**" if is_best else f"{found:.2f}"


def _record(versus: Versus) -> dict[str, Any]:
    kinds = {"over_fixed": versus.over_fixed, "over_searched": versus.over_searched, "over_all": versus.over_all}
    groups = {}
    for name, cells in versus.groups.items():
        gains = {kind: summary(found, cells) for kind, found in kinds.items()}
        groups[name] = {
            "cells": len(cells),
            "scores": {planner: versus.score(planner, cells) for planner in versus.planners},
            "gains": {kind: _summary_record(found) for kind, found in gains.items()},
        }
    paper = {"over_fixed": PAPER_FIXED, "over_searched": PAPER_SEARCHED, "cells": 18}
    return {
        "groups": groups,
        "paper": paper,
        "gains": {kind: [dict(gain_record(gain)) for gain in found] for kind, found in kinds.items()},
        "behind": [dict(gain_record(gain)) for gain in versus.behind],
        "cells": [_cell_record(cell) for cell in versus.cells],
    }


def _summary_record(found: Summary | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"cells": found.cells, "mean": found.mean, "least": found.least, "most": found.most}


def _cell_record(cell: Cell) -> dict[str, Any]:
    return {
        "model": cell.model,
        "batch": cell.batch,
        "testbed": cell.testbed,
        "ranks": cell.ranks,
        "best": cell.best.planner,
        "planners": {planner: _row_record(cell, planner) for planner in cell.rows},
    }


def _row_record(cell: Cell, planner: str) -> dict[str, Any]:
    row, found = cell.rows[planner], relative(cell, planner)
    return {
        "median_s": row.median_s,
        "quartiles_s": list(row.quartiles_s),
        "relative": found.median,
        "relative_quartiles": [found.low, found.high],
        "rounds": found.rounds,
        "plan_digest": row.plan_digest,
    }


def _summary(suite: str, versus: Versus) -> list[Item]:
    """A line for the terminal per question that the issue of planners asks."""
    lines: list[Item] = [f"planners {suite}: {count_of(len(versus.cells), 'cell')}, {', '.join(versus.planners)}"]
    if not versus.over_all:
        return lines
    cnns: Sequence[Cell] = [cell for cell in versus.cells if is_cnn(cell.model)] or versus.cells
    whose = "CNNs" if any(is_cnn(cell.model) for cell in versus.cells) else "all cells"
    for name, gains, paper in (
        ("the best fixed layout", versus.over_fixed, PAPER_FIXED),
        (f"the better of {' and '.join(SEARCHED)}", versus.over_searched, PAPER_SEARCHED),
    ):
        found = summary(gains, cnns)
        if found:
            lines.append(f"gain     {found.mean:.3f} over {name} on {whose} (the paper: {paper})")
    worst = versus.worst
    assert worst is not None, "there are gains"
    lines.append(f"worst    {_against(worst)}".replace("`", ""))
    if versus.behind:
        cells = count_of(len(versus.behind), "cell")
        lines.append(f"behind   auto is more than {percent(BEHIND)} slower than the best of all others in {cells}")
    mean = geometric_mean([gain.ratio.median for gain in versus.over_all])
    lines.append(f"overall  {mean:.3f} over the best of all others in each cell")
    return lines
