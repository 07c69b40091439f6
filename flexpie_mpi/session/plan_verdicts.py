"""Whether all ranks see the same model and plan, and whether their boards have room for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..lower.memory import RankMemory, mb, memory_problems
from ..measure.examination import Examination
from ..testbed import Testbed
from .opening import ROOT
from .room import shortages
from .verdicts import ERROR, WARNING, Verdict, by_host, spoken


def judge_files(check: str, path: str, digests: Sequence[str | None]) -> Iterator[Verdict]:
    """Files of the root's path that hold something else on other ranks; None is the digest of a file that is not there.

    No rank but the root reads it. But who has another one there expects another result.
    """
    odd = tuple(rank for rank, digest in enumerate(digests) if digest not in (None, digests[ROOT]))
    if odd:
        finding = f"'{path}' holds something else on {spoken(odd)} than on rank {ROOT}, whose file is used"
        yield Verdict(WARNING, check, finding, f"copy rank {ROOT}'s file there, or remove that one", odd)


def judge_programs(digests: Sequence[str]) -> Iterator[Verdict]:
    """Ranks that make something else of the plan than the root."""
    odd = tuple(rank for rank, digest in enumerate(digests) if digest != digests[ROOT])
    if odd:
        finding = f"{spoken(odd)} would run other programs for the plan than rank {ROOT}"
        yield Verdict(ERROR, "plan", finding, "install the same version on all boards", odd)


def judge_room(needs: Sequence[RankMemory], found: Examination, testbed: Testbed | None) -> Iterator[Verdict]:
    """Boards that have less memory, or less room for weights on their disk, than their ranks need."""
    for problem in memory_problems(needs, testbed) if testbed else ():
        yield Verdict(ERROR, "plan", problem)
    boards = found.boards
    for ranks, finding in shortages(needs, [board.memory for board in boards], by_host(boards)):
        yield Verdict(ERROR, "plan", finding, "plan for more boards or for this memory (--testbed)", ranks)
    for ranks in by_host(boards).values():
        name = f"'{boards[ranks[0]].host}'"
        weights, disk = sum(needs[rank].weight_bytes for rank in ranks), found.disks[ranks[0]]
        if disk is not None and weights > disk:
            finding = (
                f"{spoken(ranks)} on {name} would keep {mb(weights)} of weights, and the cache's disk has {mb(disk)}"
            )
            yield Verdict(WARNING, "plan", finding, "make room there, or name another folder with --cache", ranks)
