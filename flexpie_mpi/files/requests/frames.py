"""Requests from a pipe, each behind its length.

A frame is eight bytes, a number with its lowest byte first, and then so many bytes: of a ``.npy`` file where the model
has one input, else of a ``.npz`` file. The end of the pipe ends the stream, and so does a frame of no bytes.

With ``mpirun`` in between, standard input has limits: MPICH's ends the job when more than a pipe holds (64 KiB) is not
yet read (github.com/pmodels/mpich/issues/2336), and Open MPI 5 does not pass its end on
(github.com/openpmix/openpmix/pull/4024). A named pipe, which rank 0 opens itself, has none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...core.budget import Budget
from ...core.errors import DataError
from ...core.graph import Graph
from ..inputs import fit_inputs
from ..npz import bytes_offers
from .pipes import Pipe, Spool, Stopped, standard_input
from .source import Request
from .stop import Stop

HEAD_BYTES = 8

_SPARE_TIMES, _SPARE_BYTES = 16, 1 << 20
"""A frame may have so many times the bytes of the inputs, and so many more: wider types, headers, names."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Requests from standard input, or from a named pipe.

    Parameters
    ----------
    path : Path or None
        None for standard input.
    graph : Graph
    budget : Budget, optional
        Of each array; a frame of unknown arrays has no more either.
    """

    path: Path | None
    graph: Graph
    budget: Budget | None = None

    def __str__(self) -> str:
        return str(self._where)

    @property
    def count(self) -> None:
        return None

    @property
    def _where(self) -> Path:
        return self.path or Path("standard input")

    def requests(self, first: int, stop: Stop) -> Iterator[Request]:
        """As of :class:`Source`."""
        pipe = standard_input() if self.path is None else Pipe.named(self.path)
        try:
            while frame := self._frame(pipe, stop):
                yield fit_inputs(bytes_offers(frame, self._where), self.graph, self._where, self.budget)
        except Stopped:
            return
        finally:
            pipe.close()

    def _frame(self, pipe: Pipe | Spool, stop: Stop) -> bytes:
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

    def _whole(self, found: bytes, size: int) -> bytes:
        if len(found) < size:
            raise DataError(f"'{self._where}' ends in the middle of a request, {len(found)} of {size} bytes")
        return found
