"""Normalisations: cut where no statistics are taken, parameters and halos to match."""

from __future__ import annotations

import numpy as np
import pytest

from .harness import check_rule
from .numbers import weights
from .onenode import NEWEST, axes_below, one_node


def positive(*shape):
    return np.abs(weights(*shape, seed=1)) + 0.5


@pytest.mark.parametrize("opset", [7, 9, 14, 15, NEWEST])
@pytest.mark.parametrize("shape", [(3, 5), (2, 5, 4, 3), (2, 5, 6)])
def test_batch(opset, shape):
    proto = one_node("BatchNormalization", [shape, weights(5), weights(5), weights(5), positive(5)], opset=opset)
    check_rule(proto, cut=(axes_below(len(shape)),))


def test_batch_parameters_by_element():
    """Before opset 9 the parameters may have one item per element."""
    shape = (3, 4, 2)
    operands = [(2, *shape), weights(*shape), weights(*shape), weights(*shape), positive(*shape)]
    check_rule(one_node("BatchNormalization", operands, opset=7, spatial=0), cut=({0, 1, 2, 3},))


def test_batch_that_trains_is_not_cut():
    operands = [(2, 5, 4, 3), weights(5), weights(5), weights(5), positive(5)]
    proto = one_node("BatchNormalization", operands, opset=15, outputs=3, training_mode=1)
    check_rule(proto, cut=(set(),) * 3, trials=0)  # alone, an output is not what it is beside the others


@pytest.mark.parametrize("opset", [7, 13, NEWEST])
def test_instance(opset):
    check_rule(one_node("InstanceNormalization", [(3, 4, 5, 6), weights(4), weights(4)], opset=opset), cut=({0, 1},))


@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_layer(axis, outputs, bias):
    shape = (3, 4, 5)
    operands = [shape, weights(*shape[axis:]), *([weights(*shape[axis:], seed=2)] if bias else [])]
    proto = one_node("LayerNormalization", operands, outputs=outputs, axis=axis)
    check_rule(proto, cut=(axes_below(axis % 3),) * outputs, trials=24)


def test_layer_without_mean():
    proto = one_node("LayerNormalization", [(3, 4, 5), weights(5)], outputs=3)
    proto.graph.node[0].output[1] = ""
    del proto.graph.output[1]
    check_rule(proto, cut=({0, 1}, set(), {0, 1}), trials=24)


@pytest.mark.parametrize("scale", [(5,), (1, 1, 5)])
def test_layer_with_broadcast_scale(scale):
    check_rule(one_node("LayerNormalization", [(3, 4, 5), weights(*scale)], opset=NEWEST), cut=({0, 1},))


@pytest.mark.parametrize("axis", [1, -1])
def test_root_mean_square(axis):
    operands = [(3, 4, 5), weights(*(3, 4, 5)[axis:])]
    check_rule(one_node("RMSNormalization", operands, opset=NEWEST, axis=axis), cut=(axes_below(axis % 3),))


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("opset", [7, 13, NEWEST])
def test_local_response(opset, size):
    proto = one_node("LRN", [(2, 7, 4, 5)], opset=opset, size=size, alpha=0.3, beta=0.6, bias=1.5)
    check_rule(proto, cut=({0, 1, 2, 3},), trials=20, outside_rtol=1e-6)  # onnxruntime slides a sum along all channels


@pytest.mark.parametrize("axes,cut", [(None, {1}), ([0, 2, 3], {1}), ([1, 2, 3], {0}), ([0, 1, 2, 3], set())])
def test_mean_variance(axes, cut):
    proto = one_node("MeanVarianceNormalization", [(3, 4, 3, 5)], opset=9, **({} if axes is None else {"axes": axes}))
    check_rule(proto, cut=(cut,))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("p", [1, 2])
def test_norm(axis, p):
    check_rule(one_node("LpNormalization", [(3, 4, 5)], axis=axis, p=p), cut=(axes_below(3, without=[axis]),))
