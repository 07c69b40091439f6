"""HDF5 files of named arrays: the one place that knows their format.

One dataset per value at the root, and attributes ``format``, ``format_version`` and whatever provenance the
writer had (digests, versions). A slash in HDF5 would open a group, so it is written ``%2F`` and a percent sign
``%25``. In files of other writers nothing is decoded: a dataset ``b`` in group ``a`` has the name ``a/b``.

Format 2 may have values whose requests differ in shape, as :mod:`.stacks` says, and format 3 also in their number of
axes; else it is format 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import h5py
import numpy as np

from ..core.budget import at_most
from ..core.document import shown
from ..core.errors import DataError
from .container import attribute, check_dataset, check_heaps, check_written, members, type_of
from .files import reading
from .offers import Offer

FORMAT = "flexpie_mpi values"
FORMAT_VERSION = 3

COUNT = "requests"
"""Attribute of a stream's file: the number of complete requests."""

TYPE = "onnx_type"
"""Attribute of a value that the model has in another type, such as bfloat16."""

SHAPES, FLAT = "%shape", "%flat"
"""What the names of datasets beside a value's end in: the shapes of its requests, and those with other axes."""

ABSENT = -1
"""In the shapes of requests, for an axis that a request does not have."""

_MOST_AXES = 64

_ESCAPES = (("%", "%25"), ("/", "%2F"))
"""In the order of writing."""


def read_hdf5(path: Path) -> dict[str, np.ndarray]:
    """The datasets of an HDF5 file by name.

    Raises
    ------
    DataError
        When the file is damaged, or was written in a later version of the format.
    """
    return {name: offer.load() for name, offer in hdf5_offers(path).items()}


def hdf5_offers(path: Path) -> dict[str, Offer]:
    """The datasets of an HDF5 file by name, unread; errors as of :func:`read_hdf5`."""
    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        return {name: _offer(item, path) for name, item in datasets(file, path).items()}


_WALK_BYTES = 256 << 20
"""What a walk over the datasets of a file may take; a thousandth of it is plenty."""


def datasets(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    """The datasets of an open file by the names of their values.

    Raises
    ------
    DataError
        When the file was written in a later version of the format.
    """
    check_heaps(file)
    with at_most(_WALK_BYTES):
        found = members(file)
    is_ours = attribute(file, "format") == FORMAT
    version = attribute(file, "format_version") if is_ours else 0
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise DataError(
            f"'{path}' is in version {shown(version)} of the format and this program reads up to {FORMAT_VERSION}: "
            "use a newer flexpie-mpi"
        )
    ragged = {
        key for key in found if is_ours and f"{key.removesuffix(FLAT)}{SHAPES}" in found
    }  # not all of their rows is written
    complete = attribute(file, COUNT) if is_ours else None  # rows behind them were on their way
    for key in found.keys() - ragged:
        check_written(found[key], key, complete if isinstance(complete, int) else None)
    if not is_ours:
        return found
    return {unescape(key): item for key, item in found.items() if not key.endswith((SHAPES, FLAT))}


def beside(file: h5py.File, values: Mapping[str, h5py.Dataset], suffix: str) -> dict[str, h5py.Dataset]:
    """The datasets beside those `values` of a file that have one, by their names.

    Parameters
    ----------
    file : h5py.File
    values : mapping of str to Dataset
        As of :func:`datasets`.
    suffix : str
        `SHAPES` or `FLAT`.

    Raises
    ------
    DataError
        When one has not the form that it must have.
    """
    is_ours = attribute(file, "format") == FORMAT
    found = {name: file[escape(name) + suffix] for name in values if is_ours and escape(name) + suffix in file}
    for name, item in found.items():
        is_table = isinstance(item, h5py.Dataset) and item.shape is not None and item.ndim == 2
        if is_table and suffix == SHAPES:
            is_table = item.dtype.kind in "iu" and item.shape[1] <= _MOST_AXES
        if not is_table or (suffix == FLAT and item.dtype != values[name].dtype):
            raise DataError(f"'{file.filename}' is damaged: the shapes of {shown(name)} are no shapes")
    return found


def write_hdf5(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    provenance: Mapping[str, str | int | float],
    types: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write named arrays, where they come from, and the model's types of some, into a new file at `path`.

    Raises
    ------
    OSError, TypeError, ValueError
        Whatever HDF5 says when it cannot store them.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update({**provenance, "format": FORMAT, "format_version": FORMAT_VERSION})
        for name, array in arrays.items():
            text = array.dtype.kind == "U"
            data = array.astype(object) if text else array
            item = file.create_dataset(escape(name), data=data, dtype=h5py.string_dtype() if text else None)
            if name in types:
                item.attrs[TYPE] = types[name]


def read_provenance(path: Path) -> dict[str, str | int | float]:
    """The attributes that :func:`write_hdf5` stored beside the arrays."""
    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        check_heaps(file)
        return {key: value.item() if isinstance(value, np.generic) else value for key, value in file.attrs.items()}


def _offer(item: h5py.Dataset, path: Path) -> Offer:
    key = item.name[1:]
    if item.shape is None:
        raise DataError(f"'{path}', dataset {shown(key)} is empty: it has no shape")

    def load() -> np.ndarray:
        with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
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
