"""Taking down what an emulation built, also for one that was killed.

Everything that is built carries in its name the process that built it and when that started, so it is found by its name
alone, and whether somebody still looks after it is known.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ..core.errors import EmulationError
from ..runtime.machine import said
from .system import carry_out, memory_here

SPACES = Path("/run/netns")
ENDING_S = 5.0

PREFIX = "flexpie-"
_OWNED = re.compile(rf"({PREFIX}(\d+)-(\d+)-[0-9a-f]+)\b.*")


def new_prefix(*, is_owned: bool = True) -> str:
    """A prefix for the names of one emulated network, of this process, or of none, which is never abandoned."""
    pid = os.getpid()
    return f"{PREFIX}{f'{pid}-{started(pid)}' if is_owned else 'dry'}-{secrets.token_hex(2)}"


def prefix_of(name: str) -> str | None:
    """The prefix of something that an emulation built; None of anything else.

    >>> prefix_of("flexpie-4711-98765-a0b1-switch"), prefix_of("flexpie"), prefix_of("docker-4711-98765-a0b1")
    ('flexpie-4711-98765-a0b1', None, None)
    """
    match = _OWNED.fullmatch(name)
    return match[1] if match else None


def is_abandoned(prefix: str) -> bool:
    """Whether the process that built this is gone. A process that has its number by now started at another time."""
    match = _OWNED.fullmatch(prefix)
    return match is not None and started(int(match[2])) != int(match[3])


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None when it is gone."""
    state, *fields = said(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split() or ["X"]
    return None if state in "ZX" else int(fields[18])


def scratch(prefix: str) -> Path:
    """Folder for the files of one emulation."""
    return Path(tempfile.gettempdir()) / prefix


def abandoned() -> list[str]:
    """Prefixes of what processes that are gone have left on this machine."""
    memory = memory_here()
    names = [*_names(SPACES), *_names(scratch("")), *(memory.names() if memory else ())]
    prefixes = set(filter(None, map(prefix_of, names)))
    return sorted(prefix for prefix in prefixes if is_abandoned(prefix))


def remove(prefix: str) -> None:
    """Remove everything of a prefix: processes, namespaces with their interfaces, control groups and files.

    Raises EmulationError when something withstands.
    """
    end_processes(_spaces(prefix))
    memory = memory_here()
    for name in memory.names() if memory else ():
        if memory and prefix_of(name) == prefix:
            memory.remove(name)
    shutil.rmtree(scratch(prefix), ignore_errors=True)
    for space in _spaces(prefix):
        with contextlib.suppress(EmulationError):  # another run may have been faster
            carry_out([("ip", "netns", "delete", space)])
    if left := _spaces(prefix):
        raise EmulationError(f"namespace {left[0]} cannot be removed: see what 'ip netns delete {left[0]}' says")


def _spaces(prefix: str) -> list[str]:
    return [name for name in _names(SPACES) if prefix_of(name) == prefix]


def end_processes(spaces: Iterable[str], *, grace_s: float = 0.0) -> None:
    """Kill every process inside these namespaces that does not end by itself within `grace_s` seconds.

    Raises EmulationError when one cannot be ended.
    """
    paths = [SPACES / space for space in spaces]
    if _wait(paths, grace_s, lambda pid: None):
        left = _wait(paths, ENDING_S, _kill)
        if left:
            raise EmulationError(f"process {left[0]} on an emulated board does not end, though it was killed")


def _wait(paths: Iterable[Path], seconds: float, act: Callable[[int], None]) -> list[int]:
    """Call `act` for every process in these namespaces until none is left; those left after so many seconds."""
    until = time.monotonic() + seconds
    while pids := _processes(paths):
        for pid in pids:
            act(pid)
        if time.monotonic() >= until:
            break
        time.sleep(0.01)
    return pids


def _processes(paths: Iterable[Path]) -> list[int]:
    """Processes whose network namespace is one of these."""
    wanted = set(filter(None, map(_identity, paths)))
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()] if wanted else []
    return [pid for pid in pids if _identity(Path(f"/proc/{pid}/ns/net")) in wanted]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # gone, or a thread of the kernel
        return None
    return status.st_dev, status.st_ino


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
