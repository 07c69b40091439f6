"""Reductions, arg-reductions, running sums and softmax."""

from __future__ import annotations

import numpy as np

from ..draft import Draft
from .drawing import draws


@draws(
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare", weight=5,
)  # fmt: skip
def reduce(d: Draft, op: str) -> list[str]:
    shape = d.shape(0, 5)
    dtype = d.dtype("float64", "int32", "int64")
    settings = dict(keepdims=d.pick(None, 0, 1))
    if d.chance(0.75):
        axes = d.axes(len(shape), low=0 if d.chance(0.2) else 1)
        settings["axes"] = np.array(axes if d.opset > 10 else [axis % len(shape) for axis in axes], np.int64)
    if d.chance(0.3):
        settings["noop_with_empty_axes"] = d.pick(0, 1)
    data = d.value(shape, dtype, low=-3, high=4)
    if op == "ReduceLogSum":
        data = d.node("Abs", [data])
    return d.call(op, [data], **settings)


@draws("ArgMax", "ArgMin", weight=1.5)
def arg(d: Draft, op: str) -> list[str]:
    shape, dtype = d.shape(1, 4), d.dtype("int32", "uint8", "float64", "int64")
    settings = dict(axis=d.axis(len(shape)) if d.opset > 10 else d.between(0, len(shape) - 1))
    return d.call(
        op,
        [d.value(shape, dtype, low=0, high=4)],
        keepdims=d.pick(None, 0, 1),
        select_last_index=d.pick(None, 0, 1),
        **settings,
    )


@draws("CumSum", weight=1.5)
def running(d: Draft, op: str) -> list[str]:
    shape = d.shape(1, 4)
    axis = np.array(d.axis(len(shape)), d.pick("int64", "int32"))
    axis = axis.reshape(d.pick((), (1,)))
    inputs = [d.value(shape, d.dtype("int32", "int64", "float64")), d.parameter(axis)]
    return d.call(op, inputs, exclusive=d.pick(None, 0, 1), reverse=d.pick(None, 0, 1))


@draws("Softmax", "LogSoftmax", "Hardmax", weight=2)
def softmax(d: Draft, op: str) -> list[str]:
    shape = d.shape(1, 5)
    axis = d.axis(len(shape)) if d.opset > 10 else d.between(0, len(shape) - 1)
    return d.call(
        op, [d.value(shape, d.dtype("float64") if d.chance(0.3) else "float32")], axis=d.pick(None, axis, axis)
    )
