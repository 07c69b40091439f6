"""HDF5 files of named arrays: the one place that knows their format.

One dataset per value at the root, and attributes ``format``, ``format_version`` and whatever provenance the
writer had (digests, versions). A slash in HDF5 would open a group, so it is written ``%2F`` and a percent sign
``%25``. In files of other writers nothing is decoded: a dataset ``b`` in group ``a`` has the name ``a/b``.

Format 2 may have values whose requests differ in shape, as :mod:`.stacks` says; else it is format 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import h5py
import numpy as np

from ..errors import DataError
from .files import reading

FORMAT = "flexpie_mpi values"
FORMAT_VERSION = 2

TYPE = "onnx_type"
"""Attribute of a value that the model has in another type, such as bfloat16."""

_SHAPES = "%shape"

_ESCAPES = (("%", "%25"), ("/", "%2F"))
"""In the order of writing."""


def read_hdf5(path: Path) -> dict[str, np.ndarray]:
    """The datasets of an HDF5 file by name.

    Raises
    ------
    DataError
        When the file is damaged, or was written in a later version of the format.
    """
    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        return {
            name: _read(item, f"'{path}', dataset '{item.name[1:]}'") for name, item in datasets(file, path).items()
        }


def datasets(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    """The datasets of an open file by the names of their values.

    Raises
    ------
    DataError
        When the file was written in a later version of the format.
    """
    is_ours = str(file.attrs.get("format", "")) == FORMAT
    version = int(file.attrs.get("format_version", 0)) if is_ours else 0
    if version > FORMAT_VERSION:
        raise DataError(
            f"'{path}' is in version {version} of the format and this program reads up to {FORMAT_VERSION}: "
            "use a newer flexpie-mpi"
        )
    found: dict[str, h5py.Dataset] = {}

    def visit(key: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and not (is_ours and key.endswith(_SHAPES)):
            found[unescape(key) if is_ours else key] = item

    file.visititems(visit)
    return found


def shapes_key(name: str) -> str:
    """The name of the dataset with the shapes of a value's requests."""
    return escape(name) + _SHAPES


def shapes_of(file: h5py.File, values: Iterable[str]) -> dict[str, h5py.Dataset]:
    """The datasets of shapes of an open file, by the names of those `values` whose requests differ in shape."""
    is_ours = str(file.attrs.get("format", "")) == FORMAT
    return {name: file[shapes_key(name)] for name in values if is_ours and shapes_key(name) in file}


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
        return {key: value.item() if isinstance(value, np.generic) else value for key, value in file.attrs.items()}


def _read(item: h5py.Dataset, where: str) -> np.ndarray:
    if item.shape is None:
        raise DataError(f"{where} is empty: it has no shape")
    if h5py.check_string_dtype(item.dtype):
        return np.asarray(item.asstr()[()], dtype=np.str_)
    return np.asarray(item[()])


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
