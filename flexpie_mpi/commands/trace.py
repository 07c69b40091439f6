"""``flexpie-mpi trace``: measure links, exchanges and plans on all ranks of the job, or merge files of traces."""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..core.graph import Graph
from ..core.versions import versions
from ..cost.traces import Recorder, Traces, merged
from ..files import INPUT_SUFFIXES
from ..files.inputs import load_inputs
from ..files.requests import offered_shapes
from ..measure.agreement import Budget, with_time_left
from ..measure.campaign import Campaign, Subject
from ..measure.cluster import cluster_digest, origins_of
from ..model import BUILTIN
from ..model.inputs import Shapes
from ..model.zoo import names
from ..report.traces import traces_items, traces_record
from ..runtime.engine import load_shared
from ..runtime.machine import launcher_rank
from ..runtime.transport import on_root
from ..runtime.waiting import DEADLINE_S
from ..session.opening import ROOT, from_root, read_boards
from ..testbed import Testbed
from . import UsageError, options, texts
from .job import RankPart, run_job
from .output import check_paths, publish

log = logging.getLogger(__name__)

BUDGET_S = 60.0
FLUSH_S = 2.0
"""What is measured is in the file about this much later at most."""

_MEASURING = ("model", "input", "no-models", "budget", "threads", "testbed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    models = parser.add_mutually_exclusive_group()
    models.add_argument(
        "--model",
        action="append",
        nargs="+",
        metavar="FILE.onnx|builtin:NAME",
        help="models whose plans are measured (default: the large built-in ones and networks of many shapes)",
    )
    parser.add_argument(
        "--input",
        action="append",
        nargs="+",
        default=[],
        metavar="[NAME=]FILE",
        help=f"{', '.join(INPUT_SUFFIXES)}: the request that plans of the one model are measured with (default: "
        "random)",
    )
    models.add_argument("--no-models", action="store_true", help="measure links and exchanges only")
    parser.add_argument(
        "--output", required=True, metavar="traces.h5", help="where the traces go; what the file has already stays"
    )
    parser.add_argument(
        "--budget", type=texts.seconds, metavar="SECONDS", help=f"time to measure (default: {BUDGET_S:g})"
    )
    options.add_threads(parser, None)
    parser.add_argument(
        "--testbed",
        metavar="T.toml",
        help="note how many times slower than this machine each rank's board is; emulated boards are as slow while "
        "exchanges are measured, and what they compute is measured one board after the other, at full speed",
    )
    parser.add_argument(
        "--merge", nargs="+", metavar="traces.h5", help="measure nothing; write all rows of these files to --output"
    )
    options.add_model_arguments(parser)
    options.add_record_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure on all ranks, or merge files on one."""
    options.start_log(args.verbose)
    if args.input and len([source for group in args.model or () for source in group]) != 1:
        raise UsageError("--input is a request of one model: give that with --model, and no other")
    if args.merge is None:
        run_job(DEADLINE_S, lambda transport: Tracing(transport, args).run())
    given = [f"--{name}" for name in _MEASURING if getattr(args, name.replace("-", "_"))]
    if given:
        raise UsageError(f"--merge measures nothing, so {given[0]} goes without it: leave one of the two out")
    if launcher_rank() is not None:  # all ranks have to leave together
        run_job(DEADLINE_S, lambda transport: on_root(transport, partial(_merge, args), ROOT) or 0)
    return _merge(args)


def _merge(args: argparse.Namespace) -> int:
    _check_paths(args)
    traces = merged(*(Traces.read(path) for path in args.merge))
    traces.write(args.output)
    _leave(traces, args)
    return 0


def _check_paths(args: argparse.Namespace) -> None:
    """Try every path that will be written, before anything is done; what is there and no traces is not touched."""
    check_paths({"--output": args.output, "--json": args.json})
    if os.path.exists(args.output):
        Traces.read(args.output)


def _leave(traces: Traces, args: argparse.Namespace, extra: dict[str, Any] | None = None) -> None:
    record = {"output": args.output, **traces_record(traces), **(extra or {})}
    publish(lambda: [f"traces   {args.output}", *traces_items(traces)], record, args.json)


class Tracing(RankPart):
    """One rank's part of measuring."""

    def run(self) -> int:
        """The exit code."""
        args, transport = self.args, self.transport
        with self.progress, ExitStack() as stack:
            on_root(transport, partial(_check_paths, args), ROOT)
            known = self._known()
            slowdown = known.devices[transport.rank].slowdown if known else 1.0
            origins = origins_of(transport, args.threads or 1, slowdown)
            subjects = self._subjects()
            recorder = on_root(transport, lambda: stack.enter_context(Recorder(args.output, origins)), ROOT)
            budget = Budget(transport, args.budget or BUDGET_S)
            keep = _FlushedRows(recorder).keep
            tell = with_time_left(self.progress.tell, budget.seconds)
            Campaign(transport, origins, budget, keep, tell, known).run(subjects)
            traces = recorder.traces() if recorder else Traces()
            on_root(transport, stack.close, ROOT)
        extra = {"cluster": cluster_digest(origins), "versions": versions(transport.library)}
        on_root(transport, partial(_leave, traces, args, extra), ROOT)
        return 0

    def _known(self) -> Testbed | None:
        """The boards of all ranks in ``--testbed``, and their links.

        Raises TestbedError on every rank, when the file cannot be read or has fewer boards than the job has ranks.
        """
        path = self.args.testbed
        return None if path is None else from_root(self.transport, lambda: read_boards(path, self.transport.size))

    def _subjects(self) -> list[Callable[[], Subject]]:
        """What loads each model. Those that are asked for are loaded at once, for one of them may be wrong."""
        if self.args.no_models:
            return []
        if self.args.model is None:
            return [partial(self._subject, f"{BUILTIN}{name}", {}) for name in default_models()]
        sources = [source for group in self.args.model for source in group]
        shapes = replace(options.asked_of(self.args), offer=partial(offered_shapes, options.files_of(self.args)))
        loaded = [self._subject(source, shapes) for source in sources]
        return [partial(_given, subject) for subject in loaded]

    def _subject(self, source: str, shapes: Shapes) -> Subject:
        self.progress.tell(f"loading {source}")
        model = load_shared(self.transport, source, shapes, self.cache, budget=options.budget_of(self.args))
        return Subject(model, on_root(self.transport, partial(self._inputs, model.graph), ROOT))

    def _inputs(self, graph: Graph) -> dict[str, np.ndarray] | None:
        """The request that plans are measured with; None where there is none, and none can be made up."""
        try:
            return load_inputs(options.files_of(self.args), graph, budget=options.budget_of(self.args))
        except DataError as error:
            if self.args.input:
                raise
            log.warning("%s", error)
            return None


def default_models() -> list[str]:
    """Built-in models that are measured when none is asked for: first those that were made to be."""
    large = [name for name in names() if not name.startswith("tiny_")]
    return sorted(large, key=lambda name: not name.startswith("spread_"))


def _given(subject: Subject) -> Subject:
    return subject


@dataclass
class _FlushedRows:
    """Hands rows to a recorder, where there is one, and has them written every now and then."""

    recorder: Recorder | None
    _flushed_s: float = field(default_factory=time.monotonic)

    def keep(self, table: str, rows: np.ndarray) -> None:
        if self.recorder is None:
            return
        self.recorder.add(table, rows)
        if time.monotonic() - self._flushed_s >= FLUSH_S:
            self.recorder.flush()
            self._flushed_s = time.monotonic()
