"""What every step of a job takes by itself: seconds of computing, of packing and of unpacking.

The cost model is asked three times for the whole job, and for equal work once. It prices an exchange as its slowest
rank sees it, links included. The walk accounts for the links itself, so what it needs is the rest, the *software*::

    software = price - what the links need for this exchange alone     (0 where they need more)

Of the software, one part is what the exchange would cost even without bytes; it goes by the messages that a rank
sends and receives. The other goes by the bytes that it packs before, and unpacks and copies after. Both are shared out
so that the sender and the receiver of the dearest message together take all of it: an exchange that all ranks begin at
once takes about what the cost model says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.graph import Graph
from ..core.program import Compute, Exchange, Program
from ..cost.groups import FusedGroup, StepWork, fused_groups
from ..cost.links import Part, job_parts, job_transfers, own_bytes
from ..cost.model import CostModel
from ..cost.rows import CALL, TRANSFER, WORK
from ..testbed import Testbed
from .flows import sent, together_s

Place = tuple[int, int]
"""(rank, number of a segment or of an exchange)."""

_PACKED_ONCE = ("allgather", "broadcast")
"""Exchanges in which a rank sends the same to everyone, from one piece of memory."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Seconds of everything that a rank does by itself."""

    arrival_s: Mapping[int, float]  # of taking a request's inputs over, by rank: the root's
    # `compute_s`, `pack_s` and `unpack_s`: mapping of (rank, number) to float, of the segment, and of either half of
    # the exchange, with that number
    compute_s: Mapping[Place, float]
    pack_s: Mapping[Place, float]
    unpack_s: Mapping[Place, float]


def price_job(programs: Sequence[Program], graph: Graph, testbed: Testbed, cost: CostModel) -> Prices:
    """Prices of all steps of a job; arguments as of :func:`flexpie_mpi.simulate.simulate`."""
    parts = job_parts(programs)
    numbers, rows = job_transfers(programs, testbed)
    whole_s, bare_s, arrival_s = _exchange_s(rows, _arrivals(programs), cost)
    pack_s: dict[Place, float] = {}
    unpack_s: dict[Place, float] = {}
    for number, row, seconds, bare in zip(numbers, rows, whole_s.tolist(), bare_s.tolist(), strict=True):
        messages = (sent(message, testbed) for part, _ in parts[number] for message in part.sends)
        software_s = max(0.0, seconds - together_s(testbed, messages))
        fixed, volume = max(0.0, bare - float(row["latency_s"])), max(0.0, seconds - bare - float(row["wire_s"]))
        shares = _shares(parts[number], fixed, volume, software_s)
        pack_s.update({(rank, number): packing for rank, (packing, _) in shares.items()})
        unpack_s.update({(rank, number): unpacking for rank, (_, unpacking) in shares.items()})
    arrivals = {program.rank: float(s) for program, s in zip(programs, arrival_s, strict=True) if program.inputs}
    return Prices(arrivals, compute_seconds(programs, graph, testbed, cost), pack_s, unpack_s)


# Computing


def compute_seconds(
    programs: Sequence[Program],
    graph: Graph,
    testbed: Testbed,
    cost: CostModel,
    active: Mapping[int, float] | None = None,
) -> dict[Place, float]:
    """Seconds of every Compute step on its rank's device, its call included.

    As in a plan's price, ranks of one host crowd each other when they compute the same segment; `active` says how much
    each rank is crowded where that is known better.
    """
    known = _groups_of(programs, graph)
    crowds = _crowds(programs, testbed) if active is None else _crowds_of(programs, active)
    alike: dict[object, tuple[StepWork, float]] = {}
    keys: dict[Place, object] = {}
    for program in programs:
        for step in program.computes:
            step_key = (program.rank, step.segment)
            keys[step_key] = key = (_signature(step, program), crowds[step_key])
            alike.setdefault(key, (StepWork(graph, known, program, step), crowds[step_key]))
    seconds = dict(zip(alike, _steps_s(list(alike.values()), cost), strict=True))
    return {step_key: seconds[key] * testbed.devices[step_key[0]].slowdown for step_key, key in keys.items()}


def _groups_of(programs: Sequence[Program], graph: Graph) -> tuple[FusedGroup, ...]:
    """The graph's kernels, none of which reaches over the beginning of a segment."""
    firsts: dict[int, int] = {}
    for program in programs:
        for step in program.computes:
            positions = [graph.position[block.node] for block in step.blocks]
            firsts[step.segment] = min([firsts.get(step.segment, len(graph.nodes)), *positions])
    return fused_groups(graph, list(firsts.values()))


def _crowds(programs: Sequence[Program], testbed: Testbed) -> dict[Place, float]:
    """How much each rank's host is overloaded while the rank computes a segment."""
    teams: dict[int, list[int]] = {}
    for program in programs:
        for step in program.computes:
            teams.setdefault(step.segment, []).append(program.rank)
    return {
        (rank, segment): active
        for segment, ranks in teams.items()
        for rank, active in zip(ranks, testbed.active(ranks), strict=True)
    }


