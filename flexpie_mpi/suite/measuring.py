"""Measuring a cell: the plans that its planners find, run on the ranks of a job request by request in turn."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

from ..core.errors import FlexPieError, LayoutError, PlanError
from ..core.plan import Plan
from ..core.timeline import KINDS
from ..core.versions import machine, versions
from ..cost.model import CostModel
from ..files.cache import Cache
from ..files.synthetic import random_inputs
from ..lower import digest, lower
from ..lower.facts import PlanFacts, facts_of
from ..lower.memory import RankMemory, memory_of, memory_problems
from ..measure.race import fitting_turns, race_in_turns, room
from ..measure.trial import Footprint, Rounds, Trial, try_request
from ..model import Model
from ..planner import Search, Task, make_plans
from ..runtime.engine import Engine
from ..runtime.kernels import own_block
from ..runtime.provider import agreed_blocks
from ..runtime.transport import Transport, on_root
from ..simulate import simulate
from ..testbed import Testbed
from .cells import Cell
from .results import RankResult, Result

log = logging.getLogger(__name__)

BASELINES = ("auto", "single")
"""Planners that take part in every turn, where memory does not hold the plans of all at once."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a cell is measured."""

    testbed: Testbed  # with the ranks of the job
    digest: str  # of the whole testbed, or of the hosts
    bandwidth: float  # bytes per second of the whole testbed's slowest link or port; 0 where there is none
    is_emulated: bool  # whether ranks are paced by their devices' slowdown, on boards that are emulated
    cost: str  # where the cost model came from
    mpi: str  # the MPI library


def slowest(testbed: Testbed) -> float:
    """Bytes per second of the slowest link or port; 0 where there is none."""
    return min((resource.bandwidth for resource in testbed.resources), default=0.0)


@dataclass(frozen=True)
class CandidatePlan:
    """A plan that takes part, and what is known of it before it has run."""

    searches: dict[str, Search]  # by planner: all whose plan makes every rank do the same
    digest: str  # of its programs
    facts: PlanFacts
    memory: tuple[RankMemory, ...]
    simulated_s: float

    @property
    def plan(self) -> Plan:
        return next(iter(self.searches.values())).plans[0].plan


def candidate_plans(
    model: Model, testbed: Testbed, cost: CostModel, planners: Sequence[str], tell: Callable[[str], None]
) -> tuple[CandidatePlan, ...]:
    """The plans that planners find for all ranks of a testbed, each once.

    A planner whose plan fits no board is left out, and the log says why.
    """
    graph = model.graph
    candidates: dict[str, CandidatePlan] = {}
    for planner in planners:
        tell(f"planning {model.name}: {planner}")
        try:
            search = make_plans(planner, Task(graph, testbed, cost))
            plan = search.plans[0].plan
            programs = lower(plan, graph, testbed.blocks)
            memory = memory_of([programs], graph)
            for problem in memory_problems(memory, testbed):
                raise PlanError(problem)
        except (PlanError, LayoutError) as error:
            said = planner, model.name, testbed.ranks, testbed.name, error
            log.warning("planner %s has no plan of %s for %d ranks of %s: %s", *said)
            continue
        key = digest(programs)
        if key not in candidates:
            simulated_s = simulate(programs, graph, testbed, cost).latency_s
            candidates[key] = CandidatePlan({}, key, facts_of(plan, graph, programs), memory, simulated_s)
        candidates[key].searches[planner] = search
    return tuple(candidates.values())


