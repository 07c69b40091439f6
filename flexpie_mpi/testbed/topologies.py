"""Topologies: the registry of those that testbed files may name, and testbeds of each, of one host, or as measured.

To add one: a function that lays the routes, and a line in `TOPOLOGIES`. Planning, simulation and emulation ask no more
than the routes, and what :class:`Topology` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from ..core.errors import TestbedError
from .boards import HUB, Device, Resource, Route, Testbed, Topology, used

Ports = float | Sequence[float]
"""One number for every port, or one for each device's."""

Ends = tuple[str, str]
"""The two stations between which a resource carries messages."""

Way = tuple[float, Sequence[Ends]]
"""(latency in seconds, ends of the resources passed)."""

Hop = tuple[int, int]
"""The ranks at both ends of a link."""


def switch(devices: Sequence[Device], bandwidth: Ports, latency: Ports, name: str = "switch") -> Testbed:
    """Devices around a switch: what a device sends shares its port's sending side, what it receives the other.

    Ports carry `bandwidth` bytes per second. A message takes `latency` seconds from port to port, of which the larger
    counts. Raises TestbedError when there are no devices, two share a name, or a number is out of range.
    """
    speeds, delays = _each(bandwidth, devices), _each(latency, devices)

    def way(source: int, target: int) -> Way:
        return max(delays[source], delays[target]), _ports_between(devices[source], devices[target])

    return _testbed(SWITCH, name, devices, _ports(devices, speeds, speeds), way)


def ring(devices: Sequence[Device], bandwidth: Ports, latency: Ports, name: str = "ring") -> Testbed:
    """Devices with a link to the next and one to the previous, which forward what is meant for others.

    A message goes the shorter way, over at most half of the ring; where both ways are equally long, upwards from an
    even rank and downwards from an odd one, so that both directions carry as much. `latency` is that of one link.
    Parameters and errors as of :func:`switch`; a link is as slow as the slower of its two ports.
    """
    count = len(devices)
    if count > RING.most_devices:
        raise TestbedError(f"{count} devices are more than the {RING.most_devices} that a ring may have")

    def hops(source: int, target: int) -> list[Hop]:
        up = (target - source) % count
        step = 1 if 2 * up < count or (2 * up == count and source % 2 == 0) else -1
        return list(pairwise((source + step * hop) % count for hop in range(min(up, count - up) + 1)))

    links = [(rank, (rank + step) % count) for rank in range(count) for step in (1, -1)]
    return forwarded(RING, name, devices, bandwidth, latency, links, hops)


def star(devices: Sequence[Device], bandwidth: Ports, latency: Ports, name: str = "star") -> Testbed:
    """Devices with a link each to the first one, which forwards what the others send each other.

    `latency` is that of one link. Parameters and errors as of :func:`switch`; a link is as slow as the slower of its
    two ports.
    """

    def hops(source: int, target: int) -> list[Hop]:
        return [(a, b) for a, b in ((source, 0), (0, target)) if a != b]

    links = [link for rank in range(1, len(devices)) for link in ((0, rank), (rank, 0))]
    return forwarded(STAR, name, devices, bandwidth, latency, links, hops)


def forwarded(
    topology: Topology,
    name: str,
    devices: Sequence[Device],
    bandwidth: Ports,
    latency: Ports,
    links: Iterable[Hop],
    hops: Callable[[int, int], Sequence[Hop]],
) -> Testbed:
    """Devices with links between some of them, which hand on what is meant for others.

    `bandwidth` and `latency` are as of :func:`switch`, of one link: it is as slow as the slower of its two ports.
    `links` has every direction of every link, by the ranks at its ends; `hops` says which of them a message takes from
    one rank to another.
    """
    speeds, delays = _each(bandwidth, devices), _each(latency, devices)
    ends = {(a, b): (devices[a].name, devices[b].name) for a, b in links}

    def way(source: int, target: int) -> Way:
        passed = hops(source, target)
        return sum(max(delays[a], delays[b]) for a, b in passed), [ends[hop] for hop in passed]

    return _testbed(topology, name, devices, {ends[a, b]: min(speeds[a], speeds[b]) for a, b in ends}, way)


