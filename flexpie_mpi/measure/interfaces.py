"""The network interfaces of a host as its kernel has them: how fast, of which kind, and what each has sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..runtime.machine import said

_COUNTERS = Path("proc/thread-self/net/dev")
"""Where the kernel counts, below the root of files, for the namespace that the calling thread is in."""

_CLASS = Path("sys/class/net")
_SENT = 8
"""Place of the bytes sent among the numbers of an interface."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that is up. Bridges, tunnels and ends of virtual cables are neither wired nor wireless."""

    name: str
    is_wired: bool
    is_wireless: bool
    speed: float | None  # bytes per second that both ends of the cable agreed on; None where nothing says


def interfaces(root: Path = Path("/")) -> tuple[Interface, ...]:
    """The interfaces of this host that are up, by name; none but on Linux."""
    folder = root / _CLASS
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return tuple(_interface(folder / name) for name in names if said(folder / name / "operstate") == "up")


def _interface(path: Path) -> Interface:
    is_wireless = (path / "wireless").exists() or (path / "phy80211").exists()
    is_wired = (path / "device").exists() and not is_wireless
    speed = said(path / "speed")  # Mb/s; -1 or an error where it does not know
    return Interface(path.name, is_wired, is_wireless, int(speed) * 1e6 / 8 if is_wired and speed.isdecimal() else None)


def sent_here(root: Path = Path("/")) -> dict[str, int]:
    """Bytes that each interface of this host has sent; empty but on Linux."""
    return sent_by(said(root / _COUNTERS))


def sent_by(counters: str) -> dict[str, int]:
    r"""Bytes that each interface has sent, but for the loopback, by what the kernel counts.

    >>> counts = "1 2 0 0 0 0 0 0 99 5 0 0 0 0 0 0"
    >>> sent_by("\n".join(["Inter-| ...", " face | ...", f"  eth0: {counts}", f"    lo: {counts}"]))
    {'eth0': 99}
    """
    lines = (line.split(":") for line in counters.splitlines()[2:])
    return {name.strip(): int(counts.split()[_SENT]) for name, counts in lines if name.strip() != "lo"}


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """By how much each interface has sent more."""
    return {name: count - before.get(name, 0) for name, count in after.items()}
