r"""What is wrong with the links of a job, and with boards that compute less than others, judged by what was measured.

A slow port shows in all links of its board, so a board is blamed where all its links are slow, and single links where
others of both ends are not::

    0 ---- 1         0 -/- 1        / slow: rank 2's port in the first picture, the way from 0 to 1 in the second
    | \  / |         | \  / |
    |  /\  |         |  \/  |
    2 -/-- 3         2 ---- 3
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from ..measure.board import Board
from ..measure.examination import Examination, Link, Pace, least_s
from ..measure.interfaces import Interface
from ..testbed import Testbed
from .verdicts import NOTE, WARNING, Verdict, by_host, hosts, spoken

SLOW = 0.6
"""A link is slow below this share of what it should carry; TCP carries 0.87 to 0.94 of what a port is said to."""

FAST = 1.5
"""So many times what a testbed says is another network than it describes."""

LATE, LATE_S = 3.0, 300e-6
"""A link is late when it takes so many times as long as it should, and so much longer."""

BEHIND = 1.5
"""A board is slow that takes so many times as long as another with the same processor."""

SHARED = 0.7
"""With less of a core's time, a board is at work on something else."""

FAST_ETHERNET = 100e6 / 8
"""Bytes per second of a port that is 20 years old, or has half of its wires."""

_OWN_WAY = "tell MPI which to use: mpirun -iface {0} (MPICH), --mca btl_tcp_if_include {0} (Open MPI)"


def judge_links(found: Examination, testbed: Testbed | None = None) -> list[Verdict]:
    """All links between hosts, against a testbed if there is one, or else against each other."""
    boards = found.boards
    between = [link for link in found.links if not link.is_local(boards)]
    straight = [link for link in between if not is_shortcut(link)]
    shortcuts = _judge_shortcuts([link for link in between if is_shortcut(link)], boards)
    wrong = _judge_bandwidths(straight, boards, testbed)
    return [*shortcuts, *_judge_interfaces(straight, boards), *wrong, *_judge_latencies(straight, boards, testbed)]


# The way that messages take


def is_shortcut(link: Link) -> bool:
    """Whether messages left a host through no interface; unknown, and so not, where interfaces do not count."""
    return all(link.passed) and max(max(passed.values()) for passed in link.passed) < link.sent_bytes / 2


def _judge_shortcuts(links: Sequence[Link], boards: Sequence[Board]) -> Iterator[Verdict]:
    ranks = tuple(sorted({rank for link in links for rank in link.ends}))
    if links:
        what = f"messages of {_ends(links[0], boards)}" if len(links) == 1 else f"{len(links)} links of {spoken(ranks)}"
        finding = f"{what} pass no interface of their hosts ({_mbits(links[0].bandwidth)}): MPI shares memory"
        yield Verdict(
            WARNING, "links", finding, "where the network is meant, as by emulated boards, UCX_TLS=tcp,self", ranks
        )


def _judge_interfaces(links: Sequence[Link], boards: Sequence[Board]) -> Iterator[Verdict]:
    """Interfaces that carry messages although a better one is up, and ports that are slow by themselves."""
    for ranks in by_host(boards).values():
        carriers = [*_carriers(ranks, links)]
        for carrier in (each for each in boards[ranks[0]].interfaces if each.name in carriers):
            others = [each for each in boards[ranks[0]].interfaces if each.name not in carriers]
            better = next((each for each in others if _is_better(each, carrier)), None)
            name = f"'{boards[ranks[0]].host}'"
            if better is not None:
                finding = f"messages of {name} pass {_port(carrier)} although {_port(better)} is up"
                yield Verdict(WARNING, "links", finding, _OWN_WAY.format(better.name), ranks)
            elif carrier.speed is not None and carrier.speed <= FAST_ETHERNET:
                finding = f"{_port(carrier)} of {name} is no faster than that"
                remedy = "try another cable and another port of the switch: eight wires carry 1000 Mb/s"
                yield Verdict(WARNING, "links", finding, remedy, ranks)


def _carriers(ranks: Sequence[int], links: Sequence[Link]) -> Iterator[str]:
    """Interfaces of a host that carried most of a link's messages."""
    for link in links:
        for rank, passed in zip(link.ends, link.passed, strict=True):
            if rank in ranks and passed:
                yield max(passed, key=passed.__getitem__)


def _is_better(other: Interface, carrier: Interface) -> bool:
    if carrier.is_wireless:
        return other.is_wired
    return bool(other.is_wired and other.speed and carrier.speed and other.speed > 2 * carrier.speed)


def _port(interface: Interface) -> str:
    kind = "wireless" if interface.is_wireless else _mbits(interface.speed) if interface.speed else ""
    return f"{interface.name} ({kind})" if kind else interface.name


# Bandwidth and latency


def _judge_bandwidths(links: Sequence[Link], boards: Sequence[Board], testbed: Testbed | None) -> Iterator[Verdict]:
    """Links that are slow, by board where all of a board's are, and those that are not what a testbed says."""
    carries = _expected(links, testbed)
    source = f"testbed '{testbed.name}' says" if testbed else "others carry"
    slow = [link for link in links if link.bandwidth < SLOW * carries[link.ends]]
    for ranks, own in _gathered(slow, links):
        what = f"the link of {_ends(own[0], boards)} carries" if len(own) == 1 else "all links carry"
        if len(ranks) == 1:
            what = f"all links of '{boards[ranks[0]].host}' ({spoken(ranks)}) carry"
        carried, wanted = median(link.bandwidth for link in own), median(carries[link.ends] for link in own)
        finding = f"{what} {_mbits(carried)}, and {source} {_mbits(wanted)}"
        remedy = "look at cable, port and switch (ethtool), and at what else uses them"
        yield Verdict(WARNING, "links", finding, remedy, ranks)
    for link in links if testbed else ():
        if link.bandwidth > FAST * carries[link.ends]:
            finding = f"the link of {_ends(link, boards)} carries {_mbits(link.bandwidth)}, and {source} "
            finding += _mbits(carries[link.ends])
            yield Verdict(NOTE, "links", finding, "mend the testbed's file: plans are for slower links", link.ends)


