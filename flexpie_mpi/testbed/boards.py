"""The nouns: devices, what their messages occupy, the topology, the testbed of all of them, and its sketch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from ..core.errors import TestbedError

MOST_DEVICES = 1024
HUB = "the switch"
"""The station in the middle of a network; no device can have its name."""

PORT = ("bandwidth", "latency")
"""What a testbed file says of every device's port, or once of all of them."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Device:
    """The hardware that one rank runs on; raises TestbedError when such a device cannot exist."""

    name: str  # letters, digits and - . _: it is a line of a hostfile
    slowdown: float = 1.0  # times slower than the machine that the cost model was measured on; below 1 for a faster one
    threads: int = 1  # onnxruntime threads of the rank
    memory_bytes: int | None = None  # what the rank may use; None for no limit
    host: str = ""  # devices with the same host share its cores; an empty one is a host of its own
    cores: int = 1  # of the host
    # Channels to a block of what its onnxruntime computes convolutions in; 0 where it has no such layout, or none is
    # known. How values lie in its memory says nothing of the board: a testbed's digest does not see it.
    block: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise TestbedError(f"device {self.name!r}: its name may have letters, digits and - . _ only")
        if not 0 < self.slowdown < inf:
            raise TestbedError(f"device '{self.name}': slowdown = {self.slowdown} must be a number above 0")
        for key in ("threads", "cores"):
            if getattr(self, key) < 1:
                raise TestbedError(f"device '{self.name}': {key} = {getattr(self, key)} must be at least 1")
        if self.block < 0:
            raise TestbedError(f"device '{self.name}': block = {self.block} must be a number of channels, or 0")
        if self.memory_bytes is not None and self.memory_bytes < 1:
            raise TestbedError(f"device '{self.name}': memory of {self.memory_bytes} bytes holds nothing")

    @property
    def busy_cores(self) -> float:
        """How many cores of its host the device keeps busy while it computes; pacing leaves them idle in between."""
        return self.threads / max(1.0, self.slowdown)


@dataclass(frozen=True, slots=True)
class Resource:
    """What messages share: a port's sending or receiving side, or a link in one direction."""

    name: str  # for people
    bandwidth: float  # bytes per second
    ends: tuple[str, str] = field(default=("", ""), repr=False)  # the stations it carries from and to: devices, `HUB`

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth < inf:
            raise TestbedError(f"{self.name}: a bandwidth of {self.bandwidth} bytes/s must be a number above 0")


@dataclass(frozen=True, slots=True)
class Route:
    """The way of a message: seconds until its first byte arrives, and the resources it passes, by number."""

    latency_s: float
    resources: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.latency_s < inf:
            raise TestbedError(f"a latency of {self.latency_s} s must be a number, and 0 or more")


