"""A folder of content-keyed entries that outlives a run: prepared models on root, slices of weights on every rank.

::

    FOLDER/KIND/KEY           an entry, a file or a folder; its modification time says when it was last used
    FOLDER/KIND/KEY.sum       a sum over its bytes; of a folder it is inside, `.sum`
    FOLDER/KIND/.new-XXXX     an entry being written, renamed into place when it is whole

Entries never change, so a reader needs no lock. Keys describe content: whoever stores a key first wins. What a disk
has changed of an entry is found by its sum, when a process is about to use it for the first time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from zlib import crc32

from ..core.errors import CacheError
from .atomic import UNFINISHED, appearing, publish, unpublish

log = logging.getLogger(__name__)
T = TypeVar("T")

DEFAULT_LIMIT_BYTES = 8 << 30
IN_USE_S = 600.0
"""Entries used this recently may be about to be opened by another process and are never removed."""
ABANDONED_S = 86400.0
"""An unfinished entry this old belongs to a process that is gone."""

_SUM = ".sum"
_BLOCK_BYTES = 1 << 18
"""So many bytes are read at once for a sum: what the processor's cache holds."""

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class Cache:
    """Entries in a folder, oldest use removed first when they exceed a size.

    Parameters
    ----------
    folder : Path or None
        Made when missing. None disables the cache: entries go to a private temporary folder that is removed by
        :meth:`close`, or when the process ends. A folder that cannot be written to does the same, with a warning.
    limit_bytes : int
        Size that :meth:`prune` keeps the folder under.
    """

    def __init__(self, folder: Path | None, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._mine: set[Path] = set()
        self._unpruned_bytes = limit_bytes
        self._private: Path | None = None
        self._cleanup: weakref.finalize | None = None

    @classmethod
    def default(cls) -> Cache:
        """The user's cache: ``$FLEXPIE_CACHE``, else ``$XDG_CACHE_HOME/flexpie-mpi``, else ``~/.cache/flexpie-mpi``.

        Raises CacheError when ``$FLEXPIE_CACHE_BYTES`` is not a number of bytes.
        """
        text = os.environ.get("FLEXPIE_CACHE_BYTES", "").strip()
        if text and not text.isdecimal():
            raise CacheError(f"FLEXPIE_CACHE_BYTES is '{text}': give the size limit of the cache as a number of bytes.")
        return cls(_default_folder(), int(text) if text else DEFAULT_LIMIT_BYTES)

    @property
    def folder(self) -> Path | None:
        """Where entries are kept between runs; None when the cache is disabled."""
        return self._folder

    def find(self, kind: str, key: str, *, checks: bool = True) -> Path | None:
        """An existing entry, which counts as used now; None when there is none, or only one that was damaged.

        With `checks` all of its bytes are read, the first time; without, the caller sees to it that they are right.
        """
        entry = _entry(kind, key)
        for folder in (self._folder, self._private):
            if folder is not None and os.path.lexists(path := folder / entry):
                if checks and path not in self._mine and not _is_whole(path):
                    log.warning("cache entry %s is damaged, or of an older version: it is made again", path)
                    _remove(path)
                    continue
                self._mine.add(path)
                with contextlib.suppress(OSError):
                    os.utime(path)
                return path
        return None

    def store(self, kind: str, key: str, write: Callable[[Path], None]) -> Path:
        """Make an entry and return its path.

        `write` is given a path that does not exist yet and makes a file or a folder there. It becomes visible under
        its key in one step and only when `write` returns. When another process stored the key meanwhile, its entry
        is the one returned. What `write` raises goes through to the caller and leaves nothing behind.
        """
        entry = _entry(kind, key)
        if self._folder is not None:
            try:
                path = _publish(self._folder / entry, write)
                self._mine.add(path)
                # Looking at every entry takes a while: it is done at the first store and then per share of the limit.
                self._unpruned_bytes += _size(path)
                if self._unpruned_bytes * 64 >= self._limit_bytes:
                    self.prune()
                return path
            except OSError as error:
                log.warning("cache folder %s cannot be used (%s); going on without a cache", self._folder, error)
                self._folder = None
        if self._private is None:
            self._private = Path(tempfile.mkdtemp(prefix="flexpie-mpi-"))
            self._cleanup = weakref.finalize(self, shutil.rmtree, self._private, ignore_errors=True)
        return _publish(self._private / entry, write)

    def discard(self, kind: str, key: str) -> None:
        """Remove an entry that turned out to be damaged; nothing happens when it is gone or cannot be removed."""
        path = self.find(kind, key, checks=False)
        if path is not None:
            self._mine.discard(path)
            _remove(path)

    def prune(self) -> None:
        """Remove the entries used longest ago until the folder is under its limit.

        Entries that this process stored or found stay, and so do those used in the last ten minutes, which other
        ranks on the same machine may be about to open.
        """
        if self._folder is None:
            return
        self._unpruned_bytes = 0
        entries = sorted(_entries(self._folder))
        excess = sum(nbytes for _, _, nbytes in entries) - self._limit_bytes
        recent = time.time() - IN_USE_S
        for used_s, path, nbytes in entries:
            if excess <= 0:
                return
            if path not in self._mine and used_s < recent:
                _remove(path)
                excess -= nbytes

    def close(self) -> None:
        """Remove what a disabled cache has kept; entries of a cache folder stay."""
        if self._cleanup is not None:
            self._cleanup()
        self._private = self._cleanup = None

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class NextStart:
    """Entries under one key that serve the next start and no more: one that cannot be read or kept is a warning.

    The warnings name `what` entries hold, and what is done `anew` without them.
    """

    def __init__(self, cache: Cache, key: str, what: str, anew: str) -> None:
        self._cache, self._key, self._what, self._anew = cache, key, what, anew

    def read(self, kind: str, read: Callable[[Path], T]) -> T | None:
        """What `read` makes of an entry; None where there is none, or none that is of use."""
        path = self._cache.find(kind, self._key)
        try:
            return None if path is None else read(path)
        except Exception as error:  # whatever the file's libraries raise
            self.forget(kind, error)
            return None

    def put(self, kind: str, write: Callable[[Path], None]) -> None:
        """Put what `write` makes in the place of an older entry."""
        try:
            self._cache.discard(kind, self._key)
            self._cache.store(kind, self._key, write)
        except Exception as error:  # as above
            log.warning("%s is not kept for the next start: %s", self._what, error)

    def forget(self, kind: str, error: Exception) -> None:
        """Remove an entry that is of no use."""
        log.warning("%s anew: %s", self._anew, error)
        self._cache.discard(kind, self._key)


def _default_folder() -> Path | None:
    if chosen := os.environ.get("FLEXPIE_CACHE"):
        return Path(chosen).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "flexpie-mpi"
    try:
        return Path.home() / ".cache" / "flexpie-mpi"
    except RuntimeError:
        return None


def _entry(kind: str, key: str) -> Path:
    """The path of an entry inside a folder."""
    for word in (kind, key):
        if not _SAFE.fullmatch(word):
            raise ValueError(f"'{word}' cannot name a cache entry: letters, digits, '.', '_' and '-' only")
    return Path(kind, key)


def _publish(target: Path, write: Callable[[Path], None]) -> Path:
    """Make an entry at `target`, which appears after its sum."""

    def write_both(path: Path) -> None:
        write(path)
        if path.is_dir():
            _sum_path(path).write_text(_sum(path))
        else:
            with appearing(_sum_path(target)) as part:
                part.write_text(_sum(path))

    return publish(target, write_both)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        _sum_path(path).unlink()
    unpublish(path)


def _is_whole(path: Path) -> bool:
    try:
        return _sum_path(path).read_text() == _sum(path)
    except (OSError, UnicodeError):
        return False


def _sum_path(path: Path) -> Path:
    return path / _SUM if path.is_dir() else path.with_name(path.name + _SUM)


def _sum(path: Path) -> str:
    """A sum over the bytes of a file, or over those of all files in a folder and their names."""
    total, block = 0, memoryview(bytearray(_BLOCK_BYTES))
    for item in sorted(path.rglob("*")) if path.is_dir() else (path,):
        if item.is_file() and item.name != _SUM:
            total = crc32(str(item.relative_to(path)).encode(), total)
            with item.open("rb", buffering=0) as file:
                while count := file.readinto(block):
                    total = crc32(block[:count], total)
    return f"{total:08x}"


def _entries(folder: Path) -> Iterator[tuple[float, Path, int]]:
    """(time of its last use, path, bytes) of every finished entry; what gone processes left is removed on the way."""
    for path in folder.glob("*/*"):
        with contextlib.suppress(OSError):  # another process may remove it under our eyes
            used_s = path.stat().st_mtime
            if not path.name.startswith(UNFINISHED) and path.suffix != _SUM:
                yield used_s, path, _size(path)
            elif used_s < time.time() - ABANDONED_S and (path.suffix != _SUM or not path.with_suffix("").exists()):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
