"""Steps of shape arithmetic: lengths taken by Shape and Size, worked on, and used."""

from __future__ import annotations

import numpy as np

from .growing import Growth, step


def _length(g: Growth, name: str) -> str:
    """One entry of a tensor's shape, as a vector of one."""
    d, axis = g.draft, g.draft.between(0, g.values[name].ndim - 1)
    shape = d.node("Shape", [name])
    way = d.between(0, 2)
    if way == 0:
        entry = d.call("Slice", [shape], starts=np.array([axis]), ends=np.array([axis + 1]), axes=np.array([0]))[0]
    elif way == 1:
        entry = d.node("Gather", [shape, d.fixed(np.array([axis]))], axis=0)
    else:
        scalar = d.node("Gather", [shape, d.fixed(np.array(axis))], axis=0)
        entry = d.call("Unsqueeze", [scalar], axes=np.array([0]))[0]
    return entry


@step(2.5)
def reshape(g: Growth) -> None:
    """To (length of an axis, -1), or with the lengths of two axes multiplied."""
    d, name = g.draft, g.pick(lambda array: array.ndim > 0 and array.size > 0)
    entry = _length(g, name)
    if d.chance(0.4):
        two = d.fixed(np.array([2]))
        entry = d.node("Div", [d.node("Mul", [entry, two]), two])
    rest = d.fixed(np.array([-1]))
    d.node("Reshape", [name, d.node("Concat", [entry, rest] if d.chance(0.7) else [rest, entry], axis=0)])


@step(1.5)
def expand(g: Growth) -> None:
    d, name = g.draft, g.pick(lambda array: 0 < array.ndim < 4)
    whole = d.node("Shape", [name])
    extra = d.fixed(np.array([d.pick(1, 2)]))
    d.call("Expand", [name, d.node("Concat", [extra, whole], axis=0)])


@step(1.5)
def like(g: Growth) -> None:
    """A value made as large as another: zeros, a range, the whole shape as data."""
    d, name = g.draft, g.pick(lambda array: array.ndim > 0)
    way = d.between(0, 3)
    if way == 0:
        filled = d.call("ConstantOfShape", [d.node("Shape", [name])])[0]
        d.node("Add", [filled, filled])
    elif way == 1:
        entry = _length(g, name)
        limit = d.call("Squeeze", [entry], axes=np.array([0]))[0]
        d.call("Range", [d.fixed(np.array(0)), limit, d.fixed(np.array(1))])
    elif way == 2:
        d.node("Mul", [d.node("Size", [name]), d.fixed(np.array(3))])
    else:
        d.node("Cast", [d.node("Shape", [name])], to=1)


@step(1.5)
def cut(g: Growth) -> None:
    """A Slice whose end is half of a length, or a Pad by it, or a Tile."""
    d, name = g.draft, g.pick(lambda array: array.ndim > 0 and array.size > 0)
    entry = _length(g, name)
    half = d.node("Div", [entry, d.fixed(np.array([2]))])
    axis = d.between(0, g.values[name].ndim - 1)
    d.node("Slice", [name, d.fixed(np.array([0])), half, d.fixed(np.array([axis]))])


@step(1)
def back(g: Growth) -> None:
    """To another shape and back to one's own, by Shape."""
    d, name = g.draft, g.pick(lambda array: array.ndim > 1)
    flat = d.call("Flatten", [name], axis=1)[0]
    d.node("Reshape", [d.node("Identity", [flat]), d.node("Shape", [name])])


@step(1)
def resize_to(g: Growth) -> None:
    """An image resized to the extents of another."""
    d, images = g.draft, lambda array: array.dtype == np.float32 and array.ndim == 4 and array.size > 0
    name, other = g.pick(images), g.pick(images)
    own = d.call("Slice", [d.node("Shape", [name])], starts=np.array([0]), ends=np.array([2]), axes=np.array([0]))
    its = d.call("Slice", [d.node("Shape", [other])], starts=np.array([2]), ends=np.array([4]), axes=np.array([0]))
    empty = d.fixed(np.float32([]))
    d.call("Resize", [name, empty, empty, d.node("Concat", [*own, *its], axis=0)], mode=d.pick("nearest", "linear"))
