"""The race that decides which of several plans a job starts; imported by all ranks of a job that has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.plan import Plan
from ..measure.agreement import Budget
from ..measure.observed import Observation
from ..measure.race import Outcome, race_in_turns
from ..measure.trial import Rounds, Tell
from ..model import Model
from ..runtime.engine import Engine
from ..runtime.transport import Transport
from ..testbed import Testbed
from .memory import turns_of_plans

FEW = Rounds(repeat=1, warmup=1, most=60, is_knockout=True)
"""Rounds of a race, as far as the time allows, and as long as it is not clear."""

ASKED = Rounds(repeat=5, warmup=2, most=60, is_knockout=True)
"""Rounds of a race that is asked for: so many at least, however long they take."""


def hold_race(
    transport: Transport,
    model: Model,
    plans: Sequence[Plan],
    make: Callable[[Plan], Engine],
    request: Mapping[str, Any],
    *,
    testbed: Testbed,
    seconds: float,
    is_asked: bool,
    tell: Tell,
) -> tuple[tuple[Outcome, ...], dict[int, Observation]]:
    """What became of each plan, the same on every rank; and on the root, by place, what its requests say.

    Parameters
    ----------
    transport, model : Transport, Model
        Of the job; called by all ranks together.
    plans : sequence of Plan
        The same on every rank.
    make : callable
        Makes the engine of a plan, or raises on every rank.
    request : mapping of str to array
        What plans are tried with, on the root; ignored elsewhere.
    testbed : Testbed
        The boards, whose memory says which engines are there together.
    seconds : float
        After which no round begins, but those that each race has.
    is_asked : bool
        Whether somebody has asked for a race, and waits for it.
    tell : callable
        Is told what goes on.
    """
    turns = turns_of_plans(transport, model.graph, plans, testbed)
    seen: dict[int, Observation] = {}
    budget = Budget(transport, seconds)
    rounds = ASKED if is_asked else FEW
    outcomes = race_in_turns(plans, turns, make, request, rounds, tell, budget=budget, seen=seen.__setitem__)
    return outcomes, seen
