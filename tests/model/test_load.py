"""A loaded model computes what one onnxruntime session computes on the file, whatever the file holds."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.model import load, prepare, zoo
from flexpie_mpi.model.read import LARGE_BYTES
from tests.launch import LIMIT_S

from ..conformance.cases import suite
from .build import check_consistent, classifier, feeds, make, noise, save, session, whole

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
MICROSOFT = "com.microsoft"
LOAD = import_module("flexpie_mpi.model.loading")  # as an attribute of the room, the name is the function


def assert_same_results(model, proto, inputs=None):
    check_consistent(model)
    inputs = feeds(model) if inputs is None else inputs
    one, other = session(proto), session(whole(model))
    assert [item.name for item in one.get_inputs()] == [item.name for item in other.get_inputs()]
    assert [item.name for item in one.get_outputs()] == [item.name for item in other.get_outputs()]
    expected, found = one.run(None, inputs), other.run(None, inputs)
    for want, have in zip(expected, found, strict=True):
        assert_close(want, have)
    for name, have in zip(model.graph.outputs, found, strict=True):
        value = model.graph.value(name)
        assert value.shape is None or value.shape == have.shape
        if isinstance(have, np.ndarray) and have.dtype != object:
            assert value.dtype == have.dtype.name


def assert_close(want, have):
    if isinstance(want, list):
        assert len(want) == len(have)
        for one, other in zip(want, have, strict=True):
            assert_close(one, other)
    elif want is None or np.asarray(want).dtype.kind not in "fiub":
        assert np.array_equal(want, have)
    else:
        assert want.dtype == have.dtype
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)


def ops(model):
    return [node.op for node in model.graph.nodes]


def test_folding_and_shapes(loaded):
    model = loaded(classifier())
    assert_same_results(model, classifier())
    assert "BatchNormalization" not in ops(model)
    assert ops(model).count("Conv") == 3
    assert model.graph.value("x").shape == (1, 3, 8, 8)
    assert all(value.shape is not None for value in model.graph.values.values())


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "inception_v1", "densenet121"])
def test_real_networks(name, cache):
    path = LIGHT / f"light_{name}.onnx"
    model = load(str(path), cache=cache)
    assert_same_results(model, onnx.load(path))
    assert len(model.graph.inputs) == 1
    assert all(value.shape is not None for value in model.graph.values.values())


def test_shape_of_every_value_is_true(loaded):
    model = loaded(classifier(), {"x": (2, 3, 8, 8)})
    proto = whole(model)
    names = [name for node in model.graph.nodes for name in node.writes]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in model.graph.outputs)
    for item, array in zip(session(proto).get_outputs(), session(proto).run(None, feeds(model)), strict=True):
        assert model.graph.value(item.name).shape == array.shape


ODD = (
    *("If", "Loop", "Scan", "SequenceMap", "SequenceInsert"),
    *("StringConcat", "StringSplit", "NonZero", "NonMaxSuppression", "ConstantOfShape"),
    *("BatchNormalization", "Dropout", "LayerNormalization"),
)
"""Operators with subgraphs, with values that are no tensors, with shapes made of data, or that folding rewrites."""


def _refuse(*_):
    raise prepare.ModelError("refused by the test")


@pytest.mark.parametrize("op", ODD)
@pytest.mark.parametrize("folds", [True, False])
def test_conformance_cases(op, folds, loaded, monkeypatch):
    """Cases that onnxruntime runs, pre-optimised and as they are: some versions run a few only once folded."""
    if not folds:
        monkeypatch.setattr(prepare, "preoptimise", _refuse)
        monkeypatch.setattr(LOAD, "prepare_apart", prepare.prepare)
    cases = [case for case in suite() if any(node.op_type == op for node in case.model.graph.node)]
    running = [case for case in cases[:: max(1, len(cases) // 15)] if _runs(case, folds)]
    assert running
    for case in running:
        shapes = {
            value.name: np.shape(case.inputs[value.name])
            for value in case.model.graph.input
            if value.type.HasField("tensor_type")
        }
        assert_same_results(loaded(case.model, shapes), case.model, case.inputs)


def _runs(case, optimised):
    try:
        session(case.model, optimised=optimised).run(None, case.inputs)
    except Exception:  # onnxruntime's classes share no base
        return False
    return True


def test_when_onnxruntime_cannot_read_its_own_result_the_original_is_used(loaded, caplog):
    case = next(item for item in suite() if item.name == "test_loop16_seq_none")
    with caplog.at_level(logging.WARNING):
        model = loaded(case.model)
    assert ops(model) == ["Loop"]
    assert "without constant folding" in caplog.text


@pytest.mark.parametrize("opset", [7, 9, 13, 18, 22])
def test_opsets(opset, loaded):
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"]), ("Relu", ["h"], ["y"])]
    proto = make(nodes, {"x": ("N", 4)}, ["y"], {"w": noise(4, 5), "b": noise(5)}, opset=opset, ir_version=3)
    model = loaded(proto)
    assert_same_results(model, proto)
    assert model.graph.opset == opset


def test_quantised_weights_keep_their_type(loaded):
    """QDQ as quantisers write it; the large int8 weight must not be folded into floats and stays in the file."""
    rng = np.random.default_rng(0)
    weights = {
        "s": np.array(0.05, "float32"),
        "zero": np.array(3, "uint8"),
        "ws": rng.random(300).astype("float32"),
        "wz": np.zeros(300, "int8"),
        "w": rng.integers(-128, 127, (300, 300), "int8"),
    }
    nodes = [
        ("QuantizeLinear", ["x", "s", "zero"], ["q"]),
        ("DequantizeLinear", ["q", "s", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["dw"], axis=1),
        ("MatMul", ["d", "dw"], ["y"]),
    ]
    proto = make(nodes, {"x": ("N", 300)}, ["y"], weights)
    model = loaded(proto)
    assert_same_results(model, proto)
    assert model.graph.value("w").dtype == "int8"
    assert model.is_stored("w")


def test_half_precision(loaded):
    half = onnx.TensorProto.FLOAT16
    weights = {"w": noise(300, 300).astype("float16"), "b": noise(300).astype("float16")}
    nodes = [("MatMul", ["x", "w"], ["h"]), ("Add", ["h", "b"], ["y"])]
    proto = make(nodes, {"x": ("N", 300)}, ["y"], weights, dtypes={"x": half, "y": half})
    model = loaded(proto)
    assert_same_results(model, proto)
    assert model.graph.value("x").dtype == model.graph.value("y").dtype == "float16"


def test_types_that_numpy_does_not_know(loaded):
    """A large bfloat16 weight that is folded: onnxruntime takes no such array, only the message itself."""
    kind = onnx.TensorProto.BFLOAT16
    proto = make([("Cast", ["w"], ["f"]), ("Add", ["x", "f"], ["y"])], {"x": (200, 200)}, ["y"])
    proto.graph.node[0].attribute.add(name="to", type=onnx.AttributeProto.INT, i=onnx.TensorProto.FLOAT)
    raw = noise(200, 200).view("uint16").reshape(200, 200, 2)[..., 1].tobytes()
    proto.graph.initializer.add(name="w", data_type=kind, dims=[200, 200], raw_data=raw)
    assert_same_results(loaded(proto), proto)


def test_local_functions_are_inlined(loaded):
    body = [helper.make_node("Gemm", ["a", "w"], ["h"]), helper.make_node("Relu", ["h"], ["r"])]
    function = helper.make_function("my", "Dense", ["a", "w"], ["r"], body, [helper.make_opsetid("", 17)])
    call = helper.make_node("Dense", ["x", "w"], ["y"], domain="my")
    proto = make([call], {"x": ("N", 4)}, ["y"], {"w": noise(4, 5)}, domains=["my"])
    proto.functions.append(function)
    model = loaded(proto)
    assert ops(model) == ["Gemm", "Relu"]
    assert_same_results(model, proto)


def test_default_attributes_of_local_functions_are_kept(loaded):
    """Also those of a function that another one calls, and not those that a call sets itself."""
    leaky = helper.make_node("LeakyRelu", ["a"], ["r"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope"))
    imports, slope = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)], helper.make_attribute("slope", 0.5)
    act = helper.make_function("my", "Act", ["a"], ["r"], [leaky], imports, [], [slope])
    calls = [
        helper.make_node("Act", ["a"], ["h"], domain="my"),
        helper.make_node("Act", ["h"], ["r"], domain="my", slope=0.25),
    ]
    twice = helper.make_function("my", "Twice", ["a"], ["r"], calls, imports)
    proto = make([helper.make_node("Twice", ["x"], ["y"], domain="my")], {"x": ("N", 4)}, ["y"], domains=["my"])
    proto.functions.extend([twice, act])
    model = loaded(proto)
    assert [node.attribute("alpha") for node in model.graph.nodes] == [0.5, 0.25]
    assert_same_results(model, proto)


def test_a_default_counts_where_the_caller_passes_on_what_it_was_not_given(loaded):
    """Inside a branch that no made-up input takes, so that no comparison would tell."""
    imports, slope = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)], helper.make_attribute("slope", 0.5)
    leaky, call = helper.make_node("LeakyRelu", ["a"], ["r"]), helper.make_node("Act", ["a"], ["r"], domain="my")
    for node, name, source in ((leaky, "alpha", "slope"), (call, "slope", "k")):
        node.attribute.append(onnx.AttributeProto(name=name, type=onnx.AttributeProto.FLOAT, ref_attr_name=source))
    act = helper.make_function("my", "Act", ["a"], ["r"], [leaky], imports, [], [slope])
    outer = helper.make_function("my", "Outer", ["a"], ["r"], [call], imports, ["k"])
    branches = [
        helper.make_graph([node], name, [], [helper.make_tensor_value_info(node.output[0], 1, None)])
        for name, node in (
            ("then", helper.make_node("Outer", ["x"], ["t"], domain="my")),
            ("else", helper.make_node("Identity", ["x"], ["e"])),
        )
    ]
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        ("Greater", ["m", "high"], ["is_high"]),
        helper.make_node("If", ["is_high"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    proto = make(nodes, {"x": (1, 4)}, ["y"], {"high": np.float32(1000)}, domains=["my"])
    proto.functions.extend([outer, act])
    assert_same_results(loaded(proto), proto, {"x": np.array([[-4, 2000, -1, 3]], "float32")})


@pytest.mark.parametrize("domain, name", [("", "Relu"), ("com.microsoft", "Gelu")])
def test_a_function_with_the_name_of_an_operator_is_never_called(domain, name, loaded):
    body = [helper.make_node("Neg", ["a"], ["r"])]
    proto = make([helper.make_node(name, ["x"], ["y"], domain=domain)], {"x": (2, 4)}, ["y"], domains=["com.microsoft"])
    proto.functions.append(helper.make_function(domain, name, ["a"], ["r"], body, [helper.make_opsetid("", 17)]))
    model = loaded(proto)
    assert [node.op for node in model.graph.nodes] == [name]
    assert_same_results(model, proto, {"x": noise(2, 4)})


def test_what_onnxruntime_does_not_accept_is_refused_though_tidying_would_mend_it(loaded):
    proto = make([("Neg", ["x"], ["y"]), ("Abs", ["x"], ["y"])], {"x": (2,)}, ["y"])
    with pytest.raises(ModelError, match="does not accept the model"):
        loaded(proto)


@pytest.mark.parametrize("folds", [True, False])
def test_a_rewriting_that_changes_results_is_not_used(folds, loaded, monkeypatch, caplog):
    """Doubled results of the optimiser: the model is used as it is. Doubled by tidying: it is refused."""
    make_it = prepare.preoptimise if folds else prepare.canonicalise

    def spoil(source, *rest):
        made = make_it(source, *rest)
        graph = made.proto.graph if folds else source.graph
        last = next(node for node in graph.node if "y" in node.output)
        last.output[0] = "half"
        graph.node.add(op_type="Add", input=["half", "half"], output=["y"], name="double")
        return made

    monkeypatch.setattr(prepare, "preoptimise" if folds else "canonicalise", spoil)
    monkeypatch.setattr(LOAD, "prepare_apart", prepare.prepare)
    if not folds:
        with pytest.raises(ModelError, match="does not compute what onnxruntime computes with the file"):
            loaded(classifier())
        return
    with caplog.at_level(logging.WARNING):
        model = loaded(classifier())
    assert "BatchNormalization" in ops(model) and "without constant folding" in caplog.text
    assert_same_results(model, classifier())


def test_other_domains_get_shapes_from_onnxruntime(loaded):
    nodes = [
        helper.make_node("FusedGemm", ["x", "w", "b"], ["g"], domain=MICROSOFT, activation="Relu"),
        helper.make_node("BiasGelu", ["g", "b"], ["y"], domain=MICROSOFT),
    ]
    proto = make(nodes, {"x": ("N", 4)}, ["y"], {"w": noise(4, 6), "b": noise(6)}, domains=[MICROSOFT])
    model = loaded(proto)
    assert_same_results(model, proto)
    assert model.graph.value("g").shape == (1, 6)
    assert [node.domain for node in model.graph.nodes] == [MICROSOFT] * 2


def test_shapes_that_depend_on_data_stay_unknown(loaded):
    nodes = [("NonZero", ["x"], ["places"]), ("Transpose", ["places"], ["y"]), ("Relu", ["x"], ["z"])]
    proto = make(nodes, {"x": (3, 4)}, ["y", "z"], dtypes={"y": onnx.TensorProto.INT64})
    model = loaded(proto)
    assert_same_results(model, proto)
    assert model.graph.value("places").shape is None
    assert model.graph.value("places").dtype == "int64"
    assert model.graph.value("z").shape == (3, 4)


def test_a_shape_given_as_an_input_is_not_taken_from_a_run_on_zeros(loaded):
    proto = make(
        [("Reshape", ["x", "shape"], ["r"]), ("Relu", ["r"], ["y"])],
        {"x": (0, 4), "shape": (2,)},
        ["y"],
        dtypes={"shape": onnx.TensorProto.INT64},
    )
    assert loaded(proto).graph.value("y").shape is None


def test_attributes_and_captures_of_nodes(loaded):
    branch = helper.make_graph(
        [helper.make_node("LeakyRelu", ["x"], ["t"], alpha=0.5)],
        "then",
        [],
        [helper.make_tensor_value_info("t", 1, None)],
    )
    nodes = [
        helper.make_node("If", ["p"], ["i"], then_branch=branch, else_branch=branch),
        helper.make_node("MaxPool", ["i"], ["m"], kernel_shape=[2, 2], auto_pad="VALID", name="pool"),
        helper.make_node("LeakyRelu", ["m"], ["y"], alpha=0.25, name="leaky"),
    ]
    graph = loaded(make(nodes, {"p": (), "x": (1, 1, 4, 4)}, ["y"], dtypes={"p": onnx.TensorProto.BOOL})).graph
    choose, pool, leaky = graph.nodes
    assert choose.captures == ("x",)
    assert choose.has_opaque_attributes
    assert choose.attributes == ()
    assert pool.attribute("kernel_shape") == (2, 2)
    assert pool.attribute("auto_pad") == "VALID"
    assert leaky.attribute("alpha") == 0.25
    assert not pool.has_opaque_attributes


def test_small_constants_are_carried_as_python_numbers(loaded):
    weights = {"flags": np.array([True, False]), "one": noise(1), "many": noise(65, 1), "axes": np.array([0, -1])}
    nodes = [
        ("Where", ["flags", "x", "one"], ["a"]),
        ("Add", ["a", "many"], ["b"]),
        ("Unsqueeze", ["b", "axes"], ["y"]),
    ]
    graph = loaded(make(nodes, {"x": (65, 2)}, ["y"], weights)).graph
    assert graph.value("flags").data == (True, False)
    assert graph.value("axes").data == (0, -1)
    assert graph.value("one").data == tuple(noise(1).tolist())
    assert graph.value("many").data is None


def large_dense(size=160):
    """Two layers whose weights are large enough to stay in the file."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b"], ["h"], transB=1),
        ("Relu", ["h"], ["r"]),
        ("MatMul", ["r", "w2"], ["y"]),
    ]
    weights = {"w1": noise(size, size), "b": noise(size, seed=1), "w2": noise(size, size, seed=2)}
    assert weights["w1"].nbytes > LARGE_BYTES
    return make(nodes, {"x": ("N", size)}, ["y"], weights)


