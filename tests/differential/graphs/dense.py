"""Steps of networks: images, matrices, branches that meet again."""

from __future__ import annotations

import numpy as np

from .growing import Growth, is_exact, is_float, is_image, step


@step(3)
def unary(g: Growth) -> None:
    op = g.draft.pick(
        "Relu", "Relu", "Neg", "Abs", "Sigmoid", "Tanh", "LeakyRelu", "Identity", "Clip", "HardSigmoid", "Exp"
    )
    settings = dict(min=np.float32(-2), max=np.float32(3)) if op == "Clip" and g.draft.opset > 10 else {}
    g.draft.call(op, [g.pick(lambda array: is_float(array) and np.all(np.abs(array) < 30))], **settings)


@step(6)
def conv(g: Growth) -> None:
    name, d = g.pick(is_image), g.draft
    shape = g.values[name].shape
    kernels, size = d.pick(2, 4, shape[1]), d.pick(1, 3, 3)
    group = d.pick(1, 1, shape[1])
    kernels = kernels * group if kernels % group else kernels
    weight = d.numbers.integers(-1, 2, (kernels, shape[1] // group, size, size)).astype("float32")
    inputs = [name, d.fixed(weight)]
    if d.chance(0.5):
        inputs.append(d.fixed(d.numbers.integers(-2, 3, kernels).astype("float32")))
    padding = d.pick(dict(pads=[size // 2] * 4), dict(pads=[size // 2] * 4), dict(auto_pad="SAME_UPPER"), {})
    d.call("Conv", inputs, group=group, strides=d.pick(None, None, [2, 2], [1, 2]), **padding)


@step(4)
def window(g: Growth) -> None:
    name, d = g.pick(is_image), g.draft
    op = d.pick("MaxPool", "AveragePool", "ConvTranspose", "GlobalAveragePool", "DepthToSpace", "SpaceToDepth")
    if op == "ConvTranspose":
        weight = d.numbers.integers(-1, 2, (g.values[name].shape[1], 2, 3, 3)).astype("float32")
        settings = d.pick({}, dict(output_padding=[1, 1]), dict(auto_pad="SAME_UPPER"), dict(pads=[1] * 4))
        d.call(op, [name, d.fixed(weight)], strides=[2, 2], **settings)
    elif op.endswith("Pool") and not op.startswith("Global"):
        padding = d.pick({}, dict(pads=[1, 1, 1, 1]), dict(auto_pad="SAME_LOWER"), dict(ceil_mode=1))
        d.call(op, [name], kernel_shape=d.pick([2, 2], [3, 3]), strides=d.pick(None, [2, 2]), **padding)
    else:
        d.call(op, [name], blocksize=2)


@step(2.5)
def resize(g: Growth) -> None:
    name, d = g.pick(is_image), g.draft
    shape = g.values[name].shape
    lengths = [d.between(1, 2 * n + 1) for n in shape[2:]]
    settings = dict(
        mode=d.pick("nearest", "linear"),
        coordinate_transformation_mode=d.pick("half_pixel", "asymmetric", "align_corners"),
    )
    if d.chance(0.5):
        d.call(
            "Resize",
            [name, d.fixed(np.float32([])), d.fixed(np.float32([])), d.fixed(np.int64([*shape[:2], *lengths]))],
            **settings,
        )
        return
    scales = np.float32([1, 1, *(length / n for length, n in zip(lengths, shape[2:], strict=True))])
    d.call("Resize", [name, d.fixed(np.float32([])), d.fixed(scales)], **settings)


@step(3)
def binary(g: Growth) -> None:
    """Two values that broadcast: residual sums, gates, scales."""
    d, left = g.draft, g.pick(lambda array: array.dtype.kind in "fi" and array.dtype != np.float64)
    array = g.values[left]

    def fits(other: np.ndarray) -> bool:
        try:
            np.broadcast_shapes(array.shape, other.shape)
        except ValueError:
            return False
        return other.dtype == array.dtype

    right = g.pick(fits) if d.chance(0.75) else d.fixed(d.numbers.integers(-2, 3, array.shape[-1:]).astype(array.dtype))
    d.call(d.pick("Add", "Add", "Sub", "Mul", "Max"), [left, right] if d.chance(0.5) else [right, left])


@step(2)
def join(g: Growth) -> None:
    d, first = g.draft, g.pick(lambda array: array.ndim > 0)
    shape, dtype = g.values[first].shape, g.values[first].dtype
    axis = d.between(0, len(shape) - 1)

    def fits(other: np.ndarray) -> bool:
        same = other.ndim == len(shape) and other.dtype == dtype
        return same and all(
            n == m for place, (n, m) in enumerate(zip(other.shape, shape, strict=True)) if place != axis
        )

    d.call("Concat", [first, *(g.pick(fits) for _ in range(d.between(1, 2)))], axis=d.pick(axis, axis - len(shape)))


@step(2)
def split(g: Growth) -> None:
    d, name = g.draft, g.pick(lambda array: array.ndim > 0 and max(array.shape) > 1)
    shape = g.values[name].shape
    axis = d.pick(*(axis for axis, extent in enumerate(shape) if extent > 1))
    first = d.between(1, shape[axis] - 1)
    d.call("Split", [name], 2, axis=axis, split=np.array([first, shape[axis] - first]))


@step(1.5)
def product(g: Growth) -> None:
    d, name = g.draft, g.pick(lambda array: is_float(array) and array.ndim > 1)
    width = g.values[name].shape[-1]
    weight = d.numbers.integers(-1, 2, (width, d.pick(3, 5, width))).astype("float32")
    result = d.call("MatMul", [name, d.fixed(weight)])
    if d.chance(0.4):
        d.call("Add", [*result, d.fixed(d.array((weight.shape[1],)))])


@step(1.5)
def normalise(g: Growth) -> None:
    d = g.draft
    op = d.pick("Softmax", "LayerNormalization", "BatchNormalization", "InstanceNormalization")
    name = g.pick(
        is_image if op.startswith(("B", "I")) else lambda array: is_float(array) and array.ndim > 1 and array.size > 0
    )
    shape = g.values[name].shape
    if op == "Softmax":
        d.call(op, [name], axis=len(shape) - 1)
    elif op == "LayerNormalization":
        d.call(op, [name, d.fixed(d.array(shape[-1:])), d.fixed(d.array(shape[-1:]))], axis=-1)
    else:
        several = [d.fixed(abs(d.array(shape[1:2])) + 0.1) for _ in range(4 if op.startswith("B") else 2)]
        d.call(op, [name, *several])


@step(1.5)
def reduce(g: Growth) -> None:
    d, name = g.draft, g.pick(lambda array: array.dtype.kind in "fi" and array.ndim > 0 and array.size > 0)
    op = d.pick("ReduceSum", "ReduceMax", "ReduceMean", "ArgMax")
    if op == "ArgMax" and not is_exact(g.values[name]):
        op = "ReduceMax"
    axis = d.between(0, g.values[name].ndim - 1)
    settings = dict(axis=axis) if op == "ArgMax" else dict(axes=np.array([axis]))
    d.call(op, [name], keepdims=d.pick(0, 1), **settings)


@step(1.5)
def move(g: Growth) -> None:
    d, name = g.draft, g.pick(lambda array: array.ndim > 0)
    shape = g.values[name].shape
    op = d.pick("Transpose", "Flatten", "Slice", "Unsqueeze", "Pad", "Cast", "Gather")
    axis = d.between(0, len(shape) - 1)
    if op == "Transpose":
        d.call(op, [name], perm=d.rng.sample(range(len(shape)), len(shape)))
    elif op == "Slice":
        d.call(
            op,
            [name],
            starts=np.array([d.pick(0, 1)]),
            ends=np.array([d.pick(shape[axis], shape[axis] - 1, 2**31)]),
            axes=np.array([axis]),
        )
    elif op == "Unsqueeze":
        d.call(op, [name], axes=np.array([axis]))
    elif op == "Pad":
        d.call(op, [name], pads=np.array([d.pick(0, 1) for _ in shape * 2]))
    elif op == "Cast":
        d.call(op, [g.pick(is_exact)], to=d.pick(1, 6, 7, 9))
    elif op == "Gather":
        d.call(op, [name, d.fixed(d.array(d.pick((), (2,), (1, 3)), "int64", 0, max(1, shape[axis])))], axis=axis)
    else:
        d.call(op, [name], axis=1)
