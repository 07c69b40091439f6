"""How far a run of cells has come, and how long the rest may take."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..report.units import count_of, ms
from ..suite.cells import Cell
from ..suite.results import Result


@dataclass
class Course:
    """A run of `total` cells, of which `done` took `spent_s` before now.

    Cells that an earlier run has done are among the `total` where `counts_done`, until they are come to.

    What is left is taken to last as long, cell by cell, as what is done did.
    """

    total: int
    done: int = 0
    spent_s: float = 0.0
    counts_done: bool = False
    clock: Callable[[], float] = time.monotonic
    _began_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._began_s = self.clock()

    @property
    def elapsed_s(self) -> float:
        """Since the run began."""
        return self.spent_s + self.clock() - self._began_s

    @property
    def left_s(self) -> float | None:
        """What the other cells may take; None when no cell is done yet."""
        return self.elapsed_s / self.done * (self.total - self.done) if self.done else None

    def finish(self, cells: int = 1) -> None:
        """So many more cells are done."""
        self.done = min(self.done + cells, self.total)

    def skip(self) -> None:
        """A cell was done by an earlier run."""
        self.total -= self.counts_done

    def __str__(self) -> str:
        """The state in words.

        >>> now = iter((0.0, 60.0))
        >>> str(Course(total=4, done=1, spent_s=40.0, clock=lambda: next(now)))
        '1 of 4 cells, about 5 min left'
        """
        left_s = self.left_s
        left = "" if left_s is None or self.done == self.total else f", about {spoken(left_s)} left"
        return f"{self.done} of {count_of(self.total, 'cell')}{left}"

    def to_word(self) -> str:
        """The state as an argument of a command line."""
        return f"{self.total},{self.done},{self.elapsed_s:.1f}"


def course(text: str) -> Course:
    """What :meth:`Course.to_word` wrote.

    >>> course("4,1,30.0").done
    1
    """
    try:
        total, done, spent_s = text.split(",")
        return Course(int(total), int(done), float(spent_s))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not CELLS,DONE,SECONDS") from error


def spoken(seconds: float) -> str:
    """A time as people say it.

    >>> spoken(41.3), spoken(100), spoken(8000)
    ('41 s', '2 min', '2.2 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def cell_line(cell: Cell, rows: Iterable[Result]) -> str:
    """A cell and its medians, in the order of its planners."""
    medians = ", ".join(f"{row.planner} {ms(row.median_s)}" for row in rows)
    return f"{cell.label}: {medians or 'nothing new to measure'}"
