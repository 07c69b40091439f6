"""Forms of values between segments: NCHW, or the blocked layout in which onnxruntime runs convolutions.

A build of onnxruntime may compute convolutions on blocks of B channels (8 or 16 by the processor; its NCHWc layout): in
memory a value [N, C, H, W] is then [N, C/B, H, W, B], the last block padded. Inside a session values stay so from one
convolution to the next. Here it is foreseen which values would, were the whole model one session; where a plan cuts at
such a value, its buffers are blocked too, and no session has to lay it out anew. The foresight decides speed only: a
session is made for the forms that its buffers have, whatever it does inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..core.graph import BoundNode, Graph, Value
from ..core.region import Region

_ELEMENTWISE = ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Clip", "HardSigmoid", "HardSwish", "Add", "Sum", "Mul")
_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
_LANES = 4
"""Channels that onnxruntime lays out at a time: values with another number of them are never blocked."""


class Forms:
    """In which form each rank of a job holds regions of a graph's values.

    Parameters
    ----------
    graph : Graph
    blocks : sequence of int
        By rank: channels to a block of what its onnxruntime computes convolutions in; 0 where it has no such layout.
        Ranks beyond the last have none.
    """

    def __init__(self, graph: Graph, blocks: Sequence[int] = ()) -> None:
        self._blocks = tuple(blocks)
        self._values = {block: blocked_values(graph, block) for block in {*blocks} if block}

    def block(self, rank: int, name: str, region: Region | None) -> int:
        """Channels to a block in which a rank holds `region` of a value; 0 for NCHW, and for a value without a form.

        A region can be blocked where it begins with a whole block.
        """
        if region is None or rank >= len(self._blocks) or name not in self._values.get(self._blocks[rank], ()):
            return 0
        return self._blocks[rank] if fits(*region.bounds[1], self._blocks[rank]) else 0

    def are_blocked(self, ranks: np.ndarray, name: str, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        """The same of n boxes of a value, bounds (n, ndim): whether each of `ranks` (n,) holds its box in blocks."""
        result = np.zeros(len(ranks), bool)
        for block, values in self._values.items():
            if name in values:
                mine = np.isin(ranks, [rank for rank, each in enumerate(self._blocks) if each == block])
                result |= mine & fits(lo[:, 1], hi[:, 1], block)
        return result


def fits(lo: Any, hi: Any, block: int) -> Any:
    """Whether channels ``[lo, hi)`` begin with a whole block and can be laid out, for numbers or arrays."""
    return (lo % block == 0) & ((hi - lo) % _LANES == 0) & (hi - lo >= block)


def blocked_values(graph: Graph, block: int) -> frozenset[str]:
    """Values that are computed and read in blocks of so many channels, and stay between the graph's ends."""
    kept = (name for state in graph.changing for name in (state.input, state.output))
    return frozenset(_read_in_blocks(graph, block)) - {*graph.given, *graph.outputs, *kept}


def _read_in_blocks(graph: Graph, block: int) -> Iterator[str]:
    made: set[str] = set()
    for node in graph.bound:
        if not _is_of_images(node):
            continue
        reads = [value.name for value in _read(node, block) if value.name in made]
        if _computes(node, block, made):
            made.update(node.node.writes[:1])
            yield from reads


def _read(node: BoundNode, block: int) -> list[Value]:
    """Inputs that a node reads in blocks if it computes in blocks."""
    values = [value for value in node.inputs if value is not None and not value.is_constant]
    if node.op == "Conv":
        return values[:1] if node.in_shape()[1] >= block else []
    return values


def _computes(node: BoundNode, block: int, made: set[str]) -> bool:
    """Whether a node is run on blocks, when the values in `made` are blocked."""
    if node.op == "Conv":
        return _convolves(node, block)
    if node.op in _POOLS:
        return len(node.node.writes) == 1 and node.in_shape()[1] % block == 0
    names = {value.name for value in _read(node, block)}
    if node.op == "Concat":
        channels = [value.shape[1] for value in node.inputs if value is not None and value.shape is not None]
        return node.attribute("axis") in (1, -3) and names <= made and all(c % block == 0 for c in channels)
    if node.op not in _ELEMENTWISE or not names or not names <= made:
        return False
    return len({value.shape for value in (*_read(node, block), node.outputs[0]) if value is not None}) == 1


def _convolves(node: BoundNode, block: int) -> bool:
    """Whether a convolution is run on blocks, by its channels and groups."""
    weight = node.inputs[1]
    if weight is None or not weight.is_constant:
        return False
    channels, kernels, group = node.in_shape()[1], node.out_shape()[1], node.attribute("group", 1)
    if group == 1:
        return channels < block or channels % _LANES == 0
    if kernels % block:
        return False
    is_depthwise = group == channels == kernels
    return is_depthwise or (channels % block == 0 and kernels // group % block == 0)


def _is_of_images(node: BoundNode) -> bool:
    """Whether a node of ONNX's own reads and writes images, beside constants."""
    values = [value for value in node.inputs if value is not None and not value.is_constant]
    return not node.node.domain and bool(node.outputs) and all(map(_is_image, (*values, node.outputs[0])))


def _is_image(value: Value | None) -> bool:
    return value is not None and value.dtype == "float32" and value.shape is not None and len(value.shape) == 4
