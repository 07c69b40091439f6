"""The commands that build a network, as data: ``ip`` and ``tc`` inside namespaces, nothing outside of them.

How fast an interface sends is decided by a token bucket that lets a message through at the testbed's bandwidth, short
or long. That bandwidth is payload, and the kernel counts headers too: the rate is higher by their share. A bucket that
was idle lets `BURST_S` worth of bytes through at once, which has to cover how late the kernel's timers are, or a long
stream would lose bandwidth with every packet.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..testbed import HUB
from .network import Interface, Network, packet_bytes
from .system import Command

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
