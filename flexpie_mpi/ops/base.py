"""What an operator means to a partitioner: the rule of an operator, the registry of rules, and what rules share.

A rule answers four questions about a node, given the region wanted of each output:

- ``cut_axes``: along which axes may an output be cut at all;
- ``in_regions``: which region of each input (weights included) is read;
- ``local``: which nodes compute exactly that region from exactly those input regions;
- ``flops``: how much work that is.

Regions come already widened to the full extent of the axes that may not be cut. An operator without a rule is run
whole: nothing of it can be cut, and it reads everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, ClassVar

from ..core.graph import Attribute, BoundNode, Value
from ..core.region import Region

OWN = "flexpie_mpi"
"""Domain of operators of this package, which stand for others of theirs: the local forms of their rules write those."""

Regions = tuple[Region | None, ...]
Attributes = tuple[tuple[str, Attribute | None], ...]
Followed = Sequence[int | None]
"""For each axis of an input, the axis of the outputs whose bounds it is read in; None for one that is read whole."""


@dataclass(frozen=True, slots=True)
class Const:
    """A small constant that a local form brings along: a crop's bounds, explicit pads, a new shape."""

    data: tuple[Any, ...]
    dtype: str = "int64"
    shape: tuple[int, ...] | None = None
    """None means one axis of ``len(data)``; ``()`` is a scalar."""


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node of a local form."""

    op: str  # ONNX operator type, at the opset of the graph
    # An int is that input of the original node, in the region ``in_regions`` gave; a str is a name made up within this
    # local form (``""`` for an absent input); a Const is a new constant
    inputs: tuple[int | str | Const, ...]
    # An int is that output of the original node, in the region asked for; a str is a made-up name
    outputs: tuple[int | str, ...]
    # Tuple of (name, value). All attributes, or with `inherit` only those that differ from the original node's; None
    # removes one.
    attributes: Attributes = ()
    domain: str = ""
    # Start from the original node's attributes, those a Graph cannot hold (tensors, subgraphs) included
    inherit: bool = False


class OpRule:
    """Rule of an operator that cannot be cut; the base of every other rule."""

    ops: ClassVar[tuple[str, ...]] = ()
    """Operator types that the rule is for."""

    domain: ClassVar[str] = ""
    """The domain that they are of; empty for ONNX's own."""

    separable: ClassVar[bool] = True
    """Whether a box reads the meeting of what slabs along each of its axes would read."""

    known: ClassVar[tuple[int, ...]] = ()
    """Inputs that the rule applies only where they are known (:func:`is_known`), such as the sizes of a Split."""

    element_flops: ClassVar[int] = 1
    """Floating-point operations of an output element, where that number is always the same."""

    def applies(self, node: BoundNode) -> bool:
        """Whether enough is known of a node before the run; if not, the node is run whole."""
        return not self.known or is_known(node, *self.known)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        """Axes along which each output may be cut."""
        return tuple(frozenset[int]() for _ in node.outputs)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        """Region of each input that computing `out` reads; None where nothing is read.

        Never empty, always inside the input. At least one entry of `out` is a region.
        """
        return tuple(map(whole, node.inputs))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """Nodes that compute exactly `out` from inputs that hold exactly `into` (as ``in_regions`` gave it)."""
        return (same(node),)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Floating-point operations for `out`."""
        return self.element_flops * sum(region.size for region in out if region is not None)

    # Parts: ranks may share out what a node sums over, so that each makes a part of all of its output

    added_once: ClassVar[tuple[int, ...]] = ()
    """Inputs that are added to the sum, such as a bias: only the first part reads them."""

    def combines(self, node: BoundNode) -> str:
        """How parts of the output are put together: numpy's add, maximum or minimum; empty where it has none."""
        return ""

    def part_axes(self, node: BoundNode) -> Sequence[Followed]:
        """For each input, the axes of the first input whose shares its own axes follow; None for an axis read whole.

        Of a matrix product, (M, K) times (K, N), these are (None, 1) and (1, None). Inputs behind the last are whole.
        """
        return ()

    def part_grain(self, node: BoundNode) -> int:
        """Elements along such an axis that no two shares have of: where data is packed in blocks, those of a block."""
        return 1

    def part_reads(self, node: BoundNode, data: Region) -> Regions:
        """Region of each of the inputs that follow the share `data` of the first one; those behind are whole."""
        axes = self.part_axes(node)
        return tuple([read_by(data, value, followed) for value, followed in zip(node.inputs, axes, strict=False)])

    def part(self, node: BoundNode, into: Regions) -> tuple[LocalNode, ...]:
        """Nodes that compute a part of all of the output from inputs that hold `into`, None for one that is not read.

        `into` is as :func:`part_regions` gave it.
        """
        return (without(same(node), into),)


