"""How far predictions and simulations are from what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median

from ...suite.results import Result
from .cells import SINGLE, Cell, quantile

SOURCES = ("predicted", "simulated")


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
        """The same of the speed-up over one board of the cell, which was measured together with the plan.

        A machine that is slower than it was when its costs were measured, or faster, does not count here.
        """
        alone = self.cell.rows.get(SINGLE)
        if alone is None or alone.plan_digest == self.row.plan_digest:
            return None
        whole, own = Case(self.cell, alone, (SINGLE,)).error(source), self.error(source)
        if whole is None or own is None or own <= -1:  # so short a time cannot be told from none
            return None
        return (1 + whole) / (1 + own) - 1

    def seconds(self, source: str) -> float | None:
        found = self.row.predicted_s if source == "predicted" else self.row.simulated_s
        return found if found is not None and isfinite(found) and found > 0 else None


@dataclass(frozen=True, slots=True)
class Errors:
    """Sizes of the errors of several cases, as shares."""

    cases: int
    median: float
    p90: float
    worst: float


def cases_of(cells: Iterable[Cell]) -> list[Case]:
    """Every plan that was measured, once."""
    cases = []
    for cell in cells:
        same: dict[str, list[str]] = {}
        for planner, row in cell.rows.items():
            same.setdefault(row.plan_digest or planner, []).append(planner)
        cases += [Case(cell, cell.rows[planners[0]], tuple(planners)) for planners in same.values()]
    return cases


def errors(
    cases: Iterable[Case], source: str, error_of: Callable[[Case, str], float | None] = Case.error
) -> Errors | None:
    """Errors of one source; None where there are none."""
    found = [abs(error) for case in cases if (error := error_of(case, source)) is not None]
    return Errors(len(found), median(found), quantile(found, 0.9), max(found)) if found else None


def worst(cases: Sequence[Case], source: str) -> tuple[Case, float] | None:
    """The case that is furthest off, and its error with its sign."""
    found = [(case, error) for case in cases if (error := case.error(source)) is not None]
    return max(found, key=lambda pair: abs(pair[1]), default=None)


def grouped(cases: Sequence[Case]) -> dict[str, dict[str, list[Case]]]:
    """Cases by model, by boards, by planner and by suite, where there are several; a plan is all its planners'."""
    keys: dict[str, Callable[[Case], Sequence[str]]] = {
        "suite": lambda case: [case.cell.suite],
        "model": lambda case: [case.cell.model],
        "boards": lambda case: [str(case.cell.ranks)],
        "planner": lambda case: case.planners,
    }
    found = {}
    for name, key in keys.items():
        groups: dict[str, list[Case]] = {}
        for case in cases:
            for value in key(case):
                groups.setdefault(value, []).append(case)
        if len(groups) > 1:
            found[name] = groups
    return found
