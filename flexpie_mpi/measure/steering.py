"""Which weights decide what is computed, so that a plan can only be tried with their real values.

What a large matrix holds does not show in the time of its product, and to bring it to every rank for every plan that is
tried would take longer than to try it. But numbers found with it may be counted, compared or used as indices::

    image --Conv--> features --MatMul--> scores --NonZero--> places --Gather--> ...
              w1                w2               of unknown number: w1 and w2 steer
"""

from __future__ import annotations

from collections.abc import Iterator

from ..core.graph import BoundNode, Graph, Value

_BRANCHING = frozenset(("If", "Loop", "Scan"))

_PASSING = frozenset(("Cast", "Shape", "Size"))
"""Operators that no number steers: what they make may steer others."""

_BYTES = frozenset(("int8", "uint8", "int4", "uint4", "int2", "uint2"))
"""Types of quantised numbers, which are neither indices nor lengths."""


def steering(graph: Graph) -> frozenset[str]:
    """Constants whose values matter for whether a plan can run, and for how much it computes.

    These are all constants of integers wider than a byte and of truth values, and, of whatever type, all those from
    which a value is computed that steers: one that an operator reads whose output's shape is not known before the run,
    that branches, or that takes integers or truth values.
    """
    wanted: set[str] = set()
    for node in reversed(graph.bound):
        is_wanted = any(name in wanted for name in node.node.writes) and node.op not in ("Shape", "Size")
        wanted.update(node.node.reads if is_wanted or _is_steered(node) else _signs(node))
    return frozenset(value.name for value in graph.constants if value.name in wanted or _is_sign(value))


def _is_steered(node: BoundNode) -> bool:
    """Whether everything that a node reads may decide how much it computes."""
    return node.op in _BRANCHING or any(value is not None and value.shape is None for value in node.outputs)


def _signs(node: BoundNode) -> Iterator[str]:
    """Values that a node may read as indices, lengths or conditions."""
    if node.op not in _PASSING:
        yield from (value.name for value in node.inputs if value is not None and _is_sign(value))


def _is_sign(value: Value) -> bool:
    return value.dtype not in _BYTES and value.dtype.startswith(("int", "uint", "bool"))
