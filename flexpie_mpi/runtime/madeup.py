"""Made-up weights: files of the right sizes on every rank, for runs in which only time counts.

Nothing is read from the model and nothing is sent. Numbers are of the size that real ones have, so that what is
computed from them neither vanishes nor overflows: denormal numbers would take longer than others.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log2, prod
from pathlib import Path

import numpy as np

from ..core.graph import Value
from ..core.region import Region
from ..model import Model
from ..model.shard import Slice, WeightFiles
from ..model.weights import byte_length

_FLOATS = ("float16", "float32", "float64")
_PATTERN = 1 << 17
"""Numbers after which a file repeats itself."""


class MadeUpWeights:
    """Weight files in a folder that the caller removes, made as they are asked for.

    Constants of one magnitude share a file, as long as the longest of them: onnxruntime reads what it needs of it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sizes: dict[str, int] = {}

    def files(self, model: Model, needed: Iterable[Slice]) -> WeightFiles:
        """Files for every slice in `needed` whose data is not in the model's skeleton.

        Raises
        ------
        OSError
            When the folder has no room left.
        """
        names = {piece: self._file(model, *piece) for piece in needed if model.is_stored(piece[0])}
        return WeightFiles(self._folder, names)

    def _file(self, model: Model, constant: str, region: Region | None) -> str:
        value = model.graph.value(constant)
        whole = value.shape or ()
        nbytes = byte_length(model.element_type(constant), whole if region is None else region.shape)
        assert nbytes is not None, "strings stay in the skeleton"
        exponent = magnitude(whole)
        name = f"{value.dtype}{exponent:+d}" if value.dtype in _FLOATS else "zeros"
        if self._sizes.get(name, 0) < nbytes:
            self._sizes[name] = _grow(self._folder / name, _numbers(value, exponent), self._sizes.get(name, 0), nbytes)
        return name


def magnitude(shape: tuple[int, ...]) -> int:
    """Power of two of a weight's typical number: as many inputs as are summed up keep about their size.

    >>> magnitude((64, 64, 3, 3)), magnitude((1000, 4096)), magnitude((64,))
    (-5, -6, -3)
    """
    summed = max(shape) if len(shape) == 2 else prod(shape[1:])
    return round(-log2(max(1, summed)) / 2) if len(shape) > 1 else -3


def _numbers(value: Value, exponent: int) -> bytes:
    """One length of the pattern: normal numbers, positive ones for vectors, which may be scales or variances."""
    if value.dtype not in _FLOATS:
        return bytes(_PATTERN)
    numbers = np.random.default_rng(0).standard_normal(_PATTERN)
    numbers = np.abs(numbers) + 0.1 if len(value.shape or ()) < 2 else numbers
    return (numbers * 2.0**exponent).astype(value.dtype).tobytes()


def _grow(path: Path, pattern: bytes, size: int, needed: int) -> int:
    """Append whole patterns to a file of `size` bytes until it has `needed`; its new size."""
    with path.open("ab") as file:
        while size < needed:
            size += file.write(pattern)
    return size
