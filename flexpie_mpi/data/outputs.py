"""The outputs of a request into one file, which appears whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ..errors import DataError
from .files import one_line
from .hdf5 import write_hdf5
from .npz import write_npz

SUFFIXES = (".npz", ".h5", ".hdf5")


def check_writable(path: str | Path) -> None:
    """Check that :func:`save_outputs` could write to `path`. Leaves no file.

    To be called before any work, so that a wrong path does not cost a run.

    Raises
    ------
    DataError
        When the ending is unknown, the folder is missing, or a file cannot be made there.
    """
    target = _target(path)
    with _part(path, target) as part:
        part.open("xb").close()
        with suppress(FileNotFoundError):
            target.stat()  # a name that the file system does not take


def save_outputs(
    path: str | Path, outputs: Mapping[str, object], provenance: Mapping[str, str | int | float] | None = None
) -> None:
    """Write named outputs to ``.npz`` or ``.h5`` under exactly their names, replacing an older file.

    Parameters
    ----------
    path : path
    outputs : mapping of name to array
        Numbers, bools or strings.
    provenance : mapping, optional
        What the outputs come from; stored as attributes in ``.h5``.

    Raises
    ------
    DataError
        When the path cannot be written or an output is no tensor. An older file then stays as it was.
    """
    target = _target(path)
    arrays = {name: _array(name, value) for name, value in outputs.items()}
    with _part(path, target) as part:
        if Path(path).suffix.lower() == ".npz":
            with part.open("xb") as stream:
                write_npz(stream, arrays)
        else:
            write_hdf5(part, arrays, provenance or {})
        os.replace(part, target)


def _target(path: str | Path) -> Path:
    """The file that `path` means, links followed."""
    suffix, target = Path(path).suffix, Path(os.path.realpath(path))
    if suffix.lower() not in SUFFIXES:
        raise DataError(f"output '{path}' has the ending '{suffix}': choose one of {', '.join(SUFFIXES)}")
    if not os.path.isdir(target.parent):
        raise DataError(f"output '{path}' cannot be written: there is no folder '{target.parent}'")
    if os.path.exists(target) and not os.path.isfile(target):
        raise DataError(f"output '{path}' is a {'folder' if os.path.isdir(target) else 'device'}, not a file")
    if os.path.exists(target) and not os.access(target, os.W_OK):
        raise DataError(f"output '{path}' exists and may not be changed by this user")
    return target


@contextmanager
def _part(path: str | Path, target: Path) -> Iterator[Path]:
    """A file name beside the target that nobody else uses (renaming is atomic inside one folder); gone afterwards."""
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield part
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise DataError(f"output '{path}' cannot be written: {reason}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def _array(name: str, value: object) -> np.ndarray:
    """An output as an array that files can hold."""
    array = np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else None
    if array is not None and array.dtype == object and all(isinstance(item, str) for item in array.flat):
        return array.astype(np.str_)
    if array is None or array.dtype.kind not in "biufcU":
        what = type(value).__name__ if array is None else f"tensor of {array.dtype.name}"
        raise DataError(f"output '{name}' is a {what}, which no file can hold: only tensors of numbers or strings")
    return array
