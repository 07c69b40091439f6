"""Layouts: a rule that gives each rank its region of a value, and the registry of the kinds of layout.

Which axes a kind cuts follows from the number of axes of the value::

    axes           batch  channels  rows  columns
    4 (N, C, H, W)   0       1        2      3      (5 and more: the same, further axes are never cut)
    3 (N, T, F)      0       2        1      -
    2 (N, F)         0       1        0      -
    1 (F)            -       0        -      -

``grid`` cuts rows and columns, or rows and channels where there are no columns.

A kind is a row of :data:`KINDS`. Planners, programs, plan files, tables and pictures learn of it from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import LayoutError
from .region import Bounds, Region, split, split_weighted


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of layout."""

    # The axes it cuts of a value with so many axes, or with more where there is no entry for those: none, one, or two
    # that the rows and columns of a grid of ranks share
    axes: Mapping[int, tuple[int, ...]]
    letter: str = ""  # how tables abbreviate it; empty for a kind that cuts nothing
    # `block` and `least_blocks`: elements of an image that stay together along the cut axis, where every rank gets at
    # least `least_blocks` such blocks on average
    block: int = 1
    least_blocks: int = 1
    # Whether a search tries it only with models that have a value to cut: whose axes for it are longer than 1
    is_rare: bool = False

    @property
    def cuts(self) -> bool:
        """Whether it cuts any value."""
        return any(self.axes.values())

    @property
    def is_grid(self) -> bool:
        """Whether it cuts two axes."""
        return max(map(len, self.axes.values())) == 2

    def cut_axes(self, ndim: int) -> tuple[int, ...] | None:
        """Axes that it cuts of a value with `ndim` axes; None where the value has no such axes."""
        for count in range(ndim, -1, -1):
            if count in self.axes:
                return self.axes[count]
        return None


KINDS: dict[str, Kind] = {
    "rows": Kind({2: (0,), 3: (1,), 4: (2,)}, "r"),
    "columns": Kind({4: (3,)}, "c"),
    "grid": Kind({2: (0, 1), 3: (1, 2), 4: (2, 3)}, "g"),
    # onnxruntime convolves blocks of 8 channels; a shard of another number of them takes up to twice as long
    "channels": Kind({1: (0,), 2: (1,), 3: (2,), 4: (1,)}, "k", block=8, least_blocks=8),
    "batch": Kind({2: (0,)}, "b", is_rare=True),
    "replicated": Kind({0: ()}),
    "single": Kind({0: ()}),
}
"""Every kind by name. ``replicated`` gives all of a value to every rank, ``single`` to the only one."""


