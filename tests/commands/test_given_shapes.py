"""Shapes are said once: by the files that are given, or by --shape where there are none."""

from __future__ import annotations

import re

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from tests.arrays import read_hdf5


def saved(folder, nodes, inputs, outputs, name="model"):
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, dims) for key, dims in inputs.items()],
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, None) for key in outputs],
    )
    path = folder / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def pair(tmp_path):
    """y = a b, with five symbols."""
    nodes = [helper.make_node("MatMul", ["a", "b"], ["y"])]
    return saved(tmp_path, nodes, {"a": ["batch", "rows", "k"], "b": ["batch", "k", 8]}, ["y"])


@pytest.fixture
def picture_model(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    return saved(tmp_path, nodes, {"x": ["n", 3, "h", "w"]}, ["y"], "picture")


A, B = np.ones((2, 5, 7), np.float32), np.ones((2, 7, 8), np.float32)


def test_archives_give_every_axis(one, pair, tmp_path):
    np.savez(tmp_path / "in.npz", a=A, b=B)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["a"], file["b"] = A, B
    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "b.npy", B)
    for files in (["in.npz"], ["in.h5"], ["a.npy", "b.npy"], ["b=b.npy", "a.npy"]):
        words = [word if "=" not in word else f"b={tmp_path / word[2:]}" for word in files]
        words = [word if "=" in word else tmp_path / word for word in words]
        output = tmp_path / "out.npz"
        code, _, err = one("infer", "--model", pair, "--repeat", 1, "--output", output, "--input", *words)
        assert (code, err) == (0, "")
        np.testing.assert_array_equal(np.load(output)["y"], A @ B)


def test_a_stream_takes_the_shapes_of_its_first_request(one, pair, tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["a"], file["b"] = np.stack([A, 2 * A, 3 * A]), np.stack([B, B, B])
    words = ["infer", "--model", pair, "--input", tmp_path / "in.h5", "--output", tmp_path / "out.h5"]
    code, _, err = one(*words)
    assert (code, err) == (0, "")
    assert read_hdf5(tmp_path / "out.h5")["y"].shape == (3, 2, 5, 8)
    for number in range(2):  # as many files as inputs, and a request each
        np.savez(tmp_path / f"{number}.npz", a=A, b=B)
    words = ["infer", "--model", pair, "--requests", 2, "--input", tmp_path / "0.npz", tmp_path / "1.npz"]
    code, _, err = one(*words, "--output", tmp_path / "two.h5")
    assert (code, err) == (0, "") and read_hdf5(tmp_path / "two.h5")["y"].shape == (2, 2, 5, 8)


def test_files_of_a_stream_and_pictures(one, picture_model, tmp_path):
    for number in range(3):
        Image.new("RGB", (6, 4), (255, 0, 0)).save(tmp_path / f"{number}.png")
    words = ["infer", "--model", picture_model, "--output", tmp_path / "out.h5"]
    assert one(*words, "--input", tmp_path / "*.png")[0] == 0
    assert read_hdf5(tmp_path / "out.h5")["y"].shape == (3, 1, 3, 4, 6)
    for asked, shape in (([], (1, 3, 4, 6)), (["--shape", "x=1,3,9,5"], (1, 3, 9, 5))):
        words = ["infer", "--model", picture_model, "--repeat", 1, "--output", tmp_path / "one.npz", *asked]
        assert one(*words, "--input", tmp_path / "0.png")[0] == 0
        assert np.load(tmp_path / "one.npz")["y"].shape == shape


def test_an_empty_axis(one, tmp_path):
    nodes = [helper.make_node("Concat", ["past", "x"], ["y"], axis=1)]
    path = saved(tmp_path, nodes, {"x": [1, "t", 4], "past": [1, "p", 4]}, ["y"])
    x = np.ones((1, 2, 4), np.float32)
    np.savez(tmp_path / "in.npz", x=x, past=np.zeros((1, 0, 4), np.float32))
    words = ["infer", "--model", path, "--repeat", 1, "--output", tmp_path / "out.npz", "--input", tmp_path / "in.npz"]
    for asked in ([], ["--shape", "past=1,0,4"]):
        code, _, err = one(*words, *asked)
        assert (code, err) == (0, "")
        np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["y"], x)


def test_all_that_is_missing_is_one_sentence(one, here, pair, tmp_path):
    said = r"Input 'a' has shape \[1,rows,k\] in the model: give every size with --shape a=1,\?,\?$"  # b's follow
    for call, words in ((one, ["infer", "--model", pair]), (here, ["inspect", pair])):
        code, out, err = call(*words)
        assert (code, out) == (2, "") and len(err.splitlines()) == 1 and re.search(said, err.strip())


@pytest.mark.parametrize(
    ("arrays", "asked", "said"),
    [
        ({"a": A, "b": B[:, :, :4]}, [], "in.npz' has shape 2,7,4 and input 'b' wants 2,7,8"),
        ({"a": A, "b": B[0]}, [], "in.npz' has shape 7,8 and input 'b' wants batch,k,8"),
        ({"a": A, "b": B}, ["--shape", "a=2,6,7"], "in.npz' has shape 2,5,7 and input 'a' wants 2,6,7"),
        ({"a": A, "b": B}, ["--shape", "b=2,9,8"], "in.npz' has shape 2,5,7 and input 'a' wants 2,5,9"),
        ({"a": A, "b": B}, ["--shape", "a=2,5,9"], "in.npz' has shape 2,5,7 and input 'a' wants 2,5,9"),
    ],
)
def test_what_contradicts_is_one_sentence(one, pair, tmp_path, arrays, asked, said):
    np.savez(tmp_path / "in.npz", **arrays)
    code, out, err = one("infer", "--model", pair, "--input", tmp_path / "in.npz", *asked)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and said in err


def test_files_that_cannot_be_read_are_said(one, pair, tmp_path):
    (tmp_path / "in.npz").write_bytes(b"no archive")
    for name, said in (("in.npz", "cannot be read as a .npz file"), ("gone.npz", "does not exist")):
        code, _, err = one("infer", "--model", pair, "--input", tmp_path / name)
        assert code == 2 and said in err and len(err.splitlines()) == 1


def test_a_budget_of_memory(one, picture_model):
    words = ["infer", "--model", picture_model, "--repeat", 1, "--shape", "x=1,3,3000,3000", "--no-cache"]
    code, _, err = one(*words, "--memory", "100MB")
    assert code == 2 and "allow more with --memory" in err and len(err.splitlines()) == 1
    code, _, err = one(*words, "--memory", "much")
    assert code == 2 and "no size of a memory" in err
