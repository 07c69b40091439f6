"""The ranks behind the sessions of a process: the root tells the others what to do next, and they serve it."""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..core.choices import NO_STATES, SEARCHING, StateChoice
from ..core.errors import DataError, FlexPieError, PlanError, TransportError
from ..core.graph import Graph
from ..core.plan import Plan
from ..files.cache import Cache
from ..files.synthetic import random_inputs
from ..lower import turns_of
from ..lower.facts import slice_bytes
from ..model import Model
from ..model.inputs import Asked
from ..runtime.admission import Deliver, Requests, RequestSource, credit_exchange
from ..runtime.engine import Engine, load_shared, settle_pace
from ..runtime.loopback import alone
from ..runtime.mpi import available, start
from ..runtime.state_transfer import read_states, write_states
from ..runtime.transport import Transport, on_every_rank, on_root
from ..runtime.waiting import wait
from .choosing import Chooser
from .greeting import greet
from .opening import ROOT, CostSources, PlanChoice, Tell, from_root, ignore, shared_devices, slowdown_of

OPEN, RUN, STREAM, CLOSE, END, RESET, READ, WRITE = range(8)
"""What the root tells the other ranks to do next."""

COMMANDS_TAG = 32_000
"""The tag of what tells that: beyond those of engines, and below the least that MPI promises to have."""

_OF_WEIGHTS = (*SEARCHING, "megatron")
"""Planners that share out weights; others say how tokens are to be cut."""

_BROKEN = "the ranks have been of no use since an earlier call failed"

_COMMON: dict[int, tuple[type[FlexPieError], ...]] = {
    OPEN: (FlexPieError,),
    CLOSE: (FlexPieError,),
    STREAM: (DataError,),
    RESET: (DataError,),
    READ: (DataError,),
    WRITE: (DataError,),
}
"""Errors that all ranks raise together when they do that, and are ready for more; any other may be of one rank."""


@dataclass(frozen=True)
class Order:
    """What a session is to be made of; the root's counts. Attributes as of :class:`InferenceSession`."""

    model: str
    choice: PlanChoice
    sources: CostSources
    plan: Plan | None = None
    asked: Asked = field(default_factory=Asked)
    cache: str | None = None
    in_flight: int | None = None
    states: StateChoice = NO_STATES
    state_of: int | None = None  # the number of the session whose state it works on


class Served:
    """A model with its plan on one rank; made, run and closed by all ranks together.

    It works on the state of an `other` one, or on its own.
    """

    def __init__(self, transport: Transport, order: Order, tell: Tell, other: Served | None = None) -> None:
        cache = on_every_rank(transport, lambda: Cache(Path(order.cache)) if order.cache else Cache.default())
        tell(f"loading {order.model}")
        self.model = load_shared(transport, order.model, order.asked, cache, states=order.states)
        sources, graph = order.sources, self.model.graph
        slowdown = slowdown_of(transport, shared_devices(transport, sources.testbed, sources.places))
        make = partial(Engine, transport, self.model, cache=cache, threads=sources.threads, slowdown=slowdown)
        self._make = partial(make, is_trusted=order.plan is None)
        chooser = Chooser(transport, self.model, order.choice, sources, cache, tell)
        request = on_root(transport, partial(_made_up, graph), ROOT)
        given = order.plan
        if given is None and other is not None and order.choice.planner in _OF_WEIGHTS:
            given = from_root(transport, partial(_with_more_tokens, other.plan, graph))
        chosen = chooser.choose(given, self._make, request)
        self.plan: Plan = chosen.plan
        if self.plan.root != ROOT:
            raise PlanError(f"the plan has root {self.plan.root}: a session reads and writes on rank {ROOT}")
        shared = other.shared_bytes(self.model, self.plan) if other else []
        beside = [held - both for held, both in zip(other.engine.held_bytes(), shared, strict=True)] if other else ()
        self._depth = chooser.depth(chosen, order.in_flight, beside=beside, shared=shared)
        self.engine: Engine = self._made(states=other.engine.states if other else None)

    def shared_bytes(self, model: Model, plan: Plan) -> list[int]:
        """Bytes of its weights, by rank, that another model's plan reads as well; both engines map the same files.

        What has to be packed each has for itself.
        """
        shared = []
        for own, theirs in zip(self.engine.programs, turns_of(plan, model.graph)[0], strict=True):
            pieces = {piece for piece in {*own.weights} & {*theirs.weights} if self._has(model, piece[0])}
            shared.append(slice_bytes(self.model.graph, pieces))
        return shared

    def _has(self, other: Model, weight: str) -> bool:
        """Whether its model has a weight of another one, and its plain numbers need no packing."""
        own = self.model
        are_stored = own.is_stored(weight) and other.is_stored(weight)
        is_plain = own.graph.value(weight).dtype.startswith("float")
        return are_stored and is_plain and own.weight_digest(weight) == other.weight_digest(weight)

    def run(self, inputs: Mapping[str, Any], keep: int | None = None) -> Mapping[str, Any]:
        """One request, as of :class:`Engine`; `inputs` are the root's."""
        return self._with_depth(1).run(inputs, keep)

    def stream(self, source: RequestSource, deliver: Deliver) -> None:
        """As of :class:`Engine`."""
        self._with_depth(self._depth).stream(source, deliver)

    def _with_depth(self, in_flight: int) -> Engine:
        """An engine for so many requests at once: one of many has no collectives, so there are two, one at a time."""
        if (self.engine.in_flight > 1) != (in_flight > 1):
            self.engine.close()
            self.engine = self._made(in_flight=in_flight)
        return self.engine

    def _made(self, **options: Any) -> Engine:
        engine: Engine = self._make(self.plan, **options)
        settle_pace([engine])
        return engine


