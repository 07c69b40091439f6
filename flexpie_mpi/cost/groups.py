"""Fused groups: which nodes onnxruntime runs as one, and what a row of work says of them.

A convolution takes the activation behind it along, and in most builds the addition of a shortcut; a layer normalisation
takes along the addition before it; a run of elementwise nodes costs little more than its first. So a segment's time is
not a sum over nodes but over groups. Cutting a plan inside a group never pays: what would travel is the same, and the
work is more.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import prod

import numpy as np

from ..core.graph import BoundNode, Graph, Value
from ..core.program import Buffer, Compute, NodeBlock, Program
from ..core.region import Region
from ..lower.shards import node_flops
from ..ops import part_axes, rule_for
from ..ops.elementwise import Elementwise
from ..ops.moments import reads_moments
from ..ops.view import Reshape, Transpose
from .prior import BLOCK
from .rows import CALL, WORK

_BLOCKED = ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
_SUMMING = ("Conv",)
DEPTHWISE, PARTIAL_DEPTHWISE = "Conv/depthwise", "Conv/depthwise/partial"
"""Convolutions of each channel by itself: those of whole blocks of channels run in blocks, all others do not."""
SCALED = "Normalisation/scaled"
"""Normalisations by moments that ranks have summed."""
_NORMALISING = ("LayerNormalization", "SimplifiedLayerNormalization")
_LIGHT = (Elementwise, Reshape, Transpose)
_LOOKING_UP = ("Gather", "GatherElements", "GatherND")
"""Operators that read of their data what they give, and nothing else, however large a table is."""


@dataclass(frozen=True, slots=True)
class FusedGroup:
    """Nodes ``[first, end)`` that run as one."""

    first: int
    end: int
    main: int  # the node whose work counts; the others are the epilogue
    # Number of the group that takes this one along where both are in one segment (a shortcut's addition behind a
    # convolution); -1 when none does
    fused_into: int = -1
    # Whether that is the group before, of which this one would be the epilogue: it is cut off where a segment may begin
    follows: bool = False


def fused_groups(graph: Graph, starts: Iterable[int] = ()) -> tuple[FusedGroup, ...]:
    """All nodes of a graph in fused groups, in order; those at `starts` begin one, cut off the one before."""
    groups: list[FusedGroup] = []
    first, cuts = 0, sorted({*starts, len(graph.nodes)})
    while first < len(graph.nodes):
        end = _end(graph, first)
        inside = cuts[bisect_right(cuts, first) : bisect_left(cuts, end)]
        for number, (begin, until) in enumerate(pairwise((first, *inside, end))):
            into = len(groups) - 1 if number else _fused_into(graph, groups, first)
            groups.append(FusedGroup(begin, until, _main(graph, begin, until), into, follows=number > 0))
        first = end
    return tuple(groups)


def _end(graph: Graph, first: int) -> int:
    """The farthest end at which one value at most leaves the run that begins at node `first`."""
    if graph.is_dynamic(graph.nodes[first]) or first in graph.preparing:
        return first + 1
    best, until = first + 1, first
    for end in range(first + 2, len(graph.nodes) + 1):
        if not _joins(graph, first, end - 1):
            break
        until = max((until, *(graph.last_use.get(name, -1) for name in graph.nodes[end - 2].writes)))
        if until < end:
            best = end
    return best


def _joins(graph: Graph, first: int, index: int) -> bool:
    """Whether a node is light, or normalises a sum, and reads nothing from outside the run that begins at `first`."""
    node = graph.bound[index]
    normalises = node.op in _NORMALISING and graph.nodes[first].op == "Add"
    if not (isinstance(rule_for(node), _LIGHT) or normalises) or graph.is_dynamic(node.node) or node.is_random:
        return False
    computed = [name for name in node.node.reads if not graph.value(name).is_constant and name not in graph.derived]
    return bool(computed) and all(graph.producer.get(name, -1) >= first for name in computed)


def _main(graph: Graph, first: int, end: int) -> int:
    """The first of the nodes with most work; light nodes count as none."""

    def flops(index: int) -> int:
        return 0 if isinstance(rule_for(graph.bound[index]), _LIGHT) else node_flops(graph.bound[index]) + 1

    return max(range(first, end), key=lambda index: (flops(index), -index))


def _fused_into(graph: Graph, groups: Sequence[FusedGroup], first: int) -> int:
    """Number of the latest convolution whose result the addition at `first` alone reads, with nothing between them."""
    node = graph.nodes[first]
    if node.op != "Add":
        return -1
    for number in range(len(groups) - 1, max(len(groups) - 4, -1), -1):
        group = groups[number]
        other = graph.nodes[group.first]
        if group.end == group.first + 1 and other.op in _SUMMING and other.writes[0] in node.reads:
            return number if graph.last_use.get(other.writes[0], -1) == first else -1
    return -1


def epilogue_ops(graph: Graph, group: FusedGroup) -> float:
    """Operations per output element of a group's epilogue; a transpose counts as one."""
    return sum(_operations(graph.bound[index]) for index in range(group.first, group.end) if index != group.main)


