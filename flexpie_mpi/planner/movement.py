"""Prices of moving values: from every state in which ranks may hold one to every set of regions they may need.

Values of one class (shape, and the kinds of layout that can cut it) are held and moved alike, so that a network of a
hundred layers has a dozen tables. A need is known by the boxes of all ranks; equal needs are one column.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from ..cost.links import LinkPrices, exchange_terms, transfer_rows
from ..cost.model import CostModel
from .boxes import Boxes, ShardTable
from .walk import Step

SLAB = 1 << 22
"""Pairs of ranks that are priced together."""

_ODD = np.random.default_rng(1).integers(1, 1 << 62, 64, dtype=np.int64) * 2 + 1
"""Multipliers that turn a walk's boxes into one number, modulo 2 ** 64."""


@dataclass(frozen=True, slots=True)
class Table:
    """Seconds of fetching a value held in state h for need u: arrays (H, U); column 0 needs nothing."""

    latency: np.ndarray
    volume: np.ndarray


@dataclass
class _Class:
    """Values that are held and moved alike: their needs by column, and the table of those that are priced."""

    name: str
    itemsize: int
    table: Table
    columns: dict[int, int] = field(default_factory=dict)
    needs: list[np.ndarray] = field(default_factory=list)


class Movement:
    """Needs of every class of values, and their prices."""

    def __init__(self, shards: ShardTable, network: LinkPrices, cost: CostModel) -> None:
        self._shards = shards
        self._network = network
        self._cost = cost
        self._classes: dict[Hashable, _Class] = {}

    def columns(self, name: str, box: Boxes, step: Step, wanted: np.ndarray) -> np.ndarray:
        """Columns of what the walks of a step need of a value, int array (walks,).

        `box` has what each row needs of the value called `name`; walks that are not `wanted` (walks,) get column 0.
        """
        entry, offsets, present = self._class(name), step.offsets, box.present
        ranks = self._shards.rank[step.rows]
        ndim = box.lo.shape[1]
        with np.errstate(over="ignore"):
            marks = box.lo.astype(np.int64) @ _ODD[:ndim] + box.hi.astype(np.int64) @ _ODD[8 : 8 + ndim]
            marks = (marks ^ (marks >> 29)) * (_ODD[16 + ranks % 48] + ranks)
            sums = np.add.reduceat(np.where(present, marks, 0), offsets[:-1])
        columns = np.zeros(len(wanted), int)
        there = np.logical_or.reduceat(present, offsets[:-1]) & wanted
        distinct, index, inverse = np.unique(sums[there], return_index=True, return_inverse=True)
        known = [
            self._column(entry, int(mark), box, slice(offsets[walk], offsets[walk + 1]), ranks)
            for mark, walk in zip(distinct, np.flatnonzero(there)[index], strict=True)
        ]
        columns[there] = np.array(known, int)[inverse]
        return columns

    def whole_at(self, name: str, rank: int) -> int:
        """The column of one rank needing all of a value."""
        entry = self._class(name)
        shape = self._shards.graph.value(name).shape or (1,)
        boxes = np.zeros((self._shards.ranks, len(shape), 2), np.int32)
        boxes[rank, :, 1] = shape
        return self._add(entry, -1 - rank, boxes)

    def _class(self, name: str) -> _Class:
        key = self._shards.shape_class(name)
        if key not in self._classes:
            nothing = np.zeros((len(self._shards.layouts), 1))
            self._classes[key] = _Class(name, self._shards.graph.value(name).itemsize, Table(nothing, nothing))
        return self._classes[key]

    def _column(self, entry: _Class, mark: int, box: Boxes, rows: slice, ranks: np.ndarray) -> int:
        """The column of what the rows of one walk need, under the number that stands for it."""
        if mark in entry.columns:
            return entry.columns[mark]
        needed = box.take(rows)
        there = needed.present
        boxes = np.zeros((self._shards.ranks, box.lo.shape[1], 2), np.int32)
        boxes[ranks[rows][there]] = needed.take(there).bounds
        return self._add(entry, mark, boxes)

    @staticmethod
    def _add(entry: _Class, mark: int, boxes: np.ndarray) -> int:
        if mark not in entry.columns:
            entry.needs.append(boxes)
            entry.columns[mark] = len(entry.needs)
        return entry.columns[mark]

    def table(self, name: str) -> Table:
        """The table of a value, with all columns that were given out so far; values of one class share it."""
        entry = self._class(name)
        priced = entry.table.latency.shape[1] - 1
        if priced < len(entry.needs):
            latency, volume = self._priced(entry, np.stack(entry.needs[priced:]))
            known = entry.table
            entry.table = Table(np.hstack((known.latency, latency)), np.hstack((known.volume, volume)))
        return entry.table

    def _priced(self, entry: _Class, need: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both terms (H, U) for needs (U, R, ndim, 2)."""
        held = self._held(entry)
        states, ranks = len(held), self._shards.ranks
        slabs = np.array_split(np.arange(len(need)), min(len(need), 1 + states * len(need) * ranks * ranks // SLAB))
        transfers = np.concatenate([self._transfers(held, need[part], entry.itemsize) for part in slabs], axis=1)
        latency, volume = _terms(transfers.reshape(-1), self._cost)
        return latency.reshape(states, len(need)), volume.reshape(states, len(need))

    def _held(self, entry: _Class) -> np.ndarray:
        """Boxes of every rank in every state, int array (H, R, ndim, 2); empty where a rank holds nothing."""
        shards = self._shards
        owned = shards.owned(entry.name)
        held = np.zeros((len(shards.layouts), shards.ranks, owned.lo.shape[1], 2), np.int32)
        there = owned.present
        held[shards.layout[there], shards.rank[there]] = owned.take(there).bounds
        return held

    def _transfers(self, held: np.ndarray, need: np.ndarray, itemsize: int) -> np.ndarray:
        """Rows of `TRANSFER`, (H, U), from boxes held (H, R, ndim, 2) and needed (U, R, ndim, 2)."""
        own, nbytes, packed, unpacked = moved(held, need)
        nbytes *= itemsize
        in_place = (held[:, None] == need[None]).all(axis=(-1, -2))
        copied = np.where(in_place, 0.0, own * itemsize)
        local = (nbytes.sum(axis=-1) + nbytes.sum(axis=-2) + copied).max(axis=-1)
        rows = transfer_rows(nbytes, local, self._network)
        diagonal = np.arange(held.shape[1])
        mine = np.maximum(packed, unpacked)[..., diagonal, diagonal] * (copied > 0)
        there = nbytes > 0
        rows["runs"] = ((packed * there).sum(axis=-1) + (unpacked * there).sum(axis=-2) + mine).max(axis=-1)
        return rows


def moved(held: np.ndarray, need: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Elements that every rank has of what it needs, and that go from each rank to each other.

    Parameters
    ----------
    held : int array (H, R, ndim, 2)
        Bounds; parts of the value, or all of it on several ranks.
    need : int array (U, R, ndim, 2)

    Returns
    -------
    own : float array (H, U, R)
    elements : float array (H, U, R, R)
        From (third axis) and to (fourth); nothing from a rank to itself.
    packed, unpacked : float arrays (H, U, R, R)
        Contiguous runs of memory that these make in what the source holds, and in what the target needs, as if all
        pairs were cut along the axes along which some are.
    """
    ranks = held.shape[1]
    shape = (len(held), len(need), ranks, ranks)
    overlap, packed, unpacked = (np.ones(shape, np.float32) for _ in range(3))
    for axis in range(held.shape[2]):
        common, cuts, is_cut = _common(held[:, :, axis], need[:, :, axis])
        for runs, partial in ((packed, cuts), (unpacked, is_cut)):
            runs[partial] = overlap[partial]
        if common.shape[:2] == (1, 1) and (common == common.flat[0]).all():
            overlap *= common.flat[0]
        else:
            overlap *= common
    diagonal = np.arange(ranks)
    own = overlap[..., diagonal, diagonal].astype(float)
    overlap[..., diagonal, diagonal] = 0.0
    for boxes, state in zip(held, overlap, strict=True):
        holders = np.flatnonzero((boxes[..., 0] < boxes[..., 1]).all(axis=-1))
        if len({box.tobytes() for box in boxes[holders]}) < len(holders):
            _one_source(holders, state)
    return own, overlap, packed, unpacked


def _common(held: np.ndarray, need: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ranges (H, R, 2) and (U, R, 2) along one axis have in common, of each rank with each other.

    Returns
    -------
    common : float array (H, U, R, R), or (1, 1, R, R) where it is the same for all
    cuts, is_cut : bool arrays (H, U)
        Whether any such part is less than what the first rank holds, and less than what the second needs.
    """
    ours, row = _distinct(held)
    theirs, column = _distinct(need)
    lo = np.maximum(ours[:, None, :, None, 0], theirs[None, :, None, :, 0])
    hi = np.minimum(ours[:, None, :, None, 1], theirs[None, :, None, :, 1])
    common = np.maximum(hi - lo, 0).astype(np.float32)
    there = common > 0
    cuts = (there & (common != (ours[..., 1] - ours[..., 0])[:, None, :, None])).any(axis=(2, 3))
    is_cut = (there & (common != (theirs[..., 1] - theirs[..., 0])[None, :, None, :])).any(axis=(2, 3))
    pick = np.ix_(row, column)
    return common if common.shape[:2] == (1, 1) else common[pick], cuts[pick], is_cut[pick]


def _distinct(ranges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct items of an array (n, R, 2), and which of them each item is."""
    known: dict[bytes, int] = {}
    number = np.array([known.setdefault(item.tobytes(), len(known)) for item in ranges])
    first = np.unique(number, return_index=True)[1]
    return ranges[first], number


def _one_source(holders: np.ndarray, overlap: np.ndarray) -> None:
    """Each rank without a value that several hold whole gets it from one of these, which take turns."""
    wanted = overlap[:, holders[0], :].copy()
    overlap[:] = 0.0
    for turn, target in enumerate(np.setdiff1d(np.arange(overlap.shape[-1]), holders)):
        overlap[:, holders[turn % len(holders)], target] = wanted[:, target]


def _terms(transfers: np.ndarray, cost: CostModel) -> tuple[np.ndarray, np.ndarray]:
    """The price of each transfer in two terms: what it costs even without bytes, and the rest; 0 where none moves."""
    latency, volume = np.zeros((2, len(transfers)))
    moving = (transfers["total_bytes"] > 0) | (transfers["local_bytes"] > 0)
    if moving.any():
        least, seconds = exchange_terms(transfers[moving], cost)
        latency[moving], volume[moving] = least, seconds - least
    return latency, volume
