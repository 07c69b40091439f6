"""Attribution: which kernel each event of a profile belongs to.

onnxruntime names a fused node after the last it was made of, or gives it a name of its own; it runs nodes in another
order than the graph's, and adds some of ours (crops) and some of its own (re-layouts, views).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..cost.groups import StepWork
from .profile import NodeEvent

CALL = -1
"""In place of a kernel's number: a part of the session's call."""

_SUFFIX = re.compile(r"(_nchwc|_token_\d+|/\w+/?|::\d+)$")
_BLOCKED = "_nchwc"
"""Behind this kind of name stands a value, behind all others a node."""
_PREFIX = "fused "
_RELAYOUT = ("ReorderInput", "ReorderOutput")
_VIEWS = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast")
"""What onnxruntime adds around nodes that it rewrites."""


@dataclass(frozen=True)
class Work(StepWork):
    """What one rank runs in one segment, as profiles name it."""

    @cached_property
    def names(self) -> dict[str, int]:
        """Kernel of nodes, and of crops, which belong to who reads them first."""
        found: dict[str, int] = {}
        for place, block in self.blocks.items():
            node = self.graph.bound[place]
            found[block.node] = self.owner[place]
            for value, region in zip(node.inputs, block.inputs, strict=True):
                if value is not None and region is not None and not value.is_constant:
                    found.setdefault(f"{value.name}{region}", self.owner[place])
        return found

    @cached_property
    def makers(self) -> dict[str, int]:
        """Kernel that makes each value."""
        return {name: n for place, n in self.owner.items() for name in self.graph.nodes[place].writes}

    @cached_property
    def borders(self) -> frozenset[tuple[int, ...]]:
        """Shapes of what enters and leaves."""
        buffers = (self.program.buffers[index] for _, index in (*self.step.inputs, *self.step.outputs))
        return frozenset(buffer.region.shape for buffer in buffers if buffer.region is not None)

    def made_here(self, number: int) -> tuple[int, ...] | None:
        """Shape of what a kernel's last node makes here."""
        places = [place for place, owner in self.owner.items() if owner == number]
        regions = [region for region in self.blocks[max(places)].outputs if region is not None]
        return regions[0].shape if regions else None

    def operators(self, number: int) -> Iterator[str]:
        group = self.groups[number]
        return (node.op for node in self.graph.nodes[group.first : group.end])


def attribute(run: Sequence[NodeEvent], work: Work) -> list[int]:
    """The kernel in `work` that each event of a run counts for; `CALL` for re-layouts at the segment's borders.

    Events under a strange name go to a kernel that has none and makes what they make, else to that of the event before.
    A re-layout inside belongs to the neighbour whose data is not in blocks. Nothing is left over.
    """
    known = {name: _known(name, work) for name in {event.name for event in run}}
    found: list[int | None] = [_border(event, work) or known[event.name] for event in run]
    idle = [number for number in work.numbers if number not in found]
    before = next((number for number in found if number is not None and number != CALL), CALL)
    result: list[int] = []
    for place, event in enumerate(run):
        number = found[place]
        if number is None and event.op == "ReorderOutput":
            number = next((n for n in found[place + 1 :] if n is not None and n != CALL), before)
        elif number is None and event.op not in _RELAYOUT:
            number = _adopt(event, idle, before, work)
        number = before if number is None else number
        before = before if number == CALL else number
        result.append(number)
    return [work.payer.get(number, number) for number in result]


def _known(name: str, work: Work) -> int | None:
    """The kernel that a name stands for, whatever fusions have appended to it."""
    if name.endswith(_BLOCKED) and (maker := work.makers.get(name.removesuffix(_BLOCKED))) is not None:
        return maker
    name = name.removeprefix(_PREFIX)
    while name not in work.names:
        shorter = _SUFFIX.sub("", name)
        if shorter == name:
            return None
        name = shorter
    return work.names[name]


def _border(event: NodeEvent, work: Work) -> int | None:
    """`CALL` for a re-layout of what enters or leaves."""
    return CALL if event.op in _RELAYOUT and event.shape in work.borders else None


def _adopt(event: NodeEvent, idle: list[int], before: int, work: Work) -> int | None:
    """The idle kernel that an event under a strange name stands for, which then is idle no more."""

    def is_strange(number: int) -> bool:
        return not any(op in event.op for op in work.operators(number))

    alike = [number for number in idle if work.made_here(number) == event.shape and event.op not in _VIEWS]
    ranked = sorted(alike, key=lambda number: (is_strange(number), number < before, number))
    if not ranked:
        return None
    idle.remove(ranked[0])
    return ranked[0]
