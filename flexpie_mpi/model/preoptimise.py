"""onnxruntime as a model compiler: constants folded, BatchNorm folded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import onnx

from .read import read_source
from .session import Level, create, options_of, with_weights
from .settled import computed_values
from .walks import captures, replace
from .weights import Source

STORED_BYTES = 1 << 10
"""Constants of more bytes than this are kept in a file beside the prepared model."""
WEIGHTS_FILE = "weights.bin"

_MODEL_FILE = "optimised.onnx"
_UNWANTED = ("MatMulAddFusion",)
"""Makes Reshape, Gemm, Reshape of a 3-D MatMul and Add, under names that a later session of the result falls over."""

_WEIGHT_INPUTS = {
    "Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1), "FusedMatMul": (1,), "Gather": (0,)
}  # fmt: skip
"""Inputs whose data an optimiser does not look at while the node's other input is computed, by operator."""
_FOLDED_INTO_CONV = frozenset(("Add", "Sub", "Mul", "Div"))
_MOVES = frozenset(("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"))

Use = tuple[onnx.NodeProto, int]


def preoptimise(source: Source, folder: Path) -> Source:
    """The model after onnxruntime's basic level, with weights in `folder` and those it does not touch left in place.

    Weights that folding cannot reach enter the optimising session as inputs, without data, so that they need no memory.

    Raises ModelError when onnxruntime does not accept the model, or writes one that cannot be read back.
    """
    held = unfoldable(source.proto.graph, source.large())
    while True:
        optimised = _optimise(source, held, folder)
        wrong = misused(optimised.proto.graph, held)
        if not wrong:
            return optimised
        held -= wrong


def _optimise(source: Source, held: Collection[str], folder: Path) -> Source:
    proto, arrays = with_weights(source, held)
    path = folder / _MODEL_FILE
    for old in (path, folder / WEIGHTS_FILE):
        old.unlink(missing_ok=True)
    options = options_of(Level.ORT_ENABLE_BASIC)
    options.optimized_model_filepath = str(path)
    prefix = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(prefix + "file_name", WEIGHTS_FILE)
    options.add_session_config_entry(prefix + "min_size_in_bytes", str(STORED_BYTES))
    create(proto, options, arrays, _UNWANTED)
    optimised = read_source(path, STORED_BYTES)
    path.unlink()
    return _put_back(optimised, source, held)


def _put_back(optimised: Source, source: Source, held: Collection[str]) -> Source:
    """Make weights that were held out constants again; their bytes are where they were."""
    graph = optimised.proto.graph
    replace(graph.input, [value for value in graph.input if value.name not in held])
    graph.initializer.extend(tensor for tensor in source.proto.graph.initializer if tensor.name in held)
    large = source.large()
    return Source(optimised.proto, optimised.stored | {name: large[name] for name in held})


def unfoldable(graph: onnx.GraphProto, large: Collection[str]) -> set[str]:
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

    def is_safe(node: onnx.NodeProto, index: int) -> bool:
        others = [name for other, name in enumerate(node.input[:2]) if other != index]
        return (
            node.domain in ("", "com.microsoft")
            and index in _WEIGHT_INPUTS.get(node.op_type, ())
            and all(name in computed and name not in dequantized for name in others)
            and not _is_absorbed(node, uses, computed)
        )

    return {
        name
        for name in large
        if name not in outputs and name not in captured and all(is_safe(node, index) for node, index in uses[name])
    }


def misused(graph: onnx.GraphProto, names: Collection[str]) -> set[str]:
    """Those of `names` that something other than a weight's reader reads, so that folding was missed.

    A Cast is put in after folding, where the processor has no kernel for half precision.
    """
    uses = _uses(graph)

    def is_expected(node: onnx.NodeProto, index: int) -> bool:
        return node.op_type == "Cast" or index in _WEIGHT_INPUTS.get(node.op_type, ())

    return {name for name in names if not all(is_expected(node, index) for node, index in uses[name])}


def _uses(graph: onnx.GraphProto) -> Mapping[str, list[Use]]:
    uses: dict[str, list[Use]] = defaultdict(list)
    for node in graph.node:
        for index, name in enumerate(node.input):
            uses[name].append((node, index))
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
