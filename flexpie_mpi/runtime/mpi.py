"""All that touches MPI: start and common end of a job, and a transport whose every wait is polite and bounded.

One thread per process calls MPI at a time. Waiting inside MPI would occupy a core that computing ranks may need, and
would never end when a peer is gone; so nothing here blocks: operations are begun, then looked at by :mod:`.waiting`.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn, TypeVar

import mpi4py
import numpy as np

from ..core.errors import TransportError
from ..core.program import Exchange
from ..lower.arena import packed_bytes, staging_bytes
from .beside import Aside
from .channels import FEW, MOST_BYTES, AllgatherChannel, CollectiveChannel, HaloChannel, check_tags, tag_of
from .control import ControlPlane
from .ending import end_job_on_error, killed_after, leave, say, wait_until_read
from .life import Answer, Life, Pulse
from .machine import host_ranks, is_crowded, place, wake_promptly
from .presence import Presence
from .transport import Channel, Transport, Work, aligned
from .waiting import DEADLINE_S, Late, LateError, Patience, wait
from .watch import Watch
from .witness import Witness

mpi4py.rc.initialize = False
mpi4py.rc.finalize = False
try:
    from mpi4py import MPI
except (ImportError, RuntimeError) as error:
    MPI = None  # type: ignore[assignment]
    _PROBLEM = str(error).splitlines()[0]

Failure: type[Exception] = MPI.Exception if MPI else RuntimeError
"""What MPI raises."""

T = TypeVar("T")
Communicator = Any  # MPI.Intracomm, where there is an MPI library
OpenChannel = HaloChannel | CollectiveChannel

COMMUNICATORS = 3
"""So many a transport takes, each for one purpose, so that nothing is mistaken for anything else."""

_OVER, _OVER_TAG = np.zeros(1, np.uint8), 1
"""The message that a rank which worked alone sends, when the others may go on."""

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


def host_name() -> str:
    """Name of this host, as MPI has it."""
    return str(MPI.Get_processor_name())


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
    job = join()
    transport = MPITransport(job, [job.world.Dup() for _ in range(COMMUNICATORS)], deadline_s, most_bytes)
    job.patience = transport.patience.for_work()
    return transport


def join() -> Job:
    """This process's membership in its job; see :func:`start`."""
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
    return Job(MPI.COMM_WORLD.Dup(), owns)


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


class Job:
    """This process's membership in the job, from start to a common end.

    Attributes
    ----------
    world : MPI.Intracomm
        All ranks; used for nothing but the end, and to find together again.
    is_orderly : bool
        Whether this rank has done all it had to do for the others.
    patience : Patience
        How it waits for the others at the end; its onlooker knows them by their ranks in the world.
    life : Life
        What this rank does, as it says when it is asked, until its process is gone.
    is_elastic : bool
        Whether it outlives ranks that are lost; see :mod:`.crew`.
    owns_end : bool
        Whether MPI is shut down at its end. Open MPI 5.0.11 waits for lost ranks then, every third time for ever.
    """

    def __init__(self, world: Communicator, owns: bool) -> None:
        self.world = world
        self.is_orderly = self.is_elastic = False
        self.owns_end = owns
        self.patience = Patience(is_for_work=True)
        self.life = Life()
        self.place = place(host_name())
        self._pulse = Pulse(self.life)
        self.presence = Presence.here(*self.place[:2], self._pulse)
        self._is_over = False
        if world.size > 1:  # alone, Python's own way to end is good enough
            end_job_on_error(world.rank, self.abort)
        self._witness = Witness(world.rank, MPI.Get_processor_name()) if world.size > 1 else None
        atexit.register(self._end_at_exit)

    def end(self, code: int, message: str, grace_s: float | None = None, *, is_late: bool = False) -> None:
        """Wait for all ranks to come here, print the message of the lowest rank that has one, and shut MPI down.

        Aborts the job with `code` when they do not come within `grace_s`, or, without that, when one of them has not
        answered for as long as the deadline: they may have much to do still. Where the error is that one `is_late`,
        this rank is killed instead: MPICH's launcher kills a stopped rank, and leaves one that is cut off, when it sees
        that another has died by a signal, and may wait for ever when that one aborts or exits.
        """
        if self._is_over or MPI.Is_finalized():
            return
        self._is_over = True
        rank, size = self.world.rank, self.world.size
        speaker = np.array([rank if message else size])
        request = self.world.Iallreduce(MPI.IN_PLACE, speaker, MPI.MIN)
        try:
            late = partial(Late, rank, "the end of the job", [other for other in range(size) if other != rank])
            wait(request.Test, Patience(grace_s) if grace_s else self.patience, late)
        except TransportError as error:
            left = "has left while other ranks are still at work; the job is aborted"
            sentence, is_late = (message or left, is_late) if grace_s else (str(error), True)
            say(None if sentence.startswith(f"rank {rank} ") else rank, sentence)
            wait_until_read()
            self._dismiss(os.getppid() if is_late else None)
            if is_late and not self.is_elastic:
                os.kill(os.getpid(), signal.SIGKILL)
            self.abort(code or 1)
        except Failure:  # a rank is lost, and others may find together again
            self._is_over = False
            raise
        self._dismiss()
        if speaker[0] == rank:
            say(None, message)
        self._pulse.close()
        with killed_after(self.patience.deadline_s):
            self.world.Free()
            if self.owns_end:
                MPI.Finalize()

    def abort(self, code: int) -> None:
        """End all ranks, of this world and of any before it."""
        MPI.COMM_WORLD.Abort(code)

    def is_revoked(self) -> bool:
        """Whether a rank has called the others to find together again."""
        MPI.COMM_SELF.Iprobe()  # for the library to look around
        return bool(self.world.Is_revoked())

    def _dismiss(self, launcher: int | None = None) -> None:
        if self._witness is not None:
            self._witness.dismiss(launcher)

    def _end_at_exit(self) -> None:
        self.end(0, "", None if self.is_orderly else GRACE_S)


