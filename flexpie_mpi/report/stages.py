"""Pipelines for people and for scripts: stages, what they are predicted to take, and how good they are among all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ..pipeline import Pipeline, Problem, Streamed
from ..placement import Stage
from .tables import Column, Item, Table
from .units import count_of, mb, milli, ms, percent, ranges, rate

_STAGES = (
    Column("stage", "number"),
    Column("boards"),
    Column("first node", "name"),
    Column("last node", "name"),
    Column("compute", "number"),
    Column("receive", "number"),
    Column("send", "number"),
    Column("MB", "number"),
)

_COMPARED = (
    Column("planner"),
    Column("requests/s", "number"),
    Column("of best", "number"),
    Column("stages", "number"),
    Column("boards", "number"),
    Column("latency", "number"),
    Column("bottleneck", "name"),
    Column("search", "number"),
)


@dataclass(frozen=True)
class Throughput:
    """A pipeline with what its prediction stands on.

    Attributes
    ----------
    problem : Problem
    pipeline : Pipeline
    others : mapping of str to Pipeline or str
        Other planners' answers to the same problem, or why they have none; empty where nothing is compared.
    boards, source : str
        Where the testbed and the cost model came from.
    planning_s : float
        Of everything, the cost model loaded.
    """

    problem: Problem
    pipeline: Pipeline
    others: Mapping[str, Pipeline | str]
    boards: str
    source: str
    planning_s: float


def throughput_items(found: Throughput) -> list[Item]:
    """The prediction in lines, a line per stage, and the planners that it is compared with."""
    made, testbed = found.pipeline, found.problem.testbed
    items: list[Item] = [
        f"plan     throughput, {made.solver}",
        f"boards   {testbed.ranks}; {found.boards}",
        f"costs    {found.source}",
        f"predicts {streamed_line(made.streamed)}",
        f"bound    {_bound(made)}",
        f"search   {count_of(made.explored, 'step')} in {made.search_s:.2f} s; planned in {found.planning_s:.2f} s",
        "",
        Table(_STAGES, tuple(_rows(found)), "predicted ms per request, and memory"),
        *_memory_lines(made.streamed),
    ]
    if found.others:
        items += ["", _compared(found)]
    return items


def throughput_record(found: Throughput) -> dict[str, Any]:
    """The same in seconds and bytes."""
    made, problem = found.pipeline, found.problem
    return {
        "objective": "throughput",
        "planner": made.solver,
        "planning_s": found.planning_s,
        "search_s": made.search_s,
        "explored": made.explored,
        **streamed_record(made.streamed),
        "lower_bound_s": made.lower_bound_s,
        "gap": made.gap,
        "is_optimal": made.is_optimal,
        "testbed": {"name": problem.testbed.name, "digest": problem.testbed.digest},
        "boards": found.boards,
        "costs": found.source,
        "stages": [_stage_record(found, stage) for stage in made.placement.stages],
        "compared": {name: _other_record(other) for name, other in found.others.items()},
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


def _rows(found: Throughput) -> list[tuple[str, ...]]:
    made, root = found.pipeline, found.problem.root
    rows: list[tuple[str, ...]] = [
        (str(number), _crew(stage), *_ends(found, stage), *_numbers(made.streamed, stage.boards))
        for number, stage in enumerate(made.placement.stages)
    ]
    if root not in made.placement.boards:
        rows.append(("", str(root), "(root)", "", *_numbers(made.streamed, (root,))))
    return rows


def _crew(stage: Stage) -> str:
    """Boards and how they work together.

    >>> _crew(Stage(0, 2, (1,))), _crew(Stage(0, 2, (1, 2))), _crew(Stage(0, 2, (1, 2), together=True))
    ('1', '1-2 in turn', '1-2 together')
    """
    how = "" if len(stage.boards) == 1 else " together" if stage.together else " in turn"
    return f"{ranges(sorted(stage.boards))}{how}"


def _ends(found: Throughput, stage: Stage) -> tuple[str, str]:
    nodes, ends = found.problem.graph.nodes, found.problem.units.ends
    return nodes[ends[stage.begin]].name, nodes[ends[stage.end] - 1].name


def _numbers(streamed: Streamed, boards: Sequence[int]) -> tuple[str, str, str, str]:
    """Of the busiest of some boards: computing, receiving, sending, and memory."""
    asked = streamed.occupancy
    seconds = (max(float(part[board]) for board in boards) for part in (asked.compute_s, asked.receive_s, asked.send_s))
    memory = max(streamed.needs[board].total_bytes(streamed.in_flight) for board in boards)
    compute, receive, send = (milli(each) if each else "" for each in seconds)
    return compute, receive, send, mb(memory)


def _memory_lines(streamed: Streamed) -> list[str]:
    requests = count_of(streamed.in_flight, "request")
    few = "; the boards have no memory for more" if streamed.is_cramped else ""
    return [f"memory is that of {requests} under way{few}"]


def _bound(made: Pipeline) -> str:
    if made.is_optimal:
        return "proved: no placement that was searched is predicted to take more requests"
    if made.lower_bound_s <= 0:
        return "not proved: 'exact' says how far from the best it is"
    most = f"{rate(1 / made.lower_bound_s)} requests/s"
    return f"not proved; no placement is predicted to take more than {most}: at most {percent(made.gap)} off"


def _compared(found: Throughput) -> Table:
    answers = {found.pipeline.solver: found.pipeline, **found.others}
    seconds = [answer.seconds for answer in answers.values() if not isinstance(answer, str)]
    best_s = min(seconds)
    rows = [
        (name, *(("-",) * 6), "") if isinstance(answer, str) else _compared_row(name, answer, best_s)
        for name, answer in answers.items()
    ]
    return Table(_COMPARED, tuple(rows), "planners compared (latency in ms, search in s; - where nothing fits)")


def _compared_row(name: str, made: Pipeline, best_s: float) -> tuple[str, ...]:
    return (
        name,
        rate(1 / made.seconds),
        percent(best_s / made.seconds),
        str(len(made.placement.stages)),
        str(len(made.placement.boards)),
        milli(made.streamed.latency_s),
        made.streamed.bottleneck,
        f"{made.search_s:.2f}",
    )


def _stage_record(found: Throughput, stage: Stage) -> dict[str, Any]:
    streamed = found.pipeline.streamed
    asked, boards = streamed.occupancy, list(stage.boards)
    first, last = _ends(found, stage)
    return {
        "units": [stage.begin, stage.end],
        "first_node": first,
        "last_node": last,
        "boards": boards,
        "turns": 1 if stage.together else len(boards),
        "compute_s": float(asked.compute_s[boards].max()),
        "receive_s": float(asked.receive_s[boards].max()),
        "send_s": float(asked.send_s[boards].max()),
        "needed_bytes": max(streamed.needs[board].total_bytes(streamed.in_flight) for board in boards),
    }


def _other_record(other: Pipeline | str) -> dict[str, Any]:
    if isinstance(other, str):
        return {"error": other}
    return {
        "throughput_rps": 1 / other.seconds if other.seconds else None,
        "seconds_per_request": other.seconds,
        "latency_s": other.streamed.latency_s,
        "lower_bound_s": other.lower_bound_s if isfinite(other.lower_bound_s) else None,
        "search_s": other.search_s,
        "boards": len(other.placement.boards),
        "stages": len(other.placement.stages),
    }
