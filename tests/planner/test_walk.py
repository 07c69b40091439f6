"""The stacked walk equals the walk of one segment, layout and rank; what it moves equals the exchange algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from flexpie_mpi.core.exchange import transfers
from flexpie_mpi.core.graph import Graph
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.region import Region
from flexpie_mpi.cost.links import runs
from flexpie_mpi.cost.rows import CALL
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.lower.facts import slice_bytes
from flexpie_mpi.lower.shards import SegmentShard, blocks_flops, live_out, segment_problems, segment_shard
from flexpie_mpi.model import load
from flexpie_mpi.ops import part_axes
from flexpie_mpi.planner.boxes import ShardTable
from flexpie_mpi.planner.movement import moved
from flexpie_mpi.planner.units import Units, units
from flexpie_mpi.planner.walk import GroupPrices, Step, Walker
from flexpie_mpi.testbed import one_host

from ..graphs import GRAPHS
from ..partial import MODELS

RANKS = 4
LAYOUTS = (
    Layout("single", (0,)),
    Layout("rows", (0, 1, 2)),
    Layout("rows", (0, 1, 2, 3), (4, 1, 0, 2)),
    Layout("columns", (1, 3)),
    Layout("channels", (0, 1, 2, 3)),
    Layout("grid", (0, 1, 2, 3), grid=(2, 2)),
    Layout("replicated", (1, 2)),
)
PARTING = tuple(replace(layout, in_parts=True) for layout in LAYOUTS if layout.kind not in ("single", "replicated"))
TINY = ("tiny_cnn", "tiny_inception", "tiny_bert")


class FlopsCost:
    """A second for every operation; calls and exchanges cost nothing."""

    def compute_s(self, work: np.ndarray, active: np.ndarray) -> np.ndarray:
        return work["flops"].copy()

    def call_s(self, calls: np.ndarray, active: np.ndarray) -> np.ndarray:
        return np.zeros(len(calls))

    def exchange_s(self, transfers: np.ndarray) -> np.ndarray:
        return np.zeros(len(transfers))


def graph_of(name: str) -> Graph:
    return GRAPHS[name] if name in GRAPHS else load(f"builtin:{name}").graph


@pytest.mark.parametrize("name", [*GRAPHS, *TINY])
def test_every_step_equals_the_walk_of_one_shard(name: str) -> None:
    graph = graph_of(name)
    assert _check_walks(graph, units(graph), LAYOUTS, every=1 if name in GRAPHS else 5) > 50


@pytest.mark.parametrize("name", MODELS)
def test_so_does_every_step_that_leaves_parts(name: str, tmp_path) -> None:
    onnx.save(MODELS[name](), tmp_path / "model.onnx")
    graph = load(str(tmp_path / "model.onnx"), cache=Cache(tmp_path)).graph
    cut = units(graph, [node for node in range(1, len(graph.nodes)) if part_axes(graph.bound[node - 1])])
    assert _check_walks(graph, cut, LAYOUTS + PARTING) > 80
    assert _check_walks(graph, cut, PARTING) > 5


def _check_walks(graph: Graph, cut: Units, layouts: tuple[Layout, ...], every: int = 1) -> int:
    """How many legal walks there are among those checked; each equals the walk of one segment."""
    walker = Walker(cut, ShardTable(graph, one_host(RANKS, RANKS), layouts), GroupPrices(graph, FlopsCost()))
    return sum(
        _check_walk(graph, cut, step, walk, layouts[step.layout[walk]])
        for step in walker.steps(lambda end: np.ones(len(layouts), bool))
        for walk in range(0, len(step.end), every)
    )


def _check_walk(graph: Graph, cut: Units, step: Step, walk: int, layout: Layout) -> int:
    first, end = cut.ends[step.begin], cut.ends[step.end[walk]]
    has_problems = bool(segment_problems(graph, first, end, layout))
    if not live_out(graph, first, end):
        return 0
    if layout.in_parts and has_problems:  # only cuts behind a sum are offered such a layout
        return 0
    assert step.legal[walk] == (not has_problems), (first, end, str(layout))
    if has_problems:
        return 0
    for row in range(step.offsets[walk], step.offsets[walk + 1]):
        rank = layout.ranks[row - step.offsets[walk]]
        _check_row(
            graph, cut, step, row, segment_shard(graph, first, end, layout, rank), f"{first}:{end} {layout} {rank}"
        )
    return 1


def _check_row(graph: Graph, cut: Units, step: Step, row: int, shard: SegmentShard | None, where: str) -> None:
    expected = {} if shard is None else dict(shard.inputs)
    found = {name: box.take(np.array([row])) for name, box in step.needs.items() if box.present[row]}
    regions = {
        name: Region(tuple(zip(box.lo[0].tolist(), box.hi[0].tolist(), strict=True))) for name, box in found.items()
    }
    wanted = {name: Region(region.bounds or ((0, 1),)) for name, region in expected.items() if region is not None}
    assert regions == wanted, where
    assert step.calls.dtype == CALL
    assert step.calls["inputs"][row] == len(regions)
    assert step.calls["outputs"][row] == (0 if shard is None else len(shard.outputs)), where
    held = 0 if shard is None else slice_bytes(graph, shard.weights)  # a constant of several nodes counts for each
    assert held <= step.weights[row] <= 1.02 * held, where
    assert step.seconds[row] == pytest.approx(_main_flops(graph, cut, shard), rel=1e-6, abs=1), where


def _main_flops(graph: Graph, cut: Units, shard: SegmentShard | None) -> float:
    """Work of a shard's kernels: that of their anchors, without additions that a convolution takes along."""
    blocks = {} if shard is None else {graph.position[block.node]: block for block in shard.blocks}
    total, found = 0, cut.groups
    for group in found:
        absorbed = group.fused_into >= 0 and found[group.fused_into].main in blocks
        if group.main in blocks and not absorbed:
            total += blocks_flops(graph, [blocks[group.main]])
    return total


