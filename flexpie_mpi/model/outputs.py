"""Which outputs of a model are wanted, and which positions of them: ``logits[:, -1]`` is what numpy takes it for.

What an index leaves of an output is an output of its own, called as it was asked for. The index becomes nodes behind
the value, and :mod:`.narrow` leaves out what they do not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..core.errors import ModelError
from .walks import fresh, nearest, opset_of, replace, taken_names

Index = tuple[int | slice, ...]

_ASKED = re.compile(r"(.+)\[([^\[\]]*)\]", re.DOTALL)
_ITEM = re.compile(r"\s*(-?\d+)?\s*(:)?\s*(-?\d+)?\s*")
_LAST = 2**63 - 1
"""Behind the end of every axis."""


def select_outputs(proto: onnx.ModelProto, wanted: Sequence[str]) -> None:
    """Leave a model the outputs that are wanted, in that order.

    Raises ModelError when none is, it has no such output, or an index is none of positions and ranges.
    """
    if not wanted:
        raise ModelError("no output of the model is wanted, and no state: there is nothing to compute")
    graph, taken = proto.graph, taken_names(proto)
    declared = {value.name: value for value in graph.output}
    kept = []
    for text in dict.fromkeys(wanted):
        name, index = _parsed(text, declared)
        if not index:
            kept.append(declared[name])
            continue
        graph.node.extend(_nodes(proto, name, index, text, taken))
        kept.append(helper.make_tensor_value_info(text, declared[name].type.tensor_type.elem_type, None))
    replace(graph.output, kept)


def picked(wanted: Iterable[str], outputs: Mapping[str, Any]) -> dict[str, Any]:
    """What is wanted of the outputs of a file, but for those that are not among them."""
    held = {}
    for text in wanted:
        name, index = _split(text, outputs)
        if name in outputs:
            held[text] = outputs[name][index] if index else outputs[name]
    return held


def _split(text: str, names: Collection[str]) -> tuple[str, Index]:
    """The output that is asked for, and the index; a name may look like an indexed one."""
    match = None if text in names else _ASKED.fullmatch(text)
    return (text, ()) if match is None else (match[1], tuple(map(_item, match[2].split(","))))


def _item(text: str) -> int | slice:
    """A position, or a range of them.

    Raises ModelError when it is neither.
    """
    match = _ITEM.fullmatch(text)
    if match is None or not (match[1] or match[2]) or (match[3] and not match[2]):
        raise ModelError(f"'{text}' in --outputs is no position as -1 and no range as 3:10.")
    first, last = (None if item is None else int(item) for item in (match[1], match[3]))
    return slice(first, last) if match[2] or first is None else first


def _parsed(text: str, declared: Mapping[str, onnx.ValueInfoProto]) -> tuple[str, Index]:
    """As of :func:`_split`.

    Raises ModelError when there is no such output.
    """
    name, index = _split(text, declared)
    if name not in declared:
        raise ModelError(f"--outputs {text}: the model has no such output{nearest(name, list(declared), 'outputs')}.")
    if index and not declared[name].type.HasField("tensor_type"):
        raise ModelError(f"--outputs {text}: output '{name}' is no tensor and has no positions.")
    return name, index


def _nodes(proto: onnx.ModelProto, source: str, index: Index, target: str, taken: set[str]) -> Iterator[onnx.NodeProto]:
    """A Slice of the axes with ranges, and a Gather of every axis with a position, the last first."""
    ranges = [(axis, item) for axis, item in enumerate(index) if isinstance(item, slice)]
    places = [(axis, item) for axis, item in enumerate(index) if isinstance(item, int)]
    names = [*(fresh(f"{target}::{axis}", taken) for axis, _ in places), target]
    yield slice_node(proto, source, names[0], ranges, taken)
    for (axis, place), name, behind in zip(reversed(places), names, names[1:], strict=False):
        at = constant(proto, f"{name}::at", place, taken)
        yield helper.make_node("Gather", [name, at], [behind], name=behind, axis=axis)


def slice_node(
    proto: onnx.ModelProto, source: str, target: str, ranges: Sequence[tuple[int, slice]], taken: set[str]
) -> onnx.NodeProto:
    """A node that takes ranges of the axes of a value: by inputs from opset 10 on, and by attributes before.

    Parameters
    ----------
    proto : onnx.ModelProto
        Gets the constants that say which ranges.
    source, target : str
        The value that is read, and that which is made; the node is called as the latter.
    ranges : sequence of (axis, slice)
        Without steps.
    taken : set of str
        Names in the model; new ones are added.
    """
    bounds: dict[str, Any] = {
        "starts": [item.start or 0 for _, item in ranges],
        "ends": [_LAST if item.stop is None else item.stop for _, item in ranges],
        "axes": [axis for axis, _ in ranges],
    }
    if not ranges:
        return helper.make_node("Identity", [source], [target], name=target)
    if opset_of(proto) < 10:
        return helper.make_node("Slice", [source], [target], name=target, **bounds)
    names = [constant(proto, f"{target}::{key}", items, taken) for key, items in bounds.items()]
    return helper.make_node("Slice", [source, *names], [target], name=target)


def constant(proto: onnx.ModelProto, wanted: str, data: int | Sequence[int], taken: set[str]) -> str:
    """The name of a new constant."""
    proto.graph.initializer.append(numpy_helper.from_array(np.array(data, np.int64), fresh(wanted, taken)))
    return proto.graph.initializer[-1].name
