"""Copies between buffers and messages, as pairs of views of memory that is laid out alike or in different forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..core.blocks import parts_of, shape_of
from ..core.errors import ProgramError
from ..core.program import Buffer, Piece
from ..core.region import Region
from .provider import Action

Pair = tuple[np.ndarray, np.ndarray]
"""(target, source): views of equal shape and type."""

Move = tuple[np.ndarray, np.ndarray, str]
"""(target, source, numpy's function that combines them); the target becomes the source where that is empty."""


@dataclass(frozen=True, slots=True)
class Held:
    """Memory that holds a region, row-major or in blocks of `block` channels (:mod:`flexpie_mpi.core.blocks`)."""

    memory: np.ndarray
    region: Region
    block: int = 0

    @classmethod
    def of(cls, buffer: Buffer, memory: np.ndarray) -> Held:
        """The memory of a buffer."""
        assert buffer.region is not None, "opaque values are never exchanged"
        return cls(memory.reshape(shape_of(buffer.region, buffer.block)), buffer.region, buffer.block)

    def rows(self, region: Region) -> np.ndarray:
        """A view of a part, [N, C, H, W] where it is blocked; the part is then of one block."""
        index: tuple[Any, ...] = (*region.slices(self.region), ...)  # the ellipsis makes a view of a scalar too
        return np.moveaxis(self.blocks(region)[:, 0], -1, 1) if self.block else self.memory[index]

    def blocks(self, region: Region) -> np.ndarray:
        """A view [N, blocks, H, W, B] of a part: of whole blocks, or of less than B channels of one block."""
        images, _, rows, columns = region.slices(self.region)
        lo, hi = region.bounds[1]
        first, last = ((edge - self.region.bounds[1][0]) // self.block for edge in (lo, hi - 1))
        lanes = slice(lo % self.block, lo % self.block + hi - lo) if first == last else slice(None)
        return self.memory[images, first : last + 1, rows, columns, lanes]

    def padding(self, region: Region) -> list[Pair]:
        """What zeroes the lanes behind the last channel, where a part that is filled has that channel."""
        last = self.region.bounds[1][1]
        if not self.block or region.bounds[1][1] != last or last % self.block == 0:
            return []
        lanes = self.memory[:, -1:, :, :, last % self.block :]
        images, _, rows, columns = region.slices(self.region)
        view = lanes[images, :, rows, columns]
        return [(view, np.broadcast_to(np.zeros((), view.dtype), view.shape))]


def copies(region: Region, target: Held, source: Held, combine: str = "") -> list[Move]:
    """What copies a region from one buffer into another, or combines the two there."""
    if not (target.block or source.block):
        return [(target.rows(region), source.rows(region), combine)]
    if target.block == source.block:
        pairs = [(target.blocks(part), source.blocks(part)) for part in _parts(region, target.block)]
    else:
        pairs = [(target.rows(part), source.rows(part)) for part in _parts_of_one_block(region, target, source)]
    return _moves(pairs, combine) + _moves(target.padding(region))


def _moves(pairs: Sequence[Pair], combine: str = "") -> list[Move]:
    return [(target, source, combine) for target, source in pairs]


def packing(pieces: Sequence[Piece], local: Sequence[Held], memory: np.ndarray, *, pack: bool) -> list[Move]:
    """What packs the pieces of a message into its memory, one after the other, or unpacks them.

    `local` are the buffers of the pieces.
    """
    moves, offset = [], 0
    for piece, held in zip(pieces, local, strict=True):
        nbytes = piece.region.size * held.memory.itemsize
        packed = memory[offset : offset + nbytes].view(held.memory.dtype)
        moves += _packed(piece, held, packed, pack=pack)
        offset += nbytes
    return moves


def _packed(piece: Piece, held: Held, packed: np.ndarray, *, pack: bool) -> list[Move]:
    if not piece.block:
        rows = Held(packed.reshape(piece.region.shape), piece.region)
        return copies(piece.region, rows, held) if pack else copies(piece.region, held, rows, piece.combine)
    pairs, begin = [], 0
    for part in _parts(piece.region, piece.block):
        view = held.blocks(part)
        there = packed[begin : begin + view.size].reshape(view.shape)
        pairs.append((there, view) if pack else (view, there))
        begin += view.size
    return _moves(pairs) if pack else _moves(pairs, piece.combine) + _moves(held.padding(piece.region))


def _parts(region: Region, block: int) -> Iterator[Region]:
    return (region.with_axis(1, part) for part in parts_of(region.bounds[1], block))


def _parts_of_one_block(region: Region, *sides: Held) -> Iterator[Region]:
    """The parts of a region that have no border of a block inside, on either side."""
    lo, hi = region.bounds[1]
    edges = {
        lo,
        hi,
        *(edge for side in sides if side.block for edge in range(-(-lo // side.block) * side.block, hi, side.block)),
    }
    return (region.with_axis(1, channels) for channels in pairwise(sorted(edges)))


def check_alike(target: np.ndarray, source: Any, what: str) -> None:
    """Raise a ProgramError where numpy would stretch or convert what is copied."""
    shape, dtype = getattr(source, "shape", None), getattr(source, "dtype", None)
    if (shape, dtype) != (target.shape, target.dtype):
        raise ProgramError(
            f"value '{what}' of shape {shape} and type {dtype} is to be copied into memory of shape {target.shape} and "
            f"type {target.dtype}: only what is alike is copied"
        )


def mover(moves: Sequence[Move], what: str) -> Action:
    """An action that makes these moves in this order; both sides of each must have the same shape and type."""
    acts = tuple((_COPY if not combine else _combining(combine), target, source) for target, source, combine in moves)
    for _, target, source in acts:
        check_alike(target, source, what)

    def move() -> None:
        for act, target, source in acts:
            act(target, source)

    return move


_COPY: Callable[[np.ndarray, np.ndarray], object] = np.copyto


def _combining(name: str) -> Callable[[np.ndarray, np.ndarray], object]:
    function = getattr(np, name)
    return lambda target, source: function(target, source, out=target)
