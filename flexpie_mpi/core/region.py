"""Box algebra: a region is a box of a value in global coordinates, half-open along every axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from math import prod

Bounds = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Region:
    """Box ``[lo, hi)`` per axis. It is empty when any axis is; elsewhere "nothing" is written as None.

    >>> a, b = Region(((0, 4), (0, 8))), Region(((2, 6), (0, 8)))
    >>> a.intersect(b)
    Region([2:4, 0:8])
    >>> b.subtract(a)
    (Region([4:6, 0:8]),)
    """

    bounds: tuple[Bounds, ...]

    @classmethod
    def full(cls, shape: Sequence[int]) -> Region:
        """The whole of a value of `shape`."""
        return cls(tuple((0, extent) for extent in shape))

    def __repr__(self) -> str:
        return f"Region({self})"

    def __str__(self) -> str:
        return "[" + ", ".join(f"{lo}:{hi}" for lo, hi in self.bounds) + "]"

    @property
    def ndim(self) -> int:
        return len(self.bounds)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(max(0, hi - lo) for lo, hi in self.bounds)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def is_empty(self) -> bool:
        return any(hi <= lo for lo, hi in self.bounds)

    def is_full(self, shape: Sequence[int]) -> bool:
        """Whether this is the whole of a value of `shape`."""
        return self.bounds == tuple((0, extent) for extent in shape)

    def intersect(self, other: Region) -> Region:
        """The elements in both."""
        pairs = zip(self.bounds, other.bounds, strict=True)
        return Region(tuple((max(a, c), min(b, d)) for (a, b), (c, d) in pairs))

    def meets(self, other: Region) -> bool:
        """Whether the two have an element in common."""
        for (a, b), (c, d) in zip(self.bounds, other.bounds, strict=True):
            if a >= d or c >= b or a >= b or c >= d:
                return False
        return True

    def hull(self, other: Region) -> Region:
        """The smallest region that holds both."""
        if self.is_empty:
            return other
        if other.is_empty:
            return self
        pairs = zip(self.bounds, other.bounds, strict=True)
        return Region(tuple((min(a, c), max(b, d)) for (a, b), (c, d) in pairs))

    def contains(self, other: Region) -> bool:
        """Whether every element of `other` is in this region."""
        pairs = zip(self.bounds, other.bounds, strict=True)
        return other.is_empty or all(a <= c and d <= b for (a, b), (c, d) in pairs)

    def subtract(self, other: Region) -> tuple[Region, ...]:
        """The elements of this region outside `other`, as disjoint boxes (at most two per axis)."""
        overlap = self.intersect(other)
        if overlap.is_empty:
            return () if self.is_empty else (self,)
        boxes, rest = [], self
        for axis, ((lo, hi), (cut_lo, cut_hi)) in enumerate(zip(self.bounds, overlap.bounds, strict=True)):
            boxes += [rest.with_axis(axis, side) for side in ((lo, cut_lo), (cut_hi, hi)) if side[0] < side[1]]
            rest = rest.with_axis(axis, (cut_lo, cut_hi))
        return tuple(boxes)

    def is_covered(self, boxes: Iterable[Region]) -> bool:
        """Whether every element is in one of some boxes."""
        missing: tuple[Region, ...] = (self,)
        for box in boxes:
            missing = tuple(rest for part in missing for rest in part.subtract(box))
        return not missing

    def with_axis(self, axis: int, bounds: Bounds) -> Region:
        """This region with the bounds of one axis replaced."""
        axis %= len(self.bounds)
        return Region((*self.bounds[:axis], bounds, *self.bounds[axis + 1 :]))

    def clip(self, shape: Sequence[int]) -> Region:
        """The part that lies inside a value of `shape`."""
        return self.intersect(Region.full(shape))

    def slices(self, origin: Region) -> tuple[slice, ...]:
        """Index of this region in an array that holds `origin`.

        >>> Region(((3, 5),)).slices(Region(((2, 9),)))
        (slice(1, 3, None),)
        """
        pairs = zip(self.bounds, origin.bounds, strict=True)
        return tuple(slice(lo - base, hi - base) for (lo, hi), (base, _) in pairs)


def split(extent: int, parts: int, index: int) -> Bounds:
    """Half-open range of block `index` when `extent` is cut into `parts` near-equal blocks.

    The first ``extent % parts`` blocks are one longer. Where there are fewer elements than blocks, those with one are
    spread among the others, so that heads of keys are with the heads of queries that share them.

    >>> [split(10, 4, i) for i in range(4)]
    [(0, 3), (3, 6), (6, 8), (8, 10)]
    >>> [split(2, 4, i) for i in range(4)]
    [(0, 1), (1, 1), (1, 2), (2, 2)]
    """
    if extent < parts:
        lo, hi = (-(-extent * at // parts) for at in (index, index + 1))
        return lo, hi
    base, extra = divmod(extent, parts)
    lo = index * base + min(index, extra)
    return lo, lo + base + (index < extra)


def split_weighted(extent: int, weights: Sequence[float]) -> tuple[Bounds, ...]:
    """Ranges of consecutive blocks whose lengths follow `weights` (largest remainders first).

    A block of weight 0 is empty. Where there are fewer elements than blocks, each is in that block in which its middle
    is, as in :func:`split`. Exact arithmetic: every rank computes the same ranges.

    >>> split_weighted(10, (3, 1, 1))
    ((0, 6), (6, 8), (8, 10))
    >>> split_weighted(7, (1, 0, 1))
    ((0, 4), (4, 4), (4, 7))
    >>> split_weighted(2, (2, 2, 1, 1))
    ((0, 1), (1, 1), (1, 2), (2, 2))
    """
    shares = [Fraction(weight) for weight in weights]
    if extent < sum(share > 0 for share in shares):
        ends = [int(extent * end / sum(shares) + Fraction(1, 2)) for end in accumulate(shares)]
        return tuple(pairwise((0, *ends)))
    ideal = [extent * share / sum(shares) for share in shares]
    lengths = [int(length) for length in ideal]
    by_remainder = sorted(range(len(shares)), key=lambda i: (lengths[i] - ideal[i], i))
    for index in by_remainder[: extent - sum(lengths)]:
        lengths[index] += 1
    return consecutive(lengths)


def consecutive(lengths: Iterable[int]) -> tuple[Bounds, ...]:
    """Ranges of blocks of the given lengths laid end to end.

    >>> consecutive([2, 3])
    ((0, 2), (2, 5))
    """
    ranges, lo = [], 0
    for length in lengths:
        ranges.append((lo, lo + length))
        lo += length
    return tuple(ranges)
