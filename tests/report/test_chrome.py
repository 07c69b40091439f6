from __future__ import annotations

import json

import pytest

from flexpie_mpi import AnalyticCost, Device, Engine, Layout, Plan, Segment, layout_plan, load, run_ranks, switch
from flexpie_mpi.core.timeline import KINDS, OF_NONE, Event, Timeline
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower import digest, lower
from flexpie_mpi.measure import observed as recorder_module
from flexpie_mpi.measure.observed import Recorder
from flexpie_mpi.measure.trial import measure
from flexpie_mpi.report.chrome import Job, chrome_text, chrome_trace
from flexpie_mpi.simulate import simulate
from tests.report.traceevents import check_format, slices_of, totals

RANKS = 3


@pytest.fixture(scope="module")
def model():
    return load("builtin:tiny_cnn")


@pytest.fixture(scope="module", params=["none", "all-legal"])
def job(request, model):
    plan = layout_plan(model.graph, RANKS, "rows", fusion=request.param)
    return Job(plan, model.graph, lower(plan, model.graph), ("pi0 on desk", "pi1 on desk", ""))


@pytest.fixture(scope="module")
def recorded(model, job):
    """A timeline of a real job, its trial, and what each rank said of the request by itself."""

    def rank(transport):
        engine = Engine(transport, model, job.plan)
        recorder, own = Recorder(transport), []

        def keep(began_s, timeline):
            own.append((began_s, timeline))
            recorder.keep(began_s, timeline)

        trial, _ = measure(engine, random_inputs(model.graph), repeat=3, warmup=1, keep=keep)
        return recorder.merged(trial.typical), trial, own[trial.typical]

    found = run_ranks(RANKS, rank)
    assert [timeline is None for timeline, _, _ in found] == [False, True, True]
    return found[0][0], found[0][1], [own for _, _, own in found]


def test_a_real_job_is_a_valid_trace_of_the_same_durations(job, recorded):
    timeline, trial, own = recorded
    trace = chrome_trace(timeline, job, {"latency_s": trial.median_s})
    check_format(trace, RANKS)
    for (rank, kind), seconds in totals(trace, RANKS).items():
        assert seconds == pytest.approx(timeline.total(kind, rank), abs=1e-7)
        assert seconds == pytest.approx(own[rank][1].total(kind, rank), abs=1e-7)
    assert json.loads(chrome_text(trace)) == trace
    about = trace["otherData"]
    assert about["model"] == "tiny_cnn" and about["plan_digest"] == digest(job.programs)
    assert about["ranks"] == {"rank 0": "pi0 on desk", "rank 1": "pi1 on desk", "rank 2": ""}
    assert about["latency_s"] == trial.median_s and about["timeline_s"] == timeline.latency_s
    origin_s = min(began_s for began_s, _ in own)
    firsts = [min(e.begin_s for e in timeline.events if e.rank == rank) for rank in range(RANKS)]
    assert firsts == pytest.approx([began_s - origin_s for began_s, _ in own], abs=1e-6)


def test_nothing_arrives_before_it_is_sent(job, recorded):
    timeline, _, _ = recorded
    messages = [
        (exchange.index, m) for program in job.programs for exchange in program.exchanges for m in exchange.sends
    ]
    assert messages
    for index, message in messages:
        sent = next(e for e in timeline.events if (e.rank, e.kind, e.segment) == (message.source, "send", index))
        taken = [e for e in timeline.events if (e.rank, e.kind, e.segment) == (message.target, "receive", index)][-1]
        assert sent.begin_s <= taken.end_s
    arrows = [e for e in chrome_trace(timeline, job, {})["traceEvents"] if e["ph"] == "s"]
    assert len(arrows) == len(messages)


def test_slices_say_what_they_are(job, recorded):
    trace = chrome_trace(recorded[0], job, {})
    for program in job.programs:
        slices = slices_of(trace, program.rank)
        assert slices[0]["name"] == "begin" and slices[-1]["name"] == "wait until all has left"
        computes = [e for e in slices if e["cat"] == "compute"]
        assert [e["args"]["segment"] for e in computes] == [step.segment for step in program.computes]
        for event in computes:
            segment = job.plan.segments[event["args"]["segment"]]
            assert event["name"].startswith(f"{segment.layout.kind} {segment.nodes[0]}")
            assert event["name"].endswith(segment.nodes[-1]) and event["args"]["nodes"] == len(segment.nodes)
        sends = {e["args"]["exchange"]: e for e in slices if e["cat"] == "send"}
        for exchange in program.exchanges:
            args = sends[exchange.index]["args"]
            assert args["kind"] == exchange.kind and args["bytes"] == sum(m.nbytes for m in exchange.sends)
            assert args.get("peers", "") == ",".join(str(m.target) for m in exchange.sends).replace("1,2", "1-2")
        received = sum(m.nbytes for exchange in program.exchanges for m in exchange.receives)
        assert sum(e["args"]["bytes"] for e in slices if e["cat"] == "receive" and e["name"] != "begin") == received


