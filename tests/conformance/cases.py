"""The cases of the suite that one onnxruntime session passes, as given and with their parameters made constant."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.runner import Runner


@dataclass(frozen=True)
class Case:
    """A model with inputs and the outputs the suite expects, by name."""

    name: str
    model: onnx.ModelProto
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    rtol: float
    atol: float

    def check(self, results: dict[str, Any]) -> None:
        """Raise an AssertionError where `results` are not what the suite accepts."""
        expected = list(self.outputs.values())
        Runner.assert_similar_outputs(expected, [results[name] for name in self.outputs], self.rtol, self.atol)


@lru_cache(maxsize=1)
def suite() -> tuple[Case, ...]:
    """Every case of the suite, in its order; of cases with several data sets the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite divides by zero on purpose while it makes its cases
        collected = collect_testcases(None)
    return tuple(_case(item) for item in collected)


def _case(item: Any) -> Case:
    inputs, outputs = item.data_sets[0]
    graph = item.model.graph
    return Case(
        item.name,
        item.model,
        dict(zip((value.name for value in graph.input), inputs, strict=False)),
        dict(zip((value.name for value in graph.output), outputs, strict=False)),
        item.rtol,
        item.atol,
    )


def frozen(case: Case) -> Case | None:
    """The case with all inputs after the first made constant where they are plain tensors; None where none is.

    Most cases pass shapes, axes and weights as inputs; in real models those are constants, and only then can an
    operator be cut.
    """
    rest = list(case.inputs)[1:]
    constant = {name: case.inputs[name] for name in rest if isinstance(case.inputs[name], np.ndarray)}
    constant = {name: array for name, array in constant.items() if array.dtype.kind in "fiub"}
    if not constant:
        return None
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    kept = [value for value in model.graph.input if value.name not in constant]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constant.items())
    inputs = {name: value for name, value in case.inputs.items() if name not in constant}
    return Case(f"{case.name}/frozen", model, inputs, case.outputs, case.rtol, case.atol)


def variants(cases: tuple[Case, ...]) -> Iterator[Case]:
    """Each case as given, and frozen where that makes a difference."""
    for case in cases:
        yield case
        if (constant := frozen(case)) is not None:
            yield constant


def passes_alone(case: Case) -> bool:
    """Whether one plain onnxruntime session takes the model and gives what the suite expects."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            case.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        results = session.run(list(case.outputs), case.inputs)
        case.check(dict(zip(case.outputs, results, strict=True)))
    except Exception:  # whatever onnxruntime or the suite's comparison raises: the case does not count
        return False
    return True
