"""Whole jobs of transformers and recurrent networks, as both exporters write them: equal to one session."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import pytest

from flexpie_mpi import Engine, layout_plan, run_ranks
from flexpie_mpi.model.zoo import decoders, encoders
from flexpie_mpi.model.zoo.builder import Builder

from .models import beside_one_session
from .planners import planned

LLAMA = {"layers": 1, "hidden": 96, "heads": 6, "key_heads": 2, "intermediate": 160, "vocabulary": 97}
BUILDERS = {
    "vit": partial(encoders.vit, layers=1, hidden=48, heads=3, intermediate=96, size=32, patch=8, classes=10),
    "whisper": partial(encoders.whisper, layers=1, hidden=40, heads=5, intermediate=96, frames=22, bands=8),
    "lstm": partial(encoders.lstm, hidden=24, bands=8, frames=5, classes=7),
    "gpt2": partial(decoders.gpt2, layers=1, hidden=48, heads=3, vocabulary=97, positions=64),
    "llama": partial(decoders.llama, **LLAMA),
    "llama in 4 bits": partial(decoders.llama, **LLAMA, is_packed=True),
}
FORMS = {"torchscript 14": (14, False), "torchscript 17": (17, False), "dynamo 18": (18, True), "dynamo 23": (23, True)}


def built(name: str, form: str) -> onnx.ModelProto:
    """A model whose heads and tokens do not divide by the number of ranks, with its weights."""
    opset, is_dynamo = FORMS[form]
    builder = Builder(name, opset, is_dynamo=is_dynamo)
    BUILDERS[name](builder)
    model = builder.finish()
    weights = {weight.name: weight for weight in model.external}
    for tensor in model.proto.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.helper.make_tensor(
                tensor.name, tensor.data_type, tensor.dims, weights[tensor.name].tobytes(), raw=True
            ))  # fmt: skip
    return model.proto


CHOSEN = {
    "vit": "torchscript 14",
    "whisper": "dynamo 18",
    "lstm": "torchscript 17",
    "gpt2": "torchscript 14",
    "llama": "dynamo 23",
    "llama in 4 bits": "dynamo 18",
}
"""The form of each that is run here: all of them are of something."""
MODELS = {name: partial(built, name, form) for name, form in CHOSEN.items()}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Model, inputs, the outputs of one plain session and a cache, made once each."""
    return beside_one_session(tmp_path_factory.mktemp("sequences"), MODELS)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", BUILDERS)
def test_every_form_is_valid(name, form):
    proto = built(name, form)
    onnx.checker.check_model(proto, full_check=True)
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == len(names)


PLANS = [(name, *plan) for name in MODELS for plan in (("rows", 3), ("channels", 4))]


@pytest.mark.parametrize(("name", "layout", "ranks"), [*PLANS, ("gpt2", "auto", 2), ("llama", "auto", 2)])
def test_equal_to_one_session(case, name, layout, ranks):
    model, inputs, expected, cache = case(name)
    plan = planned(model.graph, ranks, layout) if layout == "auto" else layout_plan(model.graph, ranks, layout)

    def rank(transport):
        engine = Engine(transport, model, plan, cache=cache)
        return {name: np.array(value) for name, value in engine.run(inputs).items()}

    found = run_ranks(ranks, rank)[plan.root]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.ptp(value) > 0, "a constant output would hide a wrong shard"
        assert np.abs(found[name] - value).max() <= 1e-4 * np.abs(value).max(), name
