"""Normalisations in all their old and new forms."""

from __future__ import annotations

from ..draft import Draft
from .drawing import draws


@draws("BatchNormalization", weight=2)
def batch(d: Draft, op: str) -> list[str]:
    shape = d.image(low=1) if d.chance(0.85) else (d.between(1, 3), d.between(1, 6))
    each = (shape[1],) if d.opset > 8 or d.chance(0.8) else shape[1:]
    parameters = [d.array(each), d.array(each), d.array(each), abs(d.array(each)) + 0.1]
    settings = dict(epsilon=d.pick(None, 1e-3), momentum=d.pick(None, 0.5))
    if d.opset < 9:
        settings["spatial"] = 0 if len(each) > 1 or each != (shape[1],) else d.pick(None, 1)
    trains = d.opset > 13 and d.chance(0.15)
    outputs = d.pick(1, 3) if trains else 1
    return d.call(
        op,
        [d.value(shape), *(d.parameter(item, 0.85) for item in parameters)],
        outputs,
        training_mode=1 if trains else None,
        **settings,
    )


@draws("InstanceNormalization")
def instance(d: Draft, op: str) -> list[str]:
    shape = d.image(low=1)
    return d.call(
        op,
        [d.value(shape), d.parameter(d.array(shape[1:2])), d.parameter(d.array(shape[1:2]))],
        epsilon=d.pick(None, 1e-2),
    )


@draws("LayerNormalization", "RMSNormalization", weight=2)
def layer(d: Draft, op: str) -> list[str]:
    shape = tuple(d.between(1, 8) for _ in range(d.between(1, 4)))
    axis = d.axis(len(shape))
    each = shape[axis % len(shape) :]
    each = each if d.chance(0.8) else d.broadcast_of(each, upwards=False)
    inputs = [
        d.value(shape, d.dtype("float16", "float64")[:7] if d.chance(0.0) else "float32"),
        d.parameter(d.array(each), 0.9),
    ]
    if op == "LayerNormalization" and d.chance(0.6):
        inputs.append(d.parameter(d.array(each), 0.9))
    there = (
        [True]
        if op != "LayerNormalization"
        else d.pick([True], [True], [True, True], [True, True, True], [True, False, True])
    )
    return d.call(
        op,
        inputs,
        there,
        axis=d.pick(axis, axis, None if axis in (-1, len(shape) - 1) else axis),
        epsilon=d.pick(None, 1e-3),
    )


@draws("GroupNormalization")
def group(d: Draft, op: str) -> list[str]:
    groups, per = d.pick(1, 2, 3), d.pick(1, 2, 3)
    shape = d.image(channels=groups * per, low=1)
    each = (groups,) if d.opset < 21 else (groups * per,)
    return d.call(
        op,
        [d.value(shape), d.parameter(d.array(each)), d.parameter(d.array(each))],
        num_groups=groups,
        epsilon=d.pick(None, 1e-2),
    )


@draws("LRN")
def lrn(d: Draft, op: str) -> list[str]:
    return d.call(
        op,
        [d.value(d.image(axes=2, low=1))],
        size=d.pick(1, 2, 3, 4, 5, 7),
        alpha=d.pick(None, 0.3),
        beta=d.pick(None, 0.5),
        bias=d.pick(None, 2.0),
    )


@draws("MeanVarianceNormalization", "LpNormalization")
def by_axes(d: Draft, op: str) -> list[str]:
    if op == "LpNormalization":
        shape = d.shape(1, 4)
        return d.call(op, [d.value(shape)], axis=d.pick(None, d.axis(len(shape))), p=d.pick(None, 1, 2))
    d.opset = max(d.opset, 9)
    shape = d.image(axes=2, low=1)
    return d.call(op, [d.value(shape)], axes=d.pick(None, [0, 2, 3], [2, 3], [0, 1, 2, 3], [-1], [1]))


@draws("Det", weight=0.4)
def det(d: Draft, op: str) -> list[str]:
    size = d.between(1, 4)
    return d.call(op, [d.value((*d.shape(0, 2), size, size))])