@dataclass(frozen=True)
class Measurer:
    """What measures cells on a job; `measure` is called by all ranks together."""

    transport: Transport
    cache: Cache
    suite: str  # its name
    tell: Callable[[str], None] = lambda text: None  # is told what goes on, between requests

    def measure(
        self, cell: Cell, model: Model, scene: Scene, cost: CostModel | None, done: Collection[str] = ()
    ) -> tuple[Result, ...]:
        """The cell's rows, on the root; none elsewhere, and none where all planners that find a plan are done.

        Parameters
        ----------
        cell : Cell
        model : Model
            With the cell's batch, as :func:`flexpie_mpi.runtime.engine.load_shared` gives it.
        scene : Scene
            The same on every rank.
        cost : CostModel
            On the root.
        done : collection of str
            Planners that have their rows; read on the root.

        Raises
        ------
        FlexPieError
            On every rank, when a plan cannot be run.
        """
        blocks = agreed_blocks(self.transport, own_block())

        def find() -> tuple[CandidatePlan, ...]:
            assert cost is not None, "the root has the cost model"
            plans = candidate_plans(model, scene.testbed.with_blocks(blocks), cost, cell.planners, self.tell)
            return () if {name for candidate in plans for name in candidate.searches} <= set(done) else plans

        transport, terms = self.transport, cell.terms
        candidates = on_root(transport, find) or ()
        plans: list[Plan] = transport.broadcast([each.plan for each in candidates])
        if not plans:
            return ()
        limits = room(transport, scene.testbed, is_emulated=scene.is_emulated)
        order = transport.broadcast(_turns(candidates, limits))
        inputs = on_root(transport, partial(random_inputs, model.graph, terms.seed)) or {}
        peaks: dict[str, int] = {}
        make = self._maker(model, scene, inputs, peaks)
        rounds = Rounds(terms.repeats, terms.warmup, terms.most_repeats, terms.seconds)
        trials = []
        for outcome in race_in_turns(plans, order, make, inputs, rounds, self.tell):
            if isinstance(outcome, FlexPieError):  # a cell is measured whole or not at all
                raise outcome
            trials.append(outcome)
        peaks_of_ranks = transport.all_gather([peaks[plan.to_json()] for plan in plans])
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        rows: dict[str, Result] = {}
        for index, candidate in enumerate(candidates):  # there are none but on the root
            turn = next(number for number, plans_of_turn in enumerate(order) if index in plans_of_turn)
            ranks = tuple(_rank_results(scene, candidate, trials[index], [peak[index] for peak in peaks_of_ranks]))
            for planner in candidate.searches:
                asked = {"suite": self.suite, "planner": planner, "date": date, "turn": turn, "per_rank": ranks}
                rows[planner] = _result(cell, model, scene, candidate, trials[index], asked)
        return tuple(rows[planner] for planner in cell.planners if planner in rows)

    def _maker(
        self, model: Model, scene: Scene, inputs: Mapping[str, Any], peaks: dict[str, int]
    ) -> Callable[[Plan], Engine]:
        """What makes this rank's engine of a plan and runs a request of it, and notes the memory that took.

        It is called by all ranks together; `peaks` are by the plan's JSON text.
        """
        device, footprint = scene.testbed.devices[self.transport.rank], Footprint()
        slowdown = device.slowdown if scene.is_emulated else 1.0
        options: dict[str, Any] = {"cache": self.cache, "threads": device.threads, "slowdown": slowdown}

        def made(plan: Plan) -> Engine:
            engine = Engine(self.transport, model, plan, is_trusted=True, **options)
            _, _, error = try_request(engine, inputs)
            if error is not None:
                engine.close()
                raise error
            return engine

        def make(plan: Plan) -> Engine:
            engine, peak = footprint.of(partial(made, plan))
            peaks.setdefault(plan.to_json(), peak)
            return engine

        return make


def _turns(candidates: Sequence[CandidatePlan], limits: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    needed = [[need.engine_bytes() for need in each.memory] for each in candidates]
    always = [index for index, each in enumerate(candidates) if set(each.searches) & set(BASELINES)]
    return fitting_turns(needed, limits, always)


def _result(
    cell: Cell, model: Model, scene: Scene, candidate: CandidatePlan, trial: Trial, asked: Mapping[str, Any]
) -> Result:
    """The row of one planner; `asked` holds what is neither the plan's nor the scene's."""
    search = candidate.searches[asked["planner"]]
    best = search.plans[0]
    return Result(
        **asked,
        model=cell.model,
        model_digest=model.graph.digest,
        batch=cell.batch,
        testbed=cell.site.name,
        testbed_digest=scene.digest,
        topology=scene.testbed.topology.name,
        bandwidth=scene.bandwidth,
        ranks=scene.testbed.ranks,
        is_emulated=scene.is_emulated,
        plan=json.loads(best.plan.to_json()),
        plan_digest=candidate.digest,
        planning_s=search.planning_s,
        lower_bound_s=search.lower_bound_s,
        is_optimal=search.is_optimal,
        predicted_s=best.seconds,
        simulated_s=candidate.simulated_s,
        measured_s=trial.latencies_s,
        flops=candidate.facts.flops,
        repeats=cell.terms.repeats,
        warmup=cell.terms.warmup,
        versions=versions(scene.mpi),
        machine=machine(),
        cost=scene.cost,
    )


def _rank_results(scene: Scene, candidate: CandidatePlan, trial: Trial, peaks: Sequence[int]) -> Iterator[RankResult]:
    """Every rank's share of a plan's rows; `peaks` are its ranks' peaks of resident bytes."""
    everything = zip(scene.testbed.devices, trial.ranks, candidate.facts.ranks, candidate.memory, peaks, strict=True)
    for device, share, facts, memory, peak in everything:
        yield RankResult(
            rank=memory.rank,
            device=device.name,
            slowdown=device.slowdown,
            **{f"{kind}_s": getattr(share, f"{kind}_s") for kind in KINDS},
            **{name: getattr(facts, name) for name in _OF_FACTS},
            peak_rss_bytes=peak,
            needed_bytes=memory.total_bytes(),
            memory_bytes=device.memory_bytes,
        )


_OF_FACTS = ("flops", "sent_bytes", "messages", "weight_bytes", "arena_bytes")
"""What a rank's result takes from the facts of the plan as it is."""
