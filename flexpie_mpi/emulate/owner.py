"""Names that say whose they are: everything that is built carries the process that built it, and when that started."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

PREFIX = "flexpie-"
_OWNED = re.compile(rf"({PREFIX}(\d+)-(\d+)-[0-9a-f]+)\b.*")


def new_prefix() -> str:
    """A prefix for the names of one emulated network of this process."""
    pid = os.getpid()
    return f"{PREFIX}{pid}-{started(pid)}-{secrets.token_hex(2)}"


def unowned_prefix() -> str:
    """A prefix for what no process looks after: it is never taken for abandoned."""
    return f"{PREFIX}dry-{secrets.token_hex(2)}"


def prefix_of(name: str) -> str | None:
    """The prefix of something that an emulation built; None of anything else.

    >>> prefix_of("flexpie-4711-98765-a0b1-switch"), prefix_of("flexpie"), prefix_of("docker-4711-98765-a0b1")
    ('flexpie-4711-98765-a0b1', None, None)
    """
    found = _OWNED.fullmatch(name)
    return found[1] if found else None


def is_abandoned(prefix: str) -> bool:
    """Whether the process that built this is gone. A process that has its number by now started at another time."""
    found = _OWNED.fullmatch(prefix)
    return found is not None and started(int(found[2])) != int(found[3])


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine did; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = text[text.rindex(")") + 1 :].split()
    return None if state in "ZX" else int(fields[18])
