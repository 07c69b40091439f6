"""The writer of files of many requests, whose form :mod:`.hdf5` tells."""

from __future__ import annotations

import os
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from math import prod
from pathlib import Path
from types import MappingProxyType

import h5py
import numpy as np

from ..core.document import one_line, printable
from ..core.errors import DataError
from .atomic import appearing, explained, lock_content
from .container import attribute, opened
from .hdf5 import ABSENT, COUNT, FLAT, FORMAT, FORMAT_VERSION, SHAPES, TYPE, Items, escape, tables
from .journal import Journal

SAME = ("model", "model_digest")
"""Attributes that a file and what is appended to it must have in common."""

STREAM, STREAM_BEGIN = "stream", "stream_begin"
"""Attributes of a file: which requests those of its last stream are, and its number of requests when that began."""

_ANY = (Exception,)  # h5py raises what the libraries below it raise

_MOST_CHUNKS_BEHIND = 1 << 16
_CHUNK_BYTES, _CHUNK_ROWS = 1 << 20, 1024
"""A chunk has as many rows as fit into `_CHUNK_BYTES`, and no more than `_CHUNK_ROWS`."""

_VARYING_BYTES, _VARYING_EXTENT = 1 << 10, 16
"""A chunk of values that may differ from request to request is about `_VARYING_BYTES` large, since a long request makes
room for all that share its chunks. An axis that is empty at first gets chunks of `_VARYING_EXTENT`."""


