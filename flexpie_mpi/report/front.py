"""The front for people and for scripts: plans to choose from, and which to take at which rate of requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..pipeline import Candidate, Crossing, Problem
from .plans import plan_record
from .stages import streamed_record
from .tables import Column, Item, Table
from .units import count_of, milli, rate

_FRONT = (
    Column("plan", "number"),
    Column("planned for"),
    Column("boards", "number"),
    Column("latency", "number"),
    Column("requests/s", "number"),
    Column("bottleneck", "name"),
    Column("file", "name"),
)


@dataclass(frozen=True)
class Front:
    """Plans none of which is beaten in latency, rate and boards at once, with what they stand on.

    Attributes
    ----------
    problem : Problem
    candidates : tuple of Candidate
        By latency.
    crossings : tuple of Crossing
    paths : tuple of str
        Where the plans were written; empty where they were not.
    boards, source : str
        Where the testbed and the cost model came from.
    planning_s : float
    """

    problem: Problem
    candidates: tuple[Candidate, ...]
    crossings: tuple[Crossing, ...]
    paths: tuple[str, ...]
    boards: str
    source: str
    planning_s: float


def front_items(front: Front) -> list[Item]:
    """The front as a table, and the crossover in words."""
    return [
        f"boards   {front.problem.testbed.ranks}; {front.boards}",
        f"costs    {front.source}",
        f"search   {count_of(len(front.candidates), 'plan')} in {front.planning_s:.2f} s, none of them better in all",
        "",
        Table(_FRONT, tuple(_rows(front)), "latency (ms of one request alone), requests per second, and boards"),
        "",
        *crossing_lines(front.candidates, front.crossings),
    ]


def front_record(front: Front) -> dict[str, Any]:
    """The same in seconds."""
    paths = front.paths or ("",) * len(front.candidates)
    return {
        "objective": "pareto",
        "planning_s": front.planning_s,
        "testbed": {"name": front.problem.testbed.name, "digest": front.problem.testbed.digest},
        "boards": front.boards,
        "costs": front.source,
        "front": [
            {
                "planned_for": one.objective,
                "planner": str(one.streamed.plan.provenance.get("planner", "")),
                "boards": len(one.streamed.boards),
                "lower_bound_s": one.pipeline.lower_bound_s if one.pipeline else None,
                "gap": one.pipeline.gap if one.pipeline else None,
                **streamed_record(one.streamed),
                "file": path or None,
                "plan": plan_record(one.streamed.plan),
            }
            for one, path in zip(front.candidates, paths, strict=True)
        ],
        "crossings": [
            {"up_to_rps": crossing.rate if crossing.rate < float("inf") else None, "plan": crossing.candidate + 1}
            for crossing in front.crossings
        ],
        "crossover_rps": crossover(front.candidates, front.crossings),
    }


def crossover(candidates: Sequence[Candidate], crossings: Sequence[Crossing]) -> float | None:
    """Requests per second beyond which no plan for latency keeps up; None where a pipeline is never needed."""
    kept = [crossing.rate for crossing in crossings if candidates[crossing.candidate].pipeline is None]
    has_pipeline = any(candidates[crossing.candidate].pipeline is not None for crossing in crossings)
    return max(kept, default=0.0) if has_pipeline else None


def crossing_lines(candidates: Sequence[Candidate], crossings: Sequence[Crossing]) -> list[str]:
    """Which plan to take at which rate, and where plans for latency no longer keep up."""
    words = [f"up to {rate(crossing.rate)} requests/s: plan {crossing.candidate + 1}" for crossing in crossings]
    lines = [f"take     {'; '.join(words)}"]
    at = crossover(candidates, crossings)
    if at:
        lines.append(f"crosses  above {rate(at)} requests/s no plan for latency keeps up: a pipeline must be taken")
    elif at is None:
        lines.append("crosses  nowhere: no pipeline takes more requests than the plans for latency, streamed")
    else:
        lines.append("crosses  at once: a pipeline has the least latency, too")
    return lines


def _rows(front: Front) -> list[tuple[str, ...]]:
    paths = front.paths or ("",) * len(front.candidates)
    return [
        (
            str(number),
            one.objective,
            str(len(one.streamed.boards)),
            milli(one.streamed.latency_s),
            rate(1 / one.streamed.seconds) if one.streamed.seconds else "any",
            one.streamed.bottleneck,
            path,
        )
        for number, (one, path) in enumerate(zip(front.candidates, paths, strict=True), 1)
    ]
