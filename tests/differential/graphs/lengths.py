"""Steps whose results are as long as the data says, and what is done with such results."""

from __future__ import annotations

import numpy as np

from .growing import Growth, is_exact, is_float, step


def _mask(g: Growth, name: str) -> str:
    d, array = g.draft, g.values[name]
    return d.call("Greater", [name, d.fixed(np.array(d.between(-1, 2), array.dtype))])[0]


@step(2)
def non_zero(g: Growth) -> None:
    d, name = g.draft, g.pick(lambda array: is_exact(array) and array.dtype.kind in "fi" and array.ndim > 0)
    found = d.node("NonZero", [_mask(g, name)])
    _used(g, found, d.node("Transpose", [found]))


@step(2)
def unique(g: Growth) -> None:
    d, name = g.draft, g.pick(lambda array: is_exact(array) and array.dtype.kind in "fi")
    there = d.pick([True], [True, False, True], [True, True, True, True])
    found = d.call("Unique", [name], there)[0]
    _used(g, found, found)


@step(2)
def compress(g: Growth) -> None:
    d, name = g.draft, g.pick(lambda array: is_exact(array) and array.dtype.kind in "fi" and array.ndim > 0)
    axis = d.between(0, g.values[name].ndim - 1)
    flat = d.call("ReduceSum", [name], axes=np.array([n for n in range(g.values[name].ndim) if n != axis]), keepdims=0)[
        0
    ]
    mask = d.call("Greater", [flat, d.fixed(np.array(0, g.values[name].dtype))])[0]
    found = d.call("Compress", [name, mask], axis=axis)[0]
    _used(g, found, found)


@step(1.5)
def top_k(g: Growth) -> None:
    """As many as the data says: the number of positive ones, at least one."""
    d, name = g.draft, g.pick(lambda array: is_exact(array) and is_float(array) and array.ndim > 0 and array.size > 0)
    flat = d.node("Reshape", [name, d.fixed(np.array([-1]))])
    positive = d.node("Cast", [_mask(g, name)], to=7)
    count = d.call(
        "ReduceSum", [d.node("Reshape", [positive, d.fixed(np.array([-1]))])], axes=np.array([0]), keepdims=1
    )[0]
    ranks = d.fixed(np.arange(g.values[name].size, dtype=np.float32) / 100000)  # no two are equal
    values, places = d.call("TopK", [d.node("Add", [flat, ranks]), count], 2, axis=0)
    _used(g, values, places)


@step(1)
def boxes(g: Growth) -> None:
    d = g.draft
    corners = np.round(d.numbers.uniform(0, 5, (1, 6, 2)))
    given = np.concatenate([corners, corners + 2], -1).astype("float32")
    scores = d.numbers.permutation(6).reshape(1, 1, 6).astype("float32")
    limits = [d.fixed(np.array([9])), d.fixed(np.float32([0.3])), d.fixed(np.float32([2.5]))]
    found = d.node("NonMaxSuppression", [g.given(given, "boxes"), g.given(scores, "scores"), *limits])
    _used(g, found, found)


def _used(g: Growth, first: str, second: str) -> None:
    """What models do with a value of unknown length: ask for it, make more of that length, go on elementwise."""
    d = g.draft
    for _ in range(d.between(1, 2)):
        name = d.pick(first, second)
        way = d.between(0, 6)
        if way == 0:
            shape = d.node("Shape", [name])
            ones = d.call("ConstantOfShape", [shape])[0]
            d.node("Exp", [ones])
        elif way == 1:
            d.node("Mul", [d.node("Size", [name]), d.fixed(np.array(2))])
        elif way == 2:
            d.node("Add", [name, name])
        elif way == 3:
            count = d.node("Gather", [d.node("Shape", [name]), d.fixed(np.array(0))], axis=0)
            d.call("Range", [d.fixed(np.array(0)), count, d.fixed(np.array(1))])
        elif way == 4:
            d.node("Concat", [name, name], axis=0)
        elif way == 5:
            d.call("ReduceSum", [d.node("Cast", [name], to=1)], keepdims=0)
        else:
            shape = d.node("Shape", [name])
            d.node("Expand", [d.fixed(np.float32(2)), shape])


@step(1)
def gather_found(g: Growth) -> None:
    """The rows of something that a search found."""
    d, name = g.draft, g.pick(lambda array: is_exact(array) and array.dtype.kind in "fi" and array.ndim > 0)
    rows = (
        d.call("ReduceMax", [name], axes=np.array(list(range(1, g.values[name].ndim))), keepdims=0)[0]
        if g.values[name].ndim > 1
        else name
    )
    mask = d.call("Greater", [rows, d.fixed(np.array(0, g.values[name].dtype))])[0]
    places = d.call("Squeeze", [d.node("NonZero", [mask])], axes=np.array([0]))[0]
    picked = d.node("Gather", [name, places], axis=0)
    _used(g, picked, places)
