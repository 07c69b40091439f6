"""Ranks go on their own: what they wait for, what they overlap, worked out by hand."""

from __future__ import annotations

import pytest

from flexpie_mpi.core.errors import ProgramError
from flexpie_mpi.core.program import Finish, Start
from flexpie_mpi.core.timeline import OF_NONE
from flexpie_mpi.testbed import Device, switch

from .jobs import LATENCY, MB, PORT, boards, compute, exchanged, parts, walked


def spans(timeline, rank: int) -> list[tuple[str, int, float, float]]:
    return [(e.kind, e.segment, round(e.begin_s, 9), round(e.end_s, 9)) for e in timeline.events if e.rank == rank]


def test_one_rank_takes_the_sum_of_what_it_computes() -> None:
    steps = [[compute(0), compute(1), compute(2)]]
    found = walked(steps, compute_s={(0, 0): 1.0, (0, 1): 0.25, (0, 2): 2.0})
    assert found.latency_s == pytest.approx(3.25)
    assert spans(found, 0) == [("compute", 0, 0, 1), ("compute", 1, 1, 1.25), ("compute", 2, 1.25, 3.25)]


def test_two_ranks_and_one_message() -> None:
    found = exchanged({(0, 1): 100}, boards(2), pack_s=0.25, unpack_s=0.125)
    assert spans(found, 0) == [("send", 1, 0, 0.25), ("wait", OF_NONE, 0.25, 1.25)]  # until the message has left
    assert spans(found, 1) == [("wait", 1, 0, 1.75), ("receive", 1, 1.75, 1.875)]
    assert found.latency_s == pytest.approx(0.25 + LATENCY + 100 * MB / PORT + 0.125)


def test_what_travels_while_a_rank_computes_costs_it_nothing() -> None:
    part = parts(1, {(0, 1): 100})
    steps = [[Start(part[0]), compute(0)], [compute(0), Finish(part[1]), compute(1)]]
    found = walked(steps, compute_s={(0, 0): 1.0, (1, 0): 2.0, (1, 1): 1.0})
    assert found.latency_s == pytest.approx(3.0)
    assert found.total("wait", 0) == found.total("wait", 1) == 0.0


def test_a_rank_waits_for_a_slower_one_and_for_nobody_else() -> None:
    part = parts(1, {(0, 1): 10, (1, 0): 10})
    steps = [[compute(0), Start(part[0]), Finish(part[0])], [compute(0), Start(part[1]), Finish(part[1])], [compute(0)]]
    found = walked(steps, boards(3), {(0, 0): 1.0, (1, 0): 4.0, (2, 0): 3.0})
    assert found.total("wait", 0) == pytest.approx(3.0 + LATENCY + 0.1)
    # rank 0's message came long ago: rank 1 only stays until its own has left
    assert found.total("wait", 1) == pytest.approx(0.1)
    assert found.total("wait", 2) == 0.0


def test_a_late_message_takes_from_who_is_already_on_the_way() -> None:
    """40 MB alone until 0.4 s, then both at half speed until the first has left at 1.6 s, then the second alone."""
    early, late = parts(1, {(0, 2): 100}), parts(2, {(1, 2): 100})
    receiver = [Finish(early[2]), Finish(late[2])]
    found = walked([[Start(early[0])], [compute(0), Start(late[1])], receiver], compute_s={(1, 0): 0.4})
    assert spans(found, 2) == [("wait", 1, 0, 1.6 + LATENCY), ("wait", 2, 1.6 + LATENCY, 2.0 + LATENCY)]


def test_messages_keep_to_their_own_exchange_and_may_overtake() -> None:
    first, second = parts(1, {(0, 1): 200}), parts(2, {(0, 1): 10})
    steps = [[Start(first[0]), Start(second[0])], [Finish(second[1]), compute(0), Finish(first[1])]]
    found = walked(steps, compute_s={(1, 0): 0.5})
    assert spans(found, 1)[:2] == [("wait", 2, 0, 0.2 + LATENCY), ("compute", 0, 0.7, 1.2)]
    assert found.latency_s == pytest.approx(2.1 + LATENCY)


def test_a_collective_ends_when_what_the_rank_sends_has_left_too() -> None:
    """Rank 0 receives 10 MB, which are there early, and sends 200."""
    moves = {(0, 1): 200, (1, 0): 10}
    assert spans(exchanged(moves, boards(2)), 0)[0][3] == pytest.approx(0.1 + LATENCY)
    assert spans(exchanged(moves, boards(2), kind="allgather"), 0)[0][3] == pytest.approx(2.0)


def test_the_root_of_a_gather_alone_waits_for_it() -> None:
    found = exchanged({(1, 0): 100, (2, 0): 50}, boards(3), kind="gather")
    assert [spans(found, rank)[0][1] for rank in range(3)] == [1, OF_NONE, OF_NONE]
    assert found.latency_s == pytest.approx(1.5 + LATENCY)


@pytest.mark.parametrize(("slots", "start"), [((0, 0), 1.0), ((0, 1), 0.0), ((-1, -1), 0.0)])
def test_a_collective_waits_until_the_memory_of_its_staging_slot_is_free(slots, start) -> None:
    first, second = (parts(index, {(0, 1): 50, (0, 2): 50}, "scatter", slot) for index, slot in enumerate(slots, 1))
    others = [[Start(first[rank]), Finish(first[rank]), Start(second[rank]), Finish(second[rank])] for rank in (1, 2)]
    found = walked([[Start(first[0]), Start(second[0])], *others], pack_s=0.0625)
    sends = [event for event in found.events if event.rank == 0 and event.kind == "send"]
    assert sends[1].begin_s == pytest.approx(0.0625 + start)


def test_a_slower_board_computes_longer_and_the_others_wait() -> None:
    part = parts(1, {(0, 1): 10, (1, 0): 10})
    steps = [[compute(0), Start(part[rank]), Finish(part[rank])] for rank in (0, 1)]
    quick = walked(steps, compute_s={(0, 0): 1.0, (1, 0): 1.0})
    slow = walked(steps, compute_s={(0, 0): 1.0, (1, 0): 3.0})
    assert slow.latency_s == pytest.approx(quick.latency_s + 2.0)
    assert slow.total("wait", 0) == pytest.approx(quick.total("wait", 0) + 2.0)


def test_who_waits_for_what_nobody_sends_is_named() -> None:
    part = parts(1, {(0, 1): 10})
    with pytest.raises(ProgramError, match="rank 1 would wait for ever"):
        walked([[], [Finish(part[1])]])


def test_events_of_a_rank_follow_each_other_without_gaps() -> None:
    testbed = switch([Device(f"b{rank}") for rank in range(4)], 50e6, 0.125)
    moves = {(s, t): 10 * (s + 1) for s in range(4) for t in range(4) if s != t}
    found = exchanged(moves, testbed, kind="alltoall", pack_s=0.25, unpack_s=0.5)
    for rank in range(4):
        mine = [event for event in found.events if event.rank == rank]
        assert mine[0].begin_s == 0.0
        assert [event.begin_s for event in mine[1:]] == [event.end_s for event in mine[:-1]]
