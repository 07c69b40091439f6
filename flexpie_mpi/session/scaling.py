"""Studies of scaling: for each number of boards a plan, its programs, and a simulated request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from ..core.choices import AUTO, PRESETS
from ..core.errors import PlanError, count_of
from ..core.plan import Plan
from ..core.program import Program
from ..core.timeline import KINDS, Timeline
from ..cost.model import CostModel
from ..lower import lower
from ..lower.memory import RankMemory, memory_of
from ..model import Model
from ..planner import Task, layout_plan, make_plans, price
from ..simulate import simulate
from ..testbed import Sketch, Testbed
from .opening import PlanChoice, Tell
from .planning import rule_plan

HELPS = 0.01
"""Boards help that make a request faster by more than this share."""

SEARCHED = 16
"""Boards up to which all plans are searched by default: beyond it a search takes minutes."""

RULES = ("rows", "grid", "channels")
"""Plans that are tried beyond that, besides those of fewer boards."""

_OF = " of "
"""Between who planned and for how many boards, where a job has more."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a board must hold, in bytes, and what it may; None without a limit."""

    board: str
    need: RankMemory
    arena_bytes: int
    limit_bytes: int | None

    @property
    def needed_bytes(self) -> int:
        return self.need.total_bytes()

    @property
    def lacking_bytes(self) -> int:
        """What is needed beyond what there is; 0 where all fits."""
        return 0 if self.limit_bytes is None else max(0, self.needed_bytes - self.limit_bytes)


@dataclass(frozen=True)
class SimulatedRun:
    """One request on so many boards."""

    plan: Plan
    made_by: str  # who planned, in a word or two
    planned_s: float | None  # what the planner predicts; None where nobody asked
    timeline: Timeline
    memory: tuple[Memory, ...]  # by rank
    # `sent_bytes` and `messages`: of all ranks
    sent_bytes: int
    messages: int

    @property
    def boards(self) -> int:
        return self.plan.ranks

    @cached_property
    def latency_s(self) -> float:
        return self.timeline.latency_s

    @cached_property
    def slowest(self) -> int:
        """The rank that ends last, the lowest of several."""
        return min((event.rank for event in self.timeline.events if event.end_s == self.latency_s), default=0)

    @cached_property
    def seconds(self) -> dict[str, float]:
        """What the slowest rank's time goes to, by kind of event."""
        return {kind: self.timeline.total(kind, self.slowest) for kind in KINDS}

    @cached_property
    def fullest(self) -> Memory:
        """Of the board that lacks most memory, or else needs most."""
        return max(self.memory, key=lambda memory: (memory.lacking_bytes, memory.needed_bytes))


@dataclass(frozen=True)
class ScalingStudy:
    """One model on growing numbers of boards."""

    one: SimulatedRun  # on the first board alone: what speed-ups are measured against
    counts: tuple[SimulatedRun, ...]  # the fewest boards first
    change: str = ""  # what is otherwise than the testbed says, in the user's words; empty for nothing

    def speed_up(self, run: SimulatedRun) -> float:
        """How many times faster than one board."""
        return self.one.latency_s / run.latency_s if run.latency_s else 1.0

    @property
    def break_even(self) -> SimulatedRun | None:
        """The fewest boards that are faster than one; None when none are."""
        return next((run for run in self.counts if run.boards > 1 and self.speed_up(run) > 1), None)

    @property
    def enough(self) -> SimulatedRun:
        """The fewest boards that are as fast as any, but for `HELPS`."""
        best_s = min(run.latency_s for run in self.counts)
        return next(run for run in self.counts if run.latency_s <= best_s * (1 + HELPS))


class _Candidate(NamedTuple):
    """A plan, who made it, and what the planner predicts; None where nobody asked."""

    plan: Plan
    made_by: str
    seconds: float | None = None

    def on(self, ranks: int) -> _Candidate:
        """The same in a job of more ranks, which it leaves idle."""
        if self.plan.ranks == ranks:
            return self
        made_by = self.made_by if _OF in self.made_by else f"{self.made_by}{_OF}{self.plan.ranks}"
        return self._replace(plan=replace(self.plan, ranks=ranks), made_by=made_by)