class MPITransport(ControlPlane):
    """One rank's transport in an MPI job; made by :func:`start`, the same on every rank.

    What each method does is said of :class:`.transport.Transport`.

    Attributes
    ----------
    patience : Patience
        How this rank waits: differently when the ranks of its host outnumber the cores they may use.
    """

    def __init__(
        self, job: Job, communicators: Sequence[Communicator], deadline_s: float, most_bytes: int = MOST_BYTES
    ) -> None:
        self.patience = Patience(deadline_s)
        super().__init__(communicators[0], self.patience)
        self._communicators = communicators
        _, self._data, beside = communicators
        self._aside = Aside(self, beside)
        self._job = job
        self._most_bytes = most_bytes
        self._groups: dict[tuple[int, ...], Communicator] = {}
        self._channels: list[OpenChannel] = []
        self._is_closed = False
        self.life = job.life
        everyones = self.all_gather((job.place, job.presence))
        self._places = [there for there, _ in everyones]
        self._watch = Watch(self.rank, [presence for _, presence in everyones], self.life, deadline_s)
        self.patience.onlooker = self._watch
        self.patience.yields = is_crowded(self._places, self.rank)
        self._control_patience = replace(self.patience)

    def __enter__(self) -> MPITransport:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def asked(self, rank: int, *, loaded: bool = False) -> Answer | None:
        return self._watch.asked(rank, loaded=loaded)

    def attend(self, work: Callable[[], T], root: int = 0) -> T | None:
        """The result of `work`, called on the root only; None elsewhere.

        Raises TransportError on a rank that hears nothing of the root any more.
        """
        if self.rank != root:
            patience = self._control_patience.for_work()
            self._complete(self._control.Irecv(_OVER.copy(), root, _OVER_TAG), "work on one rank", (root,), patience)
            return None
        try:
            return work()
        finally:
            for rank in self._others:
                self.send(_OVER, rank, _OVER_TAG)

    def open(self, exchanges: Sequence[Exchange], *, as_messages: bool = False) -> tuple[Channel, ...]:
        """Channels for this rank's part of every exchange of the job, in the job's order.

        Raises TransportError when an exchange has a tag beyond what MPI takes.
        """
        limit: Any = MPI.COMM_WORLD.Get_attr(MPI.TAG_UB)
        for exchange in exchanges:
            check_tags(exchange, limit, library())
        fits = [False] * len(exchanges) if as_messages or self._job.is_elastic else self._fit(exchanges)
        fitting = (exchange for exchange, is_fitting in zip(exchanges, fits, strict=True) if is_fitting)
        slots = {slot: aligned(nbytes) for slot, nbytes in staging_bytes(fitting, self.rank).items()}
        channels = [self._channel(exchange, slots, fit) for exchange, fit in zip(exchanges, fits, strict=True)]
        self._channels += channels
        return tuple(channels)

    def idle(self, awaited: Callable[[], Iterable[Channel] | None]) -> None:
        """Drive messages forward; what this rank waits for is looked at elsewhere."""
        self._aside.look()

    def listen(self, work: Work | None) -> None:
        self._aside.listen(work)

    def call(self) -> None:
        self._aside.call()

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
        self.flush()
        for channel in self._channels:
            channel.drain()
        self._complete(self._control.Ibarrier(), "the end of the job", patience=self._control_patience.for_work())
        self._free_channels()
        for communicator in (*self._groups.values(), *self._communicators):
            communicator.Free()
        self._job.is_orderly = True

    def abandon(self) -> list[Any]:
        """Let go of what the transport holds, when its communicators are revoked; what of it MPI may still use."""
        self.life.telling = lambda: None  # of what was at work
        return [*self._aside.abandon(), *(request for channel in self._channels for request in channel.abandon())]

    def end(self, code: int, message: str = "") -> None:
        """Shut MPI down together with the other ranks, or abort the job; see :func:`stop`."""
        self._free_channels()
        is_late = isinstance(sys.exc_info()[1], LateError)
        grace_s = LATE_GRACE_S if is_late else GRACE_S
        self._job.end(code, message, None if code == 0 else grace_s, is_late=is_late)

    def give_up(self, message: str) -> NoReturn:
        """Say why, and end all ranks."""
        say(self.rank, message)
        self._job.abort(1)
        leave(1)

    @property
    def library(self) -> str:
        """Name and version of the MPI library."""
        return library()

    def host_ranks(self) -> dict[str, tuple[int, ...]]:
        """Ranks by the name of their host; hosts that share a name are numbered."""
        return host_ranks(self._places)

    def _fit(self, exchanges: Sequence[Exchange]) -> list[bool]:
        """Which exchanges are collectives that are small enough for one call on every rank.

        It finds everybody there, as is needed to make communicators, which blocks. Where ranks may be lost none are
        made: whoever is in the midst of that cannot be told.
        """
        mine = [exchange for exchange in exchanges if exchange.is_collective and self.rank in exchange.group]
        large = {tag_of(exchange) for exchange in mine if packed_bytes(exchange, self.rank) > self._most_bytes}
        everyones = set[int]().union(*self.all_gather(large))
        fitting = {id(exchange) for exchange in mine if tag_of(exchange) not in everyones}
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

    def _is_over(self, request: Any) -> bool:
        self._aside.look()
        return super()._is_over(request)

    def _free_channels(self) -> None:
        for channel in self._channels:
            channel.free()
        self._channels.clear()