def _operations(node: BoundNode) -> float:
    if isinstance(rule_for(node), Reshape):
        return 0.0
    return max(1.0, node_flops(node) / max(1, prod(_shape(node.outputs[0]))))


def is_blocked(graph: Graph, group: FusedGroup) -> bool:
    """Whether the group wants its data in blocks of channels."""
    return graph.nodes[group.main].op in _BLOCKED


def describe(
    node: BoundNode, out: np.ndarray, inputs: Sequence[np.ndarray | None], epilogue_ops: float = 0.0
) -> np.ndarray:
    """Rows of `WORK` of a group's main node, one for each of n shards.

    Parameters
    ----------
    node : BoundNode
    out : array (n, ndim)
        Extents of what each shard computes of the first output.
    inputs : sequence of array (n, ndim of that input) or None
        Extents of what it reads of each input; None for an absent or opaque one.
    epilogue_ops : float
        As of :func:`epilogue_ops`.
    """
    rows = np.zeros(len(out), WORK)
    share = out.prod(axis=1) / max(1, prod(_shape(node.outputs[0])))
    rows["batch"], rows["out_channels"], rows["out_rows"], rows["out_columns"] = _axes(out)
    rows["op"] = _labels(node, rows["out_channels"])
    if reads_moments(node) and inputs[1] is not None:
        rows["op"][inputs[1].any(axis=1)] = SCALED
    parts = _part_share(node, inputs)
    rows["flops"] = node_flops(node) * share * parts
    rows["out_bytes"] = out.prod(axis=1) * _itemsize(node.outputs[0])
    for number, (value, extents) in enumerate(zip(node.inputs, inputs, strict=True)):
        if value is None or extents is None:
            continue
        nbytes = extents.prod(axis=1) * value.itemsize
        if number == 0 and node.op in _LOOKING_UP:
            nbytes = np.minimum(nbytes, rows["out_bytes"])
        rows["weight_bytes" if value.is_constant else "in_bytes"] += nbytes
        if number == 0:
            _, channels, rows["in_rows"], rows["in_columns"] = _axes(extents)
            rows["in_channels"] = channels
    _add_window(node, rows, parts)
    rows["followers"] = epilogue_ops
    return rows


def _labels(node: BoundNode, channels: np.ndarray) -> np.ndarray:
    """The operator, and what decides which code runs it, for each shard's number of channels."""
    label = _label(node)
    if label != DEPTHWISE:
        return np.full(len(channels), label, "S24")
    return np.where(channels % BLOCK == 0, DEPTHWISE.encode(), PARTIAL_DEPTHWISE.encode())


def _label(node: BoundNode) -> str:
    if node.op != "Conv" or not _has_shapes(node):
        return node.op.removeprefix("Fused")[:24]
    group, channels = node.attribute("group", 1), node.in_shape()[1]
    if group > 1:
        return DEPTHWISE if group == channels else "Conv/group"
    return "Conv/1x1" if prod(node.in_shape(1)[2:]) == 1 else "Conv"


def _itemsize(value: Value | None) -> int:
    return 0 if value is None else value.itemsize


def _shape(value: Value | None) -> tuple[int, ...]:
    """Shape of a value; () for one that is absent or whose shape is known only at run time."""
    return () if value is None or value.shape is None else value.shape


def _has_shapes(node: BoundNode) -> bool:
    return all(value is None or value.shape is not None for value in (*node.inputs, *node.outputs))


