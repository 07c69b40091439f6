"""Models of strangers: nothing outside of their folder is read, and what would take too much is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flexpie_mpi.core.budget import Budget
from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.model import load
from flexpie_mpi.model import read as read_module
from flexpie_mpi.model.read import read_source
from flexpie_mpi.model.strip_weights import varint

from .build import make, noise, save, session

SECRET = b"secret!!" * 64


def refused(model: onnx.ModelProto | bytes, folder: Path, match: str, budget: int = 1 << 20) -> None:
    path = folder / "m.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(ModelError, match=match) as caught:
        read_source(path, budget=Budget(budget))
    assert str(caught.value).isprintable()


def external(*entries: tuple[str, str], dims: tuple[int, ...] = (16,)) -> onnx.TensorProto:
    """A tensor whose data are said to be elsewhere."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in entries:
        tensor.external_data.add(key=key, value=value)
    return tensor


def adding(tensor: onnx.TensorProto) -> onnx.ModelProto:
    model = make([("Add", ["x", "w"], ["y"])], {"x": (16,)}, ["y"])
    model.graph.initializer.append(tensor)
    return model


def sparse(dims, indices, values=None, kind=np.int64) -> onnx.SparseTensorProto:
    indices = np.array(indices, kind)
    values = np.ones(len(indices), np.float32) if values is None else values
    return onnx.SparseTensorProto(
        dims=dims, values=numpy_helper.from_array(values, "s"), indices=numpy_helper.from_array(indices, "i")
    )


def with_sparse(tensor: onnx.SparseTensorProto) -> onnx.ModelProto:
    model = make([("Relu", ["s"], ["y"])], {"x": (1,)}, ["y"])
    model.graph.sparse_initializer.append(tensor)
    return model


# Data in other files


