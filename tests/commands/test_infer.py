from __future__ import annotations

import json

import numpy as np
import pytest

from flexpie_mpi import Plan, layout_plan, load, run_ranks
from flexpie_mpi.core.timeline import KINDS
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.measure.compare import run_whole
from flexpie_mpi.measure.verdict import WIDE
from flexpie_mpi.runtime.engine import Engine

TINY = "builtin:tiny_cnn"

RANK_KEYS = {
    "rank", "host", "compute_s", "exchange_s", "wait_s", "weight_bytes", "arena_bytes", "peak_rss_bytes", "sent_bytes",
    "messages", "weight_traffic",
}  # fmt: skip


def test_one_rank_without_mpirun(job, tmp_path):
    done = job(1, "infer", "--model", TINY, "--output", tmp_path / "out.npz", "--repeat", 3, "--verify")
    assert (done.code, done.err) == (0, ""), done
    model = load(TINY)
    expected = run_whole(model, random_inputs(model.graph), None, 1)["scores"]
    assert np.array_equal(np.load(tmp_path / "out.npz")["scores"], expected)
    best = " ".join(f"{index} (" for index in np.argsort(-expected[0])[:5])
    top = next(line for line in done.out.splitlines() if line.startswith("top-5 of scores: "))
    assert [word for word in top.split() if word.isdecimal()] == [word for word in best.split() if word.isdecimal()]
    for word in (
        "ranks    1 on ",
        "random, seed 0; outputs in",
        "median",
        "p90",
        "3 requests after 2",
        "peak",
        "first result",
        "verify   equal",
    ):
        assert word in done.out
    assert "\x1b" not in done.out and max(map(len, done.out.splitlines())) <= 80


@pytest.mark.mpi
@pytest.mark.mpi_short
def test_a_job_of_three(job, tmp_path):
    words = ["infer", "--model", TINY, "--layout", "rows", "--fuse", "none", "--repeat", 4, "--warmup", 1, "--verify"]
    paths = {"--json": tmp_path / "run.json", "--save-plan": tmp_path / "plan.json", "--output": tmp_path / "out.h5"}
    done = job(3, *words, *(word for pair in paths.items() for word in pair))
    assert done.code == 0, done
    record = json.loads(paths["--json"].read_text())
    plan = Plan.from_json(paths["--save-plan"].read_text())
    assert plan == layout_plan(load(TINY).graph, 3, "rows", fusion="none")
    assert record["plan"] == json.loads(plan.to_json())
    assert paths["--output"].exists() and record["verify"]["equal"] is True
    times = record["latency_s"]
    assert len(times["all"]) == 4 and times["min"] == min(times["all"]) <= times["median"] <= times["p90"]
    assert [set(rank) for rank in record["ranks"]] == [RANK_KEYS] * 3
    assert [rank["rank"] for rank in record["ranks"]] == [0, 1, 2]
    assert sum(rank["messages"] for rank in record["ranks"]) == record["plan_facts"]["messages"] > 0
    assert record["first_result_s"] > 0 and record["versions"]["mpi"]
    assert len([line for line in done.out.splitlines() if line.startswith("model ")]) == 1
    assert f"{len(plan.segments)} segments" in done.out
    # The plan that was saved is a plan that can be used; only the record is on stdout.
    again = job(3, "infer", "--model", TINY, "--plan", paths["--save-plan"], "--json", "-", "--repeat", 1)
    assert again.code == 0 and json.loads(again.out)["plan"] == record["plan"], again


def test_several_inputs_and_outputs(job, two_by_two, tmp_path):
    rng = np.random.default_rng(1)
    image, bias = (rng.standard_normal(shape, np.float32) for shape in ((2, 3, 8, 8), (6, 1, 1)))
    np.save(tmp_path / "image.npy", image)
    np.savez(tmp_path / "rest.npz", bias=bias)
    words = ["infer", "--model", two_by_two, "--shape", "image=2,3,8,8", "--output", tmp_path / "out.npz"]
    done = job(1, *words, "--input", f"image={tmp_path / 'image.npy'}", tmp_path / "rest.npz", "--layout", "rows")
    assert (done.code, done.err) == (0, ""), done
    model = load(str(two_by_two), {"image": (2, 3, 8, 8)})
    expected = run_whole(model, {"image": image, "bias": bias}, None, 1)
    with np.load(tmp_path / "out.npz") as outputs:
        assert set(outputs) == {"shifted", "best"}
        assert all(np.array_equal(outputs[name], expected[name]) for name in outputs)


PLANTED = """
import sys
from flexpie_mpi.runtime import engine
from flexpie_mpi.__main__ import main

make = engine.make_kernel

def planted(sessions, program, step, values):
    action = make(sessions, program, step, values)
    def wrong():
        action()
        values[step.outputs[0][1]][:] += 1
    return wrong if program.size > 1 and program.rank == 1 and step.segment == 2 else action

engine.make_kernel = planted
sys.exit(main())
"""


@pytest.mark.mpi
def test_a_difference_is_exit_code_1_and_names_the_segment(job, tmp_path):
    program = tmp_path / "planted.py"
    program.write_text(PLANTED)
    words = ["infer", "--model", TINY, "--layout", "rows", "--verify", "--repeat", 1, "--json", tmp_path / "run.json"]
    done = job(2, *words, program=(str(program),))
    assert done.code == 1, done
    record = json.loads((tmp_path / "run.json").read_text())["verify"]
    assert record["equal"] is False and record["first_divergence"]["segment"] == 2
    assert record["first_divergence"]["ranks"] == [1]
    assert "DIFFERS" in done.out and "segment that differs is 2" in " ".join(done.out.split())


