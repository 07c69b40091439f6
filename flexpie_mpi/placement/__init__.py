"""Placement: which board runs which units of a network, so that requests follow each other as fast as they can.

In goes an :class:`Instance`, bare numbers; out comes a :class:`Placement` with its :class:`Loads` and a proved lower
bound. The one difficulty: the best crew for a stage depends on which boards the others leave it.
"""

from .exact import exact
from .instance import MOST_PERIOD, Instance, Span, Team, TeamSpan
from .loads import Loads, PlacedStage, Placement, loads, messages, problems
from .outcome import Outcome

__all__ = [
    "MOST_PERIOD",
    "Instance",
    "Loads",
    "Outcome",
    "PlacedStage",
    "Placement",
    "Span",
    "Team",
    "TeamSpan",
    "exact",
    "loads",
    "messages",
    "problems",
]
