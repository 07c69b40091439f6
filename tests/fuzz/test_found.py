"""What fuzzing found, in its smallest form: files that once ended in a traceback, a crash, a hang, a flood or a leak.

Models, and the files of a request, have tests of their own: tests/model/test_hostile.py, tests/data/test_strangers.py.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest

from flexpie_mpi.core.budget import Budget
from flexpie_mpi.core.errors import FlexPieError
from flexpie_mpi.cost.file import save_cost
from flexpie_mpi.cost.learned import LearnedCost
from flexpie_mpi.cost.prior import AnalyticCost
from flexpie_mpi.planner import layout_plan

from ..launch import REPOSITORY

BENCH = REPOSITORY / "bench" / "fuzz"
SHAPE = (1, 3, 8, 8)
SECRET = b"canary-6f1d" * 200
DEEP = 100_000


@pytest.fixture(scope="module")
def kinds():
    """The kinds of file that the fuzzer knows, with what the program does to each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCH)
        patch.setattr(Budget, "of_machine", classmethod(lambda cls: cls(256 << 20)))
        found = [import_module(name) for name in ("texts", "costs", "hdf5s", "arrays")]
        tables = (found[0].KINDS_OF_TEXT, found[1].KINDS_OF_COST, found[2].KINDS_OF_HDF5, found[3].KINDS_OF_ARRAYS)
        place = import_module("cases").Place
        yield {kind.name: kind for table in tables for kind in table}, place, found[0]
        for path in BENCH.glob("*.py"):
            sys.modules.pop(path.stem, None)


@pytest.fixture
def place(kinds, tmp_path):
    """Folders of a case, and a file outside of them that nobody may read or write."""
    _, make, _ = kinds
    made = make(tmp_path / "files", tmp_path / "cache", tmp_path / "outside")
    for folder in (made.files, made.cache, made.outside):
        folder.mkdir()
    made.canary().write_bytes(SECRET)
    with h5py.File(made.canary(".h5"), "w") as file:
        file["x"] = np.frombuffer(SECRET[:768], "<f4").reshape(SHAPE)
    return made


def refused(kinds, place, kind: str, path: Path) -> str:
    """The sentence with which a file is refused; the file outside is as it was."""
    with pytest.raises(FlexPieError) as caught:
        kinds[0][kind].read(path, place)
    text = str(caught.value)
    assert text.isprintable() and "canary-6f1d" not in text
    assert place.canary().read_bytes() == SECRET
    return text


# Text


def plan(kinds) -> dict:
    return json.loads(layout_plan(kinds[2].graph(), 2, "rows").to_json())


def test_the_plan_that_is_changed_below_is_one(kinds, place):
    path = place.files / "plan.json"
    path.write_text(json.dumps(plan(kinds)))
    assert kinds[0]["plan"].read(path, place)


PLANS = {
    "a billion ranks": lambda record: record.update(ranks=10**9),
    "more ranks than can be counted": lambda record: record.update(ranks=10**400),
    "shares that are no numbers": lambda record: record["segments"][0]["layout"].update(weights=[float("nan"), 1]),
    "shares without end": lambda record: record["segments"][0]["layout"].update(weights=[float("inf"), 1]),
    "shares too large": lambda record: record["segments"][0]["layout"].update(weights=[10**400, 1]),
    "many ranks": lambda record: record["segments"][0]["layout"].update(ranks=list(range(200_000))),
    "names that are lists": lambda record: record["segments"][0].update(nodes=[["a"]]),
    "letters that move the cursor": lambda record: record["segments"][0].update(nodes=["\x1b[31m\n"]),
    "provenance that is no text": lambda record: record.update(provenance=[1]),
}


@pytest.mark.parametrize("change", PLANS.values(), ids=PLANS)
def test_plans(kinds, place, change):
    record = plan(kinds)
    change(record)
    path = place.files / "plan.json"
    path.write_text(json.dumps(record))
    assert "plan" in refused(kinds, place, "plan", path)


def test_turns_that_come_together_after_ages_are_no_plan(kinds, place):
    record = plan(kinds)
    for segment, count in zip(record["segments"], (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41), strict=False):
        segment["layout"] = {"kind": "single", "ranks": [0]}
        segment["turns"] = [{"kind": "single", "ranks": [turn]} for turn in range(1, count)]
    record["ranks"] = 41
    path = place.files / "plan.json"
    path.write_text(json.dumps(record))
    refused(kinds, place, "plan", path)


