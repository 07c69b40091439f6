"""Is what was built what the testbed says? Every link measured, and proof that MPI uses them.

What cannot be checked away: the kernel's token buckets add no delay, so a message is as early as this machine lets it
be, whatever latency the testbed gives its links.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..core.errors import EmulationError
from ..testbed import Testbed
from .flows import sent_bytes, throughput
from .network import Network

TOLERANCE = 0.15
ATTEMPTS, PAUSE_S = 6, 0.2
"""A link that seems off is measured so many times, and before each time the check rests so much longer: the machine may
have been busy with something else for a moment."""

SENT_BYTES = 400_000

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LinkTrial:
    """The connections that are kept full at once to measure one resource."""

    resource: str
    ways: tuple[tuple[int, int], ...]  # source and target ranks, all at once
    bandwidth: float  # bytes per second that must arrive in all


@dataclass(frozen=True, slots=True)
class MeasuredLink:
    """A resource, the bytes per second it must let through, and those it did."""

    resource: str
    wanted: float
    carried: float

    @property
    def off(self) -> float:
        """How far off it is, as a share; negative when too slow."""
        return self.carried / self.wanted - 1


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check found."""

    links: tuple[MeasuredLink, ...]
    latency_s: float  # of a small MPI message between the first two boards
    wanted_latency_s: float  # what the testbed says of it; this machine does not add what is missing


def check_cores(testbed: Testbed, ranks: int, cores: int) -> None:
    """Check that this machine's cores can carry so many ranks without one disturbing another; raises EmulationError."""
    devices = testbed.devices[:ranks]
    busy = sum(device.busy_cores for device in devices)
    if busy > cores * (1 + 1e-9):
        raise EmulationError(
            f"testbed '{testbed.name}': {ranks} boards keep {busy:.3g} cores busy (threads / slowdown of each) and "
            f"this machine has {cores}: they would slow each other down; use fewer boards, or slowdowns "
            f"{busy / cores:.2g} times as large"
        )
    crowded = [(load, rank) for rank, load in enumerate(testbed.active(range(ranks))) if load > 1 + 1e-9]
    if crowded:
        load, rank = crowded[0]
        raise EmulationError(
            f"testbed '{testbed.name}': the devices of host '{testbed.devices[rank].host}' keep {load:.3g} times its "
            "cores busy, and emulated boards do not share cores: give each a host of its own, or a larger slowdown"
        )


def trials(testbed: Testbed) -> tuple[LinkTrial, ...]:
    """One trial for each resource: a way that passes nothing else, or else two whose other ends differ.

    >>> from flexpie_mpi.testbed import Device, switch
    >>> made = trials(switch([Device("a"), Device("b"), Device("c")], 1e8, 0.0))
    >>> made[0]
    LinkTrial(resource='a out', ways=((0, 1), (0, 2)), bandwidth=100000000.0)
    """
    return tuple(_trial(testbed, number) for number in range(len(testbed.resources)))


def _trial(testbed: Testbed, number: int) -> LinkTrial:
    own = testbed.resources[number]
    ways = []  # (other resources, bandwidth they leave, ends), the shortest and widest first
    for source, row in enumerate(testbed.routes):
        for target, route in enumerate(row):
            if route is not None and number in route.resources:
                others = [testbed.resources[other].bandwidth for other in route.resources if other != number]
                ways.append((len(others), min([own.bandwidth, *others]), (source, target)))
    ways.sort(key=lambda way: (way[0], -way[1]))
    fewest = [way for way in ways if way[0] == ways[0][0]]
    chosen = fewest[:2] if fewest[0][0] else fewest[:1]
    total = sum(bandwidth for _, bandwidth, _ in chosen)
    return LinkTrial(own.name, tuple(ends for _, _, ends in chosen), min(own.bandwidth, total))


def measure_links(network: Network, tell: Tell) -> tuple[MeasuredLink, ...]:
    """Measure every resource. One that seems off is measured again, since others may have used the machine.

    Raises EmulationError when one is off by more than `TOLERANCE`.
    """
    testbed, links = network.testbed, []
    for trial in trials(testbed):
        tell(f"measuring {trial.resource}")
        ways = [
            (network.device_spaces[a], network.device_spaces[b], network.address(testbed.devices[b].name))
            for a, b in trial.ways
        ]
        link = _measured(trial, ways)
        if abs(link.off) > TOLERANCE:
            raise EmulationError(
                f"'{link.resource}' carries {link.carried * 8e-6:.4g} Mb/s, and testbed '{testbed.name}' says "
                f"{link.wanted * 8e-6:.4g}: this machine is too slow or too busy for it; use fewer boards or a slower "
                "link, or take it as it is with --no-check"
            )
        links.append(link)
    return tuple(links)


def _measured(trial: LinkTrial, ways: Sequence[tuple[str, str, str]]) -> MeasuredLink:
    best = None
    for attempt in range(ATTEMPTS):
        time.sleep(attempt * PAUSE_S)
        again = MeasuredLink(trial.resource, trial.bandwidth, throughput(ways, trial.bandwidth))
        best = again if best is None or abs(again.off) < abs(best.off) else best
        if abs(best.off) <= TOLERANCE / 2:
            break
    assert best is not None
    return best


def check_traffic(network: Network, job: Callable[[], None]) -> None:
    """Run `job`, in which the rank on every board sends `SENT_BYTES` to another, and see that they left the boards.

    Raises EmulationError when they did not: MPI found another way.
    """
    before = [sent_bytes(space) for space in network.device_spaces]
    job()
    for rank, space in enumerate(network.device_spaces if len(network.device_spaces) > 1 else ()):
        left = sent_bytes(space) - before[rank]
        if left < SENT_BYTES:
            raise EmulationError(
                f"rank {rank} sent {SENT_BYTES} bytes and {left} left its board: MPI knows another way, such as this "
                "machine's shared memory; use the MPI library of pip install flexpie-mpi[mpich]"
            )
