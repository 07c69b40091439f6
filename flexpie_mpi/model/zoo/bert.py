"""BERT: Devlin et al., "Pre-training of Deep Bidirectional Transformers", 2018, in the operators an exporter writes."""

from __future__ import annotations

from math import sqrt

from onnx import TensorProto

from .builder import Builder, Tensor

_BRANCH_GAIN = 0.1
"""Gain of the last projection of a branch: small enough for the tokens to stay different over 12 layers."""
_EPSILON = 1e-12


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
        name = f"encoder.{layer}.attention"
        x = _close_branch(b, name, x, b.attention(name, x, heads, bias))
        x = _feed_forward(b, f"encoder.{layer}", x, intermediate)
    x = b.output("last_hidden_state", x)
    first = b.node("pooler.first", "Gather", [x, b.constant("pooler.index", 0, "int64")], axis=1)
    y = b.linear("pooler.dense", first, hidden)
    b.output("pooler_output", b.node("pooler.tanh", "Tanh", [y]))


def _embeddings(b: Builder, ids: Tensor, kinds: Tensor, vocabulary: int, positions: int, hidden: int) -> Tensor:
    """Sum of word, token type and position embeddings, normalised."""
    (tokens,) = ids.shape
    position_ids = b.constant("embeddings.position_ids", [range(tokens)], "int64")

    def lookup(name: str, rows: int, index: Tensor | str) -> Tensor:
        table = b.weight(f"{name}.weight", (rows, hidden), 1.0)
        return b.node(name, "Gather", [table, index])

    word = lookup("embeddings.word", vocabulary, ids)
    kind = lookup("embeddings.token_type", 2, kinds)
    position = lookup("embeddings.position", positions, position_ids)
    x = b.add("embeddings.add_token_type", word, kind)
    return b.layer_norm("embeddings.norm", b.add("embeddings.add_position", x, position), _EPSILON)


def _mask_bias(b: Builder, mask: Tensor) -> Tensor:
    """What is added to the attention scores, (1, 1, tokens): 0 for tokens, -10000 for padding."""
    x = b.node("mask.unsqueeze", "Unsqueeze", [mask, b.constant("mask.axes", [1, 2], "int64")])
    x = b.node("mask.cast", "Cast", [x], to=TensorProto.FLOAT)
    x = b.node("mask.invert", "Sub", [b.constant("one", 1.0, "float32"), x])
    return b.node("mask.scale", "Mul", [x, b.constant("mask.floor", -10000.0, "float32")])


def _feed_forward(b: Builder, name: str, x: Tensor, intermediate: int) -> Tensor:
    """Two dense layers with a Gelu between, added to x and normalised."""
    y = b.dense(f"{name}.intermediate", x, intermediate, gain=2.0, bias_first=True)
    return _close_branch(b, name, x, _gelu(b, f"{name}.gelu", y))


def _close_branch(b: Builder, name: str, x: Tensor, y: Tensor) -> Tensor:
    """A projection of y, added to x and normalised."""
    y = b.dense(f"{name}.output", y, x.shape[1], gain=_BRANCH_GAIN, bias_first=True)
    return b.layer_norm(f"{name}.norm", b.add(f"{name}.add", y, x), _EPSILON)


def _gelu(b: Builder, name: str, x: Tensor) -> Tensor:
    """Gaussian error linear unit, x (1 + erf(x / sqrt 2)) / 2."""
    root, one, half = (
        b.constant(word, value, "float32") for word, value in (("sqrt2", sqrt(2)), ("one", 1.0), ("half", 0.5))
    )
    y = b.node(f"{name}.div", "Div", [x, root])
    y = b.node(f"{name}.erf", "Erf", [y])
    y = b.node(f"{name}.add", "Add", [y, one])
    y = b.node(f"{name}.mul", "Mul", [x, y])
    return b.node(name, "Mul", [y, half])
