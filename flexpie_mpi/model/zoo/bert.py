"""BERT: Devlin et al., "Pre-training of Deep Bidirectional Transformers", 2018, in the operators an exporter writes."""

from __future__ import annotations

from math import sqrt

from onnx import TensorProto

from .builder import Builder, Tensor

_BRANCH_GAIN = 0.1
"""Of the last projection of a branch: small enough for the tokens to stay different over 12 layers."""


def build(
    b: Builder,
    layers: int = 12,
    hidden: int = 768,
    heads: int = 12,
    intermediate: int = 3072,
    tokens: int = 128,
    vocabulary: int = 30522,
    positions: int = 512,
) -> None:
    """Embeddings, `layers` encoder layers, and a pooler on the first token."""
    ids, mask, kinds = (
        b.input(name, (tokens,), TensorProto.INT64) for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    x = _embeddings(b, ids, kinds, vocabulary, positions, hidden)
    bias = _mask_bias(b, mask)
    for layer in range(layers):
        x = _attention(b, f"encoder.{layer}.attention", x, bias, heads)
        x = _feed_forward(b, f"encoder.{layer}", x, intermediate)
    x = b.output("last_hidden_state", x)
    first = b.node("pooler.first", "Gather", [x, b.constant("pooler.index", 0, "int64")], (hidden,), axis=1)
    y = b.linear("pooler.dense", first, hidden)
    b.output("pooler_output", b.node("pooler.tanh", "Tanh", [y], y.shape))


def _embeddings(b: Builder, ids: Tensor, kinds: Tensor, vocabulary: int, positions: int, hidden: int) -> Tensor:
    """Sum of word, token type and position embeddings, normalised."""
    (tokens,) = ids.shape
    places = b.constant("embeddings.position_ids", [range(tokens)], "int64")

    def lookup(name: str, rows: int, index: Tensor | str) -> Tensor:
        table = b.weight(f"{name}.weight", (rows, hidden), 1.0)
        return b.node(name, "Gather", [table, index], (tokens, hidden))

    word = lookup("embeddings.word", vocabulary, ids)
    kind = lookup("embeddings.token_type", 2, kinds)
    place = lookup("embeddings.position", positions, places)
    x = b.add("embeddings.add_token_type", word, kind)
    return _layer_norm(b, "embeddings.norm", b.add("embeddings.add_position", x, place))


def _mask_bias(b: Builder, mask: Tensor) -> Tensor:
    """What is added to the attention scores, (1, 1, tokens): 0 for tokens, -10000 for padding."""
    shape = (1, 1, *mask.shape)
    x = b.node("mask.unsqueeze", "Unsqueeze", [mask, b.constant("mask.axes", [1, 2], "int64")], shape)
    x = b.node("mask.cast", "Cast", [x], shape, to=TensorProto.FLOAT)
    x = b.node("mask.invert", "Sub", [b.constant("one", 1.0, "float32"), x], shape)
    return b.node("mask.scale", "Mul", [x, b.constant("mask.floor", -10000.0, "float32")], shape)


def _attention(b: Builder, name: str, x: Tensor, bias: Tensor, heads: int) -> Tensor:
    """softmax(Q K^T / sqrt(d) + bias) V, projected, added to x and normalised."""
    tokens, hidden = x.shape
    size = hidden // heads
    query = _heads(b, f"{name}.query", x, heads, (0, 2, 1, 3))
    key = _heads(b, f"{name}.key", x, heads, (0, 2, 3, 1))
    value = _heads(b, f"{name}.value", x, heads, (0, 2, 1, 3))
    square = (heads, tokens, tokens)
    scores = b.node(f"{name}.scores", "MatMul", [query, key], square)
    scores = b.node(f"{name}.scale", "Div", [scores, b.constant(f"{name}.sqrt", sqrt(size), "float32")], square)
    scores = b.node(f"{name}.mask", "Add", [scores, bias], square)
    scores = b.node(f"{name}.softmax", "Softmax", [scores], square, axis=-1)
    y = b.node(f"{name}.context", "MatMul", [scores, value], (heads, tokens, size))
    y = b.node(f"{name}.context.transpose", "Transpose", [y], (tokens, heads, size), perm=(0, 2, 1, 3))
    y = _reshape(b, f"{name}.context.merge", y, (tokens, hidden), [0, 0, hidden])
    y = _dense(b, f"{name}.output", y, hidden, gain=_BRANCH_GAIN)
    return _layer_norm(b, f"{name}.norm", b.add(f"{name}.add", y, x))


def _heads(b: Builder, name: str, x: Tensor, heads: int, order: tuple[int, ...]) -> Tensor:
    """A projection of x, cut into heads and transposed by `order`."""
    tokens, hidden = x.shape
    y = _dense(b, name, x, hidden)
    split = (tokens, heads, hidden // heads)
    y = _reshape(b, f"{name}.split", y, split, [0, 0, *split[1:]])
    shape = tuple(split[axis - 1] for axis in order[1:])
    return b.node(f"{name}.transpose", "Transpose", [y], shape, perm=order)


def _feed_forward(b: Builder, name: str, x: Tensor, intermediate: int) -> Tensor:
    """Two dense layers with a Gelu between, added to x and normalised."""
    y = _gelu(b, f"{name}.gelu", _dense(b, f"{name}.intermediate", x, intermediate, gain=2.0))
    y = _dense(b, f"{name}.output", y, x.shape[1], gain=_BRANCH_GAIN)
    return _layer_norm(b, f"{name}.norm", b.add(f"{name}.add", y, x))


def _gelu(b: Builder, name: str, x: Tensor) -> Tensor:
    """Gaussian error linear unit, x (1 + erf(x / sqrt 2)) / 2."""
    root, one, half = (
        b.constant(word, value, "float32") for word, value in (("sqrt2", sqrt(2)), ("one", 1.0), ("half", 0.5))
    )
    y = b.node(f"{name}.div", "Div", [x, root], x.shape)
    y = b.node(f"{name}.erf", "Erf", [y], x.shape)
    y = b.node(f"{name}.add", "Add", [y, one], x.shape)
    y = b.node(f"{name}.mul", "Mul", [x, y], x.shape)
    return b.node(name, "Mul", [y, half], x.shape)


def _dense(b: Builder, name: str, x: Tensor, features: int, gain: float = 1.0) -> Tensor:
    """Matrix product over the last axis, then a bias."""
    tokens, size = x.shape
    weight = b.weight(f"{name}.weight", (size, features), sqrt(3 * gain / size))
    y = b.node(f"{name}.matmul", "MatMul", [x, weight], (tokens, features))
    return b.node(name, "Add", [b.weight(f"{name}.bias", (features,), 0.1), y], (tokens, features))


def _layer_norm(b: Builder, name: str, x: Tensor) -> Tensor:
    features = x.shape[-1:]
    scale = b.weight(f"{name}.weight", features, 0.2, centre=1.0)
    return b.node(
        name, "LayerNormalization", [x, scale, b.weight(f"{name}.bias", features, 0.1)], x.shape, axis=-1, epsilon=1e-12
    )


def _reshape(b: Builder, name: str, x: Tensor, shape: tuple[int, ...], target: list[int]) -> Tensor:
    """Reshape to `target`, where 0 keeps the axis as it is (the batch and the tokens)."""
    return b.node(name, "Reshape", [x, b.constant(f"{name}.shape", target, "int64")], shape)
