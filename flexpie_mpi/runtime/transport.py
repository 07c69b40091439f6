"""The seam between what moves and how: every rank of a job talks to the others through a Transport.

Two planes. The *control* plane (`Control`: objects, used while setting up) may pickle; the *data* plane (`Channel`,
used for every request) moves bytes between buffers made once.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from ..core.errors import FlexPieError
from ..core.program import Exchange, Piece
from ..lower.arena import ALIGNMENT
from .life import Answer, Life
from .waiting import Late, Patience, wait

T = TypeVar("T")

PIECE_BYTES = 4 << 20
"""What travels beside requests goes in pieces of a size that MPI can count and that may be in memory twice."""


@dataclass(frozen=True, slots=True)
class MessageBuffer:
    """Pieces packed one after the other, each in row-major order, in the bytes of `memory` (uint8, one axis)."""

    peer: int
    pieces: tuple[Piece, ...]
    memory: np.ndarray


class Channel(Protocol):
    """One rank's end of one exchange, reusable for every request.

    A request uses it in this order: ``post`` once at its beginning; then the caller fills every `outgoing` buffer and
    calls ``start``; ``finish`` returns when every `incoming` buffer is complete; ``drain`` returns when the outgoing
    buffers may be filled again, at once where nothing was started. A caller that has other things to do asks now and
    then whether ``finish`` or ``drain`` would return at once: ``has_arrived``, ``has_left``. ``late`` is the sentence
    of an error when a caller has waited too long.
    """

    exchange: Exchange
    outgoing: tuple[MessageBuffer, ...]
    incoming: tuple[MessageBuffer, ...]

    def post(self) -> None: ...
    def start(self) -> None: ...
    def finish(self) -> None: ...
    def drain(self) -> None: ...
    def has_arrived(self) -> bool: ...
    def has_left(self) -> bool: ...
    def late(self, waited_s: float) -> Late: ...


class Control(Protocol):
    """What ranks tell each other to make ready for requests.

    Every method but the point-to-point ones is called by all ranks.
    """

    rank: int
    size: int

    @property
    def patience(self) -> Patience:
        """How this rank waits."""

    def host_ranks(self) -> dict[str, tuple[int, ...]]:
        """Ranks by the name of their host."""

    def broadcast(self, item: Any, root: int = 0) -> Any:
        """The root's `item`, on every rank."""

    def gather(self, item: Any, root: int = 0) -> list[Any] | None:
        """Every rank's `item`, by rank, on the root; None elsewhere."""

    def all_gather(self, item: Any) -> list[Any]:
        """Every rank's `item`, by rank, on every rank."""

    def barrier(self) -> None:
        """Return when every rank has come here."""

    def attend(self, work: Callable[[], T], root: int = 0) -> T | None:
        """The result of `work`, called on the root only; None elsewhere, once it is done.

        Others wait as long as it takes, if they hear that the root is still there. `work` uses no transport.
        """

    def send(self, array: np.ndarray, target: int, tag: int = 0) -> None:
        """Send a contiguous array; return when it may be changed again."""

    def receive(self, array: np.ndarray, source: int, tag: int = 0) -> None:
        """Fill a contiguous array with what `source` sent."""

    def open(self, exchanges: Sequence[Exchange]) -> tuple[Channel, ...]:
        """Channels for this rank's part of every exchange of the job, in the job's order."""

    def release(self, channels: Iterable[Channel]) -> None:
        """Give back channels that are no longer used, with their memory, once what they sent has left."""


Work = Callable[[Control], None]
"""What a thread does beside the main one of its rank, with what it tells those of the other ranks by."""


class Transport(Control, Protocol):
    """What a rank can ask of the job it is part of.

    Every method but the point-to-point ones, `asked`, `idle` and `call` is called by all ranks.
    """

    @property
    def library(self) -> str:
        """Name and version of the library that carries messages; empty without one."""

    @property
    def life(self) -> Life:
        """What this rank does, kept up to date by those who do it."""

    def asked(self, rank: int, *, loaded: bool = False) -> Answer | None:
        """What a rank says that it does, beside the messages of the job; None where it does not answer.

        Any thread of this process may ask. Where it is `loaded`, how fast a large answer comes is measured as well.
        """

    def open(self, exchanges: Sequence[Exchange], *, as_messages: bool = False) -> tuple[Channel, ...]:
        """The same; `as_messages`, where not all ranks would come to make what collectives need."""

    def idle(self, awaited: Callable[[], Iterable[Channel] | None]) -> None:
        """Drive messages forward on a rank on which nothing moves.

        Parameters
        ----------
        awaited : callable
            Channels of which one must arrive before this rank can go on; None when something else may let it go on.

        Raises
        ------
        TransportError
            When the transport sees that no rank can go on.
        """

    def listen(self, work: Work | None) -> None:
        """From now on `work` is done beside, in a thread of its own, whenever rank 0 calls for it.

        What that thread needs of the transport is done while this one waits, or has it idle. With None nothing more is
        begun, and it returns when what has been begun is over.
        """

    def call(self) -> None:
        """Have all ranks do the work that they listen for, once; any thread of rank 0 may call."""

    def close(self) -> None:
        """Free what the transport holds; channels end with it."""


