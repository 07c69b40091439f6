"""Providers added from outside, by a row of the registry and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from flexpie_mpi.core.errors import ModelError
from flexpie_mpi.model import load
from flexpie_mpi.planner import layout_plan
from flexpie_mpi.runtime.admission import Requests
from flexpie_mpi.runtime.engine import Engine
from flexpie_mpi.runtime.kernels import PROVIDERS
from flexpie_mpi.runtime.loopback import alone, run_ranks
from flexpie_mpi.runtime.ort import OrtProvider

from .streams import Delivered, assert_equal, chain, copied, on


class PlainProvider(OrtProvider):
    """onnxruntime without its optimisations and without an arena."""

    execution_providers = ("CPUExecutionProvider",)

    def settings(self, model):
        settings = super().settings(model)
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        settings.enable_cpu_mem_arena = False
        return settings


NUMPY = {
    "Relu": lambda x: np.maximum(x, 0),
    "Add": np.add,
    "Mul": np.multiply,
}


class NumpyProvider:
    """Interprets a segment node by node."""

    names = ("numpy",)
    block = 0

    def __init__(self, options):
        self.threads = options.threads

    def open(self, model, weights):
        odd = [node.op_type for node in model.proto.graph.node if node.op_type not in NUMPY]
        if odd:
            raise ModelError(f"numpy cannot run {odd[0]} of {model.proto.graph.name}")
        return NumpySegment(model.proto.graph, model, weights)


class NumpySegment:
    def __init__(self, graph, model, weights):
        self.graph = graph
        self.constants = {
            tensor.name: np.fromfile(weights.folder / weights.names[model.weights[tensor.name]], np.float32).reshape(
                tensor.dims
            )
            if tensor.name in model.weights
            else numpy_helper.to_array(tensor)
            for tensor in graph.initializer
        }

    def bind(self, inputs, outputs, values):
        def act():
            known = self.constants | {name: values[index] for name, index in inputs.items()}
            for node in self.graph.node:
                known[node.output[0]] = NUMPY[node.op_type](*(known[name] for name in node.input))
            for name, index in outputs.items():
                np.copyto(values[index], known[name])

        return act


@pytest.fixture
def small(tmp_path: Path, cache):
    rng = np.random.default_rng(0)
    shift, scale = rng.standard_normal((6, 1, 1), np.float32), rng.standard_normal((300, 6, 8, 8), np.float32)[:1]
    nodes = [
        helper.make_node("Add", ["x", "shift"], ["a"], name="add"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Mul", ["b", "scale"], ["c"], name="mul"),
        helper.make_node("Add", ["c", "x"], ["y"], name="residual"),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 6, 8, 8]) for name in "xy"]
    constants = [numpy_helper.from_array(array, name) for name, array in (("shift", shift), ("scale", scale))]
    graph = helper.make_graph(nodes, "small", info[:1], info[1:], constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "small.onnx")
    return load(str(tmp_path / "small.onnx"), cache=cache)


PLANS = {
    1: {"single": lambda graph: layout_plan(graph, 1)},
    2: {
        "rows": lambda graph: layout_plan(graph, 2, "rows"),
        "channels": lambda graph: layout_plan(graph, 2, "channels"),
        "pipeline": lambda graph: chain(graph, [on(0), on(0, 1), on(1)], 2),
    },
}
CASES = [(ranks, name) for ranks, plans in PLANS.items() for name in plans]


def run(model, plan, requests, cache, provider):
    """Outputs of requests run one by one, then of the same in a stream, on the root."""

    def rank(transport):
        single = Engine(transport, model, plan, cache=cache, provider=provider)
        streamed, delivered = Engine(transport, model, plan, cache=cache, provider=provider, in_flight=3), Delivered()
        outputs = [copied(single.run(request)) for request in requests]
        streamed.stream(Requests(requests), delivered)
        return outputs, delivered.outputs

    return run_ranks(plan.ranks, rank)[plan.root]


@pytest.mark.parametrize(("ranks", "plan"), CASES)
def test_a_provider_without_onnxruntime_runs_exactly(ranks, plan, small, cache, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "numpy", NumpyProvider)
    x = [np.random.default_rng(seed).standard_normal((1, 6, 8, 8), np.float32) for seed in range(4)]
    whole = Engine(alone(), small, layout_plan(small.graph, 1), cache=cache)
    expected = [copied(whole.run({"x": each})) for each in x]
    for found in run(small, PLANS[ranks][plan](small.graph), [{"x": each} for each in x], cache, "numpy"):
        for outputs, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(outputs["y"], wanted["y"])


@pytest.mark.parametrize(("ranks", "plan"), CASES)
def test_a_provider_of_onnxruntime_is_a_subclass(ranks, plan, model, requests, expected, cache, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "plain", PlainProvider)
    for found in run(model, PLANS[ranks][plan](model.graph), requests, cache, "plain"):
        assert_equal(found, expected)


def test_ranks_may_have_different_providers(model, requests, expected, cache, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "plain", PlainProvider)

    def rank(transport):
        provider = ("cpu", "plain")[transport.rank]
        engine = Engine(transport, model, layout_plan(model.graph, 2, "rows"), cache=cache, provider=provider)
        return [copied(engine.run(request)) for request in requests]

    assert_equal(run_ranks(2, rank)[0], expected)


def test_an_engine_tells_what_computes(model, small, cache, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "numpy", NumpyProvider)
    for graph, provider, names in ((model, "cpu", ["CPUExecutionProvider"]), (small, "numpy", ["numpy"])):
        engine = Engine(alone(), graph, layout_plan(graph.graph, 1), cache=cache, provider=provider)
        assert engine.provider_names == names


@pytest.mark.parametrize("provider", ["numpy", "nothing"])
def test_what_one_rank_cannot_run_is_an_error_on_all(provider, model, cache, monkeypatch):
    monkeypatch.setitem(PROVIDERS, "numpy", NumpyProvider)
    said = "rank 1: numpy cannot run" if provider == "numpy" else "rank 1: there is no provider 'nothing'"

    def rank(transport):
        name = ("cpu", provider)[transport.rank]
        with pytest.raises(ModelError, match=said):
            Engine(transport, model, layout_plan(model.graph, 2, "rows"), cache=cache, provider=name)

    run_ranks(2, rank)
