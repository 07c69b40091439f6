"""How much boards that share a host slow each other down, by how many of them compute.

How long a span takes depends on who computes beside it, which is known of a whole placement only. So a problem with
shared hosts is solved for few boards that compute, then for more: each time with prices that are not above those of
any placement of so many boards, so that the least bound of all is a bound of everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from ..testbed import Testbed

MOST_LEVELS = 12
"""Levels that are looked at, at most: each is a search of its own. Of more, neighbours are taken together."""


@dataclass(frozen=True, slots=True)
class ContentionLevel:
    """Some number of boards that compute, more than at the level before."""

    most: int  # so many at most
    active: tuple[float, ...]  # how much each board is slowed down then at least, as of :meth:`Testbed.active`


def contention_levels(testbed: Testbed) -> tuple[ContentionLevel, ...]:
    """From one board that computes to all of them; a single level where no host is shared.

    >>> from flexpie_mpi.testbed import one_host
    >>> [(level.most, level.active[0]) for level in contention_levels(one_host(ranks=4, cores=2))]
    [(2, 1.0), (3, 1.5), (4, 2.0)]
    """
    everyone = testbed.active(range(testbed.ranks))
    if everyone == _least(testbed, 1):
        return (ContentionLevel(testbed.ranks, everyone),)
    each = [ContentionLevel(count, _least(testbed, count)) for count in range(1, testbed.ranks + 1)]
    runs = [list(run) for _, run in groupby(each, key=lambda level: level.active)]
    size = -(-(len(runs) - 1) // (MOST_LEVELS - 1))
    parts = [runs[first : min(first + size, len(runs) - 1)] for first in range(0, len(runs) - 1, size)]
    return tuple(ContentionLevel(part[-1][-1].most, part[0][0].active) for part in [*parts, runs[-1:]])


def _least(testbed: Testbed, count: int) -> tuple[float, ...]:
    """How much each board is slowed down at least when it is one of so many that compute.

    The others are on other hosts as far as possible; of its own host the boards that keep the fewest cores busy come
    first.
    """
    devices, hosts = testbed.devices, dict[str, list[int]]()
    for rank in sorted(range(testbed.ranks), key=lambda rank: devices[rank].busy_cores):
        hosts.setdefault(devices[rank].host, []).append(rank)
    found = []
    for rank, device in enumerate(devices):
        near = [other for other in hosts[device.host] if other != rank] if device.host else []
        beside = max(0, count - testbed.ranks + len(near))
        found.append(testbed.active([rank, *near[:beside]])[0])
    return tuple(found)
