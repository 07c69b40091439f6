"""Plans, testbeds, suites and results: kinds of file that are text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from cases import Kind, Place
from mutate import TEXTS, changed, damaged, to_json, to_toml

from flexpie_mpi.core.graph import Graph
from flexpie_mpi.core.layout import KINDS
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.lower import turns_of
from flexpie_mpi.lower.verify import require_sound
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan, price
from flexpie_mpi.report import page as pages
from flexpie_mpi.report.plans import plan_record
from flexpie_mpi.report.planview import plan_view
from flexpie_mpi.session.opening import read_plan
from flexpie_mpi.simulate import simulate
from flexpie_mpi.suite.cells import read as read_suite
from flexpie_mpi.suite.results import RankResult, Result, append_results, read_results
from flexpie_mpi.testbed import Device, read_sketch, switch

_WHOLE = 0.15
"""Share of the cases that are valid but for bytes, and of those that change bytes after values."""


@cache
def graph() -> Graph:
    """A graph that plans are for."""
    with TemporaryDirectory() as folder:
        return load("builtin:tiny_cnn", cache=Cache(Path(folder))).graph


def _write(path: Path, text: str, rng: Random) -> Path:
    data = text.encode(errors="surrogatepass")
    path.write_bytes(damaged(data, rng) if rng.random() < _WHOLE else data)
    return path


# Plans


@cache
def _plans() -> tuple[Any, ...]:
    made = [layout_plan(graph(), ranks, kind) for ranks in (2, 3) for kind in ("rows", "channels", "grid")]
    records = [json.loads(plan.to_json()) for plan in made]
    taking_turns = json.loads(layout_plan(graph(), 4, "single").to_json())
    for segment in taking_turns["segments"]:
        segment["turns"] = [{"kind": "single", "ranks": [rank]} for rank in (1, 2)]
        segment["carries"] = []
    return (*records, taking_turns)


def _make_plan(rng: Random, place: Place) -> Path:
    names = (*TEXTS, *KINDS, *graph().inputs, *(node.name for node in graph().nodes[:4]))
    record = rng.choice(_plans())
    record = record if rng.random() < _WHOLE else changed(record, rng, names)
    return _write(place.files / "plan.json", to_json(record, rng), rng)


def _read_plan(path: Path, place: Place) -> object:
    """What ``infer --plan``, ``simulate --plan`` and ``report --plan`` do."""
    plan = read_plan(str(path))
    found = [plan_record(plan), plan_view(plan)]
    turns = turns_of(plan, graph())
    for turn, programs in enumerate(turns[:4]):
        require_sound(programs, plan.variant(turn), graph())
    testbed = switch([Device(f"board{rank}") for rank in range(plan.ranks)], 1e8, 5e-5)
    priced = price(plan, graph(), testbed, AnalyticCost())
    return [*found, plan_view(plan, graph(), turns), priced.seconds, plan.stages, plan.to_json()]


# Testbeds and suites

_TESTBEDS: tuple[dict[str, Any], ...] = (
    {
        "format": 1,
        "name": "four",
        "topology": "switch",
        "link": {"bandwidth": "1Gb/s", "latency": "50us"},
        "device": [{"name": "pi", "count": 4, "slowdown": 8.5, "memory": "2GiB", "threads": 1}],
    },
    {
        "topology": "ring",
        "link": {"bandwidth": "500Mb/s", "latency": "1ms"},
        "device": [{"name": "a", "host": "h", "cores": 2}, {"name": "b", "slowdown": 2, "bandwidth": "1Gb/s"}],
    },
    {"topology": "star", "device": [{"name": f"d{n}", "bandwidth": "1Gb/s", "latency": "1us"} for n in range(3)]},
)

_SUITE: dict[str, Any] = {
    "format": 1,
    "name": "made",
    "planners": ["auto", "rows", "single"],
    "repeats": 5,
    "most_repeats": 20,
    "seconds": 3,
    "warmup": 1,
    "trace_budget": 30.5,
    "study": [
        {"models": ["builtin:tiny_cnn", "m.onnx"], "testbeds": ["t.toml", "hosts"], "ranks": [1, 2], "batch": [1, 4]},
        {"models": ["builtin:resnet18"], "testbeds": ["t.toml"], "planners": ["layerwise"], "seed": 3},
    ],
}

_UNITS = (
    "1Gb/s",
    "0Gb/s",
    "-1us",
    "1e400Gb/s",
    "nanus",
    "5us",
    "1e-320s",
    "99999999999GiB",
    "1 B",
    "ring",
    "star",
    "hosts",
)


def _make_testbed(rng: Random, place: Place) -> Path:
    record = rng.choice(_TESTBEDS)
    record = record if rng.random() < _WHOLE else changed(record, rng, (*TEXTS, *_UNITS))
    return _write(place.files / "t.toml", to_toml(record, rng), rng)


def _read_testbed(path: Path, place: Place) -> object:
    """What ``simulate --testbed`` does, with a rule's plan."""
    sketch = read_sketch(path)
    testbed = sketch.testbed()
    ranks = min(testbed.ranks, 4)
    part = testbed.subset(ranks)
    plan = layout_plan(graph(), ranks, "rows")
    programs = turns_of(plan, graph())[0]
    timeline = simulate(programs, graph(), part, AnalyticCost())
    priced = price(plan, graph(), part, AnalyticCost())
    return [testbed.digest, len(timeline.events), priced.seconds, sketch.topology.most_devices]