@pytest.mark.parametrize("external", [False, True])
def test_large_weights_stay_in_the_files_of_the_model(external, tmp_path, cache):
    proto, path = large_dense(), tmp_path / "dense.onnx"
    if external:
        onnx.save(onnx.ModelProto.FromString(proto.SerializeToString()), path, save_as_external_data=True, location="d")
    else:
        save(proto, path)
    model = load(str(path), cache=cache)
    assert_same_results(model, proto)
    assert model.name == "dense"
    kept = sum(item.stat().st_size for item in (tmp_path / "cache").rglob("*") if item.is_file())
    assert kept < model.graph.value("w1").nbytes


def test_weights_in_constant_nodes_stay_in_the_file_too(tmp_path, cache):
    proto = large_dense()
    for tensor in proto.graph.initializer:
        proto.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del proto.graph.initializer[:]
    assert_same_results(load(save(proto, tmp_path / "m.onnx"), cache=cache), proto)


def test_content_decides_not_place_or_form(tmp_path, cache):
    """One file, and the same model elsewhere with external data, share their prepared form, each with its own bytes."""
    proto = large_dense()
    one = load(save(proto, tmp_path / "one.onnx"), cache=cache)
    (tmp_path / "there").mkdir()
    path = tmp_path / "there" / "two.onnx"
    onnx.save(onnx.ModelProto.FromString(proto.SerializeToString()), path, save_as_external_data=True, location="d")
    (tmp_path / "one.onnx").unlink()
    two = load(str(path), cache=cache)
    assert len(list((tmp_path / "cache" / "model").iterdir())) == 1
    assert np.array_equal(two.array("w1"), noise(160, 160))
    assert one.weight_digest("w1") == two.weight_digest("w1")
    assert one.graph.digest == two.graph.digest


