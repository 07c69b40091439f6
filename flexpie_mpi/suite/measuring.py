"""Measuring a cell: its planners' plans on the ranks of a job, request by request in turn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..core.errors import FlexPieError
from ..core.plan import Plan
from ..cost.model import CostModel
from ..files.cache import Cache
from ..files.synthetic import random_inputs
from ..lower.memory import memory_of
from ..measure.trial import Outcome, Rounds, Trial, race_in_turns, try_request
from ..model import Model
from ..runtime.engine import Engine
from ..runtime.transport import Transport, on_root
from .candidates import CandidatePlan, candidate_plans
from .cells import Cell, Terms
from .memory import Footprint, room, turns
from .results import Result
from .rows import Run, Scene, Sheet

BASELINES = ("auto", "single")
"""Planners that take part in every turn, where memory does not hold the plans of all at once."""


@dataclass(frozen=True)
class Measurer:
    """What measures cells on a job; `measure` is called by all ranks together.

    Attributes
    ----------
    transport : Transport
    cache : Cache
    suite : str
        Its name.
    tell : callable
        Is told what goes on, between requests.
    """

    transport: Transport
    cache: Cache
    suite: str
    tell: Callable[[str], None] = lambda text: None

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

        def find() -> tuple[CandidatePlan, ...]:
            assert cost is not None, "the root has the cost model"
            found = candidate_plans(model, scene.testbed, cost, cell.planners, self.tell)
            return () if {name for candidate in found for name in candidate.planners} <= set(done) else found

        candidates = on_root(self.transport, find) or ()
        texts = self.transport.broadcast([candidate.plan.to_json() for candidate in candidates])
        if not texts:
            return ()
        limits = room(self.transport, scene.testbed, is_emulated=scene.is_emulated)
        order = self.transport.broadcast(_turns(model, candidates, limits))
        maker = _Maker(self, model, scene)
        inputs = on_root(self.transport, partial(random_inputs, model.graph, cell.terms.seed)) or {}
        plans = [Plan.from_json(text) for text in texts]
        outcomes = race_in_turns(plans, order, partial(maker.make, inputs), inputs, _rounds(cell.terms), self.tell)
        trials = [_sound(outcome) for outcome in outcomes]
        peaks = self.transport.all_gather([maker.peaks[plan.to_json()] for plan in plans])
        runs = [
            Run(candidate, trial, tuple(peak[place] for peak in peaks), _turn_of(place, order))
            for place, (candidate, trial) in enumerate(
                zip(candidates, trials, strict=False)
            )  # elsewhere there are none
        ]
        return Sheet(self.suite, cell, scene, model).rows(runs)


def _turns(model: Model, candidates: Sequence[CandidatePlan], limits: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    needed = [[need.engine_bytes() for need in memory_of([each.programs], model.graph)] for each in candidates]
    always = [place for place, candidate in enumerate(candidates) if set(candidate.planners) & set(BASELINES)]
    return turns(needed, limits, always)


def _sound(outcome: Outcome) -> Trial:
    """The trial of a plan that could be run; a cell is measured whole or not at all."""
    if isinstance(outcome, FlexPieError):
        raise outcome
    return outcome


def _turn_of(place: int, order: Sequence[Sequence[int]]) -> int:
    return next(number for number, turn in enumerate(order) if place in turn)


def _rounds(terms: Terms) -> Rounds:
    return Rounds(terms.repeats, terms.warmup, terms.most_repeats, terms.seconds)


class _Maker:
    """Makes this rank's engines, runs one request of each, and notes what memory that took."""

    def __init__(self, measurer: Measurer, model: Model, scene: Scene) -> None:
        device = scene.testbed.devices[measurer.transport.rank]
        self.peaks: dict[str, int] = {}
        self._footprint = Footprint()
        self._engine = partial(
            Engine,
            measurer.transport,
            model,
            cache=measurer.cache,
            threads=device.threads,
            slowdown=device.slowdown if scene.is_emulated else 1.0,
            is_trusted=True,
        )

    def make(self, inputs: Mapping[str, Any], plan: Plan) -> Engine:
        """The engine of a plan; called by all ranks together."""

        def made() -> Engine:
            engine = self._engine(plan)
            _, _, error = try_request(engine, inputs)
            if error is not None:
                engine.close()
                raise error
            return engine

        engine, peak = self._footprint.of(made)
        self.peaks.setdefault(plan.to_json(), peak)
        return engine
