"""``flexpie-mpi bench``: measure a suite, on emulated boards or on the ranks of the job, and keep every row."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from ..core.errors import count_of
from ..report.cells import cells_items, cells_record
from ..report.units import ms
from ..runtime.machine import launcher_rank
from ..runtime.transport import on_root
from ..session.opening import ROOT
from ..session.suite_boards import BoardCells, JobEnded
from ..session.suite_job import CellProgress, JobCells, SuiteRun, SuiteTask
from ..suite.cells import Cell
from ..suite.results import Result
from .job import RankPart, run_job
from .options import add_cache_arguments, add_record_arguments, cache_of, start_log
from .output import Progress, check_paths, publish, tell, write_record
from .texts import seconds, seconds_or_none

DEADLINE_S = 600.0
"""How long ranks wait for one that plans."""

INCOMPLETE = 1
"""Exit code when a cell could not be measured."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("suite", metavar="SUITE.toml", help="models, testbeds, planners, ranks and batches to compare")
    parser.add_argument(
        "--output",
        required=True,
        metavar="results.jsonl",
        help="where rows go as soon as a cell is done; cells that have theirs, of the same suite, model and testbed, "
        "are skipped, with however many repeats they were measured",
    )
    parser.add_argument(
        "--only", metavar="PATTERN", help="cells whose MODEL/TESTBED/RANKS/BATCH begins so, such as 'resnet*/*ring*'"
    )
    parser.add_argument(
        "--testbed",
        metavar="T.toml",
        help="cells of this testbed only; in a job, its ranks stand for the boards (default there: cells on 'hosts')",
    )
    parser.add_argument(
        "--time-limit", type=seconds, metavar="SECONDS", help="begin no cell after this time; run again to go on"
    )
    cost = parser.add_mutually_exclusive_group()
    cost.add_argument("--cost", metavar="cost.json", help="the cost model that 'flexpie-mpi fit' wrote")
    cost.add_argument(
        "--traces",
        nargs="+",
        metavar="traces.h5",
        help="fit the cost model to these (default: what is kept beside --output, or else measured before all cells)",
    )
    parser.add_argument(
        "--trace-budget", type=seconds_or_none, metavar="SECONDS", help="time to measure for it (default: the suite's)"
    )
    parser.add_argument(
        "--deadline",
        type=seconds,
        default=DEADLINE_S,
        metavar="SECONDS",
        help="how long a rank waits for another before it gives up (default: %(default)g)",
    )
    add_cache_arguments(parser)
    add_record_arguments(parser)
    parser.add_argument("--emulated", action="store_true", help=argparse.SUPPRESS)  # what emulates boards says so
    parser.add_argument("--course", type=_progress, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Build the boards and start this verb on them, or, in a job, measure the cells that fit it."""
    if launcher_rank() is not None:
        run_job(args.deadline, lambda transport: CellsJob(transport, args).run())
    start_log(args.verbose)
    check_paths({"--output": args.output, "--json": args.json})
    with Progress(sys.stderr) as progress:
        say = partial(_say, progress)
        cache = cache_of(args)
        words = partial(_job_words, args)
        try:
            done = BoardCells(_task(args), cache, words, _cache_words(args), progress.tell, say).run()
        except JobEnded as ended:
            return ended.code
    _publish(args, done)
    return 0 if done.is_complete else INCOMPLETE


class CellsJob(RankPart):
    """One rank's part of measuring cells."""

    def run(self) -> int:
        """The exit code."""
        args, transport, progress = self.args, self.transport, self.progress
        with progress:
            paths = {"--output": args.output, "--json": args.json}
            on_root(transport, partial(check_paths, paths), ROOT)
            say = partial(_say, progress)
            job = JobCells(transport, _task(args), self.cache, progress.tell, say, partial(_say_cell, say), args.course)
            done = job.run()
        if not args.emulated:
            on_root(transport, partial(_publish, args, done), ROOT)
        return 0 if done.is_complete else INCOMPLETE


def _task(args: argparse.Namespace) -> SuiteTask:
    return SuiteTask(
        args.suite,
        args.output,
        only=args.only,
        testbed=args.testbed,
        cost=args.cost,
        traces=args.traces,
        trace_budget_s=args.trace_budget,
        time_limit_s=args.time_limit,
        is_emulated=args.emulated,
    )


def _job_words(args: argparse.Namespace, task: SuiteTask, progress: CellProgress) -> list[str]:
    """This verb, inside of a job on boards."""
    words = [sys.executable, "-m", "flexpie_mpi", "bench", task.suite, "--output", task.output]
    words += ["--testbed", str(task.testbed), "--emulated", "--cost", str(task.cost), *_cache_words(args)]
    words += ["--deadline", f"{args.deadline:g}"]
    words += ["--course", f"{progress.total},{progress.done},{progress.elapsed_s:.1f}"]
    words += [f"--only={task.only}"] if task.only else []
    words += ["--time-limit", f"{max(1.0, task.time_limit_s):.0f}"] if task.time_limit_s is not None else []
    return words + (["--verbose"] if args.verbose else [])


def _cache_words(args: argparse.Namespace) -> list[str]:
    if args.no_cache:
        return ["--no-cache"]
    return ["--cache", str(args.cache)] if args.cache else []


def _progress(text: str) -> CellProgress:
    """What :func:`_job_words` wrote of it.

    >>> _progress("4,1,30.0").done
    1
    """
    try:
        total, done, spent_s = text.split(",")
        return CellProgress(int(total), int(done), float(spent_s))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not CELLS,DONE,SECONDS") from error


def _say(progress: Progress, text: str) -> None:
    progress.clear()
    tell(text)


def _say_cell(say: partial[None], progress: CellProgress, cell: Cell, rows: Sequence[Result]) -> None:
    """A cell and its medians, in the order of its planners."""
    medians = ", ".join(f"{row.planner} {ms(row.median_s)}" for row in rows)
    say(f"{progress}: {cell.label}: {medians or 'nothing new to measure'}")


def _publish(args: argparse.Namespace, run: SuiteRun) -> None:
    """Print what the rows of cells say, and how many cells have none."""
    keys = {(cell.model, cell.batch, cell.site.name, cell.ranks) for cell in run.cells}
    rows = [row for row in _task(args).rows() if row.suite == run.suite.name and row.cell in keys]
    left = len(keys - {row.cell for row in rows})
    record = {"suite": run.suite.name, "output": args.output, "rows": len(rows), "left": left}
    record["cells"] = cells_record(rows)
    write_record(record, args.json)
    more = [f"{count_of(left, 'cell')} without rows: run the same command again to go on"] * bool(left)
    publish(lambda: [*cells_items(rows), *more, f"rows     {args.output}"], record, args.json)
