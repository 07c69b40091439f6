"""``flexpie-mpi fit``: a cost model from traces, and how far off it is where it was shown nothing. Needs no ranks."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from functools import partial

from ..cost.file import save_cost
from ..cost.fit import evaluate, fit
from ..cost.traces import Traces, merged
from ..report.traces import fit_items, fit_record
from . import UsageError
from .options import add_record_arguments, start_log
from .output import STDOUT, Progress, check_distinct, check_paths, publish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("traces", nargs="+", metavar="traces.h5", help="what 'flexpie-mpi trace' measured")
    parser.add_argument("--output", required=True, metavar="cost.json", help="where to write the cost model")
    add_record_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Fit the cost model, write it, and say how good it is."""
    start_log(args.verbose)
    paths = {"--output": args.output, "--json": args.json}
    check_paths(paths)
    read = check_distinct(args.traces, "traces")
    for option, output in paths.items():
        if output not in (None, STDOUT) and os.path.realpath(str(output)) in read:
            raise UsageError(f"{option} names '{output}', which holds traces that are to be read: give another file")
    with Progress(sys.stderr) as progress:
        progress.tell("reading traces")
        traces = merged(*map(Traces.read, args.traces))
        cost = fit(traces, progress.tell)
        cost = replace(cost, held_out=evaluate(traces, tell=progress.tell))
    save_cost(cost, args.output)
    record = fit_record(cost, args.output)
    publish(partial(fit_items, cost, args.output, everything=args.verbose), record, args.json)
    return 0
