"""Cells of a suite on the ranks of a job: measured one after the other, the rows of each kept at once."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from ..core.errors import FlexPieError, SuiteError, TransportError
from ..cost.model import CostModel
from ..files.cache import Cache
from ..files.synthetic import random_inputs
from ..measure.cluster import cluster_digest
from ..model import Model
from ..report.cells import cells_items, cells_record
from ..report.tables import Item
from ..report.units import count_of
from ..runtime.engine import load_shared
from ..runtime.mpi import library
from ..runtime.transport import on_root
from ..suite.cells import HOSTS, Cell, Suite, planners_done
from ..suite.files import read as read_suite
from ..suite.measuring import Measurer
from ..suite.results import Result, append_results, read_results
from ..suite.rows import Scene, slowest
from .costfile import CostFile, in_words
from .costs import JobBasis
from .course import Course, cell_line
from .job import ROOT, RankPart, on_every_rank
from .options import cache_of, start_log
from .output import STDOUT, check_paths, publish, write_record
from .stdio import tell

INCOMPLETE = 1
"""Exit code when a cell could not be measured."""


def rows_so_far(path: str) -> tuple[Result, ...]:
    """Rows of an earlier run; none where there was none.

    Raises
    ------
    SuiteError
        When the file holds something else.
    """
    return read_results(path) if os.path.exists(path) else ()


class CellsJob(RankPart):
    """One rank's part of measuring cells."""

    def run(self) -> int:
        """The exit code."""
        args, transport = self.args, self.transport
        start_log(args.verbose, transport.rank)
        cache = on_every_rank(transport, partial(cache_of, args))
        began_s = time.monotonic()
        with self.progress:
            suite, cells = transport.broadcast(on_root(transport, self._asked, ROOT), ROOT)
            cost_path = transport.broadcast(on_root(transport, self._cost_path, ROOT), ROOT)
            budget_s = suite.trace_budget_s if args.trace_budget is None else args.trace_budget
            finder = _SceneFinder(self, cache, cost_path, budget_s / max(1, len(suite.sources)))
            measurer = Measurer(transport, cache, suite.name, self.progress.tell)
            course = args.course or Course(len(cells), counts_done=True)
            is_complete = True
            for cell in cells:
                if self._is_late(began_s):
                    break
                is_complete &= self._measured(cell, measurer, finder, course)
        if not args.emulated:
            on_root(transport, partial(publish_cells, args, suite, cells), ROOT)
        return 0 if is_complete else INCOMPLETE

    def _asked(self) -> tuple[Suite, list[Cell]]:
        """The suite, and its cells for this job."""
        args, size = self.args, self.transport.size
        check_paths({"--output": args.output, "--json": args.json})
        rows_so_far(args.output)
        suite = read_suite(args.suite)
        cells = [cell.on(size) for cell in suite.cells if is_on(cell, args.testbed) and cell.ranks in (None, size)]
        cells = [cell for cell in cells if cell.matches(args.only)]
        if not cells:
            listed = dict.fromkeys(f"{cell.ranks or 'any number of'} on {cell.site.name}" for cell in suite.cells)
            raise SuiteError(
                f"{args.suite} has no cell for {count_of(size, 'rank')} on {args.testbed or HOSTS}"
                f"{' that --only matches' if args.only else ''}; its ranks are {', '.join(listed)}"
            )
        return suite, cells

    def _cost_path(self) -> str | None:
        return CostFile(self.args, self.progress.tell).given()

    def _is_late(self, began_s: float) -> bool:
        limit = self.args.time_limit
        return bool(self.transport.broadcast(limit is not None and time.monotonic() - began_s >= limit, ROOT))

    def _measured(self, cell: Cell, measurer: Measurer, finder: _SceneFinder, course: Course) -> bool:
        """Measure a cell and keep its rows; False where that cannot be done, on every rank."""
        try:
            rows = self._rows(cell, measurer, finder)
        except TransportError:
            raise
        except FlexPieError as error:  # all ranks have it, so all go on
            self._say(f"{cell.label} is left out: {error}")
            course.finish()
            return False
        if rows is None:
            course.skip()
            return True
        on_root(self.transport, partial(append_results, self.args.output, rows), ROOT)
        course.finish()
        self._say(f"{course}: {cell_line(cell, rows)}")
        return True

    def _rows(self, cell: Cell, measurer: Measurer, finder: _SceneFinder) -> tuple[Result, ...] | None:
        """The rows of a cell, on the root; None, on every rank, where all planners have theirs."""
        self.progress.tell(f"loading {cell.model}")
        model = load_shared(self.transport, cell.source, cache=measurer.cache, batch=cell.batch)
        scene, cost = finder.find(cell, model)
        done = on_root(self.transport, partial(self._done, cell, measurer.suite, model, scene), ROOT) or set()
        if self.transport.broadcast(done >= set(cell.planners), ROOT):
            return None
        return measurer.measure(cell, model, scene, cost, done)

    def _done(self, cell: Cell, suite: str, model: Model, scene: Scene) -> set[str]:
        """Planners that have their rows; read by the root."""
        rows = rows_so_far(self.args.output)
        return planners_done(rows, suite, cell, model.graph.digest, scene.digest, is_emulated=scene.is_emulated)

    def _say(self, text: str) -> None:
        if self.transport.rank == ROOT:
            self.progress.clear()
            tell(text)


