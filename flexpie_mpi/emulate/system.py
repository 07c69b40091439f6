"""What emulation asks of this machine: Linux, root, two packages; and one command run, or one sentence why not."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable

from ..core.errors import EmulationError
from .shaping import Command

PROGRAMS = {"ip": "iproute2", "tc": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
_SYSTEM_PATH = "/usr/sbin:/sbin"


def check_system() -> None:
    """Check that namespaces can be made here.

    Raises
    ------
    EmulationError
        When they cannot; says why, and what to do.
    """
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
    """Run commands one after the other.

    Raises
    ------
    EmulationError
        When one fails, with what it said.
    """
    for command in commands:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "PATH": search_path(), "LC_ALL": "C"},
        )
        if done.returncode:
            said = done.stderr.strip() or "it gives no reason"
            hint = "; a container must be privileged for this" if "not permitted" in said else ""
            raise EmulationError(f"this machine refuses '{shlex.join(command)}': {said}{hint}")
