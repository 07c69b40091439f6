"""Pieces of transformers as PyTorch's two exporters write them, from an opset on in fewer operators.

TorchScript's exporter asks for sizes by Shape and Gather, and adds biases in front; dynamo's asks by the attributes of
Shape. What an opset has an operator for, neither takes apart: LayerNormalization from 17 on, and with dynamo's Gelu
from 20 and Attention from 23.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt

from .builder import Builder, Tensor

QUANTISED_BLOCK = 32
"""Numbers of 4 bits that share a scale."""
_QUANTISED_STD = 4.32
"""Of what `Weight` packs: numbers from 1 to 15 about 8."""


def size_of(b: Builder, name: str, x: Tensor, axis: int) -> Tensor:
    """The size of an axis, batch included, as a vector of one number."""
    if b.is_dynamo:
        return b.node(name, "Shape", [x], start=axis, end=axis + 1)
    size = b.node(f"{name}.shape", "Shape", [x])
    size = b.node(f"{name}.gather", "Gather", [size, b.constant(f"index.{axis}", axis, "int64")], axis=0)
    return unsqueezed(b, name, size, 0)


def unsqueezed(b: Builder, name: str, x: Tensor, *axes: int) -> Tensor:
    """With axes of one more."""
    return b.node(name, "Unsqueeze", [x, b.constant(f"axes.{'.'.join(map(str, axes))}", axes, "int64")])


def shape_of(b: Builder, name: str, *sizes: Tensor | int) -> Tensor:
    """A shape of sizes that are asked for (`size_of`) or known."""
    parts = [b.constant(f"size.{size}", [size], "int64") if isinstance(size, int) else size for size in sizes]
    return b.node(name, "Concat", parts, axis=0)


def view(b: Builder, name: str, x: Tensor, tail: Sequence[int], like: Tensor | None = None) -> Tensor:
    """Reshape to the batch and tokens of `like`, or of x itself, and `tail`."""
    like = like or x
    sizes = [size_of(b, f"{name}.size{axis}", like, axis) for axis in (0, 1)]
    shape = shape_of(b, f"{name}.shape", *sizes, *tail)
    return b.node(name, "Reshape", [x, shape], shape=(*like.shape[:1], *tail))


def project(b: Builder, name: str, x: Tensor, features: int, *, gain: float = 1.0, has_bias: bool = True) -> Tensor:
    """A linear layer over the last axis of (tokens, features)."""
    if has_bias:
        return b.dense(name, x, features, gain=gain, bias_first=not b.is_dynamo)
    size = x.shape[-1]
    return b.node(name, "MatMul", [x, b.weight(f"{name}.weight", (size, features), sqrt(3 * gain / size))])


def project_packed(b: Builder, name: str, x: Tensor, features: int, *, gain: float = 1.0) -> Tensor:
    """The same without bias, of weights in 4 bits, as onnxruntime's quantiser writes it."""
    size, blocks = x.shape[-1], x.shape[-1] // QUANTISED_BLOCK
    weight = b.packed(f"{name}.weight", (features, blocks, QUANTISED_BLOCK // 2))
    scale = sqrt(gain / size) / _QUANTISED_STD
    scales = b.weight(f"{name}.scales", (features, blocks), scale / 5, scale, is_parameter=False)
    widths = {"K": size, "N": features, "bits": 4, "block_size": QUANTISED_BLOCK}
    shape = (*x.shape[:-1], features)
    return b.node(name, "MatMulNBits", [x, weight, scales], shape=shape, domain="com.microsoft", **widths)


# Normalisations and activations


def layer_norm(b: Builder, name: str, x: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Normalisation over the last axis."""
    if b.opset >= 17:
        return b.layer_norm(name, x, epsilon)
    centred = b.node(f"{name}.sub", "Sub", [x, _mean(b, f"{name}.mean", x)])
    y = b.node(f"{name}.div", "Div", [centred, _root_of_mean_square(b, name, centred, epsilon)])
    y = b.node(f"{name}.mul", "Mul", [y, b.weight(f"{name}.weight", x.shape[-1:], 0.2, centre=1.0)])
    return b.node(name, "Add", [y, b.weight(f"{name}.bias", x.shape[-1:], 0.1)])


def rms_norm(b: Builder, name: str, x: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Over the last axis, divided by the root of the mean square (Zhang and Sennrich 2019)."""
    root = _root_of_mean_square(b, name, x, epsilon)
    if b.is_dynamo:
        scale = b.node(f"{name}.reciprocal", "Reciprocal", [root])
    else:
        scale = b.node(f"{name}.div", "Div", [b.constant("one", 1.0, "float32"), root])
    y = b.node(f"{name}.mul", "Mul", [x, scale])
    return b.node(name, "Mul", [b.weight(f"{name}.weight", x.shape[-1:], 0.2, centre=1.0), y])


def _root_of_mean_square(b: Builder, name: str, x: Tensor, epsilon: float) -> Tensor:
    y = b.node(f"{name}.pow", "Pow", [x, b.constant("two", 2.0, "float32")])
    y = b.add(f"{name}.add", _mean(b, f"{name}.square", y), b.constant(f"epsilon.{epsilon}", epsilon, "float32"))
    return b.node(f"{name}.sqrt", "Sqrt", [y])


def _mean(b: Builder, name: str, x: Tensor) -> Tensor:
    """Over the last axis."""
    if b.opset < 18:
        return b.node(name, "ReduceMean", [x], axes=[-1], keepdims=1)
    return b.node(name, "ReduceMean", [x, b.constant("last", [-1], "int64")], keepdims=1)


def gelu(b: Builder, name: str, x: Tensor) -> Tensor:
    """Gaussian error linear unit, x (1 + erf(x / sqrt 2)) / 2."""
    if b.is_dynamo and b.opset >= 20:
        return b.node(name, "Gelu", [x])
    y = b.node(f"{name}.div", "Div", [x, b.constant("sqrt2", sqrt(2), "float32")])
    y = b.node(f"{name}.erf", "Erf", [y])
    y = b.node(f"{name}.add", "Add", [y, b.constant("one", 1.0, "float32")])
    y = b.node(f"{name}.mul", "Mul", [x, y])
    return b.node(name, "Mul", [y, b.constant("half", 0.5, "float32")])


def tanh_gelu(b: Builder, name: str, x: Tensor) -> Tensor:
    """The same by a hyperbolic tangent, as GPT-2 has it."""
    half = b.node(f"{name}.half", "Mul", [x, b.constant("half", 0.5, "float32")])
    y = b.node(f"{name}.pow", "Pow", [x, b.constant("three", 3.0, "float32")])
    y = b.node(f"{name}.cubic", "Mul", [y, b.constant("gelu.cubic", 0.044715, "float32")])
    y = b.add(f"{name}.sum", x, y)
    y = b.node(f"{name}.scale", "Mul", [y, b.constant("gelu.scale", sqrt(2 / pi), "float32")])
    y = b.node(f"{name}.tanh", "Tanh", [y])
    y = b.node(f"{name}.add", "Add", [y, b.constant("one", 1.0, "float32")])
    return b.node(name, "Mul", [half, y])


# Heads


def split_heads(b: Builder, name: str, x: Tensor, heads: int) -> Tensor:
    """(tokens, hidden) as (heads, tokens, items)."""
    y = view(b, f"{name}.split", x, (heads, x.shape[-1] // heads))
    return b.node(f"{name}.heads", "Transpose", [y], perm=(0, 2, 1, 3))


def merge_heads(b: Builder, name: str, x: Tensor) -> Tensor:
    """(heads, tokens, items) as (tokens, hidden)."""
    y = b.node(f"{name}.merge.transpose", "Transpose", [x], perm=(0, 2, 1, 3))
    return view(b, f"{name}.merge", y, (x.shape[0] * x.shape[2],))


def attend(b: Builder, name: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d) + mask) V of (heads, tokens, items), d the items.

    ``scaled_dot_product_attention`` is written with the root of the factor on either side.
    """
    size = query.shape[-1]
    if b.is_dynamo and b.opset >= 23:
        return b.node(
            name, "Attention", [query, key, value, *([mask] if mask else ())], scale=1 / sqrt(size), shape=query.shape
        )
    root = b.constant(f"{name}.root", size**-0.25, "float32")
    query = b.node(f"{name}.query.scale", "Mul", [query, root])
    key = b.node(f"{name}.key.transpose", "Transpose", [key], perm=(0, 1, 3, 2))
    y = b.node(f"{name}.scores", "MatMul", [query, b.node(f"{name}.key.scale", "Mul", [key, root])])
    y = b.add(f"{name}.mask", y, mask) if mask else y
    return b.node(name, "MatMul", [b.node(f"{name}.softmax", "Softmax", [y], axis=-1), value], shape=query.shape)


def attention(b: Builder, name: str, x: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d) + mask) V of x, (tokens, hidden), its sizes known when it is written.

    With a mask, in the form of BERT's exporters: they divide, and the biases of layers come first.
    """
    hidden = x.shape[1]
    size = hidden // heads

    def split(word: str, order: tuple[int, ...]) -> Tensor:
        """Heads of (tokens, hidden), the axes (batch, token, head, item) then in another order."""
        y = b.dense(f"{name}.{word}", x, hidden, bias_first=mask is not None)
        y = b.reshape(f"{name}.{word}.split", y, [0, 0, heads, size])
        return b.node(f"{name}.{word}.transpose", "Transpose", [y], perm=order)

    query, key, value = split("query", (0, 2, 1, 3)), split("key", (0, 2, 3, 1)), split("value", (0, 2, 1, 3))
    y = b.node(f"{name}.scores", "MatMul", [query, key])
    if mask is None:
        y = b.node(f"{name}.scale", "Mul", [y, b.constant(f"{name}.factor", 1 / sqrt(size), "float32")])
    else:
        y = b.node(f"{name}.scale", "Div", [y, b.constant(f"{name}.sqrt", sqrt(size), "float32")])
        y = b.node(f"{name}.mask", "Add", [y, mask])
    y = b.node(f"{name}.softmax", "Softmax", [y], axis=-1)
    y = b.node(f"{name}.context", "MatMul", [y, value])
    y = b.node(f"{name}.context.transpose", "Transpose", [y], perm=(0, 2, 1, 3))
    return b.reshape(f"{name}.context.merge", y, [0, 0, hidden])
