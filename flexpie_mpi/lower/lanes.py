"""Lanes: which collectives of a rank may use the same memory for their messages, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count

from ..core.program import Compute, Finish, Start, Step

Span = tuple[int, int]
"""First and last step at which the messages of a collective hold something."""


def with_lanes(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps with a lane for every collective: the lowest that none it overlaps with has.

    Messages of a halo exchange can arrive from the beginning of a request on, so they share with none.
    """
    lanes: dict[int, int] = {}
    busy: dict[int, int] = {}  # last step of each lane that is taken
    for index, (begin, end) in sorted(spans_of(steps).items(), key=lambda item: item[1]):
        busy = {lane: last for lane, last in busy.items() if last >= begin}
        lanes[index] = next(lane for lane in count() if lane not in busy)
        busy[lanes[index]] = end
    return tuple(_in_lane(step, lanes) for step in steps)


def spans_of(steps: Sequence[Step]) -> dict[int, Span]:
    """Span of every collective, by index: from the step that packs it to the step that unpacks it."""
    spans: dict[int, Span] = {}
    for place, step in enumerate(steps):
        if isinstance(step, (Start, Finish)) and step.exchange.is_collective:
            begin, _ = spans.get(step.exchange.index, (place, place))
            spans[step.exchange.index] = (begin, place)
    return spans


def _in_lane(step: Step, lanes: Mapping[int, int]) -> Step:
    if isinstance(step, Compute) or step.exchange.index not in lanes:
        return step
    return replace(step, exchange=replace(step.exchange, lane=lanes[step.exchange.index]))
