"""``flexpie-mpi infer`` with many requests: they stream through the ranks, several in flight."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..core.errors import PlanError
from ..core.graph import Graph
from ..core.plan import Plan
from ..core.versions import versions
from ..files.atomic import write_text
from ..files.outputs import Results, check_results, widened_types
from ..files.requests import STDIN, Finding, Reader, Source, find_source
from ..lower import turns_of
from ..measure.compare import Reference
from ..measure.referee import Findings, Referee
from ..measure.throughput import Meter, throughput
from ..pipeline import Need, enough_in_flight, memory_problems, most_in_flight, needs
from ..pipeline.memory import mb
from ..report.streams import stream_items, stream_record
from ..runtime.admission import Requests, StreamStats
from ..runtime.ending import Stopped, stopping
from ..runtime.engine import Engine, settle_pace
from ..runtime.mpi import library
from ..runtime.transport import on_root
from ..session.streaming import StreamRun
from ..simulate.occupancy import Occupancy, occupancy
from ..testbed import Device
from ..testbed import read as read_testbed
from .basis import Basis, basis_of_files, first_ranks
from .job import ROOT, RankPart
from .options import budget_of, positive
from .output import STDOUT, publish, write_record
from .parser import UsageError

log = logging.getLogger(__name__)

AUTO = "auto"

DIFFERS = 1
"""Exit code when ``--verify`` finds a difference."""

_TELL_S = 0.5
_TURN_S = 5e-4
"""How long a thread may go on in Python while another waits, a tenth of the usual."""

_ABOUT = (
    "Many requests are a stream: several are under way at once. A signal ends it in order, with what is under way "
    "finished and written, and exit code 0: SIGTERM or Ctrl-C to mpirun, but SIGUSR1 to Open MPI's, which passes on no "
    "other; or any of them to the process of rank 0."
)

_STDIN_LIMITS = {
    "MPICH": "MPICH's mpirun ends the job when more of standard input than a pipe holds (64 KiB) is not read yet",
    "Open MPI": "Open MPI's mpirun may not pass on the end of standard input: send a length of 0 at the end",
}
"""What is to be known of ``--input -`` under an MPI library."""


def add_stream_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that only streams have."""
    group = parser.add_argument_group("stream", _ABOUT)
    group.add_argument(
        "--requests", type=positive, metavar="R", help="so many random requests, or at most so many of --input"
    )
    group.add_argument(
        "--in-flight",
        type=in_flight,
        metavar="K|auto",
        help="requests under way at once (default: auto, enough for the plan's stages)",
    )
    group.add_argument("--append", action="store_true", help="add to the .h5 file of --output, if it is there")


def in_flight(text: str) -> int | str:
    """A number of requests from 1 on, or ``auto``."""
    return text if text == AUTO else positive(text)


def source_of(args: argparse.Namespace, graph: Graph) -> Source | None:
    """The requests that the arguments mean; None when they mean a single one. On the root.

    Raises
    ------
    UsageError
        When arguments do not go together.
    DataError
        When there is no such stream, or its outputs cannot be written.
    """
    files = [file for group in args.input for file in group]
    asked = Finding(args.requests, args.in_flight is not None, args.mean, args.scale, args.seed, budget_of(args))
    source = find_source(files, graph, asked)
    if source is None:
        for option, is_given in (("--in-flight", args.in_flight is not None), ("--append", args.append)):
            if is_given:
                raise UsageError(f"{option} goes with a stream: give --requests R, or an --input of many requests")
        return None
    for option, is_given in (("--timeline", args.timeline), ("--report", args.report)):
        if is_given:
            raise UsageError(f"{option} looks at single requests, and this is a stream: {source}")
    if args.append and args.output is None:
        raise UsageError("--append adds to a file: give --output as well")
    if args.output is not None:
        check_results(args.output, appends=args.append, source=str(source))
    return source


