"""``flexpie-mpi trace``: what it writes, what it keeps, what it merges, and what it refuses before it measures."""

from __future__ import annotations

import json
import re

import numpy as np
import onnx
import pytest

from flexpie_mpi.commands import parse
from flexpie_mpi.commands.trace import Tracing, default_models
from flexpie_mpi.core.errors import TestbedError
from flexpie_mpi.cost.model import Origin
from flexpie_mpi.cost.rows import TABLES
from flexpie_mpi.cost.traces import Recorder, Traces, merged
from flexpie_mpi.measure.campaign import Campaign
from flexpie_mpi.report.traces import traces_items, traces_record
from flexpie_mpi.runtime.loopback import run_ranks

TINY = "builtin:tiny_cnn"


def traces(job, seed):
    """Made-up traces with rows in every table."""
    random = np.random.default_rng(seed)
    tables = {}
    for name, dtype in TABLES.items():
        rows = np.zeros(int(random.integers(1, 9)), dtype)
        rows["seconds"], rows["repeats"] = random.random(len(rows)), 5
        for column in {"origin", "source", "target"} & set(dtype.names):
            rows[column] = random.integers(0, 2, len(rows))
        for column in {"op", "kind", "model"} & set(dtype.names):
            rows[column] = random.choice([b"one", b"two"], len(rows))
        tables[name] = rows
    return Traces(tables, tuple(Origin(job, rank, host="here", cores=2) for rank in range(2)))


@pytest.mark.mpi
def test_two_ranks_measure_everything(job, tmp_path):
    path = tmp_path / "traces.h5"
    done = job(2, "trace", "--model", TINY, "--budget", "2", "--output", path, "--json", tmp_path / "record.json")
    assert done.code == 0 and "Traceback" not in done.err, done
    found = Traces.read(path)
    assert all(len(found.tables[name]) for name in TABLES), {name: len(found.tables[name]) for name in TABLES}
    assert [origin.rank for origin in found.origins] == [0, 1] and len({origin.job for origin in found.origins}) == 1
    assert set(found.tables["compute"]["origin"]) == {0, 1} and set(found.tables["link"]["nbytes"]) >= {64, 1 << 20}
    assert b"patterns" in found.tables["exchange"]["model"] and set(found.tables["plan"]["model"]) == {b"tiny_cnn"}
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["rows"] == {name: len(rows) for name, rows in found.tables.items()} and record["versions"]
    assert f"{len(found.tables['exchange'])} exchange" in done.out and max(map(len, done.out.splitlines())) <= 80


def test_plans_are_measured_with_the_request_that_is_given(one, tmp_path):
    """Random numbers are no request of this model; it is measured by one that is, and without one that is said."""
    model, request, path = tmp_path / "one_row.onnx", tmp_path / "ids.npy", tmp_path / "traces.h5"
    onnx.save(one_row(), model)
    np.save(request, np.zeros(9, np.int64))
    code, _, err = one("trace", "--model", model, "--input", request, "--budget", "0.3", "--output", path)
    assert code == 0 and err == "" and len(Traces.read(path).tables["plan"])
    code, _, err = one("trace", "--model", model, "--budget", "0.3", "--output", tmp_path / "none.h5")
    assert code == 0 and "could not be measured" in err and "out of data bounds" in err
    code, _, err = one("trace", "--input", request, "--output", path)
    assert code == 2 and "--input is a request of one model" in err


