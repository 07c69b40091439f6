"""``flexpie-mpi infer``: run a model over all ranks of the job, and say how long it took and where the time went."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ..core.choices import BOUNDARIES
from ..core.plan import Plan
from ..files import INPUT_SUFFIXES, OUTPUT_SUFFIXES, STDIN
from ..runtime.crew import muster
from ..runtime.engine import Engine, load_shared
from ..runtime.kernels import own_block
from ..runtime.machine import launcher_rank
from ..runtime.mpi import MPITransport
from ..runtime.transport import on_root
from ..runtime.waiting import DEADLINE_S
from ..session.choosing import DEADLINE_TIMES, LEAST_DEADLINE_S, Chooser, Chosen
from ..session.greeting import greet
from ..session.opening import ROOT, from_root, read_plan, shared_devices, shared_plan, slowdown_of
from ..session.survival import Course, Kept
from ..session.timing import RunTerms, TimedRun, time_request
from . import UsageError, options, texts
from .infer_terms import WARMUP, asked_shapes, terms_of
from .job import RankPart, run_elastic_job, run_job

if TYPE_CHECKING:
    from ..files.requests import Source
    from ..model import Model
    from ..session.streaming import StreamHandler, StreamRun
    from .infer_files import RootFiles

AUTO = "auto"

DIFFERS = 1
"""Exit code when ``--verify`` finds a difference."""

_ABOUT_STREAMS = (
    "Many requests are a stream: several are under way at once. A signal ends it in order, with what is under way "
    "finished and written, and exit code 0: SIGTERM or Ctrl-C to mpirun, but SIGUSR1 to Open MPI's, which passes on no "
    "other; or any of them to the process of rank 0."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    options.add_default_model(parser)
    _add_data_arguments(parser.add_argument_group("data"))
    options.add_model_arguments(parser)
    options.add_state_arguments(parser)
    layout = parser.add_argument_group("plan")
    options.add_layout_arguments(layout)
    layout.add_argument("--plan", metavar="FILE", help="use this plan, made by flexpie-mpi plan or by hand")
    layout.add_argument("--save-plan", metavar="FILE", help="write the plan that was used")
    _add_planning_arguments(layout)
    _add_run_arguments(parser.add_argument_group("run"))
    _add_stream_arguments(parser.add_argument_group("stream", _ABOUT_STREAMS))
    options.add_record_arguments(parser)


def _add_planning_arguments(group: argparse._ArgumentGroup) -> None:
    options.add_cost_arguments(group)
    options.add_trace_budget(
        group, "the first request, to plan and to try plans, and kept for the next start; 0: nothing"
    )
    group.add_argument(
        "--autotune",
        type=texts.positive,
        metavar="K",
        help="run the K best plans, and with auto one board and the best fixed layout, and keep the fastest",
    )
    group.add_argument(
        "--report",
        action="store_true",
        help="say what every segment was predicted to take and what it took, and add that to the traces; and what all "
        "ranks compute beyond one rank's compute",
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
        "--mean", type=texts.numbers, metavar="M[,M,M]", help="pictures become (pixel - mean) * scale; default 0"
    )
    group.add_argument("--scale", type=texts.numbers, metavar="S[,S,S]", help="default 1/255")
    group.add_argument(
        "--seed", type=texts.natural, default=0, metavar="S", help="of random inputs (default: %(default)s)"
    )


def _add_run_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--repeat",
        type=texts.positive,
        default=10,
        metavar="R",
        help="how often a single request is measured (default: %(default)s)",
    )
    group.add_argument(
        "--warmup",
        type=texts.natural,
        metavar="W",
        help=f"requests before that which are not measured (default: {WARMUP}, or as many as are in flight)",
    )
    options.add_threads(group)
    group.add_argument(
        "--boundaries",
        choices=BOUNDARIES,
        default=BOUNDARIES[0],
        help="form of what passes between convolutions: row-major, in the blocks of channels that onnxruntime computes "
        "in, or blocked where all ranks have the same blocks (default: %(default)s)",
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
        type=texts.seconds,
        metavar="SECONDS",
        help="how long a rank waits for another before it gives up (default: "
        f"{DEADLINE_TIMES} times what a request is predicted to take, and at least {LEAST_DEADLINE_S:g}; "
        f"{DEADLINE_S:g} where nothing is predicted, and before the first requests are through)",
    )


def _add_stream_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--requests", type=texts.positive, metavar="R", help="so many random requests, or at most so many of --input"
    )
    group.add_argument(
        "--in-flight",
        type=in_flight,
        metavar="K|auto",
        help="requests under way at once (default: auto, enough for the plan's stages)",
    )
    group.add_argument(
        "--adapt",
        action="store_true",
        help="go on with another plan between two requests when boards or links take far longer than predicted",
    )
    group.add_argument(
        "--elastic",
        action="store_true",
        help="go on without ranks that are lost, with a new plan and no request lost: "
        "mpirun --with-ft ulfm of Open MPI 5.0.10 or newer",
    )
    group.add_argument(
        "--spares",
        type=texts.natural,
        default=0,
        metavar="K",
        help="of an elastic job, so many of the last ranks wait to take the place of one that is lost",
    )
    group.add_argument("--append", action="store_true", help="add to the .h5 file of --output, if it is there")
    group.add_argument(
        "--resume",
        metavar="FILE",
        help="as --output FILE, and go on behind the last request in it, if it is there: after a job that was killed",
    )


def in_flight(text: str) -> int | str:
    """A number of requests from 1 on, or ``auto``."""
    return text if text == AUTO else texts.positive(text)


def run(args: argparse.Namespace) -> int:
    """Start MPI and run the model on all ranks."""
    options.check_choices(args)
    if args.spares and not args.elastic:
        raise UsageError("--spares take the place of lost ranks: give --elastic as well")
    if options.states_of(args).is_made and (args.elastic or args.resume):
        raise UsageError("what requests leave is lost with a rank: --state goes with neither --elastic nor --resume")
    if args.resume is not None:
        if args.output is not None or args.append:
            raise UsageError("--resume goes on with a file, and needs neither --output nor --append")
        args.output = args.resume
    if STDIN in options.files_of(args) and not launcher_rank():
        from ..files.requests import standard_input

        standard_input()  # it is read from now on: a launcher in between may not wait for what is loaded first
    deadline_s = args.deadline or DEADLINE_S
    crew = muster(args.spares, deadline_s) if args.elastic else None
    kept = Kept(crew)

    def work(transport: MPITransport) -> int:
        return Inference(transport, args, kept).run()

    if crew is not None:
        if crew.is_spare:
            rehearse()
        run_elastic_job(crew, work)
    run_job(deadline_s, work)


def rehearse() -> None:
    """Import and try what the root works with, on a rank that may have to take its place within a moment."""
    from ..session import planning, streaming  # noqa: F401
    from . import infer_files  # noqa: F401

    own_block()


@dataclass
class Inference(RankPart):
    """One rank's part of running a model: the first attempt, or a further one with what is `kept` of it."""

    kept: Kept

    @cached_property
    def files(self) -> RootFiles:
        """What the root reads and writes."""
        from .infer_files import RootFiles

        return RootFiles(self.args)

    def run(self) -> int:
        """The exit code."""
        args, transport, kept = self.args, self.transport, self.kept
        with kept, self.progress:
            self.progress.tell("looking at the boards")
            greet(transport)
            course = kept.catch_up(transport)
            on_root(transport, partial(self._begin, course), ROOT)
            if from_root(transport, lambda: kept.run is not None):
                return self._publish()
            given = None if args.plan is None or course else shared_plan(transport, args.plan)
            devices = shared_devices(transport, args.testbed, kept.places)
            slowdown = slowdown_of(transport, devices)
            self.progress.tell(f"loading {args.model}")
            change = partial(self._with_pixels, given)
            load = partial(load_shared, budget=options.budget_of(args), states=options.states_of(args))
            model = load(transport, args.model, asked_shapes(args), self.cache, change=change, held=kept.model)
            given = self._for_model(given, model)
            source = on_root(transport, partial(self._requests, model), ROOT)
            is_stream = bool(transport.broadcast(source is not None, ROOT))
            request = on_root(transport, partial(self._request, model, source), ROOT)
            make = partial(Engine, transport, model, cache=self.cache, threads=args.threads, slowdown=slowdown)
            make = partial(make, is_trusted=given is None, boundaries=args.boundaries)
            sources, tell = options.sources_of(args), self.progress.tell
            choice = kept.choice(options.choice_of(args))
            known = None
            if course is not None:  # there is no time to measure anything
                sources = replace(sources, places=kept.places, trace_budget_s=0.0)
                known = course.known(kept.places)
            if is_stream:  # which is as fast as its slowest rank
                choice = replace(choice, overlap=False)
            is_predicted = args.report or args.adapt
            chooser = Chooser(transport, model, choice, sources, self.cache, tell, reports=is_predicted, known=known)
            chosen = kept.same_plan() or chooser.choose(given, make, request)
            # A plan that does not fit the boards' memory ends here
            asked = args.in_flight if isinstance(args.in_flight, int) else None
            depth = chooser.depth(chosen, asked, holds_whole=args.verify and is_stream)
            tell("making sessions")
            terms = replace(terms_of(args, sources, is_stream=is_stream), adapts=choice if args.adapt else None)
            if args.deadline is None:
                make = partial(
                    make, deadline_s=from_root(transport, partial(chosen.deadline_s, depth if is_stream else 1))
                )
            engine = make(chosen.plan, in_flight=depth if is_stream else 1)
            if kept.crew is not None and course is None:
                rehearse()
            kept.set_out(transport, chosen, is_stream=is_stream)
            if is_stream:
                room = partial(chooser.depth, asked=depth, holds_whole=args.verify)
                return self._stream(engine, partial(make, in_flight=depth), room, source, terms, chosen)
            run = time_request(engine, request or {}, terms, self.cache, tell, chosen)
            chooser.ran(chosen, run.trial)
            compared = chooser.compare(engine, make, chosen, request or {}, args.repeat) if args.report else None
            boards = tuple(device.name for device in devices)
            run = replace(run, compared=compared, boards=boards, losses=tuple(kept.losses or ()))
            on_root(transport, partial(self._keep, run), ROOT)
        return self._publish()

    def _begin(self, course: Course | None) -> None:
        """Look at what will be written; on a root that takes the place of a lost one, at what that has written."""
        if course is None:
            self.files.check()
        elif course.is_stream and self.kept.source is None:
            self.files.take_over()

    def _requests(self, model: Model) -> Source | None:
        """The root's requests, which are kept with the model that they are for."""
        kept = self.kept
        if kept.model is None:
            kept.source = self.files.source(model)
            kept.model = model
        return kept.source

    def _request(self, model: Model, source: Source | None) -> Mapping[str, Any] | None:
        """What the root runs over and over, or tries plans with."""
        if self.kept.request is None:
            self.kept.request = self.files.request(model, source)
        return self.kept.request

    def _with_pixels(self, given: Plan | None, model: Model) -> Model:
        """The root's model as it takes the pixels of pictures, where all requests have such and it pays.

        What one rank computes alone is not sent, and a plan that is given has to fit: also the one that was given when
        the job began, whatever is left of that.
        """
        if self.transport.size == 1 or (given is None and self.args.layout == "single"):
            return model
        given = read_plan(self.args.plan) if given is None and self.args.plan is not None else given
        taking = self.files.with_pixels(model)
        return taking if given is None or self.files.planned(taking, given) else model

    def _for_model(self, given: Plan | None, model: Model) -> Plan | None:
        """The plan that is given, which is one for the model's file, as one for the model; the same on every rank."""
        if given is None:
            return None
        return from_root(self.transport, lambda: self.files.planned(model, given) or given)

    def _stream(
        self,
        engine: Engine,
        reopen: Callable[..., Engine],
        room: Callable[..., int],
        source: Source | None,
        terms: RunTerms,
        chosen: Chosen,
    ) -> int:
        from ..session.streaming import stream_handler, stream_requests

        tell, kept = self.progress.tell, self.kept

        def handler() -> StreamHandler:
            assert source is not None, "the root has it"
            if kept.handler is None:
                kept.handler = stream_handler(engine, source, terms, tell, kept.stack, kept.losses)
            else:
                kept.handler.go_on()
            return kept.handler

        mine = on_root(self.transport, handler, ROOT)
        stream_requests(engine, mine, terms, tell, chosen, keep=self._keep, reopen=reopen, room=room)
        return self._publish()

    def _keep(self, run: TimedRun | StreamRun) -> None:
        """Write the files of a run that is over, on the root."""
        self.kept.say = self.files.save(run)
        self.kept.run = run

    def _publish(self) -> int:
        """Say what is to be said of the run that is over; the exit code."""
        self.progress.clear()

        def say() -> bool:
            kept = self.kept
            assert kept.run is not None, "on the root"
            if kept.say is not None:
                kept.say()
                kept.say = None
            return kept.run.is_wrong

        return DIFFERS if from_root(self.transport, say) else 0
