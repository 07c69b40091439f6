"""Baselines: what they find is a placement, the same for the same seed, and what the paper says on hand-made boards."""

from __future__ import annotations

from itertools import combinations, pairwise, permutations
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings

from flexpie_mpi.placement import Instance, PlacedStage, Placement, loads, problems
from flexpie_mpi.placement.baselines import (
    capacity_greedy,
    chain,
    even,
    greedy,
    min_sum,
    most_stages,
    random,
)
from flexpie_mpi.placement.kpath import LONGEST, find_path, kpath, pieces, runs, size_classes
from flexpie_mpi.placement.solvers import SOLVERS

from .chains import instances, linked

BASELINES = [name for name in SOLVERS if name != "exact"]
FAR, NEAR = 1.0, 4.0


def all_cuts(instance: Instance):
    """Every way to cut the units into as many stages as there may be."""
    for count in range(most_stages(instance, range(instance.boards))):
        for inner in combinations(range(1, instance.units), count):
            yield (0, *inner, instance.units)


def boards_of(outcome) -> tuple[int, ...]:
    return outcome.placement.boards


def cuts_of(outcome) -> list[int]:
    return [0, *(stage.end for stage in outcome.placement.stages)]


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=60, deadline=None)
@given(instance=instances())
def test_what_is_found_is_a_placement_and_no_better_than_exists(name, instance):
    found = SOLVERS[name].solve(instance, 3, None)
    assert found.lower_bound_s == 0.0 and found.search_s >= 0.0
    if found.placement is None:
        assert found.seconds == inf and found.gap == 1.0
        return
    assert problems(instance, found.placement) == []
    assert found.seconds == loads(instance, found.placement).seconds
    again = SOLVERS[name].solve(instance, 3, None)
    assert (again.placement, again.seconds) == (found.placement, found.seconds)


@settings(max_examples=40, deadline=None)
@given(instance=instances())
def test_exact_is_never_worse(instance):
    best = SOLVERS["exact"].solve(instance, 0, None)
    assert best.is_optimal
    for name in BASELINES:
        assert best.seconds <= SOLVERS[name].solve(instance, 1, None).seconds * (1 + 1e-9), name


@settings(max_examples=60, deadline=None)
@given(instance=instances())
def test_random_fails_only_where_every_order_it_tries_does(instance):
    """With the same memory everywhere, and nothing that only some may compute, one order is as good as another."""
    alike = Instance(
        instance.crossing, instance.compute_s, instance.need_bytes, np.full(instance.boards, instance.capacity.min()),
        instance.routes, instance.resource_s, instance.root, cuttable=instance.cuttable,
        most_boards=instance.most_boards,
    )  # fmt: skip
    is_possible = any(all(alike.fits[(0, *span)] for span in pairwise(cuts)) for cuts in all_cuts(alike))
    for solve in (lambda it: random(it, 0), even, greedy, capacity_greedy, kpath):
        assert (solve(alike).placement is not None) == is_possible


@settings(max_examples=60, deadline=None)
@given(instance=instances())
def test_the_partition_sends_least_in_all(instance):
    boards, level = range(instance.boards), float(instance.capacity.min())
    fits = instance.fits.any(axis=0) & (instance.need_bytes <= level)
    allowed = [cuts for cuts in all_cuts(instance) if all(fits[span] for span in pairwise(cuts))]
    sums = {cuts: instance.crossing[list(cuts[1:-1])].sum() for cuts in allowed}
    found = min_sum(instance, boards, level)
    if found is None:
        assert not allowed
    else:
        assert sums[found] == min(sums.values())
        assert len(found) == min(len(cuts) for cuts in allowed if sums[cuts] == sums[found])


def line(places) -> np.ndarray:
    """Speeds between boards on a line: the nearer, the faster."""
    apart = np.abs(np.subtract.outer(places, places))
    return 12.0 / np.maximum(apart, 1)


def test_greedy_walks_along_the_fastest_links_and_keeps_the_best_start():
    instance = linked([0, 8, 2, 0], line([0, 5, 7, 8]), capacity=1, weights=[1, 1, 1])
    found = greedy(instance)
    assert cuts_of(found) == [0, 1, 2, 3]
    # walks: 0-1-2 (8/2.4), 1-2-3 (8/6), 2-3-1 (8/12 and 2/4), 3-2-1 (8/12 and 2/6)
    assert boards_of(found) == (2, 3, 1) or boards_of(found) == (3, 2, 1)
    assert found.seconds == pytest.approx(8 / 12) and found.explored == 4


def test_capacity_greedy_gives_up_small_boards_for_a_better_cut():
    instance = linked([0, 100, 1, 0], np.full((3, 3), 10.0), capacity=[1, 2, 2], weights=[1, 1, 1])
    assert greedy(instance).seconds == kpath(instance).seconds == 10.0
    found = capacity_greedy(instance)
    assert cuts_of(found) == [0, 2, 3] and set(boards_of(found)) == {1, 2} and found.seconds == pytest.approx(0.1)


