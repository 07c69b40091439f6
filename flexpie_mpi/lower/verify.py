"""The verifier: whole-job properties of all ranks' programs, checked before anything runs.

Each violation is a sentence with a kind:

- ``unmatched``: a message that is sent and not received, or received and not sent, or with different pieces;
- ``duplicate``: two messages between the same ranks with the same tag;
- ``coverage``: a buffer is read before every element of what is read was written;
- ``regions``: a node is given less than it reads, or a rank leaves out part of its shard;
- ``sum``: a part of a value is left out, comes in twice, is not combined as the operator says, or read as if it were
  the whole;
- ``form``: a buffer in blocks begins within one or is too small, or a piece travels in blocks that its buffer lacks;
- ``order``: some rank would wait for ever, or ranks enter collectives in different orders;
- ``state``: what a rank keeps between requests is written while it is read, or is not what is left of the output;
- ``memory``: buffers that are alive together overlap, or collectives that are under way together share a staging slot.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.blocks import nbytes_of
from ..core.errors import ProgramError
from ..core.graph import ITEM_BYTES, BoundNode, Graph
from ..core.layout import Layout
from ..core.plan import Plan
from ..core.program import Buffer, Compute, Exchange, Finish, Message, NodeBlock, Program, Start
from ..core.region import Region
from ..ops import rule_for, widen
from .arena import in_arena, lifetimes, spans_of
from .shards import is_in_parts, live_out, part_block, shard_region
from .states import state_problems

log = logging.getLogger(__name__)

MOST_MESSAGES = 20_000
"""Messages of a job beyond which its programs are not verified."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: its `kind` (see the module), the `rank` it shows on, and a sentence."""

    kind: str
    rank: int
    text: str

    def __str__(self) -> str:
        return f"rank {self.rank}: {self.text} ({self.kind})"


def violations(programs: Sequence[Program], plan: Plan, graph: Graph) -> list[Violation]:
    """Every violation in the programs of a job; empty when they are sound."""
    broken = [*_pairing(programs), *_order(programs)]
    for program in programs:
        broken += [
            *_coverage(program),
            *_regions(program, plan, graph),
            *_memory(program),
            *_staging_slots(program),
            *_forms(program),
            *_states(program, graph),
        ]
    broken += _shards(programs, plan, graph)
    broken += _sums(programs, graph)
    return broken


def verify(turns: Sequence[Sequence[Program]], plan: Plan, graph: Graph) -> None:
    """Raise a ProgramError when the programs of any turn of a plan are not sound; of very large jobs none is looked at.

    That takes about half as long as lowering the plan: 0.1 s for ResNet-50 on 4 ranks, 0.5 s on 8, 1.7 s for the 12,000
    messages of ``channels`` on 16.

    Parameters
    ----------
    turns : sequence of sequence of Program
        Programs of all ranks, for every turn of the replicas.
    plan : Plan
    graph : Graph
    """
    count = sum(len(program.sends) for programs in turns for program in programs)
    if count > MOST_MESSAGES:
        log.info("the plan's %d messages are not verified: more than %d take too long to start", count, MOST_MESSAGES)
        return
    for request, programs in enumerate(turns):
        require_sound(programs, plan.variant(request), graph)


def require_sound(programs: Sequence[Program], plan: Plan, graph: Graph) -> None:
    """Raise a ProgramError with the first violation, if there is one."""
    broken = violations(programs, plan, graph)
    if broken:
        raise ProgramError(f"{broken[0]}" + (f", and {len(broken) - 1} more violations" if len(broken) > 1 else ""))


def _contents(message: Message) -> tuple[tuple[str, Region, int], ...]:
    return tuple((piece.value, piece.region, piece.block) for piece in message.pieces)


def _pairing(programs: Sequence[Program]) -> Iterable[Violation]:
    """Sends and receives match one to one by (source, target, tag), and carry the same."""
    sends = [m for program in programs for e in _parts(program, Start) for m in e.sends]
    receives = [m for program in programs for e in _parts(program, Finish) for m in e.receives]
    for side, messages in (("sends", sends), ("receives", receives)):
        for key, count in Counter((m.source, m.target, m.tag) for m in messages).items():
            if count > 1:
                rank = key[0] if side == "sends" else key[1]
                yield Violation("duplicate", rank, f"{side} {count} messages {key[0]} -> {key[1]} with tag {key[2]}")
    sent = {(m.source, m.target, m.tag): m for m in sends}
    received = {(m.source, m.target, m.tag): m for m in receives}
    for key in sent.keys() ^ received.keys():
        verb, rank = ("sent but never received", key[0]) if key in sent else ("awaited but never sent", key[1])
        yield Violation("unmatched", rank, f"message {key[0]} -> {key[1]} with tag {key[2]} is {verb}")
    for key in sent.keys() & received.keys():
        if _contents(sent[key]) != _contents(received[key]) or sent[key].nbytes != received[key].nbytes:
            text = f"message {key[0]} -> {key[1]} with tag {key[2]} is sent and received with different pieces"
            yield Violation("unmatched", key[1], text)


