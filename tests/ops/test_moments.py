"""Normalisations in two steps, compared with double precision.

How models are rewritten so is in `tests/model/test_moments.py`, whole jobs are in `tests/test_parts.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from flexpie_mpi.core.region import Region
from flexpie_mpi.model.model import Model
from flexpie_mpi.ops import rule_for
from flexpie_mpi.ops.base import OWN
from flexpie_mpi.ops.moments import MOMENTS

from .harness import check_parts, check_rule
from .onenode import OPSETS, one_node

EPSILON = 1e-5


def grouped(data: np.ndarray, groups: int) -> np.ndarray:
    return data.astype(np.float64).reshape(data.shape[0], groups, -1)


def moments_of(data: np.ndarray, groups: int) -> np.ndarray:
    """Moments (N, groups, 1, 2)."""
    flat = grouped(data, groups)
    return np.stack((flat.mean(2), (flat**2).mean(2)), axis=-1)[:, :, None]


def normalised(data: np.ndarray, groups: int, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    flat = grouped(data, groups)
    flat = (flat - flat.mean(2, keepdims=True)) / np.sqrt(flat.var(2, keepdims=True) + EPSILON)
    by_channel = (-1, *(1,) * (data.ndim - 2))
    return flat.reshape(data.shape) * scale.reshape(by_channel) + shift.reshape(by_channel)


def drawn(shape: tuple[int, ...], mean: float, deviation: float) -> np.ndarray:
    return (mean + deviation * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


CASES = [((1, 6, 9, 8), 6), ((2, 6, 5, 7), 3), ((1, 8, 20), 2), ((2, 4, 3, 4, 5), 4)]


@pytest.mark.parametrize(("shape", "groups"), CASES)
@pytest.mark.parametrize("opset", OPSETS[1:])
def test_moments(shape, groups, opset):
    data = drawn(shape, 1.0, 1.0)
    proto = one_node(MOMENTS, [shape], domain=OWN, opset=opset, num_groups=groups)
    expected = moments_of(data, groups)
    check_parts(proto, {*range(2, len(shape))}, feeds={"x0": data}, expected=expected, trials=3)
    check_rule(proto, cut=({0, 1},), feeds={"x0": data}, expected={"y0": expected}, trials=3)


@pytest.mark.parametrize(("shape", "groups"), CASES)
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("opset", OPSETS[1:])
def test_normalisation_by_moments(shape, groups, mean, opset):
    """Parameters have the axes that PyTorch writes: one, and where channels have groups others of length 1."""
    data, rng = drawn(shape, mean, 1.0), np.random.default_rng(1)
    by_group = groups < shape[1]
    parameters = [rng.standard_normal((shape[1], *(1,) * (len(shape) - 2) * by_group), np.float32) for _ in "ab"]
    op = "GroupNormalization" if by_group else "InstanceNormalization"
    operands = [shape, ((shape[0], groups, 1, 2), "float64"), *parameters]
    proto = one_node(op, operands, domain=OWN, opset=opset, num_groups=groups, epsilon=EPSILON)
    feeds = {"x0": data, "x1": moments_of(data, groups)}
    expected = normalised(data, groups, *parameters).astype(np.float32)
    cut = (set(range(len(shape))),)
    check_rule(proto, cut=cut, feeds=feeds, expected={"y0": expected}, trials=8, atol=1e-5 + mean * 1e-6)


def test_what_computes_all_of_space_is_the_operator_that_it_was():
    operands = [(1, 4, 6, 6), ((1, 4, 1, 2), "float64"), *(np.ones(4, np.float32),) * 2]
    proto = one_node("InstanceNormalization", operands, domain=OWN, shapes=[(1, 4, 6, 6)], num_groups=4)
    (bound,) = Model.from_skeleton(proto.SerializeToString()).graph.bound
    rule, some_channels, some_rows = (
        rule_for(bound),
        Region(((0, 1), (1, 3), (0, 6), (0, 6))),
        Region.full((1, 4, 5, 6)),
    )
    into = rule.in_regions(bound, (some_channels,))
    assert into[1] is None
    assert [node.op for node in rule.local(bound, (some_channels,), into)] == ["InstanceNormalization"]
    assert rule.in_regions(bound, (some_rows,))[1] == Region.full((1, 4, 1, 2))
