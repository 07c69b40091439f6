"""Networks that exist to be timed: operators in shapes drawn at random around those that networks of today have.

Extents fall from stage to stage, and each stage has one block of every kind, in an order, in widths and with kernels
that depend on a seed; then transformer layers on ever fewer tokens. A cost model fitted on them has seen more than the
multiples of 64 of published networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from math import prod
from random import Random
from typing import TypeVar

from .builder import Builder, Tensor
from .transformer import attention

WIDTHS = (
    8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 96, 112, 120, 128, 144, 160, 184, 192, 200, 224,
    240, 256, 288, 320, 384, 448, 480, 512, 576, 672, 768, 864, 960, 1024,
)  # fmt: skip
"""Channels to choose from; 24, 40, 72, 120, 184 and 200 are no multiples of 16."""
MAX_ELEMENTS, MIN_ELEMENTS = 420_000, 12_000
"""Of a map: 32 channels at an extent of 112 or 1024 at 20; 8 channels at 39 or 256 at 7."""
MAX_MACS, MAX_DEPTHWISE_MACS, MAX_GROUPED_MACS = 150_000_000, 12_000_000, 40_000_000
"""Multiplications of a convolution: a few milliseconds each, at the pace that each kind is done."""
MAX_TOKENS = 256
LAST_EXTENT = 7

_BRANCH_GAIN = 0.3
"""Of the last convolution of a branch that is added."""

T = TypeVar("T")


class _Draw:
    """Choices out of a seed; `Random.random` is the one method whose numbers no version of Python changes."""

    def __init__(self, seed: int) -> None:
        self._next = Random(seed).random

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._next() * len(options))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        keys = [self._next() for _ in items]
        return [items[index] for index in sorted(range(len(items)), key=keys.__getitem__)]

    def width(self, x: Tensor, kernel: int = 1, *, stride: int = 1, group: int = 1, share: int = 1) -> int:
        """Channels for a convolution of x that is neither large nor small, of one of `share` branches."""
        area = prod(-(-extent // stride) for extent in x.shape[1:])
        limit = min(MAX_ELEMENTS // area, _max_macs(group) * group // (area * x.shape[0] * kernel**2)) // share
        least = MIN_ELEMENTS // area // share
        fitting = [width for width in WIDTHS if least <= width <= limit and width % group == 0]
        return self.pick(fitting or [max(group, WIDTHS[0])])

    def kernel(self, x: Tensor, options: Sequence[int], channels: int = 8, group: int = 1) -> int:
        """One of `options` with which a convolution of x to `channels` is not large; else the first."""
        macs = prod(x.shape) * channels // group
        return self.pick([size for size in options if size**2 * macs <= _max_macs(group)] or options[:1])


def _max_macs(group: int) -> int:
    return MAX_MACS if group == 1 else MAX_GROUPED_MACS


Block = Callable[[Builder, _Draw, str, Tensor], Tensor]


def build(b: Builder, seed: int, size: int) -> None:
    """A stem, stages of one block of each kind, transformer layers on what is left of the map, a classifier."""
    draw = _Draw(seed)
    x = b.input("input", (3, size, size))
    x = b.conv("stem", x, draw.pick((16, 24, 32)), draw.pick((3, 5, 7)), stride=2, act="relu")
    x = _stage(b, draw, "stage1", x)
    for stage in count(2):
        if x.shape[1] < 2 * LAST_EXTENT:
            break
        x = draw.pick(SHRINKING)(b, draw, f"stage{stage}.shrink", x)
        x = _stage(b, draw, f"stage{stage}", x)
    while x.shape[1] > 1:
        x = b.max_pool(f"tokens{x.shape[1]}.pool", x, 2, 2)
        x = _encoder(b, draw, f"tokens{x.shape[1]}.encoder", x)
    x = b.flatten("flatten", b.global_average_pool("avgpool", x))
    x = b.linear("hidden", x, draw.pick((512, 1280, 2048)), act="relu")
    b.output("scores", b.linear("classifier", x, 1000))


def _stage(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    """One block of each kind."""
    for block in draw.shuffled(BLOCKS):
        x = block(b, draw, f"{name}.{block.__name__.strip('_')}", x)
    return x


# Blocks that keep the extent


def _plain(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    """One dense convolution of any kernel."""
    kernel = draw.kernel(x, (1, 3, 5, 7))
    return b.conv(name, x, draw.width(x, kernel), kernel, act=draw.pick(("relu", "relu6", "")))


def _pointwise(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    return b.conv(name, x, draw.width(x), act=draw.pick(("relu", "relu6", "")))


def _grouped(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    """A convolution in groups between a pointwise one and what follows."""
    group = draw.pick([group for group in (2, 4, 8, 16, 32) if x.shape[0] % group == 0])
    kernel = draw.kernel(x, (1, 3, 5), group, group)
    return b.conv(name, x, draw.width(x, kernel, group=group), kernel, group=group, act="relu")


def _separable(b: Builder, draw: _Draw, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """A depthwise convolution and a pointwise one."""
    x = _depthwise(b, draw, f"{name}.depthwise", x, stride)
    return b.conv(f"{name}.pointwise", x, draw.width(x), act=draw.pick(("relu", "relu6", "")))


def _depthwise(b: Builder, draw: _Draw, name: str, x: Tensor, stride: int = 1) -> Tensor:
    macs = prod(x.shape) // stride**2
    kernel = draw.pick([size for size in (3, 5, 7) if size**2 * macs <= MAX_DEPTHWISE_MACS] or [3])
    return b.conv(name, x, x.shape[0], kernel, stride=stride, group=x.shape[0], act=draw.pick(("relu", "relu6")))


def _residual(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    """A narrow convolution and one back to the width of x, beside a shortcut."""
    kernel = draw.kernel(x, (1, 3))
    y = b.conv(f"{name}.conv1", x, draw.width(x, kernel), kernel, act="relu")
    kernel = draw.kernel(y, (1, 3, 5), x.shape[0])
    y = b.conv(f"{name}.conv2", y, x.shape[0], kernel, gain=_BRANCH_GAIN)
    return b.act(f"{name}.relu", b.add(f"{name}.add", x, y), "relu")


def _inverted(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    """Expand, filter each channel by itself, project, beside a shortcut."""
    y = b.conv(f"{name}.expand", x, draw.width(x), act="relu6")
    y = _depthwise(b, draw, f"{name}.depthwise", y)
    return b.add(f"{name}.add", x, b.conv(f"{name}.project", y, x.shape[0], gain=_BRANCH_GAIN))


def _branches(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    """Two to four branches side by side: a pooling, and convolutions of different kernels."""
    pool = b.max_pool(f"{name}.pool", x, 3, 1, pad=1)
    parts = [b.conv(f"{name}.project", pool, draw.width(x, share=4), act="relu")]
    for kernel in draw.shuffled((1, 3, 5))[: draw.pick((1, 2, 3))]:
        y = b.conv(f"{name}.{kernel}x{kernel}_reduce", x, draw.width(x, share=4), act="relu") if kernel > 1 else x
        parts.append(b.conv(f"{name}.{kernel}x{kernel}", y, draw.width(y, kernel, share=4), kernel, act="relu"))
    return b.concat(f"{name}.concat", parts)


def _gate(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    """Squeeze and excitation: each channel times a number between 0 and 1 that depends on all of them."""
    return b.gate(name, x, max(8, x.shape[0] // 8))


def _pool(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    """A pooling at stride 1; the average shrinks the map a little."""
    if draw.pick((True, False)) and x.shape[1] > 2 * LAST_EXTENT:
        return b.average_pool(name, x, draw.pick((2, 3)))
    kernel = draw.pick((3, 5))
    return b.max_pool(name, x, kernel, 1, pad=kernel // 2)


def _swish(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    return b.act(name, x, "swish")


def _encoder(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    """A transformer layer whose tokens are the places of the map; nothing where they are too many."""
    channels, tokens = x.shape[0], prod(x.shape[1:])
    if tokens > MAX_TOKENS:
        return x
    y = b.conv(f"{name}.project", x, draw.pick([width for width in WIDTHS if 96 <= width <= 512]))
    hidden = y.shape[0]
    y = b.reshape(f"{name}.places", y, [0, hidden, tokens])
    y = b.node(f"{name}.tokens", "Transpose", [y], perm=(0, 2, 1))
    y = _attention(b, draw, f"{name}.attention", y)
    y = _feed_forward(b, draw, f"{name}.mlp", y)
    y = b.node(f"{name}.channels", "Transpose", [y], perm=(0, 2, 1))
    y = b.reshape(f"{name}.map", y, [0, hidden, *x.shape[1:]])
    return b.conv(f"{name}.restore", y, channels, act="relu")


BLOCKS: tuple[Block, ...] = (
    _plain, _pointwise, _grouped, _separable, _residual, _inverted, _branches, _gate, _pool, _swish, _encoder,
)  # fmt: skip


# Tokens


def _attention(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    """Self-attention of the normalised x beside a shortcut."""
    hidden = x.shape[1]
    heads = draw.pick([heads for heads in (2, 4, 8) if hidden % heads == 0])
    y = attention(b, name, b.layer_norm(f"{name}.norm", x), heads)
    return b.add(f"{name}.add", x, b.dense(f"{name}.output", y, hidden))


def _feed_forward(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    """Two dense layers of the normalised x beside a shortcut: products of stacks of matrices, or of rows alone."""
    tokens, hidden = x.shape
    wide = draw.pick((1, 2, 3, 4)) * hidden
    y = b.layer_norm(f"{name}.norm", x)
    if draw.pick((True, False)):
        y = b.act(f"{name}.relu", b.dense(f"{name}.dense1", y, wide), "relu")
        return b.add(f"{name}.add", x, b.dense(f"{name}.dense2", y, hidden))
    y = b.reshape(f"{name}.rows", y, [-1, hidden])
    y = b.linear(f"{name}.dense2", b.linear(f"{name}.dense1", y, wide, act="relu"), hidden)
    return b.add(f"{name}.add", x, b.reshape(f"{name}.tokens", y, [-1, tokens, hidden]))


# From one stage to the next


def _strided(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    kernel = draw.kernel(x, (1, 3, 5, 7), 16)
    return b.conv(name, x, draw.width(x, kernel, stride=2), kernel, stride=2, act="relu")


def _strided_depthwise(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    return _separable(b, draw, name, x, stride=2)


def _max_pooled(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    return b.max_pool(name, x, 3, 2, pad=1) if draw.pick((True, False)) else b.max_pool(name, x, 2, 2)


def _average_pooled(b: Builder, draw: _Draw, name: str, x: Tensor) -> Tensor:
    return b.node(name, "AveragePool", [x], kernel_shape=(2, 2), strides=(2, 2))


SHRINKING: tuple[Block, ...] = (_strided, _strided_depthwise, _max_pooled, _average_pooled)
