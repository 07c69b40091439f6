"""A suite outside of a job: boards are emulated testbed by testbed, and the cells of each are measured on them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

from ..core.errors import CostError, EmulationError, SuiteError, count_of
from ..cost.file import load_cost
from ..cost.traces import Traces
from ..emulate import Cluster, available_cores, check_system, emulated
from ..emulate.launch import AS_ROOT, find_library
from ..files.cache import Cache
from ..model import load
from ..suite.cells import HOSTS, Cell, Site, Suite, is_done
from ..suite.cells import read as read_suite
from ..testbed import Testbed
from .opening import Tell
from .suite_job import CellProgress, SuiteRun, SuiteTask

T = TypeVar("T")

log = logging.getLogger(__name__)

EMULATED_SHARE = 0.25
"""Of the time to measure, so much goes to the first emulated boards: messages take another way there."""

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
        cost_path, budget_s = self._known_cost(), self.task.budget_s(suite)
        if cost_path is None:
            self._measure_here(suite, budget_s)
        is_complete, waiting = True, _by(cells, attrgetter("site.name"))
        for number, (name, cells_there) in enumerate(waiting.items(), 1):
            if self._is_late:
                break
            site = cells_there[0].site
            assert site.testbed is not None, "cells on hosts are left out"
            try:
                with emulated(_unlimited(site.testbed), tell=self._tell_of(site)) as cluster:
                    self.tell("")
                    if cost_path is None:
                        cost_path = self._learn(cluster, site, budget_s)
                        self._progress = CellProgress(self._progress.total)  # cells last as long as cells have lasted
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
        for ranks, cells_there in _by(cells, attrgetter("ranks")).items():
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

    def _tell_of(self, site: Site) -> Tell:
        return lambda text: self.tell(f"{self._progress}: {site.name}: {text}")

    def _known_cost(self) -> str | None:
        """The file of the cost model that is given, or that an earlier run has left; None when there is none.

        Raises CostError when a file cannot be used.
        """
        given = self.task.given_cost(self.tell)
        if given is not None or not self.task.cost_path.exists():
            return given
        load_cost(self.task.cost_path)
        return str(self.task.cost_path)

    def _measure_here(self, suite: Suite, budget_s: float) -> None:
        """Measure on this machine as it is, on two ranks where it has two cores.

        Raises CostError when that fails. Raises EmulationError when there is no mpirun.
        """
        self.tell(f"measuring for the cost model, {budget_s:g} s")
        ranks, library = str(min(2, available_cores())), find_library()
        anyhow = ["--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"] if library.name == "openmpi" else []
        words = self._trace_words(["--model", *suite.sources, *self.cache_words], budget_s * (1 - EMULATED_SHARE))
        command = [library.mpirun, *anyhow, "-n", ranks, *words]
        code = subprocess.run(command, env={**os.environ, **AS_ROOT}, check=False).returncode
        if code:
            raise CostError(
                f"measuring for the cost model ended with exit code {code}: give --cost, or see what "
                f"'flexpie-mpi trace --output {self._traces}' says"
            )

    def _learn(self, cluster: Cluster, site: Site, budget_s: float) -> str:
        """Measure messages between the boards as well, and fit a cost model to all."""
        here_s, there_s = budget_s * (1 - EMULATED_SHARE), budget_s * EMULATED_SHARE
        self.tell(f"measuring for the cost model on {site.name}, {there_s:g} s")
        words = ["--no-models", "--testbed", site.path]  # boards share cores here: kernels would show that
        measured = f"measured on this machine for {here_s:g} s"
        if cluster.run(self._trace_words(words, there_s), ranks=cluster.testbed.ranks):
            log.warning("messages between the boards of %s could not be measured for the cost model", site.name)
        else:
            measured += f" and on {site.name} for {there_s:g} s"
        self.tell("fitting a cost model")
        return self.task.fit(Traces.read(self._traces), measured, self.tell)

    @property
    def _traces(self) -> Path:
        """The file of the traces behind the cost model."""
        return Path(self.task.output).with_suffix(".traces.h5")

    def _trace_words(self, words: Sequence[str], budget_s: float) -> list[str]:
        """The command that measures, quietly; what the file of traces has already stays."""
        program = [*_QUIETLY, sys.executable, "-m", "flexpie_mpi", "trace"]
        return [*program, *words, "--output", str(self._traces), "--budget", f"{budget_s:g}"]


def _unlimited(testbed: Testbed) -> Testbed:
    """The testbed, each board with all of this machine's memory: plans keep within its own, but several are there."""
    return replace(testbed, devices=tuple(replace(device, memory_bytes=None) for device in testbed.devices))


def _by(cells: Sequence[Cell], key: Callable[[Cell], T]) -> dict[T, list[Cell]]:
    """Cells by what they have in common, in the order in which that first occurs."""
    groups: dict[T, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return groups
