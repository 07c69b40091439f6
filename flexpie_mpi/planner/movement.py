"""Prices of moving values: from every state in which ranks may hold one to every set of regions they may need.

Values of one class (shape, and the kinds of layout that can cut it) are held and moved alike, so that a network of a
hundred layers has a dozen tables. A need is known by the boxes of all ranks; equal needs are one column.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..cost.links import LinkPrices, Pairs, exchange_terms, pair_rows
from ..cost.model import CostModel
from ..cost.rows import TRANSFER
from .boxes import Boxes, ShardTable
from .walk import Step

SLAB = 1 << 18
"""Pairs of ranks that are priced together: few enough to stay in the cache."""

FEW = 8
"""Ranks up to which it does not pay to tell apart which of them have something."""

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
            self._column(entry, int(mark), box, np.arange(offsets[walk], offsets[walk + 1]), ranks)
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

    def _column(self, entry: _Class, mark: int, box: Boxes, rows: np.ndarray, ranks: np.ndarray) -> int:
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
        transfers, in_parts = np.zeros((len(held), len(need)), TRANSFER), self._shards.in_parts(entry.name)
        for alike, sources in _alike(held):
            for columns, targets in _alike(need):
                network = self._network.among(sources, targets)
                for are_parts in (False, True):
                    states = alike[in_parts[alike] == are_parts]
                    for some, part in _slabs(states, columns, len(sources) * len(targets)) if states.size else ():
                        boxes = held[np.ix_(some, sources)], need[np.ix_(part, targets)]
                        transfers[np.ix_(some, part)] = _transfers(*boxes, entry.itemsize, network, are_parts)
        latency, volume = _terms(transfers.reshape(-1), self._cost)
        return latency.reshape(transfers.shape), volume.reshape(transfers.shape)

    def _held(self, entry: _Class) -> np.ndarray:
        """Boxes of every rank in every state, int array (H, R, ndim, 2); empty where a rank holds nothing."""
        shards = self._shards
        owned = shards.owned(entry.name)
        held = np.zeros((len(shards.layouts), shards.ranks, owned.lo.shape[1], 2), np.int32)
        there = owned.present
        held[shards.layout[there], shards.rank[there]] = owned.take(there).bounds
        return held


def _alike(boxes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Items of an array (n, R, ndim, 2) in which about the same ranks have boxes that are not empty, and these ranks.

    Items whose boxes are much alike stand together.
    """
    there = np.asarray((boxes[..., 0] < boxes[..., 1]).all(axis=-1))
    items_of: dict[tuple[int, int], list[int]] = {}
    for item in sorted(range(len(boxes)), key=lambda item: boxes[item].tobytes()):
        ranks = np.flatnonzero(there[item])
        size, last = max(FEW, len(ranks)).bit_length(), max(FEW, int(ranks.max(initial=0))).bit_length()
        items_of.setdefault((size, last), []).append(item)
    for items in items_of.values():
        yield np.array(items), np.flatnonzero(there[items].any(axis=0))


