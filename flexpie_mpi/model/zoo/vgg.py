"""VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014, table 1."""

from __future__ import annotations

from .builder import Builder

D = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions between poolings, for configuration D (VGG-16)."""


def build(
    b: Builder,
    table: tuple[tuple[int, ...], ...] = D,
    hidden: int = 4096,
    size: int = 224,
    classes: int = 1000,
) -> None:
    """3x3 convolutions with biases, a 2x2 pooling after each group, three fully connected layers."""
    x = b.input("input", (3, size, size))
    for group, widths in enumerate(table, 1):
        for index, channels in enumerate(widths, 1):
            x = b.conv(f"conv{group}_{index}", x, channels, 3, act="relu")
        x = b.max_pool(f"pool{group}", x, 2, 2)
    x = b.flatten("flatten", x)
    x = b.linear("fc6", x, hidden, act="relu")
    x = b.linear("fc7", x, hidden, act="relu")
    b.output("scores", b.linear("fc8", x, classes))
