"""Sketches: a testbed before its routes are laid, so that it can still be changed: more boards, faster links."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..core.errors import TestbedError
from .boards import Device, Testbed, Topology


@dataclass(frozen=True, slots=True)
class Sketch:
    """Devices, each with its port, and the shape of the network between them.

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

    def changed(self, change: Change) -> Sketch:
        """The same boards on the same network, with the change made to all of them."""
        count, given = len(self.devices), change.of_devices()
        return replace(
            self,
            devices=tuple(replace(device, **given) for device in self.devices),
            bandwidth=self.bandwidth if change.bandwidth is None else (change.bandwidth,) * count,
            latency=self.latency if change.latency_s is None else (change.latency_s,) * count,
        )

    def without_limits(self) -> Sketch:
        """The same boards without limits of memory."""
        return replace(self, devices=tuple(replace(device, memory_bytes=None) for device in self.devices))

    def _laid(self) -> Testbed:
        unknown = [key for key in ("bandwidth", "latency") if None in getattr(self, key)]
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


@dataclass(frozen=True, slots=True)
class Change:
    """New values for every board and every link; None keeps what each has."""

    bandwidth: float | None = None
    latency_s: float | None = None
    slowdown: float | None = None
    memory_bytes: int | None = None

    def of_devices(self) -> Mapping[str, Any]:
        """The changed fields of every device."""
        given = {"slowdown": self.slowdown, "memory_bytes": self.memory_bytes}
        return {key: value for key, value in given.items() if value is not None}