@pytest.mark.parametrize("held", range(len(LAYOUTS)))
@pytest.mark.parametrize("needed", range(len(LAYOUTS)))
def test_what_moves_is_what_the_exchange_moves(held: int, needed: int) -> None:
    shape = (1, 6, 11, 9)
    have = {rank: LAYOUTS[held].region(shape, rank) for rank in range(RANKS)}
    need = {rank: LAYOUTS[needed].region(shape, rank) for rank in range(RANKS)}
    have, need = ({rank: region for rank, region in item.items() if region is not None} for item in (have, need))
    expected = np.zeros((RANKS, RANKS))
    for source, target, region in transfers({rank: [region] for rank, region in have.items()}, need):
        expected[source, target] += region.size
    own, found, packed, unpacked = moved(_bounds(have, 4)[None], _bounds(need, 4)[None])
    assert found.sum() == expected.sum()
    assert (found[0, 0].sum(axis=0) == expected.sum(axis=0)).all()  # each rank receives the same
    for rank, region in need.items():
        mine = have.get(rank)
        overlap = mine.intersect(region) if mine is not None else None
        assert own[0, 0, rank] == (0 if overlap is None or overlap.is_empty else overlap.size)
    if LAYOUTS[held].kind != "replicated":  # among several holders the choice is free
        assert (found[0, 0] == expected).all()
        for source, target, region in transfers({rank: [region] for rank, region in have.items()}, need):
            assert runs(region, have[source]) <= packed[0, 0, source, target] <= region.size
            assert runs(region, need[target]) <= unpacked[0, 0, source, target] <= region.size


@pytest.mark.parametrize("held", range(len(LAYOUTS)))
@pytest.mark.parametrize("needed", range(len(LAYOUTS)))
def test_ranks_that_hold_or_need_nothing_can_be_left_out(held: int, needed: int) -> None:
    shape = (1, 6, 11, 9)
    sources, targets = (np.array(sorted(LAYOUTS[layout].ranks)) for layout in (held, needed))
    regions = ({rank: LAYOUTS[layout].region(shape, rank) for rank in range(RANKS)} for layout in (held, needed))
    have, need = (_bounds({r: part for r, part in each.items() if part is not None}, 4)[None] for each in regions)
    own, found, packed, unpacked = moved(have[:, sources], need[:, targets], sources, targets)
    all_own, everything, all_packed, all_unpacked = moved(have, need)
    block = np.ix_([0], [0], sources, targets)
    np.testing.assert_array_equal(own, all_own[..., np.intersect1d(sources, targets)])
    np.testing.assert_array_equal(found, everything[block])
    assert found.sum() == everything.sum()
    there = found > 0
    np.testing.assert_array_equal(packed[there], all_packed[block][there])
    np.testing.assert_array_equal(unpacked[there], all_unpacked[block][there])


def _bounds(regions: dict[int, Region], ndim: int) -> np.ndarray:
    found = np.zeros((RANKS, ndim, 2), np.int32)
    for rank, region in regions.items():
        found[rank] = region.bounds
    return found
