"""The exact search against every placement there is, and what it promises when it is cut short."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf, lcm

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi.core.errors import PlacementError
from flexpie_mpi.placement import (
    MOST_PERIOD,
    Instance,
    Outcome,
    PlacedStage,
    Placement,
    Team,
    TeamSpan,
    exact,
    loads,
    problems,
)
from flexpie_mpi.placement.outcome import Deadline
from flexpie_mpi.placement.search import Search
from tests.placement.instances import brute_force, instances, tight_instances

FOREVER = Deadline.start(None)
PLAIN = ("none", "ports", "links", "both ways", "matrix", "star")
ADDING_UP = ("ring", "air", "odd", "both ways")

few = settings(max_examples=60, deadline=None)


def check(instance: Instance, found: Outcome) -> None:
    """An outcome is what it says."""
    if found.placement is None:
        assert found.seconds == inf
    else:
        assert problems(instance, found.placement) == []
        assert found.seconds == loads(instance, found.placement).seconds
    assert 0 <= found.lower_bound_s <= found.seconds


def check_best(instance: Instance) -> None:
    best, found = brute_force(instance), exact(instance)
    check(instance, found)
    assert found.is_optimal
    assert found.seconds == pytest.approx(best.seconds, rel=1e-8, abs=1e-12)
    assert found.lower_bound_s == pytest.approx(best.seconds, rel=1e-8, abs=1e-12)


# Equal to brute force


@few
@given(instances(networks=PLAIN, teams=0))
def test_the_best_of_boards_and_replicas_by_ports_and_links(instance: Instance) -> None:
    check_best(instance)


@few
@given(instances(units=4, networks=ADDING_UP, teams=0))
def test_the_best_where_resources_are_shared(instance: Instance) -> None:
    check_best(instance)


@few
@given(instances(units=4, teams=2))
def test_the_best_with_teams(instance: Instance) -> None:
    check_best(instance)


# Cut short


@few
@given(instances(units=4), st.sampled_from([0.0, 0.001, 0.01]))
def test_a_search_without_time_says_what_it_has_and_no_more(instance: Instance, limit: float) -> None:
    best, found = brute_force(instance), exact(instance, limit)
    check(instance, found)
    assert found.lower_bound_s <= best.seconds * (1 + 1e-9)
    assert found.seconds >= best.seconds * (1 - 1e-9)
    assert found.lower_bound_s == inf or found.placement is not None or best.placement is None or found.gap == 1.0


@few
@given(instances(units=4), st.integers(1, 5), st.floats(0.3, 1.5))
def test_a_narrow_search_never_says_too_much(instance: Instance, width: int, factor: float) -> None:
    best = brute_force(instance).seconds
    seconds = (best if best < inf else 3.0) * factor
    search = Search.of(instance)
    answer = search.find(seconds, width, FOREVER)
    if answer.placement is not None:
        assert not answer.is_sure
        assert loads(instance, answer.placement).seconds <= seconds * (1 + 1e-9)
    elif answer.is_sure:
        assert best > seconds
    assert search.start_s <= best * (1 + 1e-9)
    again = search.find(seconds, 10**6, FOREVER)
    assert (again.placement is not None) == (best <= seconds) or best == pytest.approx(seconds)
    assert (again.placement is None) == again.is_sure


@few
@given(
    st.one_of(
        tight_instances(4, 5, ("links", "matrix", "ports")),
        tight_instances(4, 5, ("ring", "air", "odd")),
        tight_instances(3, 4, ("links", "ports", "ring"), replicas=2),
        tight_instances(4, 4, ("links", "ports", "ring"), replicas=2, teams=3),
    )
)
def test_the_search_finds_the_best_by_itself_and_nothing_below(instance: Instance) -> None:
    best = brute_force(instance).seconds
    seconds = best if best < inf else 1e9
    search = Search.of(instance)
    if seconds > 0:
        below = search.find(seconds * (1 - 1e-6), 10**6, FOREVER)
        assert (below.placement, below.is_sure) == (None, True)
    if best < inf:
        at = search.find(seconds, 10**6, FOREVER).placement
        assert at is not None
        assert loads(instance, at).seconds == pytest.approx(best)


# Against what is known otherwise


def chain(units: int, boards: int, seed: int, slowness: np.ndarray, **more: object) -> Instance:
    """Boards with ports, and units of very different work."""
    rng = np.random.default_rng(seed)
    done = np.concatenate([[0.0], np.cumsum(rng.lognormal(0, 1, units))])
    compute = slowness[:, None, None] * np.maximum(done[None, None, :] - done[None, :, None], 0.0)
    numbers = range(boards)
    return Instance(
        rng.uniform(0, 1, units + 1),
        compute,
        np.zeros((units + 1, units + 1)),
        np.ones(boards),
        tuple(tuple((a, boards + b) for b in numbers) for a in numbers),
        np.full(2 * boards, float(more.pop("byte_s", 0.0))),  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )


def fewest_within(work: np.ndarray, most: int) -> float:
    """Least largest sum of a row cut into at most so many runs."""
    done = np.concatenate([[0.0], np.cumsum(work)])
    best = done.copy()
    for _ in range(most - 1):
        best = np.array([min(max(best[i], done[j] - done[i]) for i in range(j + 1)) for j in range(len(done))])
    return float(best[-1])


@pytest.mark.parametrize(("boards", "seed"), [(4, 1), (9, 2), (16, 3)])
def test_equal_boards_without_links_cut_the_row_evenly(boards: int, seed: int) -> None:
    instance = chain(60, boards, seed, np.ones(boards))
    found = exact(instance)
    assert found.is_optimal
    assert found.seconds == pytest.approx(fewest_within(np.diff(instance.compute_s[0, 0]), boards))


def test_different_boards_without_links_are_those_of_a_table_over_all_sets() -> None:
    boards, units = 8, 14
    instance = chain(units, boards, 4, np.random.default_rng(4).uniform(1, 5, boards))
    best = np.full((1 << boards, units + 1), inf)
    best[0, 0] = 0.0
    for used in range(1 << boards):
        for board in range(boards):
            if used >> board & 1:
                stage = np.where(np.triu(np.ones((units + 1, units + 1), bool), 1), instance.compute_s[board], inf)
                ended = np.maximum(best[used ^ 1 << board][:, None], stage).min(axis=0)
                best[used] = np.minimum(best[used], ended)
    found = exact(instance)
    assert found.is_optimal
    assert found.seconds == pytest.approx(best[:, -1].min())


def test_replicas_of_one_stage_share_the_work_and_the_ports_of_the_root_bound_it() -> None:
    instance = chain(10, 16, 5, np.ones(16), replicas=16, root=None)
    whole = float(instance.compute_s[0, 0, -1])
    found = exact(instance)
    assert found.seconds == found.lower_bound_s == pytest.approx(whole / 16)
    slow = chain(10, 16, 5, np.ones(16), replicas=16, root=0, byte_s=whole)
    bound = exact(slow)
    assert bound.is_optimal
    assert bound.seconds > found.seconds


@pytest.mark.parametrize("air", [None, 1e-9])
def test_turns_that_take_too_long_to_begin_anew_are_left_out(air: float | None) -> None:
    """Of 9 boards 5 and 4 would be best for work of 5 and 4, but their turns begin anew after 20 requests only."""
    boards, done = 9, np.array([0.0, 5.0, 9.0])
    instance = Instance(
        np.ones(3),
        np.broadcast_to(np.maximum(done[None, :] - done[:, None], 0.0), (boards, 3, 3)),
        np.array([[0.0, 1.0, 9.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]),
        np.ones(boards),
        ((() if air is None else (0,),) * boards,) * boards,
        np.full(int(air is not None), air or 0.0),
        replicas=boards,
    )
    pairs = [(p, q) for p in range(1, boards) for q in range(1, boards - p + 1) if lcm(p, q) <= MOST_PERIOD]
    found = exact(instance)
    assert found.is_optimal
    assert found.seconds == pytest.approx(min(max(5 / p, 4 / q) for p, q in pairs))
    assert found.seconds > 1.0
    answer = Search.of(instance).find(found.seconds * 0.999, 10**6, FOREVER)
    assert (answer.placement, answer.is_sure) == (None, True)


@pytest.mark.parametrize("crossing", [[0.0, 8.0], [8.0, 0.0], [3.0, 5.0]])
@pytest.mark.parametrize("is_shared", [False, True])
def test_the_root_as_a_replica_bears_the_inputs_and_outputs_of_the_others(crossing: list, is_shared: bool) -> None:
    """Three boards of 16 / 3 s each; what is two thirds of 8 bytes of 1.2 s at the root's one port."""
    routes = tuple(tuple((a, b) for b in range(3)) for a in range(3))
    air = tuple(tuple((0, 1) if 0 in (a, b) else (1,) for b in range(3)) for a in range(3))
    instance = Instance(
        np.array(crossing),
        np.broadcast_to(np.array([[0.0, 16.0], [0.0, 0.0]]), (3, 2, 2)),
        np.zeros((2, 2)),
        np.ones(3),
        air if is_shared else routes,
        np.array([1.2, 0.0]) if is_shared else np.full(3, 1.2),
        replicas=3,
    )
    found = exact(instance)
    assert found.is_optimal
    assert found.seconds == pytest.approx(8 * 2 / 3 * 1.2)
    search = Search.of(instance)
    assert search.find(found.seconds, 1000, FOREVER).placement is not None
    assert search.find(found.seconds * 0.999, 1000, FOREVER).is_sure


