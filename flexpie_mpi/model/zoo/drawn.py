"""The weights of built-in models: drawn out of a seed block by block, and written each at its place in one file.

So a model of any size is written in a few megabytes of memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

INLINE_BYTES = 4096
"""Weights up to this size are stored in the .onnx file itself."""
ALIGNMENT = 4096
"""Bytes that the offset of a tensor in the weights file is a multiple of, so that it can be mapped by pages."""

_DRAWN = 1 << 18
"""Elements drawn at a time: 1 MiB, which stays in the cache between drawing, scaling and writing."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A float32 tensor whose elements are drawn uniformly from ``centre - spread`` to ``centre + spread``.

    The seed is the pair (model, name), so a tensor does not depend on what else the model holds.
    With `is_packed` it is one of bytes, each two numbers of 4 bits from 1 to 15, whose middle is 8.
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
    is_packed: bool = False

    @property
    def size(self) -> int:
        """Number of numbers: elements, or twice the bytes."""
        return prod(self.shape) * (2 if self.is_packed else 1)

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * (1 if self.is_packed else 4)

    @property
    def data_type(self) -> int:
        """As in ``onnx.TensorProto``."""
        return TensorProto.UINT8 if self.is_packed else TensorProto.FLOAT

    def blocks(self) -> Iterator[npt.NDArray[Any]]:
        """The elements in row-major order, a block at a time; each block is valid until the next one."""
        seed = hashlib.blake2b(f"{self.model}/{self.name}".encode(), digest_size=16).digest()
        generator = np.random.Generator(np.random.SFC64(int.from_bytes(seed, "little")))
        if self.is_packed:
            yield _pairs(generator, self.nbytes)
            return
        length = max(1, _DRAWN // self.row) * self.row if self.row else _DRAWN
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


def inlined(weight: Weight) -> TensorProto:
    """A weight that the .onnx file holds."""
    return helper.make_tensor(weight.name, weight.data_type, weight.shape, weight.tobytes(), raw=True)


def reference(weight: Weight, offset: int) -> TensorProto:
    """A weight that is at an offset of the weights file."""
    tensor = TensorProto(
        name=weight.name, data_type=weight.data_type, dims=weight.shape, data_location=TensorProto.EXTERNAL
    )
    entries = {"location": f"{weight.model}.weights", "offset": offset, "length": weight.nbytes}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def placed(weights: Iterable[Weight]) -> Iterator[tuple[Weight, int]]:
    """Each weight with its byte offset in the weights file."""
    offset = 0
    for weight in weights:
        yield weight, offset
        offset += -(-weight.nbytes // ALIGNMENT) * ALIGNMENT


def write_weights(weights: Iterable[Weight], file: BinaryIO) -> None:
    """Stream weights into a binary file, each at its offset of :func:`placed`."""
    for weight, offset in placed(weights):
        file.seek(offset)
        for block in weight.blocks():
            file.write(_little_endian(block).data)


def _little_endian(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return block.astype(block.dtype.newbyteorder("<"), copy=False)


def _pairs(generator: np.random.Generator, count: int) -> npt.NDArray[np.uint8]:
    """Bytes of two numbers from 1 to 15."""
    low, high = (1 + np.frombuffer(generator.bytes(count), np.uint8) % 15 for _ in range(2))
    return (16 * high + low).astype(np.uint8)
