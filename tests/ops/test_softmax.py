"""Softmax and its kin: flattened axes before opset 13, one axis since."""

from __future__ import annotations

import pytest

from .harness import check_rule
from .onenode import NEWEST, axes_below, one_node

OPS = ("Softmax", "LogSoftmax", "Hardmax")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("opset", "axis"), [(7, 0), (7, 1), (7, 3), (11, 2), (11, -2), (12, -1), (12, None)])
def test_before_opset_13_all_axes_from_axis_on_are_coupled(op, opset, axis):
    attributes = {} if axis is None else {"axis": axis}
    first = (1 if axis is None else axis) % 4
    check_rule(one_node(op, [(2, 3, 4, 5)], opset=opset, **attributes), cut=(set(range(first)),), trials=8)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("opset", [13, 17, NEWEST])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, None])
def test_since_opset_13_only_one_axis_is_coupled(op, opset, axis):
    attributes = {} if axis is None else {"axis": axis}
    wanted = axes_below(4, without=[-1 if axis is None else axis])
    check_rule(one_node(op, [(2, 3, 4, 5)], opset=opset, **attributes), cut=(wanted,), trials=8)


def test_one_axis():
    check_rule(one_node("Softmax", [(9,)]), cut=(set(),), trials=2)
