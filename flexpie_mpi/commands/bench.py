"""``flexpie-mpi bench``: measure a suite, on emulated boards or on the ranks of the job, and keep every row."""

from __future__ import annotations

import argparse

from .cells import CellsJob
from .clusters import Clusters
from .course import course
from .job import run_job
from .launch import launcher_rank
from .options import add_cache_arguments, add_record_arguments, seconds, seconds_or_none

DEADLINE_S = 600.0
"""How long ranks wait for one that plans."""


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
    parser.add_argument("--course", type=course, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Build the boards and start this verb on them, or, in a job, measure the cells that fit it."""
    if launcher_rank() is not None:
        run_job(args.deadline, lambda transport: CellsJob(transport, args).run())
    return Clusters(args).run()
