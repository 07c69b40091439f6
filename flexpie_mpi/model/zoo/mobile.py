"""Published networks for small devices: channels are filtered one by one, and mixed by 1x1 convolutions.

- MobileNet: Howard et al., "MobileNets", 2017; version 2: Sandler et al., "MobileNetV2", 2018; version 3: Howard et
  al., "Searching for MobileNetV3", 2019.
- EfficientNet: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

from .builder import Builder, Tensor
from .published import classify

MOBILENET_V1 = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
"""Channels and stride of each depthwise separable block."""

MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion t, channels c, repeats n and first stride s of each row of inverted residual blocks."""

MOBILENET_V3 = (
    (3, 16, 16, 0, "relu", 1),
    (3, 64, 24, 0, "relu", 2),
    (3, 72, 24, 0, "relu", 1),
    (5, 72, 40, 24, "relu", 2),
    (5, 120, 40, 32, "relu", 1),
    (5, 120, 40, 32, "relu", 1),
    (3, 240, 80, 0, "hardswish", 2),
    (3, 200, 80, 0, "hardswish", 1),
    (3, 184, 80, 0, "hardswish", 1),
    (3, 184, 80, 0, "hardswish", 1),
    (3, 480, 112, 120, "hardswish", 1),
    (3, 672, 112, 168, "hardswish", 1),
    (5, 672, 160, 168, "hardswish", 2),
    (5, 960, 160, 240, "hardswish", 1),
    (5, 960, 160, 240, "hardswish", 1),
)
"""Kernel, expanded channels, channels, channels of the gate (0: none), activation and stride of each block.

A gate is as narrow as in the released models: a quarter of the expanded channels, in multiples of 8.
"""

EFFICIENTNET_B0 = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
"""Expansion, kernel, channels, repeats and first stride of each row of inverted residual blocks."""

_PROJECTION_GAINS = {(False, False): 1.0, (False, True): 0.5, (True, False): 3.5, (True, True): 0.7}
"""Gain of a block's last convolution, by whether a gate precedes it (it halves values on average) and a sum follows."""


@dataclass(frozen=True, slots=True)
class _Gate:
    """Squeeze and excitation inside a block: its channels, the activation between its layers, and the last one."""

    channels: int
    act: str
    scale: str


def mobilenet_v1(b: Builder, table: tuple[tuple[int, int], ...] = MOBILENET_V1, stem: int = 32) -> None:
    """MobileNet, table 1: depthwise 3x3 and pointwise 1x1 convolutions in turn, each with batch norm and ReLU."""
    x = b.input("input", (3, 224, 224))
    x = b.conv("conv1", x, stem, 3, stride=2, norm=True, act="relu")
    for index, (channels, stride) in enumerate(table, 2):
        x = _depthwise(b, f"conv{index}.depthwise", x, 3, stride, "relu")
        x = b.conv(f"conv{index}.pointwise", x, channels, norm=True, act="relu")
    classify(b, x, 1000)


def mobilenet_v2(
    b: Builder,
    table: tuple[tuple[int, int, int, int], ...] = MOBILENET_V2,
    stem: int = 32,
    head: int = 1280,
    size: int = 224,
    classes: int = 1000,
) -> None:
    """MobileNetV2, table 2: inverted residual blocks with linear bottlenecks and ReLU6."""
    x = b.input("input", (3, size, size))
    x = b.conv("stem", x, stem, 3, stride=2, norm=True, act="relu6")
    index = 0
    for expansion, channels, repeats, first_stride in table:
        for repeat in range(repeats):
            index += 1
            stride = 1 if repeat else first_stride
            x = _inverted_residual(b, f"block{index}", x, expansion * x.shape[0], channels, 3, stride, "relu6")
    classify(b, b.conv("head", x, head, norm=True, act="relu6"), classes)


def mobilenet_v3(b: Builder, size: int = 224, classes: int = 1000) -> None:
    """MobileNetV3-Large, table 1: inverted residual blocks, some gated; the last layers work on the pooled map."""
    x = b.input("input", (3, size, size))
    x = b.conv("stem", x, 16, 3, stride=2, norm=True, act="hardswish")
    for index, (kernel, expanded, channels, squeezed, act, stride) in enumerate(MOBILENET_V3, 1):
        gate = _Gate(squeezed, "relu", "hardsigmoid") if squeezed else None
        x = _inverted_residual(b, f"block{index}", x, expanded, channels, kernel, stride, act, gate)
    x = b.conv("head", x, 6 * x.shape[0], norm=True, act="hardswish")
    x = b.flatten("flatten", b.global_average_pool("avgpool", x))
    x = b.linear("hidden", x, 1280, act="hardswish")
    b.output("scores", b.linear("classifier", x, classes))


def efficientnet_b0(b: Builder, size: int = 224, classes: int = 1000) -> None:
    """EfficientNet-B0, table 1: inverted residual blocks with Swish, each with a gate of a quarter of its input."""
    x = b.input("input", (3, size, size))
    x = b.conv("stem", x, 32, 3, stride=2, norm=True, act="swish")
    index = 0
    for expansion, kernel, channels, repeats, first_stride in EFFICIENTNET_B0:
        for repeat in range(repeats):
            index += 1
            stride = 1 if repeat else first_stride
            gate, expanded = _Gate(x.shape[0] // 4, "swish", "sigmoid"), expansion * x.shape[0]
            x = _inverted_residual(b, f"block{index}", x, expanded, channels, kernel, stride, "swish", gate)
    classify(b, b.conv("head", x, 1280, norm=True, act="swish"), classes)


def _inverted_residual(
    b: Builder,
    name: str,
    x: Tensor,
    expanded: int,
    channels: int,
    kernel: int,
    stride: int,
    act: str,
    gate: _Gate | None = None,
) -> Tensor:
    """Expand, filter each channel by itself, gate, project; a shortcut where the shapes allow one."""
    y = x if expanded == x.shape[0] else b.conv(f"{name}.expand", x, expanded, norm=True, act=act)
    y = _depthwise(b, f"{name}.depthwise", y, kernel, stride, act)
    if gate:
        y = b.gate(f"{name}.gate", y, gate.channels, act=gate.act, scale=gate.scale)
    has_shortcut = stride == 1 and x.shape[0] == channels
    gain = _PROJECTION_GAINS[gate is not None, has_shortcut]
    y = b.conv(f"{name}.project", y, channels, norm=True, gain=gain)
    return b.add(f"{name}.add", x, y) if has_shortcut else y


def _depthwise(b: Builder, name: str, x: Tensor, kernel: int, stride: int, act: str) -> Tensor:
    return b.conv(name, x, x.shape[0], kernel, stride=stride, group=x.shape[0], norm=True, act=act)
