"""numpy's own files: ``.npy`` holds one array, ``.npz`` is a zip of them by name.

Names are kept exactly, also those with slashes or equal to an argument of :func:`numpy.savez`. :func:`numpy.load`
reads what is written here, and what :func:`numpy.savez` writes is read here.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from ..errors import DataError
from .files import reading

UNNAMED = "arr_0"
"""Name that numpy gives to the first array stored without one."""

_SUFFIX = ".npy"
_NPY, _ZIP = b"\x93NUMPY", b"PK"
"""How the bytes of the two kinds of files begin."""


def read_npy(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file.

    Raises
    ------
    DataError
        When the file is damaged or holds Python objects.
    """
    with reading(path, "a .npy file"), path.open("rb") as stream:
        return npy.read_array(stream, allow_pickle=False)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` file by name, in the order of the file.

    Raises
    ------
    DataError
        When the file is damaged, holds the same name twice, or holds anything but arrays.
    """
    with reading(path, "a .npz file"):
        return _unzipped(path, path)


def read_bytes(memory: bytes, where: Path) -> dict[str, np.ndarray]:
    """The arrays in the bytes of a ``.npy`` file, under the name `UNNAMED`, or of a ``.npz`` file.

    Raises
    ------
    DataError
        When the bytes are neither; the sentence calls them `where`.
    """
    if memory.startswith(_NPY):
        with reading(where, "a .npy file"):
            return {UNNAMED: npy.read_array(BytesIO(memory), allow_pickle=False)}
    if memory.startswith(_ZIP):
        with reading(where, "a .npz file"):
            return _unzipped(BytesIO(memory), where)
    raise DataError(f"'{where}' sends what is neither a .npy file nor a .npz file")


def _unzipped(source: Path | BinaryIO, path: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(source) as archive:
        for member in archive.namelist():
            name = member.removesuffix(_SUFFIX)
            if name == member or name in arrays:
                raise DataError(f"'{path}' is no .npz file: its member '{member}' is no array, or is there twice")
            with archive.open(member) as stream:
                arrays[name] = npy.read_array(stream, allow_pickle=False)
    return arrays


def write_npz(stream: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as an uncompressed ``.npz`` file; equal arrays give equal bytes.

    Raises
    ------
    ValueError
        When an array holds Python objects.
    """
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            # A member without a date is the same at every time; zip64 lets it pass 2 GiB.
            with archive.open(zipfile.ZipInfo(name + _SUFFIX), "w", force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(array), allow_pickle=False)
