"""What the paper does not vary: unequal memory, few boards, spread sizes, computing, other networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pictures import along, label, lanes
from ratios import CellResults, ratio_table, record, solvers_in

from flexpie_mpi.report.figure import Draw
from flexpie_mpi.report.section import Part, Picture, Section
from flexpie_mpi.report.tables import Column, Item, Table
from flexpie_mpi.report.units import count_of

GAINS = {"capacity-greedy": 1.05, "kpath": 1.1}
"""How many times better than these the best placement is to be where boards differ in memory."""


@dataclass(frozen=True, slots=True)
class Study:
    """How a study is told: heading, what it varies, the name of its axis, and where a cell lies on it."""

    heading: str
    about: str
    axis: str = ""
    place: Callable[[CellResults], float] = lambda cell: cell.setting
    solvers: tuple[str, ...] = ("kpath", "greedy", "capacity-greedy")


STUDIES: Mapping[str, Study] = {
    "own": Study(
        "Networks of this project",
        "Cut wherever the planner may cut them, not only at single tensors: all values alive at a cut are sent. Memory "
        "is equal, and so little that one board does not do.",
    ),
    "memory": Study(
        "Boards of unequal memory",
        "Every board has one of three levels of memory, drawn at random. `kpath` and `greedy` plan for the smallest; "
        "`capacity-greedy` gives up the boards below each level in turn, and keeps the best.",
    ),
    "boards": Study(
        "Hardly more boards than stages",
        "From as many boards as the fewest stages that memory allows: no choice of boards, then more and more of it.",
        "boards",
        lambda cell: cell.boards,
        ("kpath", "greedy"),
    ),
    "sizes": Study(
        "Tensors of different size",
        "A made-up row of 24 equal units on 12 boards that hold three each, another one for every trial; sizes of "
        "tensors are log-uniform between 16 Mbit and a spread's part of it.",
        "spread of sizes, largest over smallest",
        lambda cell: cell.setting,
        ("kpath", "greedy"),
    ),
    "compute": Study(
        "Computing that counts",
        "Boards have speed 1, 1/2 or 1/4. The ratio is what a board of speed 1 takes to compute the whole network, "
        "over what a tensor of mean size takes on a link of mean bandwidth; the paper's own figures come to about "
        "0.13. All baselines but `even` look at bytes alone.",
        "computing over sending",
        lambda cell: cell.setting,
        ("kpath", "greedy", "even"),
    ),
}  # fmt: skip


def sections(name: str, cells: Sequence[CellResults]) -> list[Section]:
    """One section about a study."""
    study = STUDIES.get(name, Study(f"Study: {name}", ""))
    shown = [cell for cell in cells if cell.compared]
    drawn = [solver for solver in study.solvers if solver in solvers_in(cells)]
    parts: list[Part] = [study.about]
    about = f"{study.heading}: solvers over the best"
    if shown and drawn and study.axis:
        parts.append(Picture(name, about, _curves(study, shown, drawn)))
    for accounting in dict.fromkeys(cell.accounting for cell in shown):
        those = [cell for cell in shown if cell.accounting == accounting]
        head = "setting" if any(cell.setting for cell in those) else ""
        parts.append(f"Bytes {accounting}:")
        if drawn and not study.axis:
            parts.append(Picture(f"{name}-{accounting}", f"{about}, {accounting}", lanes(those, drawn)))
        parts.append(ratio_table(those, head))
    summary: list[Item] = []
    if name == "memory":
        gains = _gains(shown)
        parts += ["\n".join(f"- {line}" for line in gains), _gain_table(shown)]
        summary = [f"memory   {line}".replace("`", "") for line in gains]
    return [Section(study.heading, parts, {name: record(cells)}, summary)]


def _curves(study: Study, cells: Sequence[CellResults], solvers: Sequence[str]) -> Draw:
    """A panel per network."""
    groups: dict[str, list[tuple[float, CellResults]]] = {}
    for cell in cells:
        title = cell.model.removeprefix("builtin:")
        groups.setdefault(title, []).append((study.place(cell), cell))
    return along(groups, study.axis, solvers)


def _gains(cells: Sequence[CellResults]) -> list[str]:
    """In how many cells the best placement is as much better as it is to be."""
    lines = []
    for solver, least in GAINS.items():
        means = [(fmean(cell.ratios(solver)), cell) for cell in cells if cell.ratios(solver)]
        if means:
            short = [f"{label(cell)} ({mean:.3f})" for mean, cell in means if mean < least]
            told = f"; not in {', '.join(short)}" if short else ""
            overall = fmean(mean for mean, _ in means)
            line = f"Over `{solver}`: {overall:.2f} times better on average; at least {least:g} times in "
            line += f"{len(means) - len(short)} of {len(means)} cells{told}."
            lost = len(cells) - len(means)
            lines.append(line + (f" In {count_of(lost, 'cell')} more it never finds a placement." if lost else ""))
    return lines


def _gain_table(cells: Sequence[CellResults]) -> Table:
    solvers = [solver for solver in GAINS if solver in solvers_in(cells)]
    rows = []
    for cell in cells:
        judged = []
        for solver in solvers:
            ratios = cell.ratios(solver)
            mean = f"{fmean(ratios):.3f}" if ratios else "–"
            judged += [mean, _verdict(fmean(ratios) if ratios else None, GAINS[solver]), str(cell.failures(solver))]
        rows.append([cell.accounting, cell.model, cell.size, str(cell.boards), *judged])
    heads = [Column("bytes"), Column("network"), Column("MiB", "number"), Column("boards", "number")]
    for solver in solvers:
        heads += [Column(solver, "number"), Column(f"at least {GAINS[solver]:g}"), Column("finds nothing", "number")]
    return Table(tuple(heads), tuple(rows))


def _verdict(mean: float | None, least: float) -> str:
    return "–" if mean is None else "yes" if mean >= least else "no"
