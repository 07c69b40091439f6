"""The whole examination of a job: boards, links, and what all ranks make of a model and a plan, with verdicts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..core.budget import Budget
from ..core.errors import FlexPieError, count_of
from ..core.plan import Plan
from ..files.cache import Cache
from ..lower import digest, turns_of
from ..lower.memory import RankMemory, mb, memory_of, memory_problems
from ..measure.board import versions_of
from ..measure.examination import Examination, examine, source_digest
from ..model import BUILTIN, Model, content_digest
from ..model.inputs import Shapes
from ..runtime.engine import load_shared
from ..runtime.provider import agreed_blocks
from ..runtime.transport import Transport
from ..testbed import Testbed
from .link_verdicts import judge_links, judge_paces, judge_places
from .opening import ROOT, Tell, from_root, read_boards, read_plan, shared_plan
from .room import shortages
from .verdicts import (
    ERROR,
    OK,
    WARNING,
    Verdict,
    by_host,
    judge_boards,
    judge_clocks,
    judge_disks,
    judge_sources,
    judge_versions,
    spoken,
    worst,
)

UNREADABLE = "unreadable"
"""In place of the digest of a file that a rank cannot read."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a job is to be held against; None where nothing is given."""

    testbed: str | None = None
    model: str | None = None
    plan: str | None = None
    shapes: Shapes = field(default_factory=dict)
    budget: Budget | None = None
    threads: int = 1  # of every rank, where no testbed says


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found and what is to be said of it, the same on every rank."""

    found: Examination | None  # None where ranks do not understand each other
    verdicts: tuple[Verdict, ...]
    testbed: Testbed | None = None
    needs: tuple[RankMemory, ...] = ()  # of the plan, by rank; empty without one
    digests: dict[str, tuple[str | None, ...]] = field(default_factory=dict)  # of model, plan and programs, by rank


@dataclass(frozen=True, slots=True)
class _Opinion:
    """What all ranks make of a model and a plan."""

    verdicts: list[Verdict] = field(default_factory=list)
    well: dict[str, str] = field(default_factory=dict)  # what is said of a check that has found nothing
    digests: dict[str, tuple[str | None, ...]] = field(default_factory=dict)


def diagnose(transport: Transport, subject: Subject, cache: Cache, tell: Tell) -> Diagnosis:
    """Look at everything and judge it; called by all ranks together.

    Raises FlexPieError on every rank, when a file that is given cannot be used at all.
    """
    installed, path, size = versions_of(transport), subject.testbed, transport.size
    mixed = [*judge_versions(installed), *judge_sources(installed, transport.all_gather(source_digest()))]
    if worst(mixed) == ERROR:
        return Diagnosis(None, tuple(mixed))
    testbed = None if path is None else from_root(transport, lambda: read_boards(path, size))
    plan = None if subject.plan is None else shared_plan(transport, subject.plan)
    model = None
    if subject.model is not None:
        tell(f"loading {subject.model}")
        model = load_shared(transport, subject.model, subject.shapes, cache, budget=subject.budget)
    found = examine(transport, installed, cache, testbed, tell)
    threads = [device.threads for device in testbed.devices] if testbed else [subject.threads] * size
    opinion = _Opinion(_of_cluster(found, testbed, threads), _well(found, testbed))
    tell("comparing what all ranks have")
    _compare_files(transport, opinion, "model", subject.model, partial(_model_digest, subject.budget))
    _compare_files(transport, opinion, "plan", subject.plan, _plan_digest)
    needs = _of_plan(transport, opinion, plan, model, found, testbed) if plan and model else ()
    judged = {verdict.check for verdict in opinion.verdicts}
    fine = (Verdict(OK, check, what) for check, what in opinion.well.items() if check not in judged)
    return Diagnosis(found, (*opinion.verdicts, *fine), testbed, needs, opinion.digests)


def _of_cluster(found: Examination, testbed: Testbed | None, threads: Sequence[int]) -> list[Verdict]:
    boards = found.boards
    return [
        *judge_boards(boards, threads),
        *judge_disks(boards, found.disks),
        *judge_clocks(boards, found.offsets_s),
        *judge_paces(boards, found.paces),
        *judge_links(found, testbed),
        *(judge_places(boards, testbed) if testbed else ()),
    ]


def _well(found: Examination, testbed: Testbed | None) -> dict[str, str]:
    """What is said of a cluster's checks where they have found nothing."""
    boards, links = found.boards, [link for link in found.links if not link.is_local(found.boards)]
    versions = boards[0].versions
    shown = [name for name in ("python", "flexpie-mpi", "onnxruntime") if name in versions]
    free = [board.memory.free_bytes for board in boards if board.memory.free_bytes is not None]
    disks = [free for free in found.disks if free is not None]
    said = {
        "versions": ", ".join([*(f"{name} {versions[name]}" for name in shown), versions.get("mpi", "no MPI")]),
        "memory": f"at least {mb(min(free))} free for every rank" if free else "",
        "disk": f"at least {mb(min(disks))} free for every rank's cache" if disks else "",
        "processor": "none is held back or at work on something else",
        "clock": "all hosts tell the same time" if len({board.place[:2] for board in boards}) > 1 else "",
        "links": f"{count_of(len(links), 'link')} between hosts, none slower than it should be" if links else "",
        "testbed": f"'{testbed.name}' describes these boards" if testbed else "",
    }
    return {check: what for check, what in said.items() if what}


# Models and plans


def _compare_files(
    transport: Transport, opinion: _Opinion, check: str, path: str | None, digest_of: Callable[[str], str]
) -> None:
    """Have every rank that has a file of this path say what it holds."""
    if path is None or path.startswith(BUILTIN):
        return
    mine = digest_of(path) if Path(path).is_file() else None
    digests = opinion.digests[check] = tuple(transport.all_gather(mine))
    opinion.verdicts.extend(judge_files(check, path, digests))
    holders = sum(held is not None for held in digests)
    opinion.well[check] = f"'{path}' is the same on the {holders} of {transport.size} ranks that have it"


def _model_digest(budget: Budget | None, path: str) -> str:
    try:
        return content_digest(Path(path), budget)
    except FlexPieError:
        return UNREADABLE


def _plan_digest(path: str) -> str:
    try:
        return hashlib.blake2b(read_plan(path).to_json().encode(), digest_size=16).hexdigest()
    except FlexPieError:
        return UNREADABLE


def _of_plan(
    transport: Transport, opinion: _Opinion, plan: Plan, model: Model, found: Examination, testbed: Testbed | None
) -> tuple[RankMemory, ...]:
    """Have every rank lower the plan; what each needs for it."""
    blocks = agreed_blocks(transport, found.boards[transport.rank].block)
    turns = turns_of(plan, model.graph, blocks)
    digests: list[str] = transport.all_gather(" ".join(map(digest, turns)))
    opinion.digests["programs"] = tuple(digests)
    needs = memory_of(turns, model.graph, plan.root)
    opinion.verdicts.extend([*judge_programs(digests), *judge_room(needs, found, testbed)])
    most = max(needs, key=lambda need: need.total_bytes())
    opinion.well["plan"] = f"fits every board; rank {most.rank} needs most, {mb(most.total_bytes())} with its process"
    return needs


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
