"""Weights out of a seed: drawn block by block, so that a model of any size is written in a few megabytes of memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

ALIGNMENT = 4096
"""Bytes that the offset of a tensor in the weights file is a multiple of, so that it can be mapped by pages."""

_BLOCK = 1 << 18
"""Elements drawn at a time: 1 MiB, which stays in the cache between drawing, scaling and writing."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A float32 tensor whose elements are drawn uniformly from ``centre - spread`` to ``centre + spread``.

    The seed is the pair (model, name), so a tensor does not depend on what else the model holds.
    With `row`, each run of that many elements is moved halfway to having exactly the mean `centre`.
    `is_parameter` is False for what training does not learn by gradient (running mean and variance), which
    published parameter counts leave out.
    """

    model: str
    name: str
    shape: tuple[int, ...]
    centre: float
    spread: float
    row: int = 0
    is_parameter: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return 4 * self.size

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """The elements in row-major order, a block at a time; each block is valid until the next one."""
        seed = hashlib.blake2b(f"{self.model}/{self.name}".encode(), digest_size=16).digest()
        generator = np.random.Generator(np.random.SFC64(int.from_bytes(seed, "little")))
        length = max(1, _BLOCK // self.row) * self.row if self.row else _BLOCK
        buffer = np.empty(min(self.size, length), np.float32)
        for start in range(0, self.size, length):
            block = buffer[: self.size - start]
            generator.random(dtype=np.float32, out=block)
            if self.row:
                # Draws are multiples of 2**-24, so their sums in float64 are exact: the same bytes on every machine.
                rows = block.reshape(-1, self.row)
                rows -= ((rows.mean(axis=1, keepdims=True, dtype=np.float64) + 0.5) / 2).astype(np.float32)
            else:
                block -= np.float32(0.5)
            block *= np.float32(2 * self.spread)
            block += np.float32(self.centre)
            yield block

    def tobytes(self) -> bytes:
        """All elements, little-endian."""
        return b"".join(_little_endian(block).tobytes() for block in self.blocks())


def place(weights: Iterable[Weight]) -> Iterator[tuple[Weight, int]]:
    """Each weight with its byte offset in the weights file."""
    offset = 0
    for weight in weights:
        yield weight, offset
        offset += -(-weight.nbytes // ALIGNMENT) * ALIGNMENT


def write(weights: Iterable[Weight], file: BinaryIO) -> None:
    """Stream weights into a binary file, each at its offset of `place`."""
    for weight, offset in place(weights):
        file.seek(offset)
        for block in weight.blocks():
            file.write(_little_endian(block).data)


def _little_endian(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return block.astype("<f4", copy=False)
