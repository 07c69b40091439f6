"""HDF5 files of named arrays: the one place that knows their format.

One dataset per value at the root, and attributes ``format``, ``format_version`` and whatever provenance the
writer had (digests, versions). A slash in HDF5 would open a group, so it is written ``%2F`` and a percent sign
``%25``. In files of other writers nothing is decoded: a dataset ``b`` in group ``a`` has the name ``a/b``.

A file of *many requests* has one more axis in front of every value, which counts requests, and an attribute
``requests``: how many of them are complete. Rows are written in batches, and a file goes from one batch to the next in
one step (:mod:`.journal`): a process that is killed leaves a file that can be read, and appended to, as if it had ended
behind a batch. Where it was killed within that step, other programs see the file so only when it has been appended to.
The file format is HDF5's oldest, because the newer ones mark a file that was not closed as one that must not be opened.
Attributes ``stream`` and ``stream_begin`` say which requests those of the last stream are, and at which row they begin,
so that it can go on.

An output whose shape differs from request to request is *ragged*. Its rows are as large as its largest request along
every axis, and beside it, from the first request that differs on, is a dataset ``NAME%shape`` of the shape of every
request: ``file[NAME][i][tuple(map(slice, file[NAME + "%shape"][i]))]`` is request i. What is behind its shape in a row
means nothing, and takes no room beyond the chunks that it shares. The name is no value's: in those, ``%`` is ``%25``.

Requests with another number of axes than the first lie in a dataset ``NAME%flat``, element behind element: with
``shape = [n for n in file[NAME + "%shape"][i] if n >= 0]``, such a request i is
``file[NAME + "%flat"][i][:prod(shape)].reshape(shape)``. Shapes have as many columns as the longest; those behind a
shorter one are -1. Rows of a request that lies in the other dataset mean nothing.

Format 2 may have ragged values, and format 3 values with several numbers of axes; else a file is in format 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import MappingProxyType

import h5py
import numpy as np

from ..core.budget import at_most
from ..core.document import shown
from ..core.errors import DataError
from .container import attribute, check_dataset, check_written, members, opened, type_of
from .journal import Journal
from .offers import Offer, reading

FORMAT = "flexpie_mpi values"
FORMAT_VERSION = 3

COUNT = "requests"
"""Attribute of a stream's file: the number of complete requests."""

TYPE = "onnx_type"
"""Attribute of a value that the model has in another type, such as bfloat16."""

SHAPES, FLAT = "%shape", "%flat"
"""Endings of the names of the datasets beside a value's: the shapes of its requests, and its requests of other axes."""

ABSENT = -1
"""Stands in the shapes of requests for an axis that a request does not have."""

_MOST_AXES = 64

_WALK_BYTES = 256 << 20
"""What a walk over the datasets of a file may take; a thousandth of it is plenty."""

_ESCAPES = (("%", "%25"), ("/", "%2F"))
"""Signs that names of datasets have in another form, in the order in which they are replaced."""


Items = dict[str, h5py.Dataset]


def hdf5_offers(path: Path) -> dict[str, Offer]:
    """The datasets of an HDF5 file by name, unread.

    Raises DataError when the file is damaged, or was written in a later version of the format.
    """
    with reading(path, "an HDF5 file"), opened(path) as file:
        return {name: _offer(item, path) for name, item in datasets(file, path).items()}


def datasets(file: h5py.File, path: Path) -> Items:
    """The datasets of an open file by the names of their values.

    Raises DataError when the file was written in a later version of the format.
    """
    with at_most(_WALK_BYTES):
        items = members(file)
    is_ours = attribute(file, "format") == FORMAT
    version = attribute(file, "format_version") if is_ours else 0
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise DataError(
            f"'{path}' is in version {shown(version)} of the format and this program reads up to {FORMAT_VERSION}: "
            "use a newer flexpie-mpi"
        )
    complete = attribute(file, COUNT) if is_ours else None  # rows behind them were on their way
    for key, item in items.items():
        is_ragged = is_ours and f"{key.removesuffix(FLAT)}{SHAPES}" in items
        if not is_ragged:  # else not all of the rows is written
            check_written(item, key, complete if isinstance(complete, int) else None)
    if not is_ours:
        return items
    return {unescape(key): item for key, item in items.items() if not key.endswith((SHAPES, FLAT))}


def tables(file: h5py.File, path: Path) -> tuple[Items, Items, Items]:
    """The datasets of an open file, those of shapes beside them, and the flat ones, each by the names of their values.

    Raises DataError when one beside another has not the form that it must have, and as of :func:`datasets`.
    """
    values = datasets(file, path)
    return values, _beside(file, path, values, SHAPES), _beside(file, path, values, FLAT)


