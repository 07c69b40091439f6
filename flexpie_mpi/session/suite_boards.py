"""A suite outside of a job: boards are emulated testbed by testbed, and the cells of each are measured on them."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path

from ..core.errors import CostError, EmulationError, SuiteError, count_of
from ..cost.file import load_cost
from ..cost.traces import Traces
from ..emulate import Cluster, check_system, emulated
from ..files.cache import Cache
from ..model import load
from ..suite.cells import HOSTS, Cell, Site, Suite, grouped, is_done
from ..suite.cells import read as read_suite
from ..testbed import Testbed
from .opening import Tell
from .suite_job import CellProgress, SuiteRun, SuiteTask

log = logging.getLogger(__name__)

PLANS_SHARE = 0.5
"""Of the time to measure, so much goes to plans on the first boards; messages on all others share what is left."""

_QUIETLY = ("sh", "-c", 'exec "$0" "$@" > /dev/null')
"""Before a command whose summary nobody asked for; what goes wrong is still said on stderr."""

REFUSED, INTERRUPTED = 2, 130
"""Exit codes of a job whose input is wrong, and of one that a person has ended."""


class JobEnded(Exception):
    """A job has ended with a `code` that no other job can follow."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class BoardCells:
    """Measures the cells of a suite on boards that it builds, one job for each number of ranks."""

    task: SuiteTask
    cache: Cache  # of models
    # The words of a command that measures the cells of one testbed in a job: from the task of the job and the progress
    # so far
    job_words: Callable[[SuiteTask, CellProgress], Sequence[str]]
    cache_words: Sequence[str]  # of a command that measures: where to cache models
    # `tell` and `say`: are told what goes on, and what is left out
    tell: Tell
    say: Tell
    _began_s: float = field(default_factory=time.monotonic)
    _progress: CellProgress = field(default_factory=lambda: CellProgress(0))

    def run(self) -> SuiteRun:
        """Measure all cells that have no rows yet, as long as time allows.

        Raises JobEnded when a person has ended a job, or the very first one was refused.
        """
        self.task.rows()
        suite = read_suite(self.task.suite)
        cells = self._cells(suite)
        waiting = self._waiting(suite, cells)
        self._progress = CellProgress(len(waiting))
        return SuiteRun(suite, cells, not waiting or self._measure(suite, waiting))

    def _cells(self, suite: Suite) -> list[Cell]:
        """Cells on boards that can be emulated."""
        task = self.task
        asked = [cell for cell in suite.cells if task.testbed is None or task.is_here(cell)]
        asked = [cell for cell in asked if cell.matches(task.only)]
        on_boards = [cell for cell in asked if cell.site.path]
        if asked and not on_boards:
            raise SuiteError(
                f"{task.suite} asks for the testbed '{HOSTS}': start it on them, "
                f"mpirun -n N flexpie-mpi bench {task.suite} --output {task.output}"
            )
        if not asked:
            raise SuiteError(f"{task.suite} has no cell that --only and --testbed match")
        if len(on_boards) < len(asked):
            count = count_of(len(asked) - len(on_boards), "cell")
            self.say(f"{count} on '{HOSTS}' left for a job that mpirun starts")
        return on_boards

    def _waiting(self, suite: Suite, cells: Sequence[Cell]) -> list[Cell]:
        """Cells that are not done; every model is loaded to see whether it still is what it was."""
        rows = self.task.rows()
        digests: dict[tuple[str, int], str] = {}
        for source, batch in {(cell.source, cell.batch): None for cell in cells}:
            self.tell(f"loading {source}")
            digests[source, batch] = load(source, cache=self.cache, batch=batch).graph.digest
        return [
            cell
            for cell in cells
            if not is_done(rows, suite.name, cell, digests[cell.source, cell.batch], cell.site.digest)
        ]

    def _measure(self, suite: Suite, cells: Sequence[Cell]) -> bool:
        """Measure cells on all their testbeds; whether all could be."""
        check_system()  # before anything that takes long
        is_complete, waiting = True, grouped(cells, attrgetter("site.name"))
        cost_path = self._known_cost() or self._learn(suite, [some[0].site for some in waiting.values()])
        self._progress = CellProgress(self._progress.total)  # cells last as long as cells have lasted
        for number, (name, cells_there) in enumerate(waiting.items(), 1):
            if self._is_late:
                break
            site = cells_there[0].site
            try:
                with self._boards(site) as cluster:
                    self.tell("")
                    is_complete &= self._on_boards(cluster, site, cells_there, cost_path)
            except EmulationError as error:
                if number == len(waiting) and self._progress.done == 0:  # none can be emulated
                    raise
                self.say(f"the boards of {name} are left out: {error}")
                is_complete = False
        return is_complete

    def _on_boards(self, cluster: Cluster, site: Site, cells: Sequence[Cell], cost_path: str) -> bool:
        """Measure the cells of one testbed; whether all could be."""
        is_complete = True
        for ranks, cells_there in grouped(cells, attrgetter("ranks")).items():
            if self._is_late:
                break
            left_s = self.task.seconds_left(self._began_s)
            task = replace(self.task, testbed=site.path, cost=cost_path, time_limit_s=left_s, is_emulated=True)
            code = cluster.run(self.job_words(task, self._progress), ranks=ranks)
            if code == INTERRUPTED or (code == REFUSED and self._progress.done == 0):
                raise JobEnded(code)
            is_complete &= code == 0
            self._progress.finish(len(cells_there))
        return is_complete

    @property
    def _is_late(self) -> bool:
        return self.task.seconds_left(self._began_s) == 0

    def _boards(self, site: Site) -> AbstractContextManager[Cluster]:
        assert site.testbed is not None, "cells on hosts are left out"
        return emulated(_unlimited(site.testbed), tell=lambda text: self.tell(f"{self._progress}: {site.name}: {text}"))

    def _known_cost(self) -> str | None:
        """The file of the cost model that is given, or that an earlier run has left; None when there is none.

        Raises CostError when a file cannot be used.
        """
        given = self.task.given_cost(self.tell)
        if given is not None or not self.task.cost_path.exists():
            return given
        load_cost(self.task.cost_path)
        return str(self.task.cost_path)

    def _learn(self, suite: Suite, sites: Sequence[Site]) -> str:
        """Measure the suite's models on the first boards that can be built, messages on all; the cost model's file.

        Boards of one suite mostly differ in their links, so plans are measured on one testbed, and how messages meet on
        the way on each. Raises CostError when nothing could be measured, EmulationError when no boards can be built.
        """
        budget_s, measured = self.task.budget_s(suite), list[str]()
        models = ["--model", *suite.sources, *self.cache_words]
        share_s = budget_s * (1 - PLANS_SHARE) / max(1, len(sites) - 1)
        for number, site in enumerate(sites, 1):
            seconds = share_s if measured else budget_s * (PLANS_SHARE if number < len(sites) else 1)
            try:
                self._trace(site, ["--no-models"] if measured else models, seconds)
            except (CostError, EmulationError) as error:
                if number == len(sites) and not measured:
                    raise
                log.warning("for the cost model, nothing is measured on %s: %s", site.name, error)
            else:
                measured.append(f"on {site.name} for {seconds:g} s")
        self.tell("fitting a cost model")
        return self.task.fit(Traces.read(self._traces), f"measured {', '.join(measured)}", self.tell)

    def _trace(self, site: Site, words: Sequence[str], seconds: float) -> None:
        """Measure on the boards of a testbed; what the file of traces has already stays."""
        program = [*_QUIETLY, sys.executable, "-m", "flexpie_mpi", "trace", *words, "--testbed", site.path]
        with self._boards(site) as cluster:
            self.tell(f"measuring for the cost model on {site.name}, {seconds:g} s")
            options = ["--output", str(self._traces), "--budget", f"{seconds:g}"]
            code = cluster.run([*program, *options], ranks=cluster.testbed.ranks)
        if code:
            raise CostError(
                f"measuring for the cost model ended with exit code {code}: give --cost, or see what "
                f"'flexpie-mpi trace --output {self._traces}' says"
            )

    @property
    def _traces(self) -> Path:
        return Path(self.task.output).with_suffix(".traces.h5")


def _unlimited(testbed: Testbed) -> Testbed:
    """The testbed, each board with all of this machine's memory: plans keep within its own, but several are there."""
    return replace(testbed, devices=tuple(replace(device, memory_bytes=None) for device in testbed.devices))