def _parts(program: Program, kind: type[Start] | type[Finish]) -> list[Exchange]:
    return [step.exchange for step in program.steps if isinstance(step, kind)]


def _order(programs: Sequence[Program]) -> Iterable[Violation]:
    """Run all ranks' steps against each other with no data: everyone must come to the end."""
    done = [0] * len(programs)
    started: set[tuple[int, int]] = set()
    for program in programs:
        yield from _own_order(program)
    moved = True
    while moved:
        moved = False
        for rank, program in enumerate(programs):
            while done[rank] < len(program.steps) and _can_run(program.steps[done[rank]], started):
                step = program.steps[done[rank]]
                if isinstance(step, Start):
                    started.add((rank, step.exchange.index))
                done[rank] += 1
                moved = True
    for rank, program in enumerate(programs):
        if done[rank] < len(program.steps):
            text = f"waits for ever at step {done[rank]} of {len(program.steps)}"
            yield Violation("order", rank, text)
    yield from _collective_order(programs)


def _can_run(step: Compute | Start | Finish, started: set[tuple[int, int]]) -> bool:
    if not isinstance(step, Finish):
        return True
    exchange = step.exchange
    waits_for = exchange.group if exchange.is_collective else [m.source for m in exchange.receives]
    return all((rank, exchange.index) in started for rank in waits_for)


def _own_order(program: Program) -> Iterable[Violation]:
    """On one rank an exchange starts before it ends, and each happens once."""
    seen: Counter[tuple[type, int]] = Counter()
    for step in program.steps:
        if isinstance(step, Compute):
            continue
        index = step.exchange.index
        if isinstance(step, Finish) and step.exchange.kind != "local" and not seen[Start, index]:
            yield Violation("order", program.rank, f"exchange {index} ends before it starts")
        seen[type(step), index] += 1
        if seen[type(step), index] > 1:
            yield Violation("duplicate", program.rank, f"exchange {index} is in the program more than once")


def _collective_order(programs: Sequence[Program]) -> Iterable[Violation]:
    """Ranks that share two collectives start them in the same order."""
    orders = [[e.index for e in _parts(program, Start) if e.is_collective] for program in programs]
    for rank, order in enumerate(orders):
        for other in range(rank + 1, len(orders)):
            shared = set(order) & set(orders[other])
            if [i for i in order if i in shared] != [i for i in orders[other] if i in shared]:
                yield Violation("order", other, f"starts collectives in another order than rank {rank}")


def _coverage(program: Program) -> Iterable[Violation]:
    """Walk the steps and keep what of each buffer was written; reads must find all of theirs."""
    missing: dict[int, list[Region]] = {b.index: [b.region] for b in program.buffers if b.region is not None}
    for index in (*(index for _, index in program.inputs), *(b.index for b in program.buffers if b.is_state)):
        missing[index] = []
    for number, step in enumerate(program.steps):
        for index, region in _reads(step):
            gap = next((g for box in missing.get(index, ()) if not (g := _within(box, region)).is_empty), None)
            if gap is not None:
                text = f"step {number} reads {gap} of '{program.buffers[index].value}', which nothing has written"
                yield Violation("coverage", program.rank, text)
        for index, written in _writes(step):
            boxes = missing.get(index, [])
            missing[index] = [rest for box in boxes for rest in box.subtract(written)] if written is not None else []
    for index in (*(index for _, index in program.outputs), *(kept.source for kept in program.kept)):
        if missing.get(index):
            text = f"output '{program.buffers[index].value}' lacks {missing[index][0]}"
            yield Violation("coverage", program.rank, text)


def _within(box: Region, region: Region | None) -> Region:
    return box if region is None else box.intersect(region)


Access = Iterable[tuple[int, Region | None]]
"""(buffer, region) pairs; None stands for all of the buffer."""


def _reads(step: Compute | Start | Finish) -> Access:
    if isinstance(step, Compute):
        yield from ((index, None) for _, index in step.inputs)
    elif isinstance(step, Start):
        yield from ((piece.buffer, piece.region) for m in step.exchange.sends for piece in m.pieces)
    else:
        yield from ((copy.source, copy.region) for copy in step.exchange.copies)


