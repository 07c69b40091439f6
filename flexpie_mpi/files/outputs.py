"""Outputs into files: those of one request, and those of a stream.

The file of one request appears whole or not at all. That of a stream grows, written by a thread of its own: see
:class:`Results`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from math import prod
from pathlib import Path
from threading import Condition, Thread
from types import MappingProxyType

import numpy as np

from ..core.errors import DataError
from ..core.graph import AS_BYTES, ITEM_BYTES, WIDER, Value
from . import HDF5_SUFFIXES, OUTPUT_SUFFIXES
from .atomic import check_replaceable, replacing
from .container import opened
from .hdf5 import write_hdf5
from .npz import write_npz
from .offers import reading
from .stackwriter import StackWriter, held_requests

PERIOD_S = 0.5
"""Outputs are in the file after this time, if the disk can do it."""

BATCH_BYTES, HELD_BYTES = 4 << 20, 8 << 20
"""Outputs are written when they are `BATCH_BYTES`; the stream waits for the disk when it holds `HELD_BYTES`."""

_STACKED_BYTES = 1 << 20
"""Small outputs are copied together before they are written, at most so much at once."""

_LOOK_S = 0.05
"""How often the writer looks whether it is to hurry: a signal handler cannot wake it."""

_UNSURE = ("optional", "undefined")
"""Types that may turn out to be tensors."""


def check_writable(path: str | Path) -> None:
    """Check that :func:`save_outputs` could write to `path`. Leaves no file.

    To be called before any work, so that a wrong path does not cost a run. Raises DataError when the ending is unknown,
    the folder is missing, or a file cannot be made there.
    """
    _check_suffix(path)
    check_replaceable(path)


def check_holdable(path: str | Path, outputs: Iterable[Value]) -> list[str]:
    """Sentences to tell before a run: which of all outputs of a model the file will not hold, or not in their own type.

    Raises DataError when the file would hold none of them.
    """
    outputs = list(outputs)
    left = [value for value in outputs if not is_holdable(value)]
    if left and len(left) == len(outputs):
        what = ", ".join(f"'{value.name}' is of type {value.dtype}" for value in left)
        raise DataError(
            f"output '{path}' could hold nothing: {what}, and files hold tensors of numbers or strings: leave it out"
        )
    said = [f"output '{value.name}' is of type {value.dtype} and is not written to '{path}'" for value in left]
    return said + [
        f"output '{name}' is of type {dtype}, and is written to '{path}' as {WIDER[dtype]}"
        for name, dtype in widened_types(outputs).items()
    ]


def save_outputs(
    path: str | Path,
    outputs: Mapping[str, object],
    provenance: Mapping[str, str | int | float] = MappingProxyType({}),
    types: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write named outputs to ``.npz`` or ``.h5`` under exactly their names, replacing an older file.

    What they come from, and the model's own types of outputs that come in a wider one, are stored as attributes in
    ``.h5``. Raises DataError when the path cannot be written or an output is no tensor. An older file then stays as it
    was.
    """
    _check_suffix(path)
    arrays, said = holdable(outputs)
    if said:
        raise DataError(said[0])
    with replacing(path) as part:
        if Path(path).suffix.lower() == ".npz":
            with part.open("xb") as stream:
                write_npz(stream, arrays)
        else:
            write_hdf5(part, arrays, provenance, types)


