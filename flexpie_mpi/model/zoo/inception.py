"""Inception v1: Szegedy et al., "Going Deeper with Convolutions", 2014, table 1, without the auxiliary heads."""

from __future__ import annotations

from collections.abc import Mapping

from .builder import Builder, Tensor

Widths = tuple[int, int, int, int, int, int]

GOOGLENET: Mapping[str, Widths] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Channels of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and pool projection, by module."""


def build(
    b: Builder,
    table: Mapping[str, Widths] = GOOGLENET,
    stem: tuple[int, int] = (64, 192),
    size: int = 224,
    classes: int = 1000,
) -> None:
    """A stem with local response normalisation, then inception modules; a pooling where the stage digit changes."""
    x = b.input("input", (3, size, size))
    x = b.conv("conv1", x, stem[0], 7, stride=2, act="relu")
    x = b.local_response_norm("norm1", b.max_pool("pool1", x, 3, 2, ceil_mode=True))
    x = b.conv("conv2.reduce", x, stem[0], act="relu")
    x = b.local_response_norm("norm2", b.conv("conv2", x, stem[1], 3, act="relu"))
    stage = "2"
    for module, widths in table.items():
        if module[0] != stage:
            x = b.max_pool(f"pool{stage}", x, 3, 2, ceil_mode=True)
        x = _module(b, f"inception_{module}", x, widths)
        stage = module[0]
    x = b.flatten("flatten", b.average_pool("avgpool", x, x.shape[1]))
    b.output("scores", b.linear("classifier", x, classes))


def _module(b: Builder, name: str, x: Tensor, widths: Widths) -> Tensor:
    """Four branches side by side: 1x1, 3x3, 5x5 and a pooling, figure 2(b)."""
    one, reduce_three, three, reduce_five, five, project = widths
    branches = [
        b.conv(f"{name}.1x1", x, one, act="relu"),
        b.conv(f"{name}.3x3", b.conv(f"{name}.3x3_reduce", x, reduce_three, act="relu"), three, 3, act="relu"),
        b.conv(f"{name}.5x5", b.conv(f"{name}.5x5_reduce", x, reduce_five, act="relu"), five, 5, act="relu"),
        b.conv(f"{name}.project", b.max_pool(f"{name}.pool", x, 3, 1, pad=1), project, act="relu"),
    ]
    return b.concat(f"{name}.concat", branches)
