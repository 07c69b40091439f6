"""How far walks are worth following when ranks are many: exact bounds keep the number of segments small.

With a few ranks every segment is priced. With dozens, most long segments recompute so much that no plan with them can
be the fastest: their work, and the least that the rest of the network takes, already exceed a plan that is known.

Segments of very long networks are bounded in length as well: that proves nothing, and the search says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .frame import Frame
from .walk import Step

MANY_ROWS = 160
"""Rows of a frame (ranks, summed over candidate layouts) up to which all segments are priced."""

MANY_UNITS = 256
"""Units up to which segments may have any length."""

MOST_STEPS = 2_000_000
"""Rows of all steps of all walks beyond that: about a quarter of a minute, and half a GB."""

MARGIN = 0.9
"""Share of a unit's least price alone that it is trusted to cost within any segment: a learned price may fall a little
where the work grows."""


Rule = Callable[[Frame, Step], np.ndarray]
"""Which walks may go on behind a step, bool array (walks,): how far a planner fuses."""


def least_seconds(units: int, steps: Iterable[Step]) -> np.ndarray:
    """The least that each unit costs in any layout, alone: float array (units,)."""
    found = np.zeros(units)
    for step in steps:
        slowest = np.maximum.reduceat(step.seconds, step.offsets[:-1])
        alone = slowest[(step.end == step.begin + 1) & step.legal]
        found[step.begin] = MARGIN * alone.min() if alone.size else 0.0
    return found


def alone(frame: Frame, step: Step) -> np.ndarray:
    """The rule by which every unit is a segment of its own."""
    return np.zeros(len(step.end), bool)


def longest(units: int, rows: int) -> int:
    """Most units of a segment that walks over so many units and rows are to follow."""
    return units if units <= MANY_UNITS else max(1, min(units, MOST_STEPS // (units * rows)))


def within(units: int, other: Rule | None = None) -> Rule:
    """The rule by which a walk goes on up to a number of units, and as another rule says."""

    def rule(frame: Frame, step: Step) -> np.ndarray:
        short: np.ndarray = step.end - step.begin < units
        return short if other is None else short & other(frame, step)

    return rule


def below(upper_s: float, least: np.ndarray) -> Rule:
    """The rule by which a walk goes on while a plan with it can still take less than `upper_s`."""
    before = np.concatenate(([0.0], np.cumsum(least)))

    def rule(frame: Frame, step: Step) -> np.ndarray:
        slowest = np.maximum.reduceat(step.seconds, step.offsets[:-1])
        rest = before[step.begin] + before[-1] - before[step.end]
        going: np.ndarray = slowest + rest <= upper_s
        return going

    return rule
