"""A run for people and for scripts: latency, every rank's share, traffic, memory, and whether it was exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..lower import lower
from ..measure.trial import RankTrial
from ..session.timing import TimedRun
from .chrome import Job, chrome_trace
from .plans import facts_record, model_lines, model_record, plan_items, plan_record, planner_line
from .predicted import (
    choice_table,
    comparison_items,
    comparison_record,
    prediction_lines,
    prediction_record,
)
from .scores import top
from .tables import Column, Item, Table
from .units import count_of, mb, milli, ms, ranges
from .verdicts import number, verdict_lines, verdict_record

_RANKS = (
    Column("rank", "number"),
    Column("compute", "number"),
    Column("exchange", "number"),
    Column("wait", "number"),
    Column("sent", "number"),
    Column("messages", "number"),
    Column("weights", "number"),
    Column("buffers", "number"),
    Column("peak", "number"),
)


def run_items(run: TimedRun, *, everything: bool = False) -> list[Item]:
    """The run as lines and tables."""
    return [
        *model_lines(run.model),
        f"data     {_data(run.settings)}",
        f"ranks    {hosts_line(run.hosts)}",
        planner_line(run.plan),
        *(prediction_lines(run.prediction) if run.prediction else ()),
        "",
        *_raced_items(run),
        *plan_items(run.facts, everything=everything),
        "",
        *_latency_lines(run),
        "",
        Table(_RANKS, tuple(_rank_row(rank) for rank in run.trial.ranks), "per rank and request (ms; MB)"),
        _weights_line(run.trial.ranks),
        *_compared_items(run, everything),
        *_score_items(run.outputs),
        *(verdict_lines(run.verdict, run.plan) if run.verdict else ()),
    ]


def run_record(run: TimedRun) -> dict[str, Any]:
    """The run in seconds and bytes."""
    trial = run.trial
    host = {rank: host for host, ranks in run.hosts.items() for rank in ranks}
    record: dict[str, Any] = {
        "model": model_record(run.model, run.source),
        "settings": dict(run.settings),
        "latency_s": {
            "median": trial.median_s,
            "min": trial.min_s,
            "p90": trial.p90_s,
            "all": list(trial.latencies_s),
        },
        "first_result_s": trial.first_result_s,
        "ranks": [_rank_record(rank, host[rank.facts.rank]) for rank in trial.ranks],
        "plan": plan_record(run.plan),
        "plan_facts": facts_record(run.facts),
        "top": {name: [{"index": i, "score": number(s)} for i, s in best] for name, best in top(run.outputs).items()},
        "versions": dict(run.versions),
    }
    record |= {"verify": verdict_record(run.verdict)} if run.verdict else {}
    return record | _prediction_record(run)


def run_trace(run: TimedRun) -> dict[str, Any]:
    """The timeline of the run as an object of the Trace Event Format."""
    assert run.timeline is not None, "only a run that was recorded has a timeline"
    plan, trial = run.plan, run.trial
    hosts = [host for _, host in sorted((rank, host) for host, ranks in run.hosts.items() for rank in ranks)]
    pairs = zip(run.boards or hosts, hosts, strict=True)
    boards = [host if board == host else f"{board} on {host}" for board, host in pairs]
    plan = plan.variant(int(run.settings["warmup"]) + trial.typical)
    job = Job(plan, run.model.graph, lower(plan, run.model.graph), boards)
    about = {
        "request": f"{trial.typical + 1} of {len(trial.latencies_s)} measured, the nearest to the median",
        "latency_s": trial.latencies_s[trial.typical],
        "median_latency_s": trial.median_s,
        **run.versions,
    }
    return chrome_trace(run.timeline, job, about)


def _prediction_record(run: TimedRun) -> dict[str, Any]:
    """What was predicted, what several plans took, and what every segment took, where any of it is known."""
    prediction = run.prediction
    if prediction is None:
        return {}
    record: dict[str, Any] = {"prediction": prediction_record(prediction)}
    if run.raced_s:
        record["autotune"] = [
            {"predicted_s": priced.seconds, "measured_s": measured_s, "kept": place == prediction.chosen}
            for place, (priced, measured_s) in enumerate(zip(prediction.search.plans, run.raced_s, strict=True))
        ]
    if run.compared:
        record["report"] = comparison_record(prediction.best, run.compared)
    return record


def _raced_items(run: TimedRun) -> list[Item]:
    if run.prediction is None or not run.raced_s:
        return []
    return [choice_table(run.prediction.search.plans, run.raced_s, run.prediction.chosen), ""]


def _compared_items(run: TimedRun, everything: bool) -> list[Item]:
    if run.prediction is None or run.compared is None:
        return []
    return ["", *comparison_items(run.prediction.best, run.compared, everything=everything), ""]


def _latency_lines(run: TimedRun) -> list[Item]:
    trial = run.trial
    times = f"median {ms(trial.median_s)}, min {ms(trial.min_s)}, p90 {ms(trial.p90_s)}"
    counted = f"{count_of(len(trial.latencies_s), 'request')} after {run.settings.get('warmup', 0)} to warm up"
    return [
        f"latency  {times} ({counted}; the slowest rank counts)",
        f"start    first result {trial.first_result_s:.2f} s after the process began",
    ]


def hosts_line(hosts: Mapping[str, Sequence[int]]) -> str:
    """How many ranks there are, and where."""
    places = ", ".join(f"{host} ({ranges(ranks)})" for host, ranks in hosts.items())
    return f"{sum(map(len, hosts.values()))} on {places}"


def _data(settings: Mapping[str, Any]) -> str:
    files = ", ".join(settings.get("input", ()))
    output = settings.get("output")
    return (files or f"random, seed {settings.get('seed', 0)}") + (f"; outputs in {output}" if output else "")


def _rank_row(rank: RankTrial) -> tuple[str, ...]:
    times = (rank.compute_s, rank.exchange_s, rank.wait_s)
    spent = (f"{milli(seconds)} {seconds / (rank.total_s or 1.0):4.0%}" for seconds in times)
    facts = rank.facts
    return (
        str(facts.rank),
        *spent,
        mb(facts.sent_bytes),
        str(facts.messages),
        mb(facts.weight_bytes),
        mb(facts.arena_bytes),
        mb(facts.peak_rss_bytes),
    )


def _rank_record(rank: RankTrial, host: str) -> dict[str, Any]:
    facts = asdict(rank.facts)
    return {
        "rank": facts.pop("rank"),
        "host": host,
        "compute_s": rank.compute_s,
        "exchange_s": rank.exchange_s,
        "wait_s": rank.wait_s,
        "weight_traffic": facts.pop("traffic"),
        **facts,
    }


def _score_items(outputs: Mapping[str, Any]) -> list[Item]:
    items: list[Item] = []
    for name, best in top(outputs).items():
        scores = ", ".join(f"{index} ({score:.4g})" for index, score in best)
        items.append(f"top-{len(best)} of {name}: {scores}")
    return items


def _weights_line(ranks: Sequence[RankTrial]) -> str:
    facts = [rank.facts for rank in ranks]
    sent, cached = (sum(getattr(rank.traffic, name) for rank in facts) for name in ("sent_bytes", "cached_bytes"))
    largest = mb(max(rank.weight_bytes for rank in facts))
    start = f"{mb(sent)} MB sent between ranks, {mb(cached)} MB taken from caches"
    return f"weights  {largest} MB on the rank that holds most; at the start {start}"