def _axes(extents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(batch, channels, rows, columns) of boxes of any number of axes, as layouts name them."""
    one = np.ones(len(extents))
    ndim = extents.shape[1]
    if ndim >= 4:
        return extents[:, 0], extents[:, 1], extents[:, 2], extents[:, 3:].prod(axis=1)
    if ndim == 3:
        return extents[:, 0], extents[:, 2], extents[:, 1], one
    if ndim == 2:
        return one, extents[:, 1], extents[:, 0], one
    return one, extents[:, 0] if ndim else one, one, one


def _part_share(node: BoundNode, inputs: Sequence[np.ndarray | None]) -> np.ndarray | float:
    """Which share of what the node sums each of n shards sums, float array (n,); 1 where none leaves parts."""
    axes, extents = sorted(part_axes(node)), inputs[0] if inputs else None
    if not axes or extents is None:
        return 1.0
    return np.asarray(extents[:, axes].prod(axis=1) / prod(node.in_shape()[axis] for axis in axes))


def _add_window(node: BoundNode, rows: np.ndarray, parts: np.ndarray | float) -> None:
    """Fill in window, stride and groups of a convolution, and the channels that one output element reads."""
    window = node.attribute("kernel_shape") or ()
    strides = node.attribute("strides") or (1,)
    if not _has_shapes(node):
        pass
    elif node.op in ("Conv", "ConvInteger", "QLinearConv", "ConvTranspose"):
        weight = node.in_shape(3 if node.op == "QLinearConv" else 1)
        window = weight[2:]
        group = node.attribute("group", 1)
        rows["groups"] = group
        rows["in_channels"] = weight[0] / group if node.op == "ConvTranspose" else weight[1] * parts
    elif node.op in ("MatMul", "FusedMatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "MatMulNBits", "QGemm"):
        rows["in_channels"] = node_flops(node) / 2 / max(1, prod(node.out_shape())) * parts
        rows["batch"], rows["out_rows"] = 1.0, rows["batch"] * rows["out_rows"] * rows["out_columns"]
        rows["out_columns"] = 1.0
        rows["out_channels"] = rows["out_bytes"] / max(1, _itemsize(node.outputs[0])) / rows["out_rows"]
    rows["kernel_rows"] = window[0] if window else 1
    rows["kernel_columns"] = prod(window[1:]) if window else 1
    rows["stride"] = strides[0]
    rows["groups"] = np.maximum(rows["groups"], 1)


# One rank's part of a segment


@dataclass(frozen=True)
class StepWork:
    """One rank's part of one segment, as the rows that a cost model is asked or that a trace records."""

    graph: Graph
    groups: tuple[FusedGroup, ...]  # of the whole graph; no group reaches over a segment's beginning
    program: Program
    step: Compute

    @cached_property
    def blocks(self) -> dict[int, NodeBlock]:
        """The rank's blocks by the index of their node."""
        return {self.graph.position[block.node]: block for block in self.step.blocks}

    @cached_property
    def owner(self) -> dict[int, int]:
        """Number of the group of each node that runs here."""
        numbers = {index: n for n, group in enumerate(self.groups) for index in range(group.first, group.end)}
        return {index: numbers[index] for index in self.blocks}

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Groups whose main node runs here, in order."""
        return tuple(sorted({n for index, n in self.owner.items() if self.groups[n].main == index}))

    @cached_property
    def payer(self) -> dict[int, int]:
        """The group that counts for each group here: the one that takes it along, or itself."""
        here = set(self.numbers)
        return {n: into if (into := self.groups[n].fused_into) in here else n for n in self.numbers}

    @property
    def summing(self) -> frozenset[int]:
        """Groups here that take another along."""
        return frozenset(into for n, into in self.payer.items() if into != n and not self.groups[n].follows)

    @property
    def paying(self) -> tuple[int, ...]:
        """Groups here that no other takes along, in order."""
        return tuple(number for number, payer in self.payer.items() if payer == number)

    def group_row(self, number: int) -> np.ndarray:
        """The row of `WORK` of a group, array (1,)."""
        group = self.groups[number]
        block = self.blocks[group.main]
        out = next(filter(None, block.outputs), Region(()))
        inputs = [None if region is None else _extents(region) for region in block.inputs]
        row = describe(self.graph.bound[group.main], _extents(out), inputs, epilogue_ops(self.graph, group))
        row["sums"] = number in self.summing
        return row

    def call_row(self) -> np.ndarray:
        """The row of `CALL` of the segment's session, array (1,)."""
        row = np.zeros(1, CALL)
        row["kernels"] = len(self.numbers)
        row["blocked"] = any(is_blocked(self.graph, self.groups[number]) for number in self.numbers)
        for side, pairs in (("in", self.step.inputs), ("out", self.step.outputs)):
            buffers = [self.program.buffers[index] for _, index in pairs]
            row[f"{side}puts"], row[f"{side}_bytes"] = len(buffers), sum(map(self._nbytes, buffers))
            row["laid_bytes"] += sum(self._nbytes(buffer) for buffer in buffers if buffer.block)
        return row

    def _nbytes(self, buffer: Buffer) -> int:
        """Bytes of what a buffer holds, without the padding of blocks."""
        return buffer.region.size * self.graph.value(buffer.value).itemsize if buffer.region else 0


def _extents(region: Region) -> np.ndarray:
    return np.array([region.shape], float).reshape(1, region.ndim)
