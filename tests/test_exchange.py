"""The exchange algebra moves data right whatever is had and needed: each element carries its own address."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie_mpi.core.errors import ProgramError
from flexpie_mpi.core.exchange import classify, transfers
from flexpie_mpi.core.layout import Layout
from flexpie_mpi.core.region import Region

SHAPE = (2, 6, 7, 5)

ALL = [
    Layout("rows", (0, 1, 2, 3)),
    Layout("rows", (0, 1, 2, 3), (3, 0, 1, 1)),
    Layout("columns", (3, 1, 0)),
    Layout("channels", (0, 1, 2, 3)),
    Layout("grid", (0, 1, 2, 3), grid=(2, 2)),
    Layout("grid", (1, 2, 3), grid=(1, 3)),
    Layout("batch", (0, 1)),
    Layout("replicated", (0, 1, 2, 3)),
    Layout("replicated", (1, 2)),
    Layout("single", (2,)),
]


def shards(layout: Layout) -> dict[int, list[Region]]:
    return {rank: [region] for rank in range(4) if (region := layout.region(SHAPE, rank)) is not None}


def needs(layout: Layout, halo: int) -> dict[int, Region]:
    grown = {}
    for rank, (region,) in shards(layout).items():
        bounds = tuple((lo - halo, hi + halo) for lo, hi in region.bounds)
        grown[rank] = Region(bounds).clip(SHAPE)
    return grown


@pytest.mark.parametrize("halo", [0, 1, 3])
@pytest.mark.parametrize("source", ALL, ids=str)
def test_every_need_is_met_exactly_once(source, halo):
    for target in ALL:
        check_needs(source, target, halo)


def check_needs(source: Layout, target: Layout, halo: int) -> None:
    have, need = shards(source), needs(target, halo)
    value = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    full = Region.full(SHAPE)
    written = {rank: np.zeros(region.shape, int) for rank, region in need.items()}
    result = {rank: np.full(region.shape, -1) for rank, region in need.items()}
    for rank, region in need.items():
        for held in have.get(rank, ()):
            part = region.intersect(held)
            if not part.is_empty:
                result[rank][part.slices(region)] = value[part.slices(full)]
                written[rank][part.slices(region)] += 1
    for source_rank, target_rank, region in transfers(have, need):
        assert source_rank != target_rank and not region.is_empty
        assert any(held.contains(region) for held in have[source_rank])
        result[target_rank][region.slices(need[target_rank])] = value[region.slices(full)]
        written[target_rank][region.slices(need[target_rank])] += 1
    for rank, region in need.items():
        np.testing.assert_array_equal(result[rank], value[region.slices(full)])
        assert (written[rank] == 1).all()


def test_there_and_back_moves_what_left():
    rows, channels = Layout("rows", (0, 1, 2, 3)), Layout("channels", (0, 1, 2, 3))
    there = transfers(shards(rows), needs(channels, 0))
    back = transfers(shards(channels), needs(rows, 0))
    assert sorted((s, t, str(r)) for s, t, r in there) == sorted((t, s, str(r)) for s, t, r in back)


def test_what_nobody_holds_is_an_error():
    with pytest.raises(ProgramError, match=r"rank 1 needs .*2:3.* no rank holds"):
        transfers({0: [Region(((0, 2),))]}, {1: Region(((0, 3),))})


def test_nothing_is_needed_of_an_empty_region():
    assert transfers({0: [], 1: []}, {1: Region(((0, 1), (0, 0), (3, 8)))}) == []


def test_replicas_share_the_sending():
    have = {0: [Region(((0, 8),))], 1: [Region(((0, 8),))]}
    moves = transfers(have, {2: Region(((0, 8),)), 3: Region(((0, 8),))})
    assert {source for source, _, _ in moves} == {0, 1}


@given(st.sampled_from(ALL), st.sampled_from(ALL), st.integers(0, 2))
def test_every_pattern_has_a_kind(source, target, halo):
    pattern: dict[tuple[int, int], tuple[str, ...]] = {}
    for s, t, region in transfers(shards(source), needs(target, halo)):
        pattern[s, t] = (*pattern.get((s, t), ()), str(region))
    kind = classify(pattern)
    sources, targets = {s for s, _ in pattern}, {t for _, t in pattern}
    if kind in ("broadcast", "scatter"):
        assert len(sources) == 1 and len(targets) >= 2
    if kind == "gather":
        assert len(targets) == 1 and len(sources) >= 2
    assert (kind == "local") == (not pattern)


@pytest.mark.parametrize(
    "source, target, halo, kind",
    [
        (ALL[0], ALL[0], 0, "local"),
        (ALL[0], ALL[0], 1, "halo"),
        (ALL[0], ALL[7], 0, "allgather"),
        (ALL[0], ALL[3], 0, "alltoall"),
        (ALL[9], ALL[0], 0, "scatter"),
        (ALL[9], ALL[7], 0, "broadcast"),
        (ALL[0], ALL[9], 0, "gather"),
    ],
)
def test_known_patterns(source, target, halo, kind):
    pattern: dict[tuple[int, int], tuple[str, ...]] = {}
    for s, t, region in transfers(shards(source), needs(target, halo)):
        pattern[s, t] = (*pattern.get((s, t), ()), str(region))
    assert classify(pattern) == kind
