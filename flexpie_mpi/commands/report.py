"""``flexpie-mpi report``: tables and plots of what ``bench`` measured, or the picture of a plan.

Needs no ranks, but matplotlib.
"""

from __future__ import annotations

import argparse
import os
import sys

from ..core.errors import ReportError
from ..report.progress import Progress
from ..suite.results import Result, read_results
from .basis import late
from .options import add_record_arguments, start_log
from .output import check_paths, make_folder, publish, write_record
from .parser import UsageError
from .planpicture import add_plan_arguments, draw_plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("results", nargs="*", metavar="results.jsonl", help="what 'flexpie-mpi bench' measured")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder for README.md and its pictures, or for those of --plan; made where missing",
    )
    add_plan_arguments(parser.add_argument_group("a plan"))
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Report on what is given."""
    start_log(args.verbose)
    return draw_plan(args) if args.plan is not None else _report_results(args)


def _report_results(args: argparse.Namespace) -> int:
    """Write tables and plots of rows of results, and say what they come to."""
    if not args.results:
        raise UsageError("report needs to know on what: give the results that 'flexpie-mpi bench' wrote")
    if args.output is None:
        raise UsageError("report needs a folder to write to: give --output DIR")
    check_paths({"--json": args.json})
    page = late("report.page")  # draws, so it needs matplotlib
    rows = _read(args.results)
    folder = make_folder(args.output)
    with Progress(sys.stderr) as progress:
        made = page.make_page(rows, args.results)
        page.write_page(made, folder, progress.tell)
    write_record(made.record, args.json)
    publish(page.summary_items(made, args.output), made.record, args.json)
    return 0


def _read(paths: list[str]) -> tuple[Result, ...]:
    """Rows of all files; of rows of the same suite, cell and planner the last."""
    known: dict[str, str] = {}
    found: dict[object, Result] = {}
    for path in paths:
        real = os.path.realpath(path)
        if real in known:
            raise UsageError(f"'{known[real]}' and '{path}' are the same results: give each file once")
        known[real] = path
        found.update(((result.suite, *result.key), result) for result in read_results(path))
    if not found:
        raise ReportError(f"there are no rows in {', '.join(paths)}: let 'flexpie-mpi bench' measure some first")
    return tuple(found.values())
