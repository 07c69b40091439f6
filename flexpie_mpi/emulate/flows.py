"""Bytes through the emulated network, by ordinary TCP sockets that belong to the boards' namespaces.

A socket stays in the namespace it was made in, so that one process can hold the ends of all connections.
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
from pathlib import Path
from threading import Thread
from typing import TypeVar

from ..core.errors import EmulationError
from .cleanup import SPACES

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
WARMUP_S = 0.03
MEASURED_S = 0.1
PATIENCE_S = 5.0
BLOCK_BYTES = 1 << 18
QUEUE_S = 0.01
"""A sender may have so many seconds' worth of bytes on their way: they delay whatever is measured next."""


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
    text = inside(space, Path("/proc/thread-self/net/dev").read_text)
    lines = (line.split(":") for line in text.splitlines()[2:])
    return sum(int(counts.split()[8]) for name, counts in lines if name.strip() != "lo")


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
