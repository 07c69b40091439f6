"""What a rank asks of the machine it runs on: who else is there, how much it can take, and how its time is shared."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

Place = tuple[str, str, tuple[int, ...]]
"""Name of the host, identity of its running kernel, cores a rank may use there.

Boards fresh from one image share a name, and hosts emulated on one machine share a kernel.
"""

_MOST_THREADS = 256
"""So many a rank may have on any machine."""

_SLACK = Path("/proc/self/timerslack_ns")
_SLACK_NS = 1000

WAKING_S = 100e-6
"""How late a sleeper may be woken."""

_NICE = 10
"""By how much a thread gives way: it then has a tenth of the weight of others."""


_RANK = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")


def launcher_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """This process's rank as the launcher gives it, known before MPI is started; None without a launcher.

    >>> launcher_rank({"PMI_RANK": "3"}), launcher_rank({})
    (3, None)
    """
    given = (environment.get(name, "") for name in _RANK)
    return next((int(rank) for rank in given if rank.isdecimal()), None)


def said(path: Path) -> str:
    """What the system says in a small file of ``/proc`` or ``/sys``, without white space around; empty without one."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").strip()
    return ""


def place(name: str) -> Place:
    """Where this process runs, on a host called `name`."""
    boot = said(Path("/proc/sys/kernel/random/boot_id"))
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return name, boot or name, tuple(sorted(cores))


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
    ranks: dict[str, tuple[int, ...]] = {}
    for name, machine in hosts:
        alike = [other for other in hosts if other[0] == name]
        label = name if len(alike) == 1 else f"{name} #{alike.index((name, machine))}"
        ranks[label] = tuple(rank for rank, place in enumerate(places) if place[:2] == (name, machine))
    return ranks


def is_crowded(places: Sequence[Place], rank: int) -> bool:
    """Whether the ranks of this rank's machine outnumber the cores they may use.

    >>> is_crowded([("pi", "a", (0, 1)), ("pi", "a", (0, 1)), ("nuc", "b", (0,))], rank=1)
    False
    >>> is_crowded([("pi", "a", (0, 1))] * 3, rank=0)
    True
    """
    here = [cores for _, machine, cores in places if machine == places[rank][1]]
    return len(here) > len(set().union(*here))


def stand_for_boards(places: Sequence[Place]) -> bool:
    """Whether hosts share a machine, as emulated boards do.

    >>> stand_for_boards([("pi1", "a", (0, 1)), ("pi2", "a", (0, 1))]), stand_for_boards([("pi1", "a", (0, 1))] * 2)
    (True, False)
    """
    hosts = {place[:2] for place in places}
    return len(hosts) > len({machine for _, machine in hosts})


def wake_promptly() -> None:
    """Let the naps of this process's main thread end when they should.

    The kernel bundles wake-ups that are due within 50 us of each other, more than the shortest nap. Elsewhere than on
    Linux, and where this is not allowed, naps stay as they are.
    """
    with suppress(OSError):
        _SLACK.write_text(str(_SLACK_NS))


def offer_core() -> None:
    """Let another process that waits for this core have it."""
    os.sched_yield()


@contextmanager
def stepping_back() -> Iterator[None]:
    """Give way at once, inside the block, to ranks that share this core and have messages to handle.

    A board computes while another one's messages arrive. Here a rank that computes would keep the core from one that
    has just been woken, for a millisecond or so at every exchange.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    offer_core()  # being lowered does not yet take the core away
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def give_way() -> None:
    """Let this thread, for good, have less of a core than ranks that have messages to handle; nothing where not Linux.

    It is for a thread that computes while another one of its process moves messages. Stepping back would not do: who
    holds Python's lock and is given no core keeps that other thread waiting, for as long as anything else computes.
    """
    if sys.platform == "linux":
        os.nice(_NICE)  # on Linux the calling thread's


def can_step_back() -> bool:
    """Whether this process may lower a thread and raise it again: on Linux, as root mostly; tried on another thread."""
    outcome = []

    def attempt() -> None:
        with suppress(AttributeError, OSError), stepping_back():
            pass
        with suppress(AttributeError, OSError):
            outcome.append(os.sched_getscheduler(0) == os.SCHED_OTHER)

    thread = Thread(target=attempt)
    thread.start()
    thread.join()
    return outcome == [True]


def rest(seconds: float) -> None:
    """Return after so many seconds. The thread sleeps until shortly before the end, since a sleeper is woken late."""
    end = time.perf_counter() + seconds
    if seconds > WAKING_S:
        time.sleep(seconds - WAKING_S)
    while time.perf_counter() < end:
        offer_core()


def return_free_memory() -> None:
    """Give free memory of this process back to the system, where the C library can.

    Sessions lay constants out anew and free the copies between, which stay with the process otherwise.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(ctypes.c_size_t(0))


def peak_rss_bytes() -> int:
    """Largest resident memory this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
