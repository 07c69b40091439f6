"""numpy's own files: ``.npy`` holds one array, ``.npz`` is a zip of them by name.

Names are kept exactly, also those with slashes or equal to an argument of :func:`numpy.savez`. :func:`numpy.load`
reads what is written here, and what :func:`numpy.savez` writes is read here. Files are not believed: a header is
matched, never evaluated, and an array that its file has no room for is never made.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy

from ..core.document import shown
from ..core.errors import DataError
from .offers import Offer, reading

UNNAMED = "arr_0"
"""Name that numpy gives to the first array stored without one."""

MOST_ARRAYS = 4096

_SUFFIX = ".npy"
_NPY, _ZIP = b"\x93NUMPY", b"PK"
"""The first bytes of the two kinds of files."""

_KINDS = "biufcUS"
"""numpy's letters for types whose elements are the bytes themselves."""

_HEADER_BYTES = 1 << 16
_HEADER = re.compile(
    r" *\{ *'descr' *: *'([<>|=]?[a-zA-Z?][0-9]{0,9})' *, *'fortran_order' *: *(True|False) *, "
    r"*'shape' *: *\(((?: *[0-9]{1,18} *,)* *(?:[0-9]{1,18} *)?)\) *,? *\}[ \n]*"
)
_DIRECTORY_BYTES = MOST_ARRAYS * 512
_DEFLATE_MOST = 1032
"""One packed byte can become so many."""


def bytes_offers(memory: bytes, where: Path) -> dict[str, Offer]:
    """The arrays in the bytes of a ``.npy`` file, under the name `UNNAMED`, or of a ``.npz`` file, unread.

    Raises DataError when the bytes are neither; the sentence calls them `where`.
    """
    if memory.startswith(_NPY):
        return {UNNAMED: npy_offer(where, memory)}
    if memory.startswith(_ZIP):
        return npz_offers(where, memory)
    raise DataError(f"'{where}' sends what is neither a .npy file nor a .npz file")


def write_npz(stream: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as an uncompressed ``.npz`` file; equal arrays give equal bytes.

    Raises ValueError when an array holds Python objects.
    """
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            # A member without a date is the same at every time; zip64 lets it pass 2 GiB.
            with archive.open(zipfile.ZipInfo(name + _SUFFIX), "w", force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(array), allow_pickle=False)


def npy_offer(path: Path, memory: bytes | None = None) -> Offer:
    """The array of a ``.npy`` file, or of its bytes in `memory`, unread.

    Raises DataError when the file is damaged or holds Python objects.
    """
    with reading(path, "a .npy file"), _open(path, memory) as stream:
        dtype, _, shape = _header(stream)
        begin = stream.tell()
        _check_room(dtype, shape, stream.seek(0, os.SEEK_END) - begin)

    def load() -> np.ndarray:
        with reading(path, "a .npy file"), _open(path, memory) as again:
            return _array(again)

    return Offer(shape, dtype, load)


def npz_offers(path: Path, memory: bytes | None = None) -> dict[str, Offer]:
    """The arrays of a ``.npz`` file, or of its bytes in `memory`, by name, unread, in the order of the file.

    Raises DataError when the file is damaged, holds the same name twice, or holds anything but arrays.
    """
    offers: dict[str, Offer] = {}
    with reading(path, "a .npz file"), _archive(path, memory) as archive:
        members = archive.infolist()
        if len(members) > MOST_ARRAYS:
            raise ValueError(f"it has {len(members)} arrays, and {MOST_ARRAYS} are the most that are read")
        for member in members:
            name = member.filename.removesuffix(_SUFFIX)
            if name == member.filename or name in offers:
                raise DataError(
                    f"'{path}' is no .npz file: its member {shown(member.filename)} is no array, or is there twice"
                )
            offers[name] = _member_offer(archive, member, path, memory)
    return offers


def _member_offer(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, memory: bytes | None) -> Offer:
    """The array of a member of a zip, after a check that the sizes it gives can be true."""
    most = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: _DEFLATE_MOST}.get(member.compress_type, 0)
    if member.file_size > member.compress_size * most:
        raise ValueError(f"its member {shown(member.filename)} cannot hold what it says, or is packed in another way")
    with archive.open(member) as stream:
        dtype, _, shape = _header(stream)
        _check_room(dtype, shape, member.file_size - stream.tell())

    def load() -> np.ndarray:
        with reading(path, "a .npz file"), _archive(path, memory) as again, again.open(member) as stream:
            array = _array(stream)
            if stream.read(1):  # the end is where the sum of its bytes is checked, too
                raise ValueError(f"its member {shown(member.filename)} goes on behind its array")
            return array

    return Offer(shape, dtype, load)


def _open(path: Path, memory: bytes | None) -> IO[bytes]:
    return path.open("rb") if memory is None else BytesIO(memory)


@contextmanager
def _archive(path: Path, memory: bytes | None) -> Iterator[zipfile.ZipFile]:
    """Open a zip. A large directory, which is read as a whole, is refused."""
    with _open(path, memory) as stream:
        limited = _Limited(stream)
        with zipfile.ZipFile(limited) as archive:  # type: ignore[call-overload]  # as much of a file as it needs
            limited.most = None
            yield archive


class _Limited:
    """A stream that refuses to read more than `most` bytes at once, until that limit is taken away."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable
        self.most: int | None = _DIRECTORY_BYTES
        self._read = stream.read

    def read(self, size: int = -1) -> bytes:
        """As of a stream; ValueError beyond the limit."""
        if self.most is None:
            return self._read(size)
        content = self._read(self.most + 1 if size < 0 else min(size, self.most + 1))
        if len(content) > self.most:
            raise ValueError(f"its directory has more than {self.most} bytes")
        return content


def _header(stream: IO[bytes]) -> tuple[np.dtype, bool, tuple[int, ...]]:
    """Type, whether the first axis changes fastest, and shape; the numbers are what follows in the stream."""
    magic = _exactly(stream, 8)
    if not magic.startswith(_NPY) or magic[6] not in (1, 2, 3):
        raise ValueError("it does not begin as one")
    size = int.from_bytes(_exactly(stream, 2 if magic[6] == 1 else 4), "little")
    if size > _HEADER_BYTES:
        raise ValueError(f"its header says that it has {size} bytes")
    match = _HEADER.fullmatch(_exactly(stream, size).decode("latin-1"))
    if not match:
        raise ValueError("its header is not that of an array of plain numbers")
    dtype = np.dtype(match[1])
    if dtype.kind not in _KINDS:
        raise ValueError(f"it holds {'Python objects' if dtype.hasobject else dtype.name}, not plain numbers")
    return dtype, match[2] == "True", tuple(int(word) for word in match[3].replace(",", " ").split())


def _check_room(dtype: np.dtype, shape: tuple[int, ...], room: int) -> None:
    nbytes: int = prod(shape) * max(dtype.itemsize, 1)
    if nbytes > room:
        raise ValueError(f"an array of shape {shape} needs {nbytes} bytes, and {max(room, 0)} are there")


def _array(stream: IO[bytes]) -> np.ndarray:
    """Read an array into memory of its own; that the stream has room for it has been checked."""
    dtype, is_fortran, shape = _header(stream)
    content = bytearray(prod(shape) * dtype.itemsize)
    view, filled = memoryview(content), 0
    while filled < len(content):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"it ends after {filled} of {len(content)} bytes")
        filled += count
    flat = np.frombuffer(content, dtype) if content else np.empty(prod(shape), dtype)
    return flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("it ends within its header")
    return content
