"""Small models full of sums, and plans that leave them in parts."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import onnx
from onnx import TensorProto, helper

from flexpie_mpi.core.graph import Graph
from flexpie_mpi.core.layout import KINDS, Layout
from flexpie_mpi.core.plan import Plan, Segment
from flexpie_mpi.lower.shards import segment_problems
from flexpie_mpi.planner.rules import square
from flexpie_mpi.planner.units import atoms

from .model.build import make, noise

CUTTING = tuple(kind for kind, each in KINDS.items() if each.cuts)
"""Kinds of layouts that can leave parts."""


def squeeze() -> onnx.ModelProto:
    """A squeeze-and-excite block: what is averaged is read by two convolutions and, as an output, by the caller."""
    padded = {"pads": [1, 1, 1, 1]}
    return make(
        [
            helper.make_node("Conv", ["x", "w0", "b0"], ["stem"], **padded),
            ("Relu", ["stem"], ["features"]),
            ("GlobalAveragePool", ["features"], ["mean"]),
            ("Conv", ["mean", "w1", "b1"], ["few"]),
            ("Relu", ["few"], ["few_on"]),
            ("Conv", ["few_on", "w2", "b2"], ["many"]),
            ("Sigmoid", ["many"], ["scale"]),
            ("Mul", ["features", "scale"], ["scaled"]),
            helper.make_node("Conv", ["scaled", "w3", "b3"], ["out"], strides=[2, 1], **padded),
            ("Relu", ["out"], ["y"]),
        ],
        {"x": [1, 3, 11, 9]},
        ["y", "mean"],
        {
            "w0": noise(16, 3, 3, 3), "b0": noise(16, seed=1), "w1": noise(8, 16, 1, 1, seed=2), "b1": noise(8, seed=3),
            "w2": noise(16, 8, 1, 1, seed=4), "b2": noise(16, seed=5), "w3": noise(32, 16, 3, 3, seed=6) / 8,
            "b3": noise(32, seed=7),
        },
    )  # fmt: skip


def bottleneck() -> onnx.ModelProto:
    """Convolutions whose values stay in blocks of channels between segments, with a shortcut around the sum."""
    padded = {"pads": [1, 1, 1, 1]}
    return make(
        [
            helper.make_node("Conv", ["x", "w0"], ["stem"], **padded),
            ("Relu", ["stem"], ["stem_on"]),
            helper.make_node("Conv", ["stem_on", "w1"], ["wide"], **padded),
            ("Relu", ["wide"], ["wide_on"]),
            helper.make_node("Conv", ["wide_on", "w2", "b2"], ["narrow"], **padded),
            ("Add", ["narrow", "stem_on"], ["joined"]),
            ("Relu", ["joined"], ["joined_on"]),
            helper.make_node("Conv", ["joined_on", "w3"], ["y"], **padded),
        ],
        {"x": [1, 3, 8, 7]},
        ["y"],
        {
            "w0": noise(32, 3, 3, 3) / 4, "w1": noise(64, 32, 3, 3, seed=1) / 16, "b2": noise(32, seed=3),
            "w2": noise(32, 64, 3, 3, seed=2) / 16, "w3": noise(16, 32, 3, 3, seed=4) / 16,
        },
    )  # fmt: skip


def perceptron() -> onnx.ModelProto:
    """Two layers for every token, sums over features and over tokens, and a fully connected tail."""
    return make(
        [
            ("MatMul", ["x", "w0"], ["first"]),
            ("Add", ["first", "b0"], ["biased"]),
            ("Relu", ["biased"], ["hidden"]),
            ("MatMul", ["hidden", "w1"], ["second"]),
            ("Add", ["second", "x"], ["added"]),
            helper.make_node("ReduceMean", ["added"], ["mean"], axes=[2]),
            ("Sub", ["added", "mean"], ["centred"]),
            helper.make_node("ReduceMax", ["centred"], ["most"], axes=[1], keepdims=0),
            helper.make_node("Gemm", ["most", "w2", "b2"], ["y"], transB=1, alpha=0.5),
        ],
        {"x": [2, 7, 12]},
        ["y", "second"],
        {
            "w0": noise(12, 20), "b0": noise(20, seed=1), "w1": noise(20, 12, seed=2), "w2": noise(5, 12, seed=3),
            "b2": noise(5, seed=4),
        },
    )  # fmt: skip


def attention() -> onnx.ModelProto:
    """Scores of queries and keys over features, and a weighted sum of values over tokens."""
    return make(
        [
            helper.make_node("Einsum", ["q", "k"], ["scores"], equation="hid,hjd->hij"),
            helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
            ("MatMul", ["shares", "v"], ["heads"]),
            helper.make_node("ReduceSumSquare", ["heads"], ["length"], axes=[0, 1, 2], keepdims=0),
            helper.make_node("Div", ["heads", "length"], ["y"]),
        ],
        {"q": [3, 5, 8], "k": [3, 6, 8], "v": [3, 6, 8]},
        ["y"],
    )


def statistics() -> onnx.ModelProto:
    """Two sums of one value that leave a segment together, the smallest and the largest, and a sum of integers."""
    return make(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3]),
            helper.make_node("ReduceSumSquare", ["x"], ["square"], axes=[2, 3]),
            helper.make_node("ReduceMin", ["x"], ["least"], axes=[1, 2, 3], keepdims=0),
            ("GlobalMaxPool", ["x"], ["most"]),
            ("Sub", ["square", "mean"], ["apart"]),
            ("Add", ["apart", "most"], ["y"]),
            ("MatMulInteger", ["n", "m"], ["product"]),
        ],
        {"x": [2, 4, 9, 6], "n": [5, 12]},
        ["y", "least", "product"],
        {"m": np.arange(-24, 24, dtype=np.int8).reshape(12, 4)},
        dtypes={"n": TensorProto.UINT8, "product": TensorProto.INT32},
    )


def moments() -> onnx.ModelProto:
    """An instance normalisation of two items, and a group normalisation as PyTorch writes it, around a convolution."""
    padded, (ones, zeros) = {"pads": [1, 1, 1, 1]}, (np.full(2, number, np.float32) for number in (1, 0))
    return make(
        [
            helper.make_node("InstanceNormalization", ["x", "s0", "b0"], ["first"], epsilon=1e-3),
            ("Relu", ["first"], ["first_on"]),
            helper.make_node("Conv", ["first_on", "w"], ["wide"], **padded),
            ("Reshape", ["wide", "groups"], ["grouped"]),
            helper.make_node("InstanceNormalization", ["grouped", "ones", "zeros"], ["normal"]),
            ("Reshape", ["normal", "image"], ["back"]),
            ("Mul", ["back", "s1"], ["scaled"]),
            ("Add", ["b1", "scaled"], ["shifted"]),
            ("Add", ["wide", "shifted"], ["y"]),
        ],
        {"x": [2, 4, 19, 14]},
        ["y", "first_on"],
        {
            "s0": noise(4), "b0": noise(4, seed=1), "w": noise(6, 4, 3, 3, seed=2), "ones": ones, "zeros": zeros,
            "s1": noise(6, 1, 1, seed=3), "b1": noise(6, 1, 1, seed=4), "groups": np.array([0, 2, -1]),
            "image": np.array([2, 6, 19, 14]),
        },
    )  # fmt: skip


MODELS = {
    "attention": attention,
    "bottleneck": bottleneck,
    "moments": moments,
    "perceptron": perceptron,
    "squeeze": squeeze,
    "statistics": statistics,
}


def parted_plan(graph: Graph, ranks: int, chance: Random, *, longest: int = 3, root: int = 0) -> Plan:
    """A plan of random segments and layouts in which every segment that can leave parts in one of them does.

    Some segments carry values for later ones.
    """
    segments: list[Segment] = []
    pieces, made = list(atoms(graph)), list(graph.inputs)
    while pieces:
        count = min(chance.randint(1, longest), len(pieces))
        first, end = pieces[0].first, pieces[count - 1].end
        layouts = [random_layout(kind, ranks, chance) for kind in chance.sample(tuple(KINDS), len(KINDS))]
        parting = [replace(layout, in_parts=True) for layout in layouts if layout.kind in CUTTING]
        fitting = (item for item in (*parting, *layouts) if not segment_problems(graph, first, end, item, root))
        layout = next(fitting, Layout("single", (root,)))
        later = {name for node in graph.nodes[end:] for name in node.reads} | {*graph.outputs}
        carried = [name for name in made if name in later and not graph.value(name).is_opaque and chance.random() < 0.2]
        names = tuple(node.name for node in graph.nodes[first:end])
        segments.append(Segment(names, layout, (), tuple(carried)))
        made += [name for node in graph.nodes[first:end] for name in node.writes if name not in graph.derived]
        pieces = pieces[count:]
    return Plan(tuple(segments), ranks, graph.digest, root)


def random_layout(kind: str, ranks: int, chance: Random) -> Layout:
    """A layout of a kind on some of the ranks in any order, mostly of unequal shares, of which some may be none."""
    if kind == "single":
        return Layout("single", (chance.randrange(ranks),))
    team = tuple(chance.sample(range(ranks), chance.choice((ranks, chance.randint(1, ranks)))))
    grid = square(len(team)) if KINDS[kind].is_grid else ()
    weights = tuple(float(chance.choice((0, 1, 1, 2, 5))) for _ in range(sum(grid) or len(team)))
    usable = kind != "replicated" and all(sum(some) for some in _by_axis(weights, grid)) and chance.random() < 0.6
    return Layout(kind, team, weights if usable else (), grid)


def _by_axis(weights: tuple[float, ...], grid: tuple[int, ...]) -> list[tuple[float, ...]]:
    return [weights[: grid[0]], weights[grid[0] :]] if grid else [weights]


def leaves_parts(plan: Plan) -> int:
    """How many segments leave parts, on several ranks."""
    return sum(segment.layout.in_parts and len(segment.layout.ranks) > 1 for segment in plan.segments)
