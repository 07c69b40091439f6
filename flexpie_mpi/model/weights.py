"""Where the bytes of weights are, and how to read a region of one without reading the rest."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..core.errors import ModelError
from ..core.graph import PACKED_BITS
from ..core.region import Bounds, Region

_BLOCK_BYTES = 1 << 20
"""Bytes read at a time where a region is made of runs too short to be read one by one."""
_RUN_BYTES = 4096

MOST_AXES = 32
"""Of a tensor: numpy 1 knows no more."""
_MOST_ELEMENTS = 1 << 60

EXTERNAL = onnx.TensorProto.EXTERNAL
_UNSIZED = ("STRING", "UNDEFINED")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor whose little-endian row-major bytes are `length` bytes of a file, beginning at byte `offset`."""

    data_type: int  # as in ``onnx.TensorProto``
    shape: tuple[int, ...]
    path: Path
    offset: int
    length: int

    def read_bytes(self) -> bytes:
        """All of the bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


@dataclass(frozen=True)
class Source:
    """A model as read from a file."""

    proto: onnx.ModelProto  # large initializers have no data, only the external data entries "digest" and "source"
    # Where the bytes of those initializers are, by "source": their name in the file
    stored: dict[str, StoredTensor] = field(default_factory=dict)

    def large(self) -> dict[str, StoredTensor]:
        """The initializers without data and where their bytes are, by the name that they have now."""
        stubs = (tensor for tensor in self.proto.graph.initializer if tensor.data_location == EXTERNAL)
        return {tensor.name: self.stored[stub_entries(tensor)["source"]] for tensor in stubs}


class WeightStore:
    """Weights on the rank that loaded the model, read from their files when asked for.

    `keeper` is whatever owns the files, and lives as long as the store.
    """

    def __init__(self, tensors: Mapping[str, StoredTensor], keeper: object = None) -> None:
        self._tensors = tensors
        self._keeper = keeper

    def check(self, name: str, digest: str) -> None:
        """Check that a weight has still the content of this digest, all of which is read; raises ModelError."""
        tensor = self._tensors[name]
        try:
            is_same = digest_of(tensor) == digest
        except OSError as error:
            raise ModelError(f"Weight '{name}' cannot be read from {tensor.path}: {error}.") from error
        if not is_same:
            raise ModelError(
                f"Weight '{name}' is damaged, or has been changed, in {tensor.path}: remove that file, if it is in the "
                "cache, and start again."
            )

    def read(self, name: str, region: Region | None = None) -> np.ndarray:
        """A region of a weight (all of it when None), contiguous, of the region's shape.

        Reads little more than the bytes of the region and holds nothing else in memory, except that types of less than
        a byte per element are read whole.

        Raises ModelError when the file is gone or has become shorter.
        """
        tensor = self._tensors[name]
        region = Region.full(tensor.shape) if region is None else region
        try:
            with tensor.path.open("rb", buffering=0) as file:
                return _read(file, tensor, region)
        except (OSError, EOFError) as error:
            raise ModelError(f"Weight '{name}' cannot be read from {tensor.path}: {error}.") from error


def _read(file: IO[bytes], tensor: StoredTensor, region: Region) -> np.ndarray:
    if dtype_name(tensor.data_type) in PACKED_BITS:
        raw = _read_into(file, tensor.offset, np.empty(tensor.length, np.uint8))
        proto = onnx.TensorProto(raw_data=raw.tobytes(), data_type=tensor.data_type, dims=tensor.shape)
        whole = numpy_helper.to_array(proto)
        return np.ascontiguousarray(whole[region.slices(Region.full(tensor.shape))])
    out = np.empty(region.shape, numpy_dtype(tensor.data_type))
    if out.size:
        _fill(file, tensor.offset, tensor.shape, region.bounds, out)
    return out


def _fill(file: IO[bytes], offset: int, shape: tuple[int, ...], bounds: tuple[Bounds, ...], out: np.ndarray) -> None:
    """Read the box `bounds` of an array of `shape` that begins at byte `offset` into `out`.

    The last axis that is cut makes the box a number of contiguous runs. Long runs are read one by one; short ones by
    reading blocks of whole rows and taking out what is wanted.
    """
    cut = max((axis for axis, (lo, hi) in enumerate(bounds) if (lo, hi) != (0, shape[axis])), default=0)
    row_bytes = prod(shape[1:]) * out.itemsize
    lo, hi = bounds[0] if bounds else (0, 1)
    if cut == 0:
        _read_into(file, offset + lo * row_bytes, out)
    elif prod(out.shape[cut:]) * out.itemsize >= _RUN_BYTES or row_bytes > _BLOCK_BYTES:
        for row in range(lo, hi):
            _fill(file, offset + row * row_bytes, shape[1:], bounds[1:], out[row - lo])
    else:
        inner = tuple(slice(*pair) for pair in bounds[1:])
        rows = max(1, _BLOCK_BYTES // row_bytes)
        for begin in range(lo, hi, rows):
            block = np.empty((min(rows, hi - begin), *shape[1:]), out.dtype)
            _read_into(file, offset + begin * row_bytes, block)
            out[begin - lo : begin - lo + len(block)] = block[(slice(None), *inner)]


def _read_into(file: IO[bytes], offset: int, out: np.ndarray) -> np.ndarray:
    """Fill a contiguous array with the bytes from `offset` on."""
    view = memoryview(out.reshape(-1).view(np.uint8).data)
    file.seek(offset)
    done = 0
    while done < len(view):
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError(f"the file ends {len(view) - done} bytes too early")
        done += count
    return out


def mapped(tensor: StoredTensor) -> np.ndarray:
    """A tensor as a read-only memory map, for readers that want an array but touch little or all of it only once.

    Its file is closed again: a model may have more weights than a process may have open files.

    Raises ModelError when the file is gone or has become shorter.
    """
    dtype = numpy_dtype(tensor.data_type)
    if not prod(tensor.shape):
        return np.empty(tensor.shape, dtype)
    before = tensor.offset % mmap.ALLOCATIONGRANULARITY
    try:
        with tensor.path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < tensor.offset + tensor.length:
                raise EOFError("the file ends too early")
            memory = _map(file.fileno(), tensor.offset - before, before + tensor.length)
    except (OSError, EOFError) as error:
        raise ModelError(f"A weight cannot be read from {tensor.path}: {error}.") from error
    array = np.frombuffer(memoryview(memory), dtype, prod(tensor.shape), before).reshape(tensor.shape)
    array.flags.writeable = False
    return array


def _map(file: int, offset: int, length: int) -> ctypes.Array[ctypes.c_ubyte]:
    """A part of an open file in memory, until nobody refers to it any more.

    Python's own maps each keep a descriptor of the file open, before Python 3.13 always.
    """
    system = ctypes.CDLL(None, use_errno=True)
    system.mmap.restype = ctypes.c_void_p
    system.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    system.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    address = system.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, file, offset)
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    memory = (ctypes.c_ubyte * length).from_address(address)
    weakref.finalize(memory, system.munmap, address, length).atexit = False
    return memory


def stub(tensor: onnx.TensorProto, digest: str, **entries: str) -> None:
    """Take the data out of a tensor and leave a digest of it, and other entries, in its place."""
    for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "external_data"):
        tensor.ClearField(name)  # type: ignore[arg-type]
    tensor.data_location = EXTERNAL
    for key, value in {**entries, "digest": digest}.items():
        tensor.external_data.add(key=key, value=value)


def moved(tensor: onnx.TensorProto, raw: bytes, file: Path) -> StoredTensor:
    """Where the bytes of a tensor are, once they are written behind those of a file; the tensor becomes a stub."""
    with file.open("ab") as target:
        offset = target.seek(0, os.SEEK_END)
        target.write(raw)
    stub(tensor, digest_bytes(tensor.data_type, tensor.dims, raw), source=tensor.name)
    return StoredTensor(tensor.data_type, tuple(tensor.dims), file, offset, len(raw))


def stub_entries(tensor: onnx.TensorProto) -> dict[str, str]:
    """The external data entries of a tensor."""
    return {entry.key: entry.value for entry in tensor.external_data}


def digest_of(tensor: StoredTensor) -> str:
    """Content digest (blake2b, hex) of a tensor in a file: its type, its shape and its bytes."""
    state = _digest_start(tensor.data_type, tensor.shape)
    block = memoryview(bytearray(_BLOCK_BYTES))
    left = tensor.length
    with tensor.path.open("rb", buffering=0) as file:
        file.seek(tensor.offset)
        while left and (count := file.readinto(block[: min(left, len(block))])):
            state.update(block[:count])
            left -= count
    return state.hexdigest()


def digest_bytes(data_type: int, shape: Iterable[int], raw: bytes) -> str:
    """Content digest of a tensor in memory; the same as :func:`digest_of` for the same content."""
    state = _digest_start(data_type, tuple(shape))
    state.update(raw)
    return state.hexdigest()


def _digest_start(data_type: int, shape: tuple[int, ...]) -> Any:
    state = hashlib.blake2b(digest_size=16)
    state.update(f"{data_type} {shape} ".encode())
    return state


def type_name(data_type: int) -> str:
    """ONNX's name of an element type; empty for a number it does not define."""
    types = onnx.TensorProto.DataType
    return types.Name(data_type) if data_type in types.values() else ""  # type: ignore[arg-type]