def publish_cells(args: argparse.Namespace, suite: Suite, cells: Sequence[Cell]) -> None:
    """Print what the rows of cells say, and how many cells have none."""
    keys = {(cell.model, cell.batch, cell.site.name, cell.ranks) for cell in cells}
    rows = [row for row in rows_so_far(args.output) if row.suite == suite.name and row.cell in keys]
    left = len(keys - {row.cell for row in rows})
    record = {"suite": suite.name, "output": args.output, "rows": len(rows), "left": left, "cells": cells_record(rows)}
    write_record(record, args.json)
    items: list[Item] = [] if args.json == STDOUT else cells_items(rows)
    items += [f"{count_of(left, 'cell')} without rows: run the same command again to go on"] * bool(left)
    publish([*items, f"rows     {args.output}"], record, args.json)


def is_on(cell: Cell, testbed: str | None) -> bool:
    """Whether a cell is of a testbed's file, or, without one, of the job's own hosts."""
    if testbed is None:
        return cell.site.name == HOSTS
    return bool(cell.site.path) and os.path.realpath(cell.site.path) == os.path.realpath(testbed)


@dataclass
class _SceneFinder:
    """Finds what a cell stands on; called by all ranks together."""

    job: CellsJob
    cache: Cache
    cost_path: str | None
    trace_budget_s: float
    _bases: dict[int, JobBasis] = field(default_factory=dict)

    def find(self, cell: Cell, model: Model) -> tuple[Scene, CostModel | None]:
        """The scene, on every rank, and the cost model, on the root."""
        transport, job = self.job.transport, self._job_basis(cell)
        inputs = on_root(transport, partial(random_inputs, model.graph, cell.terms.seed), ROOT)
        basis = job.find(model, inputs)

        def scene() -> Scene:
            assert basis is not None, "the root has the basis"
            return Scene(
                testbed=basis.testbed,
                digest=cell.site.digest or cluster_digest(job.origins),
                bandwidth=slowest(cell.site.testbed or basis.testbed),
                is_emulated=self.job.args.emulated,
                cost=in_words(basis.cost, basis.source),
                mpi=library(),
            )

        found: Scene = transport.broadcast(on_root(transport, scene, ROOT), ROOT)
        return found, basis.cost if basis else None

    def _job_basis(self, cell: Cell) -> JobBasis:
        threads = cell.terms.threads
        asked = argparse.Namespace(
            testbed=cell.site.path or None,
            cost=self.cost_path,
            traces=None,
            threads=threads,
            trace_budget=self.trace_budget_s,
        )
        if threads not in self._bases:
            self._bases[threads] = JobBasis(self.job.transport, self.cache, asked, self.job.progress.tell)
        return self._bases[threads]
