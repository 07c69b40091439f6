"""Where Resize and Upsample take their samples, axis by axis: onnxruntime's single-precision arithmetic, step by step.

Nearest-neighbour indices jump where coordinates are rounded, so the coordinates have to agree to the last bit. A double
holds the product, sum or quotient of two singles well enough that rounding it to single gives what single precision
gives. Versions of onnxruntime differ in what they do very close to a jump; there an index is not certain.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from ..core.graph import BoundNode

_LONGEST_PERIOD = 64


def single(number: float) -> float:
    """The single-precision number nearest to `number`."""
    return float(struct.unpack("f", struct.pack("f", number))[0])


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an axis of `extent` inputs becomes one of `length` outputs."""

    extent: int
    length: int
    scale: float  # ``length / extent`` or what the operator was given for it, in single precision
    transform: str = "half_pixel"  # ``coordinate_transformation_mode`` of Resize
    rounding: str = "round_prefer_floor"  # ``nearest_mode`` of Resize, or "simple" for the operators before it had one

    @property
    def is_identity(self) -> bool:
        """Whether output i is input i, so that the axis can be cut freely."""
        return self.scale == 1.0 and self.extent == self.length

    @property
    def period(self) -> tuple[int, int] | None:
        """Numbers of inputs and of outputs after which the pattern of samples repeats.

        None where coordinates depend on the extents, or are too close to a jump after a shift. Scales that are a short
        binary fraction give exact coordinates wherever it counts.

        >>> Sampling(6, 9, 1.5).period
        (2, 3)
        """
        ratio = Fraction(self.scale)
        is_exact = max(ratio.numerator, ratio.denominator) <= _LONGEST_PERIOD and ratio * self.extent == self.length
        depends_on_length = self.transform == "align_corners" or (
            self.transform == "pytorch_half_pixel" and self.scale < 2  # it treats an output of one element apart
        )
        return (ratio.denominator, ratio.numerator) if is_exact and not depends_on_length else None

    def coordinate(self, output: int) -> float:
        """Where in the input an output lies."""
        if self.scale == 1.0:
            return float(output)
        if self.transform == "align_corners":
            stretched = single(float(output) * (self.extent - 1))
            return 0.0 if self.length == 1 else single(stretched / (self.length - 1))
        if self.transform == "asymmetric":
            return single(output / self.scale)
        if self.transform == "half_pixel_symmetric":
            return single(self._offset() + (output + 0.5) / self.scale - 0.5)
        middle = single((output + 0.5) / self.scale)
        if self.transform == "tf_half_pixel_for_nn":
            return middle
        if self.transform == "pytorch_half_pixel" and self.length <= 1:
            return 0.0
        return single(middle - 0.5)

    def _offset(self) -> float:
        """Shift that keeps the centre in place when `scale` does not quite give `length`."""
        adjustment = single(self.length / single(self.scale * self.extent))
        return single(self.extent / 2 * single(1.0 - adjustment))

    def nearest(self, output: int) -> int:
        """The input that an output copies."""
        return min(max(_rounded(self.coordinate(output), self.rounding, self.scale < 1), 0), self.extent - 1)

    def linear(self, output: int) -> tuple[int, int, float, float]:
        """The two inputs between which an output lies, and their weights."""
        last = self.extent - 1
        at = min(max(self.coordinate(output), 0.0), float(last))
        lo = min(int(at), last)
        hi = min(lo + 1, last)
        if lo == hi:
            return lo, hi, 0.5, 0.5
        return lo, hi, single(hi - at), single(at - lo)


@lru_cache(maxsize=4096)
def is_certain(sampling: Sampling) -> bool:
    """Whether every version of onnxruntime copies the same inputs: no coordinate is close to a jump but not on it."""
    if sampling.is_identity:
        return True
    jump = 0.5 if sampling.rounding.startswith("round") else 0.0
    distances = (sampling.coordinate(output) - jump for output in range(sampling.length))
    return not any(0 < abs(at - round(at)) < 2e-6 + 5e-7 * abs(at) for at in distances)


