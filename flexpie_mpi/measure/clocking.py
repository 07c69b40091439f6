"""How fast a processor is allowed to run: its governor, and what holds it back, as the kernel and the firmware say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..runtime.machine import said

_PROCESSOR = Path("sys/devices/system/cpu/cpu0/cpufreq")
_COOLING = Path("sys/class/thermal")
_RASPBERRY = Path("sys/devices/platform/soc/soc:firmware/get_throttled")

_FLAGS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "too hot"}
"""Bits of what a Raspberry Pi's firmware says; those of what has been since it started are 16 further up."""
_SINCE = 16

_NEARLY = 0.99


@dataclass(frozen=True, slots=True)
class Clocking:
    """What a processor's clock is held at; empty and None where nothing says."""

    governor: str = ""  # such as performance, schedutil, ondemand, powersave
    share: float | None = None  # of its full frequency that it may have
    held_back: tuple[str, ...] = ()  # by what, now
    was_held_back: tuple[str, ...] = ()  # by what, at any time since it was started


def clocking_here(root: Path = Path("/")) -> Clocking:
    """What this host's clock is held at."""
    limit, full = (_number(root / _PROCESSOR / name) for name in ("scaling_max_freq", "cpuinfo_max_freq"))
    flags = _number(root / _RASPBERRY, 16) or 0
    return Clocking(
        said(root / _PROCESSOR / "scaling_governor"),
        limit / full if limit and full else None,
        tuple(dict.fromkeys([*_flagged(flags), *_cooled(root)])),
        tuple(_flagged(flags >> _SINCE)),
    )


def _flagged(flags: int) -> Iterator[str]:
    return (name for bit, name in _FLAGS.items() if flags >> bit & 1)


def _cooled(root: Path) -> Iterator[str]:
    """What of the processor is slowed down at this moment to cool it."""
    for device in sorted((root / _COOLING).glob("cooling_device*")):
        kind = said(device / "type")
        if kind.startswith(("cpufreq", "thermal-cpufreq")) and (_number(device / "cur_state") or 0) > 0:
            yield "too hot"


def is_slowed(clocking: Clocking) -> bool:
    """Whether it may not have its full frequency."""
    return clocking.share is not None and clocking.share < _NEARLY


def _number(path: Path, base: int = 10) -> int | None:
    with suppress(ValueError):
        return int(said(path), base)
    return None
