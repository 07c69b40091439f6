"""Tensors of types that numpy does not have, from where onnxruntime keeps them into the wider type that holds them."""

from __future__ import annotations

import ctypes
from math import prod

import numpy as np

from ..core.graph import WIDER


def widened(kind: str, shape: tuple[int, ...], address: int) -> np.ndarray:
    """A copy of a tensor, every element exactly, in the type that :data:`flexpie_mpi.core.graph.WIDER` has for `kind`.

    Parameters
    ----------
    kind : str
        ``bfloat16``, ``float8_e5m2``, ``int4`` or ``uint4``.
    shape : tuple of int
    address : int
        Of its memory, row-major; two elements of 4 bits share a byte, the first in the low half.
    """
    size = prod(shape)
    found = _DECODERS[kind](address, size) if size else np.empty(0)
    return found.astype(WIDER[kind]).reshape(shape)


def _memory(address: int, nbytes: int) -> np.ndarray:
    block = (ctypes.c_uint8 * nbytes).from_address(address)
    return np.ctypeslib.as_array(block).copy()


def _bfloat16(address: int, size: int) -> np.ndarray:
    """The upper half of a float32."""
    return (_memory(address, 2 * size).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _float8e5m2(address: int, size: int) -> np.ndarray:
    """The upper half of a float16."""
    return (_memory(address, size).astype(np.uint16) << 8).view(np.float16)


def _uint4(address: int, size: int) -> np.ndarray:
    pairs = _memory(address, (size + 1) // 2)
    return np.stack((pairs & 15, pairs >> 4), axis=1).reshape(-1)[:size]


def _int4(address: int, size: int) -> np.ndarray:
    return (_uint4(address, size).astype(np.int8) ^ 8) - 8


_DECODERS = {"bfloat16": _bfloat16, "float8_e5m2": _float8e5m2, "uint4": _uint4, "int4": _int4}
