"""What a rank does, said to the other ranks when they ask, beside the data path: over TCP, by a thread without MPI.

Nothing is sent unasked, so that it costs nothing while all goes well, and it is the kernel that tells apart what the
process itself cannot say::

    no answer from its host               the host is down, or the link is cut
    the host refuses the call             the process is gone
    the host takes it, nobody answers     the process is stopped
    an answer                             what the process does, for how long, on how much of a core

Anybody on the network may call. Who does not know the rank's words gets nothing, keeps nobody waiting, and is not
listened to where it answers in a rank's place.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from threading import Thread, get_native_id

from .waiting import Late

CALL_S = 0.7
"""How long a host has to take a call, and its rank to answer."""

_LOAD = b"\n" * (256 << 10)
"""Sent behind an answer where the way is to be measured."""

_SHORT, _LOADED = b"?", b"#"
_LONGEST = 1 << 16

_WORD = 8
"""Bytes of each of the two words of a rank: a caller says the first one, and the rank begins its answer with the other.
"""

MOST_CALLS = 64
"""So many calls may have been taken that have not said anything yet."""

_REST_S = 0.05
"""After a call that could not be taken: the next one may be no better."""


@dataclass(frozen=True, slots=True)
class Doing:
    """What a rank does, with what it has done so far."""

    what: str  # such as "computes segment 3"
    for_s: float = 0.0
    usual_s: float | None = None  # what it took the last time
    is_work: bool = False  # whether it is the rank's own, and waits for nobody
    peers: tuple[int, ...] = ()  # it waits for
    pace: float = 1.0  # times longer than its work needs, to stand for a slower board
    # `requests` and `busy_s`: carried out of a stream, and seconds of computing in it
    requests: int = 0
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rank has answered."""

    doing: Doing
    cpu_s: float  # of its process
    clock_s: float  # of its host
    state: str  # of its main thread, as the kernel has it: R runs, S sleeps, D waits for its disk
    rate: float | None = None  # bytes per second at which it came; None where that was not asked for


@dataclass(slots=True)
class Life:
    """What this rank does, kept up to date by those who do it."""

    telling: Callable[[], Doing | None] = lambda: None  # of the request or stream that runs; None where none does
    _busy: tuple[str, float] = field(default_factory=lambda: ("starting", time.monotonic()))  # what else, since when
    _late: Late | None = None
    _late_s: float = 0.0
    _fresh_s: float = 0.0

    def begins(self, what: str) -> None:
        """From now on the rank is busy with something that has a name."""
        if what:
            self._busy = what, time.monotonic()

    def waits(self, late: Late, fresh_s: float) -> None:
        """The rank waits; it will say so again within `fresh_s` if it still does."""
        self._late, self._late_s, self._fresh_s = late, time.monotonic(), fresh_s

    def now(self) -> Doing:
        """What the rank does now."""
        (what, since_s), late, passed_s = self._busy, self._late, time.monotonic() - self._late_s
        doing = self.telling() or Doing(f"is busy ({what})", time.monotonic() - since_s)
        if doing.is_work or late is None or passed_s > self._fresh_s:
            return doing
        waits = f"waits in {late.what}"
        return replace(doing, what=waits, for_s=late.waited_s + passed_s, usual_s=None, peers=tuple(late.peers))


