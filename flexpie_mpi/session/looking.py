"""A second look at a plan that runs: what its segments take, and what its shares cost beyond their share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a plan, on the root."""

    seen: Observation
    shares: Shares | None
    unshared: str  # why there are no shares; empty where there is nothing to say


@dataclass(frozen=True, slots=True)
class Looker:
    """Looks at the plan of an engine; every method is called by all ranks together."""

    engine: Engine
    make: Callable[[Plan], Engine]
    testbed: Testbed
    threads: int
    tell: Tell

    def look(self, request: Mapping[str, Any], repeat: int) -> Look | None:
        """Run the root's request `repeat` times, and as often on the root alone; None but on the root.

        Raises UntriedError on every rank, when the plan cannot be run again.
        """
        self.tell("looking at every segment")
        alone, why = self._alone()
        try:
            seen = observe([self.engine] if alone is None else [self.engine, alone], request, repeat)
        finally:
            if alone is not None:
                alone.close()
        shares = None
        if alone is not None:
            self.tell("looking at every kernel")
            try:
                shares = self._shares(alone, seen)
            except UntriedError as error:
                why = str(error)
        return Look(seen[0], shares, why) if seen else None

    def _alone(self) -> tuple[Engine | None, str]:
        """An engine in which the root does everything, to hold the plan against; None where there is none, and why."""
        plan, transport = self.engine.plan, self.engine.transport
        if transport.size == 1 or plan.period > 1:
            return None, ""
        graph = self.engine.model.graph
        alone = layout_plan(graph, transport.size, "single")
        both = (plan, alone)
        if len(turns_of_plans(transport, graph, [*both, *both], self.testbed)) > 1:  # profiles need both once more
            return None, "memory has no room for the whole model beside the plan"
        try:
            return self.make(alone), ""
        except TransportError:  # a rank is late, which the others do not know
            raise
        except FlexPieError as error:
            return None, str(error)

    def _shares(self, alone: Engine, seen: Sequence[Observation]) -> Shares | None:
        engine, devices = self.engine, self.testbed.devices
        slowdowns = engine.transport.all_gather(max(1.0, engine.pacer.slowdown))
        paces = [
            RankPace(devices[ROOT].slowdown / device.slowdown, slowdown)
            for device, slowdown in zip(devices, slowdowns, strict=True)
        ]
        programs = engine.programs, alone.programs
        return measure_shares(engine.transport, engine.model, seen, programs, paces, self.threads)
