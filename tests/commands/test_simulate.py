"""The verb ``simulate``: growing numbers of boards, what if they were others, and what is wrong in one sentence."""

from __future__ import annotations

import json
import re

import pytest

from flexpie_mpi import Plan, layout_plan, load
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.lower import digest, lower
from flexpie_mpi.lower.memory import PROCESS_BYTES, memory_of
from flexpie_mpi.session import scaling
from flexpie_mpi.simulate import simulate
from flexpie_mpi.testbed import read

TINY = "builtin:tiny_resnet"

BOARDS = """
topology = "switch"
[link]
bandwidth = "10Gb/s"
latency = "1us"
[[device]]
name = "pi"
count = 4
slowdown = 50
memory = "4GiB"
"""


@pytest.fixture
def boards(tmp_path):
    """Four slow boards whose links are fast: sharing pays."""
    path = tmp_path / "boards.toml"
    path.write_text(BOARDS)
    return path


@pytest.fixture
def simulated(here):
    """The record of a simulation, and the text of the same."""

    def call(*words):
        code, out, err = here("simulate", "--model", TINY, *words, "--json", "-")
        assert (code, err) == (0, ""), err
        code, text, err = here("simulate", "--model", TINY, *words)
        assert (code, err) == (0, "") and max(map(len, text.splitlines())) <= 80
        return json.loads(out), text

    return call


def test_speed_ups_are_against_one_board_and_plans_are_those_simulated(simulated, boards):
    record, text = simulated("--testbed", boards)
    (study,) = record["studies"]
    assert [found["boards"] for found in study["counts"]] == [1, 2, 4]
    assert study["counts"][0]["speed_up"] == pytest.approx(1.0)
    graph = load(TINY).graph
    for found in study["counts"]:
        plan = Plan.from_json(json.dumps(found["plan"]))
        testbed = read(boards).subset(found["boards"])
        expected = simulate(lower(plan, graph), graph, testbed, AnalyticCost())
        assert found["latency_s"] == pytest.approx(expected.latency_s)
        assert found["speed_up"] == pytest.approx(study["one_board"]["latency_s"] / found["latency_s"])
        assert found["efficiency"] == pytest.approx(found["speed_up"] / found["boards"])
        assert found["latency_s"] == pytest.approx(found["planned_s"], rel=0.05)
        spent = sum(found["slowest"][f"{kind}_s"] for kind in ("compute", "send", "receive", "wait"))
        assert spent == pytest.approx(found["latency_s"])
    assert study["break_even"] == 2 and study["enough"] == 4
    assert "break-even: 2 boards are the fewest here" in text and "so more may help" in text
    assert "boards: 4 boards as a switch" in text and "formulas only" in text


def test_boards_one_does_not_have_are_like_the_last(simulated, boards):
    record, text = simulated("--testbed", boards, "--ranks", "4,8", "--layout", "rows")
    assert [found["made_by"] for found in record["studies"][0]["counts"]] == ["rows", "rows"]
    assert record["studies"][0]["one_board"]["boards"] == 1
    assert "4 more are like 'pi3'" in text and "beyond" not in text


def test_what_if_stands_beside_what_is(simulated, boards):
    record, text = simulated("--testbed", boards, "--ranks", "1,4", "--what-if", "bandwidth=1Mb/s,slowdown=5")
    before, after = record["studies"]
    assert (before["what_if"], after["what_if"]) == (None, "bandwidth=1Mb/s,slowdown=5")
    assert after["one_board"]["latency_s"] == pytest.approx(before["one_board"]["latency_s"] / 10, rel=0.1)
    assert before["break_even"] == 4 and after["break_even"] is None and after["enough"] == 1
    assert "what if bandwidth=1Mb/s,slowdown=5" in text and "before" in text
    assert "no number of boards here is faster than one board" in text and "more help by less than 1.0 %" in text


def test_beyond_what_is_searched_the_best_rule_or_the_plan_of_fewer_boards_is_taken(simulated, boards, monkeypatch):
    monkeypatch.setattr(scaling, "SEARCHED", 3)
    record, _ = simulated("--testbed", boards, "--ranks", "3,6,12", "--what-if", "latency=10ms")
    fast, slow = ([found["made_by"] for found in study["counts"]] for study in record["studies"])
    assert fast[0] == slow[0] == "auto" and set(fast[1:]) <= {*scaling.RULES, "auto of 3"}
    assert slow[1:] == ["auto of 3", "auto of 3"]
    for study in record["studies"]:
        latencies = [found["latency_s"] for found in study["counts"]]
        assert latencies[2] <= latencies[1] * 1.02 and latencies[1] <= latencies[0] * 1.02
    many = record["studies"][1]["counts"][2]
    assert (
        many["plan"]["ranks"] == 12
        and many["plan"]["segments"] == record["studies"][1]["counts"][0]["plan"]["segments"]
    )


