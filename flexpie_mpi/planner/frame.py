"""The rows of a search: one for every rank of every candidate layout, and the shards they own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ..core.graph import Graph
from ..core.layout import Layout
from ..core.region import Region
from ..lower.shards import can_cut, shard_region
from ..testbed import Testbed
from .maps import FAR, Boxes


class Frame:
    """Candidate layouts laid out as rows, layout after layout and rank after rank.

    Attributes
    ----------
    layouts : tuple of Layout
    offsets : int array (L + 1,)
        First row of each layout.
    layout, rank : int array (rows,)
    slowdown, active : float array (rows,)
        How much slower than the reference device the rank is, and how much its host is overloaded: when all ranks of
        the layout compute, or as `crowds` says of every rank of the testbed.
    """

    def __init__(
        self, graph: Graph, testbed: Testbed, layouts: Sequence[Layout], crowds: Sequence[float] | None = None
    ) -> None:
        self.graph = graph
        self.ranks = testbed.ranks
        self.layouts = tuple(layouts)
        sizes = [len(layout.ranks) for layout in layouts]
        self.offsets = np.concatenate(([0], np.cumsum(sizes)))
        self.layout = np.repeat(np.arange(len(layouts)), sizes)
        self.rank = np.array([rank for layout in layouts for rank in layout.ranks])
        self.slowdown = np.array([testbed.devices[rank].slowdown for rank in self.rank])
        if crowds is None:
            self.active = np.array([load for layout in layouts for load in testbed.active(layout.ranks)])
        else:
            self.active = np.array([crowds[rank] for rank in self.rank])
        self._shards: dict[tuple[object, ...], Boxes] = {}
        self._cuts: dict[tuple[str, str], bool] = {}

    @cached_property
    def replicas(self) -> np.ndarray:
        """Layout that holds everything on the team of each layout, int array (L,); -1 where there is none."""
        teams = {layout.ranks: place for place, layout in enumerate(self.layouts) if layout.kind == "replicated"}
        teams |= {layout.ranks: place for place, layout in enumerate(self.layouts) if layout.kind == "single"}
        return np.array([teams.get(layout.ranks, -1) for layout in self.layouts])

    def cuts(self, name: str) -> np.ndarray:
        """Which layouts can cut a value: bool array (L,)."""
        return np.array([self._can_cut(name, layout) for layout in self.layouts])

    def shares(self, name: str) -> np.ndarray:
        """Which layouts give several ranks a part of a value: bool array (L,)."""
        counts: np.ndarray = np.add.reduceat(self.shards(name).present, self.offsets[:-1])
        return self.cuts(name) & (counts > 1)

    def shards(self, name: str) -> Boxes:
        """What every row answers for of a value."""
        shape = self.graph.value(name).shape or ()
        key = (shape, *self._kinds(name))
        if key not in self._shards:
            pairs = ((layout, rank) for layout in self.layouts for rank in layout.ranks)
            self._shards[key] = _boxes([self._region(name, *pair) for pair in pairs], len(shape))
        return self._shards[key]

    def shape_class(self, name: str) -> tuple[object, ...]:
        """Values of one class are held alike in every layout, and cost the same to move."""
        value = self.graph.value(name)
        return (value.shape, value.itemsize, *self._kinds(name))

    def _kinds(self, name: str) -> tuple[str, ...]:
        """Kinds among the candidates that can cut a value."""
        kinds = {layout.kind: layout for layout in self.layouts}
        return tuple(kind for kind, layout in kinds.items() if self._can_cut(name, layout))

    def _can_cut(self, name: str, layout: Layout) -> bool:
        key = (name, layout.kind)
        if key not in self._cuts:
            made = name in self.graph.producer  # inputs are never spread by a layout, only fetched
            self._cuts[key] = can_cut(self.graph, name, layout) if made else layout.kind in ("replicated", "single")
        return self._cuts[key]

    def _region(self, name: str, layout: Layout, rank: int) -> Region | None:
        if name in self.graph.producer:
            return shard_region(self.graph, name, layout, rank)
        return Region.full(self.graph.value(name).shape or ())


def _boxes(regions: Sequence[Region | None], ndim: int) -> Boxes:
    """Boxes of regions, row by row."""
    bounds = np.array(
        [[(FAR, 0)] * max(ndim, 1) if region is None else (region.bounds or ((0, 1),)) for region in regions], np.int32
    )
    return Boxes(bounds[..., 0].copy(), bounds[..., 1].copy())
