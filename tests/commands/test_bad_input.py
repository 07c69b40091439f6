"""Wrong input: one clear sentence on stderr, exit code 2, on any number of ranks; no traceback, no partial file."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from flexpie_mpi import layout_plan, load

TINY = "builtin:tiny_cnn"
RANKS = [1, pytest.param(2, marks=pytest.mark.mpi)]


@pytest.fixture
def plans(tmp_path):
    """Plan files for two ranks, right and wrong in one way each."""
    graph = load(TINY).graph
    text = layout_plan(graph, 2, "rows").to_json()
    record = json.loads(text)

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

    def cut_the_pool(copy):
        at = next(i for i, segment in enumerate(copy["segments"]) if "avgpool" in segment["nodes"])
        copy["segments"][at]["layout"] = {"kind": "rows", "ranks": [0, 1]}

    edited("layout.json", replace_layout)
    edited("ranks.json", replace_ranks)
    edited("node.json", rename)
    edited("order.json", swap)
    edited("missing.json", lambda copy: copy["segments"].pop())
    edited("pool.json", cut_the_pool)
    edited("root.json", lambda copy: copy.update(root=1))
    edited("future.json", lambda copy: copy.update(format=99))
    other = layout_plan(load("builtin:tiny_vgg").graph, 2, "rows")
    (tmp_path / "other.json").write_text(other.to_json())
    (tmp_path / "three.json").write_text(layout_plan(graph, 3, "rows").to_json())
    (tmp_path / "half.json").write_text(text[: len(text) // 2])
    (tmp_path / "bytes.json").write_bytes(b"\x89\xff\x00")
    assert record["ranks"] == 2
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


def check(done, *words):
    """One sentence that says all `words`, exit code 2, and nothing else."""
    assert done.code == 2, done
    assert done.out == "" and "Traceback" not in done.err, done
    said = [line for line in done.err.splitlines() if line.startswith("flexpie-mpi: error: ")]
    assert len(said) == 1 and all(re.search(word, said[0]) for word in words), done
    assert not re.search(r"rank \d: ", done.err), done


MODELS = {
    "nowhere.onnx": "does not exist", "folder.onnx": "director|folder", "cut.onnx": "truncated|no ONNX model",
    "random.onnx": "truncated|no ONNX model", "empty.onnx": "empty",
}  # fmt: skip


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", MODELS)
def test_models(job, files, name, ranks):
    check(job(ranks, "infer", "--model", files / name), name, MODELS[name])


INPUTS = {
    "nowhere.npy": "does not exist", "shape.npy": "1,3,16,16.*1,3,32,32", "dtype.npy": "int64.*float32",
    "name.npz": "nobody", "cut.npy": "cannot be read", "noise.png": "cannot be read", "folder.onnx": "folder",
}  # fmt: skip


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", INPUTS)
def test_inputs(job, files, name, ranks):
    output = files / "out.npz"
    check(job(ranks, "infer", "--model", TINY, "--input", files / name, "--output", output), name, INPUTS[name])
    assert not output.exists() and not list(files.glob(".*"))


OUTPUTS = [
    ("--output", "nowhere/out.npz"), ("--output", "file/out.npz"), ("--output", "folder.onnx"), ("--output", "out.txt"),
    ("--json", "nowhere/run.json"), ("--json", "folder.onnx"), ("--save-plan", "file/plan.json"),
]  # fmt: skip


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize(("option", "place"), OUTPUTS)
def test_outputs_are_tried_before_the_model_is_even_looked_for(job, files, option, place, ranks):
    before = sorted(files.rglob("*"))
    check(job(ranks, "infer", "--model", "nowhere.onnx", option, files / place), place)
    assert sorted(files.rglob("*")) == before


PLANS = {
    "nowhere.json": "cannot be read", "half.json": "not JSON", "bytes.json": "not text", "future.json": "format 99",
    "layout.json": "unknown kind 'diagonal'", "ranks.json": "rank 7", "node.json": "'nobody'", "order.json": "order",
    "missing.json": "leaves out", "pool.json": "avgpool.*cannot be cut", "root.json": "root 1",
    "other.json": "another model", "three.json": "3 ranks.*mpirun -n 3",
}  # fmt: skip


@pytest.mark.mpi
@pytest.mark.parametrize("name", PLANS)
def test_plans(job, plans, name):
    check(job(2, "infer", "--model", TINY, "--plan", plans / name), PLANS[name])


def test_a_plan_for_other_ranks_on_one(job, plans):
    check(job(1, "infer", "--model", TINY, "--plan", plans / "other.json"), "2 ranks and the job has 1")


WORDS = [
    (["--layout", "diagonal"], "invalid choice: 'diagonal'"),
    (["--fuse", "0"], "'0' is none of"),
    (["--grid", "2x2"], "--grid goes with --layout grid"),
    (["--layout", "grid", "--grid", "5x1"], "grid"),
    (["--layout", "rows", "--weights", "1,2,3"], "3 shares"),
    (["--weights", "1,1"], "--weights goes with"),
    (["--plan", "x.json", "--layout", "rows"], "--plan already says"),
    (["--repeat", "0"], "'0' is not a whole number from 1 on"),
    (["--model", "builtin:resnet5000"], "resnet50"),
    (["--model", TINY, "--shape", "nobody=1,2"], "nobody"),
    (["--json", "a.json", "--save-plan", "a.json"], "both name 'a.json'"),
    (["--cache", "x", "--no-cache"], "not allowed with"),
    (["--laiout", "rows"], "--laiout"),
]


@pytest.mark.parametrize(("words", "expected"), WORDS)
def test_words_on_one_rank(job, words, expected):
    check(job(1, "infer", *words), expected)


@pytest.mark.mpi
@pytest.mark.mpi_short
@pytest.mark.parametrize("words", [WORDS[0][0], WORDS[4][0]])
def test_words_on_three_ranks_are_answered_once(job, words):
    check(job(3, "infer", *words))


@pytest.mark.parametrize(
    "words", [["inspect"], ["inspect", "x.onnx"], ["plan", "--ranks", "0"], ["plan"], ["dance"], []]
)
def test_verbs_without_ranks(here, words):
    code, out, err = here(*words)
    assert code == 2 and out == "" and err.count("\n") == 1 and err.startswith("flexpie-mpi: error: ")


@pytest.mark.mpi
def test_a_cache_limit_that_is_wrong_on_one_rank_ends_all(job, tmp_path):
    program = tmp_path / "odd.py"
    program.write_text(
        "import os, sys\nfrom flexpie_mpi.commands.launch import launcher_rank\n"
        "if launcher_rank() == 1: os.environ['FLEXPIE_CACHE_BYTES'] = 'much'\n"
        "from flexpie_mpi.__main__ import main\nsys.exit(main())\n"
    )
    done = job(2, "infer", "--model", TINY, program=(str(program),))
    assert done.code == 2 and "rank 1: FLEXPIE_CACHE_BYTES is 'much'" in done.err and "Traceback" not in done.err, done
