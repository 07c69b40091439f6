"""The networks made to be timed: they hold a spread of shapes, none of them takes long, and they run like any other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from flexpie_mpi import Engine, Model, layout_plan, load, run_ranks
from flexpie_mpi.core.graph import BoundNode
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.lower.shards import node_flops
from flexpie_mpi.model import zoo

NAMES = tuple(name for name in zoo.names() if name.startswith("spread_"))
SMALLEST = "spread_3"


@dataclass(frozen=True)
class Loaded:
    model: Model
    path: Path
    """Of the file as the zoo writes it."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def loaded(cache: Cache) -> dict[str, Loaded]:
    models = {name: load(f"builtin:{name}", cache=cache) for name in NAMES}
    assert cache.folder is not None
    paths = {name: next((cache.folder / "builtin").glob(f"{name}-*/*.onnx")) for name in NAMES}
    return {name: Loaded(models[name], paths[name]) for name in NAMES}


@pytest.fixture(scope="module")
def nodes(loaded: dict[str, Loaded]) -> list[BoundNode]:
    return [node for each in loaded.values() for node in each.model.graph.bound]


def test_there_are_some() -> None:
    assert len(NAMES) == 4 and all("to be timed" in zoo.describe(name) for name in NAMES)


def test_the_operators_that_networks_of_today_spend_their_time_in_are_all_there(nodes: list[BoundNode]) -> None:
    assert {node.op for node in nodes} >= {
        "Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Clip", "Sigmoid", "Add", "Mul", "Concat",
        "Gemm", "MatMul", "LayerNormalization", "Softmax", "Reshape", "Transpose",
    }  # fmt: skip


def test_convolutions_cover_kernels_strides_groups_channels_and_extents(nodes: list[BoundNode]) -> None:
    convolutions = [node for node in nodes if node.op == "Conv"]
    kinds = {kind_of(node) for node in convolutions}
    assert kinds >= {("dense", kernel, 1) for kernel in (1, 3, 5, 7)} | {("depthwise", kernel, 1) for kernel in (3, 5)}
    assert {stride for _, _, stride in kinds} == {1, 2} and len({kind for kind, _, _ in kinds}) == 3
    channels = {node.out_shape()[1] for node in convolutions} | {node.in_shape()[1] for node in convolutions}
    assert min(channels - {3}) == 8 and max(channels) >= 768 and channels >= {24, 40, 72, 144}
    assert len({(node.in_shape()[1], node.out_shape()[1]) for node in convolutions}) > 150
    extents = {node.out_shape()[2] for node in convolutions}
    assert {7, 14, 56, 112} <= {near for near in (7, 14, 28, 56, 112) if extents & {near, near - 1, near + 1}}
    assert len(extents) > 15


def kind_of(node: BoundNode) -> tuple[str, int, int]:
    group = node.attribute("group", 1)
    kind = "dense" if group == 1 else "depthwise" if group == node.in_shape()[1] else "grouped"
    return kind, node.in_shape(1)[2], node.attribute("strides")[0]


def test_products_have_from_one_row_to_256(nodes: list[BoundNode]) -> None:
    gemm = {node.out_shape()[0] for node in nodes if node.op == "Gemm"}
    matmul = {node.out_shape()[-2] for node in nodes if node.op == "MatMul"}
    assert 1 in gemm and max(gemm) > 100 and len(gemm) > 4
    assert min(matmul) <= 4 and max(matmul) > 180 and len(matmul) > 8 and max(gemm | matmul) <= 256


@pytest.mark.parametrize("name", NAMES)
def test_no_operator_takes_long(name: str, loaded: dict[str, Loaded]) -> None:
    """A core at the pace of 50 Gflop/s needs 6 ms for the largest, and 40 to 200 ms for the network."""
    flops = [node_flops(node) for node in loaded[name].model.graph.bound]
    assert max(flops) <= 0.35e9 and 2e9 <= sum(flops) <= 10e9


@pytest.mark.parametrize("name", NAMES)
def test_the_same_model_every_time_and_each_of_them_another(name: str) -> None:
    first, second = (zoo.blueprint(name).proto.SerializeToString(deterministic=True) for _ in range(2))
    others = {tuple(shapes_in(other)) for other in NAMES}
    assert first == second and len(others) == len(NAMES)


def shapes_in(name: str) -> Iterator[tuple[int, ...]]:
    for weight in zoo.blueprint(name).weights:
        yield weight.shape


def test_the_file_is_valid(loaded: dict[str, Loaded]) -> None:
    onnx.checker.check_model(str(loaded[SMALLEST].path), full_check=True)


@pytest.mark.parametrize("layout", ["rows", "channels"])
def test_two_ranks_compute_what_one_session_does(layout: str, loaded: dict[str, Loaded], cache: Cache) -> None:
    model = loaded[SMALLEST].model
    inputs = random_inputs(model.graph, seed=2)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(loaded[SMALLEST].path), options, ["CPUExecutionProvider"])
    (expected,) = session.run(["scores"], inputs)
    plan = layout_plan(model.graph, 2, layout)

    def rank(transport) -> dict[str, np.ndarray]:
        return {key: value.copy() for key, value in Engine(transport, model, plan, cache=cache).run(inputs).items()}

    outputs = run_ranks(2, rank)[plan.root]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(outputs["scores"], expected, rtol=0, atol=1e-4 * np.abs(expected).max())
