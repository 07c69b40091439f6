"""Einsum: an output axis may be cut when its label names axes of the inputs; labels not in the output are summed."""

from __future__ import annotations

from math import prod

from ..core.graph import BoundNode
from ..core.region import Region
from .axes import axes_of
from .base import OpRule, Regions, macs, register
from .trim import hull


@register
class Einsum(OpRule):
    """Einstein summation; equations with an ellipsis are run whole."""

    ops = ("Einsum",)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return super().cut_axes(node) if _has_ellipsis(node) else axes_of(node)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        if _has_ellipsis(node):
            return super().in_regions(node, out)
        terms, result = _labels(node)
        bounds = dict(zip(result, hull(out).bounds, strict=True))
        shapes = (node.in_shape(place) for place in range(len(terms)))
        return tuple(
            Region(tuple((0, 1) if n == 1 else bounds.get(label, (0, n)) for label, n in zip(term, shape, strict=True)))
            for term, shape in zip(terms, shapes, strict=True)
        )

    def flops(self, node: BoundNode, out: Regions) -> int:
        if _has_ellipsis(node):
            return super().flops(node, out)
        terms, result = _labels(node)
        extents = dict.fromkeys("".join(terms), 1)
        for place, term in enumerate(terms):
            for label, extent in zip(term, node.in_shape(place), strict=True):
                extents[label] = max(extents[label], extent)
        summed = prod(extent for label, extent in extents.items() if label not in result)
        return macs(hull(out).size * summed)


def _has_ellipsis(node: BoundNode) -> bool:
    return "." in str(node.attribute("equation", ""))


def _labels(node: BoundNode) -> tuple[list[str], str]:
    """Labels of each input's axes and of the output's.

    Without an arrow the output has every label that occurs once, in alphabetical order.
    """
    equation = str(node.attribute("equation", "")).replace(" ", "")
    left, arrow, result = equation.partition("->")
    if not arrow:
        letters = left.replace(",", "")
        result = "".join(sorted(label for label in set(letters) if letters.count(label) == 1))
    return left.split(","), result
