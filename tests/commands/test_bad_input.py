"""Wrong input: one clear sentence on stderr, exit code 2, on any number of ranks; no traceback, no partial file."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from flexpie_mpi import layout_plan, load

TINY = "builtin:tiny_cnn"


@pytest.fixture
def plans(tmp_path):
    """Plan files for two ranks, right and wrong in one way each."""
    graph = load(TINY).graph
    text = layout_plan(graph, 2, "rows").to_json()

    def edited(name, change):
        copy = json.loads(text)
        change(copy)
        (tmp_path / name).write_text(json.dumps(copy))

    def replace_layout(copy):
        copy["segments"][0]["layout"]["kind"] = "diagonal"

    def replace_ranks(copy):
        copy["segments"][0]["layout"]["ranks"] = [0, 7]

    def rename(copy):
        copy["segments"][1]["nodes"][0] = "nobody"

    def swap(copy):
        copy["segments"][0], copy["segments"][1] = copy["segments"][1], copy["segments"][0]

    def cut_the_scores(copy):
        copy["segments"][-1]["layout"] = {"kind": "columns", "ranks": [0, 1]}

    edited("layout.json", replace_layout)
    edited("ranks.json", replace_ranks)
    edited("node.json", rename)
    edited("order.json", swap)
    edited("missing.json", lambda copy: copy["segments"].pop())
    edited("axis.json", cut_the_scores)
    edited("root.json", lambda copy: copy.update(root=1))
    edited("future.json", lambda copy: copy.update(format=99))
    other = layout_plan(load("builtin:tiny_vgg").graph, 2, "rows")
    (tmp_path / "other.json").write_text(other.to_json())
    (tmp_path / "three.json").write_text(layout_plan(graph, 3, "rows").to_json())
    (tmp_path / "half.json").write_text(text[: len(text) // 2])
    (tmp_path / "bytes.json").write_bytes(b"\x89\xff\x00")
    return tmp_path


@pytest.fixture
def files(tmp_path, two_by_two):
    """Models and inputs that cannot be used."""
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "cut.onnx").write_bytes(two_by_two.read_bytes()[:-100])
    (tmp_path / "random.onnx").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "empty.onnx").write_bytes(b"")
    np.save(tmp_path / "shape.npy", np.zeros((1, 3, 16, 16), np.float32))
    np.save(tmp_path / "dtype.npy", np.zeros((1, 3, 32, 32), np.int64))
    np.savez(tmp_path / "name.npz", nobody=np.zeros((1, 3, 32, 32), np.float32))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "shape.npy").read_bytes()[:500])
    (tmp_path / "noise.png").write_bytes(b"no picture")
    return tmp_path


def check(code, out, err, expected):
    """One sentence that says what is expected, exit code 2, and nothing else."""
    assert code == 2 and out == "" and "Traceback" not in err, (code, out, err)
    said = [line for line in err.splitlines() if line.startswith("flexpie-mpi: error: ")]
    assert len(said) == 1 and re.search(expected, said[0]), err
    assert not re.search(r"rank \d: ", err), err


INFER = ["infer", "--model", TINY]

MODELS = {
    "nowhere.onnx": "does not exist", "folder.onnx": "director|folder", "cut.onnx": "truncated|no ONNX model",
    "random.onnx": "truncated|no ONNX model", "empty.onnx": "empty",
}  # fmt: skip
INPUTS = {
    "nowhere.npy": "does not exist", "shape.npy": "1,3,16,16.*1,3,32,32", "dtype.npy": "int64.*float32",
    "name.npz": "nobody", "cut.npy": "cannot be read", "noise.png": "cannot be read", "folder.onnx": "folder",
}  # fmt: skip
OUTPUTS = [
    ("--output", "nowhere/out.npz"), ("--output", "file/out.npz"), ("--output", "folder.onnx"), ("--output", "out.txt"),
    ("--json", "nowhere/run.json"), ("--json", "folder.onnx"), ("--save-plan", "file/plan.json"),
]  # fmt: skip
PLANS = {
    "nowhere.json": "cannot be read", "half.json": "not JSON", "bytes.json": "not text", "future.json": "format 99",
    "layout.json": "unknown kind 'diagonal'", "ranks.json": "rank 7", "node.json": "'nobody'", "order.json": "order",
    "missing.json": "leaves out", "axis.json": "classifier.*cannot be cut", "root.json": "root 1",
    "other.json": "another model", "three.json": "3 ranks.*mpirun -n 3",
}  # fmt: skip
FILES = [
    *((["infer", "--model", name], expected) for name, expected in MODELS.items()),
    *(([*INFER, "--output", "out.npz", "--input", name], f"{name}.*({text})") for name, text in INPUTS.items()),
    *((["infer", "--model", "nowhere.onnx", option, place], place) for option, place in OUTPUTS),
]
"""Words in a folder with `files`, and the sentence they earn. A path that cannot be written is found out before the
model is even looked for."""


@pytest.mark.parametrize(("words", "expected"), FILES, ids=lambda item: item[-1] if isinstance(item, list) else "")
def test_files_on_one_rank(one, files, words, expected, monkeypatch):
    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))
    check(*one(*words), expected)
    assert sorted(files.rglob("*")) == before


@pytest.mark.mpi
def test_all_ranks_raise_the_same_sentence(mpirun, files, plans, cache_folder):
    """All cases in one launch: each ends on every rank, with one sentence, and the next one can begin."""
    plan_cases = [([*INFER, "--plan", name], expected) for name, expected in PLANS.items()]
    cases = [*FILES, *plan_cases, *(([*INFER, *words], expected) for words, expected in CHOICES)]
    before = sorted(files.rglob("*"))
    (files / "cases.json").write_text(json.dumps([words for words, _ in cases]))
    said = mpirun(2, "bad_input_program.py", str(files))
    (files / "cases.json").unlink()
    assert len(said) == len(cases) and sorted(files.rglob("*")) == before
    for sentences, (words, expected) in zip(said, cases, strict=True):
        assert len(set(sentences)) == 1, (words, sentences)
        assert re.search(expected, sentences[0]) and "rank 0:" not in sentences[0], (words, sentences)


LAUNCHES = [
    ([*INFER, "--input", "shape.npy", "--output", "out.npz"], "1,3,16,16"),
    ([*INFER, "--layout", "diagonal"], "invalid choice: 'diagonal'"),
]


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=[pytest.mark.mpi, pytest.mark.mpi_short])])
@pytest.mark.parametrize(("words", "expected"), LAUNCHES, ids=["input", "layout"])
def test_the_whole_program(job, files, words, expected, ranks):
    placed = [str(files / word) if "." in word else word for word in words]
    done = job(ranks, *placed)
    check(done.code, done.out, done.err, expected)
    assert not (files / "out.npz").exists()


CHOICES = [
    (["--testbed", "nowhere.toml"], "nowhere.toml"),
    (["--report", "--cost", "nowhere.json"], "nowhere.json"),
    (["--report", "--traces", "nowhere.h5"], "nowhere.h5"),
    (["--layout", "grid", "--grid", "5x1"], "--grid 5x1 has 5 places"),
    (["--layout", "rows", "--weights", "1,2,3,4"], "4 shares"),
    (["--model", "builtin:resnet5000"], "resnet50"),
    (["--shape", "nobody=1,2"], "nobody"),
    (["--json", "a.json", "--save-plan", "a.json"], "both name 'a.json'"),
]
WORDS = [
    (["--fuse", "0"], "'0' is none of"),
    (["--layout", "rows", "--partial", "auto"], "--partial goes with --layout auto"),
    (["--grid", "2x2"], "--grid goes with --layout grid"),
    (["--layout", "single", "--weights", "1,1"], "--weights goes with"),
    (["--fuse", "none"], "--fuse goes with a layout that is a rule"),
    (["--autotune", "2", "--layout", "rows"], "--autotune goes with a planner that searches"),
    (["--autotune", "0"], "'0' is not a whole number from 1 on"),
    (["--plan", "x.json", "--autotune", "2"], "--plan already says what --autotune"),
    (["--trace-budget", "-1"], "'-1' is not a number of seconds from 0 on"),
    (["--objective", "throughput"], "'throughput'.*plans are made for latency"),
    (["--plan", "x.json", "--layout", "rows"], "--plan already says"),
    (["--repeat", "0"], "'0' is not a whole number from 1 on"),
    (["--cache", "x", "--no-cache"], "not allowed with"),
    (["--laiout", "rows"], "--laiout"),
]


@pytest.mark.parametrize(("words", "expected"), [*WORDS, *CHOICES])
def test_words(one, words, expected):
    check(*one(*INFER, *words), expected)


@pytest.mark.parametrize(
    "words", [["inspect"], ["inspect", "x.onnx"], ["plan", "--ranks", "0"], ["plan"], ["dance"], []]
)
def test_verbs_without_ranks(here, words):
    check(*here(*words), "")


@pytest.mark.mpi
def test_a_cache_limit_that_is_wrong_on_one_rank_ends_all(job, tmp_path):
    program = tmp_path / "odd.py"
    program.write_text(
        "import os, sys\nfrom flexpie_mpi.runtime.machine import launcher_rank\n"
        "if launcher_rank() == 1: os.environ['FLEXPIE_CACHE_BYTES'] = 'much'\n"
        "from flexpie_mpi.__main__ import main\nsys.exit(main())\n"
    )
    done = job(2, "infer", "--model", TINY, program=(str(program),))
    assert done.code == 2 and "rank 1: FLEXPIE_CACHE_BYTES is 'much'" in done.err and "Traceback" not in done.err, done
