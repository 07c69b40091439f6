"""What the root of ``flexpie-mpi infer`` reads and writes: requests, outputs, and what is said of a run."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import DataError
from ..core.plan import Plan
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
from ..files.requests import Source, StreamOptions, find_source, normalisations, sample
from ..model import Model
from ..model.pixels import file_plan, pixel_plan, with_pixels
from ..session.timing import TimedRun, stream_provenance
from . import UsageError
from .options import budget_of, files_of, reading_of
from .output import check_paths, show, write_record

if TYPE_CHECKING:
    from ..report.tables import Item
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

    def take_over(self) -> None:
        """Go on with the file of a root that was lost, from this rank on.

        Raises DataError where this rank does not have it.
        """
        args = self.args
        if args.output is None or not Path(args.output).exists():
            raise DataError(
                "the rank that reads and writes was lost, and the rank in its place has nothing to go on with: "
                "--output FILE on a disk that all boards share would let it"
            )
        args.resume, args.append = args.output, False

    def with_pixels(self, model: Model) -> Model:
        """The model as it takes the pixels of pictures, where all requests have such; else as it is."""
        return with_pixels(model, normalisations(files_of(self.args), model.graph, self._asked(model)))

    def planned(self, model: Model, plan: Plan) -> Plan | None:
        """As of :func:`flexpie_mpi.model.pixels.pixel_plan`."""
        return pixel_plan(model, plan)

    def _asked(self, model: Model) -> StreamOptions:
        """What is asked for besides files; pixels are normalised by the model, if it takes them."""
        args = self.args
        mean, scale = (None, None) if model.pixels else (args.mean, args.scale)
        return StreamOptions(args.requests, args.in_flight is not None, mean, scale, args.seed, budget_of(args))

    def source(self, model: Model) -> Source | None:
        """The requests that the arguments mean, None when they mean a single one; what will not be held is said.

        Raises UsageError when arguments do not go together. Raises DataError when there is no such stream, or its
        outputs cannot be written.
        """
        args, graph, asked = self.args, model.graph, self._asked(model)
        source = find_source(files_of(args), graph, asked)
        options: tuple[tuple[str, bool], ...] = (
            ("--in-flight", asked.is_stream),
            ("--adapt", args.adapt),
            ("--append", args.append),
            ("--resume", args.resume is not None),
        )
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
            check_results(args.output, appends=args.append, resumed=self._resumed(model, source), source=str(source))
        if args.output is not None:
            for sentence in check_holdable(args.output, map(graph.value, graph.outputs)):
                log.warning("%s", sentence)
        return source

    def _resumed(self, model: Model, source: Source) -> Mapping[str, str] | None:
        """What the file of a stream that goes on must say of it; None of any other stream.

        Raises UsageError when its requests cannot be had again.
        """
        if self.args.resume is None:
            return None
        if not source.identity:
            raise UsageError(
                f"--resume asks for the same requests again, and {source} does not keep them: give --append, and only "
                "those behind the attribute 'requests' of the file"
            )
        return stream_provenance(model, source, reading_of(self.args))

    def request(self, model: Model, source: Source | None) -> Mapping[str, Any] | None:
        """What is run over and over; of a stream, what plans are tried with, if there is anything."""
        graph, asked = model.graph, self._asked(model)
        if source is not None:
            return sample(source, graph, asked.seed)
        files, budget = files_of(self.args), asked.budget
        return load_inputs(files, graph, mean=asked.mean, scale=asked.scale, seed=asked.seed, budget=budget)

    def save(self, run: TimedRun | StreamRun) -> Callable[[], None]:
        """Write every file that is asked for; what is returned prints what is to be said of the run.

        A stream has written its outputs.
        """
        if isinstance(run, TimedRun):
            self._save_request(run)
        if self.args.save_plan is not None:
            write_text(self.args.save_plan, file_plan(run.model, run.plan).to_json())
        items, record = self._said(run)
        write_record(record, self.args.json)
        return partial(show, items, record, self.args.json)

    def _save_request(self, run: TimedRun) -> None:
        if self.args.output is not None:
            graph = run.model.graph
            provenance = {"model": run.model.name, "model_digest": run.model.file_digest, **run.versions}
            fit = {name: value for name, value in run.outputs.items() if is_holdable(graph.value(name))}
            held, said = holdable(fit)
            for sentence in said:
                log.warning("%s", sentence)
            save_outputs(self.args.output, held, provenance, widened_types(map(graph.value, graph.outputs)))
        if self.args.timeline is not None:
            from ..report.chrome import chrome_text
            from ..report.run import run_trace

            write_text(self.args.timeline, chrome_text(run_trace(run)))

    def _said(self, run: TimedRun | StreamRun) -> tuple[Callable[[], list[Item]], dict[str, Any]]:
        """What makes the text about a run, and its record."""
        if isinstance(run, TimedRun):
            from ..report.run import run_items, run_record

            return partial(run_items, run, everything=self.args.verbose), run_record(run)
        from ..report.streams import stream_items, stream_record

        return partial(stream_items, run), stream_record(run)
