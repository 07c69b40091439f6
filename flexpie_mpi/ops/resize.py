"""Resize and Upsample: free cuts where an axis keeps its size, the same samples as ever where it does not.

A box that is whole along every resized axis is computed by the operator itself, which else would scale a part about
its own borders. A cut axis is either *aligned*, when samples repeat after so many inputs, for example every input at
scale 2: the operator computes whole periods, and a crop follows. Or it is resampled by gathers, and weighted sums in
linear mode, with positions and weights that belong to the whole value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from ..core.graph import BoundNode
from ..core.region import Bounds, Region
from .base import Const, LocalNode, OpRule, Regions, crop, hull, macs, register
from .sampling import Sampling, crops, has_sizes, is_certain, is_modern, mode, named_axes, policy, samplings

Step = Callable[[int | str, int | str], tuple[LocalNode, ...]]
"""Makes the nodes that lead from one tensor to another."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """What a box needs along one axis.

    `computed` are the outputs that come of the inputs `read`: by gathers just those wanted, by the operator itself
    whole periods.
    """

    sampling: Sampling
    wanted: Bounds
    read: Bounds
    computed: Bounds
    by_gathers: bool = False

    @property
    def is_resized_here(self) -> bool:
        """Whether the operator itself resizes this axis in the local form."""
        return not (self.by_gathers or self.sampling.is_identity)


@register
class Resize(OpRule):
    """Resampling by scales or sizes known before the run; cubic and antialiased axes are not cut."""

    ops = ("Resize", "Upsample")

    def applies(self, node: BoundNode) -> bool:
        return samplings(node) is not None

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        axes = samplings(node) or ()
        resampled, first = _can_resample(node, axes), _first_blended(node, axes)
        return (frozenset(axis for axis, item in enumerate(axes) if resampled or (item.is_identity and axis < first)),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        roi = Region.full(node.in_shape(1)) if crops(node) else None
        rest = (roi if index == 1 else None for index in range(1, len(node.inputs)))  # scales are constants, made anew
        return (Region(tuple(axis.read for axis in _axes(node, out))), *rest)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        axes, region = _axes(node, out), hull(out)
        form = _nearest if mode(node) == "nearest" else _linear
        steps: list[Step] = [partial(form, axes, number) for number, axis in enumerate(axes) if axis.by_gathers]
        if any(axis.is_resized_here for axis in axes):
            steps.append(partial(_itself, node, axes))
        computed = Region(tuple(axis.computed for axis in axes))
        if computed != region or not steps:
            steps.append(lambda source, target: (crop(node.opset, source, target, computed, region),))
        names: list[int | str] = [0, *(f"step{number}" for number in range(1, len(steps))), 0]
        return tuple(local for number, step in enumerate(steps) for local in step(names[number], names[number + 1]))

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Multiply-accumulates of the samples under an output element; none for nearest."""
        resized = sum(not item.is_identity for item in samplings(node) or ())
        taps = {"nearest": 0, "cubic": 4**resized}.get(mode(node), 2**resized)
        return macs(hull(out).size * taps)


def _can_resample(node: BoundNode, axes: tuple[Sampling, ...]) -> bool:
    """Whether all samples are known copies, or plain weighted sums: types other than float32 round those."""
    value = node.inputs[0]
    if crops(node) or node.attribute("antialias", 0):
        return False
    if mode(node) == "nearest":
        return all(map(is_certain, axes))
    return mode(node) == "linear" and value is not None and value.dtype == "float32"


def _first_blended(node: BoundNode, axes: tuple[Sampling, ...]) -> int:
    """The first axis whose cut may change results of the others, though it keeps its size.

    Weighted sums run over every axis but batch and channels, and weigh inputs at a border in another way, which a type
    that rounds down to whole numbers shows.
    """
    value = node.inputs[0]
    if mode(node) == "nearest" or value is None or value.dtype.startswith(("float", "double")):
        return len(axes)
    leading = sum(1 for _ in takewhile(lambda item: item.is_identity, axes))
    return min(leading, 2) if len(axes) > 3 else 0


