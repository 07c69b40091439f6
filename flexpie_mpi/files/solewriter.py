"""A file that one process at a time writes, and that is whole at any moment.

::

    FOLDER/NAME         only ever replaced by renaming
    FOLDER/.NAME.part   being written
    FOLDER/.NAME.lock   locked by the writer; the lock ends with the process, however that ends

Whoever gets the lock owns both hidden files, so what a killed writer leaves is overwritten, and gone with the next one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from ..core.document import one_line
from ..core.errors import CostError


class SoleWriter:
    """The right to replace a file, until closed or killed.

    Parameters
    ----------
    path : path
        Links are followed. The file need not exist, its folder must.

    Raises
    ------
    CostError
        When another process, or another of these, has the right; or nothing can be written there.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._target = Path(os.path.realpath(path))
        self._part = self._target.with_name(f".{self._target.name}.part")
        self._lock_path = self._target.with_name(f".{self._target.name}.lock")
        with self._explained():
            _check_target(self._target)
            self._lock = _locked(self._lock_path)

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """A path to write to inside the block, which becomes the file when the block ends well.

        Raises
        ------
        CostError
            When it cannot be written, whatever the block raised for it. The older file then stays as it was.
        """
        with self._explained():
            try:
                yield self._part
                _to_disk(self._part)  # or a power cut could leave the new name without its content
                os.replace(self._part, self._target)
                _to_disk(self._target.parent)
            finally:
                self._part.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others write; nothing of this writer is left. To be called once."""
        with suppress(OSError):
            self._part.unlink(missing_ok=True)
        with suppress(OSError):
            self._lock_path.unlink()  # still locked, so it is this writer's own
        os.close(self._lock)

    def __enter__(self) -> SoleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the system says into a sentence that names the file."""
        try:
            yield
        except BlockingIOError as error:
            raise CostError(
                f"'{self._path}' is being written by another process: wait until it ends, or give another file"
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
            raise CostError(f"'{self._path}' cannot be written: {reason}; give another file") from error


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_file():
        raise OSError("it is a folder or a device, not a file")
    if target.exists() and not os.access(target, os.W_OK):
        raise OSError("it may not be changed by this user")


def _locked(path: Path) -> int:
    """A descriptor of the file now at `path`, locked; made when missing.

    Raises
    ------
    BlockingIOError
        When it is locked already.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner removed it between the two lines above


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
