"""Outputs that a file cannot hold, or not in their own type: said before the run, and never at the others' expense."""

from __future__ import annotations

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.arrays import read_npz

X = np.random.default_rng(0).standard_normal((3, 4), np.float32)


@pytest.fixture
def classifier(tmp_path):
    """A label and a sequence of maps, as scikit-learn's converter writes them."""
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            coefficients=[float(number) for number in range(12)],
            intercepts=[0.0, 1.0, -1.0],
            classlabels_ints=[3, 5, 7],
            multi_class=0,
            post_transform="SOFTMAX",
        ),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[3, 5, 7]),
    ]
    return saved(tmp_path, nodes, {"label": TensorProto.INT64, "probabilities": None})


def saved(folder, nodes, outputs):
    maps = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4])],
        [
            helper.make_value_info(name, helper.make_tensor_type_proto(kind, None) if kind else maps)
            for name, kind in outputs.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    path = folder / f"{'-'.join(outputs)}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    np.save(folder / "x.npy", X)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_the_label_is_kept_when_the_maps_are_not(one, classifier, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    code, out, err = one(
        "infer", "--model", classifier, "--input", tmp_path / "x.npy", "--repeat", 1, "--output", output
    )
    assert code == 0 and out and "output 'probabilities' is of type sequence and is not written" in err
    held = h5py.File(output) if suffix == ".h5" else np.load(output)
    assert list(held) == ["label"] and held["label"][()].shape == (3,)


def test_the_label_is_kept_of_every_request(one, classifier, tmp_path):
    words = ["infer", "--model", classifier, "--requests", 5, "--output", tmp_path / "out.h5"]
    code, _, err = one(*words)
    assert code == 0 and err.count("is not written") == 1
    with h5py.File(tmp_path / "out.h5") as file:
        assert {name: item.shape for name, item in file.items()} == {"label": (5, 3)}


@pytest.mark.parametrize("words", [["--output", "out.npz"], ["--requests", 2, "--output", "out.h5"]])
def test_a_file_that_would_hold_nothing_is_refused_before_the_run(one, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    nodes = [
        helper.make_node("ZipMap", ["x"], ["only"], domain="ai.onnx.ml", classlabels_int64s=[1, 2, 3, 4]),
    ]
    path = saved(tmp_path, nodes, {"only": None})
    code, out, err = one("infer", "--model", path, *words)
    assert (code, out) == (2, "") and "could hold nothing: 'only' is of type sequence" in err
    assert len(err.splitlines()) == 1 and not list(tmp_path.glob("out.*"))
    assert one("infer", "--model", path, "--repeat", 1)[0] == 0


def test_bfloat16_is_written_as_float32_and_that_is_said(one, tmp_path):
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)]
    path = saved(tmp_path, nodes, {"y": TensorProto.BFLOAT16})
    bits = X.view(np.uint32)
    expected = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).view(np.float32)  # to nearest, ties to even
    for name, more in (("out.npz", []), ("out.h5", []), ("many.h5", ["--append"])):
        words = ["infer", "--model", path, "--input", tmp_path / "x.npy", "--output", tmp_path / name, *more]
        code, _, err = one(*words, *(["--requests", 1] if more else ["--repeat", 1]))
        assert code == 0 and "output 'y' is of type bfloat16, and is written" in err and "as float32" in err
    np.testing.assert_array_equal(read_npz(tmp_path / "out.npz")["y"], expected)
    for name in ("out.h5", "many.h5"):
        with h5py.File(tmp_path / name) as file:
            assert file["y"].dtype == np.float32 and file["y"].attrs["onnx_type"] == "bfloat16"
            np.testing.assert_array_equal(np.squeeze(file["y"][()]), expected)
