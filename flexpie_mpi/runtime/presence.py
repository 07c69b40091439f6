"""Where the process of a rank is to be found, and what can be told of it from outside when it says nothing.

On the same machine the kernel tells whether a process is there, stopped, or at work. Of another host only its network
can be asked: a host that is up answers a knock at a closed port at once, with a refusal.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

_LOOK_S = 0.2
"""How long a process is looked at, to see whether it computes."""

_KNOCK_S = 0.7
"""How long a host has to answer."""

_CLOSED_PORT = 9
_GET_ADDRESS = 0x8915  # ioctl of Linux: the IPv4 address of an interface
_BUSY_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Presence:
    """Where a process is."""

    host: str
    machine: str  # identity of the running kernel
    pid: int
    pid_space: str  # identity of the namespace in which `pid` is a number; empty where there are none
    addresses: tuple[str, ...]  # IPv4, of all interfaces but those that only this host has

    @classmethod
    def here(cls, host: str, machine: str) -> Presence:
        """Of this process."""
        space = ""
        with suppress(OSError):
            space = os.readlink("/proc/self/ns/pid")
        return cls(host, machine, os.getpid(), space, own_addresses())

    def seen_from(self, other: Presence) -> str:
        """What a process can be told to do, as another sees it: the end of a sentence that begins with its name."""
        said = []
        if (self.machine, self.pid_space) == (other.machine, other.pid_space):
            said.append(process_plight(self.pid))
        if (self.host, self.machine) != (other.host, other.machine):
            said.append(host_plight([address for address in self.addresses if address not in other.addresses]))
        return ", and ".join(filter(None, said)) or "says nothing"


def own_addresses() -> tuple[str, ...]:
    """IPv4 addresses of this host's interfaces, as far as they can be had, without the loopback's."""
    found = []
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(asked.fileno(), _GET_ADDRESS, struct.pack("256s", name.encode()[:15]))
                found.append(socket.inet_ntoa(answer[20:24]))
    return tuple(address for address in found if not address.startswith("127."))


def process_plight(pid: int) -> str:
    """What a process of this machine does."""
    before = _stat(pid)
    if before is None or before[0] in "ZX":
        return "is dead: its process is gone"
    if before[0] in "Tt":
        return f"is stopped by a signal or a debugger: kill -CONT {pid} lets it go on"
    time.sleep(_LOOK_S)
    state, cpu_s = _stat(pid) or ("X", 0.0)
    if state in "ZX":
        return "is dead: its process is gone"
    share = (cpu_s - before[1]) / _LOOK_S
    if share >= _BUSY_SHARE:
        return f"is alive and computes ({share:.0%} of a core): it is slow, or busy with something else"
    return "is alive and waits for its disk" if state == "D" else "is alive and at rest"


def host_plight(addresses: Sequence[str]) -> str:
    """Whether a host answers at its addresses; empty where none is known."""
    answering = answers(addresses)
    silent = [address for address in addresses if address not in answering]
    if not answering:
        if not silent:
            return ""
        return f"is on a host that does not answer at {', '.join(silent)}: it is down, or the link is cut"
    but = f" but not at {', '.join(silent)}, whose link may be cut" if silent else ""
    return f"is on a host that answers at {', '.join(answering)}{but}"


def answers(addresses: Sequence[str], limit_s: float = _KNOCK_S) -> list[str]:
    """Those addresses at which a host answers, be it with a refusal."""
    with ExitStack() as stack:
        knocks = {address: stack.enter_context(socket.socket(socket.AF_INET)) for address in addresses}
        begun = {}
        for address, knock in knocks.items():
            knock.setblocking(False)
            begun[address] = knock.connect_ex((address, _CLOSED_PORT))
        waiting = {knocks[address]: address for address, code in begun.items() if code == errno.EINPROGRESS}
        found = {address for address, code in begun.items() if code in (0, errno.ECONNREFUSED)}
        end_s = time.monotonic() + limit_s
        while waiting and (left_s := end_s - time.monotonic()) > 0:
            for knock in select.select([], list(waiting), [], left_s)[1]:
                code = knock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code in (0, errno.ECONNREFUSED):
                    found.add(waiting[knock])
                del waiting[knock]
    return [address for address in addresses if address in found]


def _stat(pid: int) -> tuple[str, float] | None:
    """State of a process, and the seconds of processor time it has had; None where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
