"""What an operator means to a partitioner: the rule interface and the family lookup.

A rule answers four questions about a node, given the region wanted of each output:

- ``cut_axes``: along which axes may an output be cut at all;
- ``in_regions``: which region of each input (weights included) is read;
- ``local``: which nodes compute exactly that region from exactly those input regions;
- ``flops``: how much work that is.

Regions come already widened to the full extent of the axes that may not be cut. An operator without a rule is run
whole: nothing of it can be cut, and it reads everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..core.graph import Attribute, BoundNode
from ..core.region import Region

Regions = tuple[Region | None, ...]


@dataclass(frozen=True, slots=True)
class Const:
    """A small constant that a local form brings along: a crop's bounds, explicit pads, a new shape."""

    data: tuple[Any, ...]
    dtype: str = "int64"
    shape: tuple[int, ...] | None = None
    """None means one axis of ``len(data)``; ``()`` is a scalar."""


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node of a local form.

    Attributes
    ----------
    op : str
        ONNX operator type, at the opset of the graph.
    inputs : tuple of int, str, or Const
        An int is that input of the original node, in the region ``in_regions`` gave; a str is a name made up within
        this local form (``""`` for an absent input); a Const is a new constant.
    outputs : tuple of int or str
        An int is that output of the original node, in the region asked for; a str is a made-up name.
    attributes : tuple of (name, value)
        All attributes, or with `inherit` only those that differ from the original node's; None removes one.
    domain : str
    inherit : bool
        Start from the original node's attributes, those a Graph cannot hold (tensors, subgraphs) included.
    """

    op: str
    inputs: tuple[int | str | Const, ...]
    outputs: tuple[int | str, ...]
    attributes: tuple[tuple[str, Attribute | None], ...] = ()
    domain: str = ""
    inherit: bool = False


class OpRule:
    """Rule of an operator that cannot be cut; the base of every other rule."""

    ops: ClassVar[tuple[str, ...]] = ()
    """Operator types of the default ONNX domain that the rule is for."""

    separable: ClassVar[bool] = True
    """Whether a box reads the meeting of what slabs along each of its axes would read."""

    def cut_axes(self, node: BoundNode) -> tuple[frozenset[int], ...]:
        """Axes along which each output may be cut."""
        return tuple(frozenset[int]() for _ in node.outputs)

    def in_regions(self, node: BoundNode, out: Regions) -> Regions:
        """Region of each input that computing `out` reads; None where nothing is read.

        Never empty, always inside the input. At least one entry of `out` is a region.
        """
        return tuple(None if value is None or value.is_opaque else full(value.shape) for value in node.inputs)

    def local(self, node: BoundNode, out: Regions, into: Regions) -> tuple[LocalNode, ...]:
        """Nodes that compute exactly `out` from inputs that hold exactly `into` (as ``in_regions`` gave it)."""
        return (same(node),)

    def flops(self, node: BoundNode, out: Regions) -> int:
        """Floating-point operations for `out`; one per output element unless a rule knows better."""
        return sum(region.size for region in out if region is not None)


def full(shape: tuple[int, ...] | None) -> Region | None:
    """The whole of a value of `shape`; None for a shape not known before the run."""
    return None if shape is None else Region.full(shape)


def same(node: BoundNode, attributes: tuple[tuple[str, Attribute | None], ...] = ()) -> LocalNode:
    """The node itself with every input and output in place, and some attributes replaced."""
    return LocalNode(
        op=node.op,
        inputs=tuple("" if value is None else place for place, value in enumerate(node.inputs)),
        outputs=tuple("" if value is None else place for place, value in enumerate(node.outputs)),
        attributes=attributes,
        domain=node.node.domain,
        inherit=True,
    )


_RULES: dict[str, OpRule] = {}
_WHOLE = OpRule()


def register(rule: type[OpRule]) -> type[OpRule]:
    """Class decorator: make a rule the answer of :func:`rule_for` for its operator types."""
    instance = rule()
    for op in rule.ops:
        if op in _RULES:
            raise ValueError(f"operator {op} already has rule {type(_RULES[op]).__name__}")
        _RULES[op] = instance
    return rule


def rule_for(node: BoundNode) -> OpRule:
    """The rule of a node; nodes of other domains and nodes that touch opaque values are run whole.

    A constant without elements is no obstacle: it stands for an absent parameter.
    """
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    opaque = (value for value in values if value.is_opaque and not (value.is_constant and value.itemsize))
    if node.node.domain not in ("", "ai.onnx") or any(opaque):
        return _WHOLE
    return _RULES.get(node.op, _WHOLE)


def registered() -> tuple[str, ...]:
    """Operator types that have a rule, sorted."""
    return tuple(sorted(_RULES))


def widen(node: BoundNode, out: Regions) -> Regions:
    """`out` with the full extent of every axis that the node's rule does not let be cut."""
    axes = rule_for(node).cut_axes(node)
    return tuple(
        None if region is None else _widen(region, cut, node.out_shape(place))
        for place, (region, cut) in enumerate(zip(out, axes, strict=True))
    )


def _widen(region: Region, cut: frozenset[int], shape: tuple[int, ...]) -> Region:
    bounds = tuple(b if axis in cut else (0, shape[axis]) for axis, b in enumerate(region.bounds))
    return Region(bounds)


def macs(count: int) -> int:
    """Flops of `count` multiply-accumulates."""
    return 2 * count
