"""Rules of operators whose axes have names: a letter stands for the same positions wherever an input or output has it.

A letter's positions are counted in units, such as heads, and an axis may have several elements to a unit: a hidden axis
of 64 elements for 4 heads has 16. Axes with the letter ``.``, or with one that is not counted, are read and made whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.graph import BoundNode, Value
from ..core.region import Bounds, Region
from .base import Attributes, LocalNode, OpRule, Regions, same, trimmed

Share = Mapping[str, Bounds]
"""The positions of every letter that a box of the outputs takes."""


class NamedAxes(OpRule):
    """Rule of an operator of which `faces` tells the letters, and `counts` how many positions each has."""

    def applies(self, node: BoundNode) -> bool:
        """Not with an input without elements, of which no share could be told."""
        return not any(value is not None and value.is_opaque for value in node.inputs)

    def faces(self, node: BoundNode) -> tuple[Sequence[str], Sequence[str]]:
        """The letters of the axes of every input, and of every output; inputs behind the last are read whole."""
        raise NotImplementedError

    def counts(self, node: BoundNode) -> Mapping[str, int]:
        """Number of positions of each letter along which outputs may be cut."""
        raise NotImplementedError

    def share(self, node: BoundNode, out: Regions) -> Share:
        """The positions that `out` takes of every letter that is counted."""
        return {letter: (0, count) for letter, count in self.counts(node).items()} | self.wanted(node, out)

    def wanted(self, node: BoundNode, out: Regions) -> dict[str, Bounds]:
        """The positions that `out` touches, of those letters that it has."""
        counts, found = self.counts(node), dict[str, Bounds]()
        for face, value, region in zip(self.faces(node)[1], node.outputs, out, strict=False):
            for letter, extent, bounds in zip(face, _shape(value), region.bounds if region else (), strict=False):
                if letter in counts:
                    lo, hi = _units(bounds, extent // counts[letter])
                    known = found.get(letter, (lo, hi))
                    found[letter] = min(lo, known[0]), max(hi, known[1])
        return found

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        counts, faces = self.counts(node), self.faces(node)[1]
        return tuple(
            frozenset(axis for axis, letter in enumerate(face) if letter in counts) if value else frozenset[int]()
            for face, value in zip(faces, node.outputs, strict=False)
        )

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        share, counts, faces = self.share(node, out), self.counts(node), self.faces(node)[0]
        return tuple(
            self.region(value, faces[index] if index < len(faces) else "", share, counts)
            for index, value in enumerate(node.inputs)
        )

    def region(self, value: Value | None, face: str, share: Share, counts: Mapping[str, int]) -> Region | None:
        """What a share takes of a value; all of an axis of one element, which is broadcast."""
        if value is None or value.shape is None or value.is_opaque:
            return None
        bounds = list(Region.full(value.shape).bounds)
        for axis, letter in enumerate(face):
            extent = value.shape[axis]
            if letter in counts and extent > 1:
                bounds[axis] = scaled(share[letter], extent // counts[letter])
        return Region(tuple(bounds))

    def attributes(self, node: BoundNode, share: Share) -> Attributes:
        """Attributes of the local form that are others than the node's."""
        return ()

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """All outputs come out as the share has them, and are cropped."""
        share = self.share(node, out)
        return trimmed(node.opset, same(node, self.attributes(node, share)), self.held(node, out, share), out)

    def held(self, node: BoundNode, out: Regions, share: Share) -> Regions:
        """The region in which each wanted output comes out of the local form."""
        counts, faces = self.counts(node), self.faces(node)[1]
        return tuple(
            region and self.region(value, face, share, counts)
            for region, value, face in zip(out, node.outputs, faces, strict=False)
        )


def scaled(bounds: Bounds, unit: int) -> Bounds:
    """The elements of so many positions, each of `unit` elements."""
    return bounds[0] * unit, bounds[1] * unit


def _units(bounds: Bounds, unit: int) -> Bounds:
    """The positions that elements are in."""
    return bounds[0] // unit, -(-bounds[1] // unit)


def _shape(value: Value | None) -> tuple[int, ...]:
    return (value.shape if value is not None else None) or ()
