"""Boards on one machine: a testbed's network out of namespaces, and the ordinary mpirun inside it.

A board is a network namespace with a hostname and an address of its own; a link is a pair of virtual interfaces, each
end of which sends as fast as the testbed says. Behind a switch they meet in a bridge, in a ring or star the boards
forward for each other, the same ways as :mod:`flexpie_mpi.testbed` says. A testbed goes in, a :class:`Cluster` comes
out that runs one job after the other, and nothing of it is left in the end. How fast the boards compute is not decided
here: each rank paces itself by its device's slowdown.

The difficulty is the shape of short messages: see :mod:`.network`. What cannot be had is latency: the kernel's token
buckets add none, so a message is as early as this machine lets it be.
"""

from .check import Checked, MeasuredLink, check_cores
from .cluster import Cluster, available_cores, dry_run, emulated
from .launch import LIBRARIES, Library
from .system import check_system

__all__ = [
    "LIBRARIES", "Checked", "Cluster", "Library", "MeasuredLink", "available_cores", "check_cores", "check_system",
    "dry_run", "emulated",
]  # fmt: skip
