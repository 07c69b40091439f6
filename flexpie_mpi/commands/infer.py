"""``flexpie-mpi infer``: run a model over all ranks of the job, and say how long it took and where the time went."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.plan import Plan
from ..core.versions import versions
from ..files.atomic import write_text
from ..files.cache import Cache
from ..files.inputs import SUFFIXES as INPUT_SUFFIXES
from ..files.inputs import load_inputs
from ..files.outputs import SUFFIXES as OUTPUT_SUFFIXES
from ..files.outputs import check_holdable, check_writable, holdable, is_holdable, save_outputs, widened_types
from ..files.requests import STDIN, Source, offered_shapes, sample, standard_input
from ..lower import lower
from ..lower.facts import facts_of
from ..measure.compare import verify
from ..measure.recorder import Recorder
from ..measure.trial import measure
from ..model.inputs import Asked
from ..report.chrome import chrome_text
from ..report.run import run_items, run_record, run_trace
from ..runtime.engine import Engine, load_shared
from ..runtime.mpi import library
from ..runtime.transport import on_root
from ..runtime.waiting import DEADLINE_S
from ..session.timing import TimedRun
from ..testbed import Device
from ..testbed import read as read_testbed
from .basis import first_ranks
from .choosing import Chooser, Chosen
from .job import ROOT, RankPart, on_every_rank, run_job
from .launch import launcher_rank
from .options import (
    DEFAULT_MODEL,
    add_cost_arguments,
    add_layout_arguments,
    add_model_arguments,
    add_record_arguments,
    budget_of,
    cache_of,
    natural,
    numbers,
    positive,
    seconds,
    seconds_or_none,
    shapes_of,
    start_log,
    threads,
)
from .output import STDOUT, check_paths, publish, write_record
from .planning import check_choices, read_plan
from .streaming import DIFFERS, Streaming, add_stream_arguments, depth_of, source_of

log = logging.getLogger(__name__)

BUDGET_S = 20.0
"""Most that is measured before planning, where this cluster and model have not been yet."""

WARMUP = 2
"""Requests to warm up when one is run over and over."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, metavar="FILE.onnx|builtin:NAME", help="model (default: %(default)s)"
    )
    _add_data_arguments(parser.add_argument_group("data"))
    add_model_arguments(parser)
    layout = parser.add_argument_group("plan")
    add_layout_arguments(layout)
    layout.add_argument("--plan", metavar="FILE", help="use this plan, made by flexpie-mpi plan or by hand")
    layout.add_argument("--save-plan", metavar="FILE", help="write the plan that was used")
    _add_planning_arguments(layout)
    _add_run_arguments(parser.add_argument_group("run"))
    add_stream_arguments(parser)
    add_record_arguments(parser)


def _add_planning_arguments(group: argparse._ArgumentGroup) -> None:
    add_cost_arguments(group)
    group.add_argument(
        "--trace-budget",
        type=seconds_or_none,
        default=BUDGET_S,
        metavar="SECONDS",
        help="most that is measured before planning, and kept for the next start; 0: nothing (default: %(default)g)",
    )
    group.add_argument("--autotune", type=positive, metavar="K", help="run the K best plans and keep the fastest")
    group.add_argument(
        "--report",
        action="store_true",
        help="say what every segment was predicted to take and what it took, and add that to the traces",
    )


def _add_data_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--input",
        action="append",
        nargs="+",
        default=[],
        metavar="[NAME=]FILE",
        help=f"{', '.join(INPUT_SUFFIXES)}; seeded random numbers when none is given. Many requests: a pattern "
        "or more files than inputs (one request each, by name), an .h5 with one more axis in front, a watched folder, "
        "a named pipe or - (each request behind its length in 8 bytes)",
    )
    group.add_argument(
        "--output", metavar="FILE", help=f"{', '.join(OUTPUT_SUFFIXES)}, by output name; .h5 for many requests"
    )
    group.add_argument(
        "--mean", type=numbers, metavar="M[,M,M]", help="pictures become (pixel - mean) * scale; default 0"
    )
    group.add_argument("--scale", type=numbers, metavar="S[,S,S]", help="default 1/255")
    group.add_argument("--seed", type=natural, default=0, metavar="S", help="of random inputs (default: %(default)s)")


