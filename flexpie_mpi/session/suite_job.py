"""Cells of a suite on the ranks of a job: what is asked for, how far it has come, and each cell's rows kept at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ..core.errors import FlexPieError, SuiteError, TransportError, count_of
from ..cost.file import load_cost, save_cost
from ..cost.model import CostModel
from ..cost.traces import Traces
from ..files.cache import Cache
from ..files.synthetic import random_inputs
from ..measure.cluster import cluster_digest
from ..model import Model
from ..runtime.engine import load_shared
from ..runtime.transport import Transport, on_root
from ..suite.cells import HOSTS, Cell, Suite, planners_done
from ..suite.cells import read as read_suite
from ..suite.measuring import Measurer, Scene, slowest
from ..suite.results import Result, append_results, read_results
from .cluster import InputsFinder
from .inputs import fit_cost, read_traces
from .opening import ROOT, CostSources, Tell, from_root

MEASURED = "measured"
"""Key in the provenance of a cost model that was measured for a suite: where and for how long, in words."""


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

    @property
    def cost_path(self) -> Path:
        """Of the cost model that is measured or fitted here: ``results.cost.json`` beside ``results.jsonl``."""
        return Path(self.output).with_suffix(".cost.json")

    def given_cost(self, tell: Tell) -> str | None:
        """The file of the cost model that is asked for, fitted where traces are; None where nothing is asked for.

        Raises CostError when a file cannot be used.
        """
        if self.cost is not None:
            load_cost(self.cost)
            return self.cost
        sources = CostSources(traces=self.traces)
        traces = read_traces(sources)
        return None if traces is None else self.fit(traces, f"fitted to {sources.traced}", tell)

    def fit(self, traces: Traces, measured: str, tell: Tell) -> str:
        """Fit a cost model to what was `measured` where and for how long, and return its path.

        Raises CostError when the traces hold no kernel.
        """
        cost = fit_cost(traces, tell)
        save_cost(replace(cost, provenance={**cost.provenance, MEASURED: measured}), self.cost_path)
        return str(self.cost_path)


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
            left = f", about {lasting(self.elapsed_s / self.done * (self.total - self.done))} left"
        return f"{self.done} of {count_of(self.total, 'cell')}{left}"


def lasting(seconds: float) -> str:
    """A time as people say it.

    >>> lasting(41.3), lasting(100), lasting(8000)
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


@dataclass
class JobCells:
    """One rank's part of measuring the cells of a suite that fit the job; called by all ranks together."""

    transport: Transport
    task: SuiteTask
    cache: Cache
    tell: Tell  # is told what goes on
    say: Tell  # is told, on the root, which cells are left out, and why
    # Is given, on the root, each cell with its rows as soon as they are kept
    done: Callable[[CellProgress, Cell, Sequence[Result]], None]
    progress: CellProgress | None = None  # of the run that the job is a part of
    _finders: dict[int, InputsFinder] = field(default_factory=dict)

    def run(self) -> SuiteRun:
        """Measure all cells that have no rows yet, as long as time allows."""
        began_s = time.monotonic()
        suite, cells = from_root(self.transport, self._asked)
        cost_path = from_root(self.transport, partial(self.task.given_cost, self.tell))
        measurer = Measurer(self.transport, self.cache, suite.name, self.tell)
        sources = CostSources(cost=cost_path, trace_budget_s=self.task.budget_s(suite) / max(1, len(suite.sources)))
        progress = self.progress or CellProgress(len(cells), counts_done=True)
        is_complete = True
        for cell in cells:
            if self.transport.broadcast(self.task.seconds_left(began_s) == 0, ROOT):
                break
            is_complete &= self._measured(cell, measurer, sources, progress)
        return SuiteRun(suite, cells, is_complete)

    def _asked(self) -> tuple[Suite, list[Cell]]:
        task, size = self.task, self.transport.size
        task.rows()  # another file's content is found out before anything is measured
        suite = read_suite(task.suite)
        cells = [replace(cell, ranks=size) for cell in suite.cells if task.is_here(cell) and cell.ranks in (None, size)]
        cells = [cell for cell in cells if cell.matches(task.only)]
        if not cells:
            listed = dict.fromkeys(f"{cell.ranks or 'any number of'} on {cell.site.name}" for cell in suite.cells)
            raise SuiteError(
                f"{task.suite} has no cell for {count_of(size, 'rank')} on {task.testbed or HOSTS}"
                f"{' that --only matches' if task.only else ''}; its ranks are {', '.join(listed)}"
            )
        return suite, cells

    def _measured(self, cell: Cell, measurer: Measurer, sources: CostSources, progress: CellProgress) -> bool:
        """Measure a cell and keep its rows; False where that cannot be done, on every rank."""
        try:
            rows = self._rows(cell, measurer, sources)
        except TransportError:
            raise
        except FlexPieError as error:  # all ranks have it, so all go on
            if self.transport.rank == ROOT:
                self.say(f"{cell.label} is left out: {error}")
            progress.finish()
            return False
        if rows is None:
            progress.skip()
            return True
        on_root(self.transport, partial(append_results, self.task.output, rows), ROOT)
        progress.finish()
        if self.transport.rank == ROOT:
            self.done(progress, cell, rows)
        return True

    def _rows(self, cell: Cell, measurer: Measurer, sources: CostSources) -> tuple[Result, ...] | None:
        """The rows of a cell, on the root; None, on every rank, where all planners have theirs."""
        self.tell(f"loading {cell.model}")
        model = load_shared(self.transport, cell.source, cache=self.cache, batch=cell.batch)
        scene, cost = self._scene(cell, model, sources)

        def planners() -> set[str]:
            names = (model.graph.digest, scene.digest)
            return planners_done(self.task.rows(), measurer.suite, cell, *names, is_emulated=scene.is_emulated)

        known = on_root(self.transport, planners, ROOT) or set()
        if self.transport.broadcast(known >= set(cell.planners), ROOT):
            return None
        return measurer.measure(cell, model, scene, cost, known)

    def _scene(self, cell: Cell, model: Model, sources: CostSources) -> tuple[Scene, CostModel | None]:
        """Where a cell is measured, on every rank, and the cost model, on the root."""
        threads = cell.terms.threads
        if threads not in self._finders:
            asked = replace(sources, testbed=cell.site.path or None, threads=threads)
            self._finders[threads] = InputsFinder(self.transport, self.cache, asked, self.tell)
        finder = self._finders[threads]
        request = on_root(self.transport, partial(random_inputs, model.graph, cell.terms.seed), ROOT)
        inputs = finder.find(model, request)

        def scene() -> Scene:
            assert inputs is not None, "the root has them"
            return Scene(
                testbed=inputs.testbed,
                digest=cell.site.digest or cluster_digest(finder.origins),
                bandwidth=slowest(cell.site.testbed or inputs.testbed),
                is_emulated=self.task.is_emulated,
                cost=", ".join(filter(None, [inputs.cost_source, inputs.cost.provenance.get(MEASURED)])),
                mpi=self.transport.library,
            )

        return from_root(self.transport, scene), inputs.cost if inputs else None
