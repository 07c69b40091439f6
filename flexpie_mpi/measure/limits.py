"""What this process may take of its host: the memory and processor time that control groups and limits leave it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.budget import kernel_bytes, memory_bytes

_V1_MEMORY, _V1_CPU = "memory", "cpu"
_V2 = ""
"""Names of controllers in ``/proc/self/cgroup``; the groups of version 2 have none."""

_OWN_LIMITS = {"ulimit -v": (resource.RLIMIT_AS, "VmSize"), "ulimit -d": (resource.RLIMIT_DATA, "VmData")}
"""Limits of a process, and what the kernel calls that which it has taken of each."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a host, and what this process can still get of it, in bytes; None where the host does not say."""

    total_bytes: int
    free_bytes: int | None
    bound_by: str  # what leaves the process no more than that


def memory_here(root: Path = Path("/")) -> Memory:
    """What this process can still get: of the host's memory, of its control groups', and of its own limits'."""
    rooms = {"the host's memory": kernel_bytes("meminfo", "MemAvailable")}
    rooms["a control group"] = min(_group_rooms(root), default=None)
    for name, (limit, taken) in _OWN_LIMITS.items():
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            rooms[name] = max(0, soft - (kernel_bytes("self/status", taken) or 0))
    known = {name: room for name, room in rooms.items() if room is not None}
    bound_by = min(known, key=known.__getitem__, default="")
    return Memory(memory_bytes(), known.get(bound_by), bound_by)


def _group_rooms(root: Path) -> Iterator[int]:
    """What each control group of this process, and those around it, leave of their memory."""
    for folder in _groups(root, _V2):
        yield from _room(folder, "memory.max", "memory.current", "memory.stat", "inactive_file")
    for folder in _groups(root, _V1_MEMORY):
        yield from _room(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file")


def _room(folder: Path, limit: str, used: str, stat: str, cached: str) -> Iterator[int]:
    """What a group leaves; cached pages of files that nobody uses count as free. Nothing where it sets no limit."""
    with suppress(OSError, ValueError):
        most, taken = int((folder / limit).read_text()), int((folder / used).read_text())
        facts = dict(line.split() for line in (folder / stat).read_text().splitlines())
        yield max(0, most - taken + int(facts.get(cached, 0)))


def processors_here(root: Path = Path("/")) -> float | None:
    """How many processors' time the control groups of this process leave it; None without a limit."""
    shares = [*_shares(root)]
    return min(shares, default=None)


def _shares(root: Path) -> Iterator[float]:
    for folder in _groups(root, _V2):
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)  # "max" is no number
    for folder in _groups(root, _V1_CPU):
        with suppress(OSError, ValueError):
            allowed_us = int((folder / "cpu.cfs_quota_us").read_text())
            if allowed_us > 0:
                yield allowed_us / int((folder / "cpu.cfs_period_us").read_text())


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control group that this process is in, and of all around it, where a controller has them."""
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if controller in names.split(","):
                base = root / "sys/fs/cgroup" / controller
                own = base / path.lstrip("/")
                yield from (own, *(parent for parent in own.parents if parent.is_relative_to(base)))
