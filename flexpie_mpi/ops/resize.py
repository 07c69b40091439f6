"""Resize and Upsample: free cuts where an axis keeps its size, gathers and weighted sums where it does not."""

from __future__ import annotations

from ..graph import BoundNode
from ..region import Bounds, Region
from .base import Const, LocalNode, OpRule, Regions, macs, register
from .sampling import Sampling, is_certain, single
from .trim import hull

_LINEAR = ("linear", "bilinear", "trilinear")


@register
class Resize(OpRule):
    """Resampling by scales or sizes known before the run.

    A box that is whole along every resized axis is computed by the operator itself. For others the same samples are
    gathered one axis at a time and, in linear mode, summed with their weights: its coordinates are those of the whole
    value, which the operator could not know on a part. Cubic and antialiased axes are not cut.
    """

    ops = ("Resize", "Upsample")

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        samplings = _samplings(node)
        if samplings is None:
            return super().cut_axes(node)
        return (frozenset(axis for axis, item in enumerate(samplings) if item.is_identity or _is_sampled(node, item)),)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        samplings = _samplings(node)
        if samplings is None:
            return super().in_regions(node, out)
        pairs = zip(samplings, hull(out).bounds, strict=True)
        data = Region(tuple(self._read(node, sampling, wanted) for sampling, wanted in pairs))
        if self._by_samples(node, out):
            return (data, *(None for _ in node.inputs[1:]))
        keeps = (_is_kept(node, place) for place in range(1, len(node.inputs)))
        return (data, *(Region.full(node.in_shape(place)) if kept else None for place, kept in enumerate(keeps, 1)))

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        held, region = into[0], hull(out)
        assert held is not None
        if not self._by_samples(node, out):
            return (_itself(node, region, into),)
        axes = [
            (axis, sampling, wanted, lo)
            for axis, (sampling, wanted, (lo, _)) in enumerate(
                zip(_samplings(node) or (), region.bounds, held.bounds, strict=True)
            )
            if not sampling.is_identity
        ]
        names: list[int | str] = [0, *(f"axis{axis}" for axis, *_ in axes[:-1]), 0]
        form = _nearest if _mode(node) == "nearest" else _linear
        return tuple(
            local
            for place, (axis, sampling, wanted, lo) in enumerate(axes)
            for local in form(names[place], names[place + 1], axis, region.ndim, sampling, wanted, lo)
        )

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Multiply-accumulates of the samples under an output element; none for nearest."""
        resized = sum(not item.is_identity for item in _samplings(node) or ())
        taps = {"nearest": 0, "cubic": 4**resized}.get(_mode(node), 2**resized)
        return macs(hull(out).size * taps)

    def _by_samples(self, node: BoundNode, out: Regions) -> bool:
        """Whether a box cuts a resized axis."""
        axes = zip(_samplings(node) or (), hull(out).bounds, strict=True)
        return any(not item.is_identity and wanted != (0, item.length) for item, wanted in axes)

    def _read(self, node: BoundNode, sampling: Sampling, wanted: Bounds) -> Bounds:
        if sampling.is_identity:
            return wanted
        if wanted == (0, sampling.length):
            return 0, sampling.extent
        if _mode(node) == "nearest":
            return sampling.nearest(wanted[0]), sampling.nearest(wanted[1] - 1) + 1
        return sampling.linear(wanted[0])[0], sampling.linear(wanted[1] - 1)[1] + 1


def _nearest(
    source: int | str, target: int | str, axis: int, ndim: int, sampling: Sampling, wanted: Bounds, first: int
) -> tuple[LocalNode, ...]:
    """Gather of the inputs that the outputs `wanted` copy; `first` is the first one held."""
    picked = tuple(sampling.nearest(place) - first for place in range(*wanted))
    return (LocalNode("Gather", (source, Const(picked)), (target,), (("axis", axis),)),)


def _linear(
    source: int | str, target: int | str, axis: int, ndim: int, sampling: Sampling, wanted: Bounds, first: int
) -> tuple[LocalNode, ...]:
    """Weighted sum of two gathers: the inputs below and above every output in `wanted`."""
    below, above, *weights = zip(*(sampling.linear(place) for place in range(*wanted)), strict=True)
    shape = (len(below), *(1,) * (ndim - axis - 1))
    name, nodes = f"linear{axis}", []
    for side, places, weight in zip(("below", "above"), (below, above), weights, strict=True):
        picked = Const(tuple(place - first for place in places))
        nodes += [
            LocalNode("Gather", (source, picked), (f"{name}_{side}",), (("axis", axis),)),
            LocalNode("Mul", (f"{name}_{side}", Const(weight, "float32", shape)), (f"{name}_{side}_share",)),
        ]
    return (*nodes, LocalNode("Add", (f"{name}_below_share", f"{name}_above_share"), (target,)))


def _itself(node: BoundNode, region: Region, into: Regions) -> LocalNode:
    """The operator with the sizes that give `region`; scales hold for any part."""
    if _sizes_place(node) is None:
        inputs = tuple(_empty() if region is None and place else place for place, region in enumerate(into[:3]))
        return LocalNode(node.op, inputs, (0,), inherit=True)
    given = node.constant(3) or tuple(node.out_shape()[axis] for axis in _axes(node))
    samplings = _samplings(node) or ()
    pairs = zip(_axes(node), given, strict=True)
    sizes = tuple(region.shape[axis] if samplings[axis].is_identity else size for axis, size in pairs)
    roi = 1 if into[1] is not None else _empty()
    return LocalNode(node.op, (0, roi, _empty(), Const(sizes)), (0,), inherit=True)


def _empty() -> Const:
    """What stands for an absent roi or scales, which opset 11 does not let be left out."""
    return Const((), "float32")


def _is_kept(node: BoundNode, place: int) -> bool:
    """Whether the operator itself still needs an input: its scales, or a region of interest that counts."""
    return (place == _scales_place(node) and _sizes_place(node) is None) or (place == 1 and _crops(node))


def _scales_place(node: BoundNode) -> int:
    return 2 if node.op == "Resize" and node.opset > 10 else 1


def _sizes_place(node: BoundNode) -> int | None:
    """Input that holds the sizes, when sizes are given and not scales."""
    return 3 if node.op == "Resize" and node.opset > 10 and node.has_input(3) and node.in_shape(3) != (0,) else None


def _mode(node: BoundNode) -> str:
    return str(node.attribute("mode", "nearest"))


def _crops(node: BoundNode) -> bool:
    return bool(node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize")


def _is_sampled(node: BoundNode, sampling: Sampling) -> bool:
    """Whether samples along an axis are known copies or plain weighted sums; types other than float32 round those."""
    value, mode = node.inputs[0], _mode(node)
    if _crops(node):
        return False
    is_sum = mode in _LINEAR and value is not None and value.dtype == "float32" and not node.attribute("antialias", 0)
    return is_sum or (mode == "nearest" and is_certain(sampling))


def _axes(node: BoundNode) -> tuple[int, ...]:
    """The axes that scales and sizes speak of."""
    ndim = len(node.in_shape())
    return tuple(axis % ndim for axis in node.attribute("axes") or range(ndim))


def _scales(node: BoundNode) -> tuple[float, ...] | None:
    """Scale along each of :func:`_axes`, in single precision; None when it comes out of the run."""
    if _sizes_place(node) is None:
        given = node.constant_or_attribute("scales", _scales_place(node))
        return tuple(single(scale) for scale in given) if given else None
    extents = [node.in_shape()[axis] for axis in _axes(node)]
    policy = node.attribute("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        lengths = (node.out_shape()[axis] for axis in _axes(node))
        return tuple(single(length / extent) for length, extent in zip(lengths, extents, strict=True))
    sizes = node.constant(3)
    if sizes is None:
        return None
    ratios = [single(size / extent) for size, extent in zip(sizes, extents, strict=True)]
    return (min(ratios) if policy == "not_larger" else max(ratios),) * len(ratios)


def _samplings(node: BoundNode) -> tuple[Sampling, ...] | None:
    """How every axis is resampled.

    None when that is known only in the run, when axes are cropped and not scaled, and when scales change no extent:
    whether onnxruntime then copies or samples depends on its version.
    """
    scales, shape = _scales(node), node.out_shape()
    if scales is None or (_crops(node) and not _keeps_uncropped(node, scales)):
        return None
    if shape == node.in_shape() and set(scales) != {1.0}:
        return None
    by_axis = dict(zip(_axes(node), scales, strict=True))
    transform, rounding = "asymmetric", "simple"
    if node.op == "Resize" and node.opset > 10:
        transform = node.attribute("coordinate_transformation_mode", "half_pixel")
        rounding = node.attribute("nearest_mode", "round_prefer_floor")
    return tuple(
        Sampling(extent, shape[axis], by_axis.get(axis, 1.0), transform, rounding)
        for axis, extent in enumerate(node.in_shape())
    )


def _keeps_uncropped(node: BoundNode, scales: tuple[float, ...]) -> bool:
    """Whether the region of interest is known and takes nothing from the axes that are not scaled."""
    roi = node.constant(1)
    if not roi:
        return False
    corners = zip(roi[: len(scales)], roi[len(scales) :], scales, strict=True)
    return all(scale != 1.0 or (start, end) == (0.0, 1.0) for start, end, scale in corners)
