"""What each operator means to a partitioner: one file per family of operators.

In goes a node with the shapes around it and the region wanted of its outputs; out come the regions it reads and the
local form that computes just that. The one difficulty: every operator must say this for *any* box, so that layouts,
fused segments and exchanges need to know nothing about operators.
"""

from . import (  # noqa: F401 - each registers its rules
    attention,
    conv,
    copies,
    elementwise,
    gather,
    matmul,
    moments,
    normalise,
    pad,
    pool,
    recurrent,
    reduce,
    resize,
    view,
)
from .base import (
    Const,
    LocalNode,
    OpRule,
    Regions,
    crop,
    register,
    rule_for,
    whole,
    widen,
)
from .parts import between_borders, part_axes, part_regions

__all__ = [
    "Const",
    "LocalNode",
    "OpRule",
    "Regions",
    "between_borders",
    "crop",
    "part_axes",
    "part_regions",
    "register",
    "rule_for",
    "whole",
    "widen",
]
