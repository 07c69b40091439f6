"""What is built for a testbed, as data: stations, the cables between them, and the commands that build them.

A *station* is a network namespace: a board, a board that only forwards, or the switch. Every resource of the testbed
is one direction of one cable: what one interface sends. All commands are ``ip`` and ``tc`` inside namespaces.

How fast an interface sends is decided by a token bucket that lets a message through at the testbed's bandwidth, short
or long. That bandwidth is payload, and the kernel counts headers too: the rate is higher by their share. A bucket that
was idle lets `BURST_S` worth of bytes through at once, which has to cover how late the kernel's timers are, or a long
stream would lose bandwidth with every packet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..core.errors import EmulationError
from ..testbed import HUB, TOPOLOGIES, Route, Testbed
from .system import Command

NETWORK = "10.77"

PACKET_S = 96e-6
SMALLEST_PACKET, LARGEST_PACKET = 1500, 48_000
"""Packets leave whole, so they are kept to what a link carries in `PACKET_S`. Shorter ones would be truer to messages
below 50 kB, but each costs this machine some 10 us: with packets of 64 us, four boards that exchange all at once keep
two cores busy."""

BRIDGE = "bridge"

BURST_S = 100e-6
SMALLEST_BURST = 1600

ETHERNET_BYTES = 14
HEADER_BYTES = 52
"""IP, TCP and its time stamps take so much of every packet."""

QUEUE_BYTES = 256_000_000
"""More than senders can have on their way: a packet that is dropped costs the sender 200 ms."""

_SETTINGS = {
    "ipv6/conf/all/disable_ipv6": 1,  # one address per board: MPI libraries use every one they see
    "ipv6/conf/default/disable_ipv6": 1,
    "ipv4/conf/all/rp_filter": 0,  # in a ring, answers may come from the other side
    "ipv4/conf/default/rp_filter": 0,
    "ipv4/conf/all/send_redirects": 0,
    "ipv4/tcp_congestion_control": "reno",  # allowed everywhere; where nothing is lost it never slows down
    "ipv4/tcp_slow_start_after_idle": 0,
}


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


def build(network: Network) -> Iterator[Command]:
    """Commands that build a network, in their order."""
    for station in network.stations:
        yield from _station(network, station)
    for first, second in zip(network.interfaces[::2], network.interfaces[1::2], strict=True):
        yield _cable(network, first, second)
    for interface in network.interfaces:
        yield from _interface(network, interface)
    yield from _routes(network)


def take_down(network: Network) -> Iterator[Command]:
    """Commands that remove what :func:`build` built; interfaces go with their namespaces."""
    return (("ip", "netns", "delete", space) for space in network.spaces)


def _station(network: Network, station: str) -> Iterator[Command]:
    space = network.space(station)
    forwards = any(hop.next == station != target for (_, target), hop in network.hops.items())
    yield "ip", "netns", "add", space
    yield "ip", "-n", space, "link", "set", "lo", "up"
    settings = {**_SETTINGS, "ipv4/ip_forward": int(forwards)}
    words = " ".join(f"{key}={value}" for key, value in settings.items())
    line = f"cd /proc/sys/net; for s in {words}; do if [ -e ${{s%=*}} ]; then echo ${{s#*=}} > ${{s%=*}}; fi; done"
    yield "ip", "netns", "exec", space, "sh", "-c", line
    if station == HUB:
        yield "ip", "-n", space, "link", "add", BRIDGE, "type", "bridge"
        yield "ip", "-n", space, "link", "set", BRIDGE, "up"
    elif not any(interface.station == station for interface in network.interfaces):  # a board all alone
        yield "ip", "-n", space, "address", "add", f"{network.address(station)}/32", "dev", "lo"


def _cable(network: Network, first: Interface, second: Interface) -> Command:
    """A pair of interfaces, made where they are to be."""
    here, there = network.space(first.station), network.space(second.station)
    ip = ("ip", "-n", here, "link", "add", first.name, "mtu", str(first.packet))
    return *ip, "type", "veth", "peer", "name", second.name, "netns", there, "mtu", str(second.packet)


def _interface(network: Network, interface: Interface) -> Iterator[Command]:
    """Address, speed and packets of one end of a cable; what it sends leaves in packets that are not joined."""
    space = network.space(interface.station)
    link = ("ip", "-n", space, "link", "set", interface.name)
    if interface.station == HUB:
        yield *link, "master", BRIDGE
    else:
        bits = "16" if interface.peer == HUB else "32"
        address = f"{network.address(interface.station)}/{bits}"
        yield "ip", "-n", space, "address", "add", address, "dev", interface.name
    yield *link, "gso_max_segs", "1", "up"
    if interface.bandwidth is not None:
        yield from shape(space, interface.name, interface.bandwidth)


def _routes(network: Network) -> Iterator[Command]:
    """Where there is no switch: to every board a route of its own."""
    for (station, target), hop in network.hops.items():
        device = network.toward(station, hop.next).name
        way = ("dev", device) if hop.next == target else ("via", network.address(hop.next), "dev", device, "onlink")
        route = ("ip", "-n", network.space(station), "route", "add", network.address(target), *way)
        yield *route, "src", network.address(station), "mtu", str(hop.packet)


def wire_bits(bandwidth: float) -> int:
    """Bits per second with headers, for so many payload bytes per second.

    >>> wire_bits(1e9 / 8)
    1005523937
    """
    packet = packet_bytes(bandwidth)
    return round(8 * bandwidth * (packet + ETHERNET_BYTES) / (packet - HEADER_BYTES))


def shape(space: str, interface: str, bandwidth: float) -> tuple[Command, ...]:
    """Commands that make an interface of a namespace send so many payload bytes per second.

    A class may overdraw its bucket by one packet and then waits, so that the bucket can be smaller than a packet;
    `tbf` would need one that holds two.
    """
    tc = ("tc", "-n", space)
    burst = str(max(SMALLEST_BURST, int(bandwidth * BURST_S)))
    rate, quantum = f"{wire_bits(bandwidth)}bit", str(packet_bytes(bandwidth) + ETHERNET_BYTES)
    return (
        (*tc, "qdisc", "add", "dev", interface, "root", "handle", "1:", "htb", "default", "1"),
        (*tc, "class", "add", "dev", interface, "parent", "1:", "classid", "1:1", "htb", "rate", rate)
        + ("burst", burst, "cburst", burst, "quantum", quantum),
        (*tc, "qdisc", "add", "dev", interface, "parent", "1:1", "bfifo", "limit", str(QUEUE_BYTES)),
    )
