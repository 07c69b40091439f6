"""Gather, Scatter and operators whose result is as long as the data says."""

from __future__ import annotations

import numpy as np

from ..draft import Draft
from .drawing import draws

_ANY = ("float64", "int64", "int32", "uint8", "bool", "object")


def _filled(d: Draft, low: int, high: int) -> tuple[int, ...]:
    """Extents that are not zero."""
    return tuple(d.between(1, 7) for _ in range(d.between(low, high)))


@draws("Gather", "GatherElements", weight=3)
def gather(d: Draft, op: str) -> list[str]:
    shape = _filled(d, 1, 4)
    axis = d.axis(len(shape))
    extent = shape[axis % len(shape)]
    low = -extent if d.opset >= 11 and d.chance(0.5) else 0
    wanted = d.shape(0, 2)
    if op == "GatherElements":
        wanted = tuple(d.between(1, n) if place != axis % len(shape) else d.extent() for place, n in enumerate(shape))
        if d.chance(0.5):
            wanted = tuple(n if place != axis % len(shape) else wanted[place] for place, n in enumerate(shape))
    indices = d.array(wanted, d.dtype("int32", common="int64"), low, extent)
    return d.call(op, [d.value(shape, d.dtype(*_ANY)), d.parameter(indices, 0.6)], axis=axis)


@draws("GatherND", weight=2)
def gather_nd(d: Draft, op: str) -> list[str]:
    shape = _filled(d, 1, 4)
    batch = d.between(0, len(shape) - 1) if d.opset >= 12 and d.chance(0.5) else 0
    depth = d.between(1, len(shape) - batch)
    lead = (*shape[:batch], *(d.between(1, 4) for _ in range(d.between(0, 2))))
    points = np.stack([d.array(lead, "int64", -n if d.chance(0.3) else 0, n) for n in shape[batch : batch + depth]], -1)
    return d.call(op, [d.value(shape, d.dtype(*_ANY)), d.parameter(points, 0.6)], batch_dims=batch or None)


@draws("ScatterElements", "Scatter", weight=2)
def scatter(d: Draft, op: str) -> list[str]:
    shape, dtype = _filled(d, 1, 4), d.dtype("float64", "int64", "int32")
    d.opset = min(d.opset, 10) if op == "Scatter" else d.opset
    axis = d.axis(len(shape)) if d.opset > 10 else d.between(0, len(shape) - 1)
    along = axis % len(shape)
    wanted = tuple(d.between(1, n) if d.chance(0.5) else n for n in shape)
    reduction = d.pick(None, None, "add", "mul", "max" if d.opset > 17 else "add", "min" if d.opset > 17 else "mul")
    indices = np.argsort(d.numbers.random((*wanted, shape[along])), -1)[..., :1].reshape(wanted)
    if reduction is None:  # positions written twice are not defined: one place along the axis each
        indices = np.moveaxis(
            np.broadcast_to(
                d.numbers.permutation(shape[along])[: wanted[along]],
                (*wanted[:along], *wanted[along + 1 :], wanted[along]),
            ),
            -1,
            along,
        )
    inputs = [
        d.value(shape, dtype),
        d.parameter(np.ascontiguousarray(indices.astype("int64")), 0.6),
        d.value(wanted, dtype),
    ]
    return d.call(op, inputs, axis=axis, reduction=reduction)


@draws("ScatterND", weight=2)
def scatter_nd(d: Draft, op: str) -> list[str]:
    shape, dtype = _filled(d, 1, 4), d.dtype("float64", "int64", "int32")
    depth = d.between(1, len(shape))
    total = int(np.prod(shape[:depth]))
    flat = d.numbers.permutation(total)[: d.between(1, min(total, 5))]
    points = np.stack(np.unravel_index(flat, shape[:depth]), -1).astype("int64")
    reduction = d.pick(None, None, "add", "mul", "max" if d.opset > 17 else "add")
    inputs = [d.value(shape, dtype), d.parameter(points, 0.6), d.value((len(flat), *shape[depth:]), dtype)]
    return d.call(op, inputs, reduction=reduction)


@draws("TensorScatter", weight=0.5)
def tensor_scatter(d: Draft, op: str) -> list[str]:
    past, new = (2, 3, 8, 4), (2, 3, d.between(1, 3), 4)
    return d.call(
        op, [d.value(past), d.value(new), d.ints([d.between(0, 4), d.between(0, 4)])], mode=d.pick("linear", "circular")
    )


@draws("Compress", "NonZero", "Unique", weight=2)
def by_data(d: Draft, op: str) -> list[str]:
    shape = _filled(d, 1, 3)
    if op == "NonZero":
        return d.call(op, [d.value(shape, d.dtype("int64", "bool", "uint8", common="int32"), low=0, high=3)])
    axis = d.pick(None, d.axis(len(shape)))
    if op == "Compress":
        length = int(np.prod(shape)) if axis is None else shape[axis % len(shape)]
        return d.call(
            op, [d.value(shape, d.dtype(*_ANY)), d.parameter(d.array((d.between(1, length),), "bool"), 0.4)], axis=axis
        )
    data = d.given(d.numbers.integers(0, 4, shape).astype(d.dtype("int64", "float64")))
    return d.call(op, [data], [True, *(d.chance(0.5) for _ in range(3))], axis=axis, sorted=d.pick(0, 1, None))


@draws("NonMaxSuppression")
def suppression(d: Draft, op: str) -> list[str]:
    batch, classes, boxes = d.between(1, 2), d.between(1, 3), d.between(1, 9)
    corners = d.numbers.uniform(0, 5, (batch, boxes, 2))
    given = np.concatenate([corners, corners + d.numbers.uniform(0.5, 4, corners.shape)], -1).astype("float32")
    scores = d.numbers.permutation(batch * classes * boxes).reshape(batch, classes, boxes).astype("float32") / 40
    inputs = [d.given(given), d.given(scores), d.parameter(np.array(d.pick([3], [10], [0], [1]), "int64"))]
    inputs += [d.parameter(np.array([value], "float32")) for value in (d.pick(0.1, 0.5, 0.9), d.pick(0.0, 0.3))]
    return d.call(op, inputs[: d.pick(3, 4, 5, 5)], center_point_box=d.pick(None, 0, 1))


@draws("TopK", weight=2)
def top_k(d: Draft, op: str) -> list[str]:
    shape = _filled(d, 1, 4)
    axis = d.axis(len(shape))
    k = d.between(0 if d.opset > 9 and d.chance(0.1) else 1, shape[axis % len(shape)])
    count = int(np.prod(shape))
    data = d.numbers.permutation(count).reshape(shape)  # no two are equal
    dtype = d.dtype("int64", "int32", "float64") if d.opset > 10 else "float32"
    settings = dict(largest=d.pick(None, 0, 1), sorted=d.pick(None, 1))
    k_value = k if d.opset < 10 else np.array([k], "int64")
    return d.call(
        op,
        [d.given(data.astype(dtype))],
        2,
        axis=axis,
        k=k_value,
        **{**settings, **({"K": k_value} if d.opset > 9 else {})},
    )