@dataclass(frozen=True, slots=True)
class Topology:
    """The shape of a network.

    A network without the rule `lay` is known by measuring it only.
    """

    name: str  # as testbed files and results have it
    # Makes a testbed of devices, the bandwidth and latency of every device's port, and a name.
    lay: Callable[[Sequence[Device], Sequence[float], Sequence[float], str], Testbed] | None = None
    most_devices: int = MOST_DEVICES
    is_cabled: bool = True  # each resource is what one end of a cable sends, so that the network can be built

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Testbed:
    """Devices by rank, and how messages travel between them.

    Raises TestbedError when devices and routes do not fit together.
    """

    __test__ = False  # not a test class, whatever pytest reads into the name

    name: str
    devices: tuple[Device, ...]
    resources: tuple[Resource, ...]
    routes: tuple[tuple[Route | None, ...], ...]  # routes[source][target]; None from a rank to itself only
    topology: Topology  # how the routes came to be

    def __post_init__(self) -> None:
        problems = _device_problems(self.devices) or _route_problems(self)
        if problems:
            raise TestbedError(problems[0])

    @property
    def ranks(self) -> int:
        """Number of ranks: one to a device."""
        return len(self.devices)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Channels to a block of each device; 0 where values are row-major."""
        return tuple(device.block for device in self.devices)

    def with_blocks(self, blocks: Sequence[int]) -> Testbed:
        """The same with devices that compute in these blocks."""
        devices = (replace(device, block=block) for device, block in zip(self.devices, blocks, strict=True))
        return replace(self, devices=tuple(devices))

    def with_links(self, other: Testbed) -> Testbed:
        """The same devices, with the links of another testbed of as many."""
        return replace(self, resources=other.resources, routes=other.routes, topology=other.topology)

    @property
    def digest(self) -> str:
        """Hex digest of everything but the testbed's name."""
        state = hashlib.blake2b(digest_size=16)
        for item in (self.topology.name, *self.devices, *self.resources, *self.routes):
            state.update(repr(item).encode())
        return state.hexdigest()

    def bandwidth(self, source: int, target: int) -> float:
        """Bytes per second of the narrowest part of the way between two ranks, the mean over there and back."""
        ways = filter(None, (self.routes[source][target], self.routes[target][source]))
        narrowest = [min(self.resources[number].bandwidth for number in way.resources) for way in ways]
        return 2 / sum(1 / bandwidth for bandwidth in narrowest)

    def subset(self, count: int) -> Testbed:
        """The first `count` ranks; boards left out still forward what passes through them; raises TestbedError."""
        if not 1 <= count <= self.ranks:
            raise TestbedError(f"testbed '{self.name}' has {self.ranks} devices, so it cannot give {count} ranks")
        return self.only(range(count))

    def only(self, ranks: Sequence[int]) -> Testbed:
        """Some of the ranks, in this order; boards left out still forward what passes through them."""
        routes = tuple(tuple(self.routes[a][b] for b in ranks) for a in ranks)
        devices = tuple(self.devices[rank] for rank in ranks)
        return Testbed(self.name, devices, *used(self.resources, routes), self.topology)

    def active(self, ranks: Sequence[int]) -> tuple[float, ...]:
        """How much each of `ranks` overloads its host's cores when all of them compute at once; 1 for not at all.

        A device paced k times slower keeps 1/k of a core busy for each thread. One on a host of its own has the cores
        it needs.

        >>> from flexpie_mpi.testbed import one_host
        >>> one_host(ranks=4, cores=2).active([0, 1, 3])
        (1.5, 1.5, 1.5)
        """
        busy: dict[str, float] = {}
        for rank in ranks:
            device = self.devices[rank]
            busy[device.host] = busy.get(device.host, 0.0) + device.busy_cores
        devices = [self.devices[rank] for rank in ranks]
        return tuple(max(1.0, busy[device.host] / device.cores) if device.host else 1.0 for device in devices)


def used(
    resources: Sequence[Resource], routes: Sequence[Sequence[Route | None]]
) -> tuple[tuple[Resource, ...], tuple[tuple[Route | None, ...], ...]]:
    """Leave out resources that no route passes; the others in their order, and routes with their new numbers."""
    passed = sorted({number for row in routes for route in row if route for number in route.resources})
    if len(passed) == len(resources):
        return tuple(resources), tuple(map(tuple, routes))
    new = {old: number for number, old in enumerate(passed)}

    def renumbered(route: Route | None) -> Route | None:
        return route and Route(route.latency_s, tuple(new[number] for number in route.resources))

    return tuple(resources[old] for old in passed), tuple(tuple(map(renumbered, row)) for row in routes)


