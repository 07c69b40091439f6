"""Where the process of a rank is to be found, and what can be told of it from outside."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass

from .life import Answer, Called, Pulse, call

_LOOK_S = 0.2
"""Between two calls, to see how much of a core a process has."""

_GET_ADDRESS = 0x8915  # ioctl of Linux: the IPv4 address of an interface

LONG = 3.0
"""So many times as long as usual a step is too long."""

STARVED = 0.7
"""A process that computes and has less of a core does not have one to itself."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Where a process is."""

    host: str
    machine: str  # identity of the running kernel
    pid: int
    addresses: tuple[str, ...]  # IPv4, of all interfaces but those that only this host has
    port: int  # where it answers; 0 where it cannot
    words: bytes  # with which it does

    @classmethod
    def here(cls, host: str, machine: str, pulse: Pulse) -> Presence:
        """Of this process."""
        return cls(host, machine, os.getpid(), own_addresses(), pulse.port, pulse.words)

    def is_beside(self, other: Presence) -> bool:
        """Whether both are on one host."""
        return (self.host, self.machine) == (other.host, other.machine)

    def called_from(self, other: Presence, *, loaded: bool = False, limit_s: float | None = None) -> Called:
        """What a call of another process shows; as of :func:`.life.call`."""
        addresses = ["127.0.0.1"] if self.is_beside(other) else [a for a in self.addresses if a not in other.addresses]
        return call(addresses if self.port else [], self.port, self.words, loaded=loaded, limit_s=limit_s)

    def plight(self, called: Called, other: Presence) -> str:
        """What a process that was called can be told to do: the end of a sentence that begins with its name.

        One that answers is called once more, for how much of a core it has and how fast it can send.
        """
        if called.answer is not None:
            time.sleep(_LOOK_S)
            return answered(called.answer, self.called_from(other, loaded=True).answer)
        if called.taken:
            return (
                "is stopped by a signal or a debugger, or gets no processor time: its host takes calls and it does not "
                f"answer; kill -CONT {self.pid} lets a stopped one go on"
            )
        if called.refused:
            return "is dead: its process is gone"
        if called.silent:
            return f"is on a host that does not answer at {', '.join(called.silent)}: it is down, or the link is cut"
        return "says nothing"


def answered(first: Answer, second: Answer | None) -> str:
    """What a process does, as its own two answers have it."""
    now, doing = second or first, (second or first).doing
    passed_s = now.clock_s - first.clock_s
    share = (now.cpu_s - first.cpu_s) / passed_s if passed_s > 0 else 0.0
    usual = "" if doing.usual_s is None else f" where {doing.usual_s:.2g} s is usual"
    said = f"{doing.what}, for {doing.for_s:.3g} s{usual}, with {share:.0%} of a core"
    if second is None:
        return f"{said}, and did not answer a second time: its link is slow, or has just been cut"
    if doing.peers:
        return f"{doing.what} itself: messages between them are slow or were lost{_way(now)}"
    if doing.pace > 1:
        said += f", paced to be {doing.pace:g} times slower"
    if now.state == "D":
        return f"{said}: it waits for its disk"
    if doing.usual_s is None or doing.for_s < LONG * doing.usual_s:
        return f"is alive and {said}"
    is_starved = share * doing.pace < STARVED
    why = "something else has its core, or it is throttled" if is_starved else "its processor is hot or clocked down"
    return f"is alive and {said}: its board is slow ({why})"


def _way(answer: Answer) -> str:
    """How fast the way from a rank is."""
    return "" if answer.rate is None else f"; the way from it carries {answer.rate * 8 / 1e6:.3g} Mb/s now"


def own_addresses() -> tuple[str, ...]:
    """IPv4 addresses of this host's interfaces, as far as they can be had, without the loopback's."""
    found = []
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(asked.fileno(), _GET_ADDRESS, struct.pack("256s", name.encode()[:15]))
                found.append(socket.inet_ntoa(answer[20:24]))
    return tuple(address for address in found if not address.startswith("127."))