@pytest.mark.mpi
def test_a_job_measures_once_and_then_plans_at_once(job, tmp_path):
    """Trace, fit, plan, run; the second start has all it needs, tries several plans, and reports."""
    own = {"extra": {"FLEXPIE_CACHE": str(tmp_path / "cache")}}
    words = ["infer", "--model", "builtin:tiny_vgg", "--trace-budget", 2, "--repeat", 2, "--verify"]
    first = job(2, *words, "--json", tmp_path / "first.json", **own)
    assert first.code == 0 and "verify   equal" in first.out, first
    assert all(any((tmp_path / "cache" / kind).iterdir()) for kind in ("traces", "cost"))
    record = json.loads((tmp_path / "first.json").read_text())
    race = record["prediction"]["race"]
    assert record["prediction"]["planner"] == race["entrants"][0]["planner"] == "auto"
    assert record["plan"]["provenance"]["planner"] == race["entrants"][race["kept"]]["planner"]
    assert record["prediction"]["predicted_s"] > 0 and "measured on these hosts in 2 s" in record["prediction"]["costs"]

    second = job(2, *words, "--json", tmp_path / "second.json", **own)
    assert second.code == 0 and "measured at an earlier start" in " ".join(second.out.split()), second
    repeated = json.loads((tmp_path / "second.json").read_text())
    assert repeated["plan"] == record["plan"] and repeated["prediction"]["race"]["entrants"] == race["entrants"]
    stream = job(2, *words[:5], "--requests", 5, "--json", tmp_path / "stream.json", **own)
    assert stream.code == 0 and "measured at an earlier start" in " ".join(stream.out.split()), stream
    assert json.loads((tmp_path / "stream.json").read_text())["race"] == repeated["prediction"]["race"]

    again = job(2, *words, "--autotune", 2, "--report", "--json", tmp_path / "again.json", **own)
    assert again.code == 0 and "verify   equal" in again.out and max(map(len, again.out.splitlines())) <= 80, again
    record = json.loads((tmp_path / "again.json").read_text())
    assert record["prediction"]["costs"] == "measured on these hosts before"
    raced, race = record["autotune"], record["prediction"]["race"]
    assert [each["planner"] for each in race["entrants"]].count("auto") == 2
    assert len(raced) == len(race["entrants"]) > 2 and [plan["kept"] for plan in raced].count(True) == 1
    [kept] = [plan for plan in raced if plan["kept"]]
    assert raced.index(kept) == race["kept"] and kept["measured_s"] == race["entrants"][race["kept"]]["seconds"]
    assert not [1 for each in race["entrants"] if each["ratio"][2] < 1 and each["ratio"][1] < 1 / WIDE]
    found = record["report"]
    assert len(found["segments"]) == len(record["plan"]["segments"]) and "added to the traces" in found["added"]
    assert found["predicted_s"] == record["prediction"]["predicted_s"] and found["measured_s"] > 0
    shares = found["shares"]
    assert len(shares["segments"]) == len(found["segments"]) and shares["boards"] == 2
    assert sum(part["seconds"] for part in shares["spent"]) == pytest.approx(shares["latency_s"])
    for word in (
        "the plans that were run (ms)",
        "kept",
        "predicted and measured (ms",
        "report   ",
        "beyond its share",
        "shares   ",
    ):
        assert word in again.out


@pytest.mark.mpi
def test_boards_of_a_testbed_are_paced_and_planned_for(job, tmp_path):
    boards = tmp_path / "boards.toml"
    boards.write_text(
        'topology = "switch"\n[link]\nbandwidth = "10Gb/s"\nlatency = "1us"\n'
        '[[device]]\nname = "quick"\n[[device]]\nname = "slow"\nslowdown = 2\n'
    )
    words = [
        "infer",
        "--model",
        "builtin:tiny_vgg",
        "--testbed",
        boards,
        "--trace-budget",
        0,
        "--repeat",
        2,
        "--verify",
    ]
    done = job(2, *words, "--report", "--json", tmp_path / "run.json")
    record = json.loads((tmp_path / "run.json").read_text())
    assert done.code == 0 and record["verify"]["equal"], done
    assert record["prediction"]["testbed"]["name"] == "boards" and "not added" in record["report"]["added"]
    assert record["report"]["shares"]["boards"] == 1.5
    done = job(3, *words)
    assert done.code == 2 and "has 2 boards and 3 ranks are asked for" in done.err, done


def test_a_plan_that_is_given_and_a_rule_are_reported_too(job, tmp_path):
    """One rank, nothing measured: formulas stand beside what was timed."""
    words = ["infer", "--model", TINY, "--trace-budget", 0, "--report", "--repeat", 2, "--json", tmp_path / "run.json"]
    plan = tmp_path / "plan.json"
    for more in (["--layout", "rows", "--save-plan", plan], ["--plan", plan], ["--layout", "random"], []):
        done = job(1, *words, *more, extra={"FLEXPIE_CACHE": str(tmp_path / "cache")})
        record = json.loads((tmp_path / "run.json").read_text())
        assert done.code == 0 and record["report"]["measured_s"] > 0 and "shares" not in record["report"], done
        assert record["prediction"]["planner"] in ("rows", "random", "single")


def test_the_engine_s_time_is_all_accounted_for():
    model = load(TINY)

    def rank(transport):
        engine = Engine(transport, model, layout_plan(model.graph, 2, "rows"))
        engine.run(random_inputs(model.graph))
        timeline = engine.timeline()
        parts = sum(timeline.total(kind, transport.rank) for kind in KINDS)
        return parts, timeline.latency_s

    assert all(parts == pytest.approx(latency) for parts, latency in run_ranks(2, rank))
