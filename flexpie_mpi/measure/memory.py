"""Memory while several engines are held: which plans fit together, and what an engine really took."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TypeVar

from ..lower.memory import PROCESS_BYTES
from ..runtime.engine import peak_rss_bytes
from ..runtime.transport import Transport
from ..testbed import Testbed
from .agreement import places_of

T = TypeVar("T")

AVAILABLE_SHARE = 0.8
"""Of the memory that a host has available, so much is given to engines."""


def room(transport: Transport, testbed: Testbed, *, is_emulated: bool = False) -> tuple[float, ...]:
    """Bytes that each rank's engines may take, by rank; called by all ranks together.

    Ranks on one machine share what is available there. No board takes more than it has, but one that is emulated may:
    each plan fits it by itself.
    """
    machines = [machine for _, machine, _ in places_of(transport)]
    available = transport.all_gather(_kilobytes("meminfo", "MemAvailable", inf) * 1024)
    sizes = (None if is_emulated else device.memory_bytes for device in testbed.devices)
    limits = (inf if size is None else size - PROCESS_BYTES for size in sizes)
    return tuple(
        min(limit, AVAILABLE_SHARE * available[rank] / machines.count(machines[rank]))
        for rank, limit in enumerate(limits)
    )


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
    turns: list[tuple[int, ...]] = [base] if not waiting and fits(base) else []
    while waiting:
        start = base if fits((*base, waiting[0])) else ()
        turn = [*start, waiting.pop(0)]
        for plan in tuple(waiting):
            if fits((*turn, plan)):
                turn.append(plan)
                waiting.remove(plan)
        turns.append(tuple(sorted(turn)))
    alone = tuple((plan,) for plan in base if not any(plan in turn for turn in turns))
    return (*alone, *turns)


class Footprint:
    """Tells how much memory this process would have taken with one of several engines, each made after the other."""

    def __init__(self) -> None:
        self._base = _status_bytes("VmRSS")

    def of(self, make: Callable[[], T]) -> tuple[T, int]:
        """What `make` gives, and the peak of resident bytes while it was made, less what was there before it.

        To this comes what the process had when it began to count. Where the kernel does not let the peak be reset, it
        is the largest of all so far.
        """
        before, is_reset = _status_bytes("VmRSS"), _reset_peak()
        made = make()
        return made, self._base + max(0, _status_bytes("VmHWM") - before) if is_reset else peak_rss_bytes()


def _reset_peak() -> bool:
    with suppress(OSError):
        return Path("/proc/self/clear_refs").write_text("5") > 0
    return False


def _status_bytes(key: str) -> int:
    return int(_kilobytes("self/status", key, 0)) * 1024


def _kilobytes(file: str, key: str, unknown: float) -> float:
    """A line in kB of a file of the kernel."""
    with suppress(OSError):
        if line := re.search(rf"^{key}:\s+(\d+) kB", Path("/proc", file).read_text(), re.MULTILINE):
            return int(line[1])
    return unknown
