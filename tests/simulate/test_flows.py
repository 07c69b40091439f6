"""Messages share what they pass: fairly, fully, and only that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexpie_mpi.simulate.flows import fair_rates
from flexpie_mpi.testbed import ring, star, switch

from .jobs import LATENCY, boards, exchanged


def took(moves, count: int, topology=switch, **more: float) -> float:
    """Seconds beyond one latency."""
    return exchanged(moves, boards(count, topology, **more)).latency_s - LATENCY


def test_a_message_takes_its_latency_and_its_bytes_over_the_bandwidth() -> None:
    assert exchanged({(0, 1): 100}, boards(2)).latency_s == pytest.approx(0.5 + 1.0)


@pytest.mark.parametrize("moves", [{(0, 1): 30, (0, 2): 70}, {(1, 0): 30, (2, 0): 70}])
def test_messages_over_one_port_take_as_long_as_their_sum(moves) -> None:
    assert took(moves, 3) == pytest.approx(1.0)


def test_independent_messages_travel_at_the_same_time() -> None:
    assert took({(0, 1): 100, (2, 3): 100}, 4) == pytest.approx(1.0)
    assert took({(0, 1): 100, (1, 0): 100}, 2) == pytest.approx(1.0)  # both sides of a port are its own


def test_all_to_all_fills_every_port() -> None:
    moves = {(s, t): 20 for s in range(5) for t in range(5) if s != t}
    assert took(moves, 5) == pytest.approx(4 * 0.2)


def test_a_short_message_leaves_its_share_to_the_long_one() -> None:
    # both at half speed until the short one has left at 0.4 s, then 80 MB at full speed
    ends = [event.end_s for event in exchanged({(0, 1): 20, (0, 2): 100}, boards(3)).events if event.rank > 0]
    assert sorted(ends) == pytest.approx([0.4 + LATENCY, 1.2 + LATENCY])


def test_in_a_star_the_first_board_forwards() -> None:
    """From 1 to 2 and from 1 to 3 share one link; from 1 to 2 and from 3 to 2 another; from 1 to 2 and 3 to 4 none."""
    hops = 2 * LATENCY - LATENCY
    assert took({(1, 2): 50, (1, 3): 50}, 5, star) == pytest.approx(1.0 + hops)
    assert took({(1, 2): 50, (3, 2): 50}, 5, star) == pytest.approx(1.0 + hops)
    assert took({(1, 2): 50, (3, 4): 50}, 5, star) == pytest.approx(0.5 + hops)


def test_in_a_ring_messages_share_the_links_they_pass() -> None:
    assert took({(0, 1): 50, (1, 2): 50, (2, 3): 50, (3, 0): 50}, 4, ring) == pytest.approx(0.5)
    # 0 to 2 goes over 1 and shares the link from 0 to 1
    assert took({(0, 2): 50, (0, 1): 50}, 5, ring) == pytest.approx(1.0 + LATENCY)
    assert took({(0, 2): 50, (0, 4): 50}, 5, ring) == pytest.approx(0.5 + LATENCY)


def test_a_slow_port_slows_who_uses_it_and_leaves_the_rest_to_others() -> None:
    """Of 100 MB/s, the board whose port takes 10 gets 10 and the other 90."""
    slow = boards(3, bandwidth=[100e6, 10e6, 100e6])
    ends = [event.end_s for event in exchanged({(0, 1): 10, (0, 2): 90}, slow).events if event.rank]
    assert ends == pytest.approx([1.0 + LATENCY, 1.0 + LATENCY])


def test_twice_the_bandwidth_halves_what_is_not_latency() -> None:
    moves = {(0, 1): 30, (2, 1): 50, (0, 3): 20}
    assert took(moves, 4, bandwidth=200e6) == pytest.approx(took(moves, 4) / 2)


@st.composite
def networks(draw):
    """(capacities, flow and resource of every pair, number of flows)."""
    resources, flows = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    capacity = draw(st.lists(st.floats(0.1, 100), min_size=resources, max_size=resources))
    passed = [draw(st.sets(st.integers(0, resources - 1), min_size=1)) for _ in range(flows)]
    pairs = [(flow, resource) for flow, found in enumerate(passed) for resource in found]
    return np.array(capacity), *map(np.array, zip(*pairs, strict=True)), flows


@given(networks())
@settings(max_examples=200, deadline=None)
def test_shares_are_max_min_fair(network) -> None:
    """Nothing is overfull, and every flow passes something full on which no other has more."""
    capacity, flow, resource, flows = network
    rates = fair_rates(capacity, flow, resource, flows)
    load = np.bincount(resource, weights=rates[flow], minlength=len(capacity))
    assert (load <= capacity * (1 + 1e-6)).all() and (rates > 0).all()
    largest = np.zeros(len(capacity))
    np.maximum.at(largest, resource, rates[flow])
    is_full = load >= capacity * (1 - 1e-6)
    tight = is_full[resource] & (rates[flow] >= largest[resource] * (1 - 1e-6))
    assert set(flow[tight]) == set(range(flows))


def test_who_passes_nothing_waits_for_nothing() -> None:
    none = np.zeros(0, int)
    assert fair_rates(np.array([1.0]), none, none, 2).tolist() == [np.inf, np.inf]
