"""Is what was built what the testbed says? Every link measured with ordinary TCP, and proof that MPI uses them.

What cannot be checked away: the kernel's token buckets add no delay, so a message is as early as this machine lets it
be, whatever latency the testbed gives its links. A socket stays in the namespace it was made in, so that one process
can hold the ends of all connections.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Thread
from typing import TypeVar

from ..core.errors import EmulationError
from ..measure.interfaces import sent_here
from ..testbed import Testbed
from .cleanup import SPACES
from .network import Network

T = TypeVar("T")

TOLERANCE = 0.15
ATTEMPTS, PAUSE_S = 6, 0.2
"""A link that seems off is measured so many times, and before each time the check rests so much longer: the machine may
have been busy with something else for a moment."""

SENT_BYTES = 400_000

CLONE_NEWNET = 0x40000000
WARMUP_S = 0.03
MEASURED_S = 0.1
PATIENCE_S = 5.0
BLOCK_BYTES = 1 << 18
QUEUE_S = 0.01
"""A sender may have so many seconds' worth of bytes on their way: they delay whatever is measured next."""

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
    testbed, spaces, links = network.testbed, network.device_spaces, []
    for trial in trials(testbed):
        tell(f"measuring {trial.resource}")
        ways = [(spaces[a], spaces[b], network.address(testbed.devices[b].name)) for a, b in trial.ways]
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


@dataclass(slots=True)
class _Flow:
    """One connection that is kept full; counts what arrives."""

    sender: socket.socket
    receiver: socket.socket
    received: int = 0
    threads: list[Thread] = field(default_factory=list)

    def start(self) -> None:
        self.threads = [Thread(target=work, daemon=True) for work in (self._send, self._receive)]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        for end in (self.sender, self.receiver):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.sender.close()
        self.receiver.close()

    def _send(self) -> None:
        block = bytes(BLOCK_BYTES)
        with contextlib.suppress(OSError):
            while True:
                self.sender.sendall(block)

    def _receive(self) -> None:
        block = bytearray(BLOCK_BYTES)
        with contextlib.suppress(OSError):
            while count := self.receiver.recv_into(block):
                self.received += count


def throughput(ways: Sequence[tuple[str, str, str]], expected: float) -> float:
    """Bytes per second that arrive in all when every way is kept full at once; about `expected` of them.

    A way is the namespace of the sender, then the namespace and the address of the receiver. Raises EmulationError when
    there is no connection.
    """
    queue = max(1 << 16, int(expected * QUEUE_S))
    flows: list[_Flow] = []
    try:
        for way in ways:
            flows.append(_Flow(*_connection(*way, queue)))  # noqa: PERF401 (those made are closed if one fails)
        for flow in flows:
            flow.start()
        time.sleep(WARMUP_S)
        began, before = time.perf_counter(), sum(flow.received for flow in flows)
        time.sleep(MEASURED_S)
        received, seconds = sum(flow.received for flow in flows) - before, time.perf_counter() - began
    finally:
        for flow in flows:
            flow.stop()
    return received / seconds


def sent_bytes(space: str) -> int:
    """Bytes that all interfaces of a board have sent, but for its loopback."""
    return sum(inside(space, sent_here).values())


def inside(space: str, function: Callable[[], T]) -> T:
    """Result of `function`, called in a thread inside a namespace; raises EmulationError."""

    def enter() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(SPACES / space, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(descriptor, CLONE_NEWNET):
                raise EmulationError(f"namespace {space} cannot be entered: {os.strerror(ctypes.get_errno())}")
        finally:
            os.close(descriptor)
        return function()

    with ThreadPoolExecutor(1) as thread:  # it stays inside, and ends
        return thread.submit(enter).result()


def _connection(source: str, target: str, address: str, queue: int) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection: the sender's, and the receiver's."""
    listener = inside(target, lambda: socket.create_server((address, 0)))
    with listener:
        listener.settimeout(PATIENCE_S)
        port = listener.getsockname()[1]
        try:
            sender = inside(source, lambda: socket.create_connection((address, port), PATIENCE_S))
        except OSError as error:
            raise EmulationError(f"no connection from {source} to {target} at {address}: {error}") from error
        receiver, _ = listener.accept()
    sender.settimeout(PATIENCE_S)
    receiver.settimeout(PATIENCE_S)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, queue)
    return sender, receiver
