"""Where ranks run: which of them share a machine, and whether its cores are enough for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

Place = tuple[str, str, tuple[int, ...]]
"""Name of the host, identity of its running kernel, cores a rank may use there.

Boards fresh from one image share a name, and hosts emulated on one machine share a kernel.
"""

_MOST_THREADS = 256
"""So many a rank may have on any machine."""


def place(name: str) -> Place:
    """Where this process runs, on a host called `name`."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return name, boot.read_text().strip() if boot.exists() else name, tuple(sorted(cores))


def threads_problem(threads: int) -> str:
    """What is wrong with so many threads per rank on this machine; nothing when they are not far more than its cores.

    Thousands take minutes to get started, or are never ready.
    """
    cores = os.cpu_count() or 1
    most = max(_MOST_THREADS, 4 * cores)
    return f"{threads} threads per rank are more than {most}, and this machine has {cores} cores" * (threads > most)


def host_ranks(places: Sequence[Place]) -> dict[str, tuple[int, ...]]:
    """Ranks by the name of their host, from every rank's place; hosts that share a name are numbered.

    >>> host_ranks([("pi", "a", (0,)), ("pi", "b", (0,)), ("pi", "a", (0,)), ("nuc", "c", (0,))])
    {'pi #0': (0, 2), 'pi #1': (1,), 'nuc': (3,)}
    """
    hosts = list(dict.fromkeys(place[:2] for place in places))
    found: dict[str, tuple[int, ...]] = {}
    for name, machine in hosts:
        alike = [other for other in hosts if other[0] == name]
        label = name if len(alike) == 1 else f"{name} #{alike.index((name, machine))}"
        found[label] = tuple(rank for rank, place in enumerate(places) if place[:2] == (name, machine))
    return found


def is_crowded(places: Sequence[Place], rank: int) -> bool:
    """Whether the ranks of this rank's machine outnumber the cores they may use.

    >>> is_crowded([("pi", "a", (0, 1)), ("pi", "a", (0, 1)), ("nuc", "b", (0,))], rank=1)
    False
    >>> is_crowded([("pi", "a", (0, 1))] * 3, rank=0)
    True
    """
    here = [cores for _, machine, cores in places if machine == places[rank][1]]
    return len(here) > len(set().union(*here))
