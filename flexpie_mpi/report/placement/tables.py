"""Tables that several sections of a page share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..tables import Column, Table
from .ratios import EXACT, Cell, Effort, effort, pooled, solvers_in, spread, spread_record


def ratio_table(cells: Sequence[Cell], setting: str = "") -> Table:
    """Every solver's ratio to the best possible, cell by cell, and over all of them; `setting` heads what is varied.

    Without that of `EXACT` where it proved all it found, since it is 1 then.
    """
    shown = [cell for cell in cells if cell.compared]
    is_proved = all(cell.proved == len(cell.compared) for cell in shown)
    solvers = [solver for solver in solvers_in(cells) if solver != EXACT or not is_proved]
    rows = [
        [
            cell.model, cell.size, str(cell.boards), *([f"{cell.setting:g}"] if setting else []),
            f"{len(cell.compared)} ({cell.proved})", f"{cell.stages:.1f}", seconds(cell.seconds(EXACT)),
            *(ratio_text(cell.ratios(solver)) for solver in solvers),
        ]
        for cell in shown
    ]  # fmt: skip
    gap = [""] * (3 if setting else 2)
    counts = f"{sum(len(cell.compared) for cell in shown)} ({sum(cell.proved for cell in shown)})"
    rows.append(["**all**", *gap, counts, "", "", *(ratio_text(pooled(shown, solver)) for solver in solvers)])
    heads = [Column("network"), Column("MiB", "number"), Column("boards", "number")]
    heads += [Column(setting, "number")] if setting else []
    heads += [Column(name, "number") for name in ("trials (proved)", "stages", "exact (s)", *solvers)]
    return Table(tuple(heads), tuple(rows))


RATIO_ABOUT = (
    "Ratios are a solver's bottleneck over the best possible one of the same trial: the mean, and in brackets the 95th "
    "percentile and the largest. The best possible is what `exact` found where it proved that nothing better exists, "
    "and the lower bound it proved elsewhere."
)


def ratio_text(ratios: Sequence[float]) -> str:
    """Mean, and in brackets the 95th percentile and the largest."""
    found = spread(ratios)
    if found is None:
        return "–"
    return f"{_digits(found.mean)} ({_digits(found.p95)}, {_digits(found.most)})"


def _digits(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.3f}"


def seconds(number: float | None) -> str:
    """Seconds to three digits.

    >>> seconds(0.03264), seconds(1.5), seconds(None)
    ('0.0326', '1.50', '–')
    """
    if number is None:
        return "–"
    return f"{number:.2f}" if number >= 1 else f"{number:.3f}" if number >= 0.1 else f"{number:.4f}"


def effort_text(found: Effort | None) -> str:
    """Median and longest search, in ms."""
    return f"{found.median_s * 1e3:.1f} / {found.longest_s * 1e3:.0f}" if found else "–"


def record(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """All numbers of cells, for JSON."""
    return [
        {
            "study": cell.study,
            "accounting": cell.accounting,
            "model": cell.model,
            "boards": cell.boards,
            "memory_bytes": list(cell.memory),
            "setting": cell.setting,
            "trials": len(cell.trials),
            "compared": len(cell.compared),
            "proved": cell.proved,
            "one_board": len(cell.alone),
            "unplaced": len(cell.unplaced),
            "stages": cell.stages,
            "solvers": {solver: _solver(cell, solver) for solver in solvers_in([cell])},
        }
        for cell in cells
    ]


def _solver(cell: Cell, solver: str) -> dict[str, Any]:
    search = effort(cell.trials, solver)
    return {
        "seconds": cell.seconds(solver),
        "ratio": spread_record(spread(cell.ratios(solver))),
        "failures": cell.failures(solver),
        "search_median_s": search.median_s if search else None,
        "search_longest_s": search.longest_s if search else None,
    }
