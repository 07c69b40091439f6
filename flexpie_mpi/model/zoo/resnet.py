"""Residual networks: He et al., "Deep Residual Learning for Image Recognition", 2015, table 1."""

from __future__ import annotations

from collections.abc import Callable

from .builder import Builder, Tensor

_BRANCH_GAIN = 0.3
"""Of the last convolution of a branch: small enough for 33 blocks to add up."""

Block = Callable[[Builder, str, Tensor, int, int], Tensor]


def basic(b: Builder, name: str, x: Tensor, width: int, stride: int) -> Tensor:
    """Two 3x3 convolutions beside a shortcut."""
    y = b.conv(f"{name}.conv1", x, width, 3, stride=stride, norm=True, act="relu")
    y = b.conv(f"{name}.conv2", y, width, 3, norm=True, gain=_BRANCH_GAIN)
    return _join(b, name, x, y, stride)


def bottleneck(b: Builder, name: str, x: Tensor, width: int, stride: int) -> Tensor:
    """1x1 down to `width`, 3x3, 1x1 up to four times `width`, beside a shortcut.

    The stride is on the 3x3 convolution, as in the released models of today.
    """
    y = b.conv(f"{name}.conv1", x, width, norm=True, act="relu")
    y = b.conv(f"{name}.conv2", y, width, 3, stride=stride, norm=True, act="relu")
    y = b.conv(f"{name}.conv3", y, 4 * width, norm=True, gain=_BRANCH_GAIN)
    return _join(b, name, x, y, stride)


def build(
    b: Builder, block: Block, depths: tuple[int, ...], width: int = 64, size: int = 224, classes: int = 1000
) -> None:
    """A stem, then stages of ``depths[i]`` blocks; each after the first halves the extent and doubles the width."""
    x = b.input("input", (3, size, size))
    x = b.conv("conv1", x, width, 7, stride=2, norm=True, act="relu")
    x = b.max_pool("maxpool", x, 3, 2, pad=1)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            x = block(b, f"layer{stage + 1}.{index}", x, width << stage, stride)
    x = b.flatten("flatten", b.global_average_pool("avgpool", x))
    b.output("scores", b.linear("fc", x, classes))


def _join(b: Builder, name: str, x: Tensor, y: Tensor, stride: int) -> Tensor:
    """Branch plus shortcut, projected where the shapes differ."""
    if x.shape != y.shape:
        x = b.conv(f"{name}.downsample", x, y.shape[0], stride=stride, norm=True)
    return b.act(f"{name}.relu", b.add(f"{name}.add", y, x), "relu")
