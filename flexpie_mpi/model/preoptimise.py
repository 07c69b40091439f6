"""onnxruntime as a model compiler: constants folded, BatchNorm folded, types of values found out."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from ..errors import ModelError
from .heldout import held_out, misused
from .read import Source, read_source
from .weights import StoredTensor, mapped, numpy_dtype, type_name

VERSION = onnxruntime.__version__
STORED_BYTES = 1 << 10
"""Constants of more bytes than this are kept in a file beside the prepared model."""
WEIGHTS_FILE = "weights.bin"

_MODEL_FILE = "optimised.onnx"
_INJECTABLE = frozenset(
    ("FLOAT", "DOUBLE", "FLOAT16", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "BOOL")
)
_UNWANTED = ("MatMulAddFusion",)
"""Makes Reshape, Gemm, Reshape of a 3-D MatMul and Add, under names that a later session of the result falls over."""
_CODE_PLACE = re.compile(r"^/\S+:\d+ .*?\) (?=[A-Z(])")
_LONGEST_REASON = 400


@dataclass(frozen=True, slots=True)
class ValueType:
    """What onnxruntime says of a value: a type such as ``tensor(float)``, and a shape that may have gaps."""

    type: str
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class _Job:
    """What a session is made of. onnxruntime uses the supplied arrays in place and does not keep them alive."""

    proto: onnx.ModelProto
    options: onnxruntime.SessionOptions
    supplied: object


@dataclass(frozen=True)
class Session:
    """An accepted model that can be asked for the types and shapes of its outputs."""

    _session: onnxruntime.InferenceSession
    _job: _Job

    def output_types(self) -> dict[str, ValueType]:
        """Types of all outputs, without running anything."""
        return {item.name: ValueType(item.type, tuple(item.shape)) for item in self._session.get_outputs()}

    def output_shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Shapes of some outputs in a run on zeros; empty where the model cannot be run so."""
        feeds: dict[str, Any] = {}
        for value in self._job.proto.graph.input:
            tensor = value.type.tensor_type
            if not value.type.HasField("tensor_type") or type_name(tensor.elem_type) not in _INJECTABLE:
                return {}
            feeds[value.name] = np.zeros([dim.dim_value for dim in tensor.shape.dim], numpy_dtype(tensor.elem_type))
        try:
            results = self._session.run(list(names), feeds)
        except Exception:  # onnxruntime has its own exception classes; zeros may be no valid input of this model
            return {}
        return {name: tuple(result.shape) for name, result in zip(names, results, strict=True)}


def preoptimise(source: Source, folder: Path) -> Source:
    """The model after onnxruntime's basic level, with weights in `folder` and those it does not touch left in place.

    Weights that folding cannot reach enter the optimising session as inputs, without data, so that they need no memory.

    Raises
    ------
    ModelError
        onnxruntime does not accept the model, or writes one that cannot be read back.
    """
    held = held_out(source.proto.graph, source.large())
    while True:
        optimised = _optimise(source, held, folder)
        wrong = misused(optimised.proto.graph, held)
        if not wrong:
            return optimised
        held -= wrong


def accept(source: Source, extra_outputs: Sequence[str] = ()) -> Session:
    """A session that runs the model as it is, with more values as outputs.

    Raises
    ------
    ModelError
        onnxruntime does not accept the model; the sentence says why.
    """
    held = held_out(source.proto.graph, source.large())
    job = _session_job(source, held)
    job.proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra_outputs)
    job.options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    job.options.add_session_config_entry("session.disable_prepacking", "1")
    return Session(_create(job), job)


def _optimise(source: Source, held: Collection[str], folder: Path) -> Source:
    job = _session_job(source, held)
    path = folder / _MODEL_FILE
    for old in (path, folder / WEIGHTS_FILE):
        old.unlink(missing_ok=True)
    job.options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    job.options.optimized_model_filepath = str(path)
    prefix = "session.optimized_model_external_initializers_"
    job.options.add_session_config_entry(prefix + "file_name", WEIGHTS_FILE)
    job.options.add_session_config_entry(prefix + "min_size_in_bytes", str(STORED_BYTES))
    _create(job, _UNWANTED)
    optimised = read_source(path, STORED_BYTES)
    path.unlink()
    return _put_back(optimised, source, held)


def _session_job(source: Source, held: Collection[str]) -> _Job:
    """The model to make a session of: weights held out as inputs, other stored ones mapped from their files."""
    proto = onnx.ModelProto()
    proto.CopyFrom(source.proto)
    large = source.large()
    for name in sorted(held):
        tensor = large[name]
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.shape))
    kept = [tensor for tensor in source.proto.graph.initializer if tensor.name not in held]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    arrays: dict[str, np.ndarray] = {}
    for tensor in proto.graph.initializer:
        if tensor.name in large:
            _supply(tensor, large[tensor.name], arrays)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
    if arrays:
        options.add_external_initializers(list(arrays), values)
    return _Job(proto, options, (arrays, values))


def _supply(tensor: onnx.TensorProto, stored: StoredTensor, arrays: dict[str, np.ndarray]) -> None:
    """Give a stub its data back: as a memory map where onnxruntime takes that, else inside the message."""
    tensor.ClearField("external_data")
    if type_name(stored.data_type) in _INJECTABLE:
        # Kernels expect aligned elements; inside an .onnx file they may begin at any byte.
        arrays[tensor.name] = np.require(mapped(stored), requirements="A")
        tensor.external_data.add(key="location", value="supplied")
    else:
        tensor.ClearField("data_location")
        tensor.raw_data = stored.place.read()


def _put_back(optimised: Source, source: Source, held: Collection[str]) -> Source:
    """Make weights that were held out constants again; their bytes are where they were."""
    graph = optimised.proto.graph
    inputs = [value for value in graph.input if value.name not in held]
    del graph.input[:]
    graph.input.extend(inputs)
    graph.initializer.extend(tensor for tensor in source.proto.graph.initializer if tensor.name in held)
    large = source.large()
    return Source(optimised.proto, optimised.stored | {name: large[name] for name in held})


def _create(job: _Job, disabled: Collection[str] = ()) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(
            job.proto.SerializeToString(),
            job.options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(disabled),
        )
    except Exception as error:  # onnxruntime raises a dozen classes that share no base
        raise ModelError(f"onnxruntime {VERSION} does not accept the model: {_reason(str(error))}") from error


def _reason(text: str) -> str:
    """The sentence in an onnxruntime error, without codes and places in its sources."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text).strip().split("\n")[0]
    text = _CODE_PLACE.sub("", text)
    text = text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + " ..."
    if "IR version" in text or "opset" in text.lower():
        text = text.rstrip(". ") + "; export the model at an older version or install a newer onnxruntime"
    return text.rstrip(".!") + "."
