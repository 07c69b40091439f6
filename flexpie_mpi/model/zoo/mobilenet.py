"""MobileNets: Howard et al. 2017 (v1, table 1) and Sandler et al. 2018 (v2, table 2)."""

from __future__ import annotations

from .builder import Builder, Tensor

V1 = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
"""Channels and stride of each depthwise separable block."""

V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion t, channels c, repeats n and first stride s of each row of inverted residual blocks."""

_BRANCH_GAIN = 0.5


def build_v1(b: Builder, table: tuple[tuple[int, int], ...] = V1, stem: int = 32) -> None:
    """Depthwise 3x3 and pointwise 1x1 convolutions in turn, each with batch normalisation and ReLU."""
    x = b.input("input", (3, 224, 224))
    x = b.conv("conv1", x, stem, 3, stride=2, norm=True, act="relu")
    for index, (channels, stride) in enumerate(table, 2):
        x = _depthwise(b, f"conv{index}.depthwise", x, stride, "relu")
        x = b.conv(f"conv{index}.pointwise", x, channels, norm=True, act="relu")
    _classify(b, x, 1000)


def build_v2(
    b: Builder,
    table: tuple[tuple[int, int, int, int], ...] = V2,
    stem: int = 32,
    head: int = 1280,
    size: int = 224,
    classes: int = 1000,
) -> None:
    """Inverted residual blocks with linear bottlenecks and ReLU6."""
    x = b.input("input", (3, size, size))
    x = b.conv("stem", x, stem, 3, stride=2, norm=True, act="relu6")
    index = 0
    for expansion, channels, repeats, first_stride in table:
        for repeat in range(repeats):
            index += 1
            x = _inverted_residual(b, f"block{index}", x, expansion, channels, 1 if repeat else first_stride)
    _classify(b, b.conv("head", x, head, norm=True, act="relu6"), classes)


def _inverted_residual(b: Builder, name: str, x: Tensor, expansion: int, channels: int, stride: int) -> Tensor:
    """Expand, filter each channel by itself, project; a shortcut where the shapes allow one."""
    y = x
    if expansion > 1:
        y = b.conv(f"{name}.expand", y, expansion * x.shape[0], norm=True, act="relu6")
    y = _depthwise(b, f"{name}.depthwise", y, stride, "relu6")
    has_shortcut = stride == 1 and x.shape[0] == channels
    y = b.conv(f"{name}.project", y, channels, norm=True, gain=_BRANCH_GAIN if has_shortcut else 1.0)
    return b.add(f"{name}.add", x, y) if has_shortcut else y


def _depthwise(b: Builder, name: str, x: Tensor, stride: int, act: str) -> Tensor:
    return b.conv(name, x, x.shape[0], 3, stride=stride, group=x.shape[0], norm=True, act=act)


def _classify(b: Builder, x: Tensor, classes: int) -> None:
    x = b.flatten("flatten", b.global_average_pool("avgpool", x))
    b.output("scores", b.linear("classifier", x, classes))
