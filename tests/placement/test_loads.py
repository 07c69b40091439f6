"""What placements ask for, worked out by hand, and what is no placement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flexpie_mpi.core.errors import PlacementError
from flexpie_mpi.placement import Instance, PlacedStage, Placement, Team, TeamSpan, loads, messages, problems

OUT, IN = 0, 4
"""Resources of a board: its number, and its number after these."""


def instance(**changes: object) -> Instance:
    """Four boards with a port in and a port out, of 1 s a byte; four units of 12 s; 12 bytes alive at every cut."""
    row = np.arange(5)
    span = np.maximum(row[None, :] - row[:, None], 0).astype(float)
    boards = range(4)
    made = Instance(
        crossing=np.array([12.0, 24.0, 36.0, 48.0, 60.0]),
        compute_s=12.0 * np.broadcast_to(span, (4, 5, 5)),
        need_bytes=span,
        capacity=np.array([4.0, 4.0, 2.0, 2.0]),
        routes=tuple(tuple((OUT + a, IN + b) for b in boards) for a in boards),
        resource_s=np.ones(8),
        root=0,
        replicas=4,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def stages(*rows: tuple) -> Placement:
    return Placement(tuple(PlacedStage(*row) for row in rows))


def test_a_stage_on_each_of_two_boards() -> None:
    found = loads(instance(), stages((0, 3, (1,)), (3, 4, (2,))))
    assert found.compute_s.tolist() == [0, 36, 12, 0]
    assert found.resource_s[OUT : OUT + 4].tolist() == [12, 48, 60, 0]  # the root sends the inputs
    assert found.resource_s[IN : IN + 4].tolist() == [60, 12, 48, 0]
    assert found.seconds == 60


def test_the_root_sends_itself_nothing() -> None:
    found = loads(instance(), stages((0, 2, (3,)), (2, 4, (0,))))
    assert found.resource_s[OUT : OUT + 4].tolist() == [12, 0, 0, 36]
    assert found.resource_s[IN : IN + 4].tolist() == [36, 0, 0, 12]
    assert list(messages(instance(), stages((0, 4, (0,))))) == []


def test_without_a_root_inputs_and_outputs_stay_where_they_are() -> None:
    found = loads(instance(root=None), stages((0, 2, (3,)), (2, 4, (0,))))
    assert found.resource_s.sum() == 2 * 36


def test_replicas_share_computing_and_messages() -> None:
    found = loads(instance(), stages((0, 2, (1, 2)), (2, 4, (0, 3))))
    assert found.compute_s.tolist() == [12, 12, 12, 12]
    assert found.resource_s[OUT : OUT + 4].tolist() == [12, 18, 18, 30]  # of the outputs the root has half
    assert found.resource_s[IN : IN + 4].tolist() == [18 + 30, 6, 6, 18]


def test_replicas_meet_as_their_turns_do() -> None:
    pairs = stages((0, 2, (0, 1)), (2, 4, (2, 3)))
    assert list(messages(instance(root=None), pairs)) == [(0, 2, 18), (1, 3, 18)]
    crossed = stages((0, 2, (0, 1)), (2, 4, (3, 2)))
    assert list(messages(instance(root=None), crossed)) == [(0, 3, 18), (1, 2, 18)]
    all_meet = stages((0, 2, (0,)), (2, 4, (1, 2, 3)))
    assert list(messages(instance(root=None), all_meet)) == [(0, 1, 12), (0, 2, 12), (0, 3, 12)]
    assert pairs.period == 2
    assert stages((0, 1, (0, 1)), (1, 4, (2, 3, 4))).period == 6


TEAM = Team(
    (1, 0),
    {
        (1, 4): TeamSpan(np.array([5.0, 7.0]), np.array([10.0, 20.0]), np.array([30.0, 40.0]), {(0, 1): 3.0}),
        (0, 4): TeamSpan(np.array([6.0, 8.0]), np.array([10.0, 20.0]), np.array([30.0, 40.0])),
    },
)


def test_a_team_gets_and_gives_what_it_says() -> None:
    placed = instance(teams=(TEAM,))
    found = loads(placed, stages((0, 1, (2, 3)), (1, 4, (1, 0), True)))
    assert found.compute_s.tolist() == [7, 5, 6, 6]
    assert found.resource_s[OUT : OUT + 4].tolist() == [12, 30 + 3, 15, 15]  # the root's part of the outputs stays
    assert found.resource_s[IN : IN + 4].tolist() == [20 + 30 + 3, 10, 6, 6]


def test_a_team_that_begins_gets_the_inputs_from_the_root() -> None:
    placed = instance(teams=(TEAM,))
    rows = list(messages(placed, stages((0, 4, (1, 0), True))))
    assert rows == [(0, 1, 10), (1, 0, 30)]


def test_a_resource_on_the_way_of_several_adds_up() -> None:
    air = instance(routes=(((0,),) * 4,) * 4, resource_s=np.array([0.5]))
    found = loads(air, stages((0, 3, (1,)), (3, 4, (2,))))
    assert found.resource_s.tolist() == [(12 + 48 + 60) / 2]


WRONG = [
    ("do not follow each other", stages((0, 2, (0,)), (3, 4, (1,)))),
    ("do not follow each other", stages((0, 2, (0,)))),
    ("do not follow each other", stages()),
    ("must have units, and boards", stages((0, 4, ()))),
    ("must have units, and boards", stages((0, 4, (0,)), (4, 4, (1,)))),
    ("must have units, and boards", stages((0, 6, (0,)), (6, 4, (1,)))),
    ("must be different ones", stages((0, 2, (1,)), (2, 4, (1,)))),
    ("must be different ones", stages((0, 2, (1,)), (2, 4, (4,)))),
    ("they need 3 bytes of memory, and it has 2", stages((0, 3, (2,)), (3, 4, (0,)))),
    ("no team", stages((0, 3, (0, 1), True), (3, 4, (2,)))),
    ("no team", stages((0, 4, (0, 1), True))),
]


@pytest.mark.parametrize(("sentence", "placement"), WRONG)
def test_what_is_no_placement(sentence: str, placement: Placement) -> None:
    placed = instance(teams=(TEAM,))
    assert any(sentence in problem for problem in problems(placed, placement))
    with pytest.raises(PlacementError, match=sentence):
        loads(placed, placement)


def test_limits_of_boards_turns_and_cuts() -> None:
    two = stages((0, 2, (0,)), (2, 4, (1,)))
    assert problems(instance(), two) == []
    assert "more than the 1 allowed" in problems(instance(most_boards=1), two)[0]
    assert problems(instance(cuttable=np.array([False, True, False, True, False])), two) != []
    assert "at most 1 are allowed" in problems(instance(replicas=1), stages((0, 2, (0, 2)), (2, 4, (1,))))[0]
    many = instance(
        compute_s=np.zeros((12, 5, 5)),
        capacity=np.full(12, 4.0),
        routes=(((),) * 12,) * 12,
        resource_s=np.zeros(0),
        replicas=7,
    )
    turns = stages((0, 2, (0, 1, 2, 3, 4)), (2, 4, (5, 6, 7, 8, 9, 10, 11)))
    assert "begin anew after 35 requests" in problems(many, turns)[0]


def test_two_teams_do_not_follow_each_other() -> None:
    other = Team((2, 3), {(0, 1): TeamSpan(np.ones(2), np.ones(2), np.ones(2))})
    placed = instance(teams=(TEAM, other))
    found = problems(placed, stages((0, 1, (2, 3), True), (1, 4, (1, 0), True)))
    assert found == ["two teams follow each other directly"]


BROKEN = [
    ("compute_s has shape", dict(compute_s=np.zeros((4, 5, 4)))),
    ("capacity has shape", dict(capacity=np.ones((4, 1)))),
    ("cuttable has shape", dict(cuttable=np.ones(4, bool))),
    ("crossing holds -1", dict(crossing=np.array([1.0, 1.0, -1.0, 1.0, 1.0]))),
    ("resource_s holds inf", dict(resource_s=np.array([1.0] * 7 + [np.inf]))),
    ("4 x 4 routes", dict(routes=(((),) * 4,) * 3)),
    ("resource 9 of 8", dict(routes=(((9,),) * 4,) * 4)),
    ("root = 4", dict(root=4)),
    ("replicas = 17", dict(replicas=17)),
    ("most_boards = 0", dict(most_boards=0)),
    ("at least one of each", dict(crossing=np.ones(1))),
    (r"team \(1, 1\)", dict(teams=(Team((1, 1), {}),))),
    (r"offered for units \(3, 2\)", dict(teams=(Team((1,), {(3, 2): TeamSpan(*np.ones((3, 1)))}),))),
    ("a number for each of its boards", dict(teams=(Team((1, 2), {(0, 2): TeamSpan(*np.ones((3, 1)))}),))),
    ("a board it has not", dict(teams=(Team((1,), {(0, 2): TeamSpan(*np.ones((3, 1)), {(0, 1): 1.0})}),))),
]


@pytest.mark.parametrize(("sentence", "changes"), BROKEN)
def test_what_is_no_instance(sentence: str, changes: dict) -> None:
    with pytest.raises(PlacementError, match=sentence):
        instance(**changes)