def _slabs(states: np.ndarray, columns: np.ndarray, pairs: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """States and columns that are priced together: all of them if they are few, otherwise some columns of one state."""
    most = max(1, SLAB // max(1, pairs))
    for some in [states] if len(states) * len(columns) <= most else states[:, None]:
        for part in np.array_split(columns, -(-len(some) * len(columns) // most)):
            yield some, part


def _transfers(
    held: np.ndarray, need: np.ndarray, itemsize: int, network: LinkPrices, are_parts: bool = False
) -> np.ndarray:
    """Rows of `TRANSFER`, (H, U), of moving between the ranks of a network; boxes are as of :func:`moved`."""
    own, elements, packed, unpacked = moved(held, need, network.sources, network.targets, are_parts=are_parts)
    shape = elements.shape[:2]
    nbytes = np.moveaxis(elements, (-2, -1), (0, 1)).reshape(*elements.shape[2:], -1)
    nbytes *= itemsize
    pairs = Pairs(nbytes)
    source, target = network.both
    in_place = (held[:, None, source] == need[None, :, target]).all(axis=(-1, -2))
    copied = np.where(in_place & (not are_parts), 0.0, own * itemsize)
    mine = np.maximum(packed[..., source, target], unpacked[..., source, target]) * (copied > 0)
    rows = pair_rows(pairs, network).reshape(shape)
    rows["local_bytes"] = _most(pairs.sent, pairs.received, copied, network)
    rows["runs"] = _most(_runs(packed, pairs, 1), _runs(unpacked, pairs, 0), mine, network)
    return rows


def _runs(runs: np.ndarray, pairs: Pairs, axis: int) -> np.ndarray:
    """Runs (S or T, H, U) of all messages along an axis of `pairs`, of which each has so many, (H, U, S, T)."""
    runs = np.moveaxis(runs, (-2, -1), (0, 1))
    if runs.strides[axis] == 0:  # the same in all
        each = runs.take(0, axis)
        return np.asarray(each * (pairs.receives, pairs.sends)[axis].reshape(each.shape))
    return np.asarray((runs * pairs.exists.reshape(runs.shape)).sum(axis=axis))


def _most(sent: np.ndarray, received: np.ndarray, own: np.ndarray, network: LinkPrices) -> np.ndarray:
    """The most (H, U) of any rank of what it sends (S, ...), receives (T, ...) and has (H, U, B), together."""
    (source, target), shape = network.both, own.shape[:-1]
    sent, received = sent.reshape(-1, *shape), received.reshape(-1, *shape)
    both = sent[source] + received[target] + np.moveaxis(own, -1, 0)
    return np.asarray(np.maximum.reduce([each.max(axis=0, initial=0) for each in (sent, received, both)]))


def moved(
    held: np.ndarray,
    need: np.ndarray,
    sources: np.ndarray | None = None,
    targets: np.ndarray | None = None,
    *,
    are_parts: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Elements that every rank has of what it needs, and that go from each rank to each other.

    Parameters
    ----------
    held : int array (H, S, ndim, 2)
        Bounds; parts of the value, or all of it on several ranks.
    need : int array (U, T, ndim, 2)
    sources, targets : int arrays (S,) and (T,), optional
        Numbers of the ranks that hold and that need, rising; 0, 1, ... when None.
    are_parts : bool
        Whether ranks hold parts that are to be put together: then all of them come from everyone who has one.

    Returns
    -------
    own : float array (H, U, B)
        Of the B ranks that are both.
    elements : float array (H, U, S, T)
        Nothing from a rank to itself.
    packed, unpacked : float arrays (H, U, S, T), broadcast along axes along which they are the same
        Contiguous runs of memory that these make in what the source holds, and in what the target needs, as if all
        pairs were cut along the axes along which some are.
    """
    sources = np.arange(held.shape[1]) if sources is None else sources
    targets = np.arange(need.shape[1]) if targets is None else targets
    shape = (len(sources), len(targets), len(held), len(need))  # what is summed first, so that sums are of long rows
    overlap = packed = unpacked = np.ones((1, 1, 1, 1), np.float32)
    for axis in range(held.shape[2]):
        common, cuts, is_cut = _common(held[:, :, axis], need[:, :, axis])
        packed, unpacked = _chosen(cuts, overlap, packed), _chosen(is_cut, overlap, unpacked)
        overlap = overlap * common
    overlap = np.broadcast_to(overlap, shape).copy()
    for state, boxes in enumerate(held):
        holders = boxes[(boxes[..., 0] < boxes[..., 1]).all(axis=-1)]
        if not are_parts and len({box.tobytes() for box in holders}) < len(holders):
            overlap[:, :, state] *= _in_turn(boxes, sources, targets)[:, :, None]
    source, target = np.nonzero(sources[:, None] == targets)
    own = overlap[source, target].astype(float)
    overlap[source, target] = 0.0
    everywhere = overlap, np.broadcast_to(packed, shape), np.broadcast_to(unpacked, shape)
    overlap, packed, unpacked = (np.moveaxis(each, (0, 1), (-2, -1)) for each in everywhere)
    return np.moveaxis(own, 0, -1), overlap, packed, unpacked


def _chosen(which: np.ndarray, these: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of arrays (S, T, H, U) these where `which` (H, U) says so, elsewhere the others; no larger than need be."""
    if which.all():
        return these
    return np.where(which, these, others) if which.any() else others


def _common(held: np.ndarray, need: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ranges (H, S, 2) and (U, T, 2) along one axis have in common, of each rank with each other.

    Returns
    -------
    common : float array (S, T, H, U), or with one item in place of some that are all alike
    cuts, is_cut : bool arrays (H, U)
        Whether any such part is less than what the first rank holds, and less than what the second needs.
    """
    (ours, row), (theirs, column) = _distinct(held), _distinct(need)
    (our_lo, our_hi), (their_lo, their_hi) = ours[:, :, None, :, None], theirs[:, None, :, None]
    common = np.maximum(np.minimum(our_hi, their_hi) - np.maximum(our_lo, their_lo), 0)
    there, pick = common > 0, np.ix_(row, column)
    cuts = (there & (common != our_hi - our_lo)).any(axis=(0, 1))[pick]
    is_cut = (there & (common != their_hi - their_lo)).any(axis=(0, 1))[pick]
    common = common.astype(np.float32)
    if ours.shape[-1] > 1:
        common = common[:, :, row]
    return common[..., column] if theirs.shape[-1] > 1 else common, cuts, is_cut


def _distinct(ranges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct items of an array (n, R, 2), as (2, R or 1, n), and which of them each item is.

    There is one rank in place of all where these are alike.
    """
    known: dict[bytes, int] = {}
    items = np.ascontiguousarray(ranges).reshape(len(ranges), -1)
    marks = items.view(f"V{items.itemsize * items.shape[1]}").reshape(-1).tolist()
    number = np.array([known.setdefault(mark, len(known)) for mark in marks])
    first = ranges[np.unique(number, return_index=True)[1]]
    first = first[:, :1] if (first == first[:, :1]).all() else first
    return first.T, number


def _in_turn(boxes: np.ndarray, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Which source serves which target, (S, T), where several sources hold all of a value, in `boxes` (S, ndim, 2).

    A rank that holds it has it; all others get it from one of these, which take turns.
    """
    holding = np.flatnonzero((boxes[..., 0] < boxes[..., 1]).all(axis=-1))
    holders = sources[holding]
    serves = (sources[:, None] == targets).astype(np.float32)
    others = np.flatnonzero(~np.isin(targets, holders))
    turn = targets[others] - np.searchsorted(holders, targets[others])  # of all ranks, whether they need any or not
    serves[holding[turn % len(holders)], others] = 1.0
    return serves


def _terms(transfers: np.ndarray, cost: CostModel) -> tuple[np.ndarray, np.ndarray]:
    """The price of each transfer in two terms: what it costs even without bytes, and the rest; 0 where none moves."""
    latency, volume = np.zeros((2, len(transfers)))
    moving = (transfers["total_bytes"] > 0) | (transfers["local_bytes"] > 0)
    if moving.any():
        least, seconds = exchange_terms(transfers[moving], cost)
        latency[moving], volume[moving] = least, seconds - least
    return latency, volume
