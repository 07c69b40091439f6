"""Exchange patterns as plans have them: what ranks hold of a value and what they need next, over a spread of sizes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp, log

from ..core.layout import Layout
from ..core.region import Region

LEAST_BYTES, MOST_BYTES = 1 << 10, 8 << 20
"""Sizes of the values."""

_SIDES = (4, 7, 14, 28, 56, 112)
_ITEM_BYTES = 4
_ROWS, _COLUMNS = 2, 3

Regions = tuple[tuple[int, Region], ...]
"""(rank, what it has or needs)."""


@dataclass(frozen=True, slots=True)
class Move:
    """A float32 value of `shape` that some ranks hold in parts and some need in others."""

    shape: tuple[int, ...]
    have: Regions
    need: Regions


Recipe = Callable[[Sequence[int], random.Random], Layout]


def _even(kind: str) -> Recipe:
    return lambda ranks, chance: Layout(kind, tuple(ranks))


def _single(ranks: Sequence[int], chance: random.Random) -> Layout:
    return Layout("single", tuple(ranks[:1]))


def _uneven(ranks: Sequence[int], chance: random.Random) -> Layout:
    return Layout("rows", tuple(ranks), weights=tuple(chance.randint(1, 4) for _ in ranks))


def _grid(ranks: Sequence[int], chance: random.Random) -> Layout:
    down = chance.choice([rows for rows in range(1, len(ranks) + 1) if len(ranks) % rows == 0])
    return Layout("grid", tuple(ranks), grid=(down, len(ranks) // down))


_ROWS_EVEN, _CHANNELS, _REPLICATED = _even("rows"), _even("channels"), _even("replicated")

PATTERNS: tuple[tuple[Recipe, Recipe, int], ...] = (
    (_ROWS_EVEN, _ROWS_EVEN, 1),
    (_ROWS_EVEN, _ROWS_EVEN, 2),
    (_ROWS_EVEN, _ROWS_EVEN, 3),
    (_grid, _grid, 1),
    (_uneven, _uneven, 1),
    (_ROWS_EVEN, _uneven, 1),
    (_ROWS_EVEN, _REPLICATED, 0),
    (_CHANNELS, _REPLICATED, 0),
    (_ROWS_EVEN, _CHANNELS, 0),
    (_CHANNELS, _ROWS_EVEN, 1),
    (_ROWS_EVEN, _grid, 1),
    (_single, _ROWS_EVEN, 1),
    (_single, _CHANNELS, 0),
    (_single, _REPLICATED, 0),
    (_ROWS_EVEN, _single, 0),
    (_CHANNELS, _single, 0),
    (_uneven, _single, 0),
    (_REPLICATED, _ROWS_EVEN, 1),
)
"""(layout a value is held in, layout it is needed in, rows and columns needed around a shard)."""


def journeys(ranks: int, seed: int = 0) -> Iterator[tuple[Move, ...]]:
    """Every pattern once, each with a value of its own, again and again without end.

    The first and every second after it are over all ranks, the others over some: the first few, or more on one side
    than on the other.
    """
    chance = random.Random(f"patterns {ranks} {seed}")
    turn = 0
    while True:
        holders, needers = _groups(ranks, turn, chance)
        drawn = chance.sample(PATTERNS, len(PATTERNS))
        moves = (_move(recipes, holders, needers, chance) for recipes in drawn)
        yield tuple(move for move in moves if move.have != move.need)
        turn += 1


def _groups(ranks: int, turn: int, chance: random.Random) -> tuple[range, range]:
    """Ranks that hold, and ranks that need."""
    if turn % 2 == 0:
        return range(ranks), range(ranks)
    if turn % 4 == 1:
        count = chance.randint(min(2, ranks), ranks)
        return range(count), range(count)
    few, many = chance.randint(1, ranks), ranks
    return (range(few), range(many)) if chance.random() < 0.5 else (range(many), range(few))


def _move(
    pattern: tuple[Recipe, Recipe, int], holders: Sequence[int], needers: Sequence[int], chance: random.Random
) -> Move:
    held, needed, width = pattern
    shape = _shape(chance)
    layout = held(holders, chance)
    wanted = layout if held is needed and holders == needers else needed(needers, chance)
    return Move(shape, _regions(layout, shape, 0), _regions(wanted, shape, width))


def _shape(chance: random.Random) -> tuple[int, int, int, int]:
    """A feature map of between `LEAST_BYTES` and `MOST_BYTES`, sizes spread evenly over orders of magnitude."""
    elements = exp(chance.uniform(log(LEAST_BYTES), log(MOST_BYTES))) / _ITEM_BYTES
    side = chance.choice([side for side in _SIDES if side * side * 2 <= elements])
    return 1, round(elements / side**2), side, side


def _regions(layout: Layout, shape: tuple[int, ...], width: int) -> Regions:
    """What each rank of a layout has of a value, grown by `width` rows, and columns where these are cut too."""
    axes = (_ROWS, _COLUMNS) if layout.kind == "grid" else (_ROWS,)
    found = ((rank, layout.region(shape, rank)) for rank in layout.ranks)
    return tuple((rank, _grown(region, axes, width, shape)) for rank, region in found if region is not None)


def _grown(region: Region, axes: Sequence[int], width: int, shape: tuple[int, ...]) -> Region:
    for axis in axes:
        lo, hi = region.bounds[axis]
        region = region.with_axis(axis, (lo - width, hi + width))
    return region.clip(shape)