def message_buffers(exchange: Exchange) -> tuple[tuple[MessageBuffer, ...], tuple[MessageBuffer, ...]]:
    """Fresh (outgoing, incoming) buffers of one rank's part of an exchange.

    Messages that carry the same pieces (an all-gather, a broadcast) share the memory of one buffer.
    """
    memory: dict[tuple[Piece, ...], np.ndarray] = {}
    outgoing = []
    for message in exchange.sends:
        shared = memory.setdefault(message.pieces, np.empty(message.nbytes, np.uint8))
        outgoing.append(MessageBuffer(message.target, message.pieces, shared))
    incoming = (MessageBuffer(m.source, m.pieces, np.empty(m.nbytes, np.uint8)) for m in exchange.receives)
    return tuple(outgoing), tuple(incoming)


def aligned(nbytes: int) -> np.ndarray:
    """Fresh memory of zeros (uint8, one axis) that begins at a multiple of `ALIGNMENT`."""
    memory = np.zeros(nbytes + ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return memory[begin : begin + nbytes]


def agree(transport: Control, error: FlexPieError | None) -> None:
    """Raise on every rank when any rank has an error: the lowest such rank's, with its number in front.

    Raises FlexPieError of the failing rank's own class.
    """
    theirs = anyones(transport, error)
    if theirs is not None:
        raise theirs


def anyones(transport: Control, error: FlexPieError | None) -> FlexPieError | None:
    """On every rank, the error of the lowest rank that has one, with its number in front; None when none has."""
    for rank, theirs in enumerate(transport.all_gather(error)):
        if theirs is not None:
            return theirs if transport.size == 1 else type(theirs)(f"rank {rank}: {theirs}")
    return None


def on_root(transport: Control, function: Callable[[], T], root: int = 0) -> T | None:
    """Result of `function`, called on the root only; None elsewhere. Its error is raised on every rank.

    It may take as long as it likes, and uses no transport. Raises the FlexPieError that `function` raised.
    """

    def attempt() -> tuple[T | None, FlexPieError | None]:
        try:
            return function(), None
        except FlexPieError as raised:
            return None, raised

    result, error = transport.attend(attempt, root) or (None, None)
    error = transport.broadcast(error, root)
    if error is not None:
        raise error
    return result


def wait_for_work(transport: Transport, is_done: Callable[[], bool], what: str) -> None:
    """Return when `is_done` says that what other ranks do by themselves is done, however long they take.

    Raises LateError when one of them has not answered for as long as the deadline.
    """
    others = [rank for rank in range(transport.size) if rank != transport.rank]
    wait(is_done, transport.patience.for_work(), partial(Late, transport.rank, what, others))


def pieces(memory: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive parts of bytes (uint8, one axis)."""
    return (memory[begin : begin + PIECE_BYTES] for begin in range(0, memory.size, PIECE_BYTES))


def bytes_of(array: np.ndarray) -> np.ndarray:
    """The memory of a contiguous array."""
    if not array.flags.c_contiguous:
        raise ValueError(f"only contiguous arrays travel, not one of shape {array.shape} with strides {array.strides}")
    return array.reshape(-1).view(np.uint8)


def pickled(item: Any) -> np.ndarray:
    """An object for another rank of this job."""
    return np.frombuffer(bytearray(pickle.dumps(item)), np.uint8)


def unpickled(memory: np.ndarray) -> Any:
    """An object from another rank of this job."""
    return pickle.loads(memory.tobytes())  # noqa: S301 (from a rank of this job)


def on_every_rank(transport: Control, function: Callable[[], T]) -> T:
    """Each rank's own result of `function`; an error on any of them is raised on all.

    Raises the FlexPieError that `function` raised on the lowest rank where it did.
    """
    result: list[T] = []
    error = None
    try:
        result.append(function())
    except FlexPieError as raised:
        error = raised
    agree(transport, error)
    return result[0]
