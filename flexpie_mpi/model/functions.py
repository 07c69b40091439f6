"""Calls of a model's own functions, replaced by their bodies.

onnx has an inliner, which loses the defaults of attributes that a call does not set. They are written into the calls
before. What a call inside another function sets may be an attribute of that one, which is known only where that one
is called: so functions are inlined from the outside in.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import defs, inliner

from .tidy import all_nodes, lift_constants, nodes_inside

_Id = tuple[str, str]
"""Domain and name; the overloads of a function are inlined together."""


def inline_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with calls of its own functions replaced by their bodies; `proto` is changed.

    A function that has the name of an operator of ONNX is never called: onnxruntime takes the operator.
    """
    if not proto.functions:
        return proto
    _keep(proto, (item for item in proto.functions if not _is_operator(item)))
    while proto.functions:
        called = {name for item in proto.functions for name in _calls(item.node) if name != _id(item)}
        outermost = {_id(item) for item in proto.functions} - called
        if not outermost:  # overloads that call each other
            proto = inliner.inline_local_functions(proto)
            break
        _write_defaults(proto)
        proto = inliner.inline_selected_functions(proto, sorted(outermost))
        _keep(proto, (item for item in proto.functions if _id(item) not in outermost))
    lift_constants(proto.graph)
    return proto


def drop_functions(proto: onnx.ModelProto) -> None:
    """Drop functions that nothing calls, as after onnxruntime has inlined them."""
    called = set(_calls(proto.graph.node))
    _keep(proto, (item for item in proto.functions if _id(item) in called))


def _id(function: onnx.FunctionProto) -> _Id:
    return function.domain, function.name


def _is_operator(function: onnx.FunctionProto) -> bool:
    return function.domain in ("", "ai.onnx") and bool(defs.has(function.name, ""))


def _calls(nodes: Iterable[onnx.NodeProto]) -> list[_Id]:
    return [(node.domain, node.op_type) for node in nodes_inside(nodes)]


def _keep(proto: onnx.ModelProto, functions: Iterable[onnx.FunctionProto]) -> None:
    data = [item.SerializeToString() for item in functions]
    del proto.functions[:]
    proto.functions.extend(map(onnx.FunctionProto.FromString, data))


def _write_defaults(proto: onnx.ModelProto) -> None:
    """Give every call in the graph the defaults of attributes that it does not set."""
    functions = {(*_id(item), item.overload): item for item in proto.functions}
    for node in all_nodes(proto.graph):
        function = functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            given = {item.name for item in node.attribute}
            node.attribute.extend(item for item in function.attribute_proto if item.name not in given)
