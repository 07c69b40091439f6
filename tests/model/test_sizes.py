"""Static shapes are those that onnxruntime computes, whatever a rule on paper says, so that every plan runs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.files.cache import Cache

from .build import make, noise, save


def check(proto: onnx.ModelProto, inputs: dict[str, np.ndarray], tmp_path, shapes=None):
    """The loaded model, after its plans on two ranks have given what one plain session gives."""
    path = save(proto, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected = dict(zip(names, session.run(names, inputs), strict=True))
    cache = Cache(tmp_path / "cache")
    model = load(path, shapes or {}, cache=cache)
    for preset in ("rows", "channels", "single"):
        plan = layout_plan(model.graph, 2, preset, fusion="none")
        found = run_ranks(2, lambda t, plan=plan: _copied(Engine(t, model, plan, cache=cache).run(inputs)))[0]
        for name, value in expected.items():
            assert found[name].shape == value.shape, (preset, name)
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5, err_msg=f"{preset} {name}")
    return model, expected


def _copied(outputs):
    return {name: np.array(value) for name, value in outputs.items()}


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("opset", [10, 13, 19, 22])
@pytest.mark.parametrize(
    "extent, kernel, stride, pads",
    [(7, 3, 2, (1, 1)), (6, 1, 2, (0, 0)), (5, 2, 3, (0, 1)), (6, 2, 3, (1, 1)), (8, 3, 2, (0, 0)), (12, 2, 4, (0, 1))],
)
def test_pools_that_round_up(op, opset, extent, kernel, stride, pads, tmp_path):
    begin, end = pads
    given = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [begin] * 2 + [end] * 2, "ceil_mode": 1}
    nodes = [helper.make_node(op, ["x"], ["pooled"], **given), ("Relu", ["pooled"], ["y"])]
    proto = make(nodes, {"x": (1, 2, extent, extent)}, ["y"], opset=opset)
    model, expected = check(proto, {"x": noise(1, 2, extent, extent)}, tmp_path)
    assert model.graph.value("pooled").shape == model.graph.value("y").shape == expected["y"].shape


@pytest.mark.parametrize("pair", [(9, 21), (14, 37), (17, 33), (28, 65), (21, 9), (37, 14)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_scales_that_are_no_short_fraction(pair, mode, tmp_path):
    """In single precision 9 * (21 / 9) is 21, with more digits a little less."""
    extent, length = pair
    scales = np.array([1, 1, length / extent, 1], "float32")
    resize = helper.make_node(
        "Resize",
        ["c", "", "scales"],
        ["r"],
        mode=mode,
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), resize, ("Relu", ["r"], ["y"])]
    proto = make(nodes, {"x": (1, 2, extent, 5)}, ["r", "y"], {"w": noise(3, 2, 3, 3), "scales": scales})
    model, expected = check(proto, {"x": noise(1, 2, extent, 5)}, tmp_path)
    assert model.graph.value("r").shape == expected["y"].shape


@pytest.mark.parametrize(
    "op, attributes",
    [
        ("ConvTranspose", {"strides": [2, 2], "auto_pad": "SAME_UPPER", "output_padding": [1, 1]}),
        ("ConvTranspose", {"strides": [3, 2], "auto_pad": "SAME_LOWER", "output_padding": [2, 0]}),
        ("MaxPool", {"dilations": [2, 2], "auto_pad": "SAME_UPPER"}),
        ("MaxPool", {"strides": [2, 2], "auto_pad": "VALID", "ceil_mode": 1}),
        ("AveragePool", {"strides": [2, 2], "auto_pad": "SAME_LOWER", "ceil_mode": 1}),
    ],
)
def test_pads_that_the_operator_makes_itself(op, attributes, tmp_path):
    inputs, weights = (["x", "w"], {"w": noise(4, 3, 3, 3)}) if op == "ConvTranspose" else (["x"], {})
    nodes = [helper.make_node(op, inputs, ["h"], kernel_shape=[3, 3], **attributes), ("Relu", ["h"], ["y"])]
    model, expected = check(make(nodes, {"x": (1, 4, 11, 12)}, ["y"], weights), {"x": noise(1, 4, 11, 12)}, tmp_path)
    assert model.graph.value("h").shape == expected["y"].shape


def test_the_size_of_a_value_is_what_a_run_shows(tmp_path):
    """An optimiser that knows the shapes of the inputs works it out by its rules of inference, 25 here for 24."""
    given = {"strides": [3, 3], "auto_pad": "SAME_LOWER", "output_padding": [1, 1], "kernel_shape": [3, 3]}
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["h"], **given),
        ("Shape", ["h"], ["size"]),
        ("Expand", ["one", "size"], ["ones"]),
        helper.make_node("Cast", ["size"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    proto = make(nodes, {"x": (1, 4, "h", "w")}, ["ones", "y"], {"w": noise(4, 3, 3, 3), "one": np.float32(1)})
    model, expected = check(proto, {"x": noise(1, 4, 8, 7)}, tmp_path, {"x": (1, 4, 8, 7)})
    assert expected["ones"].shape == model.graph.value("ones").shape == (1, 3, 24, 21)


def test_an_end_of_a_slice_that_a_request_gives_is_not_taken_for_another(tmp_path):
    nodes = [
        ("Shape", ["x"], ["shape"]),
        ("Slice", ["shape", "start", "end"], ["part"]),
        helper.make_node("Concat", ["part", "rest"], ["to"], axis=0),
        ("Reshape", ["x", "to"], ["y"]),
    ]
    weights = {"end": np.array([2]), "rest": np.array([-1])}
    kinds = {"start": onnx.TensorProto.INT64}
    proto = make(nodes, {"x": (2, 7, 7), "start": (1,)}, ["y"], weights, dtypes=kinds)
    model, expected = check(proto, {"x": noise(2, 7, 7), "start": np.array([1])}, tmp_path)
    assert expected["y"].shape == (7, 14) and model.graph.value("y").shape is None


def test_the_length_of_a_value_that_data_makes_is_not_static(tmp_path):
    """``zeros_like(x[x == 0])`` and ``ones_like(unique(x))``: sixteen and one on zeros, other lengths in a request."""
    nodes = [
        ("Equal", ["x", "zero"], ["mask"]),
        ("NonZero", ["mask"], ["places"]),
        ("Shape", ["places"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["made"]),
        ("Exp", ["made"], ["ones"]),
        ("Unique", ["x"], ["distinct"]),
        ("Size", ["distinct"], ["count"]),
        ("Range", ["first", "count", "step"], ["numbers"]),
        ("Shape", ["x"], ["length"]),
        ("Expand", ["zero", "length"], ["fixed"]),
        ("Add", ["fixed", "x"], ["sum"]),
    ]
    weights = {"zero": np.float32(0), "first": np.int64(0), "step": np.int64(1)}
    proto = make(nodes, {"x": (16,)}, ["ones", "numbers", "sum"], weights, dtypes={"numbers": onnx.TensorProto.INT64})
    x = np.full(16, 3, "float32")
    x[5] = 0
    model, expected = check(proto, {"x": x}, tmp_path)
    assert expected["ones"].shape == (1, 1) and expected["numbers"].shape == (2,)
    for name in ("places", "made", "ones", "distinct", "numbers"):
        assert model.graph.value(name).shape is None, name
    assert model.graph.value("sum").shape == model.graph.value("fixed").shape == (16,)


def test_a_number_of_axes_that_data_makes_is_not_static(tmp_path):
    """A Shape is as long as its value has axes, and a Squeeze drops those that happen to be of length 1."""
    nodes = [
        ("Equal", ["x", "zero"], ["mask"]),
        ("NonZero", ["mask"], ["places"]),
        ("Squeeze", ["places"], ["some"]),
        ("Shape", ["some"], ["size"]),
        helper.make_node("Cast", ["size"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    proto = make(nodes, {"x": (4,)}, ["y"], {"zero": np.float32(0)})
    model, expected = check(proto, {"x": np.array([1, 0, 2, 3], "float32")}, tmp_path)
    assert expected["y"].shape == (0,) and model.graph.value("size").shape is None


def test_a_depth_in_floats_that_data_makes_is_not_static(tmp_path):
    depth = helper.make_node("ReduceMax", ["x"], ["depth"], keepdims=0)
    nodes = [depth, ("OneHot", ["ids", "depth", "levels"], ["y"])]
    weights = {"ids": np.array([0, 1, 2]), "levels": np.array([0, 1], "float32")}
    proto = make(nodes, {"x": (1, 1)}, ["y"], weights)
    model, expected = check(proto, {"x": np.array([[3]], "float32")}, tmp_path)
    assert expected["y"].shape[-1] == 3 and model.graph.value("y").shape is None


def test_operators_that_refuse_made_up_inputs_leave_the_others_measured(tmp_path):
    """A table of one row takes no index but 0; the resize behind it is measured all the same."""
    nodes = [
        ("Gather", ["table", "ids"], ["rows"]),
        ("Reshape", ["rows", "image"], ["r"]),
        helper.make_node("Resize", ["r", "", "scales"], ["big"], mode="nearest", nearest_mode="floor"),
        ("Relu", ["big"], ["y"]),
    ]
    weights = {
        "table": noise(1, 4),
        "image": np.array([1, 1, 9, 4]),
        "scales": np.array([1, 1, 21 / 9, 1], "float32"),
    }
    proto = make(nodes, {"ids": (9,)}, ["y"], weights, dtypes={"ids": onnx.TensorProto.INT64})
    model, expected = check(proto, {"ids": np.zeros(9, np.int64)}, tmp_path)
    assert model.graph.value("big").shape == expected["y"].shape == (1, 1, 21, 4)


def test_lengths_that_contradict_each_other_do_not_keep_a_model_from_loading(tmp_path):
    """No made-up input is valid here: the total length of GroupQueryAttention follows from other inputs."""
    size = 16
    angles = np.outer(np.arange(32), 1e4 ** (-np.arange(size // 2) / (size // 2)))
    attention = helper.make_node(
        "GroupQueryAttention",
        ["q", "k", "v", "past_k", "past_v", "lengths", "total", "cos", "sin"],
        ["a", "present_k", "present_v"],
        domain="com.microsoft",
        num_heads=4,
        kv_num_heads=2,
        do_rotary=1,
    )
    nodes = [*(("MatMul", ["x", f"w{name}"], [name]) for name in "qkv"), attention, ("MatMul", ["a", "wo"], ["y"])]
    weights = {
        "wq": noise(8, 64), "wk": noise(8, 32), "wv": noise(8, 32), "wo": noise(64, 5),
        "cos": np.cos(angles).astype("float32"), "sin": np.sin(angles).astype("float32"),
    }  # fmt: skip
    kinds = {"lengths": onnx.TensorProto.INT32, "total": onnx.TensorProto.INT32}
    past = (1, 2, 5, size)
    inputs = {"x": (1, 3, 8), "past_k": past, "past_v": past, "lengths": (1,), "total": ()}
    proto = make(nodes, inputs, ["y"], weights, domains=["com.microsoft"], dtypes=kinds)
    given = {
        "x": noise(1, 3, 8), "past_k": noise(*past), "past_v": noise(*past, seed=1),
        "lengths": np.array([7], np.int32), "total": np.array(8, np.int32),
    }  # fmt: skip
    model, _ = check(proto, given, tmp_path)
    assert model.graph.value("q").shape == (1, 3, 64) and model.graph.value("y").shape == (1, 3, 5)


def test_a_past_without_elements_does_not_keep_what_is_joined_with_it_on_one_rank(tmp_path):
    nodes = [helper.make_node("Concat", ["past", "x"], ["present"], axis=2), ("Relu", ["present"], ["y"])]
    proto = make(nodes, {"past": (1, 4, 0, 8), "x": (1, 4, 6, 8)}, ["present", "y"])
    inputs = {"past": noise(1, 4, 0, 8), "x": noise(1, 4, 6, 8)}
    model, _ = check(proto, inputs, tmp_path)
    assert not any(model.graph.is_dynamic(node) for node in model.graph.nodes)
