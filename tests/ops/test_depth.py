"""DepthToSpace and SpaceToDepth: boxes that cut blocks, channels and rows at will."""

from __future__ import annotations

import pytest

from .harness import check_rule
from .onenode import NEWEST, one_node

ALL = ({0, 1, 2, 3},)


@pytest.mark.parametrize("block", [2, 3])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode, block):
    proto = one_node("DepthToSpace", [(2, 5 * block * block, 3, 4)], blocksize=block, mode=mode)
    check_rule(proto, cut=ALL, trials=30, rtol=0, atol=0)


@pytest.mark.parametrize("opset", [7, 11, 13, NEWEST])
def test_default_mode(opset):
    check_rule(one_node("DepthToSpace", [(1, 12, 3, 4)], opset=opset, blocksize=2), cut=ALL, rtol=0, atol=0)


@pytest.mark.parametrize("opset", [7, 13, NEWEST])
@pytest.mark.parametrize("block", [2, 3])
def test_space_to_depth(block, opset):
    proto = one_node("SpaceToDepth", [(2, 3, 4 * block, 2 * block)], opset=opset, blocksize=block)
    check_rule(proto, cut=ALL, trials=30, rtol=0, atol=0)
