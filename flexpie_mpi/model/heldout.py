"""Which large weights constant folding cannot touch, so that pre-optimising can do without their data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

import onnx

from .settled import computed_values
from .tidy import captures

_WEIGHT_PLACES = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1), "Gather": (0,)}
"""Inputs whose data an optimiser does not look at while the node's other input is computed, by operator."""
_FOLDED_INTO_CONV = frozenset(("Add", "Sub", "Mul", "Div"))
_MOVES = frozenset(("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"))

Use = tuple[onnx.NodeProto, int]


def held_out(graph: onnx.GraphProto, large: Collection[str]) -> set[str]:
    """Those of the initializers `large` that no rewriting at onnxruntime's basic level can change.

    Every reader of such a weight is a Conv, ConvTranspose, Gemm, MatMul or Gather that also reads something computed
    from a request, and no BatchNormalization (nor, after a convolution, arithmetic with a constant) follows that
    would be folded into the weight.
    """
    uses = _uses(graph)
    computed = computed_values(graph)
    dequantized = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    outputs = {value.name for value in graph.output}
    captured = {name for node in graph.node for name in captures(node)}

    def is_safe(node: onnx.NodeProto, place: int) -> bool:
        others = [name for index, name in enumerate(node.input[:2]) if index != place]
        return (
            node.domain == ""
            and place in _WEIGHT_PLACES.get(node.op_type, ())
            and all(name in computed and name not in dequantized for name in others)
            and not _is_absorbed(node, uses, computed)
        )

    return {
        name
        for name in large
        if name not in outputs and name not in captured and all(is_safe(node, place) for node, place in uses[name])
    }


def misused(graph: onnx.GraphProto, names: Collection[str]) -> set[str]:
    """Those of `names` that something other than a weight's reader reads, so that folding was missed.

    A Cast is put in after folding, where the processor has no kernel for half precision.
    """
    uses = _uses(graph)

    def is_expected(node: onnx.NodeProto, place: int) -> bool:
        return node.op_type == "Cast" or place in _WEIGHT_PLACES.get(node.op_type, ())

    return {name for name in names if not all(is_expected(node, place) for node, place in uses[name])}


def _uses(graph: onnx.GraphProto) -> Mapping[str, list[Use]]:
    uses: dict[str, list[Use]] = defaultdict(list)
    for node in graph.node:
        for place, name in enumerate(node.input):
            uses[name].append((node, place))
    return uses


def _is_absorbed(node: onnx.NodeProto, uses: Mapping[str, list[Use]], computed: Collection[str]) -> bool:
    """Whether what follows a node may be folded into its weight."""
    if node.op_type == "Gather":
        return False
    is_conv = node.op_type in ("Conv", "ConvTranspose")
    for reader in _followers(node.output[0], uses):
        constants = [name for name in reader.input if name and name not in computed]
        if reader.op_type == "BatchNormalization" or (is_conv and reader.op_type in _FOLDED_INTO_CONV and constants):
            return True
    return False


def _followers(name: str, uses: Mapping[str, list[Use]]) -> Iterator[onnx.NodeProto]:
    """Nodes that read a value, directly or after it was only rearranged."""
    waiting = [name]
    while waiting:
        for reader, _ in uses.get(waiting.pop(), ()):
            yield reader
            if reader.op_type in _MOVES:
                waiting.append(reader.output[0])