@pytest.fixture
def folder(tmp_path):
    """A folder for a model, beside a file that it may not read; the current folder has one as well."""
    inside, elsewhere = tmp_path / "model", tmp_path / "elsewhere"
    for path in (inside, elsewhere):
        path.mkdir()
        (path / "data.bin").write_bytes(bytes(64) if path is inside else SECRET)
    (elsewhere / "only.bin").write_bytes(SECRET)
    (inside / "link.bin").symlink_to(elsewhere / "data.bin")
    (inside / "folder").symlink_to(elsewhere)
    (inside / "loop").symlink_to("loop")
    os.mkfifo(inside / "pipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        yield inside


OUTSIDE = "must be in or under the model's folder"


@pytest.mark.parametrize(
    ("location", "match"),
    [
        ("/etc/passwd", OUTSIDE),
        ("../elsewhere/data.bin", OUTSIDE),
        ("folder/../../elsewhere/data.bin", OUTSIDE),
        ("link.bin", f"{OUTSIDE}, and a link leads out of it"),
        ("folder/data.bin", f"{OUTSIDE}, and a link leads out of it"),
        ("only.bin", "does not exist"),
        ("pipe", "no regular file"),
        ("", "external data with no location: save the model again"),
        (".", "names no file"),
        ("folder/.", "names no file"),
        ("data.bin/", "location 'data.bin/', which names no file"),
        ("loop", "cannot be opened: "),
        ("x" * 5000, "cannot be opened: File name too long"),
        ("a\0b", "cannot be opened: "),
    ],
)
def test_data_are_read_from_the_models_folder_only(folder, location, match):
    refused(adding(external(("location", location))), folder, match)


@pytest.mark.parametrize(
    ("entries", "dims", "match"),
    [
        ([("offset", "-4")], (16,), "with offset '-4', which is no number"),
        *(([("offset", text)], (16,), "no number") for text in (" 0 ", "+0", "0_0", "0x0", "\u0660", "0\n")),
        ([("offset", str(2**63))], (16,), "which has only 64"),
        ([("length", "1e3")], (16,), "no number"),
        ([("offset", "9" * 5000)], (16,), "no number"),
        ([("length", "4")], (16,), "has 4 bytes, but its shape .16. needs 64"),
        ([], (-16,), "no size can be negative"),
        ([("length", "-64")], (-1, 16), "no size can be negative"),
        ([], (2**32, 2**32), "more elements than can be counted"),
        ([], (1,) * 300, "300 axes"),
    ],
)
def test_places_of_data_are_checked(folder, entries, dims, match):
    refused(adding(external(("location", "data.bin"), *entries, dims=dims)), folder, match)


@pytest.mark.parametrize("entries", [[("length", "0")], [("offset", ""), ("length", "")], [("offset", "00")]])
def test_what_is_not_given_is_worked_out(folder, entries):
    (folder / "data.bin").write_bytes(noise(16).tobytes())
    save(adding(external(("location", "data.bin"), *entries)), folder / "m.onnx")
    found = read_source(folder / "m.onnx").proto.graph.initializer[0]
    assert np.array_equal(numpy_helper.to_array(found), noise(16))


@pytest.mark.parametrize("entries", [[], [("offset", "0"), ("length", "64")], [("offset", "4")]])
@pytest.mark.parametrize("where", ["initializer", "attribute"])
def test_bytes_of_the_model_file_never_become_weights(folder, entries, where):
    """What the reader notes of large tensors is not to be had by writing the same into the file."""
    tensor = external(*entries)
    model = adding(tensor)
    if where == "attribute":
        del model.graph.initializer[:]
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    refused(model, folder, "external data with no location")


@pytest.mark.parametrize("entries", [[("offset", "0")], [("location", "data.bin")]])
@pytest.mark.parametrize("is_last", [False, True])
def test_data_are_not_at_two_places(folder, entries, is_last):
    """Entries behind a large payload would override what the reader notes of it."""
    held = numpy_helper.from_array(noise(100_000), "w").SerializeToString()
    stray = external(*entries)
    parts = stray.external_data[0].SerializeToString()
    other = b"\x6a" + bytes([len(parts)]) + parts  # field 13
    tensor = held + other if is_last else other + held
    graph = onnx.GraphProto(name="g").SerializeToString() + b"\x2a" + varint(len(tensor)) + tensor  # field 5
    model = onnx.ModelProto(ir_version=8).SerializeToString() + b"\x3a" + varint(len(graph)) + graph  # field 7
    refused(model, folder, "has its data at more than one place")


def test_links_inside_of_the_folder_and_those_of_model_hubs_are_followed(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "a").write_bytes(adding(external(("location", "m.onnx_data"))).SerializeToString())
    (blobs / "b").write_bytes(noise(16).tobytes())
    (snapshot / "m.onnx").symlink_to("../../blobs/a")
    (snapshot / "m.onnx_data").symlink_to("../../blobs/b")
    (blobs / "m.onnx_data").symlink_to("b")
    for path in (snapshot / "m.onnx", blobs / "a"):
        found = read_source(path).proto.graph.initializer[0]
        assert np.array_equal(numpy_helper.to_array(found), noise(16))


@pytest.mark.parametrize("where", ["sparse", "constant", "attribute", "subgraph", "function", "default"])
def test_no_tensor_is_read_from_the_current_folder(folder, where):
    """Whoever decodes a tensor of a message takes the current folder for the model's."""
    tensor = external(("location", "only.bin"))
    model = make([("Relu", ["x"], ["y"])], {"x": (16,)}, ["y"])
    odd = helper.make_node("Odd", ["x"], ["z"], value=tensor)
    if where == "sparse":
        found = sparse([64], range(16))
        found.values.CopyFrom(tensor)
        model.graph.sparse_initializer.append(found)
    elif where == "constant":
        found = sparse([64], range(16))
        found.values.CopyFrom(tensor)
        model.graph.node.append(helper.make_node("Constant", [], ["z"], sparse_value=found))
    elif where == "attribute":
        model.graph.node.append(odd)
    elif where == "subgraph":
        graph = helper.make_graph([odd], "g", [], [helper.make_tensor_value_info("z", 1, None)])
        model.graph.node.append(helper.make_node("If", ["c"], ["q"], then_branch=graph))
    else:
        function = helper.make_function("f", "F", ["x"], ["z"], [odd] if where == "function" else [], [])
        function.attribute_proto.extend([helper.make_attribute("value", tensor)] if where == "default" else [])
        model.functions.append(function)
    refused(model, folder, "only.bin, which does not exist")


def test_what_is_read_into_the_message_has_a_limit(folder):
    (folder / "data.bin").write_bytes(bytes(60_000))
    model = make([("Relu", ["x"], ["y"])], {"x": (16,)}, ["y"])
    model.graph.initializer.extend(external(("location", "data.bin"), dims=(15_000,)) for _ in range(20))
    for place, tensor in enumerate(model.graph.initializer):
        tensor.name = f"w{place}"
    refused(model, folder, r"in other files would take 0.00108 GB.*--memory")


def test_the_same_bytes_are_not_read_again_and_again(folder):
    (folder / "data.bin").write_bytes(bytes(200_000))
    model = make([("Relu", ["x"], ["y"])], {"x": (16,)}, ["y"])
    for place in range(100):
        model.graph.initializer.append(external(("location", "data.bin"), ("offset", str(4 * place)), dims=(30_000,)))
        model.graph.initializer[-1].name = f"w{place}"
    refused(model, folder, "the same ones many times over")
    for tensor in model.graph.initializer:  # weights that are tied
        tensor.external_data[1].value = "0"
    save(model, folder / "m.onnx")
    assert len(read_source(folder / "m.onnx").stored) == 100


# Sparse tensors


@pytest.mark.parametrize(
    ("tensor", "match"),
    [
        (sparse([2**40], [0]), "would take 4.4e.03 GB.*--memory"),
        (sparse([2**20], [0]), "would take 0.00419 GB"),
        (sparse([-5, 4], [0]), "no size can be negative"),
        (sparse([1] * 70, [0]), "70 axes"),
        (sparse([10], [99]), "an index outside"),
        (sparse([10], [-1]), "an index outside"),
        (sparse([2, 5], [[1, 5]]), "an index outside"),
        (sparse([2, 5], [[1, 2, 3]]), "values of shape .1., and indices of .1, 3."),
        (sparse([10], [1, 2], np.ones(3, np.float32)), "values of shape .3., and indices of .2."),
        (sparse([10], [1], np.ones((1, 1), np.float32)), "values of shape .1, 1."),
        (sparse([10], [1], kind=np.float32), "indices int64"),
        (sparse([10], [1], np.array(["a"], object)), "must hold numbers"),
        (onnx.SparseTensorProto(dims=[4]), "cannot be read: its data do not fill shape .. of undefined"),
    ],
)
def test_sparse_tensors_are_checked_before_they_are_filled(tmp_path, tensor, match):
    refused(with_sparse(tensor), tmp_path, match)
    model = make([helper.make_node("Constant", [], ["y"], sparse_value=tensor)], {"x": (1,)}, ["y"])
    refused(model, tmp_path, match)


@pytest.mark.parametrize(
    ("dims", "indices"), [([6], [0, 5]), ([2, 3], [1, 5]), ([2, 3], [[0, 1], [1, 2]]), ([0, 3], []), ([], [0])]
)
def test_sparse_tensors_have_their_values_where_their_indices_say(tmp_path, dims, indices):
    values = np.arange(1, len(indices) + 1, dtype=np.float32)
    save(with_sparse(sparse(dims, indices, values)), tmp_path / "m.onnx")
    found = numpy_helper.to_array(read_source(tmp_path / "m.onnx").proto.graph.initializer[0])
    expected = np.zeros(dims, np.float32)
    for index, value in zip(indices, values, strict=True):
        expected[np.unravel_index(index, dims) if np.ndim(index) == 0 else tuple(index)] = value
    assert np.array_equal(found, expected)


# Nodes, functions and names


@pytest.mark.parametrize(
    "node",
    [
        onnx.NodeProto(op_type="Constant", attribute=[helper.make_attribute("value_float", 1.0)]),
        onnx.NodeProto(op_type="Constant", output=[""], attribute=[helper.make_attribute("value_float", 1.0)]),
        helper.make_node("Constant", [], ["c"], bogus=3),
        helper.make_node("Constant", [], ["c"]),
        helper.make_node("Constant", [], ["c", "d"], value_int=3),
        helper.make_node("Constant", [], ["c"], value="text"),
        helper.make_node("Constant", [], ["c"], value_ints=1.5),
    ],
)
def test_constants_that_are_none_are_refused(tmp_path, node):
    model = make([node, ("Relu", ["x"], ["y"])], {"x": (1,)}, ["y"])
    refused(model, tmp_path, "A Constant node that writes .* is none: it must have one output, and one attribute of")


def functions(*bodies: tuple[str, list[str]]) -> onnx.ModelProto:
    """A model that calls the first of functions, which call others one after the other."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    model = make([helper.make_node(bodies[0][0], ["x"], ["y"], domain="f")], {"x": (1,)}, ["y"], domains=["f"])
    for name, called in bodies:
        names = ["a", *(f"t{place}" for place in range(1, len(called))), "b"]
        nodes = [helper.make_node(to, [names[i]], [names[i + 1]], domain="f") for i, to in enumerate(called)]
        model.functions.append(helper.make_function("f", name, ["a"], ["b"], nodes, imports))
    return model


def test_functions_that_call_themselves_are_refused(tmp_path):
    refused(functions(("F", ["F"])), tmp_path, "function 'F' calls itself")
    refused(functions(("F", ["G"]), ("G", ["F"])), tmp_path, "calls itself, directly or through others")


def test_calls_count_as_what_they_stand_for(tmp_path, monkeypatch):
    doubling = [(f"F{level}", [f"F{level + 1}"] * 2) for level in range(40)]
    refused(functions(*doubling), tmp_path, f"has {2**40} nodes")
    monkeypatch.setattr(read_module, "MOST_NODES", 8)
    read_source(Path(save(functions(*doubling[:3]), tmp_path / "m.onnx")))
    refused(functions(*doubling[:4]), tmp_path, "has 16 nodes, and 8 are the most")


def test_axes_of_a_weight_have_a_limit(tmp_path):
    model = adding(TensorProto(name="w", data_type=1, dims=[1] * 301, raw_data=bytes(4)))
    refused(model, tmp_path, "301 axes, and 32 are the most")


@pytest.mark.parametrize("name", [b"ab\xff", b"\xc3\x28z"])
def test_names_that_are_no_text_are_refused(tmp_path, name):
    data = make([("Relu", ["xyz"], ["y"])], {"xyz": (16,)}, ["y"]).SerializeToString()
    refused(data.replace(b"xyz", name), tmp_path, "A name in the model is no text")


def test_pipes_and_devices_are_no_model(folder, tmp_path):
    for path in (folder / "pipe", Path("/dev/zero")):
        with pytest.raises(ModelError, match="write it to a file first"):
            read_source(path)
    with pytest.raises(ModelError, match=r"a\\x00b"):
        read_source(tmp_path / "a\0b")


def test_a_file_that_is_no_model_is_not_read_as_a_whole(tmp_path):
    refused(b"\x12" + b"\x80\x80\x80\x01" + bytes(2 << 20), tmp_path, "larger than any model, its tensors set aside")
    refused(b"\x08\x01" * 2_000_001, tmp_path, "more than 2000000 fields", 1 << 30)


def test_of_weights_of_one_name_the_last_counts(tmp_path, cache):
    model = make([("Add", ["x", "w"], ["y"])], {"x": (3,)}, ["y"], {"w": noise(3)})
    model.graph.initializer.append(numpy_helper.from_array(noise(3, seed=1), "w"))
    found = load(save(model, tmp_path / "m.onnx"), cache=cache)
    (expected,) = session(model).run(None, {"x": np.zeros(3, np.float32)})
    assert np.array_equal(found.array("w"), expected)