def _add_run_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--repeat",
        type=positive,
        default=10,
        metavar="R",
        help="how often a single request is measured (default: %(default)s)",
    )
    group.add_argument(
        "--warmup",
        type=natural,
        metavar="W",
        help=f"requests before that which are not measured (default: {WARMUP}, or as many as are in flight)",
    )
    group.add_argument(
        "--threads", type=threads, default=1, metavar="T", help="onnxruntime threads per rank (default: %(default)s)"
    )
    group.add_argument(
        "--verify",
        action="store_true",
        help="compare with one onnxruntime session on rank 0; exit code 1 if it differs",
    )
    group.add_argument(
        "--timeline",
        metavar="FILE",
        help="write what every rank did when, in the measured request nearest to the median, for ui.perfetto.dev",
    )
    group.add_argument(
        "--deadline",
        type=seconds,
        default=DEADLINE_S,
        metavar="SECONDS",
        help="how long a rank waits for another before it gives up (default: %(default)g)",
    )


def run(args: argparse.Namespace) -> int:
    """Start MPI and run the model on all ranks."""
    check_choices(args)
    if STDIN in (file for group in args.input for file in group) and not launcher_rank():
        standard_input()  # it is read from now on: a launcher in between may not wait for what is loaded first
    run_job(args.deadline, lambda transport: Inference(transport, args).run())


