"""Pictures as inputs: decoded, resized to what the model wants, normalised."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..core.budget import Budget
from ..core.errors import DataError
from ..core.graph import Value
from .offers import reading, wanted_dtype

Numbers = Sequence[float] | float | None
"""One number, one per channel, or None for the default."""

_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
"""The formats that are decoded, whatever the file is called."""

_MOST_PIXELS, _PIXEL_BYTES = 80_000_000, 12
"""A picture has no more pixels; each takes four bytes decoded, four turned and four converted."""

_SCAN, _MOST_SCANS = b"\xff\xda", 100
"""Each pass over a JPEG picture begins with this; there may be so many passes, of which a few bytes make one."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}

_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
"""The Exif entry of how a camera was held, and its values for pictures whose axes change places."""


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How pixels become the numbers of an input; `mean` and `scale` are float64, of shapes that go with the input's."""

    mean: np.ndarray
    scale: np.ndarray

    def applied(self, pixels: np.ndarray) -> np.ndarray:
        """The numbers, computed in float64, as float32."""
        return ((pixels - self.mean) * self.scale).astype(np.float32)


def read_image(path: Path, value: Value, mean: Numbers, scale: Numbers, budget: Budget) -> np.ndarray:
    """A picture as the input `value`, of shape ``(1, C, H, W)`` or ``(1, H, W, C)``, or without the 1.

    C of 1, 3 or 4 means grey, RGB or RGBA; where both ends look like channels, the first is taken. The picture is
    turned upright, resized to H x W without keeping its proportions (bilinear), and normalised: a pixel, 0 to 255,
    becomes ``(pixel - mean) * scale``, by default with mean 0 and scale 1/255. An input of type uint8 takes the pixels
    as they are. Raises DataError when the file is no picture, or the input is not one that takes pictures.
    """
    axis, (height, width, channels) = _geometry(path, value)
    pixels = _decode(path, _MODES[channels], (width, height), budget).reshape(height, width, channels)
    pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, axis)).reshape(value.shape)
    dtype = wanted_dtype(value)
    if dtype.kind == "f":
        return normalisation(path, value, mean, scale).applied(pixels).astype(dtype)
    if dtype != np.uint8:
        raise DataError(f"'{path}' is a picture and input '{value.name}' wants {dtype.name}: give it as .npy")
    if any(np.size(numbers) for numbers in (mean, scale) if numbers is not None):
        raise DataError(f"input '{value.name}' takes pixels as they are (uint8): mean and scale do not apply to it")
    return pixels


def normalisation(path: Path, value: Value, mean: Numbers, scale: Numbers) -> Normalisation:
    """What :func:`read_image` does with the pixels of a picture for a float input.

    Raises DataError when the input is not one that takes pictures, or has another number of channels.
    """
    axis, (_, _, channels) = _geometry(path, value)

    def shaped(name: str, numbers: Numbers, default: float) -> np.ndarray:
        array = np.array(() if numbers is None else numbers, np.float64)
        array = array if array.size else np.array(default)
        if array.size not in (1, channels):
            raise DataError(
                f"{name} has {array.size} numbers and '{path}' for input '{value.name}' has {channels} "
                f"channels: give 1 or {channels}"
            )
        return array.reshape((-1, 1, 1) if axis == 0 else -1)

    return Normalisation(shaped("mean", mean, 0.0), shaped("scale", scale, 1 / 255))


def picture_shape(path: Path, axes: Sequence[int | str | None] | None) -> tuple[int, ...]:
    """The shape that a picture, turned upright and not resized, has as an input with these axes.

    That is ``(1, C, H, W)`` or ``(1, H, W, C)``, or without the 1. The file says so without being decoded; DataError
    when it is no picture.
    """
    with reading(path, "a picture"), _opened(path) as file:
        width, height = file.size
        is_turned = file.getexif().get(_ORIENTATION, 1) in _TURNED
        channels = next((count for count, mode in _MODES.items() if mode == file.mode), 3)
    size = (width, height) if is_turned else (height, width)
    inner = axes[-3:] if axes is not None and len(axes) in (3, 4) else (None,) * 3
    front = (1,) if axes is None or len(axes) == 4 else ()
    if inner[2] in _MODES and inner[0] not in _MODES:
        return (*front, *size, channels)
    return (*front, channels, *size)


def _geometry(path: Path, value: Value) -> tuple[int, tuple[int, int, int]]:
    """(the axis of the channels, 0 or 2, and (H, W, C)) of an input without its batch axis."""
    shape = value.shape or ()
    inner = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
    if len(inner) == 3 and 0 not in inner:
        if inner[0] in _MODES:
            return 0, (inner[1], inner[2], inner[0])
        if inner[2] in _MODES:
            return 2, (inner[0], inner[1], inner[2])
    raise DataError(
        f"'{path}' is one picture and input '{value.name}' wants shape {shape}: a picture fills (1, C, H, W) or "
        "(1, H, W, C) with C of 1, 3 or 4; save anything else as .npy"
    )


def _decode(path: Path, mode: str, size: tuple[int, int], budget: Budget) -> np.ndarray:
    with reading(path, "a picture"), _opened(path) as file:
        pixels = file.size[0] * file.size[1]
        if pixels > _MOST_PIXELS:
            raise ValueError(f"it has {pixels} pixels, and {_MOST_PIXELS} are the most that are read: make it smaller")
        budget.admit(max(pixels * _PIXEL_BYTES, path.stat().st_size), f"picture '{path}'", DataError)
        if file.format == "JPEG" and path.read_bytes().count(_SCAN) > _MOST_SCANS:
            raise ValueError(f"it is drawn more than {_MOST_SCANS} times over")
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # 16 bits of grey: convert() would clip, not scale
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image if image.mode == mode else image.convert(mode)
        return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def _opened(path: Path) -> Image.Image:
    """A picture, its pixels unread."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(path, formats=_FORMATS)
