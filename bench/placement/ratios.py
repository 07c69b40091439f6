"""What trials say, in numbers and in tables: cells, ratios to the best there is, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import isfinite
from statistics import fmean, median
from typing import Any

import numpy as np
from trials import Cell, Trial

from flexpie_mpi.report.tables import Column, Table

EXACT = "exact"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Spread:
    """Numbers in short: how many, mean, 5th and 95th percentile, and the largest."""

    count: int
    mean: float
    p5: float
    p95: float
    most: float


def spread(numbers: Sequence[float]) -> Spread | None:
    """A spread; None of no numbers."""
    if not numbers:
        return None
    low, high = np.percentile(numbers, (5, 95)).tolist()
    return Spread(len(numbers), fmean(numbers), low, high, max(numbers))


@dataclass(frozen=True, slots=True)
class Effort:
    """Seconds of searches: how many, the median and the longest."""

    count: int
    median_s: float
    longest_s: float


def effort(trials: Iterable[Trial], solver: str) -> Effort | None:
    """What a solver's searches took; None where there are none."""
    taken = [trial.answers[solver].search_s for trial in trials if solver in trial.answers]
    return Effort(len(taken), median(taken), max(taken)) if taken else None


@dataclass(frozen=True)
class CellResults(Cell):
    """Trials that differ in nothing but boards and links."""

    trials: tuple[Trial, ...]

    @cached_property
    def unplaced(self) -> list[Trial]:
        """Trials in which nobody found anything."""
        return [trial for trial in self.trials if not any(each.is_found for each in trial.answers.values())]

    @cached_property
    def alone(self) -> list[Trial]:
        """Trials in which nothing need be sent or computed: one board holds all, and 0 s can be compared to nothing."""
        return [trial for trial in self.trials if _best(trial) == 0]

    @cached_property
    def compared(self) -> list[Trial]:
        """All other trials, as far as there is something to hold answers against."""
        return [trial for trial in self.trials if _best(trial) > 0 and isfinite(_best(trial)) and best_bound(trial)]

    @cached_property
    def proved(self) -> int:
        """Of the compared trials, those whose best placement is known; a lower bound stands for it in the others."""
        return sum(_is_settled(trial) for trial in self.compared)

    def ratios(self, solver: str) -> list[float]:
        """A solver's seconds over the least that is possible, of each compared trial in which it found something."""
        return [
            trial.answers[solver].seconds / best_bound(trial)
            for trial in self.compared
            if solver in trial.answers and trial.answers[solver].is_found
        ]

    def seconds(self, solver: str) -> float | None:
        """Mean over the compared trials in which a solver found something."""
        answers = [trial.answers[solver] for trial in self.compared if solver in trial.answers]
        times = [answer.seconds for answer in answers if answer.is_found]
        return fmean(times) if times else None

    def failures(self, solver: str) -> int:
        """Trials in which a solver found nothing, and another one did."""
        others = [trial for trial in self.trials if isfinite(_best(trial)) and solver in trial.answers]
        return sum(not trial.answers[solver].is_found for trial in others)

    @property
    def stages(self) -> float:
        """Stages of the best placements, on average; 0 where there are none."""
        best = [min(trial.answers.values(), key=lambda answer: answer.seconds) for trial in self.compared]
        counts = [len(answer.crews) for answer in best if answer.crews]
        return fmean(counts) if counts else 0.0

    @property
    def size(self) -> str:
        """Memory of a board, in MiB, or in bytes where it is next to none."""
        unit, name = (MIB, "") if min(self.memory) >= MIB else (1, " B")
        return "/".join(f"{level / unit:g}" for level in self.memory) + name


def cells_of(trials: Iterable[Trial]) -> list[CellResults]:
    """Trials by cell, in the order in which they come; of trials of the same number the last."""
    by_cell: dict[tuple, dict[int, Trial]] = {}
    for trial in trials:
        by_cell.setdefault(trial.cell, {})[trial.number] = trial
    return [CellResults(*cell, tuple(those.values())) for cell, those in by_cell.items()]


def by_study(cells: Iterable[CellResults]) -> dict[str, list[CellResults]]:
    """Cells by study, in their order."""
    studies: dict[str, list[CellResults]] = {}
    for cell in cells:
        studies.setdefault(cell.study, []).append(cell)
    return studies


def solvers_in(cells: Iterable[CellResults]) -> list[str]:
    """Solvers that took part, `EXACT` first, then as the trials have them."""
    names = dict.fromkeys(name for cell in cells for trial in cell.trials for name in trial.answers)
    return sorted(names, key=lambda name: name != EXACT)


def best_bound(trial: Trial) -> float:
    """The least that is possible: the best found where that is proved, else the best bound, and 0 without either."""
    return _best(trial) if _is_settled(trial) else _bound(trial)


def beaten(trials: Iterable[Trial]) -> list[Trial]:
    """Trials in which some solver found something better than `EXACT`."""
    those = (trial for trial in trials if EXACT in trial.answers)
    return [trial for trial in those if _best(trial) < trial.answers[EXACT].seconds * (1 - 1e-9)]


def _is_settled(trial: Trial) -> bool:
    return _bound(trial) >= _best(trial) * (1 - 1e-9)


def _bound(trial: Trial) -> float:
    return max((answer.lower_bound_s for answer in trial.answers.values()), default=0.0)


def _best(trial: Trial) -> float:
    return min((answer.seconds for answer in trial.answers.values()), default=float("inf"))


def pooled(cells: Iterable[CellResults], solver: str) -> list[float]:
    """Ratios of all cells together."""
    return [ratio for cell in cells for ratio in cell.ratios(solver)]


def spread_record(numbers: Sequence[float]) -> Mapping[str, float] | None:
    """The spread of some numbers as plain numbers."""
    return asdict(those) if (those := spread(numbers)) else None


def ratio_table(cells: Sequence[CellResults], setting: str = "") -> Table:
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
    if not (those := spread(ratios)):
        return "–"
    return f"{_digits(those.mean)} ({_digits(those.p95)}, {_digits(those.most)})"


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


def effort_text(searches: Effort | None) -> str:
    """Median and longest search, in ms."""
    return f"{searches.median_s * 1e3:.1f} / {searches.longest_s * 1e3:.0f}" if searches else "–"


def record(cells: Iterable[CellResults]) -> list[dict[str, Any]]:
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


def _solver(cell: CellResults, solver: str) -> dict[str, Any]:
    search = effort(cell.trials, solver)
    return {
        "seconds": cell.seconds(solver),
        "ratio": spread_record(cell.ratios(solver)),
        "failures": cell.failures(solver),
        "search_median_s": search.median_s if search else None,
        "search_longest_s": search.longest_s if search else None,
    }
