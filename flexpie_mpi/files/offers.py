"""Arrays that files offer: described before they are read, weighed, and read only where they fit an input.

Files of other people are read in three steps, and every failure is one sentence: the file is looked at
(:func:`check_readable`, :func:`reading`), what it says of its arrays becomes offers, and :meth:`Offer.fitted` loads an
offer as an input of the graph wants it. Only what is wanted ever takes memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from ..core.budget import Budget
from ..core.document import one_line
from ..core.errors import DataError
from ..core.graph import ITEM_BYTES, Value


def check_readable(path: Path) -> None:
    """Check that `path` is a file that can be opened, and neither a folder nor a device; raises DataError."""
    if not os.path.exists(path):
        raise DataError(f"input file '{path}' does not exist")
    if not os.path.isfile(path):
        raise DataError(f"input '{path}' is a {'folder' if path.is_dir() else 'device'}, not a file")
    if not os.access(path, os.R_OK):
        raise DataError(f"input file '{path}' may not be read by this user")


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises inside the block into a :class:`DataError` that names the file.

    The net is wide on purpose: on damaged bytes, decoders raise what the libraries below them raise.
    """
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(
            f"'{path}' says that it holds more than fits into memory: it is damaged or too large"
        ) from error
    except Exception as error:
        raise DataError(f"'{path}' cannot be read as {kind}: {one_line(error)}") from error


@dataclass(frozen=True, slots=True)
class Offer:
    """An array that has not been read."""

    shape: tuple[int, ...]
    dtype: np.dtype  # that of texts has no length
    load: Callable[[], np.ndarray]  # reads the array; raises DataError where that fails

    @property
    def nbytes(self) -> int:
        """Bytes of the array in memory; of texts, at least one for each."""
        return prod(self.shape) * max(self.dtype.itemsize, 1)

    def fitted(self, value: Value, source: str, budget: Budget) -> np.ndarray:
        """The array as an input of the graph wants it: the same shape, its type, contiguous.

        Numbers may change their width and not their kind: floats stay floats and integers integers, and a finite
        number must not leave the range of the narrower type. Infinities and NaN are values like others. The budget
        is for the array as it is stored. Raises DataError when the array cannot be read or is too large, or its shape,
        type or range does not fit; the sentence calls what it comes from `source`.
        """
        _check_fits(self.shape, self.dtype, value, source)
        budget.admit(self.nbytes, f"{source}, for input '{value.name}',", DataError)
        array = self.load()
        _check_fits(array.shape, array.dtype, value, source)  # the file may have changed meanwhile
        wanted = wanted_dtype(value)
        with np.errstate(over="ignore"):
            result = np.ascontiguousarray(array, dtype=wanted).reshape(array.shape)
        if not _same_range(array, result):
            raise DataError(
                f"{source} holds numbers that do not fit into {wanted.name}, the type of input '{value.name}'"
            )
        return result


def _check_fits(shape: tuple[int, ...], dtype: np.dtype, value: Value, source: str) -> None:
    """Check that an array has the shape and the kind of numbers that an input wants; raises DataError."""
    if value.shape is not None and shape != value.shape:
        raise DataError(f"{source} has shape {_shape(shape)} and input '{value.name}' wants {_shape(value.shape)}")
    wanted = wanted_dtype(value)
    if dtype.kind.replace("u", "i") != wanted.kind.replace("u", "i"):
        raise DataError(
            f"{source} holds {dtype.name} and input '{value.name}' wants {wanted.name}: convert it, "
            "numbers are not changed from one kind to another here"
        )


def wanted_dtype(value: Value) -> np.dtype:
    """The numpy type of an input; DataError where numpy has none, as for bfloat16 and strings."""
    if value.dtype not in ITEM_BYTES:
        raise DataError(f"input '{value.name}' is of type {value.dtype}, which cannot be read from files")
    return np.dtype(value.dtype)


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