def test_a_link_is_not_used_to_and_fro() -> None:
    """Two boards with the one fast link between them cannot carry three stages."""
    need = np.maximum(np.arange(4)[None, :] - np.arange(4)[:, None], 0).astype(float)
    routes = tuple(tuple((4 * min(a, b) + max(a, b),) for b in range(4)) for a in range(4))
    byte_s = np.full(16, 5.0)
    byte_s[[1, 6]] = 1.0, 2.0  # boards 0 - 1, 1 - 2
    instance = Instance(np.ones(4), np.zeros((4, 4, 4)), need, np.ones(4), routes, byte_s, root=None)
    found = exact(instance)
    assert found.seconds == found.lower_bound_s == 2.0
    assert found.placement is not None
    assert found.placement.boards in ((0, 1, 2), (2, 1, 0))


def test_two_teams_that_share_a_board_are_not_both_used() -> None:
    """Boards 0 to 3 are alike, units 0 and 2 are for teams, unit 1 is for a board."""
    wide = (np.zeros(2), np.zeros(2), np.zeros(2))
    teams = (Team((0, 1), {(0, 1): TeamSpan(*wide)}), Team((1, 2), {(2, 3): TeamSpan(*wide)}))
    compute = np.full((5, 4, 4), inf)
    compute[:, 1, 2] = 1.0
    instance = Instance(
        np.ones(4), compute, np.zeros((4, 4)), np.ones(5), (((),) * 5,) * 5, np.zeros(0), root=None, teams=teams
    )
    assert exact(instance).lower_bound_s == inf
    other = replace(instance, teams=(*teams, Team((4, 2), {(2, 3): TeamSpan(np.ones(2) * 3, *wide[1:])})))
    assert exact(other).seconds == 3.0


