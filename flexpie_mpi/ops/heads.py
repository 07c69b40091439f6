"""What operators that work head by head share; letters of axes (see :mod:`.named`) are those of :mod:`.attention`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

from ..core.graph import BoundNode
from ..core.region import Bounds, Region, consecutive
from .base import Attributes, LocalNode, Regions, same, slice_node, trimmed
from .conv import touched
from .named import NamedAxes, Share, scaled

Prepared = tuple[tuple[LocalNode, ...], dict[int, str]]
"""Nodes before an operator, and the inputs of its local form that are theirs, by number."""


class HeadRule(NamedAxes):
    """Rule of an operator that works head by head, some of its attributes counting the heads."""

    counting: ClassVar[Sequence[tuple[str, str]]] = (("num_heads", "N"), ("kv_num_heads", "K"))
    """Attributes that count the positions of a letter."""

    def heads(self, node: BoundNode) -> tuple[int, int]:
        """Number of heads of the queries, and of the keys."""
        count = int(node.attribute("num_heads"))
        return count, int(node.attribute("kv_num_heads", count))

    def sections(self, node: BoundNode) -> Sequence[int]:
        """Columns of queries, keys and values along an axis ``M``."""
        raise NotImplementedError

    def share(self, node: BoundNode, out: Regions) -> Share:
        """Whole groups of query heads, or some heads of one group."""
        (heads, groups), wanted = self.heads(node), self.wanted(node, out)
        found = [wanted["N"]] if "N" in wanted else []
        if "K" in wanted:
            found.append(scaled(wanted["K"], heads // groups))
        los, his = zip(*found, strict=True)
        group = touched((min(los), max(his)), groups, groups, heads)
        return {**super().share(node, out), "N": group.computed, "K": group.read}

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        regions, share = list(super().in_regions(node, out)), self.share(node, out)
        for index, axis in self._merged(node):
            region, pieces = regions[index], self._pieces(node, share)
            assert region is not None, "merged inputs are there"
            regions[index] = region.with_axis(axis, (pieces[0][0], pieces[-1][1]))
        return tuple(regions)

    def attributes(self, node: BoundNode, share: Share) -> Attributes:
        there = ((name, share[letter]) for name, letter in self.counting if node.attribute(name))
        return tuple((name, hi - lo) for name, (lo, hi) in there)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        share = self.share(node, out)
        before, inputs = self.prepared(node, share, into)
        call = same(node, self.attributes(node, share))
        width = max(len(call.inputs), *(index + 1 for index in inputs), 0)
        names = (*call.inputs, *("",) * (width - len(call.inputs)))
        call = replace(call, inputs=tuple(inputs.get(index, name) for index, name in enumerate(names)))
        return (*before, *trimmed(node.opset, call, self.held(node, out, share), out))

    def prepared(self, node: BoundNode, share: Share, into: Regions) -> Prepared:
        """Nodes that make inputs of the local form out of the regions read: columns of some heads, laid end to end."""
        nodes: list[LocalNode] = []
        pieces = self._pieces(node, share) if any(self._merged(node)) else ()
        if len(pieces) < 2 or all(one[1] == two[0] for one, two in pairwise(pieces)):
            return (), {}
        for index, axis in self._merged(node):
            names = tuple(f"columns{index}_{number}" for number in range(len(pieces)))
            for name, (lo, hi) in zip(names, pieces, strict=True):
                nodes.append(slice_node(node.opset, index, name, (lo - pieces[0][0],), (hi - pieces[0][0],), (axis,)))
            nodes.append(LocalNode("Concat", names, (f"columns{index}",), (("axis", axis),)))
        return tuple(nodes), {index: f"columns{index}" for index, _ in self._merged(node)}

    def _merged(self, node: BoundNode) -> list[tuple[int, int]]:
        """Inputs that have an axis ``M``, with the number of that axis."""
        faces = enumerate(self.faces(node)[0])
        return [(index, face.index("M")) for index, face in faces if "M" in face and node.has_input(index)]

    def _pieces(self, node: BoundNode, share: Share) -> list[Bounds]:
        """The columns of the heads of a share, of queries, of keys and of values."""
        heads, groups = self.heads(node)
        sections = zip(consecutive(self.sections(node)), (("N", heads), ("K", groups), ("K", groups)), strict=True)
        pieces = []
        for (start, end), (letter, count) in sections:
            lo, hi = scaled(share[letter], (end - start) // count)
            pieces.append((start + lo, start + hi))
        return pieces


def hull_size(region: Region | None) -> int:
    """Elements of a region; none where there is none."""
    return region.size if region is not None else 0
