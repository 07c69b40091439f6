"""Whether an array may be used as an input of the graph."""

from __future__ import annotations

import numpy as np

from ..core.errors import DataError
from ..core.graph import ITEM_BYTES, Value
from .offers import Offer


def conform(array: np.ndarray, value: Value, source: str) -> np.ndarray:
    """`array` as `value` wants it: the same shape, its type, contiguous.

    Numbers may change their width and not their kind: floats stay floats and integers integers, and a finite number
    must not leave the range of the narrower type. Infinities and NaN are values like others.

    Parameters
    ----------
    array : ndarray
    value : Value
        An input of the graph.
    source : str
        Where the array comes from, for the sentence of an error.

    Raises
    ------
    DataError
        When the shape, the type or the range does not fit.
    """
    check_fits(array, value, source)
    wanted = wanted_dtype(value)
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)
    if not _same_range(array, result):
        raise DataError(f"{source} holds numbers that do not fit into {wanted.name}, the type of input '{value.name}'")
    return result


def check_fits(offer: Offer | np.ndarray, value: Value, source: str) -> None:
    """Check that an array, which may be unread, has the shape and the kind of numbers that an input wants.

    Raises
    ------
    DataError
    """
    if value.shape is not None and offer.shape != value.shape:
        raise DataError(
            f"{source} has shape {_shape(offer.shape)} and input '{value.name}' wants {_shape(value.shape)}"
        )
    wanted = wanted_dtype(value)
    if _family(offer.dtype) != _family(wanted):
        raise DataError(
            f"{source} holds {offer.dtype.name} and input '{value.name}' wants {wanted.name}: convert it, "
            "numbers are not changed from one kind to another here"
        )


def wanted_dtype(value: Value) -> np.dtype:
    """The numpy type of an input.

    Raises
    ------
    DataError
        When numpy has no such type, as for bfloat16 and strings.
    """
    if value.dtype not in ITEM_BYTES:
        raise DataError(f"input '{value.name}' is of type {value.dtype}, which cannot be read from files")
    return np.dtype(value.dtype)


def _family(dtype: np.dtype) -> str:
    return {"i": "integer", "u": "integer"}.get(dtype.kind, dtype.kind)


def _same_range(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether no number left the range of its new type."""
    if np.can_cast(before.dtype, after.dtype):
        return True
    if after.dtype.kind == "f":
        return bool((np.isfinite(before) == np.isfinite(after)).all())
    limits = np.iinfo(after.dtype)
    return before.size == 0 or (int(before.min()) >= limits.min and int(before.max()) <= limits.max)


def _shape(shape: tuple[int, ...]) -> str:
    """A shape as users write it: 1,3,224,224."""
    return ",".join(map(str, shape)) if shape else "() (a single number)"