def _writes(step: Compute | Start | Finish) -> Access:
    if isinstance(step, Compute):
        yield from ((index, None) for _, index in step.outputs)
    elif isinstance(step, Finish):
        yield from ((piece.buffer, piece.region) for m in step.exchange.receives for piece in m.pieces)
        yield from ((copy.target, copy.region) for copy in step.exchange.copies)


def _regions(program: Program, plan: Plan, graph: Graph) -> Iterable[Violation]:
    """Every block reads what its operator's rule says, from something in its segment that holds it."""
    for step in program.computes:
        held = {name: program.buffers[index].region for name, index in step.inputs}
        for block in step.blocks:
            layout = plan.segments[step.segment].layout
            yield from _block_regions(program, graph, step, block, (layout, held))
            node = graph.bound[graph.position[block.node]]
            held.update(zip(node.node.outputs, block.outputs, strict=True))
        for name, index in step.outputs:
            if name not in held or held[name] != program.buffers[index].region:
                text = f"segment {step.segment} does not compute {program.buffers[index].region} of '{name}'"
                yield Violation("regions", program.rank, text)


def _block_regions(
    program: Program, graph: Graph, step: Compute, block: NodeBlock, place: tuple[Layout, dict[str, Region | None]]
) -> Iterable[Violation]:
    node, (layout, held) = graph.bound[graph.position[block.node]], place
    if not _reads_enough(program, graph, node, block, layout):
        text = f"node '{block.node}' of segment {step.segment} does not read what its output regions need"
        yield Violation("regions", program.rank, text)
    for value, region in zip(node.inputs, block.inputs, strict=True):
        if value is None or value.is_constant or region is None:
            continue
        have = held.get(value.name)
        if have is None or not have.contains(region):
            text = f"node '{block.node}' of segment {step.segment} reads {region} of '{value.name}' and has {have}"
            yield Violation("regions", program.rank, text)


def _reads_enough(program: Program, graph: Graph, node: BoundNode, block: NodeBlock, layout: Layout) -> bool:
    """Whether a block reads just what its output regions need, or its rank's part of the output."""
    if block.is_part:
        name = node.node.writes[0]
        return is_in_parts(graph, name, layout) and part_block(graph, name, layout, program.rank) == block
    return (
        widen(node, block.outputs) == block.outputs and rule_for(node).in_regions(node, block.outputs) == block.inputs
    )


def _sums(programs: Sequence[Program], graph: Graph) -> Iterable[Violation]:
    """Where a value is put together, every rank's part comes in once, all in one exchange, the first as a copy.

    An exchange takes them in the order of ranks, so that all sums are alike.
    """
    holders: dict[str, list[int]] = {}
    for program in programs:
        for name in sorted({buffer.value for buffer in program.buffers if buffer.is_part}):
            holders.setdefault(name, []).append(program.rank)
        yield from _parts_as_such(program, graph)
    for program in programs:
        for (_, index), arrived in _arrivals(program, programs).items():
            buffer = program.buffers[index]
            parts = [(rank, part, combine) for rank, part, combine, is_part in arrived if is_part]
            node = graph.bound[graph.producer[buffer.value]] if parts else None
            how = rule_for(node).combines(node) if node is not None else ""
            numbered = enumerate(holders.get(buffer.value, ()))
            wanted = [(rank, buffer.region, how if number else "") for number, rank in numbered]
            if any(combine for *_, combine, is_part in arrived if not is_part) or (parts and parts != wanted):
                text = f"{buffer.region} of '{buffer.value}' is put together from {len(parts)} parts in a wrong way"
                yield Violation("sum", program.rank, text)


def _parts_as_such(program: Program, graph: Graph) -> Iterable[Violation]:
    """What a rank has of a sum is marked as a part where it is made, and nobody reads a part for all of the value."""
    for step in program.computes:
        blocks = (block for block in step.blocks if block.is_part)
        parts = {name for block in blocks for name in graph.nodes[graph.position[block.node]].writes}
        for name, index in step.outputs:
            if program.buffers[index].is_part != (name in parts):
                text = f"buffer {index} does not say whether segment {step.segment} leaves '{name}' there in parts"
                yield Violation("sum", program.rank, text)
    for name, index in (*program.outputs, *(pair for step in program.computes for pair in step.inputs)):
        if program.buffers[index].is_part:
            yield Violation("sum", program.rank, f"a part of '{name}' is read as if it were all of it")


