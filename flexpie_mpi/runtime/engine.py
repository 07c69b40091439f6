"""The engine: a model laid over the ranks of a job by a plan, ready to run requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from .. import model as models
from ..core.budget import Budget
from ..core.choices import NO_STATES, StateChoice
from ..core.errors import FlexPieError, PlanError, ProgramError
from ..core.plan import Plan
from ..core.program import Program
from ..core.timeline import Timeline
from ..files.cache import Cache
from ..lower import digest, turns_of
from ..lower.facts import slice_bytes
from ..lower.memory import memory_of, slots_of
from ..lower.states import Homes, check_in_flight
from ..lower.verify import verify
from ..model import Model
from .admission import Admission, Deliver, RequestSource, RootAdmission, StreamStats, credit_exchange
from .executor import Executor, by_index
from .kernels import Guard, Sessions, make_kernel, make_provider
from .life import Doing
from .machine import peak_rss_bytes
from .pacing import Pacer, settle
from .provider import ProviderOptions, agreed_blocks
from .requests import check_inputs
from .states import States
from .stream import Stream, as_messages, with_tags
from .transport import Channel, Control, Transport, agree, on_every_rank, on_root
from .weights import WeightTraffic, distribute

if TYPE_CHECKING:
    from ..model.inputs import Shapes


@dataclass(frozen=True, slots=True)
class RankFacts:
    """What one rank holds and sends, in bytes; messages and sent bytes are per request, the mean over turns."""

    rank: int
    weight_bytes: int
    arena_bytes: int
    peak_rss_bytes: int
    sent_bytes: int
    messages: int
    traffic: WeightTraffic


def load_shared(
    transport: Transport,
    source: str,
    shapes: Shapes | None = None,
    cache: Cache | None = None,
    batch: int = 1,
    budget: Budget | None = None,
    change: Callable[[Model], Model] = lambda model: model,
    held: Model | None = None,
    states: StateChoice = NO_STATES,
) -> Model:
    """The model of a file or ``builtin:NAME``, on every rank: the root reads it, the others get it without weights.

    Parameters as of :func:`flexpie_mpi.model.load`; `change`, on the root, may put another model in its place, and what
    is `held` there is not read again. Raises ModelError on every rank, when the root cannot read it.
    """
    # by its room, which imports what reads and prepares models only then: no other rank needs it
    model = on_root(transport, lambda: held or change(models.load(source, shapes or {}, cache, batch, budget, states)))
    skeleton = transport.broadcast(model.skeleton() if model else None)
    return model or Model.from_skeleton(skeleton)


WARM_RUNS = 2
"""Of each turn: in the first, weights come from the disk, and a rank that is done may be a request ahead of others."""


class Engine:
    """A model spread over the ranks of a job; made, run and closed by all of them together.

    Parameters
    ----------
    transport : Transport
    model : Model
        As :func:`load_shared` gives it: with its weights on the root.
    plan : Plan
        The root's counts; it is broadcast.
    cache : Cache, optional
        Where this rank keeps its slices of the weights.
    threads : int
        onnxruntime threads of this rank.
    slowdown : float
        How many times slower this rank computes than it could, to stand for a slower board.
    in_flight : int
        How many requests of a stream may be under way at once; the root's counts. Each has buffers of its own on the
        root, and up to three have on every other rank.
    provider : str
        What runs this rank's segments: one of :data:`.kernels.PROVIDERS`.
    is_trusted : bool
        Whether the plan was made by a planner of this package, whose programs need not be verified; the root's counts.
    boundaries : one of :data:`flexpie_mpi.core.choices.BOUNDARIES`
        In which form this rank holds values between segments.
    deadline_s : float, optional
        How long this rank waits for another in a request, once every rank has run every segment; as in any other wait
        when not given.
    states : States, optional
        Those of another engine of this job, to work on, which has the same weights; the engine has its own when not
        given.
    control : Control, optional
        By which ranks make the engine, where a thread does that beside a stream of another one.

    Attributes
    ----------
    programs_by_turn : tuple of tuple of Program
        Every rank's program of each turn: request r follows those at ``r % plan.period``.
    programs : tuple of Program
        Those of turn 0.
    boundaries : str
        As it was given.
    blocks : tuple of int
        By rank: channels to a block of what passes between its segments; 0 for row-major values.
    guard : Guard
        Of this rank's kernels; off, unless a request of `run` is only tried.
    states : States
        What this rank keeps from one request to the next.

    Raises
    ------
    PlanError
        When the plan does not fit the model or the job, or `in_flight` is below 1, or above where there are states.
    ProgramError
        When ranks lower the plan differently, or the programs are not sound.
    ModelError
        When onnxruntime refuses a segment on any rank.
    TestbedError
        When the slowdown of any rank is not a number above 0.
    """

    def __init__(
        self,
        transport: Transport,
        model: Model,
        plan: Plan,
        *,
        cache: Cache | None = None,
        threads: int = 1,
        slowdown: float = 1.0,
        in_flight: int = 1,
        provider: str = "cpu",
        is_trusted: bool = False,
        boundaries: str = "auto",
        deadline_s: float | None = None,
        states: States | None = None,
        control: Control | None = None,
    ) -> None:
        self.transport = transport
        self._deadline_s = deadline_s
        control = control or transport
        control.patience.predicted_s = None
        self.model = model
        self.boundaries = boundaries
        text, self.in_flight, is_trusted = control.broadcast((plan.to_json(), in_flight, is_trusted))
        self.plan = Plan.from_json(text)
        if self.in_flight < 1:
            raise PlanError(f"in_flight = {self.in_flight} must be at least 1: the requests under way at once")
        check_in_flight(model.graph, self.in_flight)
        cache = cache or Cache.default()
        options = partial(ProviderOptions, threads, cache, shares_weights=bool(model.graph.states))
        made = on_every_rank(control, lambda: make_provider(provider, options()))
        self.blocks = agreed_blocks(control, made.block, boundaries)
        if states is not None:
            states.check_fits(model.graph)
        homes = states.homes if states else None
        self.programs_by_turn = _lower_alike(control, self.plan, model, self.blocks, homes)
        if not is_trusted:
            on_root(control, lambda: verify(self.programs_by_turn, self.plan, model.graph))
        self.programs = self.programs_by_turn[0]
        self.program = self.programs[transport.rank]
        self.states = states or States(self.programs, transport.rank, model.graph)
        self._mine = tuple(programs[transport.rank] for programs in self.programs_by_turn)
        self._slices = tuple(dict.fromkeys(piece for program in self._mine for piece in program.weights))
        weights, self.traffic = distribute(control, model, self._slices, cache)
        self.guard = Guard()
        channels, self._credits = self._open(control)
        try:
            self._executors, self.pacer, self._sessions = self._prepare(
                control, channels, slowdown, lambda: Sessions(model, weights, made)
            )
        except BaseException:
            control.release([*chain.from_iterable(channels), self._credits])
            raise
        self._last = self._executors[0]
        self._runs = 0

    def run(self, inputs: Mapping[str, Any] | None = None, keep: int | None = None) -> dict[str, Any]:
        """Outputs of one request by name, on the root; empty elsewhere. The next run overwrites them.

        Requests take turns, as far as the plan has any.

        Parameters
        ----------
        inputs : mapping of str to array
            Every input of the graph with its shape and type, on the root; ignored elsewhere.
        keep : int, optional
            How many of its positions the request leaves in states that grow, the same on every rank; all when not
            given. What is behind these is as if it were not there.

        Raises
        ------
        DataError
            On the root, when an input is missing or of another shape or type, or states have no room for more.
        """
        if self.guard.is_on:
            self.states.make_room(self.model.graph)
        checked = self.checked(inputs or {}, keep) if self._is_root else {}
        self.states.take(self.model.graph, keep)
        self._last = self._executors[self._runs % len(self._mine)]
        self._runs += 1
        if self._runs > WARM_RUNS * len(self._mine):
            self.transport.patience.predicted_s = self._deadline_s
        self.transport.life.telling = partial(self._doing, self._last.doing)
        return self._last.run(checked)

    def stream(self, source: RequestSource, deliver: Deliver) -> StreamStats:
        """Carry out all requests of `source`, several at a time; called by all ranks together.

        Outputs are delivered in order, each request's once. When the source or a delivery fails, no more requests are
        admitted, those under way are carried out, and the error is raised on every rank.

        Parameters
        ----------
        source : RequestSource
            On the root; ignored elsewhere.
        deliver : callable
            Called on the root with number, outputs and latency of each request; the outputs are valid during the call.

        Raises
        ------
        DataError
            On every rank, when an input is missing or of another shape or type.
        FlexPieError
            What `source` or `deliver` raised.
        """
        self.states.take(self.model.graph)
        admission = Admission(self._credits)
        if self._is_root:
            admission = RootAdmission(source, deliver, self.checked, self._credits)
        prepare = self.pacer.prepare_thread
        stream = Stream(
            self.transport, self._executors, self.plan.period, self.in_flight, admission, prepare, self._deadline_s
        )
        self.transport.life.telling = partial(self._doing, stream.doing)
        stats = stream.run()
        self.transport.life.telling = lambda: None
        error = self.transport.broadcast(admission.error, self.plan.root)
        if error is not None:
            raise error
        return stats

    def close(self) -> None:
        """Give sessions, buffers and channels back; only `facts` can be asked then."""
        for executor in self._executors:
            executor.close()
        self.transport.release([self._credits])
        self._sessions.close()

    @property
    def provider_names(self) -> list[str]:
        """What computes on this rank, by preference, as onnxruntime names its execution providers."""
        return list(self._sessions.provider.names)

    @property
    def began_s(self) -> float:
        """When the last request of `run` began on this rank, by its ``time.perf_counter``."""
        return self._last.began_s

    def timeline(self) -> Timeline:
        """Where the time of the last request of `run` went on this rank."""
        return self._last.timeline()

    def facts(self) -> RankFacts:
        """Memory and traffic of this rank."""
        sends = [message for program in self._mine for message in program.sends]
        return RankFacts(
            rank=self.program.rank,
            weight_bytes=slice_bytes(self.model.graph, self._slices),
            arena_bytes=sum(executor.program.arena.nbytes for executor in self._executors) + self.program.state_bytes,
            peak_rss_bytes=peak_rss_bytes(),
            sent_bytes=sum(message.nbytes for message in sends) // self.plan.period,
            messages=len(sends) // self.plan.period,
            traffic=self.traffic,
        )

    def held_bytes(self) -> list[int]:
        """What it takes of every rank's memory beside its states, by rank."""
        needs = memory_of(self.programs_by_turn, self.model.graph, self.plan.root)
        return [need.engine_bytes(self.in_flight) - self.programs[need.rank].state_bytes for need in needs]

    def _doing(self, ask: Callable[[], Doing | None]) -> Doing | None:
        """What this rank does, as it says when it is asked."""
        doing = ask()
        return doing and replace(doing, pace=max(1.0, self.pacer.slowdown))

    @property
    def _is_root(self) -> bool:
        return self.transport.rank == self.plan.root

    def checked(self, inputs: Mapping[str, Any], keep: int | None = None) -> dict[str, Any]:
        """The graph's inputs, each a tensor of its shape and type; numpy would stretch or convert others silently.

        Raises DataError when one is missing, or of another shape or type, or states have no room for `keep` positions
        more, or all of a request where that is None.
        """
        check_inputs(self.model.graph, inputs)
        self.states.check_room(self.model.graph, keep)
        return dict(inputs)

    def _open(self, control: Control) -> tuple[list[list[Channel]], Channel]:
        """Channels of every slot, and the one for credits.

        Where one request is under way at a time its exchanges may be collectives.
        """
        rank, turns = control.rank, len(self._mine)
        last = len(self.plan.segments)
        prepare = as_messages if self.in_flight > 1 else with_tags
        exchanges = [
            [prepare(exchange, slot % turns * (last + 2)) for exchange in by_index(self._mine[slot % turns])]
            for slot in range(slots_of(self._is_root, self.in_flight, turns))
        ]
        credits = credit_exchange(rank, control.size, self.plan.root, last + 1)
        opened = iter(control.open([*(exchange for slot in exchanges for exchange in slot), credits]))
        return [list(islice(opened, len(slot))) for slot in exchanges], next(opened)

    def _prepare(
        self,
        control: Control,
        channels: Sequence[Sequence[Channel]],
        slowdown: float,
        make_sessions: Callable[[], Sessions],
    ) -> tuple[list[Executor], Pacer, Sessions]:
        """An executor for every slot."""
        executors: list[Executor] = []
        made: tuple[Pacer, Sessions] | None = None
        error: FlexPieError | None = None
        try:
            sessions = make_sessions()
            pacer = Pacer(partial(make_kernel, sessions, self.program), slowdown, has_thread=self.in_flight > 1)
            made = pacer, sessions
            graph = self.model.graph
            kernels = [replace(pacer, kernel=partial(make_kernel, sessions, mine)) for mine in self._mine]
            for slot, opened in enumerate(channels):
                turn = slot % len(self._mine)
                guarded = self.guard.around(kernels[turn])
                executors.append(
                    Executor(self._mine[turn], self.transport, guarded, opened, self.states if graph.states else None)
                )
            sessions.settle()
        except FlexPieError as raised:
            error = raised
        except MemoryError as raised:
            error = PlanError(f"there is no room for the plan's buffers: {raised}")
        agree(control, error)
        assert made is not None, "agree raises every rank's error"
        return executors, *made


