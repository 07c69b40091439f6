"""SimulatedRun runs on more and more boards: how much faster, how well used, and what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.graph import Graph
from ..lower import lower
from ..session.scaling import HELPS, ScalingStudy, SimulatedRun
from .chrome import Job, chrome_trace
from .plans import plan_record
from .tables import Column, Item, Table
from .units import count_of, mb, milli, ms, percent

_COUNTS = (
    Column("boards", "number"),
    Column("plan"),
    Column("latency", "number"),
    Column("speed-up", "number"),
    Column("eff.", "number"),
    Column("compute", "number"),
    Column("exch.", "number"),
    Column("wait", "number"),
    Column("memory", "number"),
    Column("sent", "number"),
)
_BEFORE = (*_COUNTS[:2], Column("before", "number"), *_COUNTS[2:5], *_COUNTS[8:])


def study_items(study: ScalingStudy, before: ScalingStudy | None = None) -> list[Item]:
    """A line for each number of boards, and what follows from them; beside `before`, the same without the change."""
    if before is None:
        rows = tuple(_row(study, found) for found in study.counts)
        title = "ms; shares of the slowest rank's time; MB on the fullest board, and sent"
        table = Table(_COUNTS, rows, title)
    else:
        pairs = zip(study.counts, before.counts, strict=True)
        rows = tuple(_changed_row(_row(study, found), was) for found, was in pairs)
        table = Table(_BEFORE, rows, f"what if {study.change}")
    return [table, *_verdicts(study)]


def study_record(study: ScalingStudy) -> dict[str, Any]:
    """The same in seconds and bytes."""
    return {
        "what_if": study.change or None,
        "one_board": _record(study, study.one),
        "counts": [_record(study, found) for found in study.counts],
        "break_even": study.break_even.boards if study.break_even else None,
        "enough": study.enough.boards,
    }


def _row(study: ScalingStudy, found: SimulatedRun) -> tuple[str, ...]:
    speed_up, seconds, memory = study.speed_up(found), found.seconds, found.fullest
    times = (seconds["compute"], seconds["send"] + seconds["receive"], seconds["wait"])
    return (
        str(found.boards),
        found.made_by,
        milli(found.latency_s),
        f"{speed_up:.2f}",
        f"{speed_up / found.boards:.0%}",
        *(f"{spent / (found.latency_s or 1.0):.0%}" for spent in times),
        mb(memory.needed_bytes) + ("!" if memory.lacking_bytes else ""),
        mb(found.sent_bytes),
    )


def _changed_row(row: Sequence[str], was: SimulatedRun) -> tuple[str, ...]:
    return (*row[:2], milli(was.latency_s), *row[2:5], *row[8:])


def _verdicts(study: ScalingStudy) -> list[Item]:
    """What the numbers of boards amount to, in sentences."""
    items: list[Item] = []
    most, enough, even = study.counts[-1].boards, study.enough.boards, study.break_even
    if most > 1:
        if even is None:
            items.append(f"no number of boards here is faster than one board, which takes {ms(study.one.latency_s)}")
        else:
            items.append(f"break-even: {even.boards} boards are the fewest here that are faster than one")
    if len(study.counts) > 1:
        is_last = enough == most > 1
        ends = "the most that were tried, so more may help" if is_last else f"more help by less than {percent(HELPS)}"
        items.append(f"fastest: {count_of(enough, 'board')}, {ms(study.enough.latency_s)}; {ends}")
    return items + _shortages(study)


def _shortages(study: ScalingStudy) -> list[Item]:
    """What does not fit, the one board that speed-ups are against included."""
    short = {found.boards: found.fullest for found in (study.one, *study.counts) if found.fullest.lacking_bytes}
    return [
        f"! {count_of(boards, 'board')}: '{memory.board}' needs {mb(memory.needed_bytes)} MB and has "
        f"{mb(memory.limit_bytes or 0)}"
        + ("; speed-ups are against what it would take if it had them" if boards == 1 else "")
        for boards, memory in sorted(short.items())
    ]


def _record(study: ScalingStudy, found: SimulatedRun) -> dict[str, Any]:
    memory = found.fullest
    return {
        "boards": found.boards,
        "made_by": found.made_by,
        "latency_s": found.latency_s,
        "planned_s": found.planned_s,
        "speed_up": study.speed_up(found),
        "efficiency": study.speed_up(found) / found.boards,
        "slowest": {"rank": found.slowest, **{f"{kind}_s": spent for kind, spent in found.seconds.items()}},
        "memory": {
            "board": memory.board,
            "weight_bytes": memory.weight_bytes,
            "arena_bytes": memory.arena_bytes,
            "process_bytes": memory.process_bytes,
            "limit_bytes": memory.limit_bytes,
            "fits": not memory.lacking_bytes,
        },
        "sent_bytes": found.sent_bytes,
        "messages": found.messages,
        "plan": plan_record(found.plan),
    }


def simulated_trace(study: ScalingStudy, graph: Graph) -> dict[str, Any]:
    """The request on the most boards of a study as an object of the Trace Event Format."""
    last = study.counts[-1]
    job = Job(last.plan, graph, lower(last.plan.variant(0), graph), [memory.board for memory in last.memory])
    about = {"request": "simulated", "latency_s": last.latency_s, **({"what_if": study.change} if study.change else {})}
    return chrome_trace(last.timeline, job, about)