def _make_suite(rng: Random, place: Place) -> Path:
    _write(place.files / "t.toml", to_toml(rng.choice(_TESTBEDS), rng), Random(0))
    record = _SUITE if rng.random() < _WHOLE else changed(_SUITE, rng)
    return _write(place.files / "suite.toml", to_toml(record, rng), rng)


def _read_suite(path: Path, place: Place) -> object:
    suite = read_suite(path)
    return [suite.sources, [(cell.label, cell.site.digest) for cell in suite.cells[:1000]]]


# Results


@cache
def _rows() -> list[Any]:
    """Lines of results as plain values."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "results.jsonl")
        planners = ("auto", "rows", "single", "layerwise")
        append_results(path, [_row(planner, ranks) for ranks in (1, 2, 4) for planner in planners])
        return [json.loads(line) for line in path.read_text().splitlines()]


def _row(planner: str, ranks: int) -> Result:
    per_rank = tuple(
        RankResult(
            rank=rank, device=f"board{rank}", slowdown=8.0, compute_s=0.05, send_s=0.01, receive_s=0.01, wait_s=0.02,
            flops=10**9, sent_bytes=500_000, messages=10, weight_bytes=45_000_000, arena_bytes=3_000_000,
            peak_rss_bytes=190_000_000, needed_bytes=200_000_000, memory_bytes=256_000_000,
        )
        for rank in range(ranks)
    )  # fmt: skip
    return Result(
        suite="made", model="builtin:resnet18", model_digest="m", batch=1, testbed="pi4x4", testbed_digest="t",
        topology="switch", bandwidth=125e6, ranks=ranks, planner=planner, is_emulated=True, plan={},
        plan_digest=planner, planning_s=1.5, lower_bound_s=0.09, is_optimal=planner == "auto", predicted_s=0.1,
        simulated_s=0.1, measured_s=(0.1, 0.11, 0.12), flops=10**9, per_rank=per_rank, repeats=3, warmup=1,
        versions={"python": "3.11.4"}, machine="here", cost="cost.json", date="2026-01-02T03:04:05+00:00", turn=0,
    )  # fmt: skip


def _make_report(rng: Random, place: Place) -> Path:
    chosen = [rng.choice(_rows()) for _ in range(rng.choice((1, 3, 12)))]
    texts = [to_json(changed(line, rng) if rng.random() < 0.5 else line, rng) for line in chosen]
    return _write(place.files / "results.jsonl", "\n".join(texts) + rng.choice(("\n", "\n", "")), rng)


def _read_report(path: Path, place: Place) -> object:
    """What ``report`` does but for the pictures."""
    sources = [str(path)]
    rows: Mapping[object, Result] = {(row.suite, *row.key): row for row in read_results(path)}
    page = pages.make_page(tuple(rows.values()), sources)
    return [page.text, json.dumps(page.record, default=str), list(pages.summary_items(page, "."))]


KINDS_OF_TEXT = (
    Kind("plan", _make_plan, _read_plan),
    Kind("testbed", _make_testbed, _read_testbed),
    Kind("suite", _make_suite, _read_suite, names_files=True),
    Kind("report", _make_report, _read_report),
)