def _axes(node: BoundNode, out: Regions) -> tuple[_Axis, ...]:
    pairs = list(zip(samplings(node) or (), hull(out).bounds, strict=True))
    is_cut = any(not item.is_identity and wanted != (0, item.length) for item, wanted in pairs)
    return tuple(_axis(node, item, wanted, is_cut) for item, wanted in pairs)


def _axis(node: BoundNode, sampling: Sampling, wanted: Bounds, is_cut: bool) -> _Axis:
    """`is_cut` tells whether the box cuts any resized axis."""
    if sampling.is_identity:
        return _Axis(sampling, wanted, wanted, wanted)
    whole = (0, sampling.length)
    # with gathers in play, an axis of unchanged extent could be taken for one that is not resized
    keeps_scale = policy(node) == "stretch" and sampling.length != sampling.extent
    if not is_cut or (wanted == whole and keeps_scale):
        return _Axis(sampling, wanted, (0, sampling.extent), whole)
    read = _samples(node, sampling, wanted)
    period = sampling.period
    if period is None or not keeps_scale:
        return _Axis(sampling, wanted, read, wanted, by_gathers=True)
    first = min(read[0] // period[0], wanted[0] // period[1])
    last = max(-(-read[1] // period[0]), -(-wanted[1] // period[1]))
    held, computed = ((first * step, last * step) for step in period)
    return _Axis(sampling, wanted, held, computed)


def _samples(node: BoundNode, sampling: Sampling, wanted: Bounds) -> Bounds:
    """Inputs under the outputs `wanted`."""
    if mode(node) == "nearest":
        return sampling.nearest(wanted[0]), sampling.nearest(wanted[1] - 1) + 1
    return sampling.linear(wanted[0])[0], sampling.linear(wanted[1] - 1)[1] + 1


def _nearest(axes: tuple[_Axis, ...], number: int, source: int | str, target: int | str) -> tuple[LocalNode, ...]:
    """Gather of the inputs that the wanted outputs copy."""
    axis = axes[number]
    picked = tuple(axis.sampling.nearest(output) - axis.read[0] for output in range(*axis.wanted))
    return (LocalNode("Gather", (source, Const(picked)), (target,), (("axis", number),)),)


def _linear(axes: tuple[_Axis, ...], number: int, source: int | str, target: int | str) -> tuple[LocalNode, ...]:
    """Weighted sum of two gathers: the inputs below and above every wanted output."""
    axis, name = axes[number], f"axis{number}"
    below, above, *weights = zip(*(axis.sampling.linear(output) for output in range(*axis.wanted)), strict=True)
    shape = (len(below), *(1,) * (len(axes) - number - 1))
    nodes = []
    for side, inputs, weight in zip(("below", "above"), (below, above), weights, strict=True):
        picked = Const(tuple(item - axis.read[0] for item in inputs))
        nodes += [
            LocalNode("Gather", (source, picked), (f"{name}_{side}",), (("axis", number),)),
            LocalNode("Mul", (f"{name}_{side}", Const(weight, "float32", shape)), (f"{name}_{side}_share",)),
        ]
    return (*nodes, LocalNode("Add", (f"{name}_below_share", f"{name}_above_share"), (target,)))


def _itself(node: BoundNode, axes: tuple[_Axis, ...], source: int | str, target: int | str) -> tuple[LocalNode, ...]:
    """The operator, for the axes that it still has to resize."""
    named = [axes[number] for number in named_axes(node)]
    scales = tuple(axis.sampling.scale if axis.is_resized_here else 1.0 for axis in named)
    if not is_modern(node):
        if not node.has_input(1):
            return (LocalNode(node.op, (source,), (target,), (("scales", scales),), inherit=True),)
        return (LocalNode(node.op, (source, Const(scales, "float32")), (target,), inherit=True),)
    roi = 1 if crops(node) else Const((), "float32")
    if not has_sizes(node):
        return (LocalNode(node.op, (source, roi, Const(scales, "float32")), (target,), inherit=True),)
    sizes = tuple(axis.computed[1] - axis.computed[0] for axis in named)
    if policy(node) != "stretch":  # then every named axis is still whole, and the limits are what they were
        sizes = node.constant(3) or sizes
    inputs = (source, roi, Const((), "float32"), Const(sizes))
    return (LocalNode(node.op, inputs, (target,), inherit=True),)
