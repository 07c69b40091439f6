"""The verb ``plan``: what a search finds, what it stands on, why, and what is wrong in one sentence."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from flexpie_mpi import Plan, load
from flexpie_mpi.core.choices import PLANNERS
from flexpie_mpi.cost.file import save_cost
from flexpie_mpi.cost.fit import fit
from flexpie_mpi.cost.rows import LINK_TRACE
from flexpie_mpi.cost.traces import Origin, Traces
from flexpie_mpi.lower import digest, lower
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.session.inputs import traced_testbed
from tests.cost import laws
from tests.model.build import make, noise, save

TINY = "builtin:tiny_resnet"

BOARDS = """
topology = "switch"
[link]
bandwidth = "10Gb/s"
latency = "1us"
[[device]]
name = "quick"
slowdown = 50
[[device]]
name = "slow"
count = 2
slowdown = 100
"""


@pytest.fixture
def boards(tmp_path):
    """Three boards, one twice as fast as the others, whose links are fast: sharing pays."""
    path = tmp_path / "boards.toml"
    path.write_text(BOARDS)
    return path


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """Traces of two ranks and then of three, one of whose processors is three times slower."""
    folder = tmp_path_factory.mktemp("traces")
    found = laws.traces(rows=200, factors=(1.0, 3.0, 1.0))
    job = [replace(origin, job="large", host=f"host{rank}") for rank, origin in enumerate(found.origins)]
    early = [Origin("early", rank) for rank in range(2)]
    links = np.zeros(6 * 2 + 2, LINK_TRACE)
    pairs = [(source, target) for source in range(3) for target in range(3) if source != target]
    ends = [*((4, 3, 1.0), (4, 3, 1e6)), *((source, target, size) for source, target in pairs for size in (1.0, 1e6))]
    links["source"], links["target"], links["nbytes"] = map(np.array, zip(*ends, strict=True))
    links["pairs"], links["seconds"] = 1, 1e-5 + links["nbytes"] / 1e9
    Traces({**found.tables, "link": links}, (*job, *early)).write(folder / "traces.h5")
    return folder / "traces.h5"


def planned(here, *words):
    """The record of a plan."""
    code, out, err = here("plan", "--model", TINY, *words, "--json", "-")
    assert (code, err) == (0, ""), err
    return json.loads(out)


@pytest.mark.parametrize(
    ("words", "leaves_parts"), [((), True), (("--partial", "auto"), True), (("--partial", "off"), False)]
)
def test_sums_are_shared_out_unless_they_are_not_to_be(here, boards, tmp_path, words, leaves_parts):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["image"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Conv", ["mean", "v"], ["y"]),
    ]
    model = make(nodes, {"x": (1, 8, 96, 96)}, ["y"], {"w": noise(64, 8, 3, 3), "v": noise(32, 64, 1, 1)})
    given = "plan", "--model", save(model, tmp_path / "m.onnx"), "--testbed", boards, "--explain", *words
    _, out, _ = here(*given, "--json", "-")
    record = json.loads(out)
    layouts = [segment["layout"] for segment in record["plan"]["segments"]]
    assert any(layout.get("in_parts") for layout in layouts) == leaves_parts
    _, out, _ = here(*given)
    assert (
        ("+ ranks leave parts of a sum" in out) == ("1 segment leaves parts of a sum: without," in out) == leaves_parts
    )
    without_s = record["explanation"]["without_parts_s"]
    assert without_s > record["predicted_s"] if leaves_parts else without_s is None


def test_the_record_says_what_is_predicted_and_how_surely(here, boards, tmp_path):
    record = planned(here, "--testbed", boards, "--output", tmp_path / "plan.json")
    plan = Plan.from_json((tmp_path / "plan.json").read_text())
    model = load(TINY)
    assert record["plan"] == json.loads(plan.to_json()) and plan.ranks == 3
    assert violations(lower(plan, model.graph), plan, model.graph) == []
    parts = [part for segment in record["segments"] for part in segment.values()]
    assert record["predicted_s"] == pytest.approx(sum(parts) + record["exit_s"])
    assert record["is_optimal"] and record["lower_bound_s"] == pytest.approx(record["predicted_s"])
    assert record["planning_s"] > 0 and record["segments_priced"] > len(record["segments"]) > 1
    assert record["prices_extrapolated"] == record["prices"] > 0
    assert record["plan_facts"]["segments"] and len(record["ranks"]) == 3


@pytest.mark.parametrize("planner", PLANNERS)
def test_every_planner_makes_a_plan_that_is_priced_and_fits_the_screen(here, boards, planner, tmp_path):
    words = ("plan", "--model", TINY, "--testbed", boards, "--layout", planner, "--output", tmp_path / "plan.json")
    code, out, err = here(*words, "--explain")
    assert (code, err) == (0, "") and max(map(len, out.splitlines())) <= 80
    assert "predicts " in out and "boundary" in out and "no measurement stands behind" in out
    plan, graph = Plan.from_json((tmp_path / "plan.json").read_text()), load(TINY).graph
    assert violations(lower(plan, graph), plan, graph) == []
    assert plan.provenance["planner"] == planner
    assert ("race to come: infer measures this plan" in " ".join(out.split())) == (planner == "auto")


def test_the_search_is_to_race_where_there_is_somebody_to_race(here, boards):
    best, other = planned(here, "--testbed", boards), planned(here, "--testbed", boards, "--layout", "layerwise")
    assert best["predicted_s"] <= other["predicted_s"] * (1 + 1e-9)
    assert best["race"]["note"].startswith("to come") and best["race"]["entrants"] == []
    assert other["race"] is None
    assert planned(here, "--testbed", boards, "--ranks", 1)["race"] is None, "one board has nobody to race"


def test_the_best_plans_are_different_and_in_order(here, boards, tmp_path):
    record = planned(here, "--testbed", boards, "--top", 3, "--output", tmp_path / "plan.json")
    texts = [(tmp_path / name).read_text() for name in ("plan.json", "plan-2.json", "plan-3.json")]
    seconds = [record["predicted_s"], *(other["predicted_s"] for other in record["others"])]
    assert seconds == sorted(seconds) and len(seconds) == 3
    assert [other["plan"] for other in record["others"]] == [json.loads(text) for text in texts[1:]]
    graph = load(TINY).graph
    assert len({digest(lower(Plan.from_json(text), graph)) for text in texts}) == 3
    code, out, _ = here("plan", "--model", TINY, "--testbed", boards, "--top", 3)
    assert code == 0 and "the best plans" in out


def test_boards_come_from_a_file_from_traces_or_are_assumed(here, boards, traced):
    assert planned(here, "--testbed", boards, "--ranks", 2)["plan"]["ranks"] == 2
    assert planned(here, "--testbed", boards, "--traces", traced)["plan"]["ranks"] == 3
    assert planned(here, "--traces", traced)["plan"]["ranks"] == 3  # the last whole run of the most ranks
    assert planned(here, "--traces", traced, "--ranks", 1)["plan"]["ranks"] == 1
    assert "assumed" in planned(here, "--ranks", 2)["boards"]


def test_a_measured_cost_model_says_where_it_extrapolates(here, traced, tmp_path):
    from_traces = planned(here, "--traces", traced)
    assert 0 < from_traces["prices_extrapolated"] <= from_traces["prices"]
    save_cost(fit(Traces.read(traced)), tmp_path / "cost.json")
    from_cost = planned(here, "--traces", traced, "--cost", tmp_path / "cost.json")
    assert from_cost["predicted_s"] == pytest.approx(from_traces["predicted_s"])
    assert from_cost["costs"] == str(tmp_path / "cost.json") and from_cost["plan"] == from_traces["plan"]
    out = here("plan", "--model", TINY, "--traces", traced)[1]
    assert "prices extrapolated" in out and "no measurement" not in out


def test_slower_processors_in_traces_are_slower_boards(traced):
    """Rank 1 took three times as long for everything."""
    found = Traces.read(traced)
    testbed = traced_testbed(found, fit(found))
    assert [device.slowdown for device in testbed.devices] == pytest.approx([1, 3, 1], rel=0.1)
    assert [device.host for device in testbed.devices] == ["host0", "host1", "host2"]


def test_reasons_agree_with_the_plan(here, boards):
    record = planned(here, "--testbed", boards, "--explain")
    found = record["explanation"]
    assert [{"exchange_s": s["exchange_s"], "compute_s": s["compute_s"]} for s in found["segments"]] == [
        pytest.approx(segment) for segment in record["segments"]
    ]
    for segment in found["segments"]:
        assert 0 <= segment["boundary_s"] <= segment["compute_s"]
        assert all(other["plan_s"] >= record["predicted_s"] * (1 - 1e-9) for other in segment["alternatives"])
    boards_used = [entry["boards"] for entry in found["by_boards"]]
    seconds = [entry["predicted_s"] for entry in found["by_boards"]]
    assert boards_used == [1, 2, 3] and seconds == sorted(seconds, reverse=True)
    assert seconds[-1] == pytest.approx(record["predicted_s"]) and "boards are used" in found["boards"]


def test_a_rule_has_prices_and_no_reasons(here, boards):
    record = planned(here, "--testbed", boards, "--layout", "rows", "--explain")
    assert record["lower_bound_s"] is None and not record["is_optimal"]
    assert record["explanation"]["by_boards"] is None
    assert all(segment["alternatives"] == [] for segment in record["explanation"]["segments"])


def test_mistakes_are_one_sentence(here, boards, traced, tmp_path):
    newer = tmp_path / "newer.json"
    newer.write_text(json.dumps({"format": "flexpie_mpi cost", "version": 99}))
    nobody = tmp_path / "nobody.h5"
    Traces({"compute": laws.traces(rows=50).tables["compute"]}, laws.traces(rows=50).origins).write(nobody)
    mistakes = (
        ([], "give --ranks, --testbed or --traces"),
        (["--testbed", boards, "--ranks", 4], "'boards' has 3 boards and 4 ranks are asked for"),
        (["--traces", traced, "--ranks", 4], "3 boards and 4 ranks"),
        (["--testbed", tmp_path / "none.toml"], "none.toml"),
        (["--ranks", 2, "--cost", tmp_path / "none.json"], "none.json"),
        (["--ranks", 2, "--cost", newer], "version 99"),
        (["--ranks", 2, "--traces", newer], "cannot be read as traces"),
        (["--ranks", 2, "--layout", "diagonal"], "invalid choice: 'diagonal'"),
        (["--ranks", 2, "--objective", "speed"], "'speed'.*plans are made for latency, throughput, pareto"),
        (["--ranks", 2, "--top", 0], "'0' is not a whole number from 1 on"),
        (["--ranks", 2, "--top", 2, "--layout", "rows"], "--top goes with a planner that searches"),
        (["--ranks", 2, "--fuse", 3], "--fuse goes with a layout that is a rule"),
        (["--ranks", 2, "--top", 2, "--output", "p.json", "--json", "p-2.json"], "both name 'p-2.json'"),
    )
    for words, expected in mistakes:
        code, out, err = here("plan", "--model", TINY, *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1), (words, err)
        assert re.search(expected, err), (words, err)


def test_a_rule_whose_plan_does_not_fit_the_boards_says_so(here, tmp_path):
    """It is shown, since it was asked for by name; nothing would start it."""
    (tmp_path / "small.toml").write_text(BOARDS.replace('name = "slow"', 'name = "slow"\nmemory = "80MB"'))
    words = ("plan", "--model", TINY, "--testbed", tmp_path / "small.toml", "--layout", "rows")
    code, out, err = here(*words)
    assert (code, err) == (0, "")
    assert re.search(
        r"! infer will not start it: rank 1 needs \d+ MB of memory .* 'slow0' has 80 MB", " ".join(out.split())
    )
    lacking = json.loads(here(*words, "--json", "-")[1])["too_little_memory"]
    assert [line[:6] for line in lacking] == ["rank 1", "rank 2"]
    assert "infer will not start" not in here(*words[:3], "--ranks", 3, *words[5:])[1]
