"""Many requests that stream through the ranks, several of them in flight, and what the root does with their outputs."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..core.plan import Plan
from ..core.versions import versions
from ..measure.throughput import Meter, Throughput, throughput
from ..model import Model
from ..runtime.admission import Requests, StreamStats, joined
from ..runtime.ending import Stopped, stopping
from ..runtime.engine import Engine, settle_pace
from ..runtime.transport import Transport, on_root
from .opening import ROOT, CostSources, Tell, ignore
from .succession import Succession
from .timing import RunTerms, stream_provenance
from .world import World

if TYPE_CHECKING:
    from ..files.outputs import Results
    from ..files.requests import Source
    from ..measure.compare import Findings, StreamComparison
    from ..runtime.crew import Loss
    from ..simulate.occupancy import Occupancy
    from .choosing import Chosen
    from .inputs import PredictionInputs
    from .races import Race

log = logging.getLogger(__name__)

_TELL_S = 0.5
_TURN_S = 5e-4
"""How long a thread may go on in Python while another waits, a tenth of the usual."""

_STDIN_LIMITS = {
    "MPICH": "MPICH's mpirun ends the job when more of standard input than a pipe holds (64 KiB) is not read yet",
    "Open MPI": "Open MPI's mpirun may not pass on the end of standard input: send a length of 0 at the end",
}
"""What is to be known of requests on standard input under an MPI library."""


@dataclass(frozen=True)
class StreamRun:
    """A stream that is over, on the root."""

    source: str  # of the model
    model: Model
    plan: Plan
    measured: Throughput
    data: str  # where the requests came from
    # `hosts`, `settings` and `versions`: as of :class:`flexpie_mpi.session.timing.TimedRun`
    hosts: Mapping[str, Sequence[int]]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    basis: str  # on what grounds `occupancy` are predicted, or why nothing is
    stopped_by: str = ""  # the signal that ended it; empty where it ended by itself
    left: int = 0  # requests that were read, but not run, because of that signal
    written: int | None = None  # requests in the output file, earlier ones among them
    occupancy: Occupancy | None = None
    race: Race | None = None  # what `auto` was measured against; None of other planners
    findings: Findings | None = None  # of a comparison with one session of the whole model
    losses: tuple[Loss, ...] = ()  # ranks that it has outlived

    @property
    def is_wrong(self) -> bool:
        """Whether outputs were compared and any differ."""
        return self.findings is not None and not self.findings.is_equal


class StreamHandler:
    """The root's side of a stream: a supply that hands out requests, and what becomes of their outputs.

    Requests that the file of outputs has already go before those of the stream. The engine may be replaced between two
    requests: `turn` ends the supply for now, what is under way is delivered, and the next engine goes on.
    """

    def __init__(
        self,
        source: Source,
        meter: Meter,
        tell: Tell,
        results: Results | None = None,
        comparison: StreamComparison | None = None,
        losses: Sequence[Loss] | None = None,
    ) -> None:
        from ..files.requests import Reader

        self.data = str(source)
        self.output = results.path if results else ""
        self.stopped = Stopped()
        self.first = results.first if results else 0
        self.meter = meter
        self.reader = Reader(source.rest(results.done) if results and results.done else source, self.first)
        self.count = self.reader.count
        self._results, self._comparison = results, comparison
        self._tell, self._told_s = tell, 0.0
        self._losses = losses
        self._kept: deque[Mapping[str, Any]] = deque()  # taken and not delivered
        self._again: deque[Mapping[str, Any]] = deque()  # taken once, and to be taken again
        self._is_turning = False
        self._marks: list[float] = []  # of a turn: the last delivery before it, its begin, and its end

    def turn(self) -> None:
        """Have what is left run by another engine; may be called by any thread."""
        self._is_turning = True

    def turns(self) -> bool:
        """Whether another engine is to go on when a supply has ended; asked once."""
        was_turning, self._is_turning = self._is_turning, False
        self._marks = [self.meter.last_s, time.perf_counter()]
        return was_turning and not self.is_over

    def turned(self) -> None:
        """The other engine goes on."""
        self._marks.append(time.perf_counter())

    @property
    def is_over(self) -> bool:
        """As of a supply."""
        return (not self._again and self.reader.is_over) or self._is_turning

    @property
    def losses(self) -> tuple[Loss, ...]:
        """Ranks that were lost so far."""
        return tuple(self._losses or ())

    def take(self) -> Mapping[str, Any] | None:
        """As of a supply."""
        if self._is_turning:
            return None
        request = self._again.popleft() if self._again else self.reader.take()
        self.meter.look(is_ready=request is not None or self.reader.is_over)
        if request is not None and (self._comparison is not None or self._losses is not None):
            self._kept.append(request)
        return request

    def go_on(self) -> None:
        """After a loss: what was taken and not delivered is to be taken again, in the same order."""
        self._again.extendleft(reversed(self._kept))
        for loss in self.losses[-1:]:
            loss.replayed = len(self._kept)
        self._kept.clear()
        self._is_turning = False  # that was for those that were there
        self._marks.clear()
        self.meter.go_on()

    def deliver(self, number: int, outputs: Mapping[str, Any], latency_s: float) -> None:
        """Takes the outputs of requests in order; `number` counts those of one engine."""
        number = self.meter.delivered
        self.meter.deliver()
        if len(self._marks) == 3:
            log.warning("%s", _gap(self.first + number, [*self._marks, self.meter.last_s]))
            self._marks.clear()
        if self._results is not None:
            self._results.add(outputs)
        request = self._kept.popleft() if self._kept else {}
        if self._comparison is not None:
            self._comparison.add(self.first + number, request, outputs)
        for loss in self.losses[-1:]:
            if loss.gap_s is None:
                loss.gap_s = time.time() - loss.at_s
                said = "request %d is through, %.2f s after the loss, by %s"
                log.warning(said, self.first + number, loss.gap_s, loss.plan)
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
        """What the comparison found, when all is compared."""
        return None if self._comparison is None else self._comparison.close()


def stream_requests(
    engine: Engine,
    handler: StreamHandler | None,
    terms: RunTerms,
    tell: Tell,
    chosen: Chosen,
    *,
    reopen: Callable[..., Engine],
    room: Callable[..., int],
    keep: Callable[[StreamRun], None] = lambda run: None,
) -> StreamRun | None:
    """Let all requests of the root's handler stream through the engine; called by all ranks together.

    Where the terms have it adapt, `reopen` makes an engine for another plan than the one that was `chosen`, for which
    `room` says whether it fits, and that one may go on between two requests; as of :class:`.succession.Succession`.
    A signal ends the stream in order: what is under way is finished, delivered and kept. The root returns the stream
    that is over, after it has called `keep` with it, while signals do no harm yet. Raises FlexPieError on every rank:
    what the source or the file of outputs raised.
    """
    transport = engine.transport
    settle_pace([engine])
    with ExitStack() as stack:
        stack.enter_context(_taking_turns_often())
        stack.enter_context(stopping(*((handler.stop, handler.stopped) if handler else (None,))))
        tell("streaming")
        log.info("streaming: SIGTERM to this process, or SIGUSR1 to mpirun, ends the stream in order")
        succession = world = None
        if terms.adapts is not None:
            succession = Succession(engine, chosen, reopen, room, handler.turn if handler else _nothing)
        if handler is not None:
            ask = succession.ask if succession else _nothing
            world = World(chosen.inputs, transport.host_ranks(), terms.adapts, ask)
            stack.enter_context(closing(world))
        engine, stats = _carried_out(engine, handler, world, succession)
        everyones = transport.gather(stats, ROOT)

        def finish() -> StreamRun:
            assert handler is not None and everyones is not None, "on the root"
            handler.reader.close()
            meter = handler.meter
            measured = throughput(engine.plan, everyones, meter, engine.in_flight)
            predicted, basis = _predicted(engine, terms.sources, chosen.inputs)
            run = StreamRun(
                source=terms.model,
                model=engine.model,
                plan=engine.plan,
                measured=measured,
                data=handler.data,
                hosts=transport.host_ranks(),
                settings={"input": terms.settings["input"], "warmup": meter.warmup, **terms.settings},
                versions=versions(transport.library),
                basis=basis,
                stopped_by=handler.stopped.by,
                left=handler.reader.left if handler.stopped.by else 0,
                written=handler.written(),
                occupancy=predicted,
                race=chosen.race,
                findings=handler.findings(),
                losses=handler.losses,
            )
            keep(run)
            return run

        return on_root(transport, finish, ROOT)


def _carried_out(
    engine: Engine, handler: StreamHandler | None, world: World | None, succession: Succession | None
) -> tuple[Engine, StreamStats]:
    """All requests, by one engine after the other; the last one, and what this rank has to say of the whole."""
    legs = []
    while True:
        if world is not None:
            world.follow(engine)
        legs.append(engine.stream(handler or Requests(()), handler.deliver if handler else ignore))
        if succession is None:
            return engine, joined(legs)
        if not engine.transport.broadcast(handler.turns() if handler else None, ROOT):
            succession.close()
            return engine, joined(legs)
        succession.take()
        engine = succession.engine
        if handler is not None:
            handler.turned()


def _nothing(plan: Plan | None = None) -> None:
    """Turn to no other plan."""


def _gap(number: int, marks: Sequence[float]) -> str:
    """A turn as a sentence, from the delivery before it to the first one after it."""
    drained, opened, first = (later - earlier for earlier, later in pairwise(marks))
    return (
        f"request {number} is through by the other plan, {marks[-1] - marks[0]:.3f} s after the one before: the stream "
        f"ended in {drained:.3f} s of that, the other one began in {opened:.3f} s, and the request took {first:.3f} s"
    )


def stream_handler(
    engine: Engine, source: Source, terms: RunTerms, tell: Tell, stack: ExitStack, losses: Sequence[Loss] | None = None
) -> StreamHandler:
    """The root's side of a stream that an engine begins, which is taken down again when the stack is left.

    Requests that the file of outputs has already are left out. The `losses` are those so far, where the stream outlives
    its ranks.
    """
    model, comparison, results = engine.model, None, None
    if terms.verifies:
        from ..measure.compare import Reference, StreamComparison

        comparison = StreamComparison(Reference(model, terms.sources.threads))
    if terms.output is not None:
        from ..files.outputs import Results, widened_types

        provenance = stream_provenance(model, source, terms.reading) | versions(engine.transport.library)
        outputs = [model.graph.value(name) for name in model.graph.outputs]
        varying = [value.name for value in outputs if value.shape is None]
        types = widened_types(outputs)
        adds = {"appends": terms.appends, "resumes": terms.resumes}
        results = Results(terms.output, provenance, **adds, varying=varying, types=types)
        stack.callback(results.leave)
    if terms.reads_stdin:
        warn_of_stdin(engine.transport)
    warmup = engine.in_flight if terms.warmup is None else terms.warmup
    handler = StreamHandler(source, Meter(warmup), tell, results, comparison, losses)
    stack.callback(handler.reader.close)
    return handler


def _predicted(engine: Engine, sources: CostSources, inputs: PredictionInputs | None) -> tuple[Occupancy | None, str]:
    """What the stream is predicted to ask of boards and links, and on what grounds."""
    if inputs is None and not (sources.testbed or sources.traces):
        return None, "give --testbed and --cost, or --traces"
    from ..simulate.occupancy import occupancy
    from .inputs import inputs_of_files

    known = inputs or inputs_of_files(sources, sources.places or engine.transport.size)
    return occupancy(engine.programs_by_turn, engine.model.graph, known.testbed, known.cost), known.cost_source


@contextmanager
def _taking_turns_often() -> Iterator[None]:
    """Let the thread that moves messages wait less for those that read, write and compare."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def warn_of_stdin(transport: Transport) -> None:
    """Say what a launcher does to standard input, where requests come through one."""
    limit = next((said for name, said in _STDIN_LIMITS.items() if transport.library.startswith(name)), None)
    if transport.size > 1 and limit is not None:
        log.warning("%s; a named pipe (mkfifo PIPE, --input PIPE) comes without it", limit)
