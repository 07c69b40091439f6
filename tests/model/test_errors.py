"""Files that are no model, and models that cannot run: one sentence that names the matter."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.model import load

from .build import classifier, make, noise, save


def refused(source, cache, match):
    with pytest.raises(ModelError, match=match) as caught:
        load(str(source), cache=cache)
    assert "\n" not in str(caught.value)


def test_missing_file_and_directory(tmp_path, cache):
    refused(tmp_path / "none.onnx", cache, r"none\.onnx does not exist")
    refused(tmp_path, cache, "is a directory")


@pytest.mark.parametrize(
    "data",
    [
        np.random.default_rng(0).bytes(100_000),
        np.random.default_rng(5).bytes(300),
        b"A text file, not a model.\n" * 20,
        b"\n" * 100,
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100),
        bytes(1000),
    ],
    ids=["random", "few random", "text", "blank lines", "png", "zeros"],
)
def test_files_that_are_no_model(data, tmp_path, cache):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    refused(path, cache, r"m\.onnx is .*no ONNX model")


def test_empty_file(tmp_path, cache):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"")
    refused(path, cache, "is empty")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_truncated_model(share, tmp_path, cache):
    data = classifier(64).SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, cache, r"m\.onnx is truncated or no ONNX model")


def test_external_data_that_is_missing_short_or_outside(tmp_path, cache):
    path = tmp_path / "m.onnx"
    onnx.save(classifier(), path, save_as_external_data=True, location="m.data", size_threshold=0)
    data = tmp_path / "m.data"
    data.write_bytes(data.read_bytes()[:100])
    refused(path, cache, r"m\.data, which has only 100")
    data.unlink()
    refused(path, cache, r"m\.data, which does not exist")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../elsewhere"
    refused(save(model, path), cache, "must be in or under the model's folder")


def test_unknown_builtin(cache):
    refused("builtin:tiny_cn", cache, r"no built-in model 'tiny_cn' .*tiny_resnet.* did you mean 'tiny_cnn'")
    refused("builtin:zzz", cache, "choose one")


@pytest.mark.parametrize(
    ("options", "match"),
    [({"ir_version": 99}, "IR version: 99.*install a newer"), ({"opset": 99}, "Opset 99.*install a newer")],
)
def test_versions_of_the_future(options, match, tmp_path, cache):
    proto = make([("Relu", ["x"], ["y"])], {"x": (1,)}, ["y"], **options)
    refused(save(proto, tmp_path / "m.onnx"), cache, match)


def test_unknown_operators(tmp_path, cache):
    refused(save(make([("Foo", ["x"], ["y"])], {"x": (1,)}, ["y"]), tmp_path / "m.onnx"), cache, "Foo")
    other = make([helper.make_node("Bar", ["x"], ["y"], domain="my")], {"x": (1,)}, ["y"], domains=["my"])
    refused(save(other, tmp_path / "m.onnx"), cache, "my:Bar")


@pytest.mark.parametrize("nodes", [[("Add", ["x", "z"], ["y"]), ("Relu", ["y"], ["z"])], [("Add", ["x", "z"], ["y"])]])
def test_broken_graphs(nodes, tmp_path, cache):
    refused(save(make(nodes, {"x": (1,)}, ["y"]), tmp_path / "m.onnx"), cache, "does not accept the model")


@pytest.mark.parametrize("size", [3, 100_000])
def test_weight_of_the_wrong_size(size, tmp_path, cache):
    proto = make([("Add", ["x", "w"], ["y"])], {"x": (7,)}, ["y"], {"w": noise(7)})
    proto.graph.initializer[0].raw_data = bytes(size)
    refused(save(proto, tmp_path / "m.onnx"), cache, r"m\.onnx")


def test_a_refused_model_leaves_nothing_in_the_cache(tmp_path, cache):
    refused(save(make([("Foo", ["x"], ["y"])], {"x": (1,)}, ["y"]), tmp_path / "m.onnx"), cache, "Foo")
    assert [path for path in cache.folder.rglob("*") if path.is_file()] == []
