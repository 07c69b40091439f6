"""onnxruntime's own operators: elementwise, quantised and normalising ones, and products with weights of few bits."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from flexpie_mpi.core.graph import BoundNode, Node, Value
from flexpie_mpi.ops import rule_for

from .harness import check_parts, check_rule
from .numbers import weights
from .onenode import axes_below, one_node

microsoft = partial(one_node, domain="com.microsoft")

SCALE, FINE, ZERO, MIDDLE = np.float32(0.05), np.float32(0.02), np.uint8(3), np.uint8(128)
SHAPE = (2, 6, 5, 4)


def scalar(value):
    return np.array(value)


X, Y = (scalar(SCALE), scalar(MIDDLE)), (scalar(FINE), scalar(ZERO))


def byte(*shape):
    return (shape, "uint8")


def test_an_operator_of_another_domain_has_no_rule_of_the_same_name():
    value = Value("x", (2, 3), "float32")
    domains = ("", "ai.onnx", "com.example")
    nodes = [BoundNode(Node("n", "Relu", ("x",), ("x",), domain), (value,), (value,), 17) for domain in domains]
    assert [rule_for(node).cut_axes(node) for node in nodes] == [({0, 1},), ({0, 1},), (set(),)]


@pytest.mark.parametrize(
    ("op", "bias"), [("BiasGelu", True), ("FastGelu", True), ("FastGelu", False), ("Gelu", False), ("QuickGelu", False)]
)
def test_gelu(op, bias):
    operands = [(2, 5, 8), weights(8)] if bias else [(2, 5, 8)]
    check_rule(microsoft(op, operands), cut=(axes_below(3),))


@pytest.mark.parametrize("turned", [{"transA": 1}, {"transB": 1}, {"transA": 1, "transB": 1, "alpha": 0.5}])
@pytest.mark.parametrize(("left", "right"), [((2, 4, 6), (6, 5)), ((2, 4, 6), (3, 1, 6, 5)), ((6,), (6, 5))])
def test_product_of_turned_operands(left, right, turned):
    left, right = (
        (*shape[:-2], shape[-1], shape[-2]) if turned.get(key) and len(shape) > 1 else shape
        for shape, key in ((left, "transA"), (right, "transB"))
    )
    proto = microsoft("FusedMatMul", [left, weights(*right)], **turned)
    ndim = len(np.matmul(np.zeros((4, 6) if len(left) > 1 else 6), np.zeros((6, 5))).shape)
    check_rule(proto, cut=(axes_below(max(ndim, len(left), len(right) - (len(left) == 1))),), trials=6)
    check_parts(proto, {len(left) - 2 if turned.get("transA") and len(left) > 1 else len(left) - 1})


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("other", [SHAPE, (6, 1, 1), (1,), (2, 1, 5, 1)])
def test_two_quantised_operands(op, other):
    check_rule(microsoft(op, [byte(*SHAPE), *X, byte(*other), *Y, *X]), cut=(axes_below(4),))


@pytest.mark.parametrize("op", ["QLinearSigmoid", "QLinearLeakyRelu"])
def test_one_quantised_operand(op):
    """Always with zero points, though they are optional: onnxruntime aborts without."""
    check_rule(microsoft(op, [byte(*SHAPE), *X, *Y]), cut=(axes_below(4),))


@pytest.mark.parametrize("last", [0, 1])
def test_average_of_all(last):
    cut = {0, 3} if last else {0, 1}
    check_rule(microsoft("QLinearGlobalAveragePool", [byte(*SHAPE), *X, *Y], channels_last=last), cut=(cut,))


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("ceil", [0, 1])
def test_average_of_windows(include, ceil):
    attributes = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1], "ceil_mode": ceil}
    proto = microsoft("QLinearAveragePool", [byte(2, 3, 12, 9), *X, *Y], count_include_pad=include, **attributes)
    check_rule(proto, cut=(axes_below(4),), trials=25)


def test_average_with_channels_behind_runs_whole():
    proto = microsoft("QLinearAveragePool", [byte(2, 12, 9, 3), *X, *Y], kernel_shape=[3, 2], channels_last=1)
    check_rule(proto, cut=(set(),), trials=2)


@pytest.mark.parametrize("axis", [1, -1])
def test_concat(axis):
    shapes = [(2, 3, 4), (2, 1, 4), (2, 5, 4)] if axis == 1 else [(2, 3, 4), (2, 3, 1), (2, 3, 6)]
    pairs = [X, Y, X]
    operands = [item for shape, pair in zip(shapes, pairs, strict=True) for item in (byte(*shape), *pair)]
    check_rule(microsoft("QLinearConcat", [*Y, *operands], axis=axis), cut=(axes_below(3),), trials=25)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("added", [None, (5,), (1, 5), (4, 5), (4, 1)])
@pytest.mark.parametrize("quantised", [True, False])
def test_gemm(trans_a, trans_b, per_column, added, quantised, rng):
    right = weights(*((5, 6) if trans_b else (6, 5)), dtype="uint8")
    scales = rng.uniform(0.01, 0.05, 5).astype(np.float32) if per_column else scalar(FINE)
    zeros = rng.integers(100, 140, 5).astype(np.uint8) if per_column else scalar(MIDDLE)
    summand = None if added is None else weights(*added, dtype="int32")
    operands = [byte(*((6, 4) if trans_a else (4, 6))), *X, right, scales, zeros, summand, *(Y if quantised else ())]
    if added in ((4, 5), (4, 1)):
        operands[6] = (added, "int32")
    check_rule(microsoft("QGemm", operands, transA=trans_a, transB=trans_b), cut=({0, 1},), trials=6)


@pytest.mark.parametrize("op", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
@pytest.mark.parametrize("skip", [(2, 5, 8), (1, 5, 8), (5, 8)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [1, (True, False, False, True)])
def test_skip_normalisation(op, skip, bias, outputs):
    shift = [] if "Simplified" in op else [weights(8, seed=2)]
    operands = [(2, 5, 8), skip, weights(8), *shift, *([weights(8, seed=3)] if bias else [])]
    count = 1 if outputs == 1 else 4
    cut = tuple({0, 1} if outputs == 1 or outputs[number] else set() for number in range(count))
    check_rule(microsoft(op, operands, outputs=outputs), cut=cut, trials=15)


def test_skip_normalisation_of_a_list_of_tokens():
    check_rule(microsoft("SkipLayerNormalization", [(7, 8), (7, 8), weights(8), weights(8)]), cut=({0},))


def test_simplified_normalisation():
    check_rule(one_node("SimplifiedLayerNormalization", [(2, 5, 8), weights(8)], shapes=[(2, 5, 8)]), cut=({0, 1},))


TABLES = [weights(20, 8), weights(9, 8, seed=1), weights(2, 8, seed=2)]


@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize("places", [None, (3, 5), (1, 5)])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("outputs", [2, 3])
def test_embedding(segments, places, mask, outputs, rng):
    operands = [((3, 5), "int32"), ((3, 5), "int32") if segments else None, *TABLES, weights(8), weights(8, seed=5)]
    operands[4] = TABLES[2] if segments else None
    operands += [((3, 5), "int32") if mask else None, (places, "int32") if places else None]
    while operands[-1] is None:
        operands.pop()
    feeds = {"x0": rng.integers(0, 20, (3, 5)).astype(np.int32)}
    feeds |= {"x1": rng.integers(0, 2, (3, 5)).astype(np.int32)} if segments else {}
    feeds |= {"x7": rng.integers(0, 2, (3, 5)).astype(np.int32)} if mask else {}
    feeds |= {"x8": rng.integers(0, 9, places).astype(np.int32)} if places else {}
    proto = microsoft("EmbedLayerNormalization", operands, outputs=outputs, mask_index_type=1)
    check_rule(proto, cut=({0, 1}, {0}, {0, 1})[:outputs], feeds=feeds, trials=15)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("zeros", ["none", "packed", "float"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("accuracy", [0, 4])
@pytest.mark.parametrize(("features", "data"), [(160, (2, 3, 160)), (40, (5, 40))])
def test_few_bits(bits, zeros, bias, accuracy, features, data, rng):
    if bits == 8 and zeros == "float":
        pytest.skip("onnxruntime refuses 8 bits with zero points in floats")
    columns, size = 10, 32
    blocks = -(-features // size)
    packed = rng.integers(0, 256, (columns, blocks, size * bits // 8)).astype(np.uint8)
    scales = rng.uniform(0.01, 0.1, (columns, blocks)).astype(np.float32)
    points = {
        "none": None,
        "packed": rng.integers(0, 256, (columns, -(-blocks * bits // 8))).astype(np.uint8),
        "float": rng.uniform(6, 9, (columns, blocks)).astype(np.float32),
    }[zeros]
    operands = [data, packed, scales, points, None, weights(columns) if bias else None]
    while operands[-1] is None:
        operands.pop()
    sizes = {"K": features, "N": columns, "bits": bits, "block_size": size, "accuracy_level": accuracy}
    proto = microsoft("MatMulNBits", operands, **sizes)
    check_rule(proto, cut=(axes_below(len(data)),), trials=4, atol=1e-4)
    check_parts(proto, {len(data) - 1}, trials=3, atol=1e-4)
