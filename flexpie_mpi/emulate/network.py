"""What is built for a testbed, as data: stations, the cables between them, and who hands a packet on to whom.

A *station* is a network namespace: a board, a board that only forwards, or the switch. Every resource of the testbed
is one direction of one cable: what one interface sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..core.errors import EmulationError
from ..testbed import HUB, TOPOLOGIES, Route, Testbed

NETWORK = "10.77"

PACKET_S = 96e-6
SMALLEST_PACKET, LARGEST_PACKET = 1500, 48_000
"""Packets leave whole, so they are kept to what a link carries in `PACKET_S`. Shorter ones would be truer to messages
below 50 kB, but each costs this machine some 10 us: with packets of 64 us, four boards that exchange all at once keep
two cores busy."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An end of a cable: its name, where the cable leads, and what it sends."""

    name: str
    station: str  # its own
    peer: str  # the station at the other end
    bandwidth: float | None  # payload bytes per second that it sends; None where no message ever goes that way
    packet: int  # largest packet of the cable, in bytes


@dataclass(frozen=True, slots=True)
class Hop:
    """The way of packets from one station to another: the next station, and the largest packet all the way."""

    next: str
    packet: int


@dataclass(frozen=True, slots=True)
class Network:
    """A testbed's network."""

    testbed: Testbed
    prefix: str  # of everything that is built
    stations: tuple[str, ...]  # boards in the order of their ranks, then boards that only forward, and the switch
    interfaces: tuple[Interface, ...]  # both ends of a cable stand together
    hops: Mapping[tuple[str, str], Hop]  # by (station, target); empty where all share a switch

    def space(self, station: str) -> str:
        """The station's namespace."""
        return f"{self.prefix}-{'switch' if station == HUB else self.stations.index(station)}"

    def address(self, station: str) -> str:
        """The station's address: the same one on all of its interfaces."""
        number = self.stations.index(station) + 1
        return f"{NETWORK}.{number // 256}.{number % 256}"

    def toward(self, station: str, peer: str) -> Interface:
        """The end of the cable between two stations that is at the first."""
        return next(end for end in self.interfaces if (end.station, end.peer) == (station, peer))

    @property
    def spaces(self) -> tuple[str, ...]:
        """Namespaces of all stations."""
        return tuple(map(self.space, self.stations))

    @property
    def device_spaces(self) -> tuple[str, ...]:
        """Namespaces of the devices, by rank."""
        return self.spaces[: self.testbed.ranks]


def network_of(testbed: Testbed, prefix: str) -> Network:
    """The network of a testbed; raises EmulationError when its topology is none that can be built."""
    if not testbed.topology.is_cabled:
        known = ", ".join(name for name, topology in TOPOLOGIES.items() if topology.is_cabled)
        raise EmulationError(
            f"testbed '{testbed.name}' is of the topology '{testbed.topology}', and only {known} can "
            "be built: describe the boards in a testbed file"
        )
    sides = {resource.ends: resource.bandwidth for resource in testbed.resources}
    names = [device.name for device in testbed.devices]
    stations = tuple(dict.fromkeys([*names, *(end for side in sides for end in side if end != HUB)]))
    if any(HUB in side for side in sides):
        stations += (HUB,)
    return Network(testbed, prefix, stations, _interfaces(sides), _hops(testbed, stations))


def packet_bytes(bandwidth: float) -> int:
    """Largest packet of a link, in bytes, of so many payload bytes per second.

    >>> [packet_bytes(bits / 8) for bits in (1e8, 1e9, 5e9)]
    [1500, 12000, 48000]
    """
    return min(LARGEST_PACKET, max(SMALLEST_PACKET, int(bandwidth * PACKET_S)))


def _interfaces(sides: Mapping[tuple[str, str], float]) -> tuple[Interface, ...]:
    """Both ends of a cable for every pair of stations with a resource between them, numbered at each station."""
    cables = dict.fromkeys(tuple(sorted(side)) for side in sides)
    used: dict[str, int] = {}
    interfaces = []
    for a, b in cables:
        packet = packet_bytes(min(sides[way] for way in ((a, b), (b, a)) if way in sides))
        for station, peer in ((a, b), (b, a)):
            number = used[station] = used.get(station, -1) + 1
            interfaces.append(Interface(f"eth{number}", station, peer, sides.get((station, peer)), packet))
    return tuple(interfaces)


def _hops(testbed: Testbed, stations: Sequence[str]) -> dict[tuple[str, str], Hop]:
    if HUB in stations:
        return {}
    hops: dict[tuple[str, str], Hop] = {}
    for source, row in enumerate(testbed.routes):
        for target, route in enumerate(row):
            if route is not None:
                _add_hops(hops, testbed, source, target, route)
    return hops


def _add_hops(hops: dict[tuple[str, str], Hop], testbed: Testbed, source: int, target: int, route: Route) -> None:
    """The hops of one route; each station on the way hands on what is meant for the target.

    Routes agree: what a station hands on for others goes the way of its own messages. A packet is no larger than what
    the slowest cable takes.
    """
    passed = [testbed.resources[number] for number in route.resources]
    way = [passed[0].ends[0], *(resource.ends[1] for resource in passed)]
    packet = packet_bytes(min(resource.bandwidth for resource in passed))
    name = testbed.devices[target].name
    for index, (station, following) in enumerate(pairwise(way)):
        known = hops.setdefault((station, name), Hop(following, packet))
        if known.next != following:
            raise EmulationError(
                f"testbed '{testbed.name}' sends what '{station}' has for '{name}' to '{following}', and what it hands "
                f"on to '{known.next}': a board cannot do both"
            )
        if not index:
            hops[station, name] = Hop(following, packet)