def test_second_start_prepares_nothing(loaded, monkeypatch):
    first = loaded(classifier())
    monkeypatch.setattr(LOAD, "prepare_apart", _refuse)
    second = loaded(classifier())
    assert second.skeleton() == first.skeleton()
    assert all(np.array_equal(first.array(value.name), second.array(value.name)) for value in first.graph.constants)
    with pytest.raises(prepare.ModelError, match="refused by the test"):
        loaded(classifier(), {"x": (2, 3, 8, 8)})


def test_changed_weights_are_not_taken_for_the_old_ones(loaded):
    proto = large_dense()
    first = loaded(proto)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(noise(160, 160, seed=9), "w1"))
    second = loaded(proto)
    assert first.weight_digest("w1") != second.weight_digest("w1")
    assert first.weight_digest("w2") == second.weight_digest("w2")
    assert np.array_equal(second.array("w1"), noise(160, 160, seed=9))


def test_without_a_cache(loaded):
    assert_same_results(loaded(classifier(64), cache=Cache(None)), classifier(64))


def test_builtin_model_is_written_once(cache, monkeypatch):
    model = load("builtin:tiny_cnn", cache=cache)
    check_consistent(model)
    assert model.name == "tiny_cnn"
    monkeypatch.setattr(LOAD, "materialise", _refuse)
    assert load("builtin:tiny_cnn", cache=cache).graph == model.graph


