"""The outputs of a request into one file, which appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..core.errors import DataError
from ..core.graph import ITEM_BYTES, WIDER, Value
from .atomic import check_replaceable, replacing
from .hdf5 import write_hdf5
from .npz import write_npz

SUFFIXES = (".npz", ".h5", ".hdf5")


_CODES = ("float8_e4m3fn",)
"""Types that numpy does not have, of which onnxruntime gives the bytes."""

_UNSURE = ("optional", "undefined")
"""Types that may turn out to be tensors."""


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


def check_holdable(path: str | Path, outputs: Iterable[Value]) -> list[str]:
    """What is to be said, before a run, of outputs that a file does not hold, or not in their own type.

    Parameters
    ----------
    path : path
        Of the file.
    outputs : iterable of Value
        All outputs of the model.

    Returns
    -------
    list of str
        A sentence for each that is left out or widened.

    Raises
    ------
    DataError
        When the file would hold none of them.
    """
    outputs = list(outputs)
    left = [value for value in outputs if not is_holdable(value)]
    if left and len(left) == len(outputs):
        what = ", ".join(f"'{value.name}' is of type {value.dtype}" for value in left)
        raise DataError(
            f"output '{path}' could hold nothing: {what}, and files hold tensors of numbers or strings: leave it out"
        )
    said = [f"output '{value.name}' is of type {value.dtype} and is not written to '{path}'" for value in left]
    return said + [
        f"output '{value.name}' is of type {value.dtype}, and is written to '{path}' as {WIDER[value.dtype]}"
        for value in outputs
        if value.dtype in WIDER
    ]


def save_outputs(
    path: str | Path,
    outputs: Mapping[str, object],
    provenance: Mapping[str, str | int | float] | None = None,
    types: Mapping[str, str] | None = None,
) -> None:
    """Write named outputs to ``.npz`` or ``.h5`` under exactly their names, replacing an older file.

    Parameters
    ----------
    path : path
    outputs : mapping of name to array
        Numbers, bools or strings.
    provenance : mapping, optional
        What the outputs come from; stored as attributes in ``.h5``.
    types : mapping, optional
        The model's own types of outputs that come in a wider one; stored as attributes in ``.h5``.

    Raises
    ------
    DataError
        When the path cannot be written or an output is no tensor. An older file then stays as it was.
    """
    _check_suffix(path)
    arrays, said = holdable(outputs)
    if said:
        raise DataError(said[0])
    with replacing(path) as part:
        if Path(path).suffix.lower() == ".npz":
            with part.open("xb") as stream:
                write_npz(stream, arrays)
        else:
            write_hdf5(part, arrays, provenance or {}, types or {})


def holdable(outputs: Mapping[str, object]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those outputs that a file can hold, as arrays, and a sentence for each of the others."""
    arrays = {name: _array(value) for name, value in outputs.items()}
    held = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
    return held, [f"output '{name}' {what}" for name, what in arrays.items() if isinstance(what, str)]


def widened_types(outputs: Iterable[Value]) -> dict[str, str]:
    """The model's own types, by name, of outputs that come in a wider one."""
    return {value.name: value.dtype for value in outputs if value.dtype in WIDER}


def is_holdable(value: Value) -> bool:
    """Whether a file can hold an output, as far as its type says."""
    dtype = value.dtype
    return dtype in ITEM_BYTES or dtype in WIDER or dtype in ("string", *_CODES, *_UNSURE)


def _check_suffix(path: str | Path) -> None:
    suffix = Path(path).suffix
    if suffix.lower() not in SUFFIXES:
        raise DataError(f"output '{path}' has the ending '{suffix}': choose one of {', '.join(SUFFIXES)}")


def _array(value: object) -> np.ndarray | str:
    """An output as an array that files can hold, or why there is none."""
    array = np.asarray(value) if isinstance(value, (np.ndarray, np.generic)) else None
    if array is not None and array.dtype == object and all(isinstance(item, str) for item in array.flat):
        if any("\0" in item for item in array.flat):
            return "has text with a character 0, which no file can hold"
        return array.astype(np.str_)
    if array is None or array.dtype.kind not in "biufcU":
        what = type(value).__name__ if array is None else f"tensor of {array.dtype.name}"
        return f"is a {what}, which no file can hold: only tensors of numbers or strings"
    return array
