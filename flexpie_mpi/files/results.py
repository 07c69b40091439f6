"""The outputs of a stream into one file that grows behind its back."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from math import prod
from pathlib import Path
from threading import Condition, Thread
from types import MappingProxyType

import numpy as np

from ..core.errors import DataError
from .atomic import check_replaceable
from .outputs import holdable
from .stackwriter import StackWriter

SUFFIXES = (".h5", ".hdf5")

PERIOD_S = 0.5
"""Outputs are in the file so long after they were given, if the disk can do it."""

BATCH_BYTES, HELD_BYTES = 4 << 20, 8 << 20
"""Outputs are written when they are so much, and the stream waits for the disk when so much is not written yet."""

_STACKED_BYTES = 1 << 20
"""Small outputs are copied together before they are written, at most so much at once."""

_LOOK_S = 0.05
"""How often the writer looks whether it is to hurry: a signal handler cannot wake it."""


def check_results(path: str | Path, *, appends: bool, source: str = "") -> None:
    """Check that :class:`Results` could be made, as far as that can be told without making it.

    Parameters
    ----------
    path : path
    appends : bool
    source : str
        Where the requests come from, for the sentence that says that they are several.

    Raises
    ------
    DataError
    """
    suffix = Path(path).suffix
    if suffix.lower() not in SUFFIXES:
        of = f" ({source})" if source else ""
        raise DataError(
            f"output '{path}' has the ending '{suffix}': the outputs of a stream{of} go to {' or '.join(SUFFIXES)}"
        )
    if os.path.exists(path) and not appends:
        raise DataError(f"output '{path}' is there already: --append adds to it, or give another name")
    check_replaceable(path)


class Results:
    """A file of the outputs of many requests, written by a thread of its own.

    Parameters
    ----------
    path : path
    provenance : mapping of str to str or number
    appends : bool
    varying, types : collection of str, mapping of str to str
        As of :class:`StackWriter`.

    Attributes
    ----------
    first : int
        Requests that the file held before.

    Raises
    ------
    DataError
        As of :class:`StackWriter`.
    """

    def __init__(
        self,
        path: str | Path,
        provenance: Mapping[str, str | int | float],
        *,
        appends: bool = False,
        varying: Collection[str] = (),
        types: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        check_results(path, appends=appends)
        place = Path(os.path.realpath(path))
        self._writer = StackWriter(place, provenance, appends=appends, varying=varying, types=types)
        self.first = self._writer.count
        self._error: DataError | None = None
        self._held: list[dict[str, np.ndarray]] = []
        self._held_bytes = 0  # with those that are being written
        self._oldest_s = 0.0
        self._is_hurried = self._is_closing = False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="results", daemon=True)
        self._thread.start()

    def add(self, outputs: Mapping[str, object]) -> None:
        """Take the next request's outputs, which may be overwritten afterwards; waits while too many are held.

        Outputs that are no tensors are left out.

        Raises
        ------
        DataError
            When earlier ones could not be written.
        """
        arrays = {name: np.array(array) for name, array in holdable(outputs)[0].items()}
        with self._changed:
            self._changed.wait_for(lambda: self._held_bytes < HELD_BYTES or self._error is not None)
            if self._error is not None:
                raise self._error
            if not self._held:
                self._oldest_s = time.monotonic()
            self._held.append(arrays)
            self._held_bytes += _bytes(arrays)
            if self._held_bytes >= BATCH_BYTES:
                self._changed.notify_all()

    def hurry(self) -> None:
        """Write what is held now; may be called by a signal handler."""
        self._is_hurried = True

    def leave(self) -> None:
        """Close after an error that has been reported already; nothing happens when it is closed."""
        if self._thread.is_alive():
            with suppress(DataError):
                self.close()

    def close(self) -> int:
        """Write what is held, close the file; the number of requests in it. To be called once.

        Raises
        ------
        DataError
            What has kept outputs from being written.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()
        self._writer.close()
        if self._error is not None:
            raise self._error
        return self._writer.count

    def _run(self) -> None:
        while not (self._is_closing and not self._held):
            with self._changed:
                self._changed.wait_for(self._is_due, timeout=_LOOK_S)
                if not self._is_due():
                    continue
                batch, self._held, nbytes = self._held, [], self._held_bytes
                self._is_hurried = False
            if self._error is None:
                self._write(batch)
            del batch
            with self._changed:
                self._held_bytes -= nbytes
                self._changed.notify_all()

    def _is_due(self) -> bool:
        if not self._held:
            return self._is_closing
        is_old = time.monotonic() - self._oldest_s >= PERIOD_S
        return is_old or self._is_hurried or self._is_closing or self._held_bytes >= BATCH_BYTES

    def _write(self, batch: list[dict[str, np.ndarray]]) -> None:
        """Runs of requests that fit one file: one that does not must not take the others with it."""
        try:
            for _, run in groupby(batch, key=_kinds):
                for rows in _pieces(list(run)):
                    stacked = {name: _stacked([row[name] for row in rows]) for name in rows[0]}
                    shapes = {name: shapes for name, (_, shapes) in stacked.items() if shapes is not None}
                    whole = {name: array for name, (array, _) in stacked.items()}
                    self._writer.write_ragged(whole, shapes) if shapes else self._writer.write(whole)
        except DataError as error:
            self._error = error
        except Exception as error:  # memory, mostly: the stream has to end, not the thread alone
            self._error = DataError(f"outputs cannot be written: {error}")


def _pieces(rows: list[dict[str, np.ndarray]]) -> Iterator[list[dict[str, np.ndarray]]]:
    """The rows again, so many at a time that a copy of them, all as large as the largest, is small."""
    piece: list[dict[str, np.ndarray]] = []
    largest: dict[str, tuple[int, ...]] = {}
    for row in rows:
        wider = {name: tuple(map(max, array.shape, largest.get(name, array.shape))) for name, array in row.items()}
        nbytes = sum(prod(wider[name]) * array.itemsize for name, array in row.items())
        if piece and (len(piece) + 1) * nbytes > _STACKED_BYTES:
            yield piece
            piece, wider = [], {name: array.shape for name, array in row.items()}
        piece.append(row)
        largest = wider
    yield piece


def _stacked(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Arrays along a new first axis, and their shapes where these differ; a single one is not copied."""
    if len({array.shape for array in arrays}) > 1:
        shapes = np.array([array.shape for array in arrays], np.int64)
        block = np.zeros((len(arrays), *shapes.max(axis=0)), np.result_type(*arrays))
        for row, array in zip(block, arrays, strict=True):
            row[tuple(map(slice, array.shape))] = array
        return block, shapes
    return (arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays)), None


def _bytes(arrays: Mapping[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays.values())


def _kinds(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, str]]:
    """What must be equal to be stacked: axes may be longer and shorter, and so may texts."""
    return {
        name: (array.ndim, "text" if array.dtype.kind == "U" else array.dtype.str) for name, array in arrays.items()
    }
