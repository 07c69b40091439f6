"""Sketches: a testbed before its routes are laid, so that it can still be changed: more boards, faster links."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

from ..core.errors import TestbedError
from .boards import MOST_DEVICES, Device, Testbed
from .topologies import MOST_IN_RING, ring, star, switch
from .units import BANDWIDTH, LATENCY, MEMORY

TOPOLOGIES = {"switch": switch, "ring": ring, "star": star}


@dataclass(frozen=True, slots=True)
class Sketch:
    """Devices, each with its port, and the shape of the network between them.

    Attributes
    ----------
    name : str
    topology : one of `TOPOLOGIES`
    devices : tuple of Device
    bandwidth, latency : tuple of float or None
        Bytes per second and seconds of each device's port; None where nothing says, as one device alone needs none.
    """

    name: str
    topology: str
    devices: tuple[Device, ...]
    bandwidth: tuple[float | None, ...]
    latency: tuple[float | None, ...]

    @property
    def most(self) -> int:
        """Devices that a testbed of this shape can have."""
        return MOST_IN_RING if self.topology == "ring" else MOST_DEVICES

    def testbed(self, ranks: int | None = None) -> Testbed:
        """The testbed of all devices, or of `ranks`: the first of them, or all and more like the last.

        Raises
        ------
        TestbedError
            When nothing says how fast the links are, or there would be more devices than can be.
        """
        count = len(self.devices)
        if ranks is None or ranks == count:
            return self._laid()
        return self._laid().subset(ranks) if ranks < count else self._extended(ranks)._laid()

    def changed(self, change: Change) -> Sketch:
        """The same boards on the same network, all of them with what the change says."""
        count, given = len(self.devices), change.of_devices()
        return replace(
            self,
            devices=tuple(replace(device, **given) for device in self.devices),
            bandwidth=self.bandwidth if change.bandwidth is None else (change.bandwidth,) * count,
            latency=self.latency if change.latency_s is None else (change.latency_s,) * count,
        )

    def without_limits(self) -> Sketch:
        """The same boards, each with as much memory as anything needs."""
        return replace(self, devices=tuple(replace(device, memory_bytes=None) for device in self.devices))

    def _laid(self) -> Testbed:
        unknown = [key for key in ("bandwidth", "latency") if None in getattr(self, key)]
        if unknown and len(self.devices) > 1:
            raise TestbedError(
                f"testbed '{self.name}' does not say how fast its links are: it lacks a table [link] with {unknown[0]}"
            )
        bandwidth = [found or 1.0 for found in self.bandwidth]  # a single device sends nothing
        latency = [found or 0.0 for found in self.latency]
        return TOPOLOGIES[self.topology](self.devices, bandwidth, latency, self.name)

    def _extended(self, ranks: int) -> Sketch:
        if ranks > self.most:
            raise TestbedError(f"{ranks} devices are more than the {self.most} that a {self.topology} may have")
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
    """What is otherwise on every board and every link; None for what stays as it is."""

    bandwidth: float | None = None
    latency_s: float | None = None
    slowdown: float | None = None
    memory_bytes: int | None = None

    def of_devices(self) -> Mapping[str, Any]:
        """Fields of every device."""
        given = {"slowdown": self.slowdown, "memory_bytes": self.memory_bytes}
        return {key: value for key, value in given.items() if value is not None}


def read_change(text: str) -> Change:
    """A change as people write it: keys and values of a testbed file.

    Raises
    ------
    TestbedError
        When a key or a value is none.

    Examples
    --------
    >>> read_change("bandwidth=2Gb/s,slowdown=4")
    Change(bandwidth=250000000.0, latency_s=None, slowdown=4.0, memory_bytes=None)
    """
    given: dict[str, Any] = {}
    for item in text.split(","):
        key, equals, value = (word.strip() for word in item.partition("="))
        if not equals or key not in _KEYS:
            raise TestbedError(f"'{item}' is no change: write {' '.join(f'{key}=...' for key in _KEYS)}, with commas")
        field, parse = _KEYS[key]
        if field in given:
            raise TestbedError(f"{key} is changed twice: give it one value")
        try:
            given[field] = parse(value)
        except TestbedError as error:
            raise TestbedError(f"{key} = {error}") from error
    return Change(**given)


def _slowdown(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < inf:
        raise TestbedError(f'"{text}" is no slowdown: write a number above 0')
    return found


_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "bandwidth": ("bandwidth", BANDWIDTH.parse),
    "latency": ("latency_s", LATENCY.parse),
    "slowdown": ("slowdown", _slowdown),
    "memory": ("memory_bytes", lambda text: round(MEMORY.parse(text))),
}
