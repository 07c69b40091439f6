"""Requests from a pipe, each behind its length.

A frame is eight bytes, a number with its lowest byte first, and then so many bytes: of a ``.npy`` file where the model
has one input, else of a ``.npz`` file. The end of the pipe ends the stream, and so does a frame of no bytes.

With ``mpirun`` in between, standard input has limits: MPICH's ends the job when more than a pipe holds (64 KiB) is not
yet read (github.com/pmodels/mpich/issues/2336), and Open MPI 5 does not pass its end on
(github.com/openpmix/openpmix/pull/4024). A named pipe, which rank 0 opens itself, has none of them.
"""

from __future__ import annotations

import fcntl
import os
import select
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Condition, Thread

from ..core.budget import Budget
from ..core.errors import DataError
from ..core.graph import Graph
from .inputs import fit_inputs
from .npz import bytes_offers
from .sources import Request, Stop

HEAD_BYTES = 8

_SPARE_TIMES, _SPARE_BYTES = 16, 1 << 20
"""A frame may be so many times as large as the inputs, plus so many bytes: wider types, headers, names."""

PIPE_BYTES = 1 << 20
"""What a pipe is asked to hold, and the most that is read at once."""

AHEAD_BYTES = 8 << 20
"""Standard input is read so far ahead."""

_LOOK_S = 0.1
"""How often a reader that waits looks whether it is to stop."""

_STDIN = 0


class PipeStopped(Exception):
    """Raised in a reader that waits for bytes when nothing more is wanted."""


class Pipe:
    """A pipe that is read when bytes are asked for, and no further: its writer has to wait."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        with suppress(OSError):  # a file, or more than is allowed
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @classmethod
    def named(cls, path: Path) -> Pipe:
        """The named pipe at `path`; raises DataError when it cannot be opened."""
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_NONBLOCK))  # else it would wait for a writer, unstoppable
        except OSError as error:
            raise DataError(f"input '{path}' cannot be opened: {error.strerror}") from error

    def read(self, size: int, stop: Stop) -> bytes:
        """Read `size` bytes, or fewer at the end of the pipe; raises PipeStopped when `stop` is set."""
        taken = bytearray()
        while len(taken) < size:
            piece = self.piece(min(PIPE_BYTES, size - len(taken)), stop)
            if not piece:
                break
            taken += piece
        return bytes(taken)

    def piece(self, size: int, stop: Stop) -> bytes:
        """The next bytes that are there, at most `size`; no bytes at the end of the pipe."""
        while True:
            if stop.is_set():
                raise PipeStopped
            if self._poll.poll(_LOOK_S * 1e3):
                with suppress(BlockingIOError):
                    return os.read(self._descriptor, size)

    def close(self) -> None:
        os.close(self._descriptor)


class Spool(Pipe):
    """A pipe that a thread reads `ahead` bytes ahead, so that its writer waits only when much is not taken yet."""

    def __init__(self, pipe: Pipe, ahead: int = AHEAD_BYTES) -> None:
        self._pipe = pipe
        self._ahead = ahead
        self._held = bytearray()
        self._is_over = False
        self._changed = Condition()
        Thread(target=self._run, name="standard input", daemon=True).start()

    def piece(self, size: int, stop: Stop) -> bytes:
        with self._changed:
            while not self._changed.wait_for(lambda: self._held or self._is_over or stop.is_set(), timeout=_LOOK_S):
                pass
            if stop.is_set():
                raise PipeStopped
            taken = bytes(self._held[:size])
            del self._held[:size]
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Do nothing: standard input stays open."""

    def _run(self) -> None:
        never = Stop()
        while not self._is_over:
            piece = self._pipe.piece(PIPE_BYTES, never)
            with self._changed:
                self._changed.wait_for(lambda: len(self._held) < self._ahead)
                self._held += piece
                self._is_over = not piece
                self._changed.notify_all()


@cache
def standard_input() -> Spool:
    """Standard input of this process, read ahead from the first call on."""
    return Spool(Pipe(_STDIN))


@dataclass(frozen=True, slots=True)
class Frames:
    """Requests from a named pipe, or from standard input where there is no path.

    The budget holds for each array; a frame of unknown arrays has no more bytes either.
    """

    path: Path | None
    graph: Graph
    budget: Budget | None = None
    count = None
    identity = ""  # what has been sent is gone

    def __str__(self) -> str:
        return str(self._where)

    def rest(self, done: int) -> Frames:
        return self

    @property
    def _where(self) -> Path:
        return self.path or Path("standard input")

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        pipe = standard_input() if self.path is None else Pipe.named(self.path)
        try:
            while frame := self._frame(pipe, stop):
                yield fit_inputs(bytes_offers(frame, self._where), self.graph, self._where, self.budget)
        except PipeStopped:
            return
        finally:
            pipe.close()

    def _frame(self, pipe: Pipe, stop: Stop) -> bytes:
        """The bytes of the next frame; none at the end."""
        head = pipe.read(HEAD_BYTES, stop)
        if not head:
            return b""
        size = int.from_bytes(self._whole(head, HEAD_BYTES), "little")
        values = [self.graph.value(name) for name in self.graph.inputs]
        is_known = all(value.shape is not None for value in values)
        if is_known and size > _SPARE_TIMES * sum(value.nbytes for value in values) + _SPARE_BYTES:
            raise DataError(
                f"'{self._where}' announces {size} bytes and this model's inputs are far smaller: before each request "
                f"comes its length as {HEAD_BYTES} bytes, the lowest first"
            )
        (self.budget or Budget.of_machine()).admit(size, f"a request from '{self._where}'", DataError)
        return self._whole(pipe.read(size, stop), size)

    def _whole(self, frame: bytes, size: int) -> bytes:
        if len(frame) < size:
            raise DataError(f"'{self._where}' ends in the middle of a request, {len(frame)} of {size} bytes")
        return frame
