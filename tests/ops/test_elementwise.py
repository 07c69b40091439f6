"""Elementwise operators: any box, with operands broadcast in every direction."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .harness import check_rule
from .onenode import NEWEST, OPSETS, axes_below, one_node

UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp",
    "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg",
    "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt",
    "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
"""Swish and SwiGLU are missing: the installed onnxruntime has no kernel for them."""
BINARY = {
    **dict.fromkeys(("Add", "Div", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mul", "Pow", "Sub"), "float32"),
    **dict.fromkeys(("And", "Or", "Xor"), "bool"),
    **dict.fromkeys(("BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal"), "int32"),
}
VARIADIC = ("Max", "Mean", "Min", "Sum")

PAIRS = (
    ((2, 3, 4, 5), (2, 3, 4, 5)),
    ((2, 3, 4, 5), ()),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((5,), (2, 3, 4, 5)),
    ((2, 1, 4, 1), (3, 1, 5)),
    ((1, 6), (4, 1)),
    ((), ()),
    ((1, 1, 3), (3,)),
)


def exists(op: str, opset: int) -> bool:
    try:
        onnx.defs.get_schema(op, opset)
    except onnx.defs.SchemaError:
        return False
    return True


def opsets(*ops: str) -> list[tuple[str, int]]:
    """(operator, opset) for every opset in which the operator exists, the newest form included."""
    return [(op, opset) for op in ops for opset in OPSETS if exists(op, opset)]


@pytest.mark.parametrize(("op", "opset"), opsets(*UNARY))
def test_unary(op, opset):
    check_rule(one_node(op, [(2, 3, 4, 5)], opset=opset), cut=(axes_below(4),), trials=5)


@pytest.mark.parametrize(("op", "dtype"), [("Not", "bool"), ("BitwiseNot", "int8"), ("Identity", "float16")])
def test_unary_of_other_types(op, dtype):
    check_rule(one_node(op, [((3, 5), dtype)], opset=18), cut=(axes_below(2),))


@pytest.mark.parametrize(("op", "opset"), opsets(*BINARY))
def test_binary(op, opset):
    left, right = PAIRS[4]
    dtype = "float32" if op == "Equal" and opset >= 11 else BINARY[op]
    check_rule(one_node(op, [(left, dtype), (right, dtype)], opset=opset), cut=(axes_below(4),), trials=5)


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_binary_broadcasts_both_ways(left, right):
    ndim = max(len(left), len(right))
    check_rule(one_node("Sub", [left, right]), cut=(axes_below(ndim),))
    check_rule(one_node("Sub", [right, left]), cut=(axes_below(ndim),))


@pytest.mark.parametrize("shape", [(3, 1, 1), (5,), (1, 1, 4, 1), (), (2, 3, 4, 5)])
def test_constant_operand(shape, rng):
    weight = rng.standard_normal(shape).astype(np.float32)
    check_rule(one_node("Mul", [(2, 3, 4, 5), weight]), cut=(axes_below(4),))


@pytest.mark.parametrize(("op", "opset"), opsets(*VARIADIC))
@pytest.mark.parametrize("count", [1, 2, 4])
def test_variadic(op, opset, count):
    shapes = [(3, 1, 5), (4, 1), (2, 3, 4, 5), ()][:count] if opset >= 8 else [(3, 4, 5)] * count
    ndim = max(map(len, shapes))
    check_rule(one_node(op, shapes, opset=opset), cut=(axes_below(ndim),), trials=5)


@pytest.mark.parametrize("opset", [10, 13, NEWEST])
@pytest.mark.parametrize("fmod", [0, 1])
def test_mod(opset, fmod, rng):
    dtype = "float32" if fmod else "int64"
    proto = one_node("Mod", [((4, 6), dtype), ((6,), dtype)], opset=opset, fmod=fmod)
    feeds = {"x0": rng.integers(-20, 20, (4, 6)).astype(dtype), "x1": rng.integers(1, 9, 6).astype(dtype)}
    check_rule(proto, feeds=feeds, cut=(axes_below(2),))


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_bit_shift(direction, rng):
    proto = one_node("BitShift", [((4, 6), "uint8"), ((4, 1), "uint8")], direction=direction)
    feeds = {"x0": rng.integers(0, 255, (4, 6), np.uint8), "x1": rng.integers(0, 8, (4, 1), np.uint8)}
    check_rule(proto, feeds=feeds, cut=(axes_below(2),))


def test_clip_by_attributes():
    check_rule(one_node("Clip", [(2, 3, 8)], opset=7, min=-0.5, max=0.75), cut=(axes_below(3),))


@pytest.mark.parametrize("opset", [11, 13, NEWEST])
@pytest.mark.parametrize("bounds", [(-0.5, 0.75), (None, 0.5), (-0.5, None), (None, None)])
@pytest.mark.parametrize("constant", [False, True])
def test_clip_by_inputs(opset, bounds, constant):
    limits = [None if bound is None else np.float32(bound) for bound in bounds]
    operands = [(2, 3, 8), *(np.array(x) if x is not None and constant else None if x is None else () for x in limits)]
    feeds = {f"x{place + 1}": np.array(x) for place, x in enumerate(limits) if x is not None and not constant}
    feeds["x0"] = np.random.default_rng(1).standard_normal((2, 3, 8)).astype(np.float32)
    check_rule(one_node("Clip", operands, opset=opset), feeds=feeds, cut=(axes_below(3),), trials=5)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("slope", [(3, 1, 1), (1,), (4, 5), (2, 3, 4, 5), (3, 4, 1)])
def test_prelu_slope_broadcasts(opset, slope, rng):
    slopes = rng.standard_normal(slope).astype(np.float32)
    check_rule(one_node("PRelu", [(2, 3, 4, 5), slopes], opset=opset), cut=(axes_below(4),), trials=5)


@pytest.mark.parametrize("opset", [9, 16, NEWEST])
def test_where(opset):
    shapes = [((2, 1, 4), "bool"), (3, 1), (2, 1, 1)]
    check_rule(one_node("Where", shapes, opset=opset), cut=(axes_below(3),))


@pytest.mark.parametrize("opset", [7, 9, 13, 19, 21, NEWEST])
@pytest.mark.parametrize("to", ["int32", "float16", "float64", "bool"])
def test_cast(opset, to):
    target = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(to))
    check_rule(one_node("Cast", [(3, 4)], opset=opset, to=target), cut=(axes_below(2),), trials=5)


@pytest.mark.parametrize("opset", [15, 19, NEWEST])
@pytest.mark.parametrize("like", [(), (7, 3)])
def test_cast_like_reads_one_element_of_its_model(opset, like):
    check_rule(one_node("CastLike", [(3, 4), (like, "int16")], opset=opset), cut=(axes_below(2),))


def test_bit_cast():
    proto = one_node("BitCast", [((3, 4), "int32")], opset=26, to=onnx.TensorProto.FLOAT)
    check_rule(proto, cut=(axes_below(2),))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate):
    check_rule(one_node("Gelu", [(3, 8)], opset=20, approximate=approximate), cut=(axes_below(2),))


@pytest.mark.parametrize("opset", [7, 10, 12, 13, NEWEST])
@pytest.mark.parametrize("mask", [False, True])
def test_dropout(opset, mask):
    proto = one_node("Dropout", [(2, 3, 8)], opset=opset, outputs=1 + mask, shapes=[(2, 3, 8)] * (1 + mask))
    check_rule(proto, cut=(axes_below(3),) * (1 + mask))


def test_dropout_with_ratio():
    proto = one_node("Dropout", [(2, 3, 8), np.array(0.3, np.float32)], outputs=2)
    check_rule(proto, cut=(axes_below(3),) * 2)


@pytest.mark.parametrize("positive", [0, 1])
def test_is_inf(positive):
    proto = one_node("IsInf", [(4, 6)], detect_positive=positive)
    values = np.where(np.arange(24) % 3, np.inf, -np.inf).reshape(4, 6).astype(np.float32)
    check_rule(proto, feeds={"x0": values}, cut=(axes_below(2),))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_broadcast_of_three(data):
    result = data.draw(st.lists(st.integers(1, 6), min_size=0, max_size=4), label="result")
    shapes = []
    for _ in range(3):
        own = [data.draw(st.sampled_from((1, extent))) for extent in result]
        shapes.append(tuple(own[data.draw(st.integers(0, len(own))) :]))
    check_rule(one_node("Sum", shapes), trials=3, cut=(axes_below(max(map(len, shapes))),))
