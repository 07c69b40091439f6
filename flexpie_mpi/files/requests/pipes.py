"""Bytes from pipes, a number of them at a time, by readers that give up when they are told to."""

from __future__ import annotations

import fcntl
import os
import select
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Condition, Thread

from ...core.errors import DataError
from .stop import Stop

PIPE_BYTES = 1 << 20
"""What a pipe is asked to hold, and the most that is read at once."""

AHEAD_BYTES = 8 << 20
"""Standard input is read so far ahead."""

_LOOK_S = 0.1
"""How often a reader that waits looks whether it is to stop."""

_STDIN = 0


class Stopped(Exception):
    """Nothing more is wanted."""


class Pipe:
    """A pipe that is read when bytes are asked for, and no further: its writer has to wait.

    Parameters
    ----------
    descriptor : int
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        with suppress(OSError):  # a file, or more than is allowed
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @classmethod
    def named(cls, path: Path) -> Pipe:
        """The named pipe at `path`.

        Raises
        ------
        DataError
            When it cannot be opened.
        """
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_NONBLOCK))  # else it would wait for a writer, unstoppable
        except OSError as error:
            raise DataError(f"input '{path}' cannot be opened: {error.strerror}") from error

    def read(self, size: int, stop: Stop) -> bytes:
        """So many bytes, or fewer at the end of the pipe.

        Raises
        ------
        Stopped
            When `stop` is set.
        """
        found = bytearray()
        while len(found) < size:
            piece = self.piece(min(PIPE_BYTES, size - len(found)), stop)
            if not piece:
                break
            found += piece
        return bytes(found)

    def piece(self, size: int, stop: Stop) -> bytes:
        """Whatever is there next, `size` bytes at most; nothing at the end."""
        while True:
            if stop.is_set():
                raise Stopped
            if self._poll.poll(_LOOK_S * 1e3):
                with suppress(BlockingIOError):
                    return os.read(self._descriptor, size)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)


class Spool:
    """A pipe that a thread reads ahead, so that its writer has to wait only when much is not taken yet.

    Parameters
    ----------
    pipe : Pipe
    ahead : int
        In bytes.
    """

    def __init__(self, pipe: Pipe, ahead: int = AHEAD_BYTES) -> None:
        self._pipe = pipe
        self._ahead = ahead
        self._held = bytearray()
        self._is_over = False
        self._changed = Condition()
        self._never = Stop()
        Thread(target=self._run, name="standard input", daemon=True).start()

    def read(self, size: int, stop: Stop) -> bytes:
        """As of a pipe."""
        found = bytearray()
        while len(found) < size:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self._is_over, timeout=_LOOK_S)
                if stop.is_set():
                    raise Stopped
                if self._is_over and not self._held:
                    break
                taken = min(size - len(found), len(self._held))
                found += self._held[:taken]
                del self._held[:taken]
                self._changed.notify_all()
        return bytes(found)

    def close(self) -> None:
        """Nothing: standard input stays."""

    def _run(self) -> None:
        while not self._is_over:
            piece = self._pipe.piece(PIPE_BYTES, self._never)
            with self._changed:
                self._changed.wait_for(lambda: len(self._held) < self._ahead)
                self._held += piece
                self._is_over = not piece
                self._changed.notify_all()


@cache
def standard_input() -> Spool:
    """Standard input of this process, read ahead from the first call on."""
    return Spool(Pipe(_STDIN))