def _device_problems(devices: Sequence[Device]) -> list[str]:
    if not devices:
        return ["a testbed needs at least one device"]
    if len(devices) > MOST_DEVICES:
        return [f"{len(devices)} devices are more than the {MOST_DEVICES} that a testbed may have"]
    names = [device.name for device in devices]
    problems = [
        f"two devices are called '{name}'" for name in sorted({name for name in names if names.count(name) > 1})
    ]
    first = {device.host: device for device in reversed(devices) if device.host}
    return problems + [
        f"device '{device.name}': cores = {device.cores}, but '{first[device.host].name}' on the same host "
        f"'{device.host}' has cores = {first[device.host].cores}"
        for device in devices
        if device.host and device.cores != first[device.host].cores
    ]


def _route_problems(testbed: Testbed) -> list[str]:
    ranks, routes = range(len(testbed.devices)), testbed.routes
    if len(routes) != len(ranks) or any(len(row) != len(ranks) for row in routes):
        return [f"testbed '{testbed.name}' has {len(ranks)} devices, so its routes must be {len(ranks)} x {len(ranks)}"]
    problems = []
    for source in ranks:
        for target in ranks:
            route = routes[source][target]
            if (route is None) != (source == target):
                missing = "needs a" if route is None else "cannot have a"
                problems.append(f"testbed '{testbed.name}' {missing} route from rank {source} to rank {target}")
            elif route and not all(0 <= number < len(testbed.resources) for number in route.resources):
                problems.append(f"the route from rank {source} to rank {target} passes a resource that does not exist")
    return problems


# Testbeds that can still be changed


@dataclass(frozen=True, slots=True)
class Sketch:
    """Devices, each with its port, and the shape of a network whose routes are not laid yet: it can still be changed.

    `bandwidth` (bytes per second) and `latency` (seconds) are those of each device's port; None where nothing says, as
    one device alone needs none.
    """

    name: str
    topology: Topology  # one that can be laid
    devices: tuple[Device, ...]
    bandwidth: tuple[float | None, ...]
    latency: tuple[float | None, ...]

    def testbed(self, ranks: int | None = None) -> Testbed:
        """The testbed of all devices, or of `ranks`: the first of them, or all and more like the last.

        Raises TestbedError when nothing says how fast the links are, or there would be more devices than can be.
        """
        count = len(self.devices)
        if ranks is None or ranks == count:
            return self._laid()
        return self._laid().subset(ranks) if ranks < count else self._extended(ranks)._laid()

    def changed(self, change: Mapping[str, Any]) -> Sketch:
        """The same boards on the same network, all of them with what a change gives.

        That is ``bandwidth`` and ``latency`` of ports, and fields of :class:`Device`.
        """
        ports: dict[str, Any] = {key: (change[key],) * len(self.devices) for key in PORT if key in change}
        given = {key: value for key, value in change.items() if key not in PORT}
        return replace(self, devices=tuple(replace(device, **given) for device in self.devices), **ports)

    def _laid(self) -> Testbed:
        unknown = [key for key in PORT if None in getattr(self, key)]
        if unknown and len(self.devices) > 1:
            raise TestbedError(
                f"testbed '{self.name}' does not say how fast its links are: it lacks a table [link] with {unknown[0]}"
            )
        bandwidth = [speed or 1.0 for speed in self.bandwidth]  # a single device sends nothing
        latency = [delay or 0.0 for delay in self.latency]
        assert self.topology.lay is not None, "only what a file can name is sketched"
        return self.topology.lay(self.devices, bandwidth, latency, self.name)

    def _extended(self, ranks: int) -> Sketch:
        most = self.topology.most_devices
        if ranks > most:
            raise TestbedError(f"{ranks} devices are more than the {most} that a {self.topology} may have")
        last, more = self.devices[-1], range(len(self.devices), ranks)
        # a board more is a host more: it takes no cores from those that are there
        added = tuple(replace(last, name=f"{last.name}-{rank}", host="") for rank in more)
        return replace(
            self,
            devices=(*self.devices, *added),
            bandwidth=(*self.bandwidth, *(self.bandwidth[-1] for _ in more)),
            latency=(*self.latency, *(self.latency[-1] for _ in more)),
        )
