"""What watches over a case: time, memory, files that are opened, files that stay behind."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cases import CANARY, Place

_OPENED, _MODIFIED, _CREATED, _DELETED, _FOLDER = 0x20, 0x2, 0x100, 0x200, 0x40000000
_KNOWN = tuple(
    os.path.realpath(path)
    for path in (*sys.path, sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), Path(__file__).parents[2])
    if path
)
_SYSTEM = ("/usr", "/lib", "/etc/localtime", "/proc/cpuinfo", "/proc/meminfo", "/sys", "/dev/null", "/dev/urandom")
_BAD_EVENTS = ("pickle.find_class", "socket.connect", "socket.bind", "os.system", "os.kill", "webbrowser.open")

MIB = 1 << 20


class Hang(BaseException):
    """A case has used up its time; no FlexPieError, and no Exception either, so that nobody catches it."""


class Warden:
    """Watches over the cases of a process, one after the other.

    Parameters
    ----------
    place : Place
    limit_s : float
        Processor time of a case; it may wait six times as long.
    limit_mib : int
        Of memory in use, this process or its children.
    """

    def __init__(self, place: Place, limit_s: float, limit_mib: int) -> None:
        self._place, self._limit_s, self._limit_mib = place, limit_s, limit_mib
        self._events: list[str] | None = None
        self._inside = str(place.files.parent)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = self._libc.inotify_init1(os.O_NONBLOCK)
        mask = _OPENED | _MODIFIED | _CREATED | _DELETED
        if self._watch < 0 or self._libc.inotify_add_watch(self._watch, os.fsencode(place.outside), mask) < 0:
            raise OSError("this system cannot tell which files are opened (inotify)")
        self._base_mib = _status_mib("VmRSS")
        space = _status_mib("VmSize") + 4 * limit_mib
        resource.setrlimit(resource.RLIMIT_AS, (space * MIB, space * MIB))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.addaudithook(self._audit)
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, self._late)

    @contextmanager
    def case(self) -> Iterator[None]:
        """Watch over a case.

        Raises
        ------
        Hang
        """
        Path("/proc/self/clear_refs").write_text("5")  # forget the most memory that was used
        self._drain()
        self._events = []
        signal.setitimer(signal.ITIMER_PROF, self._limit_s)
        signal.setitimer(signal.ITIMER_REAL, 6 * self._limit_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)

    def found(self, names_files: bool) -> Iterator[tuple[str, str]]:
        """Class and words of what a case did that it may not."""
        events, self._events = self._events or [], None
        touched = self._drain()
        if not names_files:
            if touched:
                yield "outside", f"opened {', '.join(sorted(set(touched)))} outside its folder"
            for event in sorted(set(events)):
                yield "outside", event
        most = _status_mib("VmHWM")
        if most > max(self._limit_mib, self._base_mib + self._limit_mib // 2):
            yield "memory", f"{most} MiB in use"
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        if children > self._limit_mib:
            yield "memory", f"{children} MiB in use by a child"

    def leaked(self, answer: object, text: str) -> bool:
        """Whether the content of a canary is in an answer, a sentence or what is kept."""
        if CANARY.decode() in text or any(CANARY in data for data in _contents(answer)):
            return True
        return any(CANARY in path.read_bytes() for path in self._place.cache.rglob("*") if path.is_file())

    def _late(self, number: int, frame: object) -> None:
        raise Hang

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._events is None:
            return
        if event in _BAD_EVENTS:
            self._events.append(event)
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith((self._inside, *_KNOWN, *_SYSTEM)) and path != f"/proc/{os.getpid()}/status":
                self._events.append(f"open {path}")

    def _drain(self) -> list[str]:
        """Names of what was opened, changed, made or removed among the canaries."""
        found = []
        while True:
            try:
                data = os.read(self._watch, 65536)
            except BlockingIOError:
                return found
            place = 0
            while place < len(data):
                _, mask, _, size = struct.unpack_from("iIII", data, place)
                name = data[place + 16 : place + 16 + size].rstrip(b"\0").decode(errors="replace")
                place += 16 + size
                if not mask & _FOLDER:
                    found.append(name)


def _contents(answer: object) -> Iterator[bytes]:
    if isinstance(answer, np.ndarray):
        yield answer.tobytes() if answer.dtype != object else repr(answer).encode()
    elif isinstance(answer, dict):
        for item in answer.values():
            yield from _contents(item)
    elif isinstance(answer, (list, tuple)):
        for item in answer:
            yield from _contents(item)
    else:
        yield repr(answer).encode(errors="replace")


def _status_mib(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) // 1024
    return 0
