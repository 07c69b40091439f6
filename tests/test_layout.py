"""Every layout is a partition of the value: disjoint shards that together cover it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexpie_mpi.core.errors import LayoutError
from flexpie_mpi.core.layout import KINDS, Layout, cut_axes
from flexpie_mpi.core.region import Region


@st.composite
def layouts(draw):
    kind = draw(st.sampled_from(tuple(KINDS)))
    grid = draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) if kind == "grid" else ()
    parts = grid[0] * grid[1] if grid else 1 if kind == "single" else draw(st.integers(1, 7))
    ranks = tuple(draw(st.permutations(range(parts + 2)))[:parts])
    count = sum(grid) if grid else parts
    weights = draw(st.sampled_from([(), tuple(range(1, count + 1))]))
    return Layout(kind, ranks, weights, grid)


@given(layouts(), st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple))
def test_shards_partition_the_value(layout, shape):
    if not layout.applies_to(shape):
        with pytest.raises(LayoutError, match="no such axis"):
            layout.region(shape, layout.ranks[0])
        return
    shards = [layout.region(shape, rank) for rank in layout.ranks]
    if layout.kind == "replicated":
        assert all(shard == Region.full(shape) for shard in shards)
        return
    held = [shard for shard in shards if shard is not None]
    assert sum(shard.size for shard in held) == Region.full(shape).size
    for place, shard in enumerate(held):
        assert not shard.is_empty
        assert all(shard.intersect(other).is_empty for other in held[place + 1 :])


@given(layouts())
def test_ranks_outside_the_layout_own_nothing(layout):
    shape = (4, 4, 4, 4)
    assert layout.region(shape, max(layout.ranks) + 1) is None


def test_more_ranks_than_rows_leaves_some_with_nothing():
    layout = Layout("rows", (0, 1, 2))
    assert [layout.region((1, 1, 2, 5), rank) is None for rank in range(3)] == [False, False, True]


def test_tokens_and_features():
    assert cut_axes("rows", 3) == (1,) and cut_axes("channels", 3) == (2,) and cut_axes("columns", 3) is None


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (("diagonal", (0,)), "unknown kind 'diagonal'"),
        (("rows", ()), "ranks must be distinct"),
        (("rows", (1, 1)), "ranks must be distinct"),
        (("rows", (-1, 0)), "ranks must be distinct"),
        (("single", (0, 1)), "takes one rank"),
        (("grid", (0, 1, 2), (), (2, 2)), "r x c = 3"),
        (("grid", (0, 1)), "r x c = 2"),
        (("rows", (0, 1), (), (1, 2)), "only 'grid' takes a grid"),
        (("rows", (0, 1), (1,)), "needs 2 weights"),
        (("rows", (0, 1), (0, 0)), "not all zero"),
        (("rows", (0, 1), (-1, 2)), "none negative"),
        (("grid", (0, 1, 2, 3), (1, 1, 0, 0), (2, 2)), "not all zero"),
    ],
)
def test_bad_layouts_are_refused_with_the_reason(arguments, reason):
    with pytest.raises(LayoutError, match=reason):
        Layout(*arguments)


@pytest.mark.parametrize(
    ("shape", "parts", "weights", "lengths"),
    [
        ((1, 512, 14, 14), 3, (), [176, 168, 168]),  # whole blocks of 8
        ((1, 512, 14, 14), 4, (), [128, 128, 128, 128]),
        ((1, 512, 14, 14), 3, (2, 1, 1), [256, 128, 128]),
        ((1, 96, 14, 14), 4, (), [24, 24, 24, 24]),
        ((1, 72, 14, 14), 4, (), [18, 18, 18, 18]),  # so few that blocks would cost balance
        ((1, 500, 14, 14), 3, (), [167, 167, 166]),  # no whole number of blocks
        ((1, 512), 3, (), [171, 171, 170]),  # no image
    ],
)
def test_channels_of_an_image_are_cut_between_blocks(shape, parts, weights, lengths):
    layout = Layout("channels", tuple(range(parts)), weights)
    assert [layout.region(shape, rank).shape[1] for rank in range(parts)] == lengths
