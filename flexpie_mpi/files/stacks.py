"""HDF5 files of many requests: the values of :mod:`.hdf5` with one more axis in front, which counts requests.

What a stream writes has an attribute ``requests`` besides: how many of them are complete. Rows are written in batches,
and a batch is on its way to the disk before the next one begins: a process that is killed between two batches leaves a
file that can be read, and appended to, as if it had ended there. The file format is HDF5's oldest, because the newer
ones mark a file that was not closed as one that must not be opened.

An output whose shape differs from request to request is *ragged*. Its rows are as large as its largest request along
every axis, and beside it, from the first request that differs on, is a dataset ``NAME%shape`` of the shape of every
request: ``file[NAME][i][tuple(map(slice, file[NAME + "%shape"][i]))]`` is request i. What is behind its shape in a row
means nothing, and takes no room beyond the chunks that it shares. The name is no value's: in those, ``%`` is ``%25``.

Requests with another number of axes than the first lie in a dataset ``NAME%flat``, element behind element: with
``shape = [n for n in file[NAME + "%shape"][i] if n >= 0]``, such a request i is
``file[NAME + "%flat"][i][:prod(shape)].reshape(shape)``. Shapes have as many columns as the longest; those behind a
shorter one are -1. Rows of a request that lies in the other dataset mean nothing.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import h5py
import numpy as np

from ..core.document import shown
from ..core.errors import DataError
from .container import attribute, type_of
from .files import reading
from .hdf5 import ABSENT, COUNT, FLAT, SHAPES, beside, datasets
from .offers import Offer


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
                self._ragged = beside(self._file, self._datasets, SHAPES)
                self._flat = beside(self._file, self._datasets, FLAT)
                self._dtypes = {name: type_of(item) for name, item in self._datasets.items()}
                self._complete = attribute(self._file, COUNT)
            except BaseException:
                self._file.close()
                raise
        self.shapes = {name: tuple(item.shape or ()) for name, item in self._datasets.items()}

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *raised: object) -> None:
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
        for name, item in (*self._ragged.items(), *self._flat.items()):
            counts[name] = min(counts[name], item.shape[0])
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
        most = self.shapes[name][1:]
        shape = self._shape(name, request) if name in self._ragged else most
        if len(shape) != len(most):
            item, place = self._flat[name], (request, slice(prod(shape)))
        else:
            item, place = self._datasets[name], (request, *(() if shape == most else map(slice, shape)))

        def load() -> np.ndarray:
            with reading(self._path, "an HDF5 file"):
                return np.asarray(item[place]).reshape(shape)

        return Offer(shape, self._dtypes[name], load)

    def _shape(self, name: str, request: int) -> tuple[int, ...]:
        """The shape of a request, which the file has room for."""
        row = [int(extent) for extent in self._ragged[name][request]]
        shape = tuple(extent for extent in row if extent != ABSENT)
        most = self.shapes[name][1:]
        if len(shape) == len(most):
            fits = all(0 <= extent <= limit for extent, limit in zip(shape, most, strict=True))
        else:
            fits = name in self._flat and min(shape, default=0) >= 0 and prod(shape) <= self._flat[name].shape[1]
        if not fits or tuple(row[: len(shape)]) != shape:
            raise DataError(f"'{self._path}' is damaged: request {request} of {shown(name)} has the shape {shape}")
        return shape

    def read(self, request: int) -> dict[str, np.ndarray]:
        """The values of one request.

        Raises
        ------
        DataError
            When they cannot be read.
        """
        return {name: offer.load() for name, offer in self.offers(request).items()}
