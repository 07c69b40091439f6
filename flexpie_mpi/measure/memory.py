"""Memory while several engines are held: which plans fit together, and what an engine really took."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Collection, Sequence
from math import inf
from pathlib import Path
from typing import TypeVar

from ..lower.memory import PROCESS_BYTES
from ..runtime.engine import peak_rss_bytes
from ..runtime.machine import place
from ..runtime.transport import Transport
from ..testbed import Testbed

T = TypeVar("T")

AVAILABLE_SHARE = 0.8
"""Of the memory that a host has available, so much is given to engines."""


def room(transport: Transport, testbed: Testbed, *, is_emulated: bool = False) -> tuple[float, ...]:
    """Bytes that each rank's engines may take, by rank; called by all ranks together.

    Ranks on one machine share what is available there. No board takes more than it has, but one that is emulated may:
    each plan fits it by itself.
    """
    places = transport.all_gather(place(platform.node()))
    machines = [machine for _, machine, _ in places]
    available = transport.all_gather(available_bytes())
    sizes = (None if is_emulated else device.memory_bytes for device in testbed.devices)
    limits = (inf if size is None else size - PROCESS_BYTES for size in sizes)
    return tuple(
        min(limit, AVAILABLE_SHARE * available[rank] / machines.count(machines[rank]))
        for rank, limit in enumerate(limits)
    )


def available_bytes() -> float:
    """Memory of this host that can be had without swapping; infinite where it does not say."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) * 1024.0 if found else inf


def fitting_turns(
    needed: Sequence[Sequence[int]], room: Sequence[float], always: Collection[int] = ()
) -> tuple[tuple[int, ...], ...]:
    """Indices of plans by the turns in which memory holds their engines together, each turn filled up in order.

    Parameters
    ----------
    needed : sequence of sequence of int
        Bytes of every plan's engine, by rank.
    room : sequence of float
        Bytes of every rank.
    always : collection of int
        Indices of plans that take part in every turn, as long as each other plan still fits beside them.

    Examples
    --------
    >>> fitting_turns([[4], [3], [3], [2]], [9], always=(0,))
    ((0, 1, 3), (0, 2))
    >>> fitting_turns([[4], [3]], [100]), fitting_turns([[4], [6]], [5])
    (((0, 1),), ((0,), (1,)))
    >>> fitting_turns([[4], [6]], [5], always=(0, 1))
    ((0,), (1,))
    """

    def fits(plans: Sequence[int]) -> bool:
        return all(sum(needed[plan][rank] for plan in plans) <= limit for rank, limit in enumerate(room))

    base = tuple(sorted(always))
    waiting = [plan for plan in range(len(needed)) if plan not in base]
    found: list[tuple[int, ...]] = [base] if not waiting and fits(base) else []
    while waiting:
        start = base if fits((*base, waiting[0])) else ()
        turn = [*start, waiting.pop(0)]
        for plan in tuple(waiting):
            if fits((*turn, plan)):
                turn.append(plan)
                waiting.remove(plan)
        found.append(tuple(sorted(turn)))
    alone = tuple((plan,) for plan in base if not any(plan in turn for turn in found))
    return (*alone, *found)


class Footprint:
    """Tells how much memory this process would have taken with one of several engines, each made after the other."""

    def __init__(self) -> None:
        self._base = _status("VmRSS")

    def of(self, make: Callable[[], T]) -> tuple[T, int]:
        """What `make` gives, and the peak of resident bytes while it was made, less what was there before it.

        To this comes what the process had when it began to count. Where the kernel does not let the peak be reset, it
        is the largest of all so far.
        """
        before, is_reset = _status("VmRSS"), _reset_peak()
        made = make()
        return made, self._base + max(0, _status("VmHWM") - before) if is_reset else peak_rss_bytes()


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(key: str) -> int:
    """A line of this process's status in bytes; 0 where there is none."""
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else 0
