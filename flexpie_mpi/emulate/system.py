"""What emulation asks of this machine: Linux, root, two packages, and control groups that limit the boards' memory.

A control group is of version 1 or 2, whichever has the memory controller here. Commands are data until
:func:`carry_out` runs them, or says in one sentence why not.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import EmulationError
from ..runtime.machine import said

Command = tuple[str, ...]

MOUNTS = "/proc/self/mounts"
REMOVAL_S = 2.0
PROGRAMS = {"ip": "iproute2", "tc": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
_SYSTEM_PATH = "/usr/sbin:/sbin"


def check_system() -> None:
    """Check that namespaces can be made here; an EmulationError says why they cannot, and what to do."""
    if not sys.platform.startswith("linux"):
        raise EmulationError(f"boards are emulated by Linux namespaces, and this is {sys.platform}")
    if os.geteuid() != 0:
        raise EmulationError(
            "emulating boards needs root, which alone may make network namespaces: start it with sudo, or see what it "
            "would do with --dry-run"
        )
    missing = [program for program in PROGRAMS if shutil.which(program, path=search_path()) is None]
    if missing:
        raise EmulationError(
            f"emulating boards needs the program '{missing[0]}': install the package {PROGRAMS[missing[0]]}"
        )


def search_path() -> str:
    """Where programs are looked for; the folders of the system's own are not always on the PATH."""
    return os.pathsep.join(filter(None, [os.environ.get("PATH"), _SYSTEM_PATH]))


def carry_out(commands: Iterable[Command]) -> None:
    """Run commands one after the other; raises EmulationError when one fails, with what it said."""
    nothing, environment = subprocess.DEVNULL, {**os.environ, "PATH": search_path(), "LC_ALL": "C"}
    for command in commands:
        done = subprocess.run(
            command, stdin=nothing, capture_output=True, text=True, errors="replace", check=False, env=environment
        )
        if done.returncode:
            said = done.stderr.strip() or "it gives no reason"
            hint = "; a container must be privileged for this" if "not permitted" in said else ""
            raise EmulationError(f"this machine refuses '{shlex.join(command)}': {said}{hint}")


def write(value: object, path: str) -> Command:
    """Write a value to a file of the kernel."""
    return "sh", "-c", f"echo {value} > {path}"


@dataclass(frozen=True, slots=True)
class MemoryGroups:
    """Where memory is limited: the mounted hierarchy, and which version it is."""

    root: Path
    version: int

    @property
    def can_limit(self) -> bool:
        """Whether the kernel has the controller in this hierarchy."""
        return self.version == 1 or "memory" in said(self.root / "cgroup.controllers").split()

    def group(self, name: str) -> Path:
        """Folder of a board's control group."""
        return self.root / name

    def limit(self, name: str, limit_bytes: int) -> Iterator[Command]:
        """Commands that make a control group and limit it, without room in the swap."""
        group = self.group(name)
        if self.version == 2 and "memory" not in said(self.root / "cgroup.subtree_control").split():
            yield write("+memory", f"{self.root}/cgroup.subtree_control")
        yield "mkdir", str(group)
        memory, swap, swapped = (
            ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit_bytes)  # the second counts both
            if self.version == 1
            else ("memory.max", "memory.swap.max", 0)
        )
        yield write(limit_bytes, f"{group}/{memory}")
        yield "sh", "-c", f"if [ -e {group}/{swap} ]; then echo {swapped} > {group}/{swap}; fi"

    def times_exhausted(self, name: str) -> int:
        """How often the kernel ended a process of a board because its memory was full."""
        file = "memory.oom_control" if self.version == 1 else "memory.events"
        match = re.search(r"^oom_kill (\d+)$", said(self.group(name) / file), re.MULTILINE)
        return int(match[1]) if match else 0

    def names(self) -> list[str]:
        """Names of all control groups at the top of the hierarchy."""
        return [entry.name for entry in self.root.iterdir() if entry.is_dir()]

    def remove(self, name: str) -> None:
        """End what is left in a control group, and remove it."""
        group, until = self.group(name), time.monotonic() + REMOVAL_S
        while group.exists() and time.monotonic() < until:
            for pid in map(int, said(group / "cgroup.procs").split()):
                with contextlib.suppress(ProcessLookupError):
                    if pid:  # 0 is a process that this one cannot see, and to kill it would be suicide
                        os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                group.rmdir()
                return
            time.sleep(0.01)


def memory_groups_of(mounts: str) -> MemoryGroups | None:
    """Where memory can be limited, from the text of ``/proc/self/mounts``; None where it cannot.

    >>> memory_groups_of("cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0")
    MemoryGroups(root=PosixPath('/sys/fs/cgroup/memory'), version=1)
    >>> memory_groups_of("proc /proc proc rw 0 0")
    """
    fields = [line.split() for line in mounts.splitlines()]
    first = [root for _, root, kind, options, *_ in fields if kind == "cgroup" and "memory" in options.split(",")]
    second = [root for _, root, kind, *_ in fields if kind == "cgroup2"]
    groups = [MemoryGroups(Path(root), version) for version, roots in ((1, first), (2, second)) for root in roots]
    return next((memory for memory in groups if memory.can_limit), None)


def memory_here() -> MemoryGroups | None:
    """Where this machine can limit memory."""
    return memory_groups_of(said(Path(MOUNTS)))