def depth_of(args: argparse.Namespace, plan: Plan, graph: Graph, is_stream: bool = True) -> int:
    """Requests in flight: as asked, or enough to keep all ranks busy, as far as the boards of ``--testbed`` have room.

    Raises
    ------
    PlanError
        When a board has no room for its part of the plan, not for so many requests, or not for ``--verify`` in a
        stream, which holds the whole model beside them.
    TestbedError
        When the testbed has too few boards.
    """
    asked = args.in_flight if isinstance(args.in_flight, int) else None
    wanted = asked or enough_in_flight(plan)
    if args.testbed is None:
        return wanted
    testbed = first_ranks(read_testbed(args.testbed), plan.ranks)
    needed = needs(turns_of(plan, graph), graph, plan.root)
    found = memory_problems(needed, testbed, asked or 1)
    if found:
        raise PlanError(found[0])
    if args.verify and is_stream:
        needed = tuple(_with_reference(need, graph) if need.rank == plan.root else need for need in needed)
        if memory_problems(needed, testbed, asked or 1):
            raise PlanError(_no_room_to_verify(needed[plan.root], graph, testbed.devices[plan.root], asked or 1))
    return asked or most_in_flight(needed, testbed, wanted)


def _with_reference(need: Need, graph: Graph) -> Need:
    """What the root needs when it holds the whole model as well."""
    return replace(need, weight_bytes=need.weight_bytes + graph.weight_bytes)


def _no_room_to_verify(need: Need, graph: Graph, device: Device, in_flight: int) -> str:
    beside = need.total_bytes(in_flight) - graph.weight_bytes
    return (
        f"--verify holds the whole model on rank {need.rank}, {mb(graph.weight_bytes)} of weights beside "
        f"{mb(beside)} for its part of the stream, and '{device.name}' has {mb(device.memory_bytes or 0)}: "
        "leave it out here, and verify the same plan on larger machines, without --testbed"
    )


class Desk:
    """The root's side of a stream: a supply that hands out requests, and what becomes of their outputs.

    Parameters
    ----------
    source : Source
    meter : Meter
    tell : callable
        Is told what goes on.
    results : Results, optional
        The file of outputs; its requests go before those of the stream.
    referee : Referee, optional
    """

    def __init__(
        self,
        source: Source,
        meter: Meter,
        tell: Callable[[str], None],
        results: Results | None = None,
        referee: Referee | None = None,
    ) -> None:
        self.first = results.first if results else 0
        self.meter = meter
        self.reader = Reader(source, self.first)
        self.count = self.reader.count
        self._results, self._referee = results, referee
        self._tell, self._told_s = tell, 0.0
        self._kept: deque[Mapping[str, Any]] = deque()

    @property
    def is_over(self) -> bool:
        """As of a supply."""
        return self.reader.is_over

    def take(self) -> Mapping[str, Any] | None:
        """As of a supply."""
        request = self.reader.take()
        self.meter.look(is_ready=request is not None or self.reader.is_over)
        if request is not None and self._referee is not None:
            self._kept.append(request)
        return request

    def deliver(self, number: int, outputs: Mapping[str, Any], latency_s: float) -> None:
        """Takes the outputs of requests in order."""
        self.meter.deliver()
        if self._results is not None:
            self._results.add(outputs)
        if self._referee is not None:
            self._referee.add(self.first + number, self._kept.popleft(), outputs)
        now = time.monotonic()
        if now - self._told_s >= _TELL_S:
            self._told_s = now
            rate = self.meter.rate
            of = "" if self.count is None else f" of {self.count}"
            self._tell(f"request {number + 1}{of}" + (f", {rate:.3g} per second" if rate else ""))

    def stop(self) -> None:
        """Admit no more; may be called by a signal handler."""
        self.reader.stop()
        if self._results is not None:
            self._results.hurry()

    def written(self) -> int | None:
        """Requests in the file of outputs when all are."""
        return None if self._results is None else self._results.close()

    def findings(self) -> Findings | None:
        """What the referee found, when all is compared."""
        return None if self._referee is None else self._referee.close()


