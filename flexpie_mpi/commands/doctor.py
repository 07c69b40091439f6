"""``flexpie-mpi doctor``: what is wrong with the boards and links of this job, and what to do about it."""

from __future__ import annotations

import argparse
from functools import partial

from ..report.health import health_items, health_record
from ..runtime.transport import on_root
from ..runtime.waiting import DEADLINE_S
from ..session.doctor import Subject, diagnose
from ..session.opening import ROOT
from ..session.verdicts import ERROR, WARNING, worst
from . import UsageError, options
from .job import RankPart, run_job
from .output import check_paths, publish

UNWELL = 1
"""Exit code when something is to be mended."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("--testbed", metavar="T.toml", help="hold boards and links against this description of them")
    parser.add_argument("--model", metavar="FILE.onnx|builtin:NAME", help="see whether all ranks have the same file")
    parser.add_argument("--plan", metavar="FILE", help="see whether this plan of the model fits every board")
    options.add_threads(parser)
    options.add_model_arguments(parser)
    options.add_record_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Start MPI and look at the boards of all ranks."""
    if args.plan is not None and args.model is None:
        raise UsageError("--plan goes with --model: what a plan needs depends on the model")
    run_job(DEADLINE_S, lambda transport: Doctor(transport, args).run())


class Doctor(RankPart):
    """One rank's part of the examination."""

    def run(self) -> int:
        """The exit code."""
        args, transport = self.args, self.transport
        with self.progress:
            on_root(transport, lambda: check_paths({"--json": args.json}), ROOT)
            subject = Subject(
                *(args.testbed, args.model, args.plan), options.asked_of(args), options.budget_of(args), args.threads
            )
            diagnosis = diagnose(transport, subject, self.cache, self.progress.tell)
        items = partial(health_items, diagnosis)
        on_root(transport, lambda: publish(items, health_record(diagnosis), args.json), ROOT)
        return UNWELL if worst(diagnosis.verdicts) in (WARNING, ERROR) else 0
