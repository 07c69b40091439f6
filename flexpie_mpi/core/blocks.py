"""The blocked form of a value: channels in blocks, as onnxruntime's NCHWc kernels want them in memory.

A region [N, C, H, W] in blocks of B channels is an array [N, ceil(C / B), H, W, B]. Blocks are counted from channel 0
of the whole value, so a buffer begins with a whole block; where it ends within one, the rest of that block is zeros.
What travels of it has no such padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod

from .region import Bounds, Region


def shape_of(region: Region, block: int) -> tuple[int, ...]:
    """Shape of the array that holds a region: row-major, or in blocks of so many channels where `block` is not 0.

    >>> shape_of(Region(((0, 1), (16, 40), (0, 7), (0, 7))), 16)
    (1, 2, 7, 7, 16)
    """
    if not block:
        return region.shape
    n, c, *pixels = region.shape
    return n, -(-c // block), *pixels, block


def nominal_shape(region: Region, block: int) -> tuple[int, ...]:
    """The shape by which onnxruntime knows that array: [N, C, H, W], C with its padding.

    >>> nominal_shape(Region(((0, 1), (16, 40), (0, 7), (0, 7))), 16)
    (1, 32, 7, 7)
    """
    if not block:
        return region.shape
    n, c, *pixels = region.shape
    return n, -(-c // block) * block, *pixels


def nbytes_of(region: Region, block: int, itemsize: int) -> int:
    """Bytes of that array."""
    return prod(shape_of(region, block)) * itemsize


def parts_of(channels: Bounds, block: int) -> Iterator[Bounds]:
    """The channels of a region as runs of whole blocks, and what lies before and behind them.

    >>> list(parts_of((8, 60), 16)), list(parts_of((16, 48), 16)), list(parts_of((17, 20), 16))
    ([(8, 16), (16, 48), (48, 60)], [(16, 48)], [(17, 20)])
    """
    lo, hi = channels
    first, last = -(-lo // block) * block, hi // block * block
    edges = sorted({lo, hi, *(edge for edge in (first, last) if lo < edge < hi)})
    yield from pairwise(edges)