def test_what_does_not_fit_is_said_and_simulated_nonetheless(simulated, boards):
    weights = load(TINY).graph.weight_bytes
    graph = load(TINY).graph
    (alone,) = memory_of([lower(layout_plan(graph, 1, "single"), graph)], graph)
    limit = PROCESS_BYTES + alone.engine_bytes() * 3 // 4
    record, text = simulated("--testbed", boards, "--ranks", "1,4", "--what-if", f"memory={limit}B")
    one, four = record["studies"][1]["counts"]
    assert not one["memory"]["fits"] and one["latency_s"] > 0 and one["memory"]["limit_bytes"] == limit
    assert one["memory"]["weight_bytes"] == weights and one["memory"]["process_bytes"] == PROCESS_BYTES
    assert re.search(r"! 1 board: 'pi0' needs \S+ MB and has", text) and "if it had them" in text.replace("\n", " ")
    assert four["memory"]["weight_bytes"] < weights
    assert record["studies"][0]["counts"][0]["memory"]["fits"]


def test_a_plan_is_simulated_on_as_many_boards_as_it_is_for(simulated, boards, tmp_path):
    plan = layout_plan(load(TINY).graph, 3, "channels")
    (tmp_path / "plan.json").write_text(plan.to_json())
    record, _ = simulated("--testbed", boards, "--plan", tmp_path / "plan.json")
    (found,) = record["studies"][0]["counts"]
    assert (found["boards"], found["plan"]) == (3, json.loads(plan.to_json()))
    assert found["sent_bytes"] > 0 and found["messages"] > 0


def test_mistakes_are_one_sentence(here, boards, tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text(layout_plan(load(TINY).graph, 3, "rows").to_json())
    given = ["--testbed", boards]
    mistakes = (
        ([], "--testbed"),
        (["--testbed", tmp_path / "none.toml"], "cannot read the testbed .*none.toml"),
        ([*given, "--cost", tmp_path / "none.json"], "none.json"),
        ([*given, "--ranks", "1,two"], "'two' is not a whole number from 1 on"),
        ([*given, "--ranks", "0"], "'0' is not a whole number from 1 on"),
        ([*given, "--ranks", "1,...,8"], "dots need two numbers before them and one behind"),
        ([*given, "--ranks", "1,2,..."], "dots need two numbers before them and one behind"),
        ([*given, "--ranks", "1,2,4,...,1000"], "the numbers before the dots do not lead to 1000"),
        ([*given, "--ranks", "1,2,5,...,20"], "the numbers before the dots do not lead to 20"),
        ([*given, "--ranks", "4096"], "4096 boards are more than the 1024 that a switch may have"),
        ([*given, "--what-if", "colour=red"], "'colour=red' is no change: write bandwidth="),
        ([*given, "--what-if", "bandwidth=2"], "bandwidth = .* is no bandwidth"),
        ([*given, "--plan", plan, "--ranks", "2,4"], "the plan is for 3 ranks and --ranks asks for 2, 4"),
        ([*given, "--plan", plan, "--layout", "rows"], "--plan already says what --layout chooses"),
        ([*given, "--plan", tmp_path / "none.json"], "none.json"),
        ([*given, "--layout", "diagonal"], "invalid choice: 'diagonal'"),
        ([*given, "--layout", "rows", "--weights", "1,2"], "--weights gives 2 shares and there are 1 ranks"),
        ([*given, "--fuse", "2"], "--fuse goes with a layout that is a rule"),
    )
    for words, expected in mistakes:
        code, out, err = here("simulate", "--model", TINY, *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1), (words, err)
        assert re.search(expected, err), (words, err)


def test_the_timeline_is_that_of_the_most_boards(here, boards, tmp_path):
    path, plan = tmp_path / "run.json", tmp_path / "plan.json"
    graph = load(TINY).graph
    plan.write_text(layout_plan(graph, 3, "rows").to_json())
    boards.write_text(f"{BOARDS}block = 16\n")
    code, _, _ = here("simulate", "--model", TINY, "--testbed", boards, "--plan", plan, "--timeline", path)
    trace = json.loads(path.read_text())
    assert code == 0 and trace["otherData"]["request"] == "simulated"
    programs = [lower(layout_plan(graph, 3, "rows"), graph, [block] * 3) for block in (16, 0)]
    assert digest(programs[0]) == trace["otherData"]["plan_digest"] != digest(programs[1])
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len({event["tid"] for event in events}) == 3
    longest = max(event["ts"] + event["dur"] for event in events)
    assert longest == pytest.approx(trace["otherData"]["latency_s"] * 1e6)
