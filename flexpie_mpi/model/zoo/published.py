"""Published networks, and one of a few milliseconds that has one of each convolutional pattern.

See also `mobile`, `encoders` and `decoders`.

- VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014.
- Inception v1: Szegedy et al., "Going Deeper with Convolutions", 2014.
- ResNet: He et al., "Deep Residual Learning for Image Recognition", 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .builder import Builder, Tensor

VGG_16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions between poolings, for configuration D (VGG-16)."""


def vgg(
    b: Builder,
    table: tuple[tuple[int, ...], ...] = VGG_16,
    hidden: int = 4096,
    size: int = 224,
    classes: int = 1000,
) -> None:
    """VGG, table 1: 3x3 convolutions with biases, a 2x2 pooling after each group, three fully connected layers."""
    x = b.input("input", (3, size, size))
    for group, widths in enumerate(table, 1):
        for index, channels in enumerate(widths, 1):
            x = b.conv(f"conv{group}_{index}", x, channels, 3, act="relu")
        x = b.max_pool(f"pool{group}", x, 2, 2)
    x = b.flatten("flatten", x)
    x = b.linear("fc6", x, hidden, act="relu")
    x = b.linear("fc7", x, hidden, act="relu")
    b.output("scores", b.linear("fc8", x, classes))


InceptionWidths = tuple[int, int, int, int, int, int]

GOOGLENET: Mapping[str, InceptionWidths] = {
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


def inception(
    b: Builder,
    table: Mapping[str, InceptionWidths] = GOOGLENET,
    stem: tuple[int, int] = (64, 192),
    size: int = 224,
    classes: int = 1000,
) -> None:
    """Inception v1, table 1, without the auxiliary heads; a pooling where the digit of the stage changes."""
    x = b.input("input", (3, size, size))
    x = b.conv("conv1", x, stem[0], 7, stride=2, act="relu")
    x = b.local_response_norm("norm1", b.max_pool("pool1", x, 3, 2, ceil_mode=True))
    x = b.conv("conv2.reduce", x, stem[0], act="relu")
    x = b.local_response_norm("norm2", b.conv("conv2", x, stem[1], 3, act="relu"))
    stage = "2"
    for module, widths in table.items():
        if module[0] != stage:
            x = b.max_pool(f"pool{stage}", x, 3, 2, ceil_mode=True)
        x = _inception_module(b, f"inception_{module}", x, widths)
        stage = module[0]
    x = b.flatten("flatten", b.average_pool("avgpool", x, x.shape[1]))
    b.output("scores", b.linear("classifier", x, classes))


def _inception_module(b: Builder, name: str, x: Tensor, widths: InceptionWidths) -> Tensor:
    """Four branches side by side: 1x1, 3x3, 5x5 and a pooling, figure 2(b)."""
    one, reduce_three, three, reduce_five, five, project = widths
    branches = [
        b.conv(f"{name}.1x1", x, one, act="relu"),
        b.conv(f"{name}.3x3", b.conv(f"{name}.3x3_reduce", x, reduce_three, act="relu"), three, 3, act="relu"),
        b.conv(f"{name}.5x5", b.conv(f"{name}.5x5_reduce", x, reduce_five, act="relu"), five, 5, act="relu"),
        b.conv(f"{name}.project", b.max_pool(f"{name}.pool", x, 3, 1, pad=1), project, act="relu"),
    ]
    return b.concat(f"{name}.concat", branches)


_RESNET_GAIN = 0.3
"""Gain of the last convolution of a branch: small enough for 33 blocks to add up."""

ResidualBlock = Callable[[Builder, str, Tensor, int, int], Tensor]


def basic(b: Builder, name: str, x: Tensor, width: int, stride: int) -> Tensor:
    """Two 3x3 convolutions beside a shortcut."""
    y = b.conv(f"{name}.conv1", x, width, 3, stride=stride, norm=True, act="relu")
    y = b.conv(f"{name}.conv2", y, width, 3, norm=True, gain=_RESNET_GAIN)
    return _add_shortcut(b, name, x, y, stride)


def bottleneck(b: Builder, name: str, x: Tensor, width: int, stride: int) -> Tensor:
    """1x1 down to `width`, 3x3, 1x1 up to four times `width`, beside a shortcut.

    The stride is on the 3x3 convolution, as in the released models of today.
    """
    y = b.conv(f"{name}.conv1", x, width, norm=True, act="relu")
    y = b.conv(f"{name}.conv2", y, width, 3, stride=stride, norm=True, act="relu")
    y = b.conv(f"{name}.conv3", y, 4 * width, norm=True, gain=_RESNET_GAIN)
    return _add_shortcut(b, name, x, y, stride)


def resnet(
    b: Builder, block: ResidualBlock, depths: tuple[int, ...], width: int = 64, size: int = 224, classes: int = 1000
) -> None:
    """ResNet, table 1: a stem, then stages of ``depths[i]`` blocks.

    Each stage after the first halves the extent and doubles the width.
    """
    x = b.input("input", (3, size, size))
    x = b.conv("conv1", x, width, 7, stride=2, norm=True, act="relu")
    x = b.max_pool("maxpool", x, 3, 2, pad=1)
    for stage, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            x = block(b, f"layer{stage + 1}.{index}", x, width << stage, stride)
    classify(b, x, classes, "fc")


def _add_shortcut(b: Builder, name: str, x: Tensor, y: Tensor, stride: int) -> Tensor:
    """Branch plus shortcut, projected where the shapes differ."""
    if x.shape != y.shape:
        x = b.conv(f"{name}.downsample", x, y.shape[0], stride=stride, norm=True)
    return b.act(f"{name}.relu", b.add(f"{name}.add", y, x), "relu")


def tiny(b: Builder) -> None:
    """A residual, a depthwise separable pair, two branches side by side, poolings, groups, a classifier."""
    x = b.input("input", (3, 32, 32))
    x = b.conv("stem", x, 16, 3, norm=True, act="relu")
    y = b.conv("residual.conv1", x, 16, 3, norm=True, act="relu")
    y = b.conv("residual.conv2", y, 16, 3, norm=True, gain=0.5)
    x = b.act("residual.relu", b.add("residual.add", x, y), "relu")
    x = b.max_pool("pool", x, 3, 2, pad=1)
    x = b.conv("separable.depthwise", x, 16, 3, group=16, norm=True, act="relu6")
    x = b.conv("separable.pointwise", x, 32, norm=True, act="relu6")
    left = b.conv("branch.left", x, 24, 5, stride=2, act="relu")
    right = b.conv("branch.right", b.max_pool("branch.pool", x, 2, 2), 24, group=4, act="relu")
    x = b.concat("branch.concat", [left, right])
    x = b.conv("last", x, 64, 3, act="relu")
    classify(b, x, 10)


def classify(b: Builder, x: Tensor, classes: int, name: str = "classifier") -> None:
    """The mean of every channel, and a fully connected layer on them."""
    x = b.flatten("flatten", b.global_average_pool("avgpool", x))
    b.output("scores", b.linear(name, x, classes))
