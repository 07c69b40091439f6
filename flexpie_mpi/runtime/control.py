"""The control plane over MPI: objects and arrays that ranks tell each other while nothing is computed.

The communicator comes from outside and is only called, so that MPI itself is imported in one place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .transport import PIECE_BYTES, bytes_of, pickled, pieces, unpickled
from .waiting import Late, Patience, wait

PIECES_IN_FLIGHT = 2


class ControlPlane:
    """One rank's end of what all ranks of a communicator tell each other, each of which waits as `patience` says.

    What each method does is said of :class:`.transport.Transport`.

    Attributes
    ----------
    rank, size : int
    """

    def __init__(self, communicator: Any, patience: Patience) -> None:
        self.rank: int = communicator.rank
        self.size: int = communicator.size
        self._control = communicator
        self._control_patience = patience
        self._others = [rank for rank in range(self.size) if rank != self.rank]
        self._in_flight: deque[tuple[Any, int]] = deque()

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

    def flush(self) -> None:
        """Return when all that was sent has left."""
        while self._in_flight:
            self._complete_oldest_send()

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
            target = [block, counts.tolist()] if receives else None
            self._complete(begin(memory[offset : offset + step], target), what)
            for rank, part in enumerate(np.split(block, np.cumsum(counts)[:-1]) if receives else ()):
                parts[rank].append(part)
        return [unpickled(np.concatenate(part)) for part in parts] if receives else []

    def _complete(
        self, request: Any, what: str, peers: Sequence[int] | None = None, patience: Patience | None = None
    ) -> None:
        peers = self._others if peers is None else peers
        wait(partial(self._is_over, request), patience or self._control_patience, partial(Late, self.rank, what, peers))

    def _is_over(self, request: Any) -> bool:
        return bool(request.Test())

    def _complete_oldest_send(self) -> None:
        request, target = self._in_flight.popleft()
        self._complete(request, "a message it sent", (target,))