def one_host(ranks: int, cores: int, *, bandwidth: float = 5e9, latency: float = 2e-6, name: str = "host") -> Testbed:
    """Ranks of one machine: they share its cores, and messages go through its memory, copied by either end.

    A rank copies `bandwidth` bytes per second; an empty message takes `latency` seconds.
    """
    devices = [Device(f"rank{rank}", host=name, cores=cores) for rank in range(ranks)]
    speeds = _ports(devices, [bandwidth] * ranks, [bandwidth] * ranks)
    return _testbed(HOST, name, devices, speeds, lambda a, b: (latency, _ports_between(devices[a], devices[b])))


def measured(
    devices: Sequence[Device],
    latency: Sequence[Sequence[float]],
    bandwidth: Sequence[Sequence[float]],
    name: str = "measured",
) -> Testbed:
    """Devices between which every pair was measured by itself.

    A port is taken to be as fast as the best pair it was seen in, on its sending and on its receiving side; pairs that
    use it at once share it. A pair slower than both its ports has a link of its own between them.

    Seconds of an empty message, and bytes per second, are by source and target; what a diagonal holds is not read.
    Raises TestbedError when they are not R x R numbers, or one of them is out of range.
    """
    count = len(devices)
    for what, matrix in (("latencies", latency), ("bandwidths", bandwidth)):
        if len(matrix) != count or any(len(row) != count for row in matrix):
            raise TestbedError(f"{count} devices need {count} x {count} measured {what}")
    others = [[other for other in range(count) if other != rank] for rank in range(count)]
    sending = [max((float(bandwidth[rank][to]) for to in others[rank]), default=1.0) for rank in range(count)]
    receiving = [max((float(bandwidth[by][rank]) for by in others[rank]), default=1.0) for rank in range(count)]
    slow = {
        (devices[a].name, devices[b].name): float(bandwidth[a][b])
        for a in range(count)
        for b in others[a]
        if not bandwidth[a][b] >= min(sending[a], receiving[b])
    }

    def way(source: int, target: int) -> Way:
        link = (devices[source].name, devices[target].name)
        ports = _ports_between(devices[source], devices[target])
        return float(latency[source][target]), (*ports, link) if link in slow else ports

    return _testbed(MEASURED, name, devices, _ports(devices, sending, receiving) | slow, way)


def _testbed(
    topology: Topology,
    name: str,
    devices: Sequence[Device],
    speeds: Mapping[Ends, float],
    way: Callable[[int, int], Way],
) -> Testbed:
    """A testbed of the resources that some way passes."""
    resources = [Resource(_name(*ends), float(speed), ends) for ends, speed in speeds.items()]
    number = {ends: index for index, ends in enumerate(speeds)}

    def route(source: int, target: int) -> Route | None:
        if source == target:
            return None
        latency, passed = way(source, target)
        return Route(latency, tuple(number[ends] for ends in passed))

    ranks = range(len(devices))
    routes = [[route(source, target) for target in ranks] for source in ranks]
    return Testbed(name, tuple(devices), *used(resources, routes), topology)


def _each(ports: Ports, devices: Sequence[Device]) -> list[float]:
    if isinstance(ports, (int, float)):
        return [float(ports)] * len(devices)
    if len(ports) != len(devices):
        raise TestbedError(f"{len(devices)} devices need {len(devices)} ports, not {len(ports)}")
    return [float(port) for port in ports]


def _ports(devices: Sequence[Device], sending: Sequence[float], receiving: Sequence[float]) -> dict[Ends, float]:
    """Both sides of every device's port, and how fast they are."""
    speeds: dict[Ends, float] = {}
    for device, out, into in zip(devices, sending, receiving, strict=True):
        speeds |= {(device.name, HUB): out, (HUB, device.name): into}
    return speeds


def _ports_between(source: Device, target: Device) -> tuple[Ends, Ends]:
    return (source.name, HUB), (HUB, target.name)


def _name(source: str, target: str) -> str:
    """What people call the resource between two stations."""
    if target == HUB:
        return f"{source} out"
    return f"{target} in" if source == HUB else f"{source} -> {target}"


SWITCH = Topology("switch", switch)
RING = Topology("ring", ring, most_devices=256)
"""Not larger: every link of a way is written down, and a way is a quarter of the ring long on average."""
STAR = Topology("star", star)
HOST = Topology("host", is_cabled=False)
MEASURED = Topology("measured", is_cabled=False)

TOPOLOGIES = {topology.name: topology for topology in (SWITCH, RING, STAR)}
"""Those that a testbed file may name."""