def _gathered(slow: Sequence[Link], links: Sequence[Link]) -> Iterator[tuple[tuple[int, ...], Sequence[Link]]]:
    """Slow links by the ranks to blame: all, each board all of whose links are slow, or both ends of a link."""
    own = {rank: [link for link in links if rank in link.ends] for link in slow for rank in link.ends}
    if len(slow) == len(links) > 1:
        yield tuple(sorted(own)), slow
        return
    blamed = [rank for rank, mine in own.items() if len(mine) > 1 and all(link in slow for link in mine)]
    yield from (((rank,), own[rank]) for rank in blamed)
    yield from ((link.ends, [link]) for link in slow if not {*blamed} & {*link.ends})


def _expected(links: Sequence[Link], testbed: Testbed | None) -> Mapping[tuple[int, int], float]:
    """Bytes per second that every link should carry.

    Without a testbed that is what the best link of most boards carries: there are no more good links than that on a
    board with a slow port.
    """
    if testbed is not None:
        return {link.ends: testbed.bandwidth(*link.ends) for link in links}
    best: dict[int, float] = {}
    for link in links:
        for rank in link.ends:
            best[rank] = max(best.get(rank, 0.0), link.bandwidth)
    usual = median(best.values()) if best else 0.0
    return {link.ends: usual for link in links}


def _judge_latencies(links: Sequence[Link], boards: Sequence[Board], testbed: Testbed | None) -> Iterator[Verdict]:
    """Links whose small messages take long, by a testbed or beside the others."""
    usual_s = median(link.latency_s for link in links) if links else 0.0
    for link in links:
        route = testbed.routes[link.ends[0]][link.ends[1]] if testbed else None
        expected_s = route.latency_s if route else usual_s
        if link.latency_s > LATE * expected_s and link.latency_s - expected_s > LATE_S:
            source = f"testbed '{testbed.name}' says" if testbed else "most take"
            finding = (
                f"a small message between {_ends(link, boards)} takes {link.latency_s * 1e3:.2g} ms, and {source} "
            )
            finding += f"{expected_s * 1e3:.2g} ms"
            remedy = "look at power saving of the interface (ethtool --show-eee, iw power_save) and at what else runs"
            yield Verdict(WARNING, "links", finding, remedy, link.ends)


# Boards beside each other


def judge_paces(boards: Sequence[Board], paces: Sequence[Pace]) -> Iterator[Verdict]:
    """Boards that are slower than others with the same processor, or whose cores are at work on something else."""
    for rank, (board, pace) in enumerate(zip(boards, paces, strict=True)):
        times = pace.seconds / least_s(boards, rank, dict(enumerate(paces)))
        if times > BEHIND and pace.share >= SHARED:
            finding = f"'{board.host}' takes {times:.2g} times as long as others with the same processor"
            remedy = "look at its temperature and governor; start the job again when it is mended, or plan with traces"
            yield Verdict(WARNING, "processor", finding, remedy, (rank,))
    busy = tuple(rank for rank, pace in enumerate(paces) if pace.share < SHARED)
    if busy:
        least = min(paces[rank].share for rank in busy)
        finding = f"{hosts(busy, boards)}: as little as {least:.0%} of a core's time for a rank that computed alone"
        yield Verdict(WARNING, "processor", finding, "end other programs there (top)", busy)


def judge_places(boards: Sequence[Board], testbed: Testbed) -> Iterator[Verdict]:
    """Hosts in another order than a testbed's devices, where both have the same names; more threads than cores."""
    hosts, names = [board.host for board in boards], [device.name for device in testbed.devices]
    if set(hosts) == set(names) and hosts != names:
        rank = next(rank for rank, host in enumerate(hosts) if host != names[rank])
        finding = f"rank {rank} runs on '{hosts[rank]}', and the testbed's board {rank} is '{names[rank]}'"
        yield Verdict(WARNING, "testbed", finding, "bring hostfile and testbed into the same order", (rank,))
    for rank, (board, device) in enumerate(zip(boards, testbed.devices, strict=True)):
        if device.memory_bytes and board.memory.total_bytes and device.memory_bytes > board.memory.total_bytes:
            finding = f"'{board.host}' has {board.memory.total_bytes / 1e6:.0f} MB of memory, and testbed "
            finding += f"'{testbed.name}' says {device.memory_bytes / 1e6:.0f} MB"
            yield Verdict(WARNING, "testbed", finding, "mend memory in the testbed's file", (rank,))


# In words


def _ends(link: Link, boards: Sequence[Board]) -> str:
    return " and ".join(f"'{boards[rank].host}' (rank {rank})" for rank in link.ends)


def _mbits(bandwidth: float) -> str:
    return f"{bandwidth * 8e-6:.{0 if bandwidth >= FAST_ETHERNET else 1}f} Mb/s"
