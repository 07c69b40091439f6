"""Testbeds by the shape of their network, or from measurements of every pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from ..core.errors import TestbedError
from .boards import Device, Resource, Route, Testbed, used

MOST_IN_RING = 256
"""Devices of a ring: every link of a way is written down, and ways are a quarter of the ring long."""

Ports = float | Sequence[float]
"""One number for every port, or one for each device's."""

Way = tuple[float, Sequence[str]]
"""(latency in seconds, names of the resources passed)."""


def switch(devices: Sequence[Device], bandwidth: Ports, latency: Ports, name: str = "switch") -> Testbed:
    """Devices around a switch: what a device sends shares its port's sending side, what it receives the other.

    Parameters
    ----------
    devices : sequence of Device
    bandwidth : float or sequence of float
        Bytes per second of the ports.
    latency : float or sequence of float
        Seconds of a message from port to port; the larger of the two counts.
    name : str

    Raises
    ------
    TestbedError
        When there are no devices, two share a name, or a number is out of range.
    """
    speeds, delays = _each(bandwidth, devices), _each(latency, devices)

    def way(source: int, target: int) -> Way:
        return max(delays[source], delays[target]), (_out(devices[source]), _in(devices[target]))

    return _testbed(name, devices, _ports(devices, speeds), way, "switch")


def ring(devices: Sequence[Device], bandwidth: Ports, latency: Ports, name: str = "ring") -> Testbed:
    """Devices with a link to the next and one to the previous, which forward what is meant for others.

    A message goes the shorter way, over at most half of the ring; where both ways are equally long, upwards from an
    even rank and downwards from an odd one, so that both directions carry as much. `latency` is that of one link.
    Parameters and errors as of :func:`switch`; a link is as slow as the slower of its two ports.
    """
    count = len(devices)
    if count > MOST_IN_RING:
        raise TestbedError(f"{count} devices are more than the {MOST_IN_RING} that a ring may have")
    speeds, delays = _each(bandwidth, devices), _each(latency, devices)

    def hops(source: int, target: int) -> list[tuple[int, int]]:
        up = (target - source) % count
        step = 1 if 2 * up < count or (2 * up == count and source % 2 == 0) else -1
        passed = [(source + step * hop) % count for hop in range(min(up, count - up) + 1)]
        return list(pairwise(passed))

    def way(source: int, target: int) -> Way:
        passed = hops(source, target)
        return sum(max(delays[a], delays[b]) for a, b in passed), [_link(devices[a], devices[b]) for a, b in passed]

    sides = [(rank, (rank + step) % count) for rank in range(count) for step in (1, -1)]
    links = {_link(devices[a], devices[b]): min(speeds[a], speeds[b]) for a, b in sides}
    return _testbed(name, devices, links, way, "ring")


def star(devices: Sequence[Device], bandwidth: Ports, latency: Ports, name: str = "star") -> Testbed:
    """Devices with a link each to the first one, which forwards what the others send each other.

    `latency` is that of one link. Parameters and errors as of :func:`switch`; a link is as slow as the slower of its
    two ports.
    """
    speeds, delays = _each(bandwidth, devices), _each(latency, devices)

    def way(source: int, target: int) -> Way:
        passed = [(a, b) for a, b in ((source, 0), (0, target)) if a != b]
        return sum(max(delays[a], delays[b]) for a, b in passed), [_link(devices[a], devices[b]) for a, b in passed]

    sides = [side for rank in range(1, len(devices)) for side in ((0, rank), (rank, 0))]
    links = {_link(devices[a], devices[b]): min(speeds[a], speeds[b]) for a, b in sides}
    return _testbed(name, devices, links, way, "star")


