"""The commands that build a network, as data: ``ip`` and ``tc`` inside namespaces, nothing outside of them."""

from __future__ import annotations

from collections.abc import Iterator

from .network import SWITCH, Interface, Network
from .shaping import Command, shape

BRIDGE = "bridge"

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


def write(value: object, path: str) -> Command:
    """Write a value to a file of the kernel."""
    return "sh", "-c", f"echo {value} > {path}"


def _station(network: Network, station: str) -> Iterator[Command]:
    space = network.space(station)
    forwards = any(hop.next == station != target for (_, target), hop in network.hops.items())
    yield "ip", "netns", "add", space
    yield "ip", "-n", space, "link", "set", "lo", "up"
    settings = {**_SETTINGS, "ipv4/ip_forward": int(forwards)}
    words = " ".join(f"{key}={value}" for key, value in settings.items())
    line = f"cd /proc/sys/net; for s in {words}; do if [ -e ${{s%=*}} ]; then echo ${{s#*=}} > ${{s%=*}}; fi; done"
    yield "ip", "netns", "exec", space, "sh", "-c", line
    if station == SWITCH:
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
    if interface.station == SWITCH:
        yield *link, "master", BRIDGE
    else:
        bits = "16" if interface.peer == SWITCH else "32"
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
