"""The page about trials of placements."""

from __future__ import annotations

from collections.abc import Sequence

import paper
import varied
from ratios import RATIO_ABOUT, CellResults, beaten, by_study, cells_of, effort, effort_text, solvers_in
from trials import Trial

from flexpie_mpi.core.errors import ReportError
from flexpie_mpi.report.page import Page
from flexpie_mpi.report.section import Part, Section
from flexpie_mpi.report.tables import Column, Item, Table
from flexpie_mpi.report.units import count_of, ranges

PAPER = "paper"


def make_page(trials: Sequence[Trial], sources: Sequence[str]) -> Page:
    """The page about trials.

    Parameters
    ----------
    trials : sequence of Trial
    sources : sequence of str
        The files they came from, as a reader knows them.

    Raises
    ------
    ReportError
        When there are none.
    """
    cells = cells_of(trials)
    if not cells:
        raise ReportError(f"there are no trials in {', '.join(sources)}, so there is nothing to report")
    sections = [_made(cells, sources)]
    for study, those in by_study(cells).items():
        sections += paper.sections(those) if study == PAPER else varied.sections(study, those)
    return Page("Placements", (*sections, _apart(cells), _efforts(cells)))


def _made(cells: Sequence[CellResults], sources: Sequence[str]) -> Section:
    trials = [trial for cell in cells for trial in cell.trials]
    days = sorted({trial.date[:10] for trial in trials})
    versions = {f"{name} {number}" for trial in trials for name, number in trial.versions.items()}
    counts = ranges(sorted({len(cell.trials) for cell in cells})).replace(",", " or ")
    facts = {
        "studies": ", ".join(by_study(cells)),
        "solvers": ", ".join(solvers_in(cells)),
        "made": f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, on {', '.join({it.machine for it in trials})}",
        "versions": ", ".join(sorted(versions)),
        "trials": f"{len(trials)} in {count_of(len(cells), 'cell')}, {counts} in each, from {', '.join(sources)}",
    }
    about = (
        "A placement cuts a network into stages, each on a board of its own, and its bottleneck is the longest that "
        "any board computes or any link is busy for one request. Boards are points in a square of 149 by 149, drawn "
        "from the trial's seed and the same for all solvers, networks, memories and accountings; a link of length d "
        "has log2(1 + 283230 / d²) Mbit/s, and every pair of boards one of its own. Where one board holds the whole "
        "network nothing is sent, and such trials are counted apart, as are those in which a solver finds nothing; "
        "neither is part of any mean."
    )
    parts: list[Part] = ["\n".join(f"- {name}: {text}" for name, text in facts.items()), about, RATIO_ABOUT]
    record = {"sources": list(sources), "trials": len(trials), "cells": len(cells), "dates": days}
    worse = beaten(trials)
    summary: list[Item] = [
        f"trials   {len(trials)} in {count_of(len(cells), 'cell')}",
        f"exact    is worse than another solver in {len(worse)} of {count_of(len(trials), 'trial')}",
    ]
    return Section("What was done", parts, {"made": record}, summary)


def _apart(cells: Sequence[CellResults]) -> Section:
    """Trials that no ratio speaks of."""
    solvers = solvers_in(cells)
    rows: dict[tuple[str, ...], list[str]] = {}
    for cell in cells:
        counts = (len(cell.alone), len(cell.unplaced), *(cell.failures(solver) for solver in solvers))
        if any(counts):
            alike = (cell.study, cell.accounting, cell.model, cell.size, *map(str, (len(cell.trials), *counts)))
            rows.setdefault(alike, []).append(str(cell.boards))
    heads = (
        Column("study"), Column("bytes"), Column("network"), Column("MiB", "number"), Column("boards", "number"),
        Column("trials", "number"), Column("one board does", "number"), Column("nobody finds any", "number"),
        *(Column(f"{solver} finds none", "number") for solver in solvers),
    )  # fmt: skip
    table = tuple([*alike[:4], ", ".join(boards), *alike[4:]] for alike, boards in rows.items())
    about = (
        "Trials in which one board holds all, in which no solver found a placement, and in which a solver found none "
        "although another one did; numbers are of each cell. Cells that are not listed have neither."
    )
    return Section("Counted apart", [about, Table(heads, table)] if table else ["There is nothing to count."], {})


def _efforts(cells: Sequence[CellResults]) -> Section:
    solvers = solvers_in(cells)
    rows = []
    for study, those in by_study(cells).items():
        for boards in sorted({cell.boards for cell in those}):
            trials = [trial for cell in those if cell.boards == boards for trial in cell.compared]
            if trials:
                rows.append([study, str(boards), *(effort_text(effort(trials, solver)) for solver in solvers)])
    heads = (Column("study"), Column("boards", "number"), *(Column(solver, "number") for solver in solvers))
    about = "Processor time of one search, median / longest in ms, over all compared trials on so many boards."
    return Section("What searches take", [about, Table(heads, tuple(rows))], {})