def one_host(ranks: int, cores: int, *, bandwidth: float = 5e9, latency: float = 2e-6, name: str = "host") -> Testbed:
    """Ranks of one machine: they share its cores, and messages go through its memory, copied by either end.

    Parameters
    ----------
    ranks, cores : int
    bandwidth : float
        Bytes per second at which a rank copies.
    latency : float
        Seconds of an empty message.
    name : str
        Of the machine.

    Raises
    ------
    TestbedError
        When a number is out of range.
    """
    devices = [Device(f"rank{rank}", host=name, cores=cores) for rank in range(ranks)]
    speeds = _ports(devices, [bandwidth] * ranks)
    return _testbed(name, devices, speeds, lambda a, b: (latency, (_out(devices[a]), _in(devices[b]))), "host")


def measured(
    devices: Sequence[Device],
    latency: Sequence[Sequence[float]],
    bandwidth: Sequence[Sequence[float]],
    name: str = "measured",
) -> Testbed:
    """Devices between which every pair was measured by itself.

    A port is taken to be as fast as the best pair it was seen in, on its sending and on its receiving side; pairs that
    use it at once share it. A pair slower than both its ports has a link of its own between them.

    Parameters
    ----------
    devices : sequence of Device
    latency, bandwidth : R x R numbers
        Seconds of an empty message, and bytes per second, by source and target; what a diagonal holds is not read.
    name : str

    Raises
    ------
    TestbedError
        When the numbers are not R x R, or one of them is out of range.
    """
    count = len(devices)
    for what, matrix in (("latencies", latency), ("bandwidths", bandwidth)):
        if len(matrix) != count or any(len(row) != count for row in matrix):
            raise TestbedError(f"{count} devices need {count} x {count} measured {what}")
    others = [[other for other in range(count) if other != rank] for rank in range(count)]
    sending = [max((float(bandwidth[rank][to]) for to in others[rank]), default=1.0) for rank in range(count)]
    receiving = [max((float(bandwidth[by][rank]) for by in others[rank]), default=1.0) for rank in range(count)]
    speeds = _ports(devices, sending, receiving)
    slow = {
        (a, b): float(bandwidth[a][b])
        for a in range(count)
        for b in others[a]
        if not bandwidth[a][b] >= min(sending[a], receiving[b])
    }
    speeds |= {_link(devices[a], devices[b]): speed for (a, b), speed in slow.items()}

    def way(source: int, target: int) -> Way:
        ports = (_out(devices[source]), _in(devices[target]))
        own = (_link(devices[source], devices[target]),) if (source, target) in slow else ()
        return float(latency[source][target]), ports + own

    return _testbed(name, devices, speeds, way, "measured")


def _testbed(
    name: str,
    devices: Sequence[Device],
    speeds: Mapping[str, float],
    way: Callable[[int, int], Way],
    topology: str,
) -> Testbed:
    """A testbed of the resources that some way passes."""
    resources = [Resource(resource, float(speed)) for resource, speed in speeds.items()]
    number = {resource: place for place, resource in enumerate(speeds)}

    def route(source: int, target: int) -> Route | None:
        if source == target:
            return None
        latency, passed = way(source, target)
        return Route(latency, tuple(number[resource] for resource in passed))

    ranks = range(len(devices))
    routes = [[route(source, target) for target in ranks] for source in ranks]
    return Testbed(name, tuple(devices), *used(resources, routes), topology)


def _each(ports: Ports, devices: Sequence[Device]) -> list[float]:
    if isinstance(ports, (int, float)):
        return [float(ports)] * len(devices)
    if len(ports) != len(devices):
        raise TestbedError(f"{len(devices)} devices need {len(devices)} ports, not {len(ports)}")
    return [float(port) for port in ports]


def _ports(devices: Sequence[Device], sending: Sequence[float], receiving: Sequence[float] = ()) -> dict[str, float]:
    speeds: dict[str, float] = {}
    for device, out, into in zip(devices, sending, receiving or sending, strict=True):
        speeds |= {_out(device): out, _in(device): into}
    return speeds


def _out(device: Device) -> str:
    return f"{device.name} out"


def _in(device: Device) -> str:
    return f"{device.name} in"


def _link(source: Device, target: Device) -> str:
    return f"{source.name} -> {target.name}"
