"""A second look at a plan that runs: what its segments take, and what its shares cost beyond their share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.errors import FlexPieError, TransportError
from ..core.plan import Plan
from ..measure.agreement import UntriedError
from ..measure.observed import Observation, observe
from ..measure.race import turns_of_plans
from ..measure.shares import RankPace, Shares, measure_shares
from ..planner import layout_plan
from ..runtime.engine import Engine
from ..testbed import Testbed
from .opening import ROOT, Tell


def look(
    engine: Engine,
    make: Callable[[Plan], Engine],
    request: Mapping[str, Any],
    repeat: int,
    *,
    testbed: Testbed,
    threads: int,
    tell: Tell,
) -> tuple[Observation, Shares | None, str] | None:
    """Run the root's request `repeat` times by an engine, and as often on the root alone; called by all ranks together.

    What was seen, the shares, and why there are none, empty where there is nothing to say; None but on the root. `make`
    makes the engine of another plan. Raises UntriedError on every rank, when the plan cannot be run again.
    """
    tell("looking at every segment")
    alone, why = _alone(engine, make, testbed)
    try:
        seen = observe([engine] if alone is None else [engine, alone], request, repeat)
    finally:
        if alone is not None:
            alone.close()
    shares = None
    if alone is not None:
        tell("looking at every kernel")
        try:
            shares = _shares(engine, alone, seen, testbed, threads)
        except UntriedError as error:
            why = str(error)
    return (seen[0], shares, why) if seen else None


def _alone(engine: Engine, make: Callable[[Plan], Engine], testbed: Testbed) -> tuple[Engine | None, str]:
    """An engine in which the root does everything, to hold the plan against; None where there is none, and why."""
    plan, transport = engine.plan, engine.transport
    if transport.size == 1 or plan.period > 1:
        return None, ""
    graph = engine.model.graph
    alone = layout_plan(graph, transport.size, "single")
    both = (plan, alone)
    if len(turns_of_plans(transport, graph, [*both, *both], testbed)) > 1:  # profiles need both once more
        return None, "memory has no room for the whole model beside the plan"
    try:
        return make(alone), ""
    except TransportError:  # a rank is late, which the others do not know
        raise
    except FlexPieError as error:
        return None, str(error)


def _shares(
    engine: Engine, alone: Engine, seen: Sequence[Observation], testbed: Testbed, threads: int
) -> Shares | None:
    slowdowns = engine.transport.all_gather(max(1.0, engine.pacer.slowdown))
    paces = [
        RankPace(testbed.devices[ROOT].slowdown / device.slowdown, slowdown)
        for device, slowdown in zip(testbed.devices, slowdowns, strict=True)
    ]
    programs = engine.programs, alone.programs
    return measure_shares(engine.transport, engine.model, seen, programs, paces, threads)
