"""HDF5 files of many requests: the values of :mod:`.hdf5` with one more axis in front, which counts requests.

What a stream writes has an attribute ``requests`` besides: how many of them are complete. Rows are written in batches,
and a batch is on its way to the disk before the next one begins: a process that is killed between two batches leaves a
file that can be read, and appended to, as if it had ended there. The file format is HDF5's oldest, because the newer
ones mark a file that was not closed as one that must not be opened.

An output whose shape differs from request to request is *ragged*. Its rows are as large as its largest request along
every axis, and beside it, from the first request that differs on, is a dataset ``NAME%shape`` of the shape of every
request: ``file[NAME][i][tuple(map(slice, file[NAME + "%shape"][i]))]`` is request i. What is behind its shape in a row
means nothing, and takes no room beyond the chunks that it shares. The name is no value's: in those, ``%`` is ``%25``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from types import MappingProxyType, TracebackType

import h5py
import numpy as np

from ..document import one_line, printable, shown
from ..errors import DataError
from .container import attribute, type_of
from .files import reading
from .hdf5 import COUNT, FORMAT, FORMAT_VERSION, TYPE, datasets, escape, shapes_key, shapes_of
from .offers import Offer

SAME = ("model", "model_digest")
"""Attributes that a file and what is appended to it must have in common."""

_MOST_CHUNKS_BEHIND = 1 << 16
_CHUNK_BYTES, _CHUNK_ROWS = 1 << 20, 1024
"""A chunk is as large as fits into the one and has no more rows than the other."""

_VARYING_BYTES, _VARYING_EXTENT = 1 << 10, 16
"""A chunk of what may differ from request to request is about so large, since a long request makes room for all that
share its chunks; and along an axis that is empty at first."""


class Stack:
    """A file of requests, read request by request.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    shapes : dict of str to tuple of int
        Of every value, as in the file: the first axis counts requests, the others are those of the largest.

    Raises
    ------
    DataError
        When the file is damaged, or was written in a later version of the format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path, "an HDF5 file"):
            self._file = h5py.File(path, "r")
            try:
                self._datasets = datasets(self._file, path)
                self._ragged = shapes_of(self._file, self._datasets)
                self._dtypes = {name: type_of(item) for name, item in self._datasets.items()}
                self._complete = attribute(self._file, COUNT)
            except BaseException:
                self._file.close()
                raise
        self.shapes = {name: tuple(item.shape or ()) for name, item in self._datasets.items()}

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def count(self) -> int:
        """Number of requests.

        Raises
        ------
        DataError
            When the values do not have as many each.
        """
        counts = {name: shape[0] if shape else 0 for name, shape in self.shapes.items()}
        counts |= {name: min(counts[name], item.shape[0]) for name, item in self._ragged.items()}
        if self._complete is not None:
            if not isinstance(self._complete, int) or self._complete < 0:
                raise DataError(
                    f"'{self._path}' says that it holds {shown(self._complete)} requests, which is no number"
                )
            return min(self._complete, *counts.values())
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{count} of '{name}'" for name, count in counts.items())
            raise DataError(f"'{self._path}' does not hold as many requests of every input: {said}")
        return next(iter(counts.values()), 0)

    def offers(self, request: int) -> dict[str, Offer]:
        """The values of one request, unread."""
        with reading(self._path, "an HDF5 file"):
            return {name: self._offer(name, request) for name in self._datasets}

    def _offer(self, name: str, request: int) -> Offer:
        item, most = self._datasets[name], self.shapes[name][1:]
        shape = most
        if name in self._ragged:
            shape = tuple(int(extent) for extent in self._ragged[name][request])
            if len(shape) != len(most) or not all(0 <= a <= b for a, b in zip(shape, most, strict=True)):
                raise DataError(f"'{self._path}' is damaged: request {request} of {shown(name)} has the shape {shape}")
        place = request if shape == most else (request, *map(slice, shape))

        def load() -> np.ndarray:
            with reading(self._path, "an HDF5 file"):
                return np.asarray(item[place])

        return Offer(shape, self._dtypes[name], load)

    def read(self, request: int) -> dict[str, np.ndarray]:
        """The values of one request.

        Raises
        ------
        DataError
            When they cannot be read.
        """
        return {name: offer.load() for name, offer in self.offers(request).items()}