def holdable(outputs: Mapping[str, object]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those outputs that a file can hold, as arrays, and a sentence for each of the others."""
    arrays = {name: _array(value) for name, value in outputs.items()}
    held = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
    return held, [f"output '{name}' {what}" for name, what in arrays.items() if isinstance(what, str)]


def widened_types(outputs: Iterable[Value]) -> dict[str, str]:
    """The model's own types, by name, of outputs that come in a wider one."""
    return {value.name: value.dtype for value in outputs if value.dtype in WIDER}


def is_holdable(value: Value) -> bool:
    """Whether a file can hold an output, as far as its type says."""
    dtype = value.dtype
    return dtype in ITEM_BYTES or dtype in WIDER or dtype in ("string", *AS_BYTES, *_UNSURE)


def _check_suffix(path: str | Path) -> None:
    suffix = Path(path).suffix
    if suffix.lower() not in OUTPUT_SUFFIXES:
        raise DataError(f"output '{path}' has the ending '{suffix}': choose one of {', '.join(OUTPUT_SUFFIXES)}")


def _array(value: object) -> np.ndarray | str:
    """An output as an array that files can hold, or why there is none."""
    array = np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else None
    if array is not None and array.dtype == object and all(isinstance(item, str) for item in array.flat):
        if any("\0" in item for item in array.flat):
            return "has text with a character 0, which no file can hold"
        return array.astype(np.str_)
    if array is None or array.dtype.kind not in "biufcU":
        what = type(value).__name__ if array is None else f"tensor of {array.dtype.name}"
        return f"is a {what}, which no file can hold: only tensors of numbers or strings"
    return array


def check_results(
    path: str | Path,
    *,
    appends: bool = False,
    resumed: Mapping[str, str | int | float] | None = None,
    source: str = "",
) -> None:
    """Check that :class:`Results` could be made, as far as that can be told without making it; raises DataError.

    `resumed` is the provenance of a stream that is to go on. A sentence names the `source` of the requests where it
    must say that they are several.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in HDF5_SUFFIXES:
        of = f" ({source})" if source else ""
        raise DataError(
            f"output '{path}' has the ending '{suffix}': the outputs of a stream{of} go to {' or '.join(HDF5_SUFFIXES)}"
        )
    if os.path.exists(path) and resumed is not None:
        with reading(Path(path), "an HDF5 file"), opened(path) as file:
            held_requests(file, Path(path), resumed, resumes=True)
    elif os.path.exists(path) and not appends:
        raise DataError(
            f"output '{path}' is there already: --append adds to it, --resume goes on with it, or give another name"
        )
    check_replaceable(path)


class Results:
    """A file of the outputs of many requests, written by a thread of its own.

    It is made like a :class:`StackWriter`, with the same errors. `first` counts the requests that the file held before,
    `done` those among them that are of a stream that is resumed.
    """

    def __init__(
        self,
        path: str | Path,
        provenance: Mapping[str, str | int | float],
        *,
        appends: bool = False,
        resumes: bool = False,
        varying: Collection[str] = (),
        types: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        check_results(path, appends=appends, resumed=provenance if resumes else None)
        self.path = str(path)
        target = Path(os.path.realpath(path))
        self._writer = StackWriter(target, provenance, appends=appends, resumes=resumes, varying=varying, types=types)
        self.first = self._writer.count
        self.done = self.first - self._writer.begin
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

        Outputs that are no tensors are left out. Raises DataError when earlier ones could not be written.
        """
        arrays = {name: np.array(array) for name, array in holdable(outputs)[0].items()}
        with self._changed:
            self._changed.wait_for(lambda: self._held_bytes < HELD_BYTES or self._error is not None)
            if self._error is not None:
                raise self._error
            if not self._held:
                self._oldest_s = time.monotonic()
            self._held.append(arrays)
            self._held_bytes += sum(array.nbytes for array in arrays.values())
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
        """Write what is held, close the file, and return the number of requests in it. To be called once.

        Raises the DataError that has kept outputs from being written.
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
        """Write requests of one kind together, so that one that does not fit leaves those before it in the file."""
        try:
            for _, run in groupby(batch, key=_kinds):
                for rows in _pieces(list(run)):
                    stacked = {name: _stacked([row[name] for row in rows]) for name in rows[0]}
                    shapes = {name: shapes for name, (_, shapes) in stacked.items() if shapes is not None}
                    whole = {name: array for name, (array, _) in stacked.items()}
                    self._writer.write(whole, shapes)
        except DataError as error:
            self._error = error
        except Exception as error:  # memory, mostly: the stream has to end, not the thread alone
            self._error = DataError(f"outputs cannot be written: {error}")


def _pieces(rows: list[dict[str, np.ndarray]]) -> Iterator[list[dict[str, np.ndarray]]]:
    """Cut rows into pieces whose copies, with all rows as large as the largest, stay under `_STACKED_BYTES`."""
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


def _kinds(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, str]]:
    """What requests must have in common to be stacked; the lengths of axes and of texts may differ."""
    return {
        name: (array.ndim, "text" if array.dtype.kind == "U" else array.dtype.str) for name, array in arrays.items()
    }