class AxisRule(OpRule):
    """Rule of an operator where each axis of an input follows an axis of the outputs, or is read whole.

    Where the outputs have the axes of the data, the first input, `axes` tells which; elsewhere `follows` does: of a
    matrix product, (M, K) times (K, N), the operands follow axes (0, None) and (None, 1).
    """

    read_flops: ClassVar[int] = 0
    """Floating-point operations of an element of the data that is read, where they are counted so."""

    def axes(self, node: BoundNode) -> Iterable[int]:
        """Axes, counted from the front, that the operator works along; none for one that is elementwise."""
        return ()

    def follows(self, node: BoundNode) -> Sequence[Followed]:
        """For each input, which axis of the outputs its axes follow; inputs behind the last are read whole."""
        fixed, axes = set(self.axes(node)), range(len(node.in_shape()))
        return ([None if axis in fixed else axis for axis in axes] if fixed else axes,)

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        """Those that any input follows."""
        axes = frozenset([axis for followed in self.follows(node) for axis in followed if axis is not None])
        return tuple(frozenset[int]() if value is None else axes for value in node.outputs)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        region, follows = hull(out), self.follows(node)
        read = [read_by(region, value, axes) for value, axes in zip(node.inputs, follows, strict=False)]
        return (*read, *map(whole, node.inputs[len(follows) :]))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """All outputs come out on the hull of what is wanted, and are cropped."""
        held = hull(out)
        return trimmed(node.opset, same(node), (held,) * len(out), tuple(region or held for region in out))

    def flops(self, node: BoundNode, out: Regions) -> int:
        data = self.in_regions(node, out)[0] if self.read_flops else None
        return super().flops(node, out) if data is None else self.read_flops * data.size


class Copy(OpRule):
    """Rule of an operator that only moves elements, so that every axis may be cut."""

    element_flops = 0

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        return axes_of(node)


_RULES: dict[str, OpRule] = {}
"""By :attr:`BoundNode.operator`."""
_WHOLE = OpRule()


def register(rule: type[OpRule]) -> type[OpRule]:
    """Class decorator: make a rule the answer of :func:`rule_for` for its operator types."""
    instance = rule()
    for op in (f"{rule.domain}.{op}" if rule.domain else op for op in rule.ops):
        if op in _RULES:
            raise ValueError(f"operator {op} already has rule {type(_RULES[op]).__name__}")
        _RULES[op] = instance
    return rule


def rule_for(node: BoundNode) -> OpRule:
    """The rule of a node, worked out once and kept with it."""
    rule: OpRule | None = node.rule
    if rule is None:
        rule = _rule_of(node)
        object.__setattr__(node, "rule", rule)  # the node is frozen, and this follows from its fields
    return rule


def _rule_of(node: BoundNode) -> OpRule:
    """The rule of the operator; that of the base, which runs the node whole, for operators without and opaque values.

    So it is where the rule of the operator does not apply. A constant without elements is no obstacle: it stands for an
    absent parameter.
    """
    rule = _RULES.get(node.operator)
    if rule is None:
        return _WHOLE
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.is_opaque and not (value.is_constant and value.itemsize):
            return _WHOLE
    return rule if rule.applies(node) else _WHOLE


def widen(node: BoundNode, out: Regions) -> Regions:
    """`out` with the full extent of every axis that the node's rule does not let be cut."""
    axes = rule_for(node).cut_axes(node)
    return tuple(
        None if region is None else _widen(region, cut, node.out_shape(index))
        for index, (region, cut) in enumerate(zip(out, axes, strict=True))
    )


def _widen(region: Region, cut: frozenset[int], shape: tuple[int, ...]) -> Region:
    return Region(tuple(b if axis in cut else (0, shape[axis]) for axis, b in enumerate(region.bounds)))


def whole(value: Value | None) -> Region | None:
    """All of a value; None for an absent or opaque one."""
    return None if value is None or value.is_opaque or value.shape is None else Region.full(value.shape)


def hull(out: Regions) -> Region:
    """The smallest region that holds every wanted one; all of them have the same axes."""
    return reduce(Region.hull, (region for region in out if region is not None))


def macs(count: int) -> int:
    """Flops of `count` multiply-accumulates."""
    return 2 * count


# Axes


def axes_of(node: BoundNode, *fixed: int) -> tuple[frozenset[int], ...]:
    """Every axis of every output but those in `fixed`; none of an absent output."""
    shapes = ((value.shape if value is not None else None) or () for value in node.outputs)
    return tuple(frozenset(range(len(shape))).difference(fixed) for shape in shapes)


