"""What the root of ``flexpie-mpi infer`` reads and writes: requests, outputs, and what is said of a run."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.graph import Graph
from ..files.atomic import write_text
from ..files.inputs import load_inputs
from ..files.outputs import (
    check_holdable,
    check_results,
    check_writable,
    holdable,
    is_holdable,
    save_outputs,
    widened_types,
)
from ..files.requests import Source, StreamOptions, find_source, sample
from ..lower import lower
from ..session.timing import TimedRun
from . import UsageError
from .options import budget_of, files_of
from .output import check_paths, publish, show, write_record

if TYPE_CHECKING:
    from ..session.streaming import StreamRun

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RootFiles:
    """What the root of ``infer`` reads and writes, and no other rank."""

    args: argparse.Namespace

    def check(self) -> None:
        """Try every path that will be written, before anything is done."""
        if self.args.output is not None:
            check_writable(self.args.output)
        options = ("output", "save_plan", "timeline", "json")
        check_paths({"--" + name.replace("_", "-"): getattr(self.args, name) for name in options})

    def source(self, graph: Graph) -> Source | None:
        """The requests that the arguments mean, None when they mean a single one; what will not be held is said.

        Raises UsageError when arguments do not go together. Raises DataError when there is no such stream, or its
        outputs cannot be written.
        """
        args = self.args
        is_asked = args.in_flight is not None
        asked = StreamOptions(args.requests, is_asked, args.mean, args.scale, args.seed, budget_of(args))
        source = find_source(files_of(args), graph, asked)
        options = (("--in-flight", is_asked), ("--append", args.append))
        said = "goes with a stream: give --requests R, or an --input of many requests"
        if source is not None:
            options = (("--timeline", bool(args.timeline)), ("--report", args.report))
            said = f"looks at single requests, and this is a stream: {source}"
        for option, is_given in options:
            if is_given:
                raise UsageError(f"{option} {said}")
        if args.append and args.output is None:
            raise UsageError("--append adds to a file: give --output as well")
        if source is not None and args.output is not None:
            check_results(args.output, appends=args.append, source=str(source))
        if args.output is not None:
            for sentence in check_holdable(args.output, map(graph.value, graph.outputs)):
                log.warning("%s", sentence)
        return source

    def request(self, graph: Graph, source: Source | None) -> Mapping[str, Any] | None:
        """What is run over and over; of a stream, what plans are tried with, if there is anything."""
        args = self.args
        if source is not None:
            return sample(source, graph, args.seed)
        files = files_of(args)
        return load_inputs(files, graph, mean=args.mean, scale=args.scale, seed=args.seed, budget=budget_of(args))

    def save(self, run: TimedRun) -> None:
        """Write every file that is asked for, but for the record."""
        if self.args.output is not None:
            graph = run.model.graph
            provenance = {"model": run.model.name, "model_digest": graph.digest, **run.versions}
            fit = {name: value for name, value in run.outputs.items() if is_holdable(graph.value(name))}
            held, said = holdable(fit)
            for sentence in said:
                log.warning("%s", sentence)
            save_outputs(self.args.output, held, provenance, widened_types(map(graph.value, graph.outputs)))
        if self.args.save_plan is not None:
            write_text(self.args.save_plan, run.plan.to_json())
        if self.args.timeline is not None:
            from ..report.chrome import chrome_text
            from ..report.run import run_trace

            programs = lower(run.typical_plan, run.model.graph)
            write_text(self.args.timeline, chrome_text(run_trace(run, programs)))

    def publish(self, run: TimedRun) -> None:
        """Write the record of a run, and print what is to be said of it."""
        from ..report.run import run_items, run_record

        publish(partial(run_items, run, everything=self.args.verbose), run_record(run), self.args.json)

    def save_stream(self, run: StreamRun) -> None:
        """Write every file that is asked for of a stream."""
        from ..report.streams import stream_record

        if self.args.save_plan is not None:
            write_text(self.args.save_plan, run.plan.to_json())
        write_record(stream_record(run), self.args.json)

    def publish_stream(self, run: StreamRun | None) -> None:
        """Print what is to be said of a stream."""
        from ..report.streams import stream_items, stream_record

        assert run is not None, "on the root"
        show(partial(stream_items, run), stream_record(run), self.args.json)
