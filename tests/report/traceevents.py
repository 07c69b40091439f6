"""What the Trace Event Format asks of a file, and what a timeline asks of it."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from flexpie_mpi.core.timeline import KINDS

NUMBERS = (int, float)


def slices_of(trace, rank):
    """A track's complete events, in order."""
    return sorted((e for e in trace["traceEvents"] if e["ph"] == "X" and e["tid"] == rank + 1), key=lambda e: e["ts"])


def check_format(trace, ranks):
    """Every event is whole, every rank has a name and its slices follow each other, every flow has two ends."""
    events = trace["traceEvents"]
    assert {e["ph"] for e in events} <= {"M", "X", "s", "f"}
    for event in events:
        assert event["name"] and isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert isinstance(event["ts"], NUMBERS) and event["ts"] >= 0
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert [names[rank + 1].split(":")[0] for rank in range(ranks)] == [f"rank {rank}" for rank in range(ranks)]
    for rank in range(ranks):
        slices = slices_of(trace, rank)
        assert slices and all(isinstance(e["dur"], NUMBERS) and e["dur"] > 0 for e in slices)
        assert all(a["ts"] + a["dur"] <= b["ts"] + 1e-3 for a, b in pairwise(slices))
    check_flows(trace)


def check_flows(trace):
    """Both ends of an arrow lie in slices of the ranks and kinds they should, and it points forward."""
    flows = defaultdict(dict)
    for event in trace["traceEvents"]:
        if event["ph"] in "sf":
            assert event["ph"] not in flows[event["id"]]
            flows[event["id"]][event["ph"]] = event
    for ends in flows.values():
        start, finish = ends["s"], ends["f"]
        assert (start["name"], start["cat"]) == (finish["name"], finish["cat"]) and finish["bp"] == "e"
        assert _around(trace, start)["cat"] == "send" and _around(trace, finish)["cat"] in ("receive", "wait")
        assert start["ts"] <= finish["ts"] and start["tid"] != finish["tid"]


def _around(trace, event):
    """The slice that an end of an arrow lies in; of two that meet there the later one."""
    slices = slices_of(trace, event["tid"] - 1)
    return [e for e in slices if e["ts"] - 1e-3 <= event["ts"] <= e["ts"] + e["dur"] + 1e-3][-1]


def totals(trace, ranks):
    """Seconds by rank and kind."""
    return {
        (rank, kind): sum(e["dur"] for e in slices_of(trace, rank) if e["cat"] == kind) / 1e6
        for rank in range(ranks)
        for kind in KINDS
    }
