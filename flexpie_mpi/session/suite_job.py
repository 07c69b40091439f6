"""Cells of a suite on the ranks of a job: measured one after the other, the rows of each kept at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ..core.errors import FlexPieError, SuiteError, TransportError, count_of
from ..cost.model import CostModel
from ..files.cache import Cache
from ..files.synthetic import random_inputs
from ..measure.cluster import cluster_digest
from ..model import Model
from ..runtime.engine import load_shared
from ..runtime.transport import Transport, on_root
from ..suite.cells import HOSTS, Cell, Suite, planners_done
from ..suite.cells import read as read_suite
from ..suite.measuring import Measurer, Scene, slowest
from ..suite.results import Result, append_results
from .cluster import InputsFinder
from .opening import ROOT, CostSources, Tell, from_root
from .suite_task import CellProgress, SuiteCost, SuiteRun, SuiteTask, in_words


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
        cost_path = from_root(self.transport, SuiteCost(self.task, self.tell).given)
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
        """The suite, and its cells for this job."""
        task, size = self.task, self.transport.size
        task.rows()  # another file's content is found out before anything is measured
        suite = read_suite(task.suite)
        cells = [cell.on(size) for cell in suite.cells if task.is_here(cell) and cell.ranks in (None, size)]
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
                cost=in_words(inputs.cost, inputs.source),
                mpi=self.transport.library,
            )

        return from_root(self.transport, scene), inputs.cost if inputs else None
