"""From a number to a case: a model with inputs, and what one plain onnxruntime session gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.conformance.cases import Case

from .draft import Draft, element_type
from .graphs import draw_graph
from .operators import draw_operator
from .plain import difference, run_plain

KINDS: dict[str, Callable[[Draft], tuple[str, list[str]]]] = {"operators": draw_operator, "graphs": draw_graph}


@dataclass(frozen=True)
class Drawn(Case):
    """A random model; what is expected is what plain onnxruntime gives."""

    op: str = ""

    def check(self, results: dict[str, Any]) -> None:
        found = []
        for name, expected in self.outputs.items():
            if name not in results:
                found.append(f"missing: output '{name}'")
            elif text := difference(results[name], expected):
                found.append(f"{text} (output '{name}')")
        if found:
            raise AssertionError(max(found))  # "value" before "type", "shape", "missing"


def draw(kind: str, seed: int, number: int) -> Drawn | None:
    """The case of a number; None where plain onnxruntime refuses it, or where its results are not determined."""
    draft = Draft(f"{seed}/{kind}/{number}")
    try:
        op, outputs = KINDS[kind](draft)
    except (IndexError, ValueError, KeyError):  # extents of zero leave nothing to choose from
        return None
    feeds = dict(draft.inputs)
    found = run_plain(draft.model([onnx.ValueInfoProto(name=name) for name in outputs]), feeds, outputs)
    if found is None:
        return None
    arrays = dict(zip(outputs, found, strict=True))
    names = _with_follower(draft, outputs, arrays) if kind == "operators" else outputs
    model = draft.model([_declared(draft, name, arrays.get(name)) for name in names])
    _add_value_info(draft, model, arrays, names)
    expected = run_plain(model, feeds, names)
    if expected is None:
        return None
    return Drawn(f"{kind}/{number}", model, feeds, dict(zip(names, expected, strict=True)), 0.0, 0.0, op)


def _with_follower(d: Draft, outputs: list[str], arrays: dict[str, Any]) -> list[str]:
    """In most cases an operator behind the first output, so that a wrong shape of it shows; names of all outputs."""
    first = arrays[outputs[0]]
    if d.chance(0.35) or not isinstance(first, np.ndarray):
        return outputs
    kept = outputs if d.chance(0.4) else outputs[1:]
    ways = ["Identity", "Slice", "Shape", "Self"]
    if first.dtype == np.float32:
        ways += ["Relu", "Relu", "Sigmoid", "Add", "Sum"] + (["Conv", "Conv"] if first.ndim > 2 and first.size else [])
    return [*_follower(d, d.pick(*ways), outputs[0], first), *kept]


def _follower(d: Draft, way: str, name: str, array: np.ndarray) -> list[str]:
    if way == "Slice" and array.ndim:
        axis = d.between(0, array.ndim - 1)
        bounds = dict(starts=np.array([0]), ends=np.array([max(1, array.shape[axis] - 1)]), axes=np.array([axis]))
        return d.call("Slice", [name], **bounds)
    if way == "Conv":
        kernels = d.array((2, array.shape[1], *(1 for _ in array.shape[2:])))
        return d.call("Conv", [name, d.fixed(kernels)])
    if way == "Add":
        return d.call("Add", [name, d.fixed(d.array(array.shape))])
    if way == "Sum":
        return d.call("ReduceMean", [name], keepdims=0)
    if way == "Self":
        return d.call("Concat", [name, name], axis=array.ndim - 1) if array.ndim else [name]
    return d.call(way if way != "Slice" else "Identity", [name])


def _declared(d: Draft, name: str, value: Any) -> onnx.ValueInfoProto:
    """Declaration of an output: nothing but its name, symbolic axes, or what it really is."""
    way = d.pick("bare", "symbolic", "fixed")
    if not isinstance(value, np.ndarray) or way == "bare":
        return onnx.ValueInfoProto(name=name)
    dims = [f"out{axis}" if way == "symbolic" else extent for axis, extent in enumerate(value.shape)]
    return helper.make_tensor_value_info(name, element_type(value), dims)


def _add_value_info(d: Draft, model: onnx.ModelProto, arrays: dict[str, Any], outputs: list[str]) -> None:
    for name, value in arrays.items():
        if name not in outputs and isinstance(value, np.ndarray) and d.chance(0.3):
            model.graph.value_info.append(_declared(d, name, value))