def _beside(file: h5py.File, path: Path, values: Items, suffix: str) -> Items:
    is_ours = attribute(file, "format") == FORMAT
    items = {name: file[escape(name) + suffix] for name in values if is_ours and escape(name) + suffix in file}
    for name, item in items.items():
        is_table = isinstance(item, h5py.Dataset) and item.shape is not None and item.ndim == 2
        if is_table and suffix == SHAPES:
            is_table = item.dtype.kind in "iu" and item.shape[1] <= _MOST_AXES
        if not is_table or (suffix == FLAT and item.dtype != values[name].dtype):
            raise DataError(f"'{path}' is damaged: the shapes of {shown(name)} are no shapes")
    return items


def write_hdf5(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    provenance: Mapping[str, str | int | float],
    types: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write named arrays, where they come from, and the model's types of some, into a new file at `path`.

    Raises OSError, TypeError, ValueError whatever HDF5 says when it cannot store them.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update({**provenance, "format": FORMAT, "format_version": FORMAT_VERSION})
        for name, array in arrays.items():
            text = array.dtype.kind == "U"
            data = array.astype(object) if text else array
            item = file.create_dataset(escape(name), data=data, dtype=h5py.string_dtype() if text else None)
            if name in types:
                item.attrs[TYPE] = types[name]


def _offer(item: h5py.Dataset, path: Path) -> Offer:
    key = item.name[1:]
    if item.shape is None:
        raise DataError(f"'{path}', dataset {shown(key)} is empty: it has no shape")

    def load() -> np.ndarray:
        with reading(path, "an HDF5 file"), h5py.File(Journal.left_in(path) or path, "r") as file:
            again = file[key]
            check_dataset(again, key)
            if h5py.check_string_dtype(again.dtype):
                return np.asarray(again.asstr()[()], dtype=np.str_)
            return np.asarray(again[()])

    return Offer(tuple(item.shape), type_of(item), load)


def escape(name: str) -> str:
    """The name of a dataset for the name of a value."""
    for plain, escaped in _ESCAPES:
        name = name.replace(plain, escaped)
    return "%2E" if name == "." else name  # a lone dot would be the group itself


def unescape(key: str) -> str:
    """The name of a value for the name of a dataset."""
    if key == "%2E":
        return "."
    for plain, escaped in reversed(_ESCAPES):
        key = key.replace(escaped, plain)
    return key


class Stack:
    """A file of requests, read request by request.

    Raises DataError when the file is damaged, or was written in a later version of the format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path, "an HDF5 file"):
            self._file = opened(path)
            try:
                self._datasets, self._ragged, self._flat = tables(self._file, path)
                self._dtypes = {name: type_of(item) for name, item in self._datasets.items()}
                self._complete = attribute(self._file, COUNT)
            except BaseException:
                self._file.close()
                raise
        # as in the file: the first axis counts requests, the others are those of the largest
        self.shapes = {name: tuple(item.shape or ()) for name, item in self._datasets.items()}

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    @property
    def count(self) -> int:
        """Number of requests; raises DataError when the values do not have as many each."""
        counts = {name: shape[0] if shape else 0 for name, shape in self.shapes.items()}
        for name, item in (*self._ragged.items(), *self._flat.items()):
            counts[name] = min(counts[name], item.shape[0])
        if self._complete is not None:
            if not isinstance(self._complete, int) or self._complete < 0:
                raise DataError(
                    f"'{self._path}' says that it holds {shown(self._complete)} requests, which is no number"
                )
            return min([self._complete, *counts.values()])
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{count} of '{name}'" for name, count in counts.items())
            raise DataError(f"'{self._path}' does not hold as many requests of every input: {said}")
        return next(iter(counts.values()), 0)

    def offers(self, request: int) -> dict[str, Offer]:
        """The values of one request, unread."""
        with reading(self._path, "an HDF5 file"):
            return {name: self._offer(name, request) for name in self._datasets}

    def _offer(self, name: str, request: int) -> Offer:
        most = self.shapes[name][1:]
        shape = self._shape(name, request) if name in self._ragged else most
        if len(shape) != len(most):
            item, index = self._flat[name], (request, slice(prod(shape)))
        else:
            item, index = self._datasets[name], (request, *(() if shape == most else map(slice, shape)))

        def load() -> np.ndarray:
            with reading(self._path, "an HDF5 file"):
                return np.asarray(item[index]).reshape(shape)

        return Offer(shape, self._dtypes[name], load)

    def _shape(self, name: str, request: int) -> tuple[int, ...]:
        """The shape of a request, after a check that the file has room for it."""
        row = [int(extent) for extent in self._ragged[name][request]]
        shape = tuple(extent for extent in row if extent != ABSENT)
        most = self.shapes[name][1:]
        fits = min(shape, default=0) >= 0 and tuple(row[: len(shape)]) == shape
        if len(shape) == len(most):
            fits &= all(extent <= limit for extent, limit in zip(shape, most, strict=True))
        else:
            fits &= name in self._flat and prod(shape) <= self._flat[name].shape[1]
        if not fits:
            raise DataError(f"'{self._path}' is damaged: request {request} of {shown(name)} has the shape {shape}")
        return shape
