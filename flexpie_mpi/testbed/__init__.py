"""Testbeds: the boards of a job and the links between them, as one TOML file says or as measured.

A board is a :class:`Device`. What a message occupies is a :class:`Resource`: the sending side of a port, the receiving
side, or a link in one direction; messages that pass through the same resource share its bandwidth. A :class:`Route`
says which resources a message from one rank to another passes, and how long the first byte takes. Planning, emulation
and simulation all read the same testbed. The one difficulty: ranks on one host share its cores, so how fast a rank
computes depends on who computes beside it (:meth:`Testbed.active`).

The file, here with every key::

    format = 1                    # of this file; 1 when left out
    name = "pi4x4"                # the file's own name when left out
    topology = "switch"           # "switch", "ring" or "star"

    [link]                        # every port of the switch, every link of the ring or star; not needed for one device
    bandwidth = "1Gb/s"           # b/s kb/s Mb/s Gb/s are bits; B/s kB/s MB/s GB/s KiB/s MiB/s GiB/s are bytes
    latency = "50us"              # s ms us ns; of one message, over one link or through the switch

    [[device]]                    # in the order of the ranks
    name = "pi"                   # letters, digits and - . _
    count = 4                     # so many alike: pi0 pi1 pi2 pi3; 1 when left out
    slowdown = 8                  # times slower than the machine the cost model was measured on; 1 when left out
    threads = 1                   # onnxruntime threads of the rank; 1 when left out
    memory = "4GiB"               # what the rank may use: B kB MB GB KiB MiB GiB; without limit when left out
    host = "laptop"               # devices with the same host share its cores; a host of its own when left out
    cores = 2                     # of the host; 1 when left out
    block = 16                    # channels to a block of its convolutions (16 on x86 with AVX-512, 8 without); 0 when
                                  # left out, as on ARM: onnxruntime has no such layout there
    bandwidth = "100Mb/s"         # of this device's port, where it differs from [link]
    latency = "200us"             # the same

In a *switch* each device has one port, and everything it sends, and everything it receives, shares it. In a *ring*
each device has a link to the next and to the previous one; messages between others are forwarded the shorter way. In a
*star* each device has a link to the first one, which forwards what the others send each other. A link or a way through
the switch has the larger latency of its two devices' ports, and no more than the smaller bandwidth.
"""

from .boards import HUB, Device, Resource, Route, Sketch, Testbed, Topology
from .files import MEMORY, read, read_change, read_sketch
from .topologies import TOPOLOGIES, measured, one_host, ring, star, switch

__all__ = [
    "HUB", "MEMORY", "TOPOLOGIES", "Device", "Resource", "Route", "Sketch", "Testbed", "Topology", "measured",
    "one_host", "read", "read_change", "read_sketch", "ring", "star", "switch",
]  # fmt: skip
