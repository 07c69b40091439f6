"""What is asked of a suite, how far it has come, and the cost model that all its cells are planned with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..core.errors import CostError, count_of
from ..cost.file import load_cost, save_cost
from ..cost.model import CostModel
from ..cost.traces import Traces
from ..emulate import available_cores
from ..emulate.launch import AS_ROOT, find_library
from ..suite.cells import HOSTS, Cell, Suite
from ..suite.results import Result, read_results
from .inputs import fit_cost, read_traces
from .opening import CostSources, Tell

MEASURED = "measured"
"""Key in the provenance of a cost model that was measured for a suite: where and for how long, in words."""

_QUIETLY = ("sh", "-c", 'exec "$0" "$@" > /dev/null')
"""Before a command whose summary nobody asked for; what goes wrong is still said on stderr."""


@dataclass(frozen=True, slots=True)
class SuiteTask:
    """What is to be measured of a suite, and where its rows go."""

    # `suite` and `output`: files of the suite and of its rows
    suite: str
    output: str
    only: str | None = None  # pattern of the labels of cells
    testbed: str | None = None  # the file of the boards whose cells alone are measured
    # `cost` and `traces`: as of :class:`CostSources`
    cost: str | None = None
    traces: Sequence[str] | None = None
    trace_budget_s: float | None = None  # time to measure for the cost model; the suite's own when None
    time_limit_s: float | None = None  # no cell begins later than that
    is_emulated: bool = False  # whether the job runs on boards that something has built

    def rows(self) -> tuple[Result, ...]:
        """Rows of an earlier run; none where there was none.

        Raises SuiteError when the file holds something else.
        """
        return read_results(self.output) if os.path.exists(self.output) else ()

    def is_here(self, cell: Cell) -> bool:
        """Whether a cell is one of the testbed's, or of the job's own hosts where there is no testbed."""
        if self.testbed is None:
            return cell.site.name == HOSTS
        return bool(cell.site.path) and os.path.realpath(cell.site.path) == os.path.realpath(self.testbed)

    def budget_s(self, suite: Suite) -> float:
        """Seconds to measure for the cost model of all cells."""
        return suite.trace_budget_s if self.trace_budget_s is None else self.trace_budget_s

    def seconds_left(self, began_s: float) -> float | None:
        """Seconds in which cells may still begin; None without a limit."""
        limit = self.time_limit_s
        return None if limit is None else max(0.0, limit - (time.monotonic() - began_s))


@dataclass
class CellProgress:
    """How far a run of `total` cells has come, of which `done` took `spent_s` before now.

    Cells that an earlier run has done are among the `total` where `counts_done`, until they are come to. What is left
    is taken to last as long, cell by cell, as what is done did.
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

    def finish(self, cells: int = 1) -> None:
        """So many more cells are done."""
        self.done = min(self.done + cells, self.total)

    def skip(self) -> None:
        """A cell was done by an earlier run."""
        self.total -= self.counts_done

    def __str__(self) -> str:
        """The state in words.

        >>> now = iter((0.0, 60.0))
        >>> str(CellProgress(total=4, done=1, spent_s=40.0, clock=lambda: next(now)))
        '1 of 4 cells, about 5 min left'
        """
        left = ""
        if 0 < self.done < self.total:
            left = f", about {spoken(self.elapsed_s / self.done * (self.total - self.done))} left"
        return f"{self.done} of {count_of(self.total, 'cell')}{left}"


def spoken(seconds: float) -> str:
    """A time as people say it.

    >>> spoken(41.3), spoken(100), spoken(8000)
    ('41 s', '2 min', '2.2 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class SuiteRun:
    """A suite that was gone through, with the cells that were asked for; `is_complete` where each could be measured."""

    suite: Suite
    cells: Sequence[Cell]
    is_complete: bool


def in_words(cost: CostModel, source: str) -> str:
    """Where a cost model came from, with what it knows of it itself."""
    measured = cost.provenance.get(MEASURED)
    return f"{source}, {measured}" if measured else source


@dataclass
class SuiteCost:
    """The cost model of a suite: given, kept beside its rows, or measured on this machine before the first cell.

    Parameters
    ----------
    task : SuiteTask
    tell : callable
        Is told what goes on.
    """

    task: SuiteTask
    tell: Tell

    @property
    def path(self) -> Path:
        """Of what is measured or fitted here: ``results.cost.json`` beside ``results.jsonl``."""
        return Path(self.task.output).with_suffix(".cost.json")

    @property
    def traces(self) -> Path:
        """Of the traces behind it."""
        return Path(self.task.output).with_suffix(".traces.h5")

    def given(self) -> str | None:
        """The file that is asked for, fitted where traces are; None where nothing is asked for.

        Raises CostError when a file cannot be used.
        """
        if self.task.cost is not None:
            load_cost(self.task.cost)
            return self.task.cost
        sources = CostSources(traces=self.task.traces)
        traces = read_traces(sources)
        return None if traces is None else self._fit(traces, f"fitted to {sources.traced}")

    def known(self) -> str | None:
        """The file that is given, or that an earlier run has left; None when there is none.

        Raises CostError when a file cannot be used.
        """
        given = self.given()
        if given is not None or not self.path.exists():
            return given
        load_cost(self.path)
        return str(self.path)

    def measure(self, words: Sequence[str], budget_s: float) -> None:
        """Measure on this machine as it is, on two ranks where it has two cores.

        Parameters
        ----------
        words : sequence of str
            Of ``flexpie-mpi trace``: models, and where to cache them.
        budget_s : float

        Raises
        ------
        CostError
            When that fails.
        EmulationError
            When there is no mpirun.
        """
        ranks, library = str(min(2, available_cores())), find_library()
        anyhow = ["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"] if library.name == "openmpi" else []
        command = [library.mpirun, *anyhow, "-n", ranks, *self.trace_words(words, budget_s)]
        code = subprocess.run(command, env={**os.environ, **AS_ROOT}, check=False).returncode
        if code:
            raise CostError(
                f"measuring for the cost model ended with exit code {code}: give --cost, or see what "
                f"'flexpie-mpi trace --output {self.traces}' says"
            )

    def trace_words(self, words: Sequence[str], budget_s: float) -> list[str]:
        """The command that measures, quietly; what the file of traces has already stays."""
        program = [*_QUIETLY, sys.executable, "-m", "flexpie_mpi", "trace"]
        return [*program, *words, "--output", str(self.traces), "--budget", f"{budget_s:g}"]

    def fit(self, measured: str) -> str:
        """Fit what was measured, and return the path of the cost model.

        Raises CostError when the traces hold no kernel.
        """
        self.tell("fitting a cost model")
        return self._fit(Traces.read(self.traces), measured)

    def _fit(self, traces: Traces, measured: str) -> str:
        cost = fit_cost(traces, self.tell)
        save_cost(replace(cost, provenance={**cost.provenance, MEASURED: measured}), self.path)
        return str(self.path)
