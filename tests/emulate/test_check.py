"""Is it what the testbed says? The judgement of the check, without a network."""

from __future__ import annotations

import pytest

from flexpie_mpi.core.errors import EmulationError
from flexpie_mpi.emulate import check
from flexpie_mpi.emulate.check import MeasuredLink, check_cores, check_traffic, measure_links, trials
from flexpie_mpi.emulate.network import network_of
from flexpie_mpi.testbed import Device, switch
from tests.emulate.beds import GIGABIT, SHAPES, bed

PREFIX = "flexpie-1-2-abcd"


@pytest.mark.parametrize("count", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_resource_is_tried_and_is_the_narrowest_of_its_trial(shape, count):
    testbed = bed(shape, count)
    found = trials(testbed)
    assert [trial.resource for trial in found] == [resource.name for resource in testbed.resources]
    for number, trial in enumerate(found):
        routes = [testbed.routes[a][b].resources for a, b in trial.ways]
        assert all(number in route for route in routes) and trial.bandwidth == GIGABIT
        others = [set(route) - {number} for route in routes]
        assert shape != "switch" or count == 2 or len(set.union(*others)) == 2, "one port would hide the other"
        assert shape == "switch" or others == [set()]


def test_a_fast_port_among_slow_ones_is_tried_for_what_they_can_take():
    testbed = bed("switch", 3, [GIGABIT, GIGABIT / 10, GIGABIT / 10])
    wanted = {trial.resource: trial.bandwidth for trial in trials(testbed)}
    assert wanted["d0 out"] == wanted["d0 in"] == pytest.approx(GIGABIT / 5)
    assert wanted["d1 in"] == GIGABIT / 10


@pytest.mark.parametrize(("share", "is_right"), [(1.0, True), (0.87, True), (1.14, True), (0.8, False), (1.3, False)])
def test_a_link_may_be_off_by_15_percent(monkeypatch, share, is_right):
    monkeypatch.setattr(check, "throughput", lambda ways, expected: share * expected)
    monkeypatch.setattr(check, "PAUSE_S", 0.0)
    network = network_of(bed("star", 2), PREFIX)
    if is_right:
        assert measure_links(network, lambda text: None)[0] == MeasuredLink("d0 -> d1", GIGABIT, share * GIGABIT)
        return
    sentence = rf"'d0 -> d1' carries {share * 1000:g} Mb/s, and testbed 'star' says 1000: .*use fewer boards"
    with pytest.raises(EmulationError, match=sentence):
        measure_links(network, lambda text: None)


def test_a_link_that_was_disturbed_is_measured_again(monkeypatch):
    shares = iter([0.5, 0.99, 1.0])
    monkeypatch.setattr(check, "throughput", lambda ways, expected: next(shares) * expected)
    found = measure_links(network_of(bed("star", 2), PREFIX), lambda text: None)
    assert [link.off for link in found] == pytest.approx([-0.01, 0.0])


def test_bytes_that_do_not_leave_a_board_are_missed(monkeypatch):
    network = network_of(bed("switch", 2), PREFIX)
    for growth, is_right in ((check.SENT_BYTES, True), (check.SENT_BYTES - 1, False)):
        counts = iter([7, 7, 7 + growth, 7 + growth])
        monkeypatch.setattr(check, "sent_bytes", lambda space, counts=counts: next(counts))
        if is_right:
            check_traffic(network, lambda: None)
        else:
            with pytest.raises(
                EmulationError, match="rank 0 sent 400000 bytes and 399999 left its board: MPI knows an"
            ):
                check_traffic(network, lambda: None)


def test_what_the_cores_cannot_carry_is_refused():
    testbed = bed("switch", 8, slowdown=2.0)
    check_cores(testbed, 4, cores=2)
    with pytest.raises(EmulationError, match=r"8 boards keep 4 cores busy .* this machine has 2: .* 2 times as large"):
        check_cores(testbed, 8, cores=2)
    shared = switch([Device(name, slowdown=1.0, host="h") for name in "ab"], 1e8, 0.0)
    with pytest.raises(EmulationError, match="devices of host 'h' keep 2 times its cores busy"):
        check_cores(shared, 2, cores=4)
