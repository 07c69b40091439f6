"""A network of a few milliseconds that has one of each convolutional pattern."""

from __future__ import annotations

from .builder import Builder


def build(b: Builder) -> None:
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
    x = b.flatten("flatten", b.global_average_pool("avgpool", x))
    b.output("scores", b.linear("classifier", x, 10))
