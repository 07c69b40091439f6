"""onnxruntime sessions of whole models on the rank that loads them: what it accepts, and what it then computes.

Weights that are in files are mapped into memory, never read into it, so that a session needs little more memory than
the values of one request.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from threading import Timer
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnxruntime

from ..core.document import printable
from ..core.errors import ModelError
from ..core.graph import WITHHELD
from .walks import replace
from .weights import Source, StoredTensor, mapped, numpy_dtype, type_name

VERSION = onnxruntime.__version__

_INJECTABLE = frozenset(
    ("FLOAT", "DOUBLE", "FLOAT16", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "BOOL")
)

Level = onnxruntime.GraphOptimizationLevel


_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PARENTHESES = r"\((?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*\)"
_SIGNATURE = rf"[^()]*{_PARENTHESES}(?:::\S*?{_PARENTHESES}\S*)*(?: const)?(?: \[with [^]]*\])? "
_PLACE = re.compile(
    rf"(?:/\S+\.(?:h|hpp|cc|cpp):\d+ {_SIGNATURE}|(?<!\S)\w+\.(?:h|hpp|cc|cpp):\d+ (?:[\w~]+(?:\(\))? )?)"
    r"(?:.{1,200}? was false\. (?=\S))?"
)
_NODE = re.compile(r"Non-zero status code returned while running (\w+) node\. Name:'([^']*)' Status Message: ")
_LONGEST, _LONGEST_READ = 400, 20_000


class RunError(Exception):
    """onnxruntime could not run a model with the inputs it was given; the text is onnxruntime's own."""


class LateError(RunError):
    """A run did not end within its time, and was ended."""


class Session:
    """A model that onnxruntime has accepted; `keeper` is what it uses in place, and lives as long."""

    def __init__(self, made: onnxruntime.InferenceSession, keeper: object) -> None:
        self._session = made
        self._keeper = keeper

    def inputs(self) -> list[str]:
        """Names of what a run has to be given."""
        return [item.name for item in self._session.get_inputs()]

    def outputs(self) -> dict[str, tuple[str, tuple[int | str | None, ...]]]:
        """What onnxruntime says of each output: a type such as ``tensor(float)``, and a shape that may have gaps."""
        return {item.name: (item.type, tuple(item.shape)) for item in self._session.get_outputs()}

    def run(self, feeds: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        """Outputs by name, those set aside whose elements onnxruntime does not give to Python (bfloat16, 4 bits).

        Raises RunError when onnxruntime refuses the inputs. Raises LateError when the run does not end within `limit_s`
        seconds.
        """
        kinds = {name: kind.removeprefix("tensor(") for name, (kind, _) in self.outputs().items()}
        names = [name for name, kind in kinds.items() if not kind.startswith(WITHHELD)]
        if not names:  # onnxruntime would take that for all of them
            return {}
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        timer = Timer(limit_s, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            results = self._session.run(names, {name: feeds[name] for name in self.inputs()}, options)
        except Exception as error:  # onnxruntime raises a dozen classes that share no base
            raise (LateError if options.terminate else RunError)(str(error)) from error
        finally:
            timer.cancel()
        return dict(zip(names, results, strict=True))


def accept(source: Source, extra_outputs: Sequence[str] = ()) -> Session:
    """A session that runs the model as it is, no node rewritten, with more values as outputs.

    Raises ModelError when onnxruntime does not accept the model; the sentence says why.
    """
    proto, arrays = with_weights(source, ())
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra_outputs)
    return create(proto, options_of(Level.ORT_DISABLE_ALL), arrays)


def options_of(level: Any) -> onnxruntime.SessionOptions:
    """Options of a session in one thread that says nothing, at a :data:`Level` of optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if level == Level.ORT_DISABLE_ALL:  # some kernels sum in another type when their weights are not packed
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def with_weights(source: Source, held: Collection[str]) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The model as a session takes it, and the memory maps of initializers that it only declares, for :func:`create`.

    The weights `held` are inputs without data.
    """
    proto = deepcopy(source.proto)
    large = source.large()
    for name in sorted(held):
        tensor = large[name]
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.shape))
    replace(proto.graph.initializer, [tensor for tensor in proto.graph.initializer if tensor.name not in held])
    arrays: dict[str, np.ndarray] = {}
    for tensor in proto.graph.initializer:
        if tensor.name in large:
            _supply(tensor, large[tensor.name], arrays)
    return proto, arrays


def create(
    model: onnx.ModelProto | Path,
    options: onnxruntime.SessionOptions,
    arrays: Mapping[str, np.ndarray] = MappingProxyType({}),
    disabled: Collection[str] = (),
) -> Session:
    """A session of a model or of a file, without the optimisers `disabled`.

    `arrays` are the data of initializers that the model only declares; onnxruntime uses them in place. Raises
    ModelError when it does not accept the model; the sentence says why.
    """
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
    if arrays:
        options.add_external_initializers(list(arrays), values)
    try:
        data = str(model) if isinstance(model, Path) else model.SerializeToString()
        providers = ["CPUExecutionProvider"]
        made = onnxruntime.InferenceSession(data, options, providers=providers, disabled_optimizers=list(disabled))
    except Exception as error:  # onnxruntime raises a dozen classes; protobuf refuses a message over 2 GiB
        raise ModelError(f"onnxruntime {VERSION} does not accept the model: {reason(error)}") from error
    return Session(made, (arrays, values))


def _supply(tensor: onnx.TensorProto, stored: StoredTensor, arrays: dict[str, np.ndarray]) -> None:
    """Give a stub its data back: as a memory map where onnxruntime takes that, else inside the message."""
    tensor.ClearField("external_data")
    if type_name(stored.data_type) in _INJECTABLE:
        # Kernels expect aligned elements; inside an .onnx file they may begin at any byte.
        arrays[tensor.name] = np.require(mapped(stored), requirements="A")
        tensor.external_data.add(key="location", value="supplied")
    else:
        tensor.ClearField("data_location")
        tensor.raw_data = stored.read_bytes()


def can_feed(data_type: int) -> bool:
    """Whether an array of an ONNX element type can be handed to a session."""
    return type_name(data_type) in _INJECTABLE


def zeros(data_type: int, shape: Sequence[int]) -> np.ndarray:
    """An array that :func:`can_feed`, all zeros."""
    return np.zeros(tuple(shape), numpy_dtype(data_type))


def reason(error: BaseException) -> str:
    """The sentence in an onnxruntime error, one line that can be printed, with a full stop.

    Codes, places in onnxruntime's sources and signatures of its functions are left out.
    """
    raw = " ".join(str(error)[:_LONGEST_READ].split())
    text = _PLACE.sub("", _CODE.sub("", raw + " "))
    text = _NODE.sub(lambda match: f"{match[1]} '{match[2]}': " if match[2] else f"{match[1]}: ", text).strip()
    text = printable(text or type(error).__name__, _LONGEST)
    if "IR version" in text or "opset" in text.lower():
        text = text.rstrip(". ") + "; export the model at an older version or install a newer onnxruntime"
    return text.rstrip(".!") + "."
