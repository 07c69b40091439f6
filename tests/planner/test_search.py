"""The search against brute force over all paths, and its promises where it cannot be exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi.planner.bounds import CostToGo
from flexpie_mpi.planner.forward_dp import best_paths, forward_dp
from flexpie_mpi.planner.option_tables import OptionTables
from flexpie_mpi.planner.search import narrowed, search
from flexpie_mpi.planner.space import Space, replay
from tests.planner import spaces as made
from tests.planner.spaces import all_paths, branching, brute_force, chain, load, network, price, residual

quick = settings(max_examples=100, deadline=None)


@quick
@given(made.spaces(), st.integers(1, 5))
def test_the_best_paths_are_those_of_brute_force(space: Space, top: int) -> None:
    every = brute_force(space)
    found = search(space, top=top)
    assert found.seconds == pytest.approx([seconds for seconds, _ in every[:top]])
    assert found.seconds == pytest.approx([price(space, path) for path in found.paths])
    assert len(set(found.paths)) == len(found.paths)
    assert set(found.paths) <= {path for _, path in every}
    assert found.is_optimal
    assert found.lower_bound == found.seconds[0]


@quick
@given(made.spaces(), st.integers(1, 3), st.integers(1, 6))
def test_a_narrow_beam_never_says_too_much(space: Space, top: int, beam: int) -> None:
    every = brute_force(space)
    found = search(space, top=top, beam=beam)
    assert found.lower_bound <= every[0][0] + 1e-9
    assert found.seconds[0] >= every[0][0] - 1e-9
    assert found.seconds == pytest.approx([price(space, path) for path in found.paths])
    assert list(found.seconds) == sorted(found.seconds)
    assert len(set(found.paths)) == len(found.paths) <= top
    if found.is_optimal:
        assert found.seconds[0] == pytest.approx(every[0][0])
        assert found.lower_bound == found.seconds[0]


@quick
@given(made.spaces(ranks=2), st.integers(1, 4), st.sampled_from([1, 3, 1000]))
def test_paths_fit_into_memory(space: Space, top: int, beam: int) -> None:
    every = brute_force(space)
    found = search(space, top=top, beam=beam)
    for path in found.paths:
        assert (load(space, path) <= space.capacity).all()
    assert found.seconds == pytest.approx([price(space, path) for path in found.paths])
    assert len(set(found.paths)) == len(found.paths)
    if every:
        assert found.lower_bound <= every[0][0] + 1e-9
    if found.paths:
        assert found.seconds[0] >= every[0][0] - 1e-9
        assert found.shortage is None
        assert not found.is_optimal or found.seconds[0] == pytest.approx(every[0][0])
    else:
        assert found.shortage is not None
        fewest = min(load(space, path)[found.shortage.rank] for path in all_paths(space))
        assert found.shortage.needed == fewest
        assert found.shortage.capacity == space.capacity[found.shortage.rank]
        assert not (found.is_optimal and every)
    if beam == 1000:
        assert found.is_optimal
        assert found.seconds == pytest.approx([seconds for seconds, _ in every[:top]])


@quick
@given(made.spaces(), st.integers(0, 5), st.integers(1, 3))
def test_bounds_are_true_and_leave_the_best_paths_in(space: Space, count: int, top: int) -> None:
    every = brute_force(space)
    tables = OptionTables.of(space)
    rest = CostToGo.of(tables, count)
    (bound,) = rest.at(tables, 0, tables.digits(0, tables.start))
    assert bound <= every[0][0] + 1e-9
    if count >= max(map(len, tables.alive)):
        assert bound == pytest.approx(every[0][0])
    upper = every[: top + 1][-1][0] + 1e-6
    left = rest.prune(tables, upper)
    found = forward_dp(left, top, 10**6, CostToGo.of(left, count), upper)
    assert found is not None
    best = best_paths(left, found, top)
    assert [price(space, path) for path in best] == pytest.approx([seconds for seconds, _ in every[:top]])


def test_all_paths_when_there_are_no_more() -> None:
    space = network(chain(3), 2, longest=3)
    found = search(space, top=1000)
    assert set(found.paths) == set(all_paths(space))
    assert found.seconds == pytest.approx([seconds for seconds, _ in brute_force(space)])


@pytest.mark.parametrize("layouts", [3, 14])
def test_no_path(layouts: int) -> None:
    space = network(residual(2), layouts)
    closed = [replace(here, seconds=np.where(here.end == space.cuts, np.inf, here.seconds)) for here in space.options]
    space = replace(space, options=tuple(closed))
    assert search(narrowed(space, top=1)).paths == ()
    found = search(space)
    assert found.paths == ()
    assert found.is_optimal
    assert found.shortage is None


def test_one_rank_that_cannot_hold_its_part_is_named() -> None:
    space = replace(network(chain(4), 3, memory=1.0), capacity=np.array([np.inf, -1.0]))
    found = search(space)
    assert (found.paths, found.is_optimal) == ((), True)
    assert found.shortage is not None
    assert (found.shortage.rank, found.shortage.needed, found.shortage.capacity) == (1, 0.0, -1.0)


def test_many_alive_values_have_long_keys() -> None:
    """More alive values than digits fit into one word."""
    reads = [[0], *([1] for _ in range(17)), list(range(2, 19))]
    space = network(reads, 14, longest=1)
    assert 14 ** max(map(len, space.alive)) > 2**62
    found = search(space, beam=10)
    assert found.seconds[0] == pytest.approx(price(space, found.paths[0]))
    assert found.lower_bound <= found.seconds[0]


@pytest.mark.parametrize(
    ("reads", "layouts", "longest"),
    [(chain(140), 14, 20), (chain(140), 43, 5), (residual(17), 14, 20), (residual(17), 43, 5), (branching(9), 8, 8)],
)
def test_networks_are_searched_exactly(reads: list[list[int]], layouts: int, longest: int) -> None:
    space = network(reads, layouts, longest=longest)
    found = search(space, top=3)
    assert found.is_optimal
    assert found.lower_bound == found.seconds[0]
    assert found.seconds == pytest.approx([price(space, path) for path in found.paths])
    path = found.paths[0]
    for place in range(0, len(path), 5):  # no path that differs in one layout is better
        cut, end, _ = path[place]
        options = space.options[cut]
        for layout in options.layout[options.end == end].tolist():
            other = (*path[:place], (cut, end, layout), *path[place + 1 :])
            assert other in found.paths or replay(space, other).seconds >= found.seconds[-1] - 1e-9


def test_wide_networks_keep_to_the_beam() -> None:
    space = network(branching(6, (1, 2, 3, 2, 2)), 14)
    found = search(space, beam=200)
    assert found.labels <= 201 * (space.cuts + 1)
    assert 0 < found.lower_bound <= found.seconds[0]


@pytest.mark.parametrize("reads", [chain(30), residual(8)])
def test_networks_within_memory(reads: list[list[int]]) -> None:
    space = network(reads, 8, memory=0.52)
    free = search(replace(space, capacity=np.zeros(0)))
    assert (load(space, free.paths[0]) > space.capacity).any()
    found = search(space)
    assert (load(space, found.paths[0]) <= space.capacity).all()
    assert free.seconds[0] < found.lower_bound <= found.seconds[0] < 1.02 * found.lower_bound
    narrow = narrowed(space, top=1)
    assert sum(len(here.end) for here in narrow.options) < 0.5 * sum(len(here.end) for here in space.options)
    quick = search(narrow, is_quick=True)
    assert (load(space, quick.paths[0]) <= space.capacity).all()
    assert quick.seconds[0] == pytest.approx(price(space, quick.paths[0]))
    assert quick.seconds[0] < 1.05 * found.seconds[0]


def test_ranks_that_cannot_hold_the_network_together() -> None:
    space = network(residual(8), 8, memory=0.48)  # each could hold its least part, but two times 0.48 is less than 1
    found = search(space)
    assert (found.paths, found.is_optimal) == ((), True)
    assert found.shortage is not None
    assert found.shortage.needed < found.shortage.capacity


def test_the_answer_is_always_the_same() -> None:
    space = network(branching(3), 10, memory=0.7)
    assert search(space, top=3, beam=50) == search(space, top=3, beam=50)
