"""Models whose numbers are not float32: half precision, and 8-bit integers in both forms that quantisers write."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from flexpie_mpi import Engine, layout_plan, load, run_ranks
from flexpie_mpi.files.cache import Cache
from flexpie_mpi.files.synthetic import random_inputs
from flexpie_mpi.model.zoo import materialise

PRESETS = ("rows", "columns", "grid", "channels", "single")


class Samples(CalibrationDataReader):
    """A few seeded requests for calibration."""

    def __init__(self, path):
        graph = load(str(path)).graph
        self.requests = iter([random_inputs(graph, seed=seed) for seed in range(4)])

    def get_next(self):
        return next(self.requests, None)


def halved(source, target):
    """The model with float16 in the place of float32."""
    proto = onnx.load(source)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(proto, target)


def quantised(form):
    def convert(source, target):
        quantize_static(str(source), str(target), Samples(source), quant_format=form, per_channel=True)

    return convert


FORMS = {"float16": halved, "qdq": quantised(QuantFormat.QDQ), "qoperator": quantised(QuantFormat.QOperator)}


def plain(path, inputs, level):
    """Outputs of one session at one level of optimisation, as float64."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [output.astype(np.float64) for output in session.run(None, inputs)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["tiny_cnn", "tiny_resnet", "tiny_mobilenet"])
def test_other_types_run_right_under_every_layout(name, form, tmp_path):
    """Half precision and 8-bit sums depend on what onnxruntime fuses; the engine is no further off than that."""
    target = tmp_path / "model.onnx"
    FORMS[form](materialise(name, tmp_path), target)
    cache = Cache(tmp_path / "cache")
    model = load(str(target), cache=cache)
    inputs = random_inputs(model.graph, seed=1)
    levels = onnxruntime.GraphOptimizationLevel
    (fused,), (plainest,) = (plain(target, inputs, lv) for lv in (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL))
    allowed = max(np.abs(fused - plainest).max(), 1e-5 * np.abs(fused).max())
    assert np.ptp(fused) > 5 * allowed
    for preset, fusion in [*product(PRESETS, ["free"]), ("rows", "none"), ("channels", "none")]:
        plan = layout_plan(model.graph, 3, preset, fusion=fusion)
        assert preset == "single" or any(len(segment.layout.ranks) == 3 for segment in plan.segments)
        (output,) = run(model, plan, inputs, cache).values()
        difference = min(np.abs(output - other).max() for other in (fused, plainest))
        assert difference <= allowed, (preset, fusion, difference, allowed)


def run(model, plan, inputs, cache):
    return run_ranks(plan.ranks, lambda transport: dict(Engine(transport, model, plan, cache=cache).run(inputs)))[0]
