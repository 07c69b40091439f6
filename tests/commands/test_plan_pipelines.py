"""The verb ``plan`` for throughput, and for the front of all plans worth having."""

from __future__ import annotations

import json
import re

import pytest

from flexpie_mpi import Plan, load
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.placement.solvers import SOLVERS

TINY = "builtin:tiny_cnn"

BOARDS = """
topology = "switch"
[link]
bandwidth = "10Gb/s"
latency = "1us"
[[device]]
name = "quick"
slowdown = 50
{memory}
[[device]]
name = "slow"
count = 2
slowdown = 100
{memory}
"""


@pytest.fixture
def boards(tmp_path):
    """Three boards, one twice as fast as the others."""
    path = tmp_path / "boards.toml"
    path.write_text(BOARDS.format(memory='memory = "1GiB"'))
    return path


def recorded(here, *words):
    code, out, err = here("plan", "--model", TINY, *words, "--json", "-")
    assert (code, err) == (0, ""), err
    return json.loads(out)


def test_a_pipeline_is_written_with_what_is_predicted_and_proved(here, boards, tmp_path):
    path = tmp_path / "plan.json"
    record = recorded(here, "--testbed", boards, "--objective", "throughput", "--output", path)
    plan, graph = Plan.from_json(path.read_text()), load(TINY).graph
    assert record["plan"] == json.loads(plan.to_json()) and plan.ranks == 3
    for turn in range(plan.period):
        assert violations(lower(plan.variant(turn), graph), plan.variant(turn), graph) == []
    assert record["objective"] == "throughput" and record["planner"] == "exact" and record["is_optimal"]
    assert record["throughput_rps"] == pytest.approx(1 / record["seconds_per_request"])
    assert record["lower_bound_s"] == pytest.approx(record["seconds_per_request"])
    busiest = max(rank["compute_s"] for rank in record["ranks"])
    assert record["bottleneck"].endswith("computes") and busiest == pytest.approx(record["seconds_per_request"])
    units = [stage["units"] for stage in record["stages"]]
    assert units[0][0] == 0 and [end for _, end in units][:-1] == [begin for begin, _ in units][1:]
    assert all(rank["needed_bytes"] <= rank["memory_bytes"] for rank in record["ranks"])


def test_the_text_fits_the_screen_and_names_the_stages(here, boards, tmp_path):
    words = ("plan", "--model", TINY, "--testbed", boards, "--objective", "throughput", "--output", tmp_path / "p.json")
    code, out, err = here(*words, "--compare", "-v")
    assert (code, err) == (0, "") and max(map(len, out.splitlines())) <= 80
    assert "requests/s, one every" in out and "proved: no placement" in out and "requests under way" in out
    rows = [line.split() for line in out.splitlines()]
    assert {row[0] for row in rows if row} >= set(SOLVERS)
    code, out, err = here("report", "--plan", tmp_path / "p.json", "--output", tmp_path / "p.png")
    assert (code, err) == (0, "") and "planned by exact" in out
    code, out, err = here("simulate", "--model", TINY, "--testbed", boards, "--plan", tmp_path / "p.json")
    assert (code, err) == (0, "") and " exact " in out


def test_planners_go_by_name_and_few_boards_are_enough_when_asked(here, boards):
    found = {}
    for words in (("--planner", "even"), ("--planner", "exact", "--most-boards", 1), ("--time-limit", 5)):
        record = recorded(here, "--testbed", boards, "--objective", "throughput", *words)
        found[words[1]] = record
    assert found["even"]["planner"] == "even" and found["even"]["lower_bound_s"] == 0
    assert sum(len(stage["boards"]) for stage in found["exact"]["stages"]) == 1
    best = found[5]["seconds_per_request"]
    assert all(record["seconds_per_request"] >= best * (1 - 1e-9) for record in found.values())


def test_the_front_has_a_plan_each_and_names_the_crossover(here, boards, tmp_path):
    record = recorded(here, "--testbed", boards, "--objective", "pareto", "--output", tmp_path / "plan.json")
    graph = load(TINY).graph
    for number, one in enumerate(record["front"], 1):
        assert one["file"] == str(tmp_path / f"plan-{number}.json")
        plan = Plan.from_json((tmp_path / f"plan-{number}.json").read_text())
        assert json.loads(plan.to_json()) == one["plan"] and plan.provenance["objective"] == one["planned_for"]
        assert lower(plan.variant(0), graph) and one["boards"] <= 3
    assert {one["planned_for"] for one in record["front"]} == {"latency", "throughput"}
    rates = [crossing["up_to_rps"] for crossing in record["crossings"]]
    assert rates == sorted(rates) and rates[-1] == max(one["throughput_rps"] for one in record["front"])
    assert record["crossover_rps"] in rates[:-1]
    code, out, err = here("plan", "--model", TINY, "--testbed", boards, "--objective", "pareto")
    assert (code, err) == (0, "") and max(map(len, out.splitlines())) <= 80
    assert "crosses  above" in out and "take     up to" in out


def test_mistakes_are_one_sentence(here, boards, tmp_path):
    small = tmp_path / "small.toml"
    small.write_text(BOARDS.format(memory='memory = "88MiB"'))
    throughput = ["--objective", "throughput"]
    mistakes = (
        (["--planner", "even"], "--planner does not go with --objective latency"),
        (["--most-boards", 2], "--most-boards does not go with --objective latency"),
        ([*throughput, "--layout", "rows"], "--layout does not go with --objective throughput"),
        ([*throughput, "--explain"], "--explain does not go with --objective throughput"),
        ([*throughput, "--top", 2], "--top does not go with --objective throughput"),
        ([*throughput, "--planner", "flexpie"], "invalid choice: 'flexpie'"),
        ([*throughput, "--time-limit", 0], "'0' is not a positive number of seconds"),
        (["--objective", "pareto", "--compare"], "--compare does not go with --objective pareto"),
        ([*throughput, "--testbed", small], r"tiny_cnn does not fit .* \(3 x 92 MB\): .* take boards of \d+ MB each"),
    )
    for words, expected in mistakes:
        code, out, err = here("plan", "--model", TINY, *([] if "--testbed" in words else ["--testbed", boards]), *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1), (words, err)
        assert re.search(expected, err), (words, err)
