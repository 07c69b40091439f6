"""Simulated runs on more and more boards: how much faster, how well used, and what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.graph import Graph
from ..core.program import Program
from ..lower.memory import PROCESS_BYTES
from ..session.scaling import HELPS, ScalingStudy, SimulatedRun
from .chrome import Job, chrome_trace
from .plans import plan_record
from .tables import Column, Item, Table
from .units import count_of, mb, milli, ms, percent

_share = "{:.0%}".format

_COUNTS = (
    Column("boards", "number"),
    Column("plan"),
    Column("latency", "number", milli),
    Column("speed-up", "number", "{:.2f}".format),
    Column("eff.", "number", _share),
    Column("compute", "number", _share),
    Column("exch.", "number", _share),
    Column("wait", "number", _share),
    Column("memory", "number"),
    Column("sent", "number", mb),
)
_BEFORE = (*_COUNTS[:2], Column("before", "number", milli), *_COUNTS[2:5], *_COUNTS[8:])
"""Columns of a study beside one before a change: its latency, but not what the time goes to."""


def study_items(study: ScalingStudy, before: ScalingStudy | None = None) -> list[Item]:
    """A line for each number of boards, and what follows from them; beside `before`, the same without the change."""
    rows = [_row(study, run) for run in study.counts]
    if before is None:
        table = Table(_COUNTS, rows, "ms; shares of the slowest rank's time; MB on the fullest board, and sent")
    else:
        pairs = zip(rows, before.counts, strict=True)
        changed = [(*row[:2], was.latency_s, *row[2:5], *row[8:]) for row, was in pairs]
        table = Table(_BEFORE, changed, f"what if {study.change}")
    return [table, *_verdicts(study)]


def study_record(study: ScalingStudy) -> dict[str, Any]:
    """The study in seconds and bytes."""
    return {
        "what_if": study.change or None,
        "one_board": _record(study, study.one),
        "counts": [_record(study, run) for run in study.counts],
        "break_even": study.break_even.boards if study.break_even else None,
        "enough": study.enough.boards,
    }


def _row(study: ScalingStudy, run: SimulatedRun) -> tuple[Any, ...]:
    speed_up, seconds, memory = study.speed_up(run), run.seconds, run.fullest
    times = (seconds["compute"], seconds["send"] + seconds["receive"], seconds["wait"])
    shares = (spent / (run.latency_s or 1.0) for spent in times)
    needed = mb(memory.needed_bytes) + ("!" if memory.lacking_bytes else "")
    return run.boards, run.made_by, run.latency_s, speed_up, speed_up / run.boards, *shares, needed, run.sent_bytes


def _verdicts(study: ScalingStudy) -> list[Item]:
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
    short = {run.boards: run.fullest for run in (study.one, *study.counts) if run.fullest.lacking_bytes}
    return [
        f"! {count_of(boards, 'board')}: '{memory.board}' needs {mb(memory.needed_bytes)} MB and has "
        f"{mb(memory.limit_bytes or 0)}"
        + ("; speed-ups are against what it would take if it had them" if boards == 1 else "")
        for boards, memory in sorted(short.items())
    ]


def _record(study: ScalingStudy, run: SimulatedRun) -> dict[str, Any]:
    memory = run.fullest
    return {
        "boards": run.boards,
        "made_by": run.made_by,
        "latency_s": run.latency_s,
        "planned_s": run.planned_s,
        "speed_up": study.speed_up(run),
        "efficiency": study.speed_up(run) / run.boards,
        "slowest": {"rank": run.slowest, **{f"{kind}_s": spent for kind, spent in run.seconds.items()}},
        "memory": {
            "board": memory.board,
            "weight_bytes": memory.need.weight_bytes,
            "arena_bytes": memory.arena_bytes,
            "process_bytes": PROCESS_BYTES,
            "needed_bytes": memory.needed_bytes,
            "limit_bytes": memory.limit_bytes,
            "fits": not memory.lacking_bytes,
        },
        "sent_bytes": run.sent_bytes,
        "messages": run.messages,
        "plan": plan_record(run.plan),
    }


def simulated_trace(study: ScalingStudy, graph: Graph, programs: Sequence[Program]) -> dict[str, Any]:
    """The request on the most boards of a study in the Trace Event Format; their plan was lowered to the `programs`."""
    last = study.counts[-1]
    job = Job(last.plan, graph, programs, [memory.board for memory in last.memory])
    about = {"request": "simulated", "latency_s": last.latency_s, **({"what_if": study.change} if study.change else {})}
    return chrome_trace(last.timeline, job, about)
