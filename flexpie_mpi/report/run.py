"""A run for people and for scripts: latency, every rank's share, traffic, memory, and whether it was exact."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.plan import Plan
from ..core.region import Region
from .chrome import Job, chrome_trace
from .comparison import comparison_items, comparison_record
from .models import model_lines, model_record
from .plans import (
    choice_table,
    facts_record,
    plan_items,
    plan_record,
    planner_line,
    prediction_lines,
    prediction_record,
)
from .tables import Column, Item, Table
from .units import count_of, mb, milli, ms, ranges

if TYPE_CHECKING:  # who shows a run has all of it already
    from ..measure.compare import Verdict
    from ..measure.trial import RankTrial
    from ..model.equality import Check
    from ..runtime.crew import Loss
    from ..session.timing import TimedRun

_RANKS = (
    Column("rank", "number"),
    Column("compute", "number"),
    Column("exchange", "number"),
    Column("wait", "number"),
    Column("sent", "number", mb),
    Column("messages", "number"),
    Column("weights", "number", mb),
    Column("buffers", "number", mb),
    Column("peak", "number", mb),
)

SHOWN_SCORES = 5
"""So many scores of an output are shown, the highest."""

FEWEST_SCORES = 5
"""An output of fewer numbers is no vector of scores."""

_LATENCIES = ("median", "min", "p90")

_ROUNDING = {
    "": "",
    "levels": ", by what onnxruntime's own optimisation levels differ by",
    "nudges": ", by what one unit in the last place of biases and scales changes in onnxruntime itself",
}
"""What widened the tolerance, by the rule of a check."""


def run_items(run: TimedRun, *, everything: bool = False) -> list[Item]:
    """The run as lines and tables."""
    prediction = run.prediction
    raced: list[Item] = []
    compared: list[Item] = []
    if prediction and run.raced_s:
        raced = [choice_table(prediction.search.plans, run.raced_s, prediction.chosen), ""]
    if prediction and run.compared:
        compared = ["", *comparison_items(prediction.best, run.compared, everything=everything), ""]
    return [
        *model_lines(run.model),
        f"data     {_data(run.settings)}",
        f"ranks    {hosts_line(run.hosts)}",
        planner_line(run.plan),
        *(prediction_lines(prediction) if prediction else ()),
        "",
        *raced,
        *plan_items(run.facts, everything=everything),
        "",
        *_latency_lines(run),
        *loss_lines(run.losses),
        "",
        Table(_RANKS, [_rank_row(rank) for rank in run.trial.ranks], "per rank and request (ms; MB)"),
        _weights_line(run.trial.ranks),
        *compared,
        *_score_lines(run.outputs),
        *(verdict_lines(run.verdict, run.plan) if run.verdict else ()),
    ]


def run_record(run: TimedRun) -> dict[str, Any]:
    """The run in seconds and bytes."""
    trial = run.trial
    host = {rank: host for host, ranks in run.hosts.items() for rank in ranks}
    record: dict[str, Any] = {
        "model": model_record(run.model, run.source),
        "settings": dict(run.settings),
        "latency_s": {**{which: getattr(trial, f"{which}_s") for which in _LATENCIES}, "all": list(trial.latencies_s)},
        "first_result_s": trial.first_result_s,
        "ranks": [_rank_record(rank, host[rank.facts.rank]) for rank in trial.ranks],
        "plan": plan_record(run.plan),
        "plan_facts": facts_record(run.facts),
        "top": {
            name: [{"index": index, "score": finite(score)} for index, score in best]
            for name, best in top_scores(run.outputs).items()
        },
        "versions": dict(run.versions),
        "losses": [asdict(loss) for loss in run.losses],
    }
    record |= {"verify": verdict_record(run.verdict)} if run.verdict else {}
    return record | _prediction_record(run)


def run_trace(run: TimedRun) -> dict[str, Any]:
    """The timeline of a run that has one, in the Trace Event Format."""
    assert run.timeline is not None, "only a run that was recorded has a timeline"
    trial = run.trial
    hosts = [host for _, host in sorted((rank, host) for host, ranks in run.hosts.items() for rank in ranks)]
    pairs = zip(run.boards or hosts, hosts, strict=True)
    boards = [host if board == host else f"{board} on {host}" for board, host in pairs]
    turn = run.typical_turn
    job = Job(run.plan.variant(turn), run.model.graph, run.programs_by_turn[turn], boards)
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
            {"predicted_s": priced.seconds, "measured_s": measured_s, "kept": index == prediction.chosen}
            for index, (priced, measured_s) in enumerate(zip(prediction.search.plans, run.raced_s, strict=True))
        ]
    if run.compared:
        record["report"] = comparison_record(prediction.best, run.compared)
    return record


def _latency_lines(run: TimedRun) -> list[Item]:
    trial = run.trial
    times = ", ".join(f"{which} {ms(getattr(trial, f'{which}_s'))}" for which in _LATENCIES)
    counted = f"{count_of(len(trial.latencies_s), 'request')} after {run.settings.get('warmup', 0)} to warm up"
    return [
        f"latency  {times} ({counted}; the slowest rank counts)",
        f"start    first result {trial.first_result_s:.2f} s after the process began",
    ]


def loss_lines(losses: Sequence[Loss]) -> list[Item]:
    """Which ranks were lost, and how long that held the others up."""
    return [
        f"lost     {', '.join(f'rank {rank} on {host}' for rank, host in zip(loss.ranks, loss.hosts, strict=True))}"
        + (f", a gap of {loss.gap_s:.2f} s" if loss.gap_s is not None else "")
        + (f", {count_of(loss.replayed, 'request')} run again" if loss.replayed else "")
        for loss in losses
    ]


def hosts_line(hosts: Mapping[str, Sequence[int]]) -> str:
    """How many ranks there are, and where."""
    places = ", ".join(f"{host} ({ranges(ranks)})" for host, ranks in hosts.items())
    return f"{sum(map(len, hosts.values()))} on {places}"


def _data(settings: Mapping[str, Any]) -> str:
    files = ", ".join(settings.get("input", ()))
    output = settings.get("output")
    return (files or f"random, seed {settings.get('seed', 0)}") + (f"; outputs in {output}" if output else "")


def _rank_row(rank: RankTrial) -> tuple[Any, ...]:
    """What a rank spends a request on, with shares of the whole, and what it sends and holds."""
    times = (rank.compute_s, rank.exchange_s, rank.wait_s)
    spent = (f"{milli(seconds)} {seconds / (rank.total_s or 1.0):4.0%}" for seconds in times)
    facts = rank.facts
    sizes = (facts.weight_bytes, facts.arena_bytes, facts.peak_rss_bytes)
    return facts.rank, *spent, facts.sent_bytes, facts.messages, *sizes


def _rank_record(rank: RankTrial, host: str) -> dict[str, Any]:
    facts = asdict(rank.facts)
    times = {"compute_s": rank.compute_s, "exchange_s": rank.exchange_s, "wait_s": rank.wait_s}
    return {"rank": facts.pop("rank"), "host": host, **times, "weight_traffic": facts.pop("traffic"), **facts}


def _score_lines(outputs: Mapping[str, Any]) -> Iterator[Item]:
    for name, best in top_scores(outputs).items():
        scores = ", ".join(f"{index} ({score:.4g})" for index, score in best)
        yield f"top-{len(best)} of {name}: {scores}"


def _weights_line(ranks: Sequence[RankTrial]) -> str:
    facts = [rank.facts for rank in ranks]
    sent, cached = (sum(getattr(rank.traffic, name) for rank in facts) for name in ("sent_bytes", "cached_bytes"))
    largest = mb(max(rank.weight_bytes for rank in facts))
    start = f"{mb(sent)} MB sent between ranks, {mb(cached)} MB taken from caches"
    return f"weights  {largest} MB on the rank that holds most; at the start {start}"


# The best of scores


def is_score_vector(value: Any) -> bool:
    """Whether an output is a row of at least `FEWEST_SCORES` numbers, ``(K,)`` or ``(1, K)`` or ``(1, K, 1, 1)``."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        return False
    leading = value.shape[:-1] if value.ndim < 2 else (value.shape[0], *value.shape[2:])
    return value.ndim > 0 and value.size >= FEWEST_SCORES and all(extent == 1 for extent in leading) and value.ndim != 3


