"""How much memory a file may take: what it says of itself is weighed before it is believed.

A few kilobytes can ask for terabytes: a picture of a billion pixels, a tensor that is all zeros, a padded axis. Whoever
reads a file of somebody else asks a :class:`Budget` before memory is taken.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import FlexPieError

_SHARE = 16
"""One file may take this fraction (1/16) of the machine's memory, unless the user allows more."""
_LEAST_BYTES = 256 << 20

_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, slots=True)
class Budget:
    """The most bytes that any one thing read from a file (an array, a picture, a value of a model) may take."""

    nbytes: int

    @classmethod
    def of_machine(cls) -> Budget:
        """A sixteenth of the memory that this machine, or the control group of this process, has; 256 MiB at least."""
        return cls(max(_LEAST_BYTES, _usable_bytes() // _SHARE))

    def admit(self, nbytes: int, what: str, error: type[FlexPieError]) -> None:
        """Raise `error` with a sentence that begins with `what` when `nbytes` is more than is allowed.

        >>> Budget(1 << 30).admit(5 << 30, "input", FlexPieError)
        Traceback (most recent call last):
        flexpie_mpi.core.errors.FlexPieError: input would take 5.37 GB, and 1.07 GB is allowed: allow more with --memory
        """
        if nbytes > self.nbytes:
            raise error(
                f"{what} would take {nbytes / 1e9:.3g} GB, and {self.nbytes / 1e9:.3g} GB is allowed: "
                "allow more with --memory"
            )


def memory_bytes() -> int:
    """Physical memory of this host; 0 where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _usable_bytes() -> int:
    """Memory of this host, or what the control group of this process may use where that is less."""
    limits = [memory_bytes()]
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # no such group, or no limit ("max")
            limits.append(int(path.read_text()))
    return min(limits)


@contextmanager
def at_most(nbytes: int) -> Iterator[None]:
    """Limit the memory that this process may take inside the block to `nbytes` more, where the system can do that.

    For libraries that take what a damaged file says, and say so themselves when they do not get it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = data_bytes() + nbytes
    is_held = soft == resource.RLIM_INFINITY or limit < soft
    if is_held:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        if is_held:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def data_bytes() -> int:
    """Bytes that this process has taken, as its limit counts them: without files that are mapped."""
    taken = kernel_bytes("self/status", "VmData")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 if taken is None else taken


def kernel_bytes(file: str, key: str) -> int | None:
    """What a line of ``/proc/FILE`` says in kB, as bytes; None where there is no such file or line."""
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc", file).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) << 10
    return None
