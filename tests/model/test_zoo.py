"""Built-in models: published sizes, valid ONNX, the same bytes every time, outputs that depend on every part."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.model import zoo

PUBLISHED_PARAMETERS = {
    "mobilenet_v1": 4_231_976,
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3": 5_483_032,
    "efficientnet_b0": 5_288_548,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "vgg16": 138_357_544,
    "inception_v1": 6_998_552,
    "bert_base": 109_482_240,
    "vit_b16": 86_567_656,
    "whisper_tiny": 8_208_384,
    "gpt2": 124_439_808,
}
PUBLISHED_GIGA_MACS = {
    "mobilenet_v1": 0.57,
    "mobilenet_v2": 0.30,
    "mobilenet_v3": 0.22,
    "efficientnet_b0": 0.39,
    "resnet18": 1.81,
    "resnet50": 4.09,
    "resnet101": 7.80,
    "vgg16": 15.47,
}
"""Multiply-adds of convolutions and fully connected layers for one picture, in 1e9."""
TINY = tuple(name for name in zoo.names() if name.startswith("tiny_"))

MAP_SIZES = {
    "resnet50": {"conv1": (64, 112, 112), "layer1.2.add": (256, 56, 56), "layer4.0.add": (2048, 7, 7)},
    "mobilenet_v1": {"conv1": (32, 112, 112), "conv14.pointwise": (1024, 7, 7)},
    "mobilenet_v2": {"block3.add": (24, 56, 56), "block17.project": (320, 7, 7), "head": (1280, 7, 7)},
    "mobilenet_v3": {
        "block4.gate.squeeze": (24, 1, 1),
        "block10.expand": (184, 14, 14),
        "block13.depthwise": (672, 7, 7),
        "block15.add": (160, 7, 7),
        "hidden": (1280,),
    },
    "efficientnet_b0": {
        "block1.project": (16, 112, 112),
        "block2.gate.squeeze": (4, 1, 1),
        "block3.add": (24, 56, 56),
        "block12.depthwise": (672, 7, 7),
        "block16.project": (320, 7, 7),
        "head": (1280, 7, 7),
    },
    "vgg16": {"conv5_3": (512, 14, 14), "flatten": (25088,)},
    "inception_v1": {
        "inception_3b.concat": (480, 28, 28),
        "inception_4e.concat": (832, 14, 14),
        "avgpool": (1024, 1, 1),
    },
    "bert_base": {"encoder.11.attention.scores": (12, 128, 128), "encoder.0.intermediate": (128, 3072)},
    "vit_b16": {"patch": (768, 14, 14), "patch.flatten": (768, 196)},
    "whisper_tiny": {"conv1": (384, 3000), "last_hidden_state": (1500, 384)},
    "gpt2": {"present.11.key": (12, "past_sequence_length + sequence_length", 64)},
    "llama_tiny": {"present.11.key": (4, "past_sequence_length + sequence_length", 64)},
    "lstm": {"scores": ("frames", 32)},
}
SIZES = {"sequence_length": 6, "past_sequence_length": 2, "past_sequence_length + sequence_length": 8}
"""What is run here of symbolic axes."""

"""Shapes without the batch axis, from the tables of the papers."""


def run(path: Path, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"]).run(None, feed)


def random_feed(name: str, seed: int, batch: int = 1) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    feed = {}
    for value in zoo.blueprint(name).proto.graph.input:
        dims = value.type.tensor_type.shape.dim[1:]
        shape = [batch, *(SIZES[dim.dim_param] if dim.dim_param else dim.dim_value for dim in dims)]
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            feed[value.name] = generator.standard_normal(shape, dtype=np.float32)
        else:
            feed[value.name] = generator.integers(0, 2, shape)
    if "attention_mask" in feed:
        feed["attention_mask"][:] = 1
    return feed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zoo")


@pytest.fixture(scope="module", params=TINY)
def tiny(request: pytest.FixtureRequest, folder: Path) -> tuple[str, Path]:
    return request.param, zoo.materialise(request.param, folder)


def test_every_model_of_the_issue_is_there() -> None:
    assert set(PUBLISHED_PARAMETERS) | {"tiny_cnn", "tiny_bert"} <= set(zoo.names())


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    blueprint = zoo.blueprint(name)
    assert blueprint.parameters == PUBLISHED_PARAMETERS[name]
    assert blueprint.parameters == _count_in_graph(blueprint.proto)


@pytest.mark.parametrize("name", PUBLISHED_GIGA_MACS)
def test_work_is_the_published_one(name: str) -> None:
    proto = onnx.shape_inference.infer_shapes(zoo.blueprint(name).proto)
    weights = {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    maps = {
        value.name: prod(dim.dim_value for dim in value.type.tensor_type.shape.dim[2:])
        for value in (*proto.graph.value_info, *proto.graph.output)
    }
    macs = sum(
        prod(weights[node.input[1]]) * maps[node.output[0]]
        for node in proto.graph.node
        if node.op_type in ("Conv", "Gemm")
    )
    assert macs == pytest.approx(PUBLISHED_GIGA_MACS[name] * 1e9, rel=0.02)


@pytest.mark.parametrize(("name", "end"), [("mobilenet_v3", "hardsigmoid"), ("efficientnet_b0", "sigmoid")])
def test_gates_are_half_open_at_any_depth(name: str, end: str, folder: Path) -> None:
    """So values have kept their size: gates of too large ones are open or shut, and of too small ones all 1/2."""
    path = zoo.materialise(name, folder)
    proto = onnx.load(str(path), load_external_data=False)
    gates = [node.output[0] for node in proto.graph.node if node.name.endswith(f".gate.{end}")]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(gate) for gate in gates)
    onnx.save(proto, str(path.with_name("gates.onnx")))
    scores, *values = run(path.with_name("gates.onnx"), random_feed(name, 0))
    assert len(gates) == {"mobilenet_v3": 8, "efficientnet_b0": 16}[name]
    assert all(0.03 < value.std() < 0.35 and 0.4 < value.mean() < 0.6 for value in values)
    assert 0.1 < scores.std() < 10


def _count_in_graph(proto: onnx.ModelProto) -> int:
    """Elements of float initializers that are neither running statistics nor scalar factors."""
    statistics = {
        value for node in proto.graph.node if node.op_type == "BatchNormalization" for value in node.input[3:]
    }
    return sum(
        int(np.prod(tensor.dims))
        for tensor in proto.graph.initializer
        if tensor.dims and tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in statistics
    )


@pytest.mark.parametrize("name", zoo.names())
def test_shape_inference_agrees_with_the_builder(name: str) -> None:
    proto = onnx.shape_inference.infer_shapes(zoo.blueprint(name).proto, check_type=True, strict_mode=True)
    shapes = {
        value.name: tuple(dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim)
        for value in (*proto.graph.value_info, *proto.graph.output)
    }
    for node, shape in MAP_SIZES.get(name, {}).items():
        assert shapes[node] == ("batch", *shape), node
    if proto.graph.input[0].name == "input":
        assert shapes["scores"] == ("batch", 10 if name in TINY else 1000)


@pytest.mark.parametrize("name", zoo.names())
def test_nodes_have_distinct_names_and_are_all_used(name: str) -> None:
    graph = zoo.blueprint(name).proto.graph
    node_names = [node.name for node in graph.node]
    assert len(set(node_names)) == len(node_names)
    read = {value for node in graph.node for value in node.input} | {value.name for value in graph.output}
    assert {output for node in graph.node for output in node.output} <= read
    assert {tensor.name for tensor in graph.initializer} <= read


def test_tiny_models_are_small_and_valid(tiny: tuple[str, Path]) -> None:
    name, path = tiny
    onnx.checker.check_model(str(path), full_check=True)
    assert path.stat().st_size + path.with_suffix(".weights").stat().st_size < 1_000_000
    assert name in path.name


def test_outputs_depend_on_the_input_and_vary_between_classes(tiny: tuple[str, Path]) -> None:
    name, path = tiny
    outputs = np.stack([run(path, random_feed(name, seed))[0].ravel() for seed in range(4)])
    assert np.isfinite(outputs).all()
    assert 0.05 < outputs.std(axis=1).mean() < 50
    assert outputs.std(axis=0).mean() > 0.02 * outputs.std(axis=1).mean()


def test_a_change_in_one_place_shows_in_the_output(tiny: tuple[str, Path]) -> None:
    """One image row, or one token as the others see it: far more than the tolerance of comparisons, 1e-4."""
    name, path = tiny
    feed = random_feed(name, 0)
    before = run(path, feed)[0]
    if "input_ids" in feed:
        feed["input_ids"][:, 0] = 7
        change = np.abs(run(path, feed)[0] - before)[:, 1:]
    else:
        feed["input"][:, :, 8] = 0
        change = np.abs(run(path, feed)[0] - before)
    assert change.max() > 2e-3 * np.abs(before).max()


def test_batch_axis_is_free(tiny: tuple[str, Path]) -> None:
    name, path = tiny
    feed = random_feed(name, 0, batch=2)
    together = run(path, feed)
    for index in range(2):
        alone = run(path, {key: value[index : index + 1] for key, value in feed.items()})
        for one, both in zip(alone, together, strict=True):
            np.testing.assert_allclose(both[index : index + 1], one, rtol=0, atol=1e-4 * np.abs(one).max())


def test_a_masked_token_is_not_seen(folder: Path) -> None:
    path = zoo.materialise("tiny_bert", folder)
    feed = random_feed("tiny_bert", 0)
    feed["attention_mask"][:, -1] = 0
    before = run(path, feed)[0]
    feed["input_ids"][:, -1] = 7
    np.testing.assert_array_equal(run(path, feed)[0][:, :-1], before[:, :-1])


@pytest.mark.parametrize("name", ["tiny_cnn", "tiny_bert", "mobilenet_v2"])
def test_bytes_are_the_same_every_time(name: str, tmp_path: Path) -> None:
    for run_folder in ("first", "second"):
        zoo.materialise(name, tmp_path / run_folder)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == [f"{name}.onnx", f"{name}.weights"]
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_weights_have_the_asked_scale_and_half_their_row_sums(tmp_path: Path) -> None:
    """Also across the blocks in which a large tensor is drawn: here 18 of them."""
    path = zoo.materialise("resnet18", tmp_path)
    proto = onnx.load(str(path))
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    rows = tensors["layer4.1.conv1.weight"].reshape(512, -1)
    assert rows.var() * rows.shape[1] == pytest.approx(2.63, rel=0.01)
    assert rows.sum(axis=1).var() == pytest.approx(2.63 / 4, rel=0.2)
    assert len(np.unique(rows[:, 0])) > 500
    variance = tensors["layer1.0.conv1.norm.running_var"]
    assert 0.8 <= variance.min() < variance.max() <= 1.2


def test_unknown_name_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'resnet51'; did you mean 'resnet50'\? .*choose from: mobilenet_v1, "):
        zoo.materialise("resnet51", tmp_path)
    assert not list(tmp_path.iterdir())


def test_unwritable_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ModelError, match=r"'tiny_cnn' \(0\.2 MB\) cannot be written to .*file"):
        zoo.materialise("tiny_cnn", blocked)


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "tiny_cnn.onnx").mkdir()
    with pytest.raises(ModelError):
        zoo.materialise("tiny_cnn", tmp_path)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("name", zoo.names())
def test_description_is_one_line(name: str) -> None:
    assert "\n" not in zoo.describe(name)
    assert "parameters" in zoo.describe(name)