class Ranks:
    """All ranks of this process's job, as its sessions see them: the root tells the others what to do next.

    Of a request the others hear a message of three numbers, when its inputs have been found good. They wait for it as
    long as the root answers when it is asked what it does.
    """

    _here: Ranks | None = None

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._sessions: dict[int, Served] = {}
        self._opened = 0
        self._problem = ""
        (self._channel,) = transport.open([credit_exchange(transport.rank, transport.size, ROOT, COMMANDS_TAG, 3)])
        self._patience = transport.patience.for_work()

    @classmethod
    def of_process(cls, deadline_s: float, transport: Transport | None = None) -> Ranks:
        """Those of this process, which joins its job if it has not yet and no `transport` is given."""
        if cls._here is None:
            transport = transport or (start(deadline_s) if available() else alone())
            greet(transport)
            cls._here = cls(transport)
            if cls._here.transport.rank == ROOT:
                atexit.register(cls._here.end)
        return cls._here

    def open(self, order: Order, tell: Tell) -> tuple[int, Served]:
        """A new session on all ranks; called on the root."""
        self._opened += 1
        with self.told(OPEN, self._opened):
            self.transport.broadcast(order, ROOT)
            self._sessions[self._opened] = Served(self.transport, order, tell, self._other(order))
        return self._opened, self._sessions[self._opened]

    def _other(self, order: Order) -> Served | None:
        if order.state_of is None:
            return None
        if order.state_of not in self._sessions:
            raise PlanError("the session whose state is asked for is closed")
        return self._sessions[order.state_of]

    def close(self, number: int) -> None:
        """End a session on all ranks; nothing happens when it has ended, or the ranks are of no use any more."""
        if not self._problem and number in self._sessions:
            with self.told(CLOSE, number):
                self._sessions.pop(number).engine.close()

    def end(self) -> None:
        """Tell all ranks that the root is done. When they do not agree any more the end of the process ends them."""
        if not self._problem:
            with self.told(END, 0):
                self.transport.close()
            self._problem, Ranks._here = "the job has ended: start a new process", None

    @contextmanager
    def told(self, command: int, number: int, argument: int = -1) -> Iterator[None]:
        """Tell the others to do what is done inside the block on the root: to a session, with a number it may need.

        An error that all ranks have alike leaves them ready for the next command; after any other they are of no use.
        """
        if self._problem:
            raise TransportError(self._problem)
        if command != OPEN and command != END and number not in self._sessions:
            raise FlexPieError("the session is closed: make another one")
        self._problem = "a stream is under way: take all its outputs, or close it, before anything else is run"
        if self._channel.outgoing:
            self._channel.drain()
            self._channel.outgoing[0].memory.view(np.int64)[:] = command, number, argument
            self._channel.post()
            self._channel.start()
        try:
            yield
        except BaseException as error:
            self._problem = "" if _is_common(error, command) else f"{_BROKEN}: {error}"
            raise
        self._problem = ""

    def serve(self) -> None:
        """Do what the root tells, until it is done; called on the other ranks."""
        while True:
            self._channel.post()
            wait(self._channel.has_arrived, self._patience, self._channel.late)
            command, number, argument = (int(each) for each in self._channel.incoming[0].memory.view(np.int64))
            if command == END:
                return self.transport.close()
            try:
                self._obey(command, number, argument)
            except FlexPieError as error:
                if not _is_common(error, command):  # it ends the job
                    raise

    def _obey(self, command: int, number: int, argument: int) -> None:
        if command == OPEN:
            order = self.transport.broadcast(None, ROOT)
            self._sessions[number] = Served(self.transport, order, lambda text: None, self._other(order))
        elif command == RUN:
            self._sessions[number].run({}, None if argument < 0 else argument)
        elif command == STREAM:
            self._sessions[number].stream(Requests(()), ignore)
        elif command == RESET:
            self._sessions[number].engine.states.reset(argument)
        elif command == READ:
            read_states(self._sessions[number].engine)
        elif command == WRITE:
            write_states(self._sessions[number].engine, {})
        else:
            self._sessions.pop(number).engine.close()


def _with_more_tokens(plan: Plan, graph: Graph) -> Plan | None:
    from ..planner.rules import with_more_tokens  # which no other rank needs

    return with_more_tokens(plan, graph)


def _made_up(graph: Graph) -> Mapping[str, Any] | None:
    """A request to measure with; None where none can be made up."""
    try:
        return random_inputs(graph)
    except DataError:
        return None


def _is_common(error: BaseException, command: int) -> bool:
    """Whether all ranks have raised it, and can go on."""
    return isinstance(error, _COMMON.get(command, ())) and not isinstance(error, TransportError)