class Inference(RankPart):
    """One rank's part of running a model."""

    def run(self) -> int:
        """The exit code."""
        args, transport = self.args, self.transport
        start_log(args.verbose, transport.rank)
        cache = on_every_rank(transport, partial(cache_of, args))
        with self.progress:
            on_root(transport, partial(_check_outputs, args), ROOT)
            given = self._given_plan()
            devices = self._devices()
            slowdown = devices[transport.rank].slowdown if devices else 1.0
            self.progress.tell(f"loading {args.model}")
            model = load_shared(transport, args.model, self._shapes, cache, budget=budget_of(args))
            source = on_root(transport, partial(self._source, model.graph), ROOT)
            is_stream = transport.broadcast(source is not None, ROOT)
            inputs = on_root(transport, partial(self._inputs, model.graph, source), ROOT)
            make = partial(Engine, transport, model, cache=cache, threads=args.threads, slowdown=slowdown)
            chooser = Chooser(transport, args, cache, model, self.progress.tell)
            chosen = chooser.choose(given, make, inputs)
            depth = None
            if is_stream or given is not None:  # a plan that does not fit the boards' memory ends here
                depth = on_root(transport, partial(depth_of, args, chosen.plan, model.graph, bool(is_stream)), ROOT)
            self.progress.tell("making sessions")
            if is_stream:
                engine = make(chosen.plan, in_flight=depth or 1)  # the root's counts
                return Streaming(transport, args, engine, source, chosen.basis).run()
            found = self._run(make(chosen.plan), inputs or {}, cache, chooser, chosen)
            found = replace(found, boards=tuple(device.name for device in devices))
            on_root(transport, partial(self._save, found), ROOT)
        on_root(transport, partial(_publish, args, found), ROOT)
        return DIFFERS if found.verdict is not None and not found.verdict.is_equal else 0

    def _run(
        self, engine: Engine, inputs: Mapping[str, Any], cache: Cache, chooser: Chooser, chosen: Chosen
    ) -> TimedRun:
        """One request, over and over."""
        found = self._measured(engine, inputs, cache)
        compared = chooser.compare(engine, chosen, inputs) if self.args.report else None
        return replace(found, prediction=chosen.prediction, raced_s=chosen.measured_s, compared=compared)

    def _given_plan(self) -> Plan | None:
        """The plan of ``--plan``, read by the root."""
        if self.args.plan is None:
            return None

        def read() -> str:
            plan = read_plan(self.args.plan)
            if plan.ranks != self.transport.size:
                raise PlanError(
                    f"plan file '{self.args.plan}' is for {plan.ranks} ranks and the job has {self.transport.size}: "
                    f"start it with mpirun -n {plan.ranks}, or make a plan for {self.transport.size}"
                )
            if plan.root != ROOT:
                raise PlanError(
                    f"plan file '{self.args.plan}' has root {plan.root}: infer reads and writes on rank {ROOT}"
                )
            return plan.to_json()

        return Plan.from_json(self.transport.broadcast(on_root(self.transport, read, ROOT), ROOT))

    def _devices(self) -> tuple[Device, ...]:
        """The boards of all ranks in ``--testbed``; empty without one."""
        path, transport = self.args.testbed, self.transport
        if path is None:
            return ()

        def read() -> tuple[Device, ...]:
            return first_ranks(read_testbed(path), transport.size).devices

        devices: tuple[Device, ...] = transport.broadcast(on_root(transport, read, ROOT), ROOT)
        return devices

    @property
    def _files(self) -> list[str]:
        return [file for group in self.args.input for file in group]

    @property
    def _shapes(self) -> Asked:
        """What ``--shape`` asks for; what else is open is as the files of ``--input`` have it."""
        is_stream = self.args.requests is not None or self.args.in_flight is not None
        return Asked(shapes_of(self.args), partial(offered_shapes, self._files, is_stream=is_stream))

    def _source(self, graph: Graph) -> Source | None:
        """The stream that is asked for, if one is; what the file of outputs will not hold is said."""
        source = source_of(self.args, graph)
        if self.args.output is not None:
            for sentence in check_holdable(self.args.output, map(graph.value, graph.outputs)):
                log.warning("%s", sentence)
        return source

    def _inputs(self, graph: Graph, source: Source | None) -> Mapping[str, Any] | None:
        """What is run over and over; of a stream, what plans are tried with, if there is anything."""
        args = self.args
        if source is not None:
            return sample(source, graph, args.seed)
        return load_inputs(self._files, graph, mean=args.mean, scale=args.scale, seed=args.seed, budget=budget_of(args))

    def _measured(self, engine: Engine, inputs: Mapping[str, Any], cache: Cache) -> TimedRun:
        args = self.args
        warmup = WARMUP if args.warmup is None else args.warmup
        recorder = Recorder(self.transport, ROOT) if args.timeline is not None else None
        keep = recorder.keep if recorder else None
        trial, outputs = measure(engine, inputs, args.repeat, warmup, self.progress.tell, keep)
        timeline = recorder.merged(trial.typical) if recorder else None
        verdict = None
        if args.verify:
            self.progress.tell("comparing with one session")
            verdict = verify(engine, inputs, outputs, cache=cache, threads=args.threads)
        return TimedRun(
            source=args.model,
            model=engine.model,
            plan=engine.plan,
            facts=facts_of(engine.plan, engine.model.graph, engine.programs),
            trial=trial,
            outputs=outputs,
            hosts=self.transport.host_ranks(),
            settings={
                "input": self._files,
                **{name: getattr(args, name) for name in ("output", "seed", "repeat")},
                "warmup": warmup,
                "threads": args.threads,
            },
            versions=versions(library()),
            verdict=verdict,
            timeline=timeline,
        )

    def _save(self, found: TimedRun) -> None:
        args = self.args
        if args.output is not None:
            graph = found.model.graph
            provenance = {"model": found.model.name, "model_digest": graph.digest, **found.versions}
            fit = {name: value for name, value in found.outputs.items() if is_holdable(graph.value(name))}
            held, said = holdable(fit)
            for sentence in said:
                log.warning("%s", sentence)
            save_outputs(args.output, held, provenance, widened_types(map(graph.value, graph.outputs)))
        if args.save_plan is not None:
            write_text(args.save_plan, found.plan.to_json())
        if args.timeline is not None:
            programs = lower(found.typical_plan, found.model.graph)
            write_text(args.timeline, chrome_text(run_trace(found, programs)))
        write_record(run_record(found), args.json)


def _publish(args: argparse.Namespace, found: TimedRun) -> None:
    items = () if args.json == STDOUT else run_items(found, everything=args.verbose)
    publish(items, run_record(found), args.json)


def _check_outputs(args: argparse.Namespace) -> None:
    """Try every path that will be written, before anything is done."""
    if args.output is not None:
        check_writable(args.output)
    options = ("output", "save_plan", "timeline", "json")
    check_paths({"--" + name.replace("_", "-"): getattr(args, name) for name in options})
