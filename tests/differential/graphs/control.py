"""Steps with a graph inside: branches, loops, functions; and sequences."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .growing import Growth, is_exact, is_float, step


def _condition(g: Growth) -> str:
    """A truth value that depends on data."""
    d, name = g.draft, g.pick(lambda array: is_exact(array) and array.dtype.kind in "fi" and array.size > 0)
    total = d.call(
        "ReduceSum",
        [d.node("Reshape", [d.node("Cast", [name], to=1), d.fixed(np.array([-1]))])],
        axes=np.array([0]),
        keepdims=0,
    )
    return d.call("Greater", [*total, d.fixed(np.float32(d.between(-2, 2)))])[0]


@step(1.5)
def branch(g: Growth) -> None:
    d, name = g.draft, g.pick(is_float)
    condition = _condition(g) if d.chance(0.7) else d.fixed(np.array(d.chance(0.5)))
    shape = g.values[name].shape
    other = g.pick(lambda array: is_float(array) and (d.opset > 10 or array.shape == shape))  # before 11 it must be
    first = g.inner(lambda: [d.node("Add", [d.node("Relu", [name]), d.fixed(np.float32(1))])])
    second = g.inner(lambda: [d.node(d.pick("Neg", "Identity"), [other])])
    if d.chance(0.3):  # both branches may use the same names
        for node in second.node:
            node.output[0] = first.node[-1].output[0]
        second.output[0].name = first.output[0].name
    result = d.node("If", [condition], then_branch=first, else_branch=second)
    if d.chance(0.6):
        d.node("Abs", [result])


@step(1.5)
def loop(g: Growth) -> None:
    """A state that is added to, and a row per turn."""
    d, name = g.draft, g.pick(lambda array: is_float(array) and array.size < 400)
    turns = d.fixed(np.array(d.between(0, 4))) if d.chance(0.6) else g.given(np.array(d.between(0, 3)), "turns")
    turn, going, state = (d.name(hint) for hint in ("i", "going", "state"))
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None if d.chance(0.5) else g.values[name].shape)
    inputs = [
        helper.make_tensor_value_info(turn, TensorProto.INT64, []),
        helper.make_tensor_value_info(going, TensorProto.BOOL, []),
        onnx.ValueInfoProto(name=state, type=kind),
    ]

    def body() -> list[str]:
        count = d.node("Cast", [turn], to=1)
        after = d.node("Add", [d.node("Add", [state, count]), name] if d.chance(0.5) else [state, count])
        rows = [d.node("Mul", [after, d.fixed(np.float32(2))])] if d.chance(0.7) else []
        return [d.node("Identity", [going]), after, *rows]

    inside = g.inner(body, inputs)
    outputs = d.nodes_outputs("Loop", [turns, d.fixed(np.array(True)), name], len(inside.output) - 1, body=inside)
    if d.chance(0.6):
        d.node("Relu", [d.pick(*outputs)])


@step(1)
def scan(g: Growth) -> None:
    d, name = g.draft, g.pick(lambda array: is_float(array) and array.ndim > 1 and array.size < 400)
    shape = g.values[name].shape[1:]
    state, row = d.name("s"), d.name("row")
    inputs = [helper.make_tensor_value_info(item, TensorProto.FLOAT, shape) for item in (state, row)]

    def body() -> list[str]:
        after = d.node("Add", [state, row])
        return [after, d.node("Tanh", [after])]

    inside = g.inner(body, inputs)
    d.nodes_outputs("Scan", [d.fixed(np.zeros(shape, np.float32)), name], 2, body=inside, num_scan_inputs=1)


@step(1.5)
def sequence(g: Growth) -> None:
    d, name = g.draft, g.pick(lambda array: is_float(array) and array.ndim > 0 and array.size > 0)
    if d.chance(0.5):
        made = d.node("SequenceConstruct", [name, d.node("Relu", [name])])
    else:
        made = d.node("SplitToSequence", [name], axis=0, keepdims=d.pick(0, 1))
    way = d.between(0, 4)
    if way == 0:
        d.node("Neg", [d.node("SequenceAt", [made, d.fixed(np.array(d.pick(0, -1)))])])
    elif way == 1:
        d.node("ConcatFromSequence", [made], axis=0, new_axis=d.pick(0, 1))
    elif way == 2:
        d.node("Add", [d.node("SequenceLength", [made]), d.fixed(np.array(1))])
    elif way == 3:
        more = d.node("SequenceInsert", [made, name])
        d.node("SequenceAt", [more, d.fixed(np.array(0))])
    else:
        d.node("SequenceErase", [made, d.fixed(np.array(0))])


@step(1.5)
def function(g: Growth) -> None:
    """A local function; its attribute has a default, or is given at the call."""
    d, name = g.draft, g.pick(is_float)
    domain, op = d.pick("my.domain", "local"), d.pick("Act", "Relu", "Leaky")
    if not any((item.domain, item.name) == (domain, op) for item in d.functions):
        leaky = helper.make_node("LeakyRelu", ["x"], ["t"], name="n0")
        leaky.attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope"))
        constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32(d.between(1, 3))))
        nodes = [leaky, constant, helper.make_node("Mul", ["t", "c"], ["y"])]
        opsets = [helper.make_opsetid("", d.opset)]
        default = [helper.make_attribute("slope", 0.5)]
        d.functions.append(helper.make_function(domain, op, ["x"], ["y"], nodes, opsets, [], default))
    result = d.node(op, [name], domain, slope=d.pick(None, None, 0.25))
    if d.chance(0.4):
        d.node("Relu", [result])


@step(0.7)
def optional_inputs(g: Growth) -> None:
    """Inputs left empty in the middle, outputs left empty."""
    d, name = g.draft, g.pick(lambda array: is_float(array) and array.ndim > 0 and array.size > 0)
    way = d.between(0, 2)
    if way == 0:
        d.node("Clip", [name, "", d.fixed(np.float32(1))])
    elif way == 1:
        d.node("Slice", [name, d.fixed(np.array([0])), d.fixed(np.array([1])), "", d.fixed(np.array([1]))])
    else:
        d.nodes_outputs("Dropout", [name, "", ""], [True, d.chance(0.4)])