TESTBED = '[link]\nbandwidth = "1Gb/s"\nlatency = "1us"\n[[device]]\nname = "a"\n'
TESTBEDS = {
    "slowdown of 400 digits": f'topology = "ring"\n{TESTBED}count = 2\nslowdown = {"9" * 400}\n',
    "slowdown of 5000 digits": f'topology = "ring"\n{TESTBED}count = 2\nslowdown = {"9" * 5000}\n',
    "slowdown nan": f'topology = "ring"\n{TESTBED}count = 2\nslowdown = nan\n',
    "a billion boards": f'topology = "switch"\n{TESTBED}count = {10**9}\n',
    "depth": f'topology = "switch"\nname = {"[" * DEEP}{"]" * DEEP}\n',
    "letters that move the cursor": f'topology = "\\u001b[31m"\n{TESTBED}',
    "bandwidth without end": 'topology = "ring"\n' + TESTBED.replace("1Gb/s", "1e400Gb/s") + "count = 2\n",
    "a link that is a list": 'topology = "ring"\nlink = [1]\n[[device]]\nname = "a"\n',
}


@pytest.mark.parametrize("text", TESTBEDS.values(), ids=TESTBEDS)
def test_testbeds(kinds, place, text):
    path = place.files / "t.toml"
    path.write_text(text)
    assert "t.toml" in refused(kinds, place, "testbed", path)


SUITES = {
    "a testbed that is a device": 'models = ["m.onnx"]\ntestbeds = ["/dev/zero"]',
    "a testbed that is something else": 'models = ["m.onnx"]\ntestbeds = ["../outside/canary.bin"]',
    "a testbed with a name too long": f'models = ["m.onnx"]\ntestbeds = ["{"x" * 5000}"]',
    "a testbed with a byte 0": 'models = ["m.onnx"]\ntestbeds = ["a\\u0000b"]',
    "no ranks": 'models = ["m.onnx"]\ntestbeds = ["hosts"]\nranks = [0]',
}


@pytest.mark.parametrize("study", SUITES.values(), ids=SUITES)
def test_suites(kinds, place, study):
    path = place.files / "suite.toml"
    path.write_text(f'planners = ["rows"]\n[[study]]\n{study}\n')
    assert "suite.toml" in refused(kinds, place, "suite", path)


def results(kinds, **others) -> str:
    row = json.loads(json.dumps(kinds[2]._rows()[0]))
    row["per_rank"][0].update(others.pop("rank", {}))
    return json.dumps(row | others) + "\n"


RESULTS = {
    "seconds that are none": dict(rank={"receive_s": None}),
    "a model that is a number": dict(model=1.5),
    "versions that are none": dict(versions={"python": None}),
    "rounds that are texts": dict(measured_s=["a"]),
    "a cell that is a list": dict(testbed=["a"]),
}


@pytest.mark.parametrize("others", RESULTS.values(), ids=RESULTS)
def test_results(kinds, place, others):
    path = place.files / "results.jsonl"
    path.write_text(results(kinds, **{key: dict(v) if isinstance(v, dict) else v for key, v in others.items()}))
    assert "line 1" in refused(kinds, place, "report", path)


@pytest.mark.parametrize("start", ["", '{"kind": "placement", "format": 1, "study": '], ids=["results", "trials"])
def test_results_of_great_depth(kinds, place, start):
    path = place.files / "results.jsonl"
    path.write_text(start + "[" * DEEP + "]" * DEEP + "\n")
    refused(kinds, place, "report", path)


# Cost models

TREE = {
    "num_leaves": "2", "num_cat": "0", "split_feature": "1", "split_gain": "1", "threshold": "0.5",
    "decision_type": "2", "left_child": "-1", "right_child": "-2", "leaf_value": "0.1 0.2", "leaf_weight": "1 1",
    "leaf_count": "1 1", "internal_value": "0", "internal_weight": "0", "internal_count": "2", "is_linear": "0",
    "shrinkage": "1",
}  # fmt: skip


def forest(**others: str) -> str:
    tree = "Tree=0\n" + "".join(f"{key}={value}\n" for key, value in (TREE | others).items()) + "\n\n"
    features = 4
    names = " ".join(f"Column_{place}" for place in range(features))
    head = (
        f"tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx={features - 1}\n"
        f"objective=huber alpha:0.05\nfeature_names={names}\nfeature_infos={' '.join(['[0:1]'] * features)}\n"
        f"tree_sizes={len(tree)}\n\n"
    )
    return (
        head
        + tree
        + "end of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n\npandas_categorical:null\n"
    )


FORESTS = {
    "a child that is itself": forest(left_child="0"),
    "a leaf that is not there": forest(right_child="-900000"),
    "a child that is not there": forest(left_child="1000000"),
    "a feature that is not there": forest(split_feature="100000000"),
    "fewer values than leaves": forest(leaf_value="0.1"),
    "leaves beyond memory": forest(num_leaves="2147483647"),
    "a negative number of leaves": forest(num_leaves="-5"),
    "a threshold that is no number": forest(threshold="x"),
    "categories that are not there": forest(num_cat="3", decision_type="1"),
    "no text of LightGBM's": "tree\n",
    "no lines": "",
    "sizes of trees that lie": forest().replace("tree_sizes=", "tree_sizes=99999999999"),
}


