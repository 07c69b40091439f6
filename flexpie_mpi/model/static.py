"""Types and static shapes for every value of a model, as far as they can be known before a request.

What runs decides. Inference says which shapes are static, and onnxruntime, run once on made-up inputs, how large they
are: the rules of ONNX and what onnxruntime computes differ for some attributes (a scale that is no short binary
fraction, pads made by ``auto_pad``, sizes rounded up). What inference says of a size counts only where no run reaches.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from math import prod

import onnx
from onnx import helper, shape_inference

from ..core.budget import Budget
from ..core.errors import ModelError
from .canonicalise import canonicalise
from .rewrite import Shape, drop_empty, write_sizes
from .session import LateError, accept
from .settled import fixed_shapes
from .trial import Measured, made_up, measure
from .weights import Source, byte_length

_ELEMENTS = {"float": onnx.TensorProto.FLOAT, "double": onnx.TensorProto.DOUBLE}

Types = dict[str, onnx.TypeProto]


def infer_types(source: Source, budget: Budget, *, runs: bool = True) -> Measured:
    """Write the type of every computed value into ``value_info`` and the outputs, with its shape where static.

    The model is in canonical form, with static inputs. If it may not be run (`runs`), sizes are those that inference
    tells. Returns what a run showed, without outputs if not all of the model could be run. Raises ModelError when
    onnxruntime does not accept the model, or, before anything is run, when inference says that a value is larger than
    the budget.
    """
    graph = source.proto.graph
    del graph.value_info[:]  # what exporters and functions declare is no proof
    values = list(dict.fromkeys(name for node in graph.node for name in node.output if name))
    outputs = {value.name for value in graph.output}
    told = accept(source, [name for name in values if name not in outputs]).outputs()
    types = {value.name: value.type for value in graph.input} | {name: _parse_type(told[name][0]) for name in values}
    static = _undisputed(_inferred(source.proto), _sizes(told))
    _check_sizes(static, types, budget)
    sizes, run = static, Measured()
    if runs:
        with suppress(LateError):  # a loop, most likely, for which inputs that are made up mean nothing
            sizes, run = _measured(source, types, static)
    types |= {name: _sized(types[name], sizes[name]) for name in values if name in sizes}
    shapes = _static_shapes(types)
    if write_sizes(graph, shapes) | drop_empty(graph, shapes):
        canonicalise(source.proto)
    _write(graph, types)
    return run


def _measured(source: Source, types: Types, static: Mapping[str, Shape]) -> tuple[dict[str, Shape], Measured]:
    """Shapes of all values that have the same in every request, and the run that showed them.

    Where shapes may depend on data, a second run on other inputs has to show the same.
    """
    fixed = fixed_shapes(source.proto.graph, types, static)
    run = Measured()
    candidates = list(made_up(source.proto.graph))
    for feeds in candidates:
        run = measure(source, types, static, feeds)
        if run.outputs is not None:
            break
    if not fixed.issuperset(run.shapes) and candidates:
        other = measure(source, types, static, candidates[-1])
        fixed -= {name for name, shape in other.shapes.items() if run.shapes.get(name, shape) != shape}
    fixed &= {name for node in source.proto.graph.node for name in node.output}
    return {name: shape for name, shape in {**static, **run.shapes}.items() if name in fixed}, run


def _inferred(proto: onnx.ModelProto) -> dict[str, Shape]:
    """Static shapes that ONNX shape inference knows, which tells a scalar from a tensor of unknown rank.

    It does not propagate data: then it takes one end of a Slice that only a request gives for another.
    """
    try:
        graph = shape_inference.infer_shapes(proto).graph
    except Exception:  # inference raises several unrelated classes on models that onnxruntime takes
        return {}
    shapes = _static_shapes({value.name: value.type for value in (*graph.value_info, *graph.output)})
    return {name: shape for name, shape in shapes.items() if min(shape, default=0) >= 0}


def _undisputed(one: Mapping[str, Shape], other: Mapping[str, Shape]) -> dict[str, Shape]:
    """What either side says, where they do not contradict each other."""
    return {name: shape for name, shape in {**one, **other}.items() if one.get(name, shape) == shape}


def _sizes(told: Mapping[str, tuple[str, tuple[int | str | None, ...]]]) -> dict[str, Shape]:
    """Static shapes among what onnxruntime says; it gives () to a tensor of unknown rank, so that () says nothing."""
    shapes = {name: tuple(size for size in shape if isinstance(size, int)) for name, (_, shape) in told.items()}
    return {
        name: shapes[name]
        for name, (kind, shape) in told.items()
        if kind.startswith("tensor(") and shape and shapes[name] == shape and min(shapes[name]) >= 0
    }


def _check_sizes(static: Mapping[str, Shape], types: Types, budget: Budget) -> None:
    for name, kind in types.items():
        tensor = kind.tensor_type
        shape = static.get(name, tuple(dim.dim_value for dim in tensor.shape.dim))
        nbytes = byte_length(tensor.elem_type, shape) if kind.HasField("tensor_type") else None
        budget.admit(nbytes or prod(shape), f"value '{name}' of shape {','.join(map(str, shape))}", ModelError)


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


def _sized(kind: onnx.TypeProto, shape: Shape) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(kind.tensor_type.elem_type, shape)


def _static_shapes(types: Types) -> dict[str, Shape]:
    """The shapes among types that leave nothing open."""
    tensors = ((name, kind.tensor_type) for name, kind in types.items() if kind.HasField("tensor_type"))
    return {
        name: tuple(dim.dim_value for dim in tensor.shape.dim)
        for name, tensor in tensors
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
    }


def _write(graph: onnx.GraphProto, types: Types) -> None:
    outputs = {value.name: value for value in graph.output}
    del graph.value_info[:]
    for name in (name for node in graph.node for name in node.output if name):
        value = outputs.get(name) or graph.value_info.add(name=name)
        value.type.CopyFrom(types[name])
