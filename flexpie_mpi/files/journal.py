"""A file that goes from one whole state to the next, however its writer ends: killed, or on a full disk.

HDF5 replaces the places where it tells what a file holds one by one, and a file that has some of them only is damaged.
So pages that replace older ones are held back until :meth:`Journal.commit`, which writes them behind the end first,
with a sum, then into their places, and cuts them off. What lies behind the end of the last whole state is written at
once, since nothing refers to it yet::

    the last whole state  | new pages | pages to replace, sum     killed before the sum is there: the last state
    pages in their places | new pages | pages to replace, sum     killed from then on: the new state, through the pages
    the next whole state              |                           that stand at the end, which the next writer puts in
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any
from zlib import crc32

from .atomic import lock_content

_PAGE = 4096
_FOOT = struct.Struct("<8sQI4x")
"""A mark, the number of pages, and a sum of all bytes of them and of their numbers; it ends a file with pages left."""
_MARK = b"flexpieJ"
_ENTRY = 8 + _PAGE
"""Bytes of the number of a page and of the page."""


class Journal:
    """An existing file as h5py reads and writes it, in its last whole state and in what is being added to it.

    Parameters
    ----------
    path : Path
    writes : bool
        Whether more than reading is meant.

    Raises
    ------
    DataError
        When another process writes it.

    Attributes
    ----------
    is_abandoned : bool
        Whether nothing is written any more.
    """

    def __init__(self, path: Path, *, writes: bool = False) -> None:
        self._file = open(path, "r+b" if writes else "rb", buffering=0)  # noqa: SIM115  # closed by `close`
        if writes:
            lock_content(self.fileno(), path)
        self._at = 0
        self.is_abandoned = self._is_sealed = False
        self._error: Exception | None = None
        self._lock = Lock()
        self._held = _left(self._file.fileno())
        size = os.fstat(self._file.fileno()).st_size - bool(self._held) * (_FOOT.size + len(self._held) * _ENTRY)
        self._whole = self._size = size if self._held else _whole_pages(size)
        if writes and self._held:
            self._put_in()

    @classmethod
    def left_in(cls, path: str | Path) -> Journal | None:
        """A file whose last writer has left pages at its end, as they make it; None of any other."""
        with open(path, "rb", buffering=0) as file:
            is_left = bool(_left(file.fileno()))
        return cls(Path(path)) if is_left else None

    def fileno(self) -> int:
        """The descriptor: to close another one of the same file would give up a writer's lock."""
        return self._file.fileno()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of a file."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """As of a file."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """As of a file; h5py takes what has no such method for a name."""
        content = self.pread(size if size >= 0 else self._size, self._at)
        self._at += len(content)
        return content

    def readinto(self, memory: Any) -> int:
        """As of a file."""
        view = memoryview(memory).cast("B")
        content = self.read(len(view))
        view[: len(content)] = content
        return len(content)

    def pread(self, size: int, offset: int) -> bytes:
        """As :func:`os.pread`; what has not been written yet is zeros."""
        content = bytearray(os.pread(self.fileno(), max(0, min(size, self._size - offset)), offset))
        content.extend(bytes(max(0, min(size, self._size - offset) - len(content))))
        for page, begin, end in _spans(offset, len(content)):
            if held := self._held.get(page):
                content[begin - offset : end - offset] = held[begin - page * _PAGE : end - page * _PAGE]
        return bytes(content)

    def write(self, memory: Any) -> int:
        """Take bytes. HDF5 bears no errors in here: :meth:`commit` raises the first, after which nothing is taken."""
        view = memoryview(memory).cast("B")
        if not self.is_abandoned:
            try:
                self._take(view, min(len(view), max(0, self._whole - self._at)))
            except Exception as error:
                self._error, self.is_abandoned = error, True
        self._at += len(view)
        self._size = max(self._size, self._at)
        return len(view)

    def truncate(self, size: int) -> None:
        """Let the file be at least so large; it shrinks to whole states only."""
        self._size = max(self._size, size)

    def flush(self) -> None:
        """Nothing: :meth:`commit` makes a state."""

    def commit(self) -> None:
        """Make what was written since the last time the state of the file, in one step; raises OSError."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._size = _whole_pages(self._size)
            pages = b"".join(number.to_bytes(8, "little") + page for number, page in sorted(self._held.items()))
            if pages:
                foot = _FOOT.pack(_MARK, len(self._held), crc32(pages))
                _write(self.fileno(), memoryview(pages + foot), self._size)
            self._put_in()

    def abandon(self) -> None:
        """Write nothing more: the file stays in its last whole state."""
        self.is_abandoned = True

    def close(self) -> None:
        """Close the file, in its last whole state. Another thread may be in the middle of :meth:`commit`."""
        with self._lock, self._file:
            if self._file.writable() and not self._is_sealed and os.fstat(self.fileno()).st_size > self._whole:
                os.ftruncate(self.fileno(), self._whole)

    def _take(self, view: memoryview, replaced: int) -> None:
        """Hold back the first bytes, which replace others, and write those behind."""
        for page, begin, end in _spans(self._at, replaced):
            if page not in self._held:
                self._held[page] = bytearray(self.pread(_PAGE, page * _PAGE).ljust(_PAGE, b"\0"))
            self._held[page][begin - page * _PAGE : end - page * _PAGE] = view[begin - self._at : end - self._at]
        _write(self.fileno(), view[replaced:], self._at + replaced)

    def _put_in(self) -> None:
        """Put the pages at the end of the file into their places; they stand there until all have come."""
        self._is_sealed = True
        for _, run in groupby(enumerate(sorted(self._held)), key=lambda item: item[1] - item[0]):
            numbers = [number for _, number in run]
            _write(self.fileno(), memoryview(b"".join(self._held[n] for n in numbers)), numbers[0] * _PAGE)
        os.ftruncate(self.fileno(), self._size)
        self._held, self._whole, self._is_sealed = {}, self._size, False


def _left(descriptor: int) -> dict[int, bytearray]:
    """The pages by number that a writer has left at the end of a file, if they are all there."""
    size = os.fstat(descriptor).st_size
    foot = os.pread(descriptor, _FOOT.size, max(0, size - _FOOT.size))
    mark, count, said = _FOOT.unpack(foot) if len(foot) == _FOOT.size else (b"", 0, 0)
    begin = size - _FOOT.size - count * _ENTRY
    if mark != _MARK or begin < 0:
        return {}
    content = os.pread(descriptor, count * _ENTRY, begin)
    if crc32(content) != said:
        return {}
    entries = (content[n : n + _ENTRY] for n in range(0, len(content), _ENTRY))
    pages = {int.from_bytes(entry[:8], "little"): bytearray(entry[8:]) for entry in entries}
    return pages if max(pages, default=0) * _PAGE < begin else {}


def _spans(offset: int, size: int) -> Iterator[tuple[int, int, int]]:
    """The pages in a range of bytes: the number of each, and which bytes of the file those in the range are."""
    for page in range(offset // _PAGE, -(-(offset + size) // _PAGE)) if size else ():
        yield page, max(offset, page * _PAGE), min(offset + size, (page + 1) * _PAGE)


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _write(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