def one_row():
    """A table of one row, of which every index must be 0, and indices that the model does not know."""
    info, floats = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["rows"]),
        onnx.helper.make_node("MatMul", ["rows", "w"], ["y"]),
    ]
    random = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(random.standard_normal(shape, np.float32), name)
        for name, shape in (("table", (1, 64)), ("w", (64, 32)))
    ]
    graph = onnx.helper.make_graph(
        nodes, "one_row", [info("ids", onnx.TensorProto.INT64, [9])], [info("y", floats, [9, 32])], weights
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.mpi
def test_a_job_that_measures_first_runs_what_its_rules_run(job, tmp_path):
    model, request = tmp_path / "one_row.onnx", tmp_path / "ids.npy"
    onnx.save(one_row(), model)
    np.save(request, np.zeros(9, np.int64))
    words = ("--trace-budget", "0.5", "--autotune", "2", "--report", "--repeat", "1", "--verify")
    done = job(3, "infer", "--model", model, "--input", request, "--cache", tmp_path / "cache", *words)
    assert done.code == 0 and "verify   equal" in done.out and done.err == "", done


def test_a_file_is_added_to(one, tmp_path):
    path = tmp_path / "traces.h5"
    before = traces("earlier", 0)
    before.write(path)
    code, out, err = one("trace", "--model", TINY, "--budget", "0.3", "--output", path, "--json", "-")
    assert code == 0 and err == "" and json.loads(out)["rows"]["plan"] > len(before.tables["plan"])
    after = Traces.read(path)
    assert len(after.origins) == 3 and before.content()[0] == tuple(sorted(after.origins[:2], key=repr))
    for name, rows in before.tables.items():
        assert (after.tables[name][: len(rows)] == rows).all()


def test_what_was_measured_is_kept_when_it_is_interrupted(one, tmp_path, monkeypatch):
    path = tmp_path / "traces.h5"

    def interrupted(campaign, models, seed=0):
        campaign.keep("plan", plan_row())
        raise KeyboardInterrupt

    monkeypatch.setattr(Campaign, "run", interrupted)
    assert one("trace", "--model", TINY, "--output", path)[0] == 130
    assert len(Traces.read(path).tables["plan"]) == 1


def plan_row():
    return np.zeros(1, TABLES["plan"])


def test_rows_are_written_while_measuring_goes_on(one, tmp_path, monkeypatch):
    path, seen = tmp_path / "traces.h5", []
    monkeypatch.setattr("flexpie_mpi.commands.trace.FLUSH_S", 0.0)

    def campaign(self, models, seed=0):
        for _ in range(3):
            self.keep("plan", plan_row())
            seen.append(len(Traces.read(path).tables["plan"]))

    monkeypatch.setattr(Campaign, "run", campaign)
    assert one("trace", "--model", TINY, "--output", path)[0] == 0 and seen == [1, 2, 3]


def test_merging_takes_all_rows_of_all_files(here, tmp_path):
    parts = [traces(f"run {number}", number) for number in range(3)]
    paths = [tmp_path / f"{number}.h5" for number in range(3)]
    for part, path in zip(parts, paths, strict=True):
        part.write(path)
    code, out, err = here("trace", "--merge", *paths, "--output", tmp_path / "all.h5", "--json", tmp_path / "all.json")
    assert (code, err) == (0, "") and "6 ranks in 3 runs" in out
    assert Traces.read(tmp_path / "all.h5") == merged(*parts)
    rows = json.loads((tmp_path / "all.json").read_text())["rows"]
    assert rows == {name: sum(len(part.tables[name]) for part in parts) for name in TABLES}
    assert here("trace", "--merge", paths[0], "--output", paths[0])[0] == 0 and Traces.read(paths[0]) == parts[0]


def test_the_models_measured_by_default():
    found = default_models()
    assert "resnet50" in found and len(set(found)) == len(found) and not any(name.startswith("tiny_") for name in found)


def test_reports_of_traces_agree_and_take_empty_ones():
    full = merged(traces("a", 1), traces("b", 2))
    record = traces_record(full)
    for name, column in (("compute", "op"), ("exchange", "kind")):
        found = {item["of"]: item["rows"] for item in record["measured"] if item["table"] == name}
        names, counts = np.unique(full.tables[name][column], return_counts=True)
        assert found == {name.decode(): count for name, count in zip(names, counts, strict=True)}
    assert sum(item["rows"] for item in record["links"]) == len(full.tables["link"])
    assert sum(item["plans"] for item in record["plans"]) == len(full.tables["plan"])
    assert json.dumps(traces_record(Traces())) and traces_items(Traces())


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder to work in, with files that are no traces, and testbeds."""
    monkeypatch.chdir(tmp_path)
    traces("run", 0).write("good.h5")
    (tmp_path / "notes.txt").write_text("not ours")
    (tmp_path / "folder").mkdir()
    device = '[[device]]\nname = "board"\nslowdown = 8\n'
    head = 'topology = "switch"\n[link]\nbandwidth = "1Gb/s"\nlatency = "50us"\n'
    (tmp_path / "one.toml").write_text(head + device)
    (tmp_path / "two.toml").write_text(head + device + "count = 2\n")
    with Recorder("busy.h5", ()):
        yield tmp_path


BAD = [
    (["--output", "nowhere/t.h5"], "nowhere"),
    (["--output", "folder"], "folder"),
    (["--output", "notes.txt"], "notes.txt"),
    (["--output", "busy.h5"], "busy.h5.*written by another"),
    (["--output", "t.h5", "--json", "t.h5"], "both name 't.h5'"),
    (["--output", "t.h5", "--json", "nowhere/t.json"], "nowhere"),
    (["--output", "t.h5", "--model", "builtin:resnet5000"], "resnet50"),
    (["--output", "t.h5", "--model", TINY, "nowhere.onnx"], "nowhere.onnx"),
    (["--output", "t.h5", "--testbed", "nowhere.toml"], "nowhere.toml"),
    (["--output", "t.h5", "--budget", "0"], "'0' is not a positive"),
    (["--output", "t.h5", "--threads", "0"], "'0' is not a whole"),
    (["--model", TINY], "--output"),
    (["--merge", "good.h5", "nowhere.h5", "--output", "t.h5"], "nowhere.h5"),
    (["--merge", "notes.txt", "--output", "t.h5"], "notes.txt"),
    (["--merge", "good.h5", "--no-models", "--output", "t.h5"], "so --no-models goes without it"),
    (["--merge", "good.h5", "--output", "notes.txt"], "notes.txt"),
    (["--merge", "good.h5", "--output", "nowhere/t.h5"], "nowhere"),
    (["--merge", "good.h5", "--output", "t.h5", "--budget", "5"], "--budget"),
    (["--merge", "--output", "t.h5"], "--merge"),
]


@pytest.mark.parametrize(("words", "expected"), BAD, ids=lambda item: " ".join(item) if isinstance(item, list) else "")
def test_mistakes_are_found_before_anything_is_measured(one, files, monkeypatch, words, expected):
    monkeypatch.setattr(Campaign, "run", lambda *args: pytest.fail("measures"))
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    code, out, err = one("trace", *words)
    assert code == 2 and out == "" and "Traceback" not in err, err
    assert err.startswith("flexpie-mpi: error: ") and err.count("\n") == 1 and re.search(expected, err), err
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("testbed", ["one.toml", "two.toml"])
def test_the_slowdown_of_a_board_is_noted(one, files, monkeypatch, testbed):
    monkeypatch.setattr(Campaign, "run", lambda campaign, models: campaign.keep("plan", plan_row()))
    assert one("trace", "--model", TINY, "--testbed", testbed, "--output", "t.h5")[0] == 0
    assert [origin.slowdown for origin in Traces.read("t.h5").origins] == [8.0]


def test_more_ranks_than_boards_are_refused_on_every_rank(files):
    _, args = parse(["trace", "--output", "t.h5", "--testbed", "two.toml"], "")

    def rank(transport):
        with pytest.raises(TestbedError, match="2 boards and 3 ranks are asked for"):
            Tracing(transport, args).run()
        return True

    assert all(run_ranks(3, rank))
