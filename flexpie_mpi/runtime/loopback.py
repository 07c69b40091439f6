"""All ranks of a job inside one process: a thread per rank, and mailboxes in place of a network.

Collectives are carried out as the messages they stand for. Since every wait of the job is in one place, a job in which
all ranks wait for something that cannot come is noticed at once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, TypeVar

import numpy as np

from ..core.errors import ProgramError, TransportError
from ..core.program import Exchange, Message
from .life import Answer, Life
from .transport import Channel, MessageBuffer, Work, message_buffers, pickled, unpickled
from .waiting import Late, Patience

T = TypeVar("T")

Address = tuple[str, int, int, int]
"""(what is sent, source rank, target rank, tag)."""

_POLITE = Patience(eager_s=0.0)
"""Ranks are threads here, of which one at a time runs: none looks again without a nap."""


def run_ranks(size: int, function: Callable[[LoopbackTransport], T], deadline_s: float = 60.0) -> list[T]:
    """Results of `function` by rank, called once per rank, each in a thread of its own with its transport.

    Parameters
    ----------
    size : int
    function : callable
    deadline_s : float
        How long a rank waits for another that is busy.

    Raises
    ------
    TransportError
        When ranks wait for something that cannot come, or longer than the deadline.
    BaseException
        The first that any rank raised; the others are released from their waits.
    """
    office = _PostOffice(size, deadline_s)
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        with office.taking_errors():
            results[rank] = function(LoopbackTransport(rank, office))
        office.leave(rank)

    threads = [threading.Thread(target=run, args=(rank,), name=f"rank {rank}", daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if office.error is not None:
        raise office.error
    return results


def alone() -> LoopbackTransport:
    """The transport of a job of one rank: this process, without MPI."""
    return LoopbackTransport(0, _PostOffice(1, deadline_s=0.0))


class LoopbackTransport:
    """One rank's transport in a job of threads, made by :func:`run_ranks`.

    What each method does is said of :class:`.transport.Transport`. Objects that are broadcast or gathered are copied.
    What exchanges carry goes by way of another office where one is given.
    """

    def __init__(self, rank: int, office: _PostOffice, carrier: _PostOffice | None = None) -> None:
        self.rank = rank
        self.size = office.size
        self.patience = replace(_POLITE, deadline_s=office.deadline_s)
        self._office = office
        self._carrier = carrier or office
        self.life = office.lives[rank]

    def __enter__(self) -> LoopbackTransport:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def library(self) -> str:
        """None: ranks are threads of this process."""
        return ""

    def host_ranks(self) -> dict[str, tuple[int, ...]]:
        """All ranks, on a host without a name of its own."""
        return {"here": tuple(range(self.size))}

    def asked(self, rank: int, *, loaded: bool = False) -> Answer | None:
        return Answer(self._office.lives[rank].now(), time.process_time(), time.monotonic(), "")

    def broadcast(self, item: Any, root: int = 0) -> Any:
        if self.rank != root:
            return self._take("broadcast", root)
        for target in range(self.size):
            if target != root:
                self._put("broadcast", target, item)
        return item

    def gather(self, item: Any, root: int = 0) -> list[Any] | None:
        if self.rank != root:
            self._put("gather", root, item)
            return None
        return [item if source == root else self._take("gather", source) for source in range(self.size)]

    def all_gather(self, item: Any) -> list[Any]:
        others = [rank for rank in range(self.size) if rank != self.rank]
        for target in others:
            self._put("all-gather", target, item)
        taken = {source: self._take("all-gather", source) for source in others}
        return [taken.get(rank, item) for rank in range(self.size)]

    def barrier(self) -> None:
        self.all_gather(None)

    def attend(self, work: Callable[[], T], root: int = 0) -> T | None:
        """The result of `work`, called on the root only; None elsewhere, where the next wait for it may be long."""
        if self.rank != root:
            return None
        with self._office.working(root):
            return work()

    def send(self, array: np.ndarray, target: int, tag: int = 0) -> None:
        self._office.put(("array", self.rank, target, tag), array.tobytes())

    def receive(self, array: np.ndarray, source: int, tag: int = 0) -> None:
        _fill(array.reshape(-1).view(np.uint8), self._office.take(("array", source, self.rank, tag)))

    def open(self, exchanges: Sequence[Exchange], *, as_messages: bool = False) -> tuple[LoopbackChannel, ...]:
        return tuple(LoopbackChannel(exchange, self.rank, self._carrier) for exchange in exchanges)

    def idle(self, awaited: Callable[[], Iterable[Channel] | None]) -> None:
        """Notice when no rank can go on: all wait for messages, and none of those is there."""
        channels = awaited()
        if channels is None:
            self._office.go_on(self.rank)
        else:
            missing = (c.missing() for c in channels if isinstance(c, LoopbackChannel))
            self._office.halt(self.rank, [address for addresses in missing for address in addresses])

    def listen(self, work: Work | None) -> None:
        self._office.works[self.rank] = work
        if work is None and self.rank in self._office.beside:
            self._office.beside[self.rank].join()

    def call(self) -> None:
        self._office.call()

    def release(self, channels: Iterable[Channel]) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""

    def _put(self, what: str, target: int, item: Any) -> None:
        self._office.put((what, self.rank, target, 0), pickled(item).tobytes())

    def _take(self, what: str, source: int) -> Any:
        return unpickled(np.frombuffer(self._office.take((what, source, self.rank, 0)), np.uint8))


class LoopbackChannel:
    """One rank's end of one exchange."""

    def __init__(self, exchange: Exchange, rank: int, office: _PostOffice) -> None:
        self.exchange = exchange
        self.outgoing, self.incoming = message_buffers(exchange)
        self._targets = [self._address(message) for message in exchange.sends]
        self._sources = [self._address(message) for message in exchange.receives]
        self._missing: dict[Address, MessageBuffer] = {}
        self._rank = rank
        self._office = office
        self._is_posted = self._is_started = False

    def post(self) -> None:
        self._is_posted, self._is_started = True, False
        self._missing = dict(zip(self._sources, self.incoming, strict=True))

    def start(self) -> None:
        if not self._is_posted:
            raise ProgramError(f"exchange {self.exchange.index} is started on rank {self._rank} before it is posted")
        self._is_started = True
        for address, buffer in zip(self._targets, self.outgoing, strict=True):
            self._office.put(address, buffer.memory.tobytes())

    def finish(self) -> None:
        self._check_started()
        while self._missing:
            address, buffer = next(iter(self._missing.items()))
            _fill(buffer.memory, self._office.take(address))
            del self._missing[address]

    def drain(self) -> None:
        """Nothing to wait for: what is sent is copied at once."""

    def has_arrived(self) -> bool:
        self._check_started()
        for address in tuple(self._missing):
            data = self._office.look(address)
            if data is not None:
                _fill(self._missing.pop(address).memory, data)
        return not self._missing

    def has_left(self) -> bool:
        return True

    def late(self, waited_s: float) -> Late:
        what = f"exchange {self.exchange.index} ({self.exchange.kind})"
        return Late(self._rank, what, [buffer.peer for buffer in self._missing.values()], waited_s)

    def missing(self) -> tuple[Address, ...]:
        """What has not arrived."""
        return tuple(self._missing)

    def _check_started(self) -> None:
        if self.exchange.is_collective and not self._is_started:
            raise ProgramError(
                f"exchange {self.exchange.index} ({self.exchange.kind}) is finished on rank {self._rank} before it is "
                "started: a collective is started by every rank of its group"
            )

    def _address(self, message: Message) -> Address:
        what = f"exchange {self.exchange.index} ({self.exchange.kind})"
        return what, message.source, message.target, message.tag


