"""Rows: what was asked, found and measured in a cell, put together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from ..core.versions import machine, versions
from ..lower.memory import memory_of
from ..measure.trial import Trial
from ..model import Model
from ..planner import Search
from ..testbed import Testbed
from .candidates import CandidatePlan
from .cells import Cell
from .results import RankResult, Result


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a cell is measured.

    Attributes
    ----------
    testbed : Testbed
        With the ranks of the job.
    digest : str
        Of the whole testbed, or of the hosts.
    bandwidth : float
        Bytes per second of the whole testbed's slowest link or port; 0 where there is none.
    is_emulated : bool
        Whether ranks are paced by their devices' slowdown, on boards that are emulated.
    cost : str
        Where the cost model came from.
    mpi : str
        The MPI library.
    """

    testbed: Testbed
    digest: str
    bandwidth: float
    is_emulated: bool
    cost: str
    mpi: str


def slowest(testbed: Testbed) -> float:
    """Bytes per second of the slowest link or port; 0 where there is none."""
    return min((resource.bandwidth for resource in testbed.resources), default=0.0)


@dataclass(frozen=True, slots=True)
class Run:
    """A plan that has run: its trial, each rank's peak of resident bytes, and the turn in which it took part."""

    candidate: CandidatePlan
    trial: Trial
    peaks: tuple[int, ...]
    turn: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the rows of a cell have in common: the suite's name, the cell, where it is measured, and the model."""

    suite: str
    cell: Cell
    scene: Scene
    model: Model

    def rows(self, runs: Sequence[Run]) -> tuple[Result, ...]:
        """A row for every planner that has a plan, in the cell's order."""
        found: dict[str, Result] = {}
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        for run in runs:
            ranks = tuple(self._ranks(run))
            for planner, search in run.candidate.searches.items():
                found[planner] = self._row(run, planner, search, ranks, date)
        return tuple(found[planner] for planner in self.cell.planners if planner in found)

    def _row(self, run: Run, planner: str, search: Search, ranks: tuple[RankResult, ...], date: str) -> Result:
        cell, scene, best = self.cell, self.scene, search.plans[0]
        return Result(
            suite=self.suite,
            model=cell.model,
            model_digest=self.model.graph.digest,
            batch=cell.batch,
            testbed=cell.site.name,
            testbed_digest=scene.digest,
            topology=scene.testbed.topology.name,
            bandwidth=scene.bandwidth,
            ranks=scene.testbed.ranks,
            planner=planner,
            is_emulated=scene.is_emulated,
            plan=json.loads(best.plan.to_json()),
            plan_digest=run.candidate.digest,
            planning_s=search.planning_s,
            lower_bound_s=search.lower_bound_s,
            is_optimal=search.is_optimal,
            predicted_s=best.seconds,
            simulated_s=run.candidate.simulated_s,
            measured_s=run.trial.latencies_s,
            flops=run.candidate.facts.flops,
            per_rank=ranks,
            repeats=cell.terms.repeats,
            warmup=cell.terms.warmup,
            versions=versions(scene.mpi),
            machine=machine(),
            cost=scene.cost,
            date=date,
            turn=run.turn,
        )

    def _ranks(self, run: Run) -> Iterator[RankResult]:
        needs, memory = run.candidate.facts.ranks, memory_of([run.candidate.programs], self.model.graph)
        for rank, device in enumerate(self.scene.testbed.devices):
            share = run.trial.ranks[rank]
            yield RankResult(
                rank=rank,
                device=device.name,
                slowdown=device.slowdown,
                compute_s=share.compute_s,
                send_s=share.send_s,
                receive_s=share.receive_s,
                wait_s=share.wait_s,
                flops=needs[rank].flops,
                sent_bytes=needs[rank].sent_bytes,
                messages=needs[rank].messages,
                weight_bytes=needs[rank].weight_bytes,
                arena_bytes=needs[rank].arena_bytes,
                peak_rss_bytes=run.peaks[rank],
                needed_bytes=memory[rank].total_bytes(),
                memory_bytes=device.memory_bytes,
            )
