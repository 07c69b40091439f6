"""What each rank of a job does by itself, in seconds: computing, packing and unpacking.

The cost model prices an exchange as its slowest rank sees it, links included. The walk follows messages over the links
itself. So it is given the rest of that price, the *software*, which is what ranks do before messages leave and after
they have come::

    software = price of the exchange - what the links need for it alone     (0 where the links need more)

Software has two parts. One is what the exchange would cost even without bytes: ranks share it by the messages that they
send and receive. The other is shared by the bytes that they pack, unpack and copy. The shares are scaled so that the
sender and the receiver of the dearest message take all of the software together. So an exchange that all ranks begin at
once takes about what the cost model says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.graph import Graph
from ..core.program import Compute, Exchange, Program
from ..cost.groups import FusedGroup, StepWork, fused_groups
from ..cost.links import Part, arrival_rows, exchange_terms, job_parts, job_transfers, own_bytes
from ..cost.model import CostModel
from ..cost.rows import CALL, WORK
from ..testbed import Testbed
from .flows import sent, together_s

StepKey = tuple[int, int]
"""(rank, number of a segment or of an exchange)."""

_PACKED_ONCE = ("allgather", "broadcast")
"""Exchanges in which a rank sends the same to everyone, from one piece of memory."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Seconds of everything that a rank does by itself."""

    arrival_s: Mapping[int, float]  # of taking a request's inputs over, by rank: the root's
    # `compute_s`, `pack_s` and `unpack_s`: mapping of (rank, number) to float, of the segment, and of either half of
    # the exchange, with that number
    compute_s: Mapping[StepKey, float]
    pack_s: Mapping[StepKey, float]
    unpack_s: Mapping[StepKey, float]


def price_job(programs: Sequence[Program], graph: Graph, testbed: Testbed, cost: CostModel) -> Prices:
    """Prices of all steps of a job; arguments as of :func:`flexpie_mpi.simulate.simulate`.

    The cost model gets one question of each kind for the whole job, with equal work in it only once.
    """
    parts = job_parts(programs)
    numbers, rows = job_transfers(programs, testbed)
    arrivals = arrival_rows([sum(program.buffers[index].nbytes for _, index in program.inputs) for program in programs])
    bare_s, whole_s = exchange_terms(np.concatenate((rows, arrivals)), cost)
    pack_s: dict[StepKey, float] = {}
    unpack_s: dict[StepKey, float] = {}
    for number, row, bare, seconds in zip(numbers, rows, bare_s.tolist(), whole_s.tolist(), strict=False):
        messages = (sent(message, testbed) for part, _ in parts[number] for message in part.sends)
        software_s = max(0.0, seconds - together_s(testbed, messages))
        fixed, volume = max(0.0, bare - float(row["latency_s"])), max(0.0, seconds - bare - float(row["wire_s"]))
        for rank, (packing, unpacking) in _shares(parts[number], fixed, volume, software_s).items():
            pack_s[rank, number], unpack_s[rank, number] = packing, unpacking
    arrival_s = {p.rank: s for p, s in zip(programs, whole_s[len(rows) :].tolist(), strict=True) if p.inputs}
    return Prices(arrival_s, compute_seconds(programs, graph, testbed, cost), pack_s, unpack_s)


# Computing


def compute_seconds(
    programs: Sequence[Program],
    graph: Graph,
    testbed: Testbed,
    cost: CostModel,
    active: Mapping[int, float] | None = None,
) -> dict[StepKey, float]:
    """Seconds of every Compute step on its rank's device, its call included.

    As in a plan's price, ranks of one host crowd each other when they compute the same segment; `active` says how much
    each rank is crowded where that is known better.
    """
    groups, crowds = _groups_of(programs, graph), _crowds(programs, testbed, active)
    alike: dict[object, tuple[StepWork, float]] = {}
    keys: dict[StepKey, object] = {}
    for program in programs:
        for step in program.computes:
            step_key = (program.rank, step.segment)
            keys[step_key] = key = (_signature(step, program), crowds[step_key])
            alike.setdefault(key, (StepWork(graph, groups, program, step), crowds[step_key]))
    seconds = dict(zip(alike, _steps_s(list(alike.values()), cost), strict=True))
    return {step_key: seconds[key] * testbed.devices[step_key[0]].slowdown for step_key, key in keys.items()}


def _groups_of(programs: Sequence[Program], graph: Graph) -> tuple[FusedGroup, ...]:
    """The graph's fused groups, none of which reaches over the beginning of a segment."""
    firsts: dict[int, int] = {}
    for program in programs:
        for step in program.computes:
            positions = [graph.position[block.node] for block in step.blocks]
            firsts[step.segment] = min([firsts.get(step.segment, len(graph.nodes)), *positions])
    return fused_groups(graph, list(firsts.values()))


def _crowds(programs: Sequence[Program], testbed: Testbed, active: Mapping[int, float] | None) -> dict[StepKey, float]:
    """How much each rank's host is overloaded while the rank computes a segment; as `active` says where that is given.

    Otherwise it is by the ranks that compute the same segment.
    """
    teams: dict[int, list[int]] = {}
    for program in programs:
        for step in program.computes:
            teams.setdefault(step.segment, []).append(program.rank)
    crowds: dict[StepKey, float] = {}
    for segment, ranks in teams.items():
        loads = testbed.active(ranks) if active is None else [active[rank] for rank in ranks]
        crowds.update(zip(((rank, segment) for rank in ranks), loads, strict=True))
    return crowds


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


Share = tuple[float, float]
"""What one rank has to do before its messages leave, and after what it needs has come."""


def _shares(parts: Sequence[Part], fixed: float, volume: float, software_s: float) -> dict[int, Share]:
    """Seconds of packing and of unpacking by rank, of which the dearest way through the exchange takes `software_s`.

    `fixed` and `volume` say how much of the software goes by messages and how much by bytes.
    """
    # Emulation paces computing alone, and plans price exchanges alike on every board: a board whose slowdown also
    # slowed copying would have its shares multiplied here.
    messages = _scaled(parts, {program.rank: (len(part.sends), len(part.receives)) for part, program in parts})
    nbytes = _scaled(parts, {program.rank: _copied(part, program) for part, program in parts})
    both = {
        rank: (sending * fixed + nbytes[rank][0] * volume, receiving * fixed + nbytes[rank][1] * volume)
        for rank, (sending, receiving) in messages.items()
    }
    return _scaled(parts, both, software_s)


def _copied(part: Exchange, program: Program) -> Share:
    """Bytes that a rank packs, and those that it unpacks or copies."""
    sizes = [message.nbytes for message in part.sends]
    packed = max(sizes, default=0) if part.kind in _PACKED_ONCE else sum(sizes)
    return packed, sum(message.nbytes for message in part.receives) + own_bytes(part, program)


def _scaled(parts: Sequence[Part], shares: Mapping[int, Share], total: float = 1.0) -> dict[int, Share]:
    """Shares in the same proportion, of which the dearest way adds up to `total`; zeros stay zeros.

    A way is the packing and the unpacking that follow each other: of one rank, or at the two ends of a message.
    """
    ends = ((p.rank, message.target) for part, p in parts for message in part.sends)
    ways = (*((rank, rank) for rank in shares), *ends)
    dearest = max(shares[source][0] + shares[target][1] for source, target in ways)
    factor = total / dearest if dearest else 0.0
    return {rank: (packing * factor, unpacking * factor) for rank, (packing, unpacking) in shares.items()}