class Pulse:
    """The thread that answers for this process, at `port`, 0 where it cannot be called, who knows its `words`."""

    def __init__(self, life: Life) -> None:
        self.port = 0
        self.words = os.urandom(2 * _WORD)
        self._life = life
        self._is_closed = False
        self._main = get_native_id()
        with suppress(OSError):
            self._server = socket.create_server(("", 0), backlog=MOST_CALLS)
            self._server.setblocking(False)
            self.port = self._server.getsockname()[1]
            Thread(target=self._serve, name="pulse", daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._is_closed = True
        if self.port:
            with suppress(OSError):
                self._server.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        """Take calls, and answer each once it says something; of those that do not, the oldest go."""
        silent: deque[socket.socket] = deque()
        with self._server, DefaultSelector() as lines:
            lines.register(self._server, EVENT_READ)
            while not self._is_closed:
                for line, _ in lines.select():
                    if line.data is not None:
                        silent.remove(line.data)
                        lines.unregister(line.data)
                        self._answer(line.data)
                    elif (call := self._taken()) is not None:
                        silent.append(call)
                        lines.register(call, EVENT_READ, call)
                while len(silent) > (0 if self._is_closed else MOST_CALLS):
                    lines.unregister(silent[0])
                    silent.popleft().close()

    def _taken(self) -> socket.socket | None:
        """The next call; None where it cannot be taken."""
        try:
            return self._server.accept()[0]
        except OSError:  # the caller is gone, this process has no files left, or it closes
            time.sleep(_REST_S)
            return None

    def _answer(self, call: socket.socket) -> None:
        with suppress(OSError), call:
            call.settimeout(CALL_S)
            asked = call.recv(len(_SHORT) + _WORD)
            if asked[len(_SHORT) :] == self.words[:_WORD]:
                load = _LOAD if asked.startswith(_LOADED) else b""
                call.sendall(self.words[_WORD:] + self._said() + b"\n" + load)

    def _said(self) -> bytes:
        said = asdict(self._life.now()), time.process_time(), time.monotonic(), thread_state(self._main)
        return json.dumps(said).encode()


def thread_state(thread: int) -> str:
    """State of a thread of this process, as the kernel has it; empty where nothing says."""
    try:
        return Path(f"/proc/self/task/{thread}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


@dataclass
class Called:
    """What became of a call at several addresses."""

    answer: Answer | None = None
    taken: list[str] = field(default_factory=list)  # addresses where the call was taken
    refused: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


def call(
    addresses: Sequence[str], port: int, words: bytes, *, loaded: bool = False, limit_s: float | None = None
) -> Called:
    """Ask the process behind a port of a host what it does.

    Parameters
    ----------
    addresses : sequence of str
        Of the host.
    port : int
    words : bytes
        Of the process that is meant.
    loaded : bool
        Whether to measure how fast a large answer comes.
    limit_s : float, optional
        How long a host has to take the call, and its process to answer: `CALL_S` unless given.
    """
    called, limit_s = Called(), limit_s or CALL_S
    sockets = {address: socket.socket(socket.AF_INET) for address in addresses}
    try:
        _connect(sockets, port, called, limit_s)
        if called.taken:
            with suppress(OSError):
                called.answer = _asked(sockets[called.taken[0]], words, limit_s, loaded=loaded)
    finally:
        for each in sockets.values():
            each.close()
    return called


def _connect(sockets: dict[str, socket.socket], port: int, called: Called, limit_s: float) -> None:
    """Call at all addresses at once; what is heard goes into `called`."""
    with DefaultSelector() as waiting:
        for address, each in sockets.items():
            each.setblocking(False)
            code = each.connect_ex((address, port))
            if code == errno.EINPROGRESS:
                waiting.register(each, EVENT_WRITE, address)
            else:
                _sorted_in(called, address, code)
        end_s = time.monotonic() + limit_s
        while waiting.get_map() and (left_s := end_s - time.monotonic()) > 0:
            for line, _ in waiting.select(left_s):
                each = sockets[line.data]
                waiting.unregister(each)
                _sorted_in(called, line.data, each.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        called.silent += [line.data for line in waiting.get_map().values()]


def _sorted_in(called: Called, address: str, code: int) -> None:
    {0: called.taken, errno.ECONNREFUSED: called.refused}.get(code, called.silent).append(address)


def _asked(peer: socket.socket, words: bytes, limit_s: float, *, loaded: bool) -> Answer | None:
    """The answer to a call that was taken, of a large one as much as comes in time; None where another one answers."""
    peer.settimeout(limit_s)
    peer.sendall((_LOADED if loaded else _SHORT) + words[:_WORD])
    memory, end_s = bytearray(), time.monotonic() + limit_s
    began_s, first = 0.0, 0
    with suppress(TimeoutError):
        while len(memory) < len(_LOAD) + _LONGEST and (left_s := end_s - time.monotonic()) > 0:
            peer.settimeout(left_s)
            part = peer.recv(_LONGEST)
            if not part:
                break
            if not memory:
                began_s, first = time.monotonic(), len(part)
            memory += part
    passed_s = time.monotonic() - began_s
    said, end, _ = bytes(memory[_WORD:]).partition(b"\n")
    if not (end and memory.startswith(words[_WORD:])):
        return None
    doing, cpu_s, clock_s, state = json.loads(said)
    rate = (len(memory) - first) / passed_s if loaded and len(memory) > first else None
    return Answer(Doing(**doing | {"peers": tuple(doing["peers"])}), cpu_s, clock_s, state, rate)
