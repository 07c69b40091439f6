"""What a rank can say of its board in a few milliseconds, before anything is sent or computed."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.versions import processor, versions
from ..runtime.kernels import own_block
from ..runtime.machine import Place, place, said
from ..runtime.transport import Transport
from .clocking import Clocking, clocking_here
from .interfaces import Interface, interfaces
from .limits import Memory, memory_here, processors_here

_SHARED_MEMORY = "/dev/shm"


@dataclass(frozen=True, slots=True)
class Board:
    """A rank's board: what runs on it, and what it has."""

    place: Place  # host, its running kernel, hardware threads the rank may use
    cores: tuple[int, ...]  # those of them that are the first of a core
    architecture: str  # such as x86_64, aarch64
    processor: str
    has_sme: bool  # Arm's matrix unit
    versions: dict[str, str]  # of :func:`flexpie_mpi.core.versions.versions`
    block: int  # channels to a block of convolutions; 0 where values are row-major
    memory: Memory
    processors: float | None  # whose time the rank may use, where its control groups limit it
    clocking: Clocking
    interfaces: tuple[Interface, ...]
    shared_bytes: int | None  # free of the memory that ranks of one host share; None where nothing says

    @property
    def host(self) -> str:
        return self.place[0]


def board_here(installed: Mapping[str, str]) -> Board:
    """What this process can say of its board, on which these versions are installed."""
    here = place(platform.node())
    return Board(
        here,
        cores_of(here[2]),
        platform.machine(),
        processor(),
        _has_sme(),
        dict(installed),
        own_block(),
        memory_here(),
        processors_here(),
        clocking_here(),
        interfaces(),
        free_bytes(Path(_SHARED_MEMORY)),
    )


def cores_of(threads: Iterable[int], root: Path = Path("/")) -> tuple[int, ...]:
    """The first hardware thread of every core that has any of some; each is a core of its own where nothing says."""
    siblings = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    firsts = {thread: re.split(r"\D", said(root / siblings.format(thread)))[0] for thread in threads}
    return tuple(sorted({int(first or thread) for thread, first in firsts.items()}))


def versions_of(transport: Transport) -> tuple[dict[str, str], ...]:
    """Every rank's versions, by rank, on every rank; called by all together, before anything else.

    Versions are sent as nothing but text, which ranks with another version of this package can read.
    """
    return tuple(transport.all_gather(versions(transport.library)))


def boards_of(transport: Transport, installed: Sequence[Mapping[str, str]]) -> tuple[Board, ...]:
    """Every rank's board, by rank, on every rank; called by all together, with every rank's versions."""
    return tuple(transport.all_gather(board_here(installed[transport.rank])))


def free_bytes(path: Path) -> int | None:
    """Free bytes of the file system that has a path, or will have it; None where nothing says."""
    with suppress(OSError):
        return shutil.disk_usage(next(each for each in (path, *path.parents) if each.exists())).free
    return None


def _has_sme() -> bool:
    """Whether the processor has Arm's matrix unit; Apple's of which nothing says it count as having it."""
    if platform.machine() not in ("aarch64", "arm64"):
        return False
    if platform.system() == "Darwin":
        return True
    return "sme" in said(Path("/proc/cpuinfo")).split()
