"""A stream for people and for scripts: its rate, its latencies, and which stage or link kept it from being faster."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .models import model_lines, model_record
from .plans import plan_record, planner_line, race_lines, race_record
from .run import agreement, check_record, difference, hosts_line, loss_lines
from .tables import Column, Item, Table
from .units import count_of, milli, ms, percent, ranges, signed

if TYPE_CHECKING:
    from ..measure.compare import Findings
    from ..measure.throughput import StageLoad, Throughput
    from ..session.streaming import StreamRun

_STAGES = (
    Column("stage", "number", key="stage"),
    Column("ranks", "text", ranges, "ranks"),
    Column("turns", "number", lambda turns: str(turns) if turns > 1 else "", "turns"),
    Column("segments", "recorded", key="segments"),
    Column("first node", "name", key="first_node"),
    Column("last node", "name", key="last_node"),
    Column("busiest rank", "recorded", key="busiest_rank"),
    Column("busy", "number", percent, "busy_share"),
    Column("measured", "number", milli, "seconds_per_request"),
    Column("predicted", "number", milli, "predicted_s"),
)

_PERCENTILES = (50, 90, 99)

SATURATED = 0.9
"""A stage that computes for at least this share of the time is what the others wait for."""

STARVED = 0.1
"""A source that has nothing ready for at least this share of the time is what all wait for."""


def stream_items(stream: StreamRun) -> list[Item]:
    """The stream as lines and a table."""
    path = stream.settings.get("output")
    return [
        *model_lines(stream.model),
        f"data     {stream.data}",
        f"ranks    {hosts_line(stream.hosts)}",
        planner_line(stream.plan),
        *race_lines(stream.race),
        *([] if path is None else [f"output   {path}, {count_of(stream.written or 0, 'request')} in all"]),
        "",
        *_rate_lines(stream),
        *loss_lines(stream.losses),
        "",
        _stage_table(stream).without_empty(),
        *_bottleneck_lines(stream),
        *_findings_lines(stream.findings),
    ]


def stream_record(stream: StreamRun) -> dict[str, Any]:
    """The stream in seconds and bytes."""
    measured = stream.measured
    record: dict[str, Any] = {
        "model": model_record(stream.model, stream.source),
        "data": stream.data,
        "settings": dict(stream.settings),
        "requests": measured.requests,
        "warmup": measured.warmup,
        "in_flight": measured.in_flight,
        "stopped_by": stream.stopped_by or None,
        "unanswered": stream.left,
        "written": stream.written,
        "throughput_rps": measured.rate,
        "whole": {"throughput_rps": measured.whole_rate, "seconds": measured.whole_s},
        "source_had_none_s": measured.starved_s,
        "latency_s": _latencies(measured),
        "stages": _stage_table(stream).records,
        "bottleneck": _bottleneck_record(stream),
        "ranks": [
            {
                "rank": stats.rank,
                "busy_s": stats.busy_s,
                "busy_share": stats.busy_s / measured.engine_s if measured.engine_s else 0.0,
                "sent_bytes": stats.sent_bytes,
            }
            for stats in measured.stats
        ],
        "plan": plan_record(stream.plan),
        "race": race_record(stream.race),
        "versions": dict(stream.versions),
        "losses": [asdict(loss) for loss in stream.losses],
    }
    return record | ({"verify": _findings_record(stream.findings)} if stream.findings else {})


def _rate_lines(stream: StreamRun) -> list[Item]:
    measured = stream.measured
    ended = f"; stopped by {stream.stopped_by}" if stream.stopped_by else ""
    ended += f", {count_of(stream.left, 'request')} read and not run" if stream.left else ""
    lines: list[Item] = [
        f"stream   {count_of(measured.requests, 'request')} in {measured.whole_s:.2f} s, up to "
        f"{measured.in_flight} in flight{ended}"
    ]
    if measured.rate is None or not measured.latencies_s:
        return lines
    first = f" after {measured.warmup} to warm up" if measured.warmup else ""
    whole = f"; {_rps(measured.whole_rate)} with them" if measured.warmup and measured.whole_rate else ""
    lines.append(f"rate     {_rps(measured.rate)}{first}{whole}")
    each = ", ".join(f"p{share} {ms(measured.latency_s(share))}" for share in _PERCENTILES)
    lines.append(f"latency  {each}, max {ms(max(measured.latencies_s))}, from admission to delivery")
    return lines


def _stage_table(stream: StreamRun) -> Table:
    rows = []
    for number, load in enumerate(stream.measured.stages):
        stage, occupancy = load.stage, stream.occupancy
        predicted_s = None
        if occupancy is not None:
            predicted_s = max(float(occupancy.compute_s[rank]) for rank in stage.ranks)
        which = (number, list(stage.ranks), stage.period, list(stage.segments))
        rows.append((*which, *load.nodes, load.rank, load.busy_share, load.seconds, predicted_s))
    return Table(_STAGES, rows, "per stage: share of the time that its busiest rank computes, and ms per request")


def _bottleneck_lines(stream: StreamRun) -> list[Item]:
    measured, predicted = stream.measured, stream.occupancy
    if measured.rate is None:
        return []
    lines: list[Item] = [f"slowest  {_slowest(measured.busiest, measured)}"]
    if predicted is None:
        lines.append(_as_planned(stream, measured.rate))
    else:
        error = signed(measured.rate * predicted.seconds - 1)
        lines.append(
            f"predicts {_rps(predicted.per_s)}, {ms(predicted.seconds)} for each: {predicted.bottleneck} "
            f"({stream.basis}); measured {error}"
        )
    return lines


def _as_planned(stream: StreamRun, rate: float) -> str:
    """What the plan says that was predicted when it was made, where it does."""
    made = stream.plan.provenance
    if "predicted_s" not in made:
        return f"predicts nothing: {stream.basis}"
    seconds = float(made["predicted_s"])
    return (
        f"predicts {_rps(1 / seconds)}, {ms(seconds)} for each, by its plan, which was made for testbed "
        f"'{made.get('testbed', '?')}'; measured {signed(rate * seconds - 1)}"
    )


def _slowest(stage: StageLoad, measured: Throughput) -> str:
    where = f"stage {measured.stages.index(stage)}: rank {stage.rank} computes {ms(stage.seconds)} for each request"
    if stage.busy_share >= SATURATED:
        return f"{where}, {percent(stage.busy_share)} of the time"
    starved = measured.starved_s / measured.whole_s if measured.whole_s else 0.0
    if starved >= STARVED:
        return f"{where}; but {percent(starved)} of the time the source had no request ready"
    return f"{where}, {percent(stage.busy_share)} of the time: links, or too few requests in flight, hold it up"


def _bottleneck_record(stream: StreamRun) -> dict[str, Any]:
    measured, predicted = stream.measured, stream.occupancy
    stage, rate = measured.busiest, measured.rate
    return {
        "measured": {
            "stage": measured.stages.index(stage),
            "rank": stage.rank,
            "busy_share": stage.busy_share,
            "computes": stage.busy_share >= SATURATED,
            "seconds": 1 / rate if rate else None,
        },
        "predicted": None if predicted is None else {"name": predicted.bottleneck, "seconds": predicted.seconds},
        "measured_to_predicted": rate * predicted.seconds if predicted is not None and rate else None,
        "basis": stream.basis,
    }


def _latencies(measured: Throughput) -> dict[str, float | None]:
    latencies_s = measured.latencies_s
    if not latencies_s:
        return dict.fromkeys((*(f"p{share}" for share in _PERCENTILES), "max", "mean"))
    each: dict[str, float | None] = {f"p{share}": measured.latency_s(share) for share in _PERCENTILES}
    return each | {"max": max(latencies_s), "mean": sum(latencies_s) / len(latencies_s)}


def _findings_lines(findings: Findings | None) -> list[Item]:
    if findings is None:
        return []
    compared = f"{findings.requests} of {count_of(findings.requests, 'request')}"
    if findings.is_equal:
        worst = ", ".join(map(agreement, findings.worst))
        said = f": {worst}" if worst else ""
        return [f"verify   {compared} equal to one onnxruntime session, which ran beside them{said}"]
    wrong = "; ".join(difference(check) for check in findings.checks if check.problem)
    return [
        f"verify   request {findings.first} DIFFERS from one onnxruntime session: {wrong}",
        f"verify   {findings.different} of {count_of(findings.requests, 'request')} differ; that one without a stream "
        "shows the segment",
    ]


def _findings_record(findings: Findings) -> dict[str, Any]:
    return {
        "equal": findings.is_equal,
        "requests": findings.requests,
        "different": findings.different,
        "first_different": findings.first,
        "outputs": [check_record(check) for check in findings.checks or findings.worst],
    }


def _rps(rate: float | None) -> str:
    return "no requests/s" if rate is None else f"{rate:.3g} requests/s" if rate < 100 else f"{rate:.0f} requests/s"
