"""The outputs of a request into one file, which appears whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import DataError
from .hdf5 import write_hdf5
from .npz import write_npz
from .replacing import check_replaceable, replacing

SUFFIXES = (".npz", ".h5", ".hdf5")


def check_writable(path: str | Path) -> None:
    """Check that :func:`save_outputs` could write to `path`. Leaves no file.

    To be called before any work, so that a wrong path does not cost a run.

    Raises
    ------
    DataError
        When the ending is unknown, the folder is missing, or a file cannot be made there.
    """
    _check_suffix(path)
    check_replaceable(path)


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
    _check_suffix(path)
    arrays = {name: as_array(name, value) for name, value in outputs.items()}
    with replacing(path) as part:
        if Path(path).suffix.lower() == ".npz":
            with part.open("xb") as stream:
                write_npz(stream, arrays)
        else:
            write_hdf5(part, arrays, provenance or {})


def _check_suffix(path: str | Path) -> None:
    suffix = Path(path).suffix
    if suffix.lower() not in SUFFIXES:
        raise DataError(f"output '{path}' has the ending '{suffix}': choose one of {', '.join(SUFFIXES)}")


def as_array(name: str, value: object) -> np.ndarray:
    """An output as an array that files can hold."""
    array = np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else None
    if array is not None and array.dtype == object and all(isinstance(item, str) for item in array.flat):
        return array.astype(np.str_)
    if array is None or array.dtype.kind not in "biufcU":
        what = type(value).__name__ if array is None else f"tensor of {array.dtype.name}"
        raise DataError(f"output '{name}' is a {what}, which no file can hold: only tensors of numbers or strings")
    return array
