"""A study of scaling: for each number of boards a plan, its programs, and a simulated request."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..core.choices import PRESETS
from ..core.errors import PlanError
from ..core.plan import Plan
from ..core.program import Program
from ..cost.model import CostModel
from ..lower import lower
from ..lower.facts import weight_bytes
from ..model import Model
from ..planner import Task, layout_plan, make_plans, price
from ..planner.problem import RESERVE_BYTES
from ..report.units import count_of
from ..session.scaling import Memory, ScalingStudy, SimulatedRun
from ..simulate import simulate
from ..testbed import Sketch, Testbed
from .planning import AUTO, planner_of, rule_plan

SEARCHED = 16
"""Boards up to which all plans are searched by default: beyond it a search takes minutes."""

RULES = ("rows", "grid", "channels")
"""Plans that are tried beyond that, besides those of fewer boards."""

_OF = " of "
"""Between who planned and for how many boards, where a job has more."""


@dataclass(frozen=True)
class _Candidate:
    """A plan, who made it, and what the planner predicts; None where nobody asked."""

    plan: Plan
    made_by: str
    seconds: float | None = None

    def on(self, ranks: int) -> _Candidate:
        """The same in a job of more ranks, which it leaves idle."""
        if self.plan.ranks == ranks:
            return self
        made_by = self.made_by if _OF in self.made_by else f"{self.made_by}{_OF}{self.plan.ranks}"
        return replace(self, plan=replace(self.plan, ranks=ranks), made_by=made_by)


_Chosen = tuple[_Candidate, Sequence[Program], tuple[Memory, ...]]
"""A plan with its programs and what they need of every board."""


class Scaling:
    """Studies of one model.

    Parameters
    ----------
    args : Namespace
        ``layout``, ``fuse``, ``weights``, ``grid``: who plans.
    model : Model
    cost : CostModel
    given : Plan or None
        The plan of every count, where there is one.
    tell : callable
        Is told what goes on.
    """

    def __init__(
        self, args: argparse.Namespace, model: Model, cost: CostModel, given: Plan | None, tell: Callable[[str], None]
    ) -> None:
        self._args = args
        self._model = model
        self._cost = cost
        self._given = given
        self._tell = tell

    def study(self, sketch: Sketch, counts: Sequence[int], change: str = "") -> ScalingStudy:
        """What the model takes on each number of boards, ascending.

        Raises
        ------
        PlanError, LayoutError
            When the arguments do not fit a number of boards.
        TestbedError
            When there cannot be so many.
        """
        alone = sketch.testbed(1)
        one = self._simulated(*self._chosen([self._searched(sketch, 1)], alone), alone)
        found: list[SimulatedRun] = []
        best: _Candidate | None = None
        for count in counts:
            say = f"{count_of(count, 'board')}{f' if {change}' if change else ''}"
            self._tell(f"{say}: planning")
            testbed = sketch.testbed(count)
            chosen, programs, memory = self._chosen(self._candidates(sketch, testbed, best), testbed)
            self._tell(f"{say}: simulating")
            found.append(self._simulated(chosen, programs, memory, testbed))
            best = chosen
        return ScalingStudy(one, tuple(found), change)

    def _candidates(self, sketch: Sketch, testbed: Testbed, best: _Candidate | None) -> Iterator[_Candidate]:
        """Plans for so many boards, the fastest that is predicted first."""
        planner, count = planner_of(self._args), testbed.ranks
        if self._given is not None:
            yield _Candidate(self._given, str(self._given.provenance.get("planner", "")) or "given")
        elif planner in PRESETS:
            yield _Candidate(rule_plan(self._args, self._model.graph, count), planner)
        elif planner != AUTO or count <= SEARCHED:
            yield self._searched(sketch, count)
        else:
            fewer = best if best and best.plan.ranks >= SEARCHED else self._searched(sketch, SEARCHED)
            rules = (self._ruled(rule, testbed) for rule in RULES)
            yield from sorted([*rules, fewer.on(count)], key=lambda each: each.seconds or 0.0)

    def _searched(self, sketch: Sketch, count: int) -> _Candidate:
        """The planner's best plan; that for boards with more memory where none fits."""
        planner = planner_of(self._args) if count > 1 else AUTO
        try:
            found = make_plans(planner, Task(self._model.graph, sketch.testbed(count), self._cost))
        except PlanError:
            roomy = sketch.without_limits().testbed(count)
            found = make_plans(planner, Task(self._model.graph, roomy, self._cost))
        return _Candidate(found.plans[0].plan, planner, found.plans[0].seconds)

    def _ruled(self, rule: str, testbed: Testbed) -> _Candidate:
        graph = self._model.graph
        plan = layout_plan(graph, testbed.ranks, rule)
        return _Candidate(plan, rule, price(plan, graph, testbed, self._cost).seconds)

    def _chosen(self, candidates: Iterable[_Candidate], testbed: Testbed) -> _Chosen:
        """The first plan that fits the boards; where none does, the first of all."""
        first: _Chosen | None = None
        for candidate in candidates:
            chosen = candidate.on(testbed.ranks)
            programs = lower(chosen.plan.variant(0), self._model.graph)
            memory = tuple(_memory(self._model, program, testbed) for program in programs)
            first = first or (chosen, programs, memory)
            if not any(each.lacking_bytes for each in memory):
                return chosen, programs, memory
        assert first is not None, "there is a plan for any number of boards"
        return first

    def _simulated(
        self, chosen: _Candidate, programs: Sequence[Program], memory: tuple[Memory, ...], testbed: Testbed
    ) -> SimulatedRun:
        timeline = simulate(programs, self._model.graph, testbed, self._cost)
        messages = [message for program in programs for message in program.sends]
        sent = sum(message.nbytes for message in messages)
        return SimulatedRun(chosen.plan, chosen.made_by, chosen.seconds, timeline, memory, sent, len(messages))


def _memory(model: Model, program: Program, testbed: Testbed) -> Memory:
    device = testbed.devices[program.rank]
    weights = weight_bytes(model.graph, program)
    return Memory(device.name, weights, program.arena.nbytes, RESERVE_BYTES, device.memory_bytes)
