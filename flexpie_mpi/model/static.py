"""Static shapes and types for every value of a model, as far as they can be known before a run.

Three sources, each for what the one before leaves open: ONNX shape inference, the types onnxruntime finds out when it
makes a session, and the shapes of a run on zeros. The last is asked only about values whose shape cannot depend on
data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx
from onnx import helper, shape_inference

from .ceilpools import for_inference
from .heldout import computed_values
from .preoptimise import Session, ValueType
from .tidy import captures, reads, subgraphs

_SHAPED_BY_DATA = frozenset(
    ("NonZero", "Unique", "Compress", "NonMaxSuppression", "StringSplit", "Tokenizer", "TfIdfVectorizer")
    + ("SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceAt", "SplitToSequence")
    + ("ConcatFromSequence", "SequenceMap", "SequenceLength", "Optional", "OptionalGetElement", "OptionalHasElement")
    + ("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch", "BiasSplitGelu", "DynamicTimeWarping")
)
_SHAPED_BY_INPUTS = {"Range": 0, "Resize": 1, "Upsample": 1}
"""Operators whose inputs from a place on say how large the output is, whatever their type."""
_INTEGERS = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
_ELEMENTS = {"float": onnx.TensorProto.FLOAT, "double": onnx.TensorProto.DOUBLE}

Types = dict[str, onnx.TypeProto]


def infer_types(proto: onnx.ModelProto, open_session: Callable[[Sequence[str]], Session]) -> None:
    """Write the type of every computed value into ``value_info`` and the outputs, with its shape where static.

    Parameters
    ----------
    proto : onnx.ModelProto
        Tidy, with static inputs. Changed in place.
    open_session : callable
        Makes a session of the model with some more values as outputs. Called once, so that a model which onnxruntime
        does not accept is found out here.
    """
    graph = proto.graph
    types = _inferred(for_inference(proto, _inferred_shapes))
    values = list(dict.fromkeys(name for node in graph.node for name in node.output if name))
    outputs = {value.name for value in graph.output}
    unknown = [name for name in values if not _is_static(types.get(name))]
    session = open_session([name for name in unknown if name not in outputs])
    found = session.output_types()
    for name in unknown:
        _complete(types, name, found[name])
    fixed = _shape_is_fixed(graph, types)
    wanted = [name for name in unknown if not _is_static(types[name]) and name in fixed]
    for name, shape in (session.output_shapes(wanted) if wanted else {}).items():
        types[name] = helper.make_tensor_type_proto(types[name].tensor_type.elem_type, shape)
    _write(graph, values, types)


def _inferred(proto: onnx.ModelProto) -> Types:
    """What ONNX shape inference knows, inputs and constants included."""
    try:
        graph = shape_inference.infer_shapes(proto, data_prop=True).graph
    except Exception:  # inference raises several unrelated classes on models that onnxruntime takes
        graph = proto.graph
    types = {
        tensor.name: helper.make_tensor_type_proto(tensor.data_type, tuple(tensor.dims))
        for tensor in proto.graph.initializer
    }
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.WhichOneof("value"):
            types[value.name] = value.type
    return types


def _inferred_shapes(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The static shapes among what ONNX shape inference knows."""
    static = ((name, kind) for name, kind in _inferred(proto).items() if _is_static(kind))
    return {name: tuple(dim.dim_value for dim in kind.tensor_type.shape.dim) for name, kind in static}


def _is_static(kind: onnx.TypeProto | None) -> bool:
    """Whether a type is a tensor of known elements and sizes."""
    if kind is None or kind.WhichOneof("value") != "tensor_type" or not kind.tensor_type.elem_type:
        return False
    dims = kind.tensor_type.shape.dim
    return kind.tensor_type.HasField("shape") and all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims)


def _complete(types: Types, name: str, found: ValueType) -> None:
    """Take over what onnxruntime knows of a value that ONNX inference left open."""
    kind = _parse_type(found.type)
    sizes = [size for size in found.shape if isinstance(size, int) and size >= 0]
    # onnxruntime gives the shape of a scalar to a tensor of unknown rank, so that () says nothing.
    if kind.WhichOneof("value") == "tensor_type" and sizes and len(sizes) == len(found.shape):
        kind = helper.make_tensor_type_proto(kind.tensor_type.elem_type, sizes)
    types[name] = kind


def _parse_type(text: str) -> onnx.TypeProto:
    """The type that onnxruntime writes as ``tensor(float)``, ``seq(tensor(int64))``, ``map(string,tensor(float))``."""
    outer, _, rest = text.partition("(")
    inner = rest[:-1]
    if outer == "seq":
        return helper.make_sequence_type_proto(_parse_type(inner))
    if outer == "optional":
        return helper.make_optional_type_proto(_parse_type(inner))
    if outer == "map":
        key, _, value = inner.partition(",")
        return helper.make_map_type_proto(_element_type(key), _parse_type(value))
    if outer == "sparse_tensor":
        return helper.make_sparse_tensor_type_proto(_element_type(inner), None)
    return helper.make_tensor_type_proto(_element_type(inner), None)


def _element_type(text: str) -> int:
    return _ELEMENTS.get(text) or onnx.TensorProto.DataType.Value(text.upper())


def _shape_is_fixed(graph: onnx.GraphProto, types: Mapping[str, onnx.TypeProto]) -> set[str]:
    """Tensors whose shape follows from the shapes of the inputs, whatever their elements are."""
    computed = computed_values(graph)
    fixed = {name for name, kind in types.items() if _is_static(kind)}
    for node in graph.node:
        if all(name in fixed for name in reads(node)) and not _is_shaped_by_data(node, computed, types):
            fixed.update(name for name in node.output if name and types[name].WhichOneof("value") == "tensor_type")
    return fixed


def _is_shaped_by_data(node: onnx.NodeProto, computed: Iterable[str], types: Mapping[str, onnx.TypeProto]) -> bool:
    """Whether elements of an input may decide a shape: a computed vector or scalar of integers is taken for one."""
    if node.op_type in _SHAPED_BY_DATA or captures(node) or any(True for _ in subgraphs(node)):
        return True
    first = _SHAPED_BY_INPUTS.get(node.op_type)
    for place, name in enumerate(node.input):
        if name in computed:
            tensor = types[name].tensor_type
            is_size = tensor.elem_type in _INTEGERS and len(tensor.shape.dim) < 2
            if is_size or (first is not None and place >= first):
                return True
    return False


def _write(graph: onnx.GraphProto, values: Iterable[str], types: Mapping[str, onnx.TypeProto]) -> None:
    outputs = {value.name: value for value in graph.output}
    del graph.value_info[:]
    for name in values:
        value = outputs.get(name) or graph.value_info.add(name=name)
        value.type.CopyFrom(types[name])
