"""All that touches MPI: start and common end of a job, and a transport whose every wait is polite and bounded.

One thread per process calls MPI at a time. Waiting inside MPI would occupy a core that computing ranks may need, and
would never end when a peer is gone; so nothing here blocks: operations are begun, then looked at by :mod:`.waiting`.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, NoReturn, TypeVar

import mpi4py
import numpy as np

from ..core.errors import TransportError
from ..core.program import Exchange
from ..lower.arena import packed_bytes, staging_bytes
from .channels import FEW, MOST_BYTES, AllgatherChannel, CollectiveChannel, HaloChannel
from .ending import end_job_on_error, leave, say
from .life import Life, Pulse
from .machine import host_ranks, is_crowded, place, wake_promptly
from .presence import Presence
from .transport import PIECE_BYTES, Channel, Transport, aligned, bytes_of, pickled, pieces, unpickled
from .waiting import DEADLINE_S, Late, LateError, Patience, Signs, wait
from .watch import Watch

mpi4py.rc.initialize = False
mpi4py.rc.finalize = False
try:
    from mpi4py import MPI
except (ImportError, RuntimeError) as error:
    MPI = None  # type: ignore[assignment]
    _PROBLEM = str(error).splitlines()[0]

T = TypeVar("T")
OpenChannel = HaloChannel | CollectiveChannel

PIECES_IN_FLIGHT = 2
GRACE_S = 2.0
"""How long a rank that leaves with an error waits for the others to leave as well before it ends them."""

LATE_GRACE_S = 0.3
"""The same where the error is that others are late: those that are not give up within moments of each other."""

_LAUNCHED = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def available() -> bool:
    """Whether an MPI library can be loaded."""
    return MPI is not None


def is_started() -> bool:
    """Whether this process has joined a job."""
    return available() and bool(MPI.Is_initialized())


def library() -> str:
    """Name and version of the MPI library, such as ``MPICH 5.0.2`` or ``Open MPI v4.1.4``; empty without one."""
    if not available():
        return ""
    line = MPI.Get_library_version().splitlines()[0].split(",")[0]
    return " ".join(line.replace(" Version:", " ").split())


def launched_ranks(environment: Mapping[str, str] = os.environ) -> int:
    """Number of ranks that ``mpirun`` says it started; 1 without ``mpirun``."""
    sizes = (environment.get(name, "") for name in _LAUNCHED)
    return max((int(size) for size in sizes if size.isdecimal()), default=1)


def start(deadline_s: float = DEADLINE_S, most_bytes: int = MOST_BYTES) -> MPITransport:
    """Join the job: all ranks that ``mpirun`` started, or this process alone without it.

    From now on an uncaught error on any rank, or a rank that leaves early, ends the whole job.

    Parameters
    ----------
    deadline_s : float
        How long a rank waits for another before it gives up.
    most_bytes : int
        Most bytes of one message or collective; what is larger goes in pieces.

    Raises
    ------
    TransportError
        When there is no MPI library, it cannot be started, or it is not the one that ``mpirun`` belongs to.
    """
    if not available():
        raise TransportError(f"no MPI library found ({_PROBLEM}): install one with pip install flexpie-mpi[mpich]")
    if MPI.Is_finalized():
        raise TransportError("MPI has ended in this process and cannot be started again: start a new process")
    owns = not MPI.Is_initialized()
    if owns:
        MPI.Init_thread(MPI.THREAD_SERIALIZED)
    if launched_ranks() > MPI.COMM_WORLD.size == 1:
        raise TransportError(
            f"mpirun started {launched_ranks()} ranks, but {library()} in {sys.prefix} sees only itself: "
            "use the mpirun that belongs to this MPI library"
        )
    wake_promptly()
    return MPITransport(_Job(MPI.COMM_WORLD.Dup(), owns), Patience(deadline_s), most_bytes)


def stop(transport: Transport, code: int, message: str = "") -> NoReturn:
    """Leave the job in the ordinary way, with an exit code and a sentence to print once on stderr.

    When all ranks leave, the lowest one that has a message prints it and MPI is shut down. A rank that leaves with
    an error while others stay prints its message with its number in front, and the job is aborted with its code.
    """
    if isinstance(transport, MPITransport):
        transport.end(code, message)
    elif message:
        say(None, message)
    leave(code)


class _Job:
    """This process's membership in the job, from start to a common end.

    Attributes
    ----------
    world : MPI.Intracomm
        All ranks; used for nothing but the end.
    is_orderly : bool
        Whether this rank has done all it had to do for the others.
    """

    def __init__(self, world: Any, owns: bool) -> None:
        self.world = world
        self.is_orderly = False
        self._owns = owns
        self._is_over = False
        if world.size > 1:  # alone, Python's own way to end is good enough
            end_job_on_error(world.rank, world.Abort)
        atexit.register(self._end_at_exit)

    def end(self, code: int, message: str, grace_s: float, *, is_late: bool = False) -> None:
        """Wait for all ranks to come here, print the message of the lowest rank that has one, and shut MPI down.

        Aborts the job with `code` when they do not come within `grace_s`. Where the error is that one `is_late`, this
        rank is killed instead: MPICH's launcher kills a stopped rank, and leaves one that is cut off, when it sees that
        another has died by a signal, and may wait for ever when that one aborts or exits.
        """
        if self._is_over or MPI.Is_finalized():
            return
        self._is_over = True
        rank, size = self.world.rank, self.world.size
        speaker = np.array([rank if message else size])
        request = self.world.Iallreduce(MPI.IN_PLACE, speaker, MPI.MIN)
        try:
            wait(request.Test, Patience(grace_s), lambda waited_s: message)
        except TransportError:
            sentence = message or "has left while other ranks are still at work; the job is aborted"
            say(None if sentence.startswith(f"rank {rank} ") else rank, sentence)
            if is_late:
                os.kill(os.getpid(), signal.SIGKILL)
            self.world.Abort(code or 1)
        if speaker[0] == rank:
            say(None, message)
        self.world.Free()
        if self._owns:
            MPI.Finalize()

    def _end_at_exit(self) -> None:
        self.end(0, "", inf if self.is_orderly else GRACE_S)


class MPITransport:
    """One rank's transport in an MPI job; made by :func:`start`, the same on every rank.

    What each method does is said of :class:`.transport.Transport`.

    Attributes
    ----------
    rank, size : int
    patience : Patience
        How this rank waits: differently when the ranks of its host outnumber the cores they may use.
    life : Life
        What this rank does, as it says when it is asked.
    """

    def __init__(self, job: _Job, patience: Patience, most_bytes: int) -> None:
        self.rank: int = job.world.rank
        self.size: int = job.world.size
        self.patience = patience
        self._job = job
        self._most_bytes = most_bytes
        self._others = [rank for rank in range(self.size) if rank != self.rank]
        self._control = job.world.Dup()
        self._data = job.world.Dup()
        self._signs_of = job.world.Dup()
        self._groups: dict[tuple[int, ...], Any] = {}
        self._channels: list[OpenChannel] = []
        self._in_flight: deque[tuple[Any, int]] = deque()
        self._is_closed = False
        self._control_patience = patience
        self.life = Life()
        self._pulse = Pulse(self.life)
        here = place(MPI.Get_processor_name())
        everyones = self.all_gather((here, Presence.here(*here[:2], self._pulse.port)))
        self._places = [there for there, _ in everyones]
        self.presences = [presence for _, presence in everyones]
        self.patience.onlooker = Watch(self.rank, self.presences, self.life, patience.deadline_s)
        self.patience.yields = is_crowded(self._places, self.rank)
        self._control_patience = replace(self.patience)
        has_thread = MPI.Query_thread() >= MPI.THREAD_SERIALIZED
        self._signs = Signs(self._signs_of, replace(self.patience), has_thread=has_thread)

    def __enter__(self) -> MPITransport:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def broadcast(self, item: Any, root: int = 0) -> Any:
        is_root = self.rank == root
        memory = pickled(item) if is_root else np.empty(0, np.uint8)
        length = np.array([memory.size])
        self._complete(self._control.Ibcast(length, root), "a broadcast")
        memory = memory if is_root else np.empty(length[0], np.uint8)
        for piece in pieces(memory):
            self._complete(self._control.Ibcast(piece, root), "a broadcast")
        return item if is_root else unpickled(memory)

    def gather(self, item: Any, root: int = 0) -> list[Any] | None:
        begin = partial(self._control.Igatherv, root=root)
        items = self._collect(item, begin, "a gather", receives=self.rank == root)
        return items if self.rank == root else None

    def all_gather(self, item: Any) -> list[Any]:
        return self._collect(item, self._control.Iallgatherv, "an all-gather", receives=True)

    def barrier(self) -> None:
        self._complete(self._control.Ibarrier(), "a barrier")

    def attend(self, work: Callable[[], T], root: int = 0) -> T | None:
        """The result of `work`, called on the root only; None elsewhere.

        Raises TransportError on a rank that hears nothing of the root any more.
        """
        if self.rank == root:
            return self._signs.give(work)
        self._signs.take(root)
        return None

    def send(self, array: np.ndarray, target: int, tag: int = 0) -> None:
        """Send a contiguous array; return when it may be changed again.

        Up to `PIECES_IN_FLIGHT` pieces are copied and still on their way then; they go on whenever this rank waits
        for anything.
        """
        for piece in pieces(bytes_of(array)):
            while len(self._in_flight) >= PIECES_IN_FLIGHT:
                self._complete_oldest_send()
            self._in_flight.append((self._control.Isend(piece.copy(), target, tag), target))

    def receive(self, array: np.ndarray, source: int, tag: int = 0) -> None:
        for piece in pieces(bytes_of(array)):
            self._complete(self._control.Irecv(piece, source, tag), f"a message with tag {tag}", (source,))

    def open(self, exchanges: Sequence[Exchange]) -> tuple[Channel, ...]:
        """Channels for this rank's part of every exchange of the job, in the job's order.

        Raises TransportError when an exchange has a tag beyond what MPI takes.
        """
        for exchange in exchanges:
            _check_tags(exchange, self._data.Get_attr(MPI.TAG_UB))
        fits = self._fit(exchanges)
        fitting = (exchange for exchange, is_fitting in zip(exchanges, fits, strict=True) if is_fitting)
        slots = {slot: aligned(nbytes) for slot, nbytes in staging_bytes(fitting, self.rank).items()}
        channels = [self._channel(exchange, slots, fit) for exchange, fit in zip(exchanges, fits, strict=True)]
        self._channels += channels
        return tuple(channels)

    def idle(self, awaited: Callable[[], Iterable[Channel] | None]) -> None:
        """Drive messages forward; what this rank waits for is looked at elsewhere."""
        self._control.Iprobe(self.rank)  # nobody writes to itself: the library looks around in vain, and well

    def release(self, channels: Iterable[Channel]) -> None:
        for channel in channels:
            channel.drain()
            number = next((i for i, known in enumerate(self._channels) if known is channel), None)
            if number is not None:
                self._channels.pop(number).free()

    def close(self) -> None:
        """Free what the transport holds; channels end with it. Returns when all ranks close.

        While an error is being handled nobody is waited for: the job ends, or is ended, in another way.
        """
        if self._is_closed or sys.exc_info()[0] is not None:
            return
        self._is_closed = True
        while self._in_flight:
            self._complete_oldest_send()
        for channel in self._channels:
            channel.drain()
        wait(self._signs.has_left, self.patience, partial(Late, self.rank, "signs that it sent", self._others))
        # Others may have much to do still; when they fail, they end this rank.
        wait(self._control.Ibarrier().Test, Patience(inf), lambda waited_s: "")
        self._pulse.close()
        self._free_channels()
        for communicator in (*self._groups.values(), self._data, self._control, self._signs_of):
            communicator.Free()
        self._job.is_orderly = True

    def end(self, code: int, message: str = "") -> None:
        """Shut MPI down together with the other ranks, or abort the job; see :func:`stop`."""
        self._free_channels()
        is_late = isinstance(sys.exc_info()[1], LateError)
        grace_s = LATE_GRACE_S if is_late else GRACE_S
        self._job.end(code, message, inf if code == 0 else grace_s, is_late=is_late)

    @property
    def library(self) -> str:
        """Name and version of the MPI library."""
        return library()

    def host_ranks(self) -> dict[str, tuple[int, ...]]:
        """Ranks by the name of their host; hosts that share a name are numbered."""
        return host_ranks(self._places)

    def _collect(self, item: Any, begin: Callable[..., Any], what: str, *, receives: bool) -> list[Any]:
        """Every rank's item, in rounds of as many bytes per rank as keep a round small."""
        memory = pickled(item)
        lengths = np.empty(self.size, np.int64)
        self._complete(self._control.Iallgather(np.array([memory.size]), lengths), what)
        step = max(1, PIECE_BYTES // self.size)
        parts: list[list[np.ndarray]] = [[] for _ in lengths]
        for offset in range(0, int(lengths.max()), step):
            counts = np.clip(lengths - offset, 0, step)
            block = np.empty(int(counts.sum()) if receives else 0, np.uint8)
            target = [block, counts.tolist(), MPI.BYTE] if receives else None
            self._complete(begin(memory[offset : offset + step], target), what)
            for rank, part in enumerate(np.split(block, np.cumsum(counts)[:-1]) if receives else ()):
                parts[rank].append(part)
        return [unpickled(np.concatenate(part)) for part in parts] if receives else []

    def _complete(self, request: Any, what: str, peers: Sequence[int] | None = None) -> None:
        peers = self._others if peers is None else peers
        wait(request.Test, self._control_patience, partial(Late, self.rank, what, peers))

    def _complete_oldest_send(self) -> None:
        request, target = self._in_flight.popleft()
        self._complete(request, "a message it sent", (target,))

    def _fit(self, exchanges: Sequence[Exchange]) -> list[bool]:
        """Which exchanges are collectives that are small enough for one call on every rank.

        It finds everybody there, as is needed to make communicators, which blocks.
        """
        mine = [exchange for exchange in exchanges if exchange.is_collective and self.rank in exchange.group]
        large = {_tag(exchange) for exchange in mine if packed_bytes(exchange, self.rank) > self._most_bytes}
        everyones = set[int]().union(*self.all_gather(large))
        fitting = {id(exchange) for exchange in mine if _tag(exchange) not in everyones}
        return [id(exchange) in fitting for exchange in exchanges]

    def _channel(self, exchange: Exchange, slots: Mapping[int, np.ndarray], is_fitting: bool) -> OpenChannel:
        """The channel of an exchange; the members of a group meet here in the order of the job's exchanges."""
        if not is_fitting:
            return HaloChannel(exchange, self.rank, self._data, self.patience, self._most_bytes)
        memory, group = slots.get(exchange.staging_slot), exchange.group
        if exchange.kind == "allgather" and len(group) <= FEW:
            return AllgatherChannel(exchange, self.rank, self._data, self.patience, memory)
        if group not in self._groups:
            self._groups[group] = self._data.Create_group(self._data.group.Incl(group))
        return CollectiveChannel(exchange, self.rank, self._groups[group], self.patience, memory)

    def _free_channels(self) -> None:
        for channel in self._channels:
            channel.free()
        self._channels.clear()


def _tag(exchange: Exchange) -> int:
    """The tag of a collective's messages, the same on every rank that takes part."""
    return next(iter((*exchange.sends, *exchange.receives))).tag


def _check_tags(exchange: Exchange, limit: int) -> None:
    highest = max((message.tag for message in (*exchange.sends, *exchange.receives)), default=0)
    if highest > limit:
        raise TransportError(
            f"exchange {exchange.index} has tag {highest} and {library()} takes tags up to {limit}: use longer segments"
        )
