from __future__ import annotations

import json

import pytest

from flexpie_mpi import Plan, load
from flexpie_mpi.lower import digest, lower
from flexpie_mpi.runtime.kernels import own_block
from tests.report.traceevents import check_format, slices_of

TINY = "builtin:tiny_cnn"


@pytest.mark.mpi
def test_a_job_writes_the_timeline_of_a_typical_request(job, tmp_path):
    paths = {
        "--timeline": tmp_path / "run.json",
        "--save-plan": tmp_path / "plan.json",
        "--json": tmp_path / "all.json",
    }
    boards = tmp_path / "boards.toml"
    boards.write_text(
        'topology = "switch"\n[link]\nbandwidth = "1Gb/s"\nlatency = "50us"\n'
        '[[device]]\nname = "tin"\n[[device]]\nname = "zinc"\n'
    )
    words = ["infer", "--model", TINY, "--layout", "rows", "--fuse", "none", "--repeat", 5, "--testbed", boards]
    done = job(2, *words, *(word for pair in paths.items() for word in pair))
    assert done.code == 0, done
    trace = json.loads(paths["--timeline"].read_text())
    check_format(trace, 2)
    graph, record = load(TINY).graph, json.loads(paths["--json"].read_text())
    programs = lower(Plan.from_json(paths["--save-plan"].read_text()), graph, [own_block()] * 2)
    about = trace["otherData"]
    assert (about["model"], about["plan_digest"]) == ("tiny_cnn", digest(programs))
    assert about["median_latency_s"] == record["latency_s"]["median"] and about["mpi"] == record["versions"]["mpi"]
    nearest = min(record["latency_s"]["all"], key=lambda seconds: abs(seconds - about["median_latency_s"]))
    assert about["latency_s"] == nearest and [board.split()[0] for board in about["ranks"].values()] == ["tin", "zinc"]

    def of(rank, kind, index):
        found = [e for e in slices_of(trace, rank) if (e["cat"], e["args"].get("exchange")) == (kind, index)]
        return found[-1]

    messages = [(exchange.index, m) for program in programs for exchange in program.exchanges for m in exchange.sends]
    for index, message in messages:
        taken = of(message.target, "receive", index)
        assert of(message.source, "send", index)["ts"] <= taken["ts"] + taken["dur"]
    assert len([e for e in trace["traceEvents"] if e["ph"] == "f"]) == len(messages) > 5


def test_a_path_that_cannot_be_written_costs_no_run(one, tmp_path):
    code, out, err = one("infer", "--model", TINY, "--timeline", tmp_path / "nowhere" / "run.json")
    assert code == 2 and "nowhere" in err and not out
    both = tmp_path / "run.json"
    code, _, err = one("infer", "--model", TINY, "--timeline", both, "--json", both)
    assert code == 2 and "--timeline and --json both name" in err