class _ReleasedError(BaseException):
    """Ends a rank that waits after another has failed; no error of its own."""


class _PostOffice:
    """The mailboxes of a job. One condition guards all of them.

    A rank that waits has said for which addresses: inside `take` for one, between two looks for any of several.
    """

    def __init__(self, size: int, deadline_s: float) -> None:
        self.size = size
        self.lives = [Life() for _ in range(size)]
        self.works: list[Work | None] = [None] * size
        self.beside: dict[int, threading.Thread] = {}
        self.error: BaseException | None = None
        self.deadline_s = deadline_s
        self._changed = threading.Condition()
        self._mail: dict[Address, deque[bytes]] = {}
        self._awaited: dict[int, Sequence[Address]] = {}
        self._present = set(range(size))
        self._working: set[int] = set()
        self._worked_until_s: dict[int, float] = {}
        self._annex: _PostOffice | None = None

    def call(self) -> None:
        """Have all ranks do their work beside, unless there is none any more."""
        works = [work for work in self.works if work is not None]
        if len(works) == self.size:
            self._annex = _PostOffice(self.size, self.deadline_s)
            for rank, work in enumerate(works):
                do = self.taking_errors()(partial(work, LoopbackTransport(rank, self._annex, self)))
                self.beside[rank] = threading.Thread(target=do, name=f"beside {rank}", daemon=True)
                self.beside[rank].start()

    @contextmanager
    def taking_errors(self) -> Iterator[None]:
        """Release every rank that waits when the block fails."""
        try:
            yield
        except _ReleasedError:
            pass
        except BaseException as error:  # whatever it is, it belongs to whoever started the ranks
            self.fail(error)

    @contextmanager
    def working(self, rank: int) -> Iterator[None]:
        """Whoever waits for `rank` meanwhile waits as long as it takes, and afterwards as long as ever."""
        self._working.add(rank)
        try:
            yield
        finally:
            self._worked_until_s[rank] = time.monotonic()
            self._working.discard(rank)

    def put(self, address: Address, data: bytes) -> None:
        with self._changed:
            self._mail.setdefault(address, deque()).append(data)
            self._changed.notify_all()

    def take(self, address: Address) -> bytes:
        """The oldest unread message at an address, waited for."""
        with self._changed:
            self._await(address)
            return self._pop(address)

    def look(self, address: Address) -> bytes | None:
        """The oldest unread message at an address, or None."""
        if address not in self._mail and self.error is None:
            return None
        with self._changed:
            self._check_error()
            self._awaited.pop(address[2], None)
            return self._pop(address)

    def halt(self, rank: int, addresses: Sequence[Address]) -> None:
        """Rank `rank` can only go on when there is mail at one of these addresses, for which it looks by itself."""
        with self._changed:
            self._awaited[rank] = addresses
            self._check_stuck()
            self._check_error()

    def go_on(self, rank: int) -> None:
        """Rank `rank` waits for nobody."""
        with self._changed:
            self._awaited.pop(rank, None)
            self._check_error()

    def fail(self, error: BaseException) -> None:
        """Release every rank that waits; the first error is the one that counts."""
        with self._changed:
            self._fail(error)

    def leave(self, rank: int) -> None:
        """Rank `rank` has ended: what it has not sent will not come."""
        with self._changed:
            self._present.discard(rank)
            self._check_stuck()
            self._changed.notify_all()

    def _await(self, address: Address) -> None:
        rank, end_s = address[2], time.monotonic() + self.deadline_s
        self._awaited[rank] = (address,)
        self._check_stuck()
        while address not in self._mail and self.error is None:
            if self._changed.wait(max(0.0, end_s - time.monotonic())) or address in self._mail:
                continue
            end_s = self._worked_s(address[1]) + self.deadline_s
            if end_s <= time.monotonic():
                self._fail(TransportError(f"{self._plight(rank)}, and {self.deadline_s:g} s are over"))
        del self._awaited[rank]
        self._check_error()

    def _worked_s(self, rank: int) -> float:
        """When a rank was last at work by itself."""
        return time.monotonic() if rank in self._working else self._worked_until_s.get(rank, -inf)

    def _pop(self, address: Address) -> bytes:
        box = self._mail[address]
        data = box.popleft()
        if not box:
            del self._mail[address]
        return data

    def _check_error(self) -> None:
        if self.error is not None:
            raise self.error if self.size == 1 else _ReleasedError

    def _check_stuck(self) -> None:
        """Fail when every rank that is still there waits for mail that is not there."""
        waiting = {rank for rank, awaited in self._awaited.items() if not self._mail.keys() & set(awaited)}
        if waiting and waiting == self._present:
            plights = "; ".join(self._plight(rank) for rank in sorted(waiting))
            self._fail(TransportError(f"all ranks wait and none can go on: {plights}"))

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        if self._annex is not None:
            self._annex.fail(error)
        self._changed.notify_all()

    def _plight(self, rank: int) -> str:
        return f"rank {rank} waits for {' and '.join(map(self._absence, self._awaited[rank]))}"

    def _absence(self, address: Address) -> str:
        what, source, _, tag = address
        message = f"array with tag {tag}" if what == "array" else what
        ended = "" if source in self._present else ", which has ended,"
        return f"rank {source}{ended} in {message}"


def _fill(memory: np.ndarray, data: bytes) -> None:
    if memory.size != len(data):
        raise ProgramError(f"a message of {len(data)} bytes was received into {memory.size} bytes")
    memory[:] = np.frombuffer(data, np.uint8)
