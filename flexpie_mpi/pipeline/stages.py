"""From a placement to a plan: segments of every stage, and what each stage takes along for later ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..core.layout import Layout
from ..core.plan import Segment
from ..placement import Placement, Span
from ..planner.units import Units

TeamSegments = Mapping[tuple[tuple[int, ...], Span], tuple[Segment, ...]]
"""Segments of every team and span that is offered."""


def segments_of(units: Units, placement: Placement, team_segments: TeamSegments) -> tuple[Segment, ...]:
    """The segments of a plan that does as a placement says.

    Parameters
    ----------
    units : Units
    placement : Placement
    team_segments : mapping of (boards, span) to segments
    """
    stages = []
    for stage in placement.stages:
        span = (stage.begin, stage.end)
        stages.append(
            (span, team_segments[stage.boards, span] if stage.together else (alone(units, span, stage.boards),))
        )
    return tuple(with_forwards(units, stages))


def alone(units: Units, span: Span, boards: Sequence[int]) -> Segment:
    """Units that one board runs by itself; several take turns."""
    layouts = [Layout("single", (board,)) for board in boards]
    nodes = units.graph.nodes[units.ends[span[0]] : units.ends[span[1]]]
    return Segment(tuple(node.name for node in nodes), layouts[0], tuple(layouts[1:]))


def with_forwards(units: Units, stages: Sequence[tuple[Span, Sequence[Segment]]]) -> Iterator[Segment]:
    """Segments of stages, the first of each taking along what is alive before the stage and behind it."""
    for (begin, end), (first, *others) in stages:
        behind = set(units.alive[end])
        yield replace(first, forwards=tuple(name for name in units.alive[begin] if name in behind))
        yield from others
