"""Pipelines for people and for scripts: stages, how good they are among all, and the front of plans to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from .plans import inputs_lines, inputs_record, plan_record
from .tables import Column, Item, Table
from .units import count_of, mb, milli, ms, percent, ranges, rate

if TYPE_CHECKING:
    from ..pipeline import Candidate, Crossover, Pipeline, PlacementProblem, Streamed
    from ..placement import PlacedStage
    from ..session.inputs import PredictionInputs


def _seconds(seconds: float) -> str:
    """Milliseconds; empty for what takes no time."""
    return milli(seconds) if seconds else ""


_STAGES = (
    Column("units", "recorded", key="units"),
    Column("stage", "number"),
    Column("boards", "text"),
    Column("first node", "name", key="first_node"),
    Column("last node", "name", key="last_node"),
    Column("boards", "recorded", key="boards"),
    Column("turns", "recorded", key="turns"),
    Column("compute", "number", _seconds, "compute_s"),
    Column("receive", "number", _seconds, "receive_s"),
    Column("send", "number", _seconds, "send_s"),
    Column("MB", "number", mb, "needed_bytes"),
)

_COMPARED = (
    Column("planner"),
    Column("requests/s", "number", rate, "throughput_rps"),
    Column("per request", "recorded", key="seconds_per_request"),
    Column("of best", "number", percent),
    Column("stages", "number", key="stages"),
    Column("boards", "number", key="boards"),
    Column("latency", "number", milli, "latency_s"),
    Column("bottleneck", "name"),
    Column("bound", "recorded", key="lower_bound_s"),
    Column("search", "number", "{:.2f}".format, "search_s"),
)

_FRONT = (
    Column("plan", "number"),
    Column("planned for"),
    Column("boards", "number"),
    Column("latency", "number", milli),
    Column("requests/s", "number", rate),
    Column("bottleneck", "name"),
    Column("file", "name"),
)


# One pipeline


@dataclass(frozen=True)
class PlannedPipeline:
    """A pipeline with what its prediction stands on."""

    problem: PlacementProblem
    pipeline: Pipeline
    # Other planners' answers to the same problem, or why they have none; empty where nothing is compared
    others: Mapping[str, Pipeline | str]
    inputs: PredictionInputs
    planning_s: float  # seconds for everything once the cost model was loaded


def pipeline_items(planned: PlannedPipeline) -> list[Item]:
    """The prediction in lines, a line per stage, and the planners that it is compared with."""
    made, stages = planned.pipeline, _stage_table(planned)
    items: list[Item] = [
        f"plan     throughput, {made.solver}",
        *inputs_lines(planned.inputs),
        f"predicts {streamed_line(made.streamed)}",
        f"bound    {_bound(made)}",
        f"search   {count_of(made.explored, 'step')} in {made.search_s:.2f} s; planned in {planned.planning_s:.2f} s",
        "",
        Table(_STAGES, [*stages.rows, *_root_rows(planned)], stages.title),
        _memory_line(made.streamed),
    ]
    if planned.others:
        items += ["", _compared(planned)]
    return items


def pipeline_record(planned: PlannedPipeline) -> dict[str, Any]:
    """The pipeline in seconds and bytes."""
    made = planned.pipeline
    others = zip(planned.others.items(), _compared(planned).records[1:], strict=True)
    return {
        "objective": "throughput",
        "planner": made.solver,
        "planning_s": planned.planning_s,
        "search_s": made.search_s,
        "explored": made.explored,
        **streamed_record(made.streamed),
        "lower_bound_s": made.lower_bound_s,
        "gap": made.gap,
        "is_optimal": made.is_optimal,
        **inputs_record(planned.inputs),
        "stages": _stage_table(planned).records,
        "compared": {name: {"error": got} if isinstance(got, str) else record for (name, got), record in others},
    }


def streamed_line(streamed: Streamed) -> str:
    """Requests per second, latency, and what limits them."""
    many = f"{rate(1 / streamed.seconds)} requests/s" if streamed.seconds else "any number of requests/s"
    return (
        f"{many}, one every {ms(streamed.seconds)} ({streamed.bottleneck}); one request alone "
        f"takes {ms(streamed.latency_s)}"
    )


def streamed_record(streamed: Streamed) -> dict[str, Any]:
    """A plan under a stream of requests: rate, latency, and what every rank and every resource is occupied for."""
    asked, testbed = streamed.occupancy, streamed.occupancy.testbed
    return {
        "throughput_rps": 1 / streamed.seconds if streamed.seconds else None,
        "seconds_per_request": streamed.seconds,
        "latency_s": streamed.latency_s,
        "bottleneck": streamed.bottleneck,
        "in_flight": streamed.in_flight,
        "turns": streamed.plan.period,
        "ranks": [
            {
                "rank": need.rank,
                "compute_s": float(asked.compute_s[need.rank]),
                "send_s": float(asked.send_s[need.rank]),
                "receive_s": float(asked.receive_s[need.rank]),
                "sent_bytes": float(asked.sent_bytes[need.rank]),
                "weight_bytes": need.weight_bytes,
                "needed_bytes": need.total_bytes(streamed.in_flight),
                "memory_bytes": testbed.devices[need.rank].memory_bytes,
            }
            for need in streamed.needs
        ],
        "resources": [
            {"name": resource.name, "seconds": float(seconds)}
            for resource, seconds in zip(testbed.resources, asked.resource_s, strict=True)
        ],
    }


def _stage_table(planned: PlannedPipeline) -> Table:
    """A row per stage, with the numbers of its busiest board."""
    nodes, ends = planned.problem.graph.nodes, planned.problem.units.ends
    rows = []
    for number, stage in enumerate(planned.pipeline.placement.stages):
        boards = list(stage.boards)
        names = (nodes[ends[stage.begin]].name, nodes[ends[stage.end] - 1].name)
        turns = 1 if stage.together else len(boards)
        numbers = _busiest(planned.pipeline.streamed, boards)
        rows.append(([stage.begin, stage.end], number, shared_by(stage), *names, boards, turns, *numbers))
    return Table(_STAGES, rows, "predicted ms per request, and memory")


def _root_rows(planned: PlannedPipeline) -> list[tuple[Any, ...]]:
    """A row for the root where it is in no stage."""
    made, root = planned.pipeline, planned.problem.root
    if root in made.placement.boards:
        return []
    return [(None, "", str(root), "(root)", "", None, None, *_busiest(made.streamed, [root]))]


def _busiest(streamed: Streamed, boards: list[int]) -> tuple[float, float, float, int]:
    """The most that any of some boards computes, receives and sends, in seconds, and holds, in bytes."""
    asked = streamed.occupancy
    compute_s, receive_s, send_s = (float(of[boards].max()) for of in (asked.compute_s, asked.receive_s, asked.send_s))
    memory = max(streamed.needs[board].total_bytes(streamed.in_flight) for board in boards)
    return compute_s, receive_s, send_s, memory


def shared_by(stage: PlacedStage) -> str:
    """Boards and how they work together.

    >>> from flexpie_mpi.placement import PlacedStage
    >>> shared_by(PlacedStage(0, 2, (1,))), shared_by(PlacedStage(0, 2, (1, 2)))
    ('1', '1-2 in turn')
    >>> shared_by(PlacedStage(0, 2, (1, 2), together=True))
    '1-2 together'
    """
    how = "" if len(stage.boards) == 1 else " together" if stage.together else " in turn"
    return f"{ranges(sorted(stage.boards))}{how}"


def _memory_line(streamed: Streamed) -> str:
    few = "; the boards have no memory for more" if streamed.is_cramped else ""
    return f"memory is that of {count_of(streamed.in_flight, 'request')} under way{few}"


def _bound(made: Pipeline) -> str:
    if made.is_optimal:
        return "proved: no placement that was searched is predicted to take more requests"
    if made.lower_bound_s <= 0:
        return "not proved: 'exact' says how far from the best it is"
    most = f"{rate(1 / made.lower_bound_s)} requests/s"
    return f"not proved; no placement is predicted to take more than {most}: at most {percent(made.gap)} off"


def _compared(planned: PlannedPipeline) -> Table:
    """All planners that answered the same problem."""
    answers = {planned.pipeline.solver: planned.pipeline, **planned.others}
    best_s = min(answer.seconds for answer in answers.values() if not isinstance(answer, str))
    rows: list[tuple[Any, ...]] = []
    for name, answer in answers.items():
        if isinstance(answer, str):
            rows.append((name, "-", None, *("-",) * 5, None, ""))
            continue
        streamed, placement, seconds = answer.streamed, answer.placement, answer.seconds
        rates = (1 / seconds, seconds, best_s / seconds) if seconds else (None, seconds, 1.0)
        counts = (len(placement.stages), len(placement.boards))
        bound_s = answer.lower_bound_s if isfinite(answer.lower_bound_s) else None
        rows.append((name, *rates, *counts, streamed.latency_s, streamed.bottleneck, bound_s, answer.search_s))
    return Table(_COMPARED, rows, "planners compared (latency in ms, search in s; - where nothing fits)")


# The front


@dataclass(frozen=True)
class PlanFront:
    """Plans none of which is beaten in latency, rate and boards at once, with what they stand on."""

    candidates: tuple[Candidate, ...]  # by latency
    crossings: tuple[Crossover, ...]
    paths: tuple[str, ...]  # where the plans were written; empty where they were not
    inputs: PredictionInputs
    planning_s: float

    @property
    def named(self) -> list[tuple[Candidate, str]]:
        """The candidates, each with the file it was written to; empty where it was not."""
        return list(zip(self.candidates, self.paths or ("",) * len(self.candidates), strict=True))

    @property
    def crossover(self) -> float | None:
        """Requests per second beyond which no plan for latency keeps up; None where a pipeline is never needed."""
        is_pipeline = [self.candidates[crossing.candidate].pipeline is not None for crossing in self.crossings]
        kept = [each.rate for each, needs_stages in zip(self.crossings, is_pipeline, strict=True) if not needs_stages]
        return max(kept, default=0.0) if any(is_pipeline) else None


def front_items(front: PlanFront) -> list[Item]:
    """The front as a table, and the crossover in words."""
    rows = [
        (
            number,
            one.objective,
            len(one.streamed.boards),
            one.streamed.latency_s,
            1 / one.streamed.seconds if one.streamed.seconds else "any",
            one.streamed.bottleneck,
            path,
        )
        for number, (one, path) in enumerate(front.named, 1)
    ]
    return [
        *inputs_lines(front.inputs),
        f"search   {count_of(len(front.candidates), 'plan')} in {front.planning_s:.2f} s, none of them better in all",
        "",
        Table(_FRONT, rows, "latency (ms of one request alone), requests per second, and boards"),
        "",
        *_crossing_lines(front),
    ]


def front_record(front: PlanFront) -> dict[str, Any]:
    """The front in seconds, with all its plans."""
    return {
        "objective": "pareto",
        "planning_s": front.planning_s,
        **inputs_record(front.inputs),
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
            for one, path in front.named
        ],
        "crossings": [
            {"up_to_rps": crossing.rate if crossing.rate < float("inf") else None, "plan": crossing.candidate + 1}
            for crossing in front.crossings
        ],
        "crossover_rps": front.crossover,
    }


def _crossing_lines(front: PlanFront) -> list[str]:
    """Which plan to take at which rate, and where plans for latency no longer keep up."""
    words = [f"up to {rate(crossing.rate)} requests/s: plan {crossing.candidate + 1}" for crossing in front.crossings]
    lines = [f"take     {'; '.join(words)}"]
    at = front.crossover
    if at:
        lines.append(f"crosses  above {rate(at)} requests/s no plan for latency keeps up: a pipeline must be taken")
    elif at is None:
        lines.append("crosses  nowhere: no pipeline takes more requests than the plans for latency, streamed")
    else:
        lines.append("crosses  at once: a pipeline has the least latency, too")
    return lines
