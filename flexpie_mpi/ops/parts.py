"""Parts: what ranks make of all of a value when they share out what it is summed from.

A rank that has some of the input channels of a convolution, some of the rows of what is averaged, or some columns of a
matrix makes a summand of every element of the result (or the largest of some elements, where the largest is wanted).
Rules say along which axes that can be done; where the result is needed, parts are exchanged and put together.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from ..core.graph import BoundNode
from ..core.region import Region
from .base import Const, LocalNode, Regions, rule_for, same, whole, without

COMBINED = ("float32", "float64", "int32", "int64")
"""Types of values whose parts are put together.

Half precision is not among them: onnxruntime sums it in single precision, and parts would be rounded before.
"""


def part_axes(node: BoundNode) -> frozenset[int]:
    """Axes of the first input along which ranks may share out a node, so that each makes a part of all of its output.

    A part is a summand, or where the largest or smallest element is wanted that of some elements.
    """
    rule, data = rule_for(node), node.inputs[0] if node.inputs else None
    if not rule.combines(node) or data is None or node.node.reads.count(data.name) > 1:
        return frozenset()
    value = node.outputs[0]
    if value is None or len(node.outputs) > 1 or value.dtype not in COMBINED:
        return frozenset()
    return frozenset(axis for axis in rule.part_axes(node)[0] if axis is not None)


def between_borders(node: BoundNode, share: Region | None) -> Region | None:
    """A share of the first input, with its borders moved to the nearest where it can be cut; None if none is left."""
    grain = rule_for(node).part_grain(node)
    if share is None or grain == 1:
        return share
    for axis in part_axes(node):
        extent = node.in_shape()[axis]
        lo, hi = (bound if bound == extent else round(bound / grain) * grain for bound in share.bounds[axis])
        share = share.with_axis(axis, (lo, min(hi, extent)))
    return None if share.is_empty else share


def part_regions(node: BoundNode, data: Region, *, is_first: bool) -> Regions:
    """Region of each input that a rank reads which has the share `data` of the first input.

    Of an input that is added once, the part that `is_first` reads all.
    """
    rule = rule_for(node)
    read = rule.part_reads(node, data)
    rest = (
        None if index in rule.added_once and not is_first else whole(value)
        for index, value in enumerate(node.inputs[len(read) :], len(read))
    )
    return (*read, *rest)


def averaged(node: BoundNode, into: Regions) -> tuple[LocalNode, ...]:
    """The part that some elements have in an average: their own average, by their share of all elements.

    Their number is known when the plan is, so that it is a multiplication by a constant.
    """
    value, data = node.outputs[0], into[0]
    assert value is not None and data is not None, "else it has no parts"
    share = Const((data.size / prod(node.in_shape()),), value.dtype, ())
    own = replace(without(same(node), into), outputs=("own",))
    return (own, LocalNode("Mul", ("own", share), (0,)))
