"""Which values of a model have a shape, or elements, that no request can change.

Two marks go through the graph together. A value is *fixed* when its shape follows from the shapes of the inputs, and
*settled* when its elements do as well: constants, and what ``Shape`` says of a fixed value::

    x (1, 8)   fixed ---- Shape --> (1, 8)  settled ---- ConstantOfShape --> fixed and settled
    NonZero(x)       ---- Shape --> neither         ---- ConstantOfShape --> neither
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from ..core.graph import RANDOM
from .walks import reads, subgraphs

_SHAPED_BY_DATA = frozenset(
    ("NonZero", "Unique", "Compress", "NonMaxSuppression", "StringSplit", "Tokenizer", "TfIdfVectorizer")
    + ("SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceAt", "SplitToSequence")
    + ("ConcatFromSequence", "SequenceMap", "SequenceLength", "Optional", "OptionalGetElement", "OptionalHasElement")
    + ("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch", "BiasSplitGelu", "DynamicTimeWarping")
    + ("ImageDecoder",)
)
_SHAPED_BY_INPUTS = {"OneHot": 1, "Range": 0, "Resize": 1, "Upsample": 1}
"""Operators whose inputs from this one on say how large the output is, whatever their type."""
_LENGTHS: dict[tuple[str, str], Collection[int]] = {
    ("", "Attention"): (),
    ("", "GRU"): (),
    ("", "LSTM"): (),
    ("", "RNN"): (),
    ("com.microsoft", "Attention"): (6,),
    ("com.microsoft", "EmbedLayerNormalization"): (),
    ("com.microsoft", "GroupQueryAttention"): (6,),
    ("com.microsoft", "MultiHeadAttention"): (8,),
    ("com.microsoft", "RotaryEmbedding"): (),
}
"""Operators that have vectors of integers, such as the lengths of sequences, which say nothing of sizes; and the inputs
of them that do."""
_SIZES = frozenset(("Shape", "Size"))
_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)

Types = Mapping[str, onnx.TypeProto]


def fixed_shapes(graph: onnx.GraphProto, types: Types, static: Collection[str]) -> set[str]:
    """Tensors whose shape follows from the shapes of the inputs, whatever the elements of the inputs are.

    Nodes are in topological order, `types` are those of every computed value, and the shapes of the values `static` are
    known without running anything.
    """
    settled = {tensor.name for tensor in graph.initializer}
    fixed = {value.name for value in graph.input if value.type.HasField("tensor_type")} | settled | set(static)
    for node in graph.node:
        written = [name for name in node.output if name]
        if _is_size(node):
            if node.op_type == "Size" or node.input[0] in fixed:  # else a Shape may be longer or shorter as well
                fixed.update(written)
            settled.update(written if node.input[0] in fixed else ())
        elif settled.issuperset(reads(node)) and not is_random(node) and not _has_subgraphs(node):
            settled.update(written)
            fixed.update(_tensors(written, types))
        elif fixed.issuperset(reads(node)) and not _is_shaped_by_data(node, settled, types):
            fixed.update(_tensors(written, types))
    return fixed


def computed_values(graph: onnx.GraphProto) -> set[str]:
    """Values that an optimiser cannot work out before a request comes: not made of constants and sizes alone."""
    computed = {value.name for value in graph.input}
    for node in graph.node:
        if not _is_size(node) and not computed.isdisjoint(reads(node)):
            computed.update(filter(None, node.output))
    return computed


def is_random(node: onnx.NodeProto) -> bool:
    """Whether two runs of a node can differ; Dropout draws numbers where an input may say that it trains."""
    return node.op_type in RANDOM or (node.op_type == "Dropout" and len(node.input) > 2)


def _has_subgraphs(node: onnx.NodeProto) -> bool:
    """Whether a node is a branch or a loop."""
    return any(True for _ in subgraphs(node))


def _is_size(node: onnx.NodeProto) -> bool:
    return node.op_type in _SIZES and node.domain == ""


def _tensors(names: Collection[str], types: Types) -> list[str]:
    return [name for name in names if types[name].WhichOneof("value") == "tensor_type"]


def _is_shaped_by_data(node: onnx.NodeProto, settled: Collection[str], types: Types) -> bool:
    """Whether elements of an input may decide a shape: an unsettled vector or scalar of integers is taken for one."""
    if node.op_type in _SHAPED_BY_DATA or _has_subgraphs(node):
        return True
    first, lengths = _SHAPED_BY_INPUTS.get(node.op_type), _LENGTHS.get((node.domain, node.op_type))
    for index, name in enumerate(node.input):
        if name and name not in settled:
            tensor = types[name].tensor_type
            may_be = lengths is None or index in lengths
            is_size = may_be and tensor.elem_type in _INTEGERS and len(tensor.shape.dim) < 2
            if is_size or (first is not None and index >= first):
                return True
    return False