def axis_of(node: BoundNode, default: int) -> int:
    """The ``axis`` attribute, counted from the front of the first input."""
    return int(node.attribute("axis", default)) % max(len(node.in_shape()), 1)


def aligned(node: BoundNode, first: int = 0) -> list[Followed]:
    """What the operands from input `first` on follow that are broadcast against the output: the last axes together.

    Axes of an operand that has more of them are read whole: it says something else than elements, or is one of them.
    """
    ndim = len(node.out_shape())
    counts = [len((value.shape if value is not None else None) or ()) for value in node.inputs[first:]]
    return [(*(None,) * (own - ndim), *range(max(0, ndim - own), ndim)) for own in counts]


def read_by(region: Region, value: Value | None, axes: Followed) -> Region | None:
    """What `region` of an output reads of a value whose axes follow those; an axis of one element is broadcast."""
    if value is None or value.shape is None:
        return None
    bounds, pairs = region.bounds, zip(value.shape, axes, strict=True)
    return Region(tuple([(0, n) if axis is None or n == 1 else bounds[axis] for n, axis in pairs]))


# Parameters


def is_known(node: BoundNode, *indices: int) -> bool:
    """Whether each of these inputs is absent or a small constant, so that its elements are known before the run."""
    return all(node.constant(index) is not None for index in indices if node.has_input(index))


def parameters(node: BoundNode, first: int) -> Regions:
    """Regions of the inputs from `first` on, none of those that are known: the local form brings its own constants."""
    indices = range(first, len(node.inputs))
    return tuple(None if is_known(node, index) else whole(node.inputs[index]) for index in indices)


# Local forms


def same(node: BoundNode, attributes: Attributes = ()) -> LocalNode:
    """The node itself with every input and output in place, and some attributes replaced."""
    inputs, outputs = (
        tuple("" if value is None else index for index, value in enumerate(values))
        for values in (node.inputs, node.outputs)
    )
    return LocalNode(node.op, inputs, outputs, attributes, node.node.domain, inherit=True)


def without(node: LocalNode, into: Regions) -> LocalNode:
    """A node in the original's place without the inputs that are not read."""
    inputs = ["" if region is None else index for index, region in zip(node.inputs, into, strict=True)]
    while inputs and inputs[-1] == "":
        inputs.pop()
    return replace(node, inputs=tuple(inputs))


def crop(opset: int, source: int | str, target: int | str, held: Region, wanted: Region) -> LocalNode:
    """Node that cuts region `wanted` out of a tensor that holds the larger one `held` of the same value.

    What it reads and writes, `source` and `target`, is told as in :class:`LocalNode`.
    """
    cuts = [
        (axis, part.start, part.stop)
        for axis, (part, extent) in enumerate(zip(wanted.slices(held), held.shape, strict=True))
        if (part.start, part.stop) != (0, extent)
    ]
    if not cuts:
        return LocalNode("Identity", (source,), (target,))
    axes, starts, ends = zip(*cuts, strict=True)
    return slice_node(opset, source, target, starts, ends, axes)


def slice_node(
    opset: int, source: int | str, target: int | str, *bounds: tuple[int, ...], steps: tuple[int, ...] = ()
) -> LocalNode:
    """A Slice in the form of `opset`, by `bounds`: starts, ends and axes.

    They are inputs from opset 10 on, and attributes before, which know no steps.
    """
    if opset < 10:
        names = ("starts", "ends", "axes")
        return LocalNode("Slice", (source,), (target,), tuple(zip(names, bounds, strict=True)))
    inputs = (*bounds, steps) if steps else bounds
    return LocalNode("Slice", (source, *map(Const, inputs)), (target,))


def trimmed(opset: int, node: LocalNode, held: Regions, wanted: Regions) -> tuple[LocalNode, ...]:
    """A node and the crops behind it, for an operator that can only compute more than is wanted: a hull, whole groups.

    By output, `held` is the region in which it comes out of the node, and `wanted` the one that is to be left of it.
    """
    outputs: list[int | str] = []
    crops: list[LocalNode] = []
    for index, (region, want) in enumerate(zip(held, wanted, strict=True)):
        if region is None or want is None:
            outputs.append(f"unused{index}")
        elif region == want:
            outputs.append(index)
        else:
            outputs.append(f"held{index}")
            crops.append(crop(opset, f"held{index}", index, region, want))
    while wanted[len(outputs) - 1] is None:  # trailing outputs are optional, those before a wanted one may not be
        outputs.pop()
    return (replace(node, outputs=tuple(outputs)), *crops)