def test_even_shares_work_by_rank_and_moves_cuts_for_memory():
    seconds = [[2.0, 1.0, 1.0, 1.0, 1.0, 2.0]] * 2
    speeds = np.full((2, 2), 1.0)
    assert cuts_of(even(linked([0] * 7, speeds, compute=seconds))) == [0, 3, 6]
    tight = linked([0] * 7, speeds, compute=seconds, weights=[1] * 6, capacity=[2, 9])
    assert cuts_of(even(tight)) == [0, 2, 6] and boards_of(even(tight)) == (0, 1)
    none = linked([0] * 7, speeds, compute=seconds, weights=[1] * 6, capacity=[0, 9])
    assert even(none).placement == Placement((PlacedStage(0, 6, (1,)),))


def test_even_shares_memory_where_nothing_takes_time():
    assert cuts_of(even(linked([0] * 5, np.ones((2, 2)), weights=[6, 2, 2, 2]))) == [0, 1, 4]


def test_random_is_uniform_over_the_cuts_of_an_order():
    instance = linked([0, 1, 1, 0], np.ones((3, 3)), capacity=2, weights=[1, 1, 1])
    seen = [tuple(cuts_of(random(instance, seed))) for seed in range(600)]
    counts = {cuts: seen.count(cuts) for cuts in set(seen)}
    assert set(counts) == {(0, 1, 3), (0, 2, 3), (0, 1, 2, 3)}
    assert min(counts.values()) > 150
    firsts = [boards_of(random(instance, seed))[0] for seed in range(300)]
    assert min(map(firsts.count, range(3))) > 60


# The paper's matching


def test_classes_are_bins_of_equal_width_and_the_largest_is_in_the_last():
    instance = linked([9, 10, 0, 4, 5.1, 0, 7], np.ones((6, 6)))
    assert size_classes(instance, (0, 1, 2, 3, 4, 5, 6), 2) == [2, 1, 1, 2, 1]
    assert size_classes(instance, (0, 6), 2) == []


def test_long_runs_are_laid_in_pieces_that_meet():
    found = list(pieces(3, 3 + 2 * LONGEST))
    assert found[0][0] == 3 and found[-1][1] == 3 + 2 * LONGEST
    assert all(one[1] == other[0] for one, other in pairwise(found))
    assert max(end - first for first, end in found) == LONGEST - 1
    assert runs([1, 1, 2]) == [(2, 3), (0, 2)]


def test_kpath_lays_large_cuts_first_and_small_ones_on_what_is_left():
    """The large cut takes the one fast link; the small ones on either side get the next best, in turn."""
    speeds = np.array([[0, 9, 1, 2, 1], [9, 0, 3, 1, 1], [1, 3, 0, 1, 1], [2, 1, 1, 0, 1], [1, 1, 1, 1, 0]], float)
    instance = linked([0, 2, 18, 3, 0], speeds + 1e-6, capacity=1, weights=[1] * 4)
    found = kpath(instance, 0)
    assert boards_of(found) in ((3, 0, 1, 2), (2, 1, 0, 3))
    assert loads(instance, found.placement).seconds == pytest.approx(2.0, rel=1e-3)
    assert found.seconds <= kpath(instance, 1, classes=1).seconds + 1e-9


def test_kpath_loses_where_classes_part_sizes_that_are_almost_equal():
    """The larger cut takes the fastest link, from which no link leads on that would do for the other one."""
    speeds = np.ones((5, 5))
    for a, b, speed in ((0, 1, 12.0), (2, 3, 10.0), (3, 4, 9.5)):
        speeds[a, b] = speeds[b, a] = speed
    instance = linked([0, 10, 9, 0], speeds, capacity=1, weights=[1] * 3)
    best = min(loads(instance, chain(range(4), order)).seconds for order in permutations(range(5), 3))
    assert best == pytest.approx(1.0) and greedy(instance).seconds == pytest.approx(1.0)
    assert kpath(instance).seconds == pytest.approx(9.0)
    assert kpath(instance, classes=1).seconds < 1.1  # one run; its direction is left to chance


@pytest.mark.parametrize("nodes", [2, 4, 6])
def test_colours_find_a_hidden_path_and_no_other(nodes):
    for seed in range(20):
        numbers = np.random.default_rng(seed)
        path = numbers.permutation(12)[:nodes].tolist()
        links = [0] * 12
        for a, b in pairwise(path):
            links[a] |= 1 << b
        everywhere = [2**12 - 1] * nodes
        assert find_path(links, everywhere, numbers) == tuple(path)
        assert find_path(links, [2**12 - 1] * (nodes + 1), numbers) is None
        assert find_path(links, [*everywhere[:-1], 1 << path[0]], numbers) is None


def test_colours_do_not_go_round_a_circle():
    around = [1 << 1, 1 << 2, 1 << 0]
    assert find_path(around, [7] * 3, np.random.default_rng(0)) is not None
    assert find_path(around, [7] * 4, np.random.default_rng(0)) is None


def test_kpath_stops_when_time_is_over():
    instance = linked([0, *range(1, 20), 0], line(range(25)), capacity=1, weights=[1] * 20)
    hurried = kpath(instance, 0, 0.0)
    assert problems(instance, hurried.placement) == [] and hurried.explored < kpath(instance, 0).explored