@dataclass
class Streaming(RankPart):
    """One rank's part of a stream; made with an engine by all ranks together.

    Parameters
    ----------
    engine : Engine
    source : Source or None
        On the root.
    basis : Basis or None
        What the plan was made on, where that is known.
    """

    engine: Engine
    source: Source | None
    basis: Basis | None = None

    def run(self) -> int:
        """The exit code."""
        args, engine = self.args, self.engine
        settle_pace([engine])
        with ExitStack() as stack:
            stack.enter_context(_taking_turns_often())
            desk = on_root(self.transport, partial(self._desk, stack), ROOT)
            stopped = stack.enter_context(stopping(desk.stop if desk else None))
            self.progress.tell("streaming")
            log.info("streaming: SIGTERM to this process, or SIGUSR1 to mpirun, ends the stream in order")
            flow = engine.stream(desk or Requests(()), desk.deliver if desk else _ignored)
            flows = self.transport.gather(flow, ROOT)
            found = on_root(self.transport, partial(self._found, desk, flows, stopped), ROOT)
        self.progress.clear()
        on_root(self.transport, partial(_publish, args, found), ROOT)
        differs = found is not None and found.findings is not None and not found.findings.is_equal
        return DIFFERS if self.transport.broadcast(differs, ROOT) else 0

    def _desk(self, stack: ExitStack) -> Desk:
        """What the root needs; taken down again when the stack is left."""
        args, model = self.args, self.engine.model
        assert self.source is not None, "the root has found it"
        referee = Referee(Reference(model, args.threads)) if args.verify else None
        results = None
        if args.output is not None:
            provenance = {"model": model.name, "model_digest": model.graph.digest, **versions(library())}
            outputs = [model.graph.value(name) for name in model.graph.outputs]
            varying = [value.name for value in outputs if value.shape is None]
            types = widened_types(outputs)
            results = Results(args.output, provenance, appends=args.append, varying=varying, types=types)
            stack.callback(results.leave)
        warn_of_stdin([file for group in args.input for file in group], self.transport.size)
        meter = Meter(self._warmup)
        desk = Desk(self.source, meter, self.progress.tell, results, referee)
        stack.callback(desk.reader.close)
        return desk

    @property
    def _warmup(self) -> int:
        return self.engine.in_flight if self.args.warmup is None else self.args.warmup

    def _found(self, desk: Desk | None, flows: list[StreamStats] | None, stopped: Stopped) -> StreamRun:
        """What is to be said of it, when all is written and compared."""
        assert desk is not None and flows is not None, "on the root"
        args, engine = self.args, self.engine
        desk.reader.close()
        measured = throughput(engine.plan, flows, desk.meter, engine.in_flight)
        predicted, basis = self._predicted()
        found = StreamRun(
            source=args.model,
            model=engine.model,
            plan=engine.plan,
            measured=measured,
            data=str(self.source),
            hosts=self.transport.host_ranks(),
            settings={
                "input": [file for group in args.input for file in group],
                "warmup": self._warmup,
                **{name: getattr(args, name) for name in ("output", "append", "seed", "requests", "threads")},
            },
            versions=versions(library()),
            basis=basis,
            stopped_by=stopped.by,
            left=desk.reader.left if stopped.by else 0,
            written=desk.written(),
            occupancy=predicted,
            findings=desk.findings(),
        )
        if args.save_plan is not None:
            write_text(args.save_plan, engine.plan.to_json())
        write_record(stream_record(found), args.json)
        return found

    def _predicted(self) -> tuple[Occupancy | None, str]:
        """What the stream is predicted to ask of boards and links, and on what grounds."""
        basis = self.basis or self._basis_of_files()
        if basis is None:
            return None, "give --testbed and --cost, or --traces"
        found = occupancy(self.engine.programs_by_turn, self.engine.model.graph, basis.testbed, basis.cost)
        return found, basis.source

    def _basis_of_files(self) -> Basis | None:
        args = self.args
        if args.testbed is None and not args.traces:
            return None
        return basis_of_files(argparse.Namespace(**{**vars(args), "ranks": self.transport.size}))


def _publish(args: argparse.Namespace, found: StreamRun | None) -> None:
    assert found is not None, "on the root"
    publish(() if args.json == STDOUT else stream_items(found), stream_record(found), args.json)


@contextmanager
def _taking_turns_often() -> Iterator[None]:
    """Let the thread that moves messages wait less for those that read, write and compare."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _ignored(number: int, outputs: Mapping[str, Any], latency_s: float) -> None:
    """What is delivered on a rank where nothing is."""


def warn_of_stdin(files: list[str], ranks: int) -> None:
    """Say what a launcher does to standard input, where it comes through one."""
    limit = next((said for name, said in _STDIN_LIMITS.items() if library().startswith(name)), None)
    if files == [STDIN] and ranks > 1 and limit is not None:
        log.warning("%s; a named pipe (mkfifo PIPE, --input PIPE) comes without it", limit)