def _crowds_of(programs: Sequence[Program], active: Mapping[int, float]) -> dict[Place, float]:
    return {(program.rank, step.segment): active[program.rank] for program in programs for step in program.computes}


def _signature(step: Compute, program: Program) -> object:
    """Equal for steps of equal work, wherever in the values it lies."""
    blocks = tuple(
        (block.node, *(region and region.shape for region in (*block.outputs, *block.inputs))) for block in step.blocks
    )
    sizes = tuple(program.buffers[index].nbytes for _, index in (*step.inputs, *step.outputs))
    return step.segment, blocks, sizes


def _steps_s(steps: Sequence[tuple[StepWork, float]], cost: CostModel) -> list[float]:
    """Seconds of steps on the reference device, kernels and call; one that has no kernel costs no call either."""
    rows = [work.group_row(number) for work, _ in steps for number in work.paying]
    owners = [number for number, (work, _) in enumerate(steps) for _ in work.paying]
    active = np.array([crowd for _, crowd in steps])
    kernel_s = cost.compute_s(np.concatenate([np.zeros(0, WORK), *rows]), active[owners]) if rows else np.zeros(0)
    calls = np.concatenate([np.zeros(0, CALL), *(work.call_row() for work, _ in steps)])
    call_s = np.where(calls["kernels"] > 0, cost.call_s(calls, active), 0.0) if len(calls) else np.zeros(0)
    seconds: list[float] = (np.bincount(owners, weights=kernel_s, minlength=len(steps)) + call_s).tolist()
    return seconds


# Exchanging


def _arrivals(programs: Sequence[Program]) -> np.ndarray:
    """The rows of `TRANSFER` of taking inputs over, for every rank; empty ones where there are none."""
    rows = np.zeros(len(programs), TRANSFER)
    rows["kind"], rows["ranks"] = b"local", 1
    rows["local_bytes"] = [sum(p.buffers[index].nbytes for _, index in p.inputs) for p in programs]
    return rows


def _exchange_s(rows: np.ndarray, arrivals: np.ndarray, cost: CostModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds of exchanges, of the same without bytes, and of arrivals."""
    bare = rows.copy()
    for name in ("port_bytes", "total_bytes", "local_bytes", "runs", "wire_s"):
        bare[name] = 0.0
    asked = np.concatenate((rows, bare, arrivals))
    distinct, inverse = np.unique(asked, return_inverse=True)
    seconds = cost.exchange_s(distinct)[inverse]
    whole, least = seconds[: len(rows)], seconds[len(rows) : 2 * len(rows)]
    return whole, np.minimum(whole, least), seconds[2 * len(rows) :]


Share = tuple[float, float]
"""What one rank has to do before its messages leave, and after what it needs has come."""


def _shares(parts: Sequence[Part], fixed: float, volume: float, software_s: float) -> dict[int, Share]:
    """Seconds of packing and of unpacking by rank, of which the dearest way through the exchange takes `software_s`.

    `fixed` and `volume` say how much of the software goes by messages and how much by bytes.
    """
    # Emulation paces computing alone, and plans price exchanges alike on every board: a board whose slowdown also
    # slowed copying would have its shares multiplied here.
    messages, nbytes = (_scaled(parts, {p.rank: of(part, p) for part, p in parts}) for of in (_messages, _bytes))
    both = {rank: _sum(messages[rank], fixed, nbytes[rank], volume) for rank in messages}
    return _scaled(parts, both, software_s)


def _messages(part: Exchange, program: Program) -> Share:
    return len(part.sends), len(part.receives)


def _bytes(part: Exchange, program: Program) -> Share:
    sizes = [message.nbytes for message in part.sends]
    packed = max(sizes, default=0) if part.kind in _PACKED_ONCE else sum(sizes)
    return packed, sum(message.nbytes for message in part.receives) + own_bytes(part, program)


def _sum(some: Share, weight: float, others: Share, other: float) -> Share:
    return some[0] * weight + others[0] * other, some[1] * weight + others[1] * other


def _scaled(parts: Sequence[Part], shares: Mapping[int, Share], total: float = 1.0) -> dict[int, Share]:
    """Shares in the same proportion, of which the dearest way adds up to `total`; zeros stay zeros."""
    dearest = max(sum(way) for way in _ways(parts, shares))
    factor = total / dearest if dearest else 0.0
    return {rank: (packing * factor, unpacking * factor) for rank, (packing, unpacking) in shares.items()}


def _ways(parts: Sequence[Part], shares: Mapping[int, Share]) -> Iterator[Share]:
    """(packing, unpacking) that follow each other: of every rank itself, and at the two ends of every message."""
    yield from shares.values()
    for part, program in parts:
        for message in part.sends:
            yield shares[program.rank][0], shares[message.target][1]
