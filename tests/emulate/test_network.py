"""The network as data: every resource is an interface, every route is walked, nothing is done outside of it."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from flexpie_mpi.core.errors import EmulationError
from flexpie_mpi.emulate import network as networks
from flexpie_mpi.emulate.network import build, network_of, packet_bytes, take_down, wire_bits
from flexpie_mpi.testbed import HUB, one_host
from tests.emulate.beds import GIGABIT, SHAPES, bed

PREFIX = "flexpie-1-2-abcd"
UNEQUAL = [GIGABIT, GIGABIT / 10, GIGABIT, 4 * GIGABIT, GIGABIT / 2]


def made(shape, count, bandwidth=GIGABIT):
    return network_of(bed(shape, count, bandwidth), PREFIX)


def walked(network, source, target):
    """Stations from one board to another, as packets go."""
    if not network.hops:
        return [source, HUB, target]
    way = [source]
    while way[-1] != target:
        way.append(network.hops[way[-1], target].next)
        assert len(way) <= len(network.stations), "packets go round in circles"
    return way


@pytest.mark.parametrize("bandwidth", [GIGABIT, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_packets_go_the_ways_of_the_testbed_at_its_speeds(shape, count, bandwidth):
    network = made(shape, count, bandwidth if isinstance(bandwidth, float) else [*bandwidth, *bandwidth][:count])
    testbed = network.testbed
    for source, row in enumerate(testbed.routes):
        for target, route in enumerate(row):
            if route is None:
                continue
            way = walked(network, f"d{source}", f"d{target}")
            speeds = [network.toward(a, b).bandwidth for a, b in pairwise(way)]
            assert speeds == [testbed.resources[number].bandwidth for number in route.resources]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_there_is_an_interface_for_every_resource(shape, count):
    network = made(shape, count)
    assert len([end for end in network.interfaces if end.bandwidth]) == len(network.testbed.resources)
    assert len({(end.station, end.name) for end in network.interfaces}) == len(network.interfaces)
    assert len(set(network.spaces)) == len(set(map(network.address, network.stations))) == len(network.stations)
    assert all(end.name == "eth0" for end in network.interfaces if shape == "switch" and end.station != HUB)


@pytest.mark.parametrize("shape", ["ring", "star"])
def test_no_packet_is_larger_than_its_slowest_cable_takes(shape):
    network = made(shape, 5, UNEQUAL)
    for source, row in enumerate(network.testbed.routes):
        for target, route in enumerate(row):
            if route is not None:
                slowest = min(network.testbed.resources[number].bandwidth for number in route.resources)
                assert network.hops[f"d{source}", f"d{target}"].packet == packet_bytes(slowest)


def test_boards_left_out_of_a_ring_forward_and_run_nothing():
    network = network_of(bed("ring", 6).subset(5), PREFIX)
    assert network.stations == ("d0", "d1", "d2", "d3", "d4", "d5")
    assert walked(network, "d4", "d0") == ["d4", "d5", "d0"]
    assert len(network.device_spaces) == 5


def test_other_topologies_cannot_be_built():
    with pytest.raises(EmulationError, match="testbed 'host' is of the topology 'host', and only switch, ring, star"):
        network_of(one_host(2, 2), PREFIX)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_done_outside_of_the_own_namespaces(shape):
    network = made(shape, 4)
    commands = [*build(network), *take_down(network)]
    for command in commands:
        space = command[3] if command[:2] == ("ip", "netns") else command[2]
        assert space in network.spaces and (command[:2] == ("ip", "netns") or command[1] == "-n"), command
        assert "peer" not in command or command[command.index("netns") + 1] in network.spaces
    added = [command[3] for command in commands if command[:3] == ("ip", "netns", "add")]
    assert added == list(network.spaces) == [command[3] for command in commands if command[2] == "delete"]


@pytest.mark.parametrize("shape", SHAPES)
def test_only_boards_on_the_way_of_others_forward(shape):
    network = made(shape, 4)
    settings = [command for command in build(network) if command[:3] == ("ip", "netns", "exec")]
    forwarding = [command[3] for command in settings if "ipv4/ip_forward=1" in command[-1]]
    assert forwarding == {"switch": [], "ring": list(network.device_spaces), "star": [network.device_spaces[0]]}[shape]


def test_a_board_alone_has_an_address():
    commands = list(build(made("switch", 1)))
    assert ("ip", "-n", f"{PREFIX}-0", "address", "add", "10.77.0.1/32", "dev", "lo") in commands


@pytest.mark.parametrize("mbits", [10, 100, 500, 1000, 5000, 40_000])
def test_the_shape_of_a_link(mbits):
    bandwidth = mbits * 1e6 / 8
    packet = packet_bytes(bandwidth)
    assert networks.SMALLEST_PACKET <= packet <= networks.LARGEST_PACKET
    assert packet == networks.SMALLEST_PACKET or packet / bandwidth < 1e-4, "short messages would be too early"
    assert wire_bits(bandwidth) * (packet - 52) / (packet + 14) == pytest.approx(8 * bandwidth)
    commands = build(made("ring", 2, bandwidth))
    shaped = [" ".join(command) for command in commands if command[0] == "tc" and "class" in command]
    bursts = {int(re.search(r" burst (\d+) cburst \1 ", line)[1]) for line in shaped}
    assert len(shaped) == 2 and bursts == {max(networks.SMALLEST_BURST, int(bandwidth * networks.BURST_S))}