def _rounded(at: float, rounding: str, shrinks: bool) -> int:
    if rounding == "simple":
        rounding = "ceil" if shrinks else "floor"
    if rounding == "floor":
        return math.floor(at)
    if rounding == "ceil":
        return math.ceil(at)
    if rounding == "round_prefer_floor" and at == int(at) + 0.5:
        return int(at)
    return math.floor(at + 0.5) if at >= 0 else math.ceil(at - 0.5)


# What a node says of its axes, in the words of any opset


def is_modern(node: BoundNode) -> bool:
    """Whether a node has coordinate modes, a region of interest and sizes: Resize from opset 11 on."""
    return node.op == "Resize" and node.opset > 10


def has_sizes(node: BoundNode) -> bool:
    """Whether sizes are given, and not scales."""
    return is_modern(node) and node.has_input(3) and node.in_shape(3) != (0,)


def mode(node: BoundNode) -> str:
    """How samples are made: "nearest", "linear" (by any of its older names) or "cubic"."""
    name = str(node.attribute("mode", "nearest"))
    return "linear" if name.endswith("linear") else name


def policy(node: BoundNode) -> str:
    """What sizes mean: "stretch", or limits within which the aspect ratio is kept."""
    return str(node.attribute("keep_aspect_ratio_policy", "stretch")) if has_sizes(node) else "stretch"


def crops(node: BoundNode) -> bool:
    """Whether a region of interest is resized, and not all of the value."""
    return bool(node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize")


def named_axes(node: BoundNode) -> tuple[int, ...]:
    """The axes that scales and sizes speak of."""
    ndim = len(node.in_shape())
    return tuple(axis % ndim for axis in node.attribute("axes") or range(ndim))


def samplings(node: BoundNode) -> tuple[Sampling, ...] | None:
    """How every axis is resampled.

    None when that is known only in the run, when axes are cropped and not scaled, and when scales change no extent:
    whether onnxruntime then copies or samples depends on its version. None too where sizes are limits for axes that
    are counted from the back, which onnxruntime then leaves as they are.
    """
    scales, shape = _scales(node), node.out_shape()
    if scales is None or (crops(node) and not _keeps_uncropped(node, scales)):
        return None
    if shape == node.in_shape() and set(scales) != {1.0}:
        return None
    by_axis = dict(zip(named_axes(node), scales, strict=True))
    transform, rounding = "asymmetric", "simple"
    if is_modern(node):
        transform = node.attribute("coordinate_transformation_mode", "half_pixel")
        rounding = node.attribute("nearest_mode", "round_prefer_floor")
    return tuple(
        Sampling(extent, shape[axis], by_axis.get(axis, 1.0), transform, rounding)
        for axis, extent in enumerate(node.in_shape())
    )


def _scales(node: BoundNode) -> tuple[float, ...] | None:
    """Scale along each of the named axes, in single precision; None when it comes out of the run."""
    if not has_sizes(node):
        given = node.constant_or_attribute("scales", 2 if is_modern(node) else 1)
        return tuple(single(scale) for scale in given) if given else None
    extents = [node.in_shape()[axis] for axis in named_axes(node)]
    if policy(node) == "stretch":
        lengths = [node.out_shape()[axis] for axis in named_axes(node)]
        return tuple(single(length / extent) for length, extent in zip(lengths, extents, strict=True))
    sizes = node.constant(3)
    if sizes is None or min(node.attribute("axes") or (0,)) < 0:
        return None
    ratios = [single(size / extent) for size, extent in zip(sizes, extents, strict=True)]
    return (min(ratios) if policy(node) == "not_larger" else max(ratios),) * len(ratios)


def _keeps_uncropped(node: BoundNode, scales: tuple[float, ...]) -> bool:
    """Whether the region of interest is known and takes nothing from the axes that are not scaled."""
    roi = node.constant(1)
    if not roi:
        return False
    corners = zip(roi[: len(scales)], roi[len(scales) :], scales, strict=True)
    return all(scale != 1.0 or (start, end) == (0.0, 1.0) for start, end, scale in corners)