def numpy_dtype(data_type: int) -> np.dtype[Any]:
    """Type that numpy has for an ONNX element type."""
    return helper.tensor_dtype_to_np_dtype(data_type)


def dtype_name(data_type: int) -> str:
    """Name that numpy has for an ONNX element type; "string" and "undefined" for those without elements of a size."""
    name = type_name(data_type)
    return name.lower() if name in _UNSIZED or not name else numpy_dtype(data_type).name


def byte_length(data_type: int, shape: Iterable[int]) -> int | None:
    """Bytes of the raw data of a tensor; None for strings and undefined types."""
    name = type_name(data_type)
    if not name or name in _UNSIZED:
        return None
    dtype = numpy_dtype(data_type)
    bits = PACKED_BITS.get(dtype.name, dtype.itemsize * 8)
    return (prod(shape) * bits + 7) // 8


def check_shape(dims: Sequence[int], what: str) -> None:
    """Check that a tensor may have these sizes.

    Raises ModelError when one is negative, or there are too many, or too many elements to count; the sentence begins
    with `what`.
    """
    shown = f"{what} has shape [{', '.join(map(str, dims[:8]))}{', ...' if len(dims) > 8 else ''}]"
    if len(dims) > MOST_AXES:
        raise ModelError(f"{shown}: {len(dims)} axes, and {MOST_AXES} are the most that are run.")
    if any(size < 0 for size in dims):
        raise ModelError(f"{shown}: no size can be negative.")
    if prod(max(1, size) for size in dims) > _MOST_ELEMENTS:
        raise ModelError(f"{shown}: more elements than can be counted.")


def elements(tensor: onnx.TensorProto, what: str) -> np.ndarray:
    """The array of a tensor that carries its elements, whatever a damaged file says of them.

    Raises ModelError when its type, its shape and its data do not go together; the sentence begins with `what`.
    """
    check_shape(tensor.dims, what)
    if tensor.data_location == EXTERNAL:
        raise ModelError(f"{what} has its data in another file, where that cannot be.")
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # onnx and numpy raise what they like at data of another size or type
        kind = type_name(tensor.data_type) or f"type {tensor.data_type}"
        raise ModelError(
            f"{what} cannot be read: its data do not fill shape {list(tensor.dims)} of {kind.lower()}."
        ) from error


def raw_bytes(tensor: onnx.TensorProto) -> bytes:
    """Raw data of a tensor that carries its elements, whichever field holds them."""
    if tensor.HasField("raw_data"):
        return tensor.raw_data
    if tensor.data_type == onnx.TensorProto.STRING:
        return b"".join(len(item).to_bytes(8, "little") + item for item in tensor.string_data)
    return numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