def cut_axes(kind: str, ndim: int) -> tuple[int, ...] | None:
    """Axes of a value with `ndim` axes that a layout kind cuts; None where it has no such axis.

    >>> cut_axes("grid", 4), cut_axes("rows", 3), cut_axes("columns", 2), cut_axes("replicated", 2)
    ((2, 3), (1,), None, ())
    """
    return KINDS[kind].cut_axes(ndim)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the values a segment produces are spread over ranks.

    Examples
    --------
    >>> Layout("rows", (0, 1, 2)).region((1, 8, 7, 7), rank=1)
    Region([0:1, 0:8, 3:5, 0:7])
    >>> Layout("grid", (0, 1, 2, 3), grid=(2, 2)).region((1, 8, 6, 6), rank=3)
    Region([0:1, 0:8, 3:6, 3:6])
    >>> Layout("rows", (0, 1), weights=(3, 1)).region((1, 8, 8, 8), rank=1).shape
    (1, 8, 2, 8)
    """

    kind: str  # a name in `KINDS`
    ranks: tuple[int, ...]  # the ranks that take part, in the order of their shards. The others own nothing.
    # Relative share of each rank; with a grid first the shares of its rows, then of its columns. Empty for equal
    # shares.
    weights: tuple[float, ...] = ()
    # (r, c), or (). Rows and columns of the ranks of a kind that cuts two axes; ``r * c`` ranks, row by row.
    grid: tuple[int, ...] = ()
    # Whether a value that leaves the segment is left in parts, where the node that writes it sums over the axes that
    # the kind cuts of what it reads: each rank holds what its own share makes of all of the value
    in_parts: bool = False

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise LayoutError(f"layout {self}: {problem}")

    def __str__(self) -> str:
        name = f"{self.kind}({self.grid[0]}x{self.grid[1]})" if len(self.grid) == 2 else self.kind
        shares = " " + ":".join(f"{weight:g}" for weight in self.weights) if self.weights else ""
        return f"{name}{' in parts' if self.in_parts else ''}{shares} on {_ranges(self.ranks)}"

    def applies_to(self, shape: Sequence[int]) -> bool:
        """Whether a value of `shape` has the axes that this layout cuts."""
        return cut_axes(self.kind, len(shape)) is not None

    def region(self, shape: Sequence[int], rank: int) -> Region | None:
        """The shard of `rank` of a value of `shape`; None when it owns nothing of it.

        Raises LayoutError when the value has no axis of this kind.
        """
        axes = cut_axes(self.kind, len(shape))
        if axes is None:
            raise LayoutError(f"layout {self} cannot cut a value of shape {tuple(shape)}: it has no such axis")
        if rank not in self.ranks:
            return None
        region = Region.full(shape)
        grain = _grain(KINDS[self.kind], shape, axes, len(self.ranks))
        for axis, block, parts, weights in self._cuts(axes, self.ranks.index(rank)):
            region = region.with_axis(axis, _block(shape[axis], parts, block, weights, grain))
        return None if region.is_empty else region

    def _cuts(self, axes: tuple[int, ...], index: int) -> list[tuple[int, int, int, tuple[float, ...]]]:
        """(axis, number of the block along it, blocks, weights) for every axis that shard `index` is cut along."""
        if not axes:
            return []
        if not self.grid:
            return [(axes[0], index, len(self.ranks), self.weights)]
        rows, columns = self.grid
        down, across = divmod(index, columns)
        return [
            (axes[0], down, rows, self.weights[:rows]),
            (axes[1], across, columns, self.weights[rows:]),
        ]


def _grain(kind: Kind, shape: Sequence[int], axes: tuple[int, ...], parts: int) -> int:
    """How many elements a cut keeps together: a block of an image where that costs little balance, else 1."""
    if kind.block == 1 or len(shape) != 4:
        return 1
    extent = shape[axes[0]]
    return 1 if extent % kind.block or extent < kind.block * kind.least_blocks * parts else kind.block


def _block(extent: int, parts: int, index: int, weights: tuple[float, ...], grain: int) -> Bounds:
    pieces = extent // grain
    begin, end = split_weighted(pieces, weights)[index] if weights else split(pieces, parts, index)
    return begin * grain, end * grain


def _problem(layout: Layout) -> str:
    """What is wrong with the parameters of a layout; empty when nothing is."""
    ranks, weights, parts = layout.ranks, layout.weights, len(layout.ranks)
    if layout.kind not in KINDS:
        return f"unknown kind '{layout.kind}'; choose from {', '.join(KINDS)}"
    if not ranks or len(set(ranks)) != parts or min(ranks) < 0:
        return "ranks must be distinct, not negative, and at least one"
    if layout.kind == "single" and parts != 1:
        return f"'single' takes one rank, not {parts}"
    if layout.in_parts and not KINDS[layout.kind].cuts:
        return f"'{layout.kind}' cuts nothing, so it leaves nothing in parts"
    if KINDS[layout.kind].is_grid:
        if len(layout.grid) != 2 or layout.grid[0] * layout.grid[1] != parts or min(layout.grid) < 1:
            return f"'{layout.kind}' needs grid=(r, c) with r x c = {parts} ranks"
        parts = sum(layout.grid)
    elif layout.grid:
        return "only 'grid' takes a grid"
    if weights and (len(weights) != parts or min(weights) < 0 or not _groups_positive(layout)):
        return f"needs {parts} weights, none negative and not all zero, got {len(weights)}"
    return ""


def _groups_positive(layout: Layout) -> bool:
    rows = layout.grid[0] if layout.grid else 0
    groups = (layout.weights[:rows], layout.weights[rows:]) if rows else (layout.weights,)
    return all(sum(group) > 0 for group in groups)


def _ranges(ranks: tuple[int, ...]) -> str:
    """Ranks as text: '0-3' when consecutive, otherwise listed."""
    if len(ranks) > 1 and ranks == tuple(range(ranks[0], ranks[0] + len(ranks))):
        return f"{ranks[0]}-{ranks[-1]}"
    return ",".join(map(str, ranks))