def _arrivals(program: Program, programs: Sequence[Program]) -> dict[tuple[int, int], list[Arrival]]:
    """What comes into each buffer by each exchange, by (exchange, buffer), in the order of ranks."""
    arrived: dict[tuple[int, int], list[Arrival]] = {}
    sent = {(m.source, m.tag): m for other in programs for m in other.sends if m.target == program.rank}
    for exchange in _parts(program, Finish):
        for message in exchange.receives:
            origin = sent.get((message.source, message.tag), message)
            for piece, begin in zip(message.pieces, origin.pieces, strict=False):
                is_part = origin is not message and programs[message.source].buffers[begin.buffer].is_part
                item = message.source, piece.region, piece.combine, is_part
                arrived.setdefault((exchange.index, piece.buffer), []).append(item)
        for copy in exchange.copies:
            item = program.rank, copy.region, copy.combine, program.buffers[copy.source].is_part
            arrived.setdefault((exchange.index, copy.target), []).append(item)
    return {key: sorted(items, key=lambda item: item[0]) for key, items in arrived.items()}


Arrival = tuple[int, Region, str, bool]
"""(rank, region, how it is combined, whether it is a part)."""


def _shards(programs: Sequence[Program], plan: Plan, graph: Graph) -> Iterable[Violation]:
    """Every rank computes at least its shard of all that leaves each segment; the root ends with every output."""
    computed = [_computed(program) for program in programs]
    for index, (segment, first, end) in enumerate(plan.spans):
        for name in live_out(graph, first, end):
            if graph.value(name).is_opaque:
                continue
            for rank in segment.layout.ranks:
                shard = shard_region(graph, name, segment.layout, rank)
                made = computed[rank].get((index, name), ())
                if shard is not None and not any(region.contains(shard) for region in made):
                    yield Violation("regions", rank, f"segment {index} does not compute its shard {shard} of '{name}'")
    root = programs[plan.root]
    for name, index in root.outputs:
        region = root.buffers[index].region
        if region is not None and not region.is_full(graph.value(name).shape or ()):
            yield Violation("regions", plan.root, f"output '{name}' is only {region}")


def _computed(program: Program) -> dict[tuple[int, str], list[Region]]:
    """What a rank computes of each value in each segment."""
    computed: dict[tuple[int, str], list[Region]] = {}
    for step in program.computes:
        for name, index in step.outputs:
            region = program.buffers[index].region
            computed.setdefault((step.segment, name), []).extend([region] if region is not None else [])
    return computed


def _states(program: Program, graph: Graph) -> Iterable[Violation]:
    """What is kept comes once, after the last step, out of the output that belongs there."""
    written = {index for step in program.steps for index, _ in _writes(step)}
    return (Violation("state", program.rank, text) for text in state_problems(program, graph, written))


def _memory(program: Program) -> Iterable[Violation]:
    """Buffers alive at the same step lie apart."""
    spans, offsets = lifetimes(program), program.arena.offsets
    alive: list[Buffer] = []
    for b in sorted((b for b in in_arena(program) if b.nbytes), key=lambda b: spans[b.index]):
        alive = [a for a in alive if spans[a.index][1] >= spans[b.index][0]]
        for a in alive:
            if offsets[a.index] < offsets[b.index] + b.nbytes and offsets[b.index] < offsets[a.index] + a.nbytes:
                yield Violation("memory", program.rank, f"buffers {a.index} and {b.index} overlap while both are alive")
        alive.append(b)


def _forms(program: Program) -> Iterable[Violation]:
    """Buffers have the memory that their form takes, and pieces travel row-major or as their buffer has them."""
    for b in program.buffers:
        if b.region is not None and b.block and (len(b.region.bounds) != 4 or b.region.bounds[1][0] % b.block):
            yield Violation("form", program.rank, f"buffer {b.index} of '{b.value}' does not begin with a whole block")
        elif b.region is not None and b.nbytes != nbytes_of(b.region, b.block, ITEM_BYTES[b.dtype]):
            yield Violation("form", program.rank, f"buffer {b.index} of '{b.value}' has {b.nbytes} bytes")
    messages = (m for exchange in program.exchanges for m in (*exchange.sends, *exchange.receives))
    for piece in (piece for message in messages for piece in message.pieces):
        if piece.block not in (0, program.buffers[piece.buffer].block):
            text = f"{piece.region} of '{piece.value}' travels in blocks of {piece.block}, which its buffer has not"
            yield Violation("form", program.rank, text)


def _staging_slots(program: Program) -> Iterable[Violation]:
    """Collectives of one staging slot follow each other."""
    slot_of = {exchange.index: exchange.staging_slot for exchange in program.exchanges}
    last: dict[int, tuple[int, int]] = {}
    for index, (begin, end) in sorted(spans_of(program.steps).items(), key=lambda item: item[1]):
        before, until = last.get(slot_of.get(index, -1), (-1, -1))
        if slot_of.get(index, -1) >= 0 and begin <= until:
            yield Violation("memory", program.rank, f"collectives {before} and {index} share a lane and overlap")
        last[slot_of.get(index, -1)] = (index, max(end, until))
