"""Files that appear whole or not at all, and files that one process at a time writes.

What is written gets a hidden name beside its own and is then renamed, which the file system does in one step: readers
see the older content or the whole of the new one, also when the writer is killed.

::

    FOLDER/NAME           only ever replaced by renaming
    FOLDER/.XXXX.part     being written by `replacing`
    FOLDER/.NAME.part     being written by the holder of a `LockedFile`
    FOLDER/.NAME.lock     locked by that holder; the lock ends with the process, however that ends
    FOLDER/.new-XXXX/     being written by `publish`, or being deleted by `unpublish`

Whoever gets the lock owns both of its hidden files: what a killed writer leaves, the next one overwrites and removes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.document import reason
from ..core.errors import CostError, DataError

UNFINISHED = ".new-"
"""The names of folders begin so that hold what is not published yet, or not any more."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to inside the block, which becomes `path` when the block ends well, links followed.

    Raises DataError when a file cannot be written there, whatever the block raised for it. Nothing new is then left,
    and an older file stays as it was.
    """
    with explained(path), appearing(_target(path)) as part:
        yield part


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """As :func:`replacing` without its checks and sentences: what the system says goes through."""
    with _gone_afterwards(_beside(target)) as part:
        yield part
        os.replace(part, target)


@contextmanager
def explained(
    path: str | Path, errors: tuple[type[Exception], ...] = (OSError, RuntimeError, TypeError, ValueError)
) -> Iterator[None]:
    """Turn these errors of whoever writes an output inside the block into a sentence that names the file."""
    try:
        yield
    except DataError:
        raise
    except errors as error:
        raise DataError(f"output '{path}' cannot be written: {reason(error)}") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a file as :func:`replacing` does."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def check_replaceable(path: str | Path) -> None:
    """Check that :func:`replacing` could write to `path`, so that a wrong path does not cost a run. Leaves no file.

    Raises DataError when the folder is missing, the path is no file, or a file cannot be made there.
    """
    target = _target(path)
    with explained(path), _gone_afterwards(_beside(target)) as part:
        part.open("xb").close()
        with suppress(FileNotFoundError):
            target.stat()  # a name that the file system does not take


class LockedFile:
    """The right to replace a file, links followed, until closed or killed. The file need not exist, its folder must.

    Raises CostError when another process, or another of these, has the right; or nothing can be written there.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._target = Path(os.path.realpath(path))
        self._part = self._target.with_name(f".{self._target.name}.part")
        self._lock_path = self._target.with_name(f".{self._target.name}.lock")
        with self._explained():
            if self._target.exists() and not self._target.is_file():
                raise OSError("it is a folder or a device, not a file")
            if self._target.exists() and not os.access(self._target, os.W_OK):
                raise OSError("it may not be changed by this user")
            self._lock = _lock_at(self._lock_path)

    @contextmanager
    def replacing(self) -> Iterator[Path]:
        """A path to write to inside the block, which becomes the file, on the disk, when the block ends well.

        Raises CostError when it cannot be written, whatever the block raised for it. The older file then stays as it
        was.
        """
        with self._explained(), _gone_afterwards(self._part) as part:
            yield part
            _to_disk(part)  # or a power cut could leave the new name without its content
            os.replace(part, self._target)
            _to_disk(self._target.parent)

    def close(self) -> None:
        """Let others write; nothing of this writer is left. To be called once."""
        for path in (self._part, self._lock_path):  # still locked, so both are this writer's own
            with suppress(OSError):
                path.unlink(missing_ok=True)
        os.close(self._lock)

    def __enter__(self) -> LockedFile:
        return self

    def __exit__(self, *raised: object) -> None:
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
            raise CostError(f"'{self._path}' cannot be written: {reason(error)}; give another file") from error


def lock_content(descriptor: int, path: Path) -> None:
    """Let this process alone write an open file, as long as no descriptor of it is closed, where there are such locks.

    For a file that grows in its place. Readers are not kept away: HDF5 takes locks of another kind. Raises DataError
    when another process has it.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise DataError(f"output '{path}' is being written by another process: give another name") from error
    except OSError:
        return


def publish(target: Path, write: Callable[[Path], None]) -> Path:
    """Make a file or folder at `target`, unless somebody else is faster; `target`.

    `write` is given a path on the same disk where nothing is yet. What it raises goes through and leaves nothing.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _hidden_folder(target.parent) as folder:
        write(folder / "entry")
        try:
            os.rename(folder / "entry", target)
        except OSError:
            # A folder cannot be renamed over a folder with content (on Windows: nothing over a file).
            if not os.path.lexists(target):
                raise
    return target


def unpublish(path: Path) -> None:
    """Take a file or folder out of sight in one step, then delete it; nothing happens where that cannot be done."""
    with suppress(OSError), _hidden_folder(path.parent) as folder:
        os.rename(path, folder / "entry")


@contextmanager
def _hidden_folder(parent: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _target(path: str | Path) -> Path:
    """The file that `path` means."""
    target = Path(os.path.realpath(path))
    if not os.path.isdir(target.parent):
        raise DataError(f"output '{path}' cannot be written: there is no folder '{target.parent}'")
    if os.path.exists(target) and not os.path.isfile(target):
        kind = "folder" if os.path.isdir(target) else "device"
        raise DataError(f"output '{path}' cannot be written: it is a {kind}, not a file")
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise DataError(f"output '{path}' cannot be written: it exists and may not be changed by this user")
    return target


def _beside(target: Path) -> Path:
    """A name beside the target that nobody else uses: renaming is one step inside one folder."""
    return target.with_name(f".{os.urandom(8).hex()}.part")


@contextmanager
def _gone_afterwards(part: Path) -> Iterator[Path]:
    """The same path, where no file is left after the block."""
    try:
        yield part
    finally:
        with suppress(OSError):
            part.unlink()


def _lock_at(path: Path) -> int:
    """A descriptor of the file now at `path`, locked; made when missing. BlockingIOError when it is locked already."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):  # its owner has removed it since it was opened, and maybe made another
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
