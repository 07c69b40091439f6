"""How fast an interface sends: a token bucket that lets a message through at the testbed's bandwidth, short or long.

A testbed's bandwidth is payload, and the kernel counts headers too: the rate is higher by their share. Two numbers
decide what a *short* message sees. Packets leave whole, so they are kept to what the link carries in `PACKET_S`; and a
bucket that was idle lets `BURST_S` worth of bytes through at once, which has to cover how late the kernel's timers are,
or a long stream would lose bandwidth with every packet. Shorter packets would be truer to messages below 50 kB, but
each costs this machine some 10 us: with packets of 64 us, four boards that exchange all at once keep two cores busy.
"""

from __future__ import annotations

Command = tuple[str, ...]

PACKET_S = 96e-6
SMALLEST_PACKET, LARGEST_PACKET = 1500, 48_000
BURST_S = 100e-6
SMALLEST_BURST = 1600

ETHERNET_BYTES = 14
HEADER_BYTES = 52
"""Of IP, TCP and its time stamps, in every packet."""

QUEUE_BYTES = 256_000_000
"""More than senders can have on their way: a packet that is dropped costs the sender 200 ms."""


def packet_bytes(bandwidth: float) -> int:
    """Largest packet of a link, in bytes, of so many payload bytes per second.

    >>> [packet_bytes(bits / 8) for bits in (1e8, 1e9, 5e9)]
    [1500, 12000, 48000]
    """
    return min(LARGEST_PACKET, max(SMALLEST_PACKET, int(bandwidth * PACKET_S)))


def wire_bits(bandwidth: float) -> int:
    """Bits per second with headers, for so many payload bytes per second.

    >>> wire_bits(1e9 / 8)
    1005523937
    """
    packet = packet_bytes(bandwidth)
    return round(8 * bandwidth * (packet + ETHERNET_BYTES) / (packet - HEADER_BYTES))


def shape(space: str, interface: str, bandwidth: float) -> tuple[Command, ...]:
    """Commands that make an interface of a namespace send so many payload bytes per second.

    A class may overdraw its bucket by one packet and then waits, so that the bucket can be smaller than a packet;
    `tbf` would need one that holds two.
    """
    tc = ("tc", "-n", space)
    burst = str(max(SMALLEST_BURST, int(bandwidth * BURST_S)))
    rate, quantum = f"{wire_bits(bandwidth)}bit", str(packet_bytes(bandwidth) + ETHERNET_BYTES)
    return (
        (*tc, "qdisc", "add", "dev", interface, "root", "handle", "1:", "htb", "default", "1"),
        (*tc, "class", "add", "dev", interface, "parent", "1:", "classid", "1:1", "htb", "rate", rate)
        + ("burst", burst, "cburst", burst, "quantum", quantum),
        (*tc, "qdisc", "add", "dev", interface, "parent", "1:1", "bfifo", "limit", str(QUEUE_BYTES)),
    )