def cost_file(path: Path, **others) -> Path:
    digest = import_module("flexpie_mpi.cost.file")._digest
    save_cost(LearnedCost(AnalyticCost()), path)
    record = json.loads(path.read_text()) | others
    head = {key: record.pop(key) for key in ("format", "version", "digest")}
    path.write_text(json.dumps(head | {"digest": digest(record)} | record))
    return path


def test_the_cost_model_that_is_changed_below_is_one(kinds, place):
    assert kinds[0]["cost"].read(cost_file(place.files / "cost.json"), place)


@pytest.mark.parametrize("text", FORESTS.values(), ids=FORESTS)
def test_forests(kinds, place, text):
    path = cost_file(place.files / "cost.json", forests={"exchange": text})
    assert "cost.json" in refused(kinds, place, "cost", path)


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": 1e999}', "[" * DEEP, "\ud800", '{"format": "flexpie_mpi cost"}'])
def test_cost_models_that_are_none(kinds, place, text):
    path = place.files / "cost.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    refused(kinds, place, "cost", path)


# HDF5


def outside(file: h5py.File, place) -> None:
    file.create_dataset("x", SHAPE, "f4", external=[(str(place.canary()), 0, h5py.h5f.UNLIMITED)])


def link(file: h5py.File, place) -> None:
    file["x"] = h5py.ExternalLink(str(place.canary(".h5")), "/x")


def counted(value):
    def add(file: h5py.File, place) -> None:
        file["x"] = np.zeros((4, *SHAPE), "f4")
        file.attrs.update({"format": "flexpie_mpi values", "format_version": 1, "requests": value})

    return add


def behind(file: h5py.File, place) -> None:
    file.create_dataset("x", (2**40,), "f4", maxshape=(None,), chunks=(1,))


APPENDED = {
    "data outside": outside, "a link": link, "rows that cannot grow": counted(4),
    "rows behind its end": behind,
    "a count that is a text": counted("abc"), "a count without end": counted(2**62),
}  # fmt: skip


@pytest.mark.parametrize("add", APPENDED.values(), ids=APPENDED)
def test_results_that_are_appended_to(kinds, place, add):
    path = place.files / "out.h5"
    with h5py.File(path, "w") as file:
        add(file, place)
        file.attrs.setdefault("requests", np.int64(1))
        file.attrs.update({"format": "flexpie_mpi values", "format_version": 1, "model": "m", "model_digest": "d"})
    refused(kinds, place, "results", path)


TRACES = {
    "rows beyond memory": lambda file, rows: file.create_dataset("compute", (2**40,), rows.dtype, chunks=(1024,)),
    "another table": lambda file, rows: file.create_dataset("compute", data=np.zeros(3)),
    "a group": lambda file, rows: file.create_group("compute"),
    "origins that are a number": lambda file, rows: file.__setitem__("origins", 3),
    "origins of great depth": lambda file, rows: file.__setitem__("origins", "[" * DEEP),
    "version": lambda file, rows: file.attrs.__setitem__("version", "x"),
}


@pytest.mark.parametrize("change", TRACES.values(), ids=TRACES)
def test_traces(kinds, place, change):
    path = place.files / "t.h5"
    made = import_module("hdf5s").traces()
    made.write(path)
    with h5py.File(path, "r+") as file:
        for name in ("compute", "origins"):
            kept = file[name][()]
            del file[name]
        change(file, made.tables["compute"])
        if "origins" not in file:
            file.create_dataset("origins", data=kept, dtype=h5py.string_dtype())
    refused(kinds, place, "traces", path)


@pytest.mark.parametrize("size", [0, 2**64 - 8])
def test_heaps_without_an_end(kinds, place, size):
    """Inside of HDF5, where no signal reaches."""
    for kind, name in (("traces", "t.h5"), ("requests", "x.h5"), ("results", "out.h5")):
        path = place.files / name
        with h5py.File(path, "w") as file:
            file["x"] = np.zeros(SHAPE, "f4")
            file.attrs["format"] = "flexpie_mpi traces" if kind == "traces" else "flexpie_mpi values"
        data = bytearray(path.read_bytes())
        first = data.index(b"GCOL") + 16
        data[first : first + 16] = struct.pack("<HHIQ", 0 if size == 0 else 1, 0, 0, size)
        path.write_bytes(data)
        refused(kinds, place, kind, path)


# Streams, and what never ends


@pytest.mark.parametrize(
    "data",
    [struct.pack("<Q", 2**63), struct.pack("<Q", 1 << 19) + b"x", struct.pack("<Q", 3) + b"abc", b"\1\2"],
    ids=["a length without end", "the end in the middle", "no array", "half a length"],
)
def test_streams(kinds, place, data):
    path = place.files / "pipe"
    path.write_bytes(data)
    refused(kinds, place, "stream", path)


def test_files_that_never_end(kinds, place):
    for kind, suffix in (("npy", ".npy"), ("npz", ".npz"), ("image", ".png"), ("requests", ".h5"), ("cost", ".json")):
        path = place.files / f"x{suffix}"
        os.symlink("/dev/zero", path)
        refused(kinds, place, kind, path)
