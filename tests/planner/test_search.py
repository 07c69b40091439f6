"""The search against brute force over all paths, and its promises where it cannot be exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi.planner.replay import replay
from flexpie_mpi.planner.search import search
from flexpie_mpi.planner.space import Space
from tests.planner import spaces as made
from tests.planner.spaces import all_paths, branching, brute_force, chain, load, network, price, residual

quick = settings(max_examples=150, deadline=None)


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


def test_all_paths_when_there_are_no_more() -> None:
    space = network(chain(3), 2, longest=3)
    found = search(space, top=1000)
    assert set(found.paths) == set(all_paths(space))
    assert found.seconds == pytest.approx([seconds for seconds, _ in brute_force(space)])


def test_no_path() -> None:
    space = network(residual(2), 3)
    last = space.options[-1]
    space = replace(space, options=(*space.options[:-1], replace(last, seconds=np.full(len(last.end), np.inf))))
    only = [
        replace(
            here,
            end=here.end[here.end < space.cuts],
            layout=here.layout[here.end < space.cuts],
            seconds=here.seconds[here.end < space.cuts],
            needs=here.needs[:, here.end < space.cuts],
            fetches=here.fetches[:, here.end < space.cuts],
            weights=here.weights[here.end < space.cuts],
        )
        for here in space.options[:-1]
    ]
    found = search(replace(space, options=(*only, space.options[-1])))
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
    reads = [[0], *([1] for _ in range(24)), list(range(2, 26))]
    space = network(reads, 6, longest=3)
    assert 6 ** max(map(len, space.alive)) > 2**62
    found = search(space, beam=50)
    assert found.seconds[0] == pytest.approx(price(space, found.paths[0]))
    assert found.lower_bound <= found.seconds[0]


@pytest.mark.parametrize(
    ("reads", "layouts", "longest"),
    [(chain(140), 14, 20), (chain(140), 43, 8), (residual(17), 14, 20), (residual(34), 43, 8), (branching(9), 8, 20)],
)
def test_networks_are_searched_exactly(reads: list[list[int]], layouts: int, longest: int) -> None:
    space = network(reads, layouts, longest=longest)
    found = search(space, top=3)
    assert found.is_optimal
    assert found.lower_bound == found.seconds[0]
    assert found.seconds == pytest.approx([price(space, path) for path in found.paths])
    for path in found.paths:  # no path that differs in one layout is better
        for place, (cut, end, _) in enumerate(path):
            options = space.options[cut]
            for layout in options.layout[options.end == end].tolist():
                other = (*path[:place], (cut, end, layout), *path[place + 1 :])
                assert other in found.paths or replay(space, other).seconds >= found.seconds[-1] - 1e-9


def test_wide_networks_keep_to_the_beam() -> None:
    space = network(branching(6, (1, 2, 3, 2, 2)), 14)
    found = search(space, beam=200)
    assert found.labels <= 201 * (space.cuts + 1)
    assert 0 < found.lower_bound <= found.seconds[0]


@pytest.mark.parametrize("memory", [0.9, 0.6, 0.51])
def test_networks_within_memory(memory: float) -> None:
    space = network(residual(8), 8, memory=memory)
    found = search(space, beam=500)
    free = search(replace(space, capacity=np.zeros(0)))
    assert (load(space, found.paths[0]) <= space.capacity).all()
    assert free.seconds[0] <= found.lower_bound <= found.seconds[0]
    assert found.lower_bound > 0.97 * found.seconds[0]


def test_the_answer_is_always_the_same() -> None:
    space = network(branching(3), 10, memory=0.7)
    assert search(space, top=3, beam=50) == search(space, top=3, beam=50)