def top_scores(outputs: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """(index, score) of the highest scores, best first, of every output that is a score vector."""
    top = {}
    for name, value in outputs.items():
        if is_score_vector(value):
            scores = value.reshape(-1).astype(np.float64)
            order = np.argsort(-scores, kind="stable")[:SHOWN_SCORES]
            top[name] = [(int(index), float(scores[index])) for index in order]
    return top


# What ``--verify`` found


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """What ``--verify`` found."""
    record: dict[str, Any] = {"equal": verdict.is_equal, "outputs": list(map(check_record, verdict.outputs))}
    if verdict.first is not None:
        first = verdict.first
        record["first_divergence"] = {
            "segment": first.segment,
            "value": first.check.value,
            "max_difference": finite(first.check.largest),
            "region": _bounds(first.check.region),
            "ranks": list(first.ranks),
        }
    return record


def check_record(check: Check) -> dict[str, Any]:
    """One output beside its reference."""
    return {
        "name": check.value,
        "equal": not check.problem,
        "max_difference": finite(check.largest),
        "allowed": finite(check.allowed),
        "rounding": finite(check.rounding),
        "rule": check.rule or "tolerance",
        "region": _bounds(check.region),
        "problem": check.problem,
    }


def divergence_sentence(verdict: Verdict, plan: Plan) -> str:
    """Where the job and the reference part ways."""
    if verdict.random_node:
        return f"node '{verdict.random_node}' draws random numbers, so two runs need not agree"
    if verdict.first is None:
        return "no segment differs when it is run with all boundary values as outputs: the difference did not repeat"
    first, segment = verdict.first, plan.segments[verdict.first.segment]
    nodes = segment.nodes[0] + (f" .. {segment.nodes[-1]}" if len(segment.nodes) > 1 else "")
    return (
        f"the first segment that differs is {first.segment} ({nodes}; {segment.layout}) in value '{first.check.value}'"
        f"{_where(first.check)}, on rank {ranges(first.ranks)}: {first.check.problem}"
    )


def verdict_lines(verdict: Verdict, plan: Plan) -> list[Item]:
    """The verdict, and where the trouble begins if there is any."""
    if verdict.is_equal:
        return [f"verify   equal to one onnxruntime session: {', '.join(map(agreement, verdict.outputs))}"]
    wrong = [difference(check) for check in verdict.outputs if check.problem]
    return [
        f"verify   DIFFERS from one onnxruntime session: {'; '.join(wrong)}",
        f"verify   {divergence_sentence(verdict, plan)}",
    ]


def agreement(check: Check) -> str:
    """How near an output is, what is allowed, and why so much where rounding decided."""
    return f"{check.value} within {check.largest:.2g} (allowed {check.allowed:.2g}{_ROUNDING[check.rule]})"


def difference(check: Check) -> str:
    """What is wrong with an output."""
    return f"output '{check.value}'{_where(check)}: {check.problem}"


def _where(check: Check) -> str:
    return f" in {check.region}" if check.region is not None else ""


def finite(value: float) -> float | None:
    """A number that JSON has; None for infinities and NaN."""
    return value if math.isfinite(value) else None


def _bounds(region: Region | None) -> list[list[int]] | None:
    return None if region is None else [list(bounds) for bounds in region.bounds]
