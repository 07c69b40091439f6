"""The paper's own cells: ratios in both accountings, published figures beside, and what became of the zeros."""

from __future__ import annotations

from collections.abc import Sequence

from pictures import lanes
from published import (
    CLAIM_GREEDY,
    CLAIM_RANDOM,
    COUNTS,
    PUBLISHED,
    SOLVERS,
    Artefact,
    published_artefact,
    repeated_artefact,
)
from ratios import EXACT, MIB, CellResults, beaten, effort, effort_text, ratio_table, record, seconds, solvers_in

from flexpie_mpi.report.section import Folded, Part, Picture, Section
from flexpie_mpi.report.tables import Column, Item, Table
from flexpie_mpi.report.units import percent, signed

AS_CODED = "as-coded"

_ABOUT = {
    AS_CODED: "Bytes as the paper's code counts them: a tensor is sent once for each layer that reads it, as numbers "
    "of 8 bytes compressed 1.44 times; a parameter takes one byte of memory; the layers between the two sides of a cut "
    "are charged to neither.",
    "corrected": "Bytes as they are: a tensor is sent once, 4 bytes an element, not compressed; a parameter takes 4 "
    "bytes; every layer is charged to a board. Activations are still summed as if none were freed.",
}


def sections(cells: Sequence[CellResults]) -> list[Section]:
    """A section per accounting, and one on the published figures."""
    by_accounting: dict[str, list[CellResults]] = {}
    for cell in cells:
        by_accounting.setdefault(cell.accounting, []).append(cell)
    told = [_section(name, those) for name, those in by_accounting.items()]
    return told + _beside_published(by_accounting.get(AS_CODED, []))


def _section(accounting: str, cells: Sequence[CellResults]) -> Section:
    most = max(cell.boards for cell in cells)
    largest = [cell for cell in cells if cell.boards == most]
    rest = [cell for cell in cells if cell.boards != most]
    drawn = [cell for cell in largest if cell.compared]
    parts: list[Part] = [_ABOUT.get(accounting, ""), ratio_table(largest)]
    if drawn:
        about = f"Solvers over the best placement on {most} boards, {accounting}"
        shown = [solver for solver in ("kpath", "greedy") if solver in solvers_in(cells)]
        parts.append(Picture(f"{accounting}", about, lanes(drawn, shown)))
    parts += [
        _exact_line(cells),
        "Processor time of searches on these boards, median / longest in ms:",
        _efforts(largest),
    ]
    if any(cell.compared for cell in rest):
        parts.append(Folded("The same on fewer boards", ratio_table(rest)))
    summary: list[Item] = [f"paper    {accounting}: {_exact_line(cells)}".replace("`", "")]
    return Section(f"The paper's cells, {accounting}", parts, {f"paper-{accounting}": record(cells)}, summary)


def _exact_line(cells: Sequence[CellResults]) -> str:
    trials = [trial for cell in cells for trial in cell.compared]
    worse = beaten(trials)
    proved = sum(cell.proved for cell in cells)
    return (
        f"In {len(trials) - len(worse)} of {len(trials)} trials nothing is better than what `exact` found, and in "
        f"{proved} it proved that nothing can be."
    )


def _efforts(cells: Sequence[CellResults]) -> Table:
    solvers = solvers_in(cells)
    rows = [
        [cell.model, cell.size, *(effort_text(effort(cell.compared, solver)) for solver in solvers)]
        for cell in cells
        if cell.compared
    ]
    heads = (Column("network"), Column("MiB", "number"), *(Column(solver, "number") for solver in solvers))
    return Table(heads, tuple(rows))