class StackWriter:
    """A file of requests that grows; the only one that writes it.

    Parameters
    ----------
    path : Path
        Of a file that is not there; with `appends`, also of one that this class has written.
    provenance : mapping of str to str or number
        What the values come from: attributes of a new file. Those named in `SAME` must be those of an older one.
    appends : bool
    varying : collection of str
        Values whose shape may differ from request to request. Others may, too, but take more room then.
    types : mapping of str to str
        The model's types of values that come in another one.

    Attributes
    ----------
    count : int
        Complete requests in the file.

    Raises
    ------
    DataError
        When it cannot be written, is there and must not be, or holds something else.
    """

    def __init__(
        self,
        path: Path,
        provenance: Mapping[str, str | int | float],
        *,
        appends: bool = False,
        varying: Collection[str] = (),
        types: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._path = path
        self._varying = varying
        self._types = types
        self._lock: int | None = None
        self._datasets: dict[str, h5py.Dataset] = {}
        self._ragged: dict[str, h5py.Dataset] = {}
        self.count = 0
        is_new = not (appends and os.path.exists(path))
        try:
            # Without HDF5's own lock, which would keep readers away as well; they may look at any time.
            self._file = h5py.File(path, "x" if is_new else "r+", libver="earliest", locking=False)
        except FileExistsError as error:
            raise DataError(f"output '{path}' is there already: --append adds to it, or give another name") from error
        except Exception as error:
            raise DataError(f"output '{path}' cannot be written: {one_line(error)}") from error
        try:
            self._lock = _sole_lock(path)
            self._explained(lambda: self._begin(provenance) if is_new else self._resume(provenance))
        except BaseException:
            self.close()
            raise

    def write(self, rows: Mapping[str, np.ndarray]) -> None:
        """Add requests, and let the system have them: whatever becomes of this process now, they are in the file.

        Parameters
        ----------
        rows : mapping of str to array
            All values, each with as many requests along its first axis. The other axes may be longer or shorter than
            those of earlier requests.

        Raises
        ------
        DataError
            When a value has another name, type or number of axes than in earlier requests, or cannot be written.
        """
        self.write_ragged(rows, {})

    def write_ragged(self, rows: Mapping[str, np.ndarray], shapes: Mapping[str, np.ndarray]) -> None:
        """Add requests as :meth:`write` does, some of whose values are smaller than their rows.

        Parameters
        ----------
        rows : mapping of str to array
        shapes : mapping of str to array of int
            The shapes of those values, ``(requests, axes)``.
        """
        self._explained(lambda: self._write(rows, shapes))

    def close(self) -> None:
        """Close the file; to be called once.

        Raises
        ------
        DataError
            When that fails.
        """
        try:
            self._explained(self._file.close)
        finally:
            if self._lock is not None:
                os.close(self._lock)

    def _begin(self, provenance: Mapping[str, str | int | float]) -> None:
        attributes = {**provenance, "format": FORMAT, "format_version": FORMAT_VERSION, COUNT: np.int64(0)}
        self._file.attrs.update(attributes)
        self._file.flush()

    def _resume(self, provenance: Mapping[str, str | int | float]) -> None:
        """Take the file as it is; rows behind its number of requests were never complete."""
        count = attribute(self._file, COUNT)
        if not isinstance(count, int) or attribute(self._file, "format") != FORMAT:
            raise DataError(f"output '{self._path}' was not written by a stream: nothing can be appended to it")
        for name in SAME:
            found = attribute(self._file, name)
            if name in provenance and found != provenance[name]:
                raise DataError(
                    f"output '{self._path}' has {name} {printable(str(found), 80)} and this stream "
                    f"{provenance[name]}: append to a file of the same model, or give another name"
                )
        self._datasets = datasets(self._file, self._path)
        self._ragged = shapes_of(self._file, self._datasets)
        items = (*self._datasets.values(), *self._ragged.values())
        if not all(_is_resumable(item, count) for item in items):
            raise DataError(f"output '{self._path}' is damaged: it does not hold the {count} requests that it says")
        texts = [item for item in items if h5py.check_string_dtype(item.dtype)]
        if any(item.id.get_create_plist().get_nfilters() for item in texts):
            raise DataError(f"output '{self._path}' has texts that another program has packed: give another name")
        for item in texts:
            _forget_texts(item, count)
        for item in items:
            item.resize(count, axis=0)
        self._file.attrs.modify("format_version", np.int64(FORMAT_VERSION))  # it may become ragged from now on
        self._file.flush()
        self.count = count

    def _write(self, rows: Mapping[str, np.ndarray], shapes: Mapping[str, np.ndarray]) -> None:
        if not self._datasets:
            self._datasets = {name: self._create(name, array) for name, array in rows.items()}
        self._check(rows)
        self._make_room(rows, shapes)
        count = self.count + len(next(iter(rows.values())))
        for name, array in rows.items():
            self._add(self._datasets[name], array.astype(object) if array.dtype.kind == "U" else array, count)
            if name in self._ragged:
                self._add(self._ragged[name], shapes.get(name, _alike(array.shape)), count)
        self._file.attrs.modify(COUNT, np.int64(count))
        self._file.flush()
        self.count = count

    def _add(self, item: h5py.Dataset, array: np.ndarray, count: int) -> None:
        """The rows that make it `count`."""
        item.resize(count, axis=0)
        item[(slice(self.count, count), *map(slice, array.shape[1:]))] = array

    def _make_room(self, rows: Mapping[str, np.ndarray], shapes: Mapping[str, np.ndarray]) -> None:
        """Lengthen axes; that the rows there are have shapes of their own is on its way to the disk before."""
        extents = {name: (self._datasets[name].shape[1:], array.shape[1:]) for name, array in rows.items()}
        other = [name for name, (held, given) in extents.items() if held != given or name in shapes]
        new = [name for name in other if name not in self._ragged]
        if new:
            self._ragged |= {name: self._create_shapes(name) for name in new}
            self._file.flush()
        for name in other:
            self._datasets[name].resize((self.count, *map(max, *extents[name])))

    def _create_shapes(self, name: str) -> h5py.Dataset:
        """The dataset of shapes, with those of the rows there are."""
        data = _alike((self.count, *self._datasets[name].shape[1:]))
        chunk, limits = (_CHUNK_ROWS, max(1, data.shape[1])), (None, data.shape[1])
        return self._file.create_dataset(shapes_key(name), data=data, maxshape=limits, chunks=chunk)

    def _create(self, name: str, array: np.ndarray) -> h5py.Dataset:
        """A dataset without rows, every axis of which may grow."""
        shape = array.shape[1:]
        row = tuple(extent or _VARYING_EXTENT for extent in shape)
        nbytes = _VARYING_BYTES if name in self._varying else _CHUNK_BYTES
        chunk = (max(1, min(_CHUNK_ROWS, nbytes // (prod(row) * array.itemsize))), *row)
        item = self._file.create_dataset(
            escape(name),
            shape=(0, *shape),
            maxshape=(None,) * array.ndim,
            chunks=chunk,
            dtype=h5py.string_dtype() if array.dtype.kind == "U" else array.dtype,
        )
        if name in self._types:
            item.attrs[TYPE] = self._types[name]
        return item

    def _check(self, rows: Mapping[str, np.ndarray]) -> None:
        """What is written is what the file has."""
        if set(rows) != set(self._datasets):
            held, given = (", ".join(sorted(names)) for names in (self._datasets, rows))
            raise DataError(f"output '{self._path}' holds {held} and the stream gives {given}: give another name")
        for name, array in rows.items():
            item = self._datasets[name]
            is_text = array.dtype.kind == "U" and h5py.check_string_dtype(item.dtype)
            if array.ndim != item.ndim or not (is_text or array.dtype == item.dtype):
                raise DataError(
                    f"output '{name}' of request {self.count} or later has {array.ndim - 1} axes and type "
                    f"{array.dtype.name}, and '{self._path}' holds {item.ndim - 1} axes and {item.dtype.name}: "
                    "give another name"
                )

    def _explained(self, function: Callable[[], object]) -> None:
        """Turn what HDF5 and the system say into a sentence that names the file."""
        try:
            function()
        except DataError:
            raise
        except Exception as error:  # h5py raises what the libraries below it raise
            reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
            raise DataError(f"output '{self._path}' cannot be written: {reason}") from error


def _is_resumable(item: h5py.Dataset, count: int) -> bool:
    """Whether a dataset has so many rows, and no more behind them than an unfinished batch: HDF5 visits each chunk."""
    if not item.shape or item.maxshape[0] is not None or not 0 <= count <= item.shape[0]:
        return False
    behind = (item.shape[0] - count, *item.shape[1:])
    return prod(-(-extent // chunk) for extent, chunk in zip(behind, item.chunks, strict=True)) <= _MOST_CHUNKS_BEHIND


def _forget_texts(item: h5py.Dataset, count: int) -> None:
    """Empty the rows from `count` on: HDF5 follows what it overwrites, and their texts may not be on the disk."""
    rows = item.chunks[0]
    offsets: list[tuple[int, ...]] = []
    item.id.chunk_iter(lambda info: offsets.append(info.chunk_offset))
    behind = [offset for offset in offsets if offset[0] + rows > count]
    if behind:
        item.resize(max(offset[0] for offset in behind) + rows, axis=0)
    for offset in behind:
        _, data = item.id.read_direct_chunk(offset)
        kept = data[: max(0, count - offset[0]) * (len(data) // rows)]
        item.id.write_direct_chunk(offset, kept + bytes(len(data) - len(kept)))


def _alike(shape: tuple[int, ...]) -> np.ndarray:
    """The shape of every row of an array, ``(rows, axes)``."""
    return np.tile(np.array(shape[1:], np.int64), (shape[0], 1))


def _sole_lock(path: Path) -> int | None:
    """A descriptor that holds the writers' lock of a file; None where the file system has no locks.

    Readers are not kept away: HDF5 takes locks of another kind.

    Raises
    ------
    DataError
        When another process has it.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.close(descriptor)
        raise DataError(f"output '{path}' is being written by another process: give another name") from error
    except OSError:
        with suppress(OSError):
            os.close(descriptor)
        return None
    return descriptor