def test_teams_that_send_alike_through_different_ports_are_told_apart() -> None:
    """Unit 0 is for teams, of board 0 with a slow port or of board 1 with a fast one; unit 1 is for board 2."""
    one = (np.zeros(1), np.zeros(1), np.ones(1))
    teams = (Team((0,), {(0, 1): TeamSpan(*one)}), Team((1,), {(0, 1): TeamSpan(*one)}))
    compute = np.full((3, 3, 3), inf)
    compute[2, 1, 2] = 0.5
    routes = tuple(tuple((a, 3 + b) for b in range(3)) for a in range(3))
    byte_s = np.array([5.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    instance = Instance(np.ones(3), compute, np.zeros((3, 3)), np.ones(3), routes, byte_s, root=None, teams=teams)
    found = exact(instance)
    assert found.seconds == found.lower_bound_s == 1.0


@pytest.mark.parametrize(
    ("routes", "seconds"),
    [
        (((), (0,), ()), 7.0),  # one link for both ways
        (((), (0,), (1,)), 5.0),  # what one sends
        (((), (0,), (0,)), 9.0),  # what all send
    ],
)
def test_what_a_team_sends_inside_counts(routes: tuple, seconds: float) -> None:
    """Board 0 sends board 1 five bytes and gets two back; of three boards the third gets another two."""
    link, out, air = ((), (0,), ()), ((), (0,), (1,)), ((), (0,), (0,))
    rows = {
        link: (((), (0,), (1,)), ((0,), (), (2,)), ((3,), (4,), ())),
        out: (((), (0,), (0,)), ((1,), (), (1,)), ((2,), (2,), ())),
        air: (((), (0,), (0,)), ((0,), (), (0,)), ((0,), (0,), ())),
    }
    inner = {(0, 1): 5.0, (1, 0): 2.0, (1, 2): 2.0}
    team = Team((0, 1, 2), {(0, 1): TeamSpan(np.ones(3), np.ones(3), np.ones(3), inner)})
    instance = Instance(
        np.ones(2), np.full((3, 2, 2), inf), np.zeros((2, 2)), np.ones(3), rows[routes], np.ones(5), None, teams=(team,)
    )
    assert exact(instance).seconds == exact(instance).lower_bound_s == seconds


def test_boards_are_alike_only_if_they_reach_each_other_equally_both_ways() -> None:
    byte_s = np.full(9, 4.0)
    byte_s[1 * 3 + 2] = 1.0  # from board 1 to board 2
    routes = tuple(tuple((3 * a + b,) for b in range(3)) for a in range(3))
    tight = np.array([[0.0, 1.0, 2.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    instance = Instance(np.ones(3), np.zeros((3, 3, 3)), tight, np.ones(3), routes, byte_s, root=None)
    found = exact(instance)
    assert found.seconds == found.lower_bound_s == 1.0
    assert found.placement is not None
    assert found.placement.boards == (1, 2)


# Ends of the range


def test_no_placement_is_proved_where_no_board_has_the_memory() -> None:
    instance = replace(chain(6, 3, 1, np.ones(3)), need_bytes=np.full((7, 7), 2.0))
    found = exact(instance)
    assert (found.placement, found.seconds, found.lower_bound_s, found.is_optimal) == (None, inf, inf, True)


def test_no_placement_is_proved_where_boards_are_too_few() -> None:
    instance = chain(6, 3, 1, np.ones(3))
    row = np.arange(7)
    tight = replace(instance, need_bytes=(row[None, :] - row[:, None]).astype(float), capacity=np.ones(3))
    assert exact(tight).lower_bound_s == inf
    assert exact(replace(tight, capacity=np.array([1.0, 2.0, 3.0]))).placement is not None
    assert exact(replace(tight, capacity=np.array([1.0, 2.0, 3.0]), most_boards=2)).placement is None


def test_one_board_that_is_as_good_as_many_stays_alone() -> None:
    instance = chain(6, 4, 1, np.zeros(4), root=None)
    found = exact(instance)
    assert found.seconds == 0.0
    assert found.is_optimal
    assert found.placement is not None
    assert len(found.placement.boards) == 1


def test_it_begins_with_what_it_is_given_and_is_never_worse() -> None:
    instance = chain(20, 6, 7, np.linspace(1, 2, 6), byte_s=0.3)
    thirds = Placement(tuple(PlacedStage(a, b, (number,)) for number, (a, b) in enumerate(pairwise((0, 7, 14, 20)))))
    assert exact(instance, 0.0, thirds).seconds <= loads(instance, thirds).seconds
    with pytest.raises(PlacementError, match="do not follow each other"):
        exact(instance, start=Placement(thirds.stages[1:]))


def test_the_same_instance_has_the_same_outcome() -> None:
    instance = chain(30, 8, 9, np.random.default_rng(9).uniform(1, 3, 8), byte_s=0.2, replicas=2)
    first, second = exact(instance), exact(instance)
    assert first.is_optimal
    assert (first.placement, first.lower_bound_s, first.explored) == (
        second.placement,
        second.lower_bound_s,
        second.explored,
    )


def test_many_boards_have_a_placement_and_a_bound_in_little_time() -> None:
    boards = 96
    instance = chain(60, boards, 11, np.random.default_rng(11).uniform(1, 5, boards), byte_s=0.1)
    found = exact(instance, 0.2)
    check(instance, found)
    assert found.placement is not None
    assert 0 < found.lower_bound_s < found.seconds <= instance.compute_s[:, 0, -1].max()


def test_a_link_on_which_the_root_sends_inputs_and_its_part_of_a_team_bears_both() -> None:
    compute = np.full((3, 2, 2), 9.0)
    compute[2] = 1.5
    team = Team((0, 1), {(0, 1): TeamSpan(np.full(2, 0.1), np.array([0.0, 1.0]), np.zeros(2), {(0, 1): 1.0})})
    routes = tuple(tuple((3 * a + b,) for b in range(3)) for a in range(3))
    instance = Instance(
        np.ones(2), compute, np.zeros((2, 2)), np.full(3, np.inf), routes, np.ones(9), root=0, teams=(team,)
    )
    found = exact(instance)
    assert (found.seconds, found.is_optimal) == (1.5, True), "the team would need 2 s of one link"
