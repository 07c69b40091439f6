"""A suite outside of a job: boards are emulated testbed by testbed, and the cells of each are measured on them."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TypeVar

from ..core.errors import EmulationError, SuiteError
from ..emulate import Cluster, emulated
from ..emulate.system import check_system
from ..model import load
from ..report.progress import Progress
from ..report.units import count_of
from ..suite.cells import HOSTS, Cell, Site, Suite, is_done
from ..suite.files import read as read_suite
from ..testbed import Testbed
from .cells import INCOMPLETE, is_on, publish_cells, rows_so_far
from .costfile import EMULATED_SHARE, CostFile
from .course import Course
from .launch import WRONG_INPUT
from .options import cache_of, start_log
from .output import check_paths
from .stdio import tell

T = TypeVar("T")

log = logging.getLogger(__name__)

INTERRUPTED = 130
"""Exit code of a job that a person has ended."""


@dataclass
class Clusters:
    """The verb outside of a job.

    Attributes
    ----------
    args : Namespace
    progress : Progress
    """

    args: argparse.Namespace
    progress: Progress = field(default_factory=lambda: Progress(sys.stderr))
    _began_s: float = field(default_factory=time.monotonic)
    _course: Course = field(init=False)
    _cost_path: str | None = None

    def run(self) -> int:
        """The exit code: of the first job that no other can follow, or 1 where a cell could not be measured."""
        args = self.args
        start_log(args.verbose)
        check_paths({"--output": args.output, "--json": args.json})
        with self.progress:
            suite = read_suite(args.suite)
            cells = self._cells(suite)
            waiting = self._waiting(suite, cells)
            self._course = Course(len(waiting))
            code = self._measure(suite, waiting) if waiting else 0
        if self._is_final(code):
            return code
        publish_cells(args, suite, cells)
        return INCOMPLETE if code else 0

    def _cells(self, suite: Suite) -> list[Cell]:
        """Cells on boards that can be emulated."""
        testbed = self.args.testbed
        asked = [cell for cell in suite.cells if testbed is None or is_on(cell, testbed)]
        asked = [cell for cell in asked if cell.matches(self.args.only)]
        found = [cell for cell in asked if cell.site.path]
        if asked and not found:
            raise SuiteError(
                f"{self.args.suite} asks for the testbed '{HOSTS}': start it on them, "
                f"mpirun -n N flexpie-mpi bench {self.args.suite} --output {self.args.output}"
            )
        if not asked:
            raise SuiteError(f"{self.args.suite} has no cell that --only and --testbed match")
        if len(found) < len(asked):
            count = count_of(len(asked) - len(found), "cell")
            self._say(f"{count} on '{HOSTS}' left for a job that mpirun starts")
        return found

    def _waiting(self, suite: Suite, cells: Sequence[Cell]) -> list[Cell]:
        """Cells that are not done; every model is loaded to see whether it still is what it was."""
        rows, cache = rows_so_far(self.args.output), cache_of(self.args)
        digests: dict[tuple[str, int], str] = {}
        for source, batch in {(cell.source, cell.batch): None for cell in cells}:
            self.progress.tell(f"loading {source}")
            digests[source, batch] = load(source, cache=cache, batch=batch).graph.digest
        return [
            cell
            for cell in cells
            if not is_done(rows, suite.name, cell, digests[cell.source, cell.batch], cell.site.digest)
        ]

    def _measure(self, suite: Suite, cells: Sequence[Cell]) -> int:
        """Measure cells on all their testbeds; the first exit code that is not 0."""
        check_system()  # before anything that takes long
        costs = CostFile(self.args, self.progress.tell)
        self._cost_path = costs.known()
        budget_s = suite.trace_budget_s if self.args.trace_budget is None else self.args.trace_budget
        if self._cost_path is None:
            self.progress.tell(f"measuring for the cost model, {budget_s:g} s")
            costs.measure(self._trace_words(suite), budget_s * (1 - EMULATED_SHARE))
        first_code, waiting = 0, _by(cells, attrgetter("site.name"))
        for number, (name, found) in enumerate(waiting.items(), 1):
            if self._time_left() == 0:
                break
            try:
                code = self._on_boards(suite, found, costs, budget_s)
            except EmulationError as error:
                if number == len(waiting) and self._course.done == 0:  # none can be emulated
                    raise
                self._say(f"the boards of {name} are left out: {error}")
                code = INCOMPLETE
            if self._is_final(code):
                return code
            first_code = first_code or code
        return first_code

    def _on_boards(self, suite: Suite, cells: Sequence[Cell], costs: CostFile, budget_s: float) -> int:
        """Measure the cells of one testbed."""
        site = cells[0].site
        assert site.testbed is not None, "cells on hosts are left out"
        with emulated(_unlimited(site.testbed), tell=self._tell_of(site)) as cluster:
            self.progress.clear()
            if self._cost_path is None:
                self._cost_path = self._learn(suite, cluster, site, costs, budget_s)
                self._course = Course(self._course.total)  # cells take as long as cells have taken
            first_code = 0
            for ranks, found in _by(cells, attrgetter("ranks")).items():
                if self._time_left() == 0:
                    break
                code = cluster.run(self._bench_words(site), ranks=ranks)
                if self._is_final(code):
                    return code
                first_code = first_code or code
                self._course.finish(len(found))
        return first_code

    def _is_final(self, code: int) -> bool:
        """Whether a job's exit code is the whole run's: a person has ended it, or the very first one was refused."""
        return code == INTERRUPTED or (code == WRONG_INPUT and self._course.done == 0)

    def _tell_of(self, site: Site) -> Callable[[str], None]:
        return lambda text: self.progress.tell(f"{self._course}: {site.name}: {text}")

    def _learn(self, suite: Suite, cluster: Cluster, site: Site, costs: CostFile, budget_s: float) -> str:
        """Measure messages between the boards as well, and fit a cost model to all."""
        assert site.testbed is not None, "the boards are those of a testbed"
        here_s, there_s = budget_s * (1 - EMULATED_SHARE), budget_s * EMULATED_SHARE
        self.progress.tell(f"measuring for the cost model on {site.name}, {there_s:g} s")
        words = ["--no-models", "--testbed", site.path]  # boards share cores here: kernels would show that
        measured = f"measured on this machine for {here_s:g} s"
        if cluster.run(costs.trace_words(words, there_s), ranks=site.testbed.ranks):
            log.warning("messages between the boards of %s could not be measured for the cost model", site.name)
        else:
            measured += f" and on {site.name} for {there_s:g} s"
        return costs.fit(measured)

    def _trace_words(self, suite: Suite) -> list[str]:
        return ["--model", *suite.sources, *self._cache_words()]

    def _bench_words(self, site: Site) -> list[str]:
        """This verb, inside of a job on the boards."""
        args = self.args
        words = [sys.executable, "-m", "flexpie_mpi", "bench", args.suite, "--output", args.output]
        words += ["--testbed", site.path, "--emulated", "--cost", str(self._cost_path), *self._cache_words()]
        words += ["--deadline", f"{args.deadline:g}", "--course", self._course.to_word()]
        words += [f"--only={args.only}"] if args.only else []
        left_s = self._time_left()
        words += ["--time-limit", f"{max(1.0, left_s):.0f}"] if left_s is not None else []
        return words + (["--verbose"] if args.verbose else [])

    def _cache_words(self) -> list[str]:
        if self.args.no_cache:
            return ["--no-cache"]
        return ["--cache", str(self.args.cache)] if self.args.cache else []

    def _time_left(self) -> float | None:
        """Seconds in which cells may still begin; None without a limit."""
        limit = self.args.time_limit
        return None if limit is None else max(0.0, limit - (time.monotonic() - self._began_s))

    def _say(self, text: str) -> None:
        self.progress.clear()
        tell(text)


def _unlimited(testbed: Testbed) -> Testbed:
    """The testbed, each board with all of this machine's memory: plans keep within its own, but several are there."""
    return replace(testbed, devices=tuple(replace(device, memory_bytes=None) for device in testbed.devices))


def _by(cells: Sequence[Cell], key: Callable[[Cell], T]) -> dict[T, list[Cell]]:
    """Cells by what they have in common, in the order in which that first occurs."""
    found: dict[T, list[Cell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return found