PEAK = """
import sys
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.model import load
with Cache(None) as cache:
    load(sys.argv[1], cache=cache)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory of a process as Linux gives it")
def test_loading_needs_no_memory_for_large_weights(tmp_path):
    """A model of 64 MiB of weights: root may be a small board."""
    peak = {}
    for size in (16, 2896):
        path = save(large_dense_of(size), tmp_path / f"{size}.onnx")
        result = subprocess.run(
            [sys.executable, "-c", PEAK, path], capture_output=True, text=True, timeout=LIMIT_S, check=True
        )
        peak[size] = int(result.stdout) << 10
    assert peak[2896] - peak[16] < 24 << 20


def large_dense_of(size):
    weights = {"w1": noise(size, size), "b": noise(size), "w2": noise(size, size, seed=1)}
    nodes = [("Gemm", ["x", "w1", "b"], ["h"]), ("Relu", ["h"], ["r"]), ("MatMul", ["r", "w2"], ["y"])]
    return make(nodes, {"x": ("N", size)}, ["y"], weights)


@pytest.mark.parametrize("damage", [b"", b"\x00\x01rubbish"], ids=["empty", "random"])
@pytest.mark.parametrize("file", ["model/*/skeleton.onnx", "model/*/weights.bin", "builtin/*/tiny_cnn.onnx"])
def test_a_damaged_cache_entry_is_made_again(file, damage, tmp_path):
    cache = Cache(tmp_path / "cache")
    whole_model = load("builtin:tiny_cnn", cache=cache)
    (path,) = (tmp_path / "cache").glob(file)
    path.write_bytes(damage)
    again = load("builtin:tiny_cnn", cache=Cache(tmp_path / "cache"))
    assert again.graph.digest == whole_model.graph.digest
    for constant in again.graph.constants:
        np.testing.assert_array_equal(again.array(constant.name), whole_model.array(constant.name))


def test_a_full_cache_folder_does_not_fail_a_built_in_model(tmp_path, monkeypatch):
    def full(name, folder):
        if tmp_path in folder.parents:
            raise ModelError("no space") from OSError(28, "No space left on device")
        return materialise(name, folder)

    materialise = zoo.materialise
    monkeypatch.setattr(import_module("flexpie_mpi.model.loading"), "materialise", full)
    assert load("builtin:tiny_cnn", cache=Cache(tmp_path / "cache")).graph.nodes