class StackWriter:
    """Writes a file of requests that grows, and keeps other writers from it.

    The file is not there yet; with `appends` or `resumes`, it may also be one that this class has written. `resumes`
    goes on with the stream that was the last to write it, with `appends` another one begins. Raises DataError when the
    file cannot be written, is there and must not be, holds something else, or was written by another stream than the
    one that is resumed.

    Attributes
    ----------
    count : int
        Complete requests in the file.
    begin : int
        How many it held when the stream began.
    """

    def __init__(
        self,
        path: Path,
        provenance: Mapping[str, str | int | float],  # attributes; those in `SAME` must be those of an older file
        *,
        appends: bool = False,
        resumes: bool = False,
        varying: Collection[str] = (),  # values whose shape may differ; others may, too, but take more room then
        types: Mapping[str, str] = MappingProxyType({}),  # the model's, of values that come in another one
    ) -> None:
        self._path = path
        self._varying = varying
        self._types = types
        self._datasets: Items = {}
        self._ragged: Items = {}
        self._flat: Items = {}
        self.count = self.begin = 0
        is_new = not ((appends or resumes) and os.path.exists(path) and os.path.getsize(path))
        try:
            if is_new:
                _make(path, provenance, is_there=appends or resumes)
            self._journal = Journal(path, writes=True)
        except DataError:
            raise
        except FileExistsError as error:
            raise DataError(
                f"output '{path}' is there already: --append adds to it, --resume goes on with it, or give another name"
            ) from error
        except Exception as error:
            raise DataError(f"output '{path}' cannot be written: {one_line(error)}") from error
        self._open = ExitStack()
        self._open.callback(self._journal.close)
        weakref.finalize(self, self._open.close)  # when the program ends at the latest: HDF5 cannot without Python
        try:
            with self._in_one_step():
                self._file = opened(self._journal, "r+", libver="earliest")
                self._open.callback(_close_quietly, self._file)
                self._take(provenance, resumes=resumes and not is_new)
        except BaseException:
            self._open.close()
            raise

    def write(self, rows: Mapping[str, np.ndarray], shapes: Mapping[str, np.ndarray] = MappingProxyType({})) -> None:
        """Add requests, and let the system have them: whatever becomes of this process now, they are in the file.

        Rows are those of all values, each with as many requests along its first axis. The other axes may be longer,
        shorter, more or fewer than those of earlier requests. Shapes, ``(requests, axes)``, are those of the values
        that are smaller than their rows. Raises DataError when a value has another name or type than in earlier
        requests, or cannot be written.
        """
        if self._datasets:
            self._check(rows)
        with self._in_one_step():
            self._write(rows, shapes)

    def close(self) -> None:
        """Close the file; to be called once; raises DataError when that fails."""
        with self._open:
            if not self._journal.is_abandoned:
                with self._in_one_step():
                    self._file.close()

    @contextmanager
    def _in_one_step(self) -> Iterator[None]:
        """What the block does to the file is done whole or, where it fails, not at all, and nothing more after it."""
        with explained(self._path, _ANY):
            if self._journal.is_abandoned:
                raise DataError(f"output '{self._path}' could not be written before: nothing more is added to it")
            try:
                yield
                if self._file:  # not closed
                    self._file.flush()
                self._journal.commit()
            except BaseException:
                self._journal.abandon()
                raise

    def _take(self, provenance: Mapping[str, str | int | float], *, resumes: bool) -> None:
        """Take the file as it is; rows behind its number of requests were never complete."""
        count, begin = held_requests(self._file, self._path, provenance, resumes=resumes)
        self._datasets, self._ragged, self._flat = tables(self._file, self._path)
        items = (*self._datasets.values(), *self._ragged.values(), *self._flat.values())
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
        if not resumes:
            self._file.attrs[STREAM] = provenance.get(STREAM, "")
            self._file.attrs[STREAM_BEGIN] = np.int64(count)
        self.count, self.begin = count, begin

    def _write(self, rows: Mapping[str, np.ndarray], shapes: Mapping[str, np.ndarray]) -> None:
        if not self._datasets:
            self._datasets = {name: self._create(name, array) for name, array in rows.items()}
        shapes = {name: shapes.get(name, _alike(array.shape)) for name, array in rows.items()}
        count = self.count + len(next(iter(rows.values())))
        self._make_room(rows, shapes)
        for name, array in rows.items():
            is_flat = array.ndim != self._datasets[name].ndim
            self._add(self._datasets[name], None if is_flat else array, count)
            if name in self._flat:
                self._add(self._flat[name], _flattened(array, shapes[name]) if is_flat else None, count)
            if name in self._ragged:
                missing = self._ragged[name].shape[1] - shapes[name].shape[1]
                filled = np.pad(shapes[name], ((0, 0), (0, missing)), constant_values=ABSENT)
                self._add(self._ragged[name], filled, count)
        self._file.attrs.modify(COUNT, np.int64(count))
        self.count = count

    def _add(self, item: h5py.Dataset, array: np.ndarray | None, count: int) -> None:
        """Add rows up to `count`, and lengthen axes for them; without an array the new rows mean nothing."""
        if array is None:
            item.resize(count, axis=0)
            return
        item.resize((count, *map(max, item.shape[1:], array.shape[1:])))
        given = array.astype(object) if array.dtype.kind == "U" else array
        item[(slice(self.count, count), *map(slice, array.shape[1:]))] = given

    def _make_room(self, rows: Mapping[str, np.ndarray], shapes: Mapping[str, np.ndarray]) -> None:
        """Make the datasets beside values that are needed."""
        for name, array in rows.items():
            held = self._datasets[name].shape[1:]
            if name not in self._ragged and not all(tuple(shape) == held for shape in shapes[name].tolist()):
                data = _alike((self.count, *held))  # the shapes of the rows there are
                chunk = (_CHUNK_ROWS, max(1, len(held)))
                key = escape(name) + SHAPES
                self._ragged[name] = self._file.create_dataset(key, data=data, maxshape=(None, None), chunks=chunk)
            if array.ndim - 1 != len(held) and name not in self._flat:
                self._flat[name] = self._create(name, _flattened(array, shapes[name]), FLAT)
                self._flat[name].resize(self.count, axis=0)
            if name in self._ragged:
                self._widen(name, shapes[name].shape[1])

    def _widen(self, name: str, columns: int) -> None:
        """Give a dataset of shapes at least `columns` columns; new ones are filled with `ABSENT`."""
        item = self._ragged[name]
        held = item.shape[1]
        if columns <= held:
            return
        if item.maxshape[1] is not None:
            raise DataError(
                f"output '{self._path}' was begun by an older flexpie-mpi, which left no place for more axes of "
                f"'{name}': give another name"
            )
        item.resize(columns, axis=1)
        item[:, held:] = ABSENT

    def _create(self, name: str, array: np.ndarray, suffix: str = "") -> h5py.Dataset:
        """Make a dataset without rows; all of its axes may grow."""
        shape = array.shape[1:]
        row = tuple(extent or _VARYING_EXTENT for extent in shape)
        nbytes = _VARYING_BYTES if suffix or name in self._varying else _CHUNK_BYTES
        chunk = (max(1, min(_CHUNK_ROWS, nbytes // (prod(row) * array.itemsize))), *row)
        item = self._file.create_dataset(
            escape(name) + suffix,
            shape=(0, *shape),
            maxshape=(None,) * array.ndim,
            chunks=chunk,
            dtype=h5py.string_dtype() if array.dtype.kind == "U" else array.dtype,
        )
        if name in self._types:
            item.attrs[TYPE] = self._types[name]
        return item

    def _check(self, rows: Mapping[str, np.ndarray]) -> None:
        """Check that rows have the names and types that the file has."""
        if set(rows) != set(self._datasets):
            held, given = (", ".join(sorted(names)) for names in (self._datasets, rows))
            raise DataError(f"output '{self._path}' holds {held} and the stream gives {given}: give another name")
        for name, array in rows.items():
            item = self._datasets[name]
            is_text = array.dtype.kind == "U" and h5py.check_string_dtype(item.dtype)
            if not (is_text or array.dtype == item.dtype):
                raise DataError(
                    f"output '{name}' of request {self.count} or later has type {array.dtype.name}, and "
                    f"'{self._path}' holds {item.dtype.name}: give another name"
                )


def _make(path: Path, provenance: Mapping[str, str | int | float], *, is_there: bool) -> None:
    """Make a file without requests, whole or not at all; FileExistsError where one is there and none may be."""
    image = BytesIO()
    with h5py.File(image, "w", libver="earliest") as file:
        about = {**provenance, "format": FORMAT, "format_version": FORMAT_VERSION, COUNT: np.int64(0)}
        file.attrs.update({**about, STREAM_BEGIN: np.int64(0)})
    with path.open("ab" if is_there else "xb") as reserved:
        lock_content(reserved.fileno(), path)
        if reserved.tell() or not os.path.samestat(os.fstat(reserved.fileno()), path.stat()):  # made by another process
            raise DataError(f"output '{path}' is being written by another process: give another name")
        with appearing(path) as part:
            part.write_bytes(image.getvalue())


def _close_quietly(file: h5py.File) -> None:
    with suppress(Exception):
        file.close()


def held_requests(
    file: h5py.File, path: Path, provenance: Mapping[str, str | int | float], *, resumes: bool = False
) -> tuple[int, int]:
    """Requests in a file to which a stream adds its own, and how many of them are of earlier streams.

    The stream's `provenance` tells its model and, where it `resumes` the last one, its requests. Raises DataError when
    these are not the file's.
    """
    count = attribute(file, COUNT)
    if not isinstance(count, int) or attribute(file, "format") != FORMAT:
        raise DataError(f"output '{path}' was not written by a stream: nothing can be appended to it")
    for name in SAME:
        held = attribute(file, name)
        if name in provenance and held != provenance[name]:
            raise DataError(
                f"output '{path}' has {name} {printable(str(held), 80)} and this stream {provenance[name]}: "
                "append to a file of the same model, or give another name"
            )
    return count, _begin_of(file, path, count, provenance[STREAM]) if resumes else count


def _begin_of(file: h5py.File, path: Path, count: int, stream: str | int | float) -> int:
    """How many requests were in the file when its last stream began, which must be `stream`."""
    held, begin = attribute(file, STREAM), attribute(file, STREAM_BEGIN)
    if not held or not isinstance(begin, int) or not 0 <= begin <= count:
        raise DataError(
            f"output '{path}' does not say which requests its stream has, so none can be left out: --append adds all "
            "that are given"
        )
    if held != stream:
        raise DataError(
            f"output '{path}' was begun with other requests ({printable(str(held), 80)}; now {stream}): give those, "
            "read with the same options, or another name"
        )
    return begin


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


def _flattened(array: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Each request's elements in one row, as an array ``(requests, most elements)``."""
    block = np.zeros((len(array), int(shapes.prod(axis=1).max(initial=0))), array.dtype)
    for row, shape in enumerate(shapes.tolist()):
        whole: tuple[int | slice, ...] = (row, *map(slice, shape))
        block[row, : prod(shape)] = np.ravel(array[whole])
    return block