_Chosen = tuple[_Candidate, Sequence[Program], tuple[Memory, ...]]
"""A plan with its programs and what they need of every board."""


@dataclass(frozen=True)
class Scaling:
    """Studies of one model."""

    model: Model
    choice: PlanChoice
    cost: CostModel
    given: Plan | None  # the plan of every count, where there is one
    tell: Tell

    def study(self, sketch: Sketch, counts: Sequence[int], change: str = "") -> ScalingStudy:
        """What the model takes on each number of boards, ascending.

        Raises PlanError, LayoutError when the arguments do not fit a number of boards. Raises TestbedError when there
        cannot be so many.
        """
        alone = sketch.testbed(1)
        one = self._simulated(self._chosen([self._searched(sketch, 1)], alone), alone)
        runs: list[SimulatedRun] = []
        best: _Candidate | None = None
        for count in counts:
            say = f"{count_of(count, 'board')}{f' if {change}' if change else ''}"
            self.tell(f"{say}: planning")
            testbed = sketch.testbed(count)
            chosen = self._chosen(self._candidates(sketch, testbed, best), testbed)
            self.tell(f"{say}: simulating")
            runs.append(self._simulated(chosen, testbed))
            best = chosen[0]
        return ScalingStudy(one, tuple(runs), change)

    def _candidates(self, sketch: Sketch, testbed: Testbed, best: _Candidate | None) -> Iterator[_Candidate]:
        """Plans for so many boards, the fastest that is predicted first."""
        planner, count = self.choice.planner, testbed.ranks
        if self.given is not None:
            yield _Candidate(self.given, str(self.given.provenance.get("planner", "")) or "given")
        elif planner in PRESETS:
            yield _Candidate(rule_plan(self.choice, self.model.graph, count), planner)
        elif planner != AUTO or count <= SEARCHED:
            yield self._searched(sketch, count)
        else:
            fewer = best if best and best.plan.ranks >= SEARCHED else self._searched(sketch, SEARCHED)
            rules = (self._ruled(rule, testbed) for rule in RULES)
            yield from sorted([*rules, fewer.on(count)], key=lambda each: each.seconds or 0.0)

    def _searched(self, sketch: Sketch, count: int) -> _Candidate:
        """The planner's best plan; that for boards with more memory where none fits."""
        choice, testbed = self.choice, sketch.testbed(count)
        planner = choice.planner if count > 1 else AUTO
        task = Task(self.model.graph, testbed, self.cost, parts=choice.partial, overlap=choice.overlap)
        try:
            search = make_plans(planner, task)
        except PlanError:
            search = make_plans(planner, replace(task, testbed=sketch.changed({"memory_bytes": None}).testbed(count)))
        return _Candidate(search.plans[0].plan, planner, search.plans[0].seconds)

    def _ruled(self, rule: str, testbed: Testbed) -> _Candidate:
        graph = self.model.graph
        plan = layout_plan(graph, testbed.ranks, rule)
        return _Candidate(plan, rule, price(plan, graph, testbed, self.cost).seconds)

    def _chosen(self, candidates: Iterable[_Candidate], testbed: Testbed) -> _Chosen:
        """The first plan that fits the boards; where none does, the first of all."""
        first: _Chosen | None = None
        for candidate in candidates:
            chosen = candidate.on(testbed.ranks)
            programs = lower(chosen.plan.variant(0), self.model.graph, testbed.blocks)
            needs = zip(memory_of([programs], self.model.graph), programs, testbed.devices, strict=True)
            memory = tuple(Memory(on.name, need, own.arena.nbytes, on.memory_bytes) for need, own, on in needs)
            first = first or (chosen, programs, memory)
            if not any(each.lacking_bytes for each in memory):
                return chosen, programs, memory
        assert first is not None, "there is a plan for any number of boards"
        return first

    def _simulated(self, chosen: _Chosen, testbed: Testbed) -> SimulatedRun:
        (plan, made_by, seconds), programs, memory = chosen
        timeline = simulate(programs, self.model.graph, testbed, self.cost)
        messages = [message for program in programs for message in program.sends]
        sent = sum(message.nbytes for message in messages)
        return SimulatedRun(plan, made_by, seconds, timeline, memory, sent, len(messages))
