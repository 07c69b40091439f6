"""Where a resized axis takes its samples: onnxruntime's own single-precision arithmetic, step by step.

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

_LONGEST_PERIOD = 64


def single(number: float) -> float:
    """The single-precision number nearest to `number`."""
    return float(struct.unpack("f", struct.pack("f", number))[0])


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an axis of `extent` inputs becomes one of `length` outputs.

    Attributes
    ----------
    scale : float
        ``length / extent`` or what the operator was given for it, in single precision.
    transform : str
        ``coordinate_transformation_mode`` of Resize.
    rounding : str
        ``nearest_mode`` of Resize, or "simple" for the operators before it had one.
    """

    extent: int
    length: int
    scale: float
    transform: str = "half_pixel"
    rounding: str = "round_prefer_floor"

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

    def coordinate(self, place: int) -> float:
        """Where in the input output `place` lies."""
        if self.scale == 1.0:
            return float(place)
        if self.transform == "align_corners":
            stretched = single(float(place) * (self.extent - 1))
            return 0.0 if self.length == 1 else single(stretched / (self.length - 1))
        if self.transform == "asymmetric":
            return single(place / self.scale)
        if self.transform == "half_pixel_symmetric":
            return single(self._offset() + (place + 0.5) / self.scale - 0.5)
        middle = single((place + 0.5) / self.scale)
        if self.transform == "tf_half_pixel_for_nn":
            return middle
        if self.transform == "pytorch_half_pixel" and self.length <= 1:
            return 0.0
        return single(middle - 0.5)

    def _offset(self) -> float:
        """Shift that keeps the centre in place when `scale` does not quite give `length`."""
        adjustment = single(self.length / single(self.scale * self.extent))
        return single(self.extent / 2 * single(1.0 - adjustment))

    def nearest(self, place: int) -> int:
        """The input that output `place` copies."""
        return min(max(_rounded(self.coordinate(place), self.rounding, self.scale < 1), 0), self.extent - 1)

    def linear(self, place: int) -> tuple[int, int, float, float]:
        """The two inputs between which output `place` lies, and their weights."""
        last = self.extent - 1
        at = min(max(self.coordinate(place), 0.0), float(last))
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
    places = (sampling.coordinate(place) - jump for place in range(sampling.length))
    return not any(0 < abs(at - round(at)) < 2e-6 + 5e-7 * abs(at) for at in places)


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