def test_slices_name_sums_and_their_parts(model):
    names = [node.name for node in model.graph.nodes]
    pool = next(place for place, node in enumerate(model.graph.nodes) if node.op == "GlobalAveragePool")
    everyone = tuple(range(RANKS))
    layouts = Layout("rows", everyone), Layout("rows", everyone, in_parts=True), Layout("single", (0,))
    spans = names[:pool], names[pool : pool + 1], names[pool + 1 :]
    segments = tuple(Segment(tuple(span), layout) for span, layout in zip(spans, layouts, strict=True))
    plan = Plan(segments, RANKS, model.graph.digest)
    job = Job(plan, model.graph, lower(plan, model.graph), ("",) * RANKS)
    testbed = switch([Device(f"b{rank}") for rank in range(RANKS)], 1e8, 1e-4)
    trace = chrome_trace(simulate(job.programs, model.graph, testbed, AnalyticCost()), job, {})
    slices = slices_of(trace, 0)
    assert f"rows in parts {names[pool]}" in [event["name"] for event in slices]
    sums = {event["args"]["puts together"] for event in slices if "puts together" in event["args"]}
    assert sums == {model.graph.nodes[pool].outputs[0]}


def test_the_flops_of_all_ranks_are_those_of_the_job(job, recorded):
    """Without redundant work they are the model's."""
    alone = layout_plan(job.graph, 1, "single")
    whole = Job(alone, job.graph, lower(alone, job.graph), ("",))
    everything = Timeline(
        tuple(Event(0, "compute", segment, segment, segment + 1) for segment in range(len(alone.segments)))
    )

    def flops(trace):
        return sum(e["args"].get("flops", 0) for e in trace["traceEvents"] if e["ph"] == "X")

    once, shared = flops(chrome_trace(everything, whole, {})), flops(chrome_trace(recorded[0], job, {}))
    assert shared >= once > 0
    assert len(job.plan.segments) < 10 or shared == once  # a segment per node computes nothing twice


def test_a_simulated_job_is_written_alike(job):
    testbed = switch([Device(f"pi{rank}", slowdown=8.0 * (1 + rank)) for rank in range(RANKS)], 1e8, 5e-5)
    timeline = simulate(job.programs, job.graph, testbed, AnalyticCost())
    trace = chrome_trace(timeline, job, {"made": "simulated"})
    check_format(trace, RANKS)
    for (rank, kind), seconds in totals(trace, RANKS).items():
        assert seconds == pytest.approx(timeline.total(kind, rank), abs=1e-7)
    names = {e["name"].split()[0] for rank in range(RANKS) for e in slices_of(trace, rank)}
    assert {"rows", "wait"} <= names and trace["otherData"]["made"] == "simulated"


def test_what_takes_no_time_is_left_out_and_unknown_exchanges_do_not_hurt(job):
    events = (
        Event(0, "wait", 2, 0.0, 0.0),
        Event(0, "compute", 0, 0.0, 1.0),
        Event(0, "wait", 99, 1.0, 1.5),
        Event(0, "wait", OF_NONE, 2.0, 2.5),
        Event(1, "compute", 0, 0.0, 1.0),
        Event(2, "send", 1, 0.0, 1.0),
    )
    trace = chrome_trace(Timeline(events), job, {})
    check_format(trace, RANKS)
    found = [(e["name"].split()[0], e["ts"], e["dur"]) for e in slices_of(trace, 0)]
    assert found == [("rows", 0.0, 1e6), ("wait", 1e6, 5e5), ("wait", 2e6, 5e5)]
    assert "cname" in slices_of(trace, 0)[0] and {e["cat"] for e in slices_of(trace, 0)} <= set(KINDS)


def test_a_clock_that_runs_apart_is_followed(monkeypatch):
    """Rank 1 is 5 s behind the root before the requests and 7 s after them: in the middle it is 6 s behind."""
    offsets = {0: iter((0.0, 0.0)), 1: iter((5.0, 7.0))}
    monkeypatch.setattr(recorder_module, "clock_offset", lambda transport, root, clock: next(offsets[transport.rank]))

    def rank(transport):
        times = iter((100.0, 200.0))
        recorder = Recorder(transport, 0, lambda: next(times))
        for began_s in (100.0, 150.0):
            recorder.keep(began_s + transport.rank, Timeline((Event(transport.rank, "compute", 0, 0.0, 1.0),)))
        return recorder.merged(1)

    timeline, nothing = run_ranks(2, rank)
    assert nothing is None
    begins = [event.begin_s for event in timeline.events]
    assert begins == pytest.approx([0.0, 1.0 + 6.0 + 0.02])  # 151 of its own is 1 % further on the way from 5 to 7