def _beside_published(cells: Sequence[CellResults]) -> list[Section]:
    rows = [
        [cell.model, cell.size, str(cell.boards), *_pairs(cell), seconds(cell.seconds(EXACT))]
        for cell in cells
        if _key(cell) in PUBLISHED
    ]
    if not rows:
        return []
    heads = (
        Column("network"), Column("MiB", "number"), Column("boards", "number"),
        *(Column(f"{solver}: published / here (s)", "number") for solver in SOLVERS), Column("exact (s)", "number"),
    )  # fmt: skip
    about = (
        "Mean bottleneck in seconds, as published and of these trials, which share their boards among all solvers; the "
        "published ones drew other boards for each. Larger memories were published for plans of smaller ones in "
        "InceptionResNetV2, left over in a table that was never cleared. The published random placement starts from "
        "cuts that just fit and seldom uses more boards; here it draws among all chains that fit."
    )
    parts: list[Part] = [about, Table(heads, tuple(rows)), *_artefact_parts(cells)]
    return [Section("Beside the published figures", parts, {"published": _record(cells)}, _summary())]


def _key(cell: CellResults) -> tuple[str, int, int]:
    return cell.model, cell.memory[0] // MIB, cell.boards


def _pairs(cell: CellResults) -> list[str]:
    row = PUBLISHED[_key(cell)]
    return [f"{seconds(row[solver])} / {seconds(cell.seconds(solver))}" for solver in SOLVERS]


def _artefact_parts(cells: Sequence[CellResults]) -> list[Part]:
    """What the headline rests on, in words and figures."""
    published, here = published_artefact(), repeated_artefact(cells)
    rows = [_artefact_row("published", published)] + ([_artefact_row("these trials", here)] if here else [])
    heads = (
        Column("figures"), Column("cells", "number"), Column("zeros", "number"),
        Column("kpath against greedy, zeros averaged in", "number"), Column("without", "number"),
        Column("random over kpath, zeros averaged in", "number"), Column("without", "number"),
    )  # fmt: skip
    about = (
        f"The paper's abstract says that k-path matching takes {percent(CLAIM_GREEDY)} less than the joint baseline, "
        f"and a random placement {CLAIM_RANDOM:g} times as long, on {COUNTS[-1]} boards. Both figures come from zeros. "
        "Where a network fits one board nothing is sent, and the tables of k-path have 0 s there (ResNet50 at 256 and "
        "512 MiB, InceptionResNetV2 at 512); those of the baselines have no such rows. Averaged as they stand, the two "
        f"networks that the paper plots give k-path a mean over {published.cells + published.zeros} cells, "
        f"{published.zeros} of them 0, and the others one over {published.cells}: "
        f"{signed(-published.with_zeros.less_than_greedy)} against greedy, the abstract's figure but for rounding. "
        f"Without the zeros it is {signed(-published.without.less_than_greedy)}, and random takes "
        f"{published.without.random_times:.1f} times as long, not {published.with_zeros.random_times:.1f}. "
        "The same done to the same cells of these trials:"
    )
    return [about, Table(heads, tuple(rows))]


def _artefact_row(name: str, artefact: Artefact) -> list[str]:
    zeros, without = artefact.with_zeros, artefact.without
    return [
        name, str(artefact.cells), str(artefact.zeros),
        signed(-zeros.less_than_greedy), signed(-without.less_than_greedy),
        f"{zeros.random_times:.1f}×", f"{without.random_times:.1f}×",
    ]  # fmt: skip


def _record(cells: Sequence[CellResults]) -> dict[str, object]:
    here = repeated_artefact(cells)
    record: dict[str, object] = {"published": _artefact_record(published_artefact())}
    return record | ({"here": _artefact_record(here)} if here else {})


def _artefact_record(artefact: Artefact) -> dict[str, object]:
    headlines = {"with_zeros": artefact.with_zeros, "without": artefact.without}
    return {"cells": artefact.cells, "zeros": artefact.zeros} | {
        name: {"less_than_greedy": each.less_than_greedy, "random_times": each.random_times}
        for name, each in headlines.items()
    }


def _summary() -> list[Item]:
    headlines = published_artefact()
    with_zeros, without = (signed(-each.less_than_greedy) for each in (headlines.with_zeros, headlines.without))
    return [f"headline kpath against greedy as published: {with_zeros} with zeros averaged in, {without} without"]