def settle_pace(engines: Sequence[Engine], control: Control | None = None) -> None:
    """Measure what every step takes by itself, to pace slower boards evenly; called by all ranks together.

    What is measured of several engines is measured in turn: none of them gets a bad moment of the machine for good.
    Buffers hold nothing of use afterwards, states what they held. Without it, steps are paced by what they take then.
    """
    with ExitStack() as stack:
        for engine in engines:
            if engine.pacer.is_needed:
                stack.enter_context(engine.states.unchanged())
        settle(control or engines[0].transport, [engine.pacer for engine in engines])


def _lower_alike(
    control: Control, plan: Plan, model: Model, blocks: Sequence[int], homes: Homes | None
) -> tuple[tuple[Program, ...], ...]:
    """Programs of every turn of the plan, after making sure that every rank has the same."""
    if plan.ranks != control.size:
        raise PlanError(
            f"the plan is for {plan.ranks} ranks and the job has {control.size}: "
            f"start it with mpirun -n {plan.ranks}, or make a plan for {control.size}"
        )
    programs = turns_of(plan, model.graph, blocks, homes)
    digests = control.all_gather([digest(turn) for turn in programs])
    odd = [rank for rank, theirs in enumerate(digests) if theirs != digests[0]]
    if odd:
        raise ProgramError(
            f"rank {odd[0]} lowered the plan differently from rank 0: install the same version everywhere"
        )
    return programs
