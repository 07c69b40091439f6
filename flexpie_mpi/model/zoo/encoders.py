"""Networks that read a whole sequence at once: BERT, ViT and Whisper's encoder; and an LSTM that goes on with one.

- BERT: Devlin et al., "Pre-training of Deep Bidirectional Transformers", 2018.
- ViT: Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020; queries, keys and values are one product, as in timm.
- Whisper: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022.
"""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from .builder import Builder, Tensor
from .transformer import attend, attention, gelu, layer_norm, merge_heads, project, shape_of, size_of, split_heads, view

BRANCH_GAIN = 0.1
"""Gain of the last projection of a branch: small enough for the tokens to stay different over 12 layers."""
_BERT_EPSILON = 1e-12


def bert(
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
        x = _close_branch(b, name, x, attention(b, name, x, heads, bias))
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
    return b.layer_norm("embeddings.norm", b.add("embeddings.add_position", x, position), _BERT_EPSILON)


def _mask_bias(b: Builder, mask: Tensor) -> Tensor:
    """What is added to the attention scores, (1, 1, tokens): 0 for tokens, -10000 for padding."""
    x = b.node("mask.unsqueeze", "Unsqueeze", [mask, b.constant("mask.axes", [1, 2], "int64")])
    x = b.node("mask.cast", "Cast", [x], to=TensorProto.FLOAT)
    x = b.node("mask.invert", "Sub", [b.constant("one", 1.0, "float32"), x])
    return b.node("mask.scale", "Mul", [x, b.constant("mask.floor", -10000.0, "float32")])


def _feed_forward(b: Builder, name: str, x: Tensor, intermediate: int) -> Tensor:
    """Two dense layers with a Gelu between, added to x and normalised."""
    y = b.dense(f"{name}.intermediate", x, intermediate, gain=2.0, bias_first=True)
    return _close_branch(b, name, x, gelu(b, f"{name}.gelu", y))


def _close_branch(b: Builder, name: str, x: Tensor, y: Tensor) -> Tensor:
    """A projection of y, added to x and normalised."""
    y = b.dense(f"{name}.output", y, x.shape[1], gain=BRANCH_GAIN, bias_first=True)
    return b.layer_norm(f"{name}.norm", b.add(f"{name}.add", y, x), _BERT_EPSILON)


def vit(
    b: Builder,
    layers: int = 12,
    hidden: int = 768,
    heads: int = 12,
    intermediate: int = 3072,
    size: int = 224,
    patch: int = 16,
    classes: int = 1000,
) -> None:
    """A token for every patch of a picture and one for its class, `layers` layers, a classifier on the latter."""
    x = _patches(b, b.input("input", (3, size, size)), hidden, patch)
    for layer in range(layers):
        name = f"blocks.{layer}"
        y = _fused_attention(b, f"{name}.attn", layer_norm(b, f"{name}.norm1", x, 1e-6), heads)
        x = b.add(f"{name}.add1", x, project(b, f"{name}.attn.proj", y, hidden, gain=BRANCH_GAIN))
        x = _widened(b, name, x, layer_norm(b, f"{name}.norm2", x, 1e-6), intermediate)
    first = b.constant("first", 0, "int64")
    x = b.node("pool", "Gather", [layer_norm(b, "norm", x, 1e-6), first], axis=1)
    b.output("scores", b.linear("head", x, classes))


def _patches(b: Builder, x: Tensor, hidden: int, patch: int) -> Tensor:
    """Tokens of a picture behind the one that is learnt, and where they are."""
    weight = b.filters("patch.weight", (hidden, x.shape[0], patch, patch), 1.0)
    window: dict[str, Any] = {"kernel_shape": (patch, patch), "strides": (patch, patch)}
    y = b.node("patch", "Conv", [x, weight, b.weight("patch.bias", (hidden,), 0.05)], **window)
    y = b.reshape("patch.flatten", y, [0, hidden, -1])
    y = b.node("patch.tokens", "Transpose", [y], perm=(0, 2, 1))
    shape = shape_of(b, "class.shape", size_of(b, "class.batch", y, 0), 1, hidden)
    learnt = b.node("class", "Expand", [b.weight("class.weight", (1, 1, hidden), 1.0), shape], shape=(1, hidden))
    tokens = b.node("tokens", "Concat", [learnt, y], axis=1, shape=(y.shape[0] + 1, hidden))
    return b.add("positions", tokens, b.weight("positions.weight", (1, *tokens.shape), 1.0))


def _fused_attention(b: Builder, name: str, x: Tensor, heads: int) -> Tensor:
    """Attention whose queries, keys and values are one product, taken apart behind a transposition."""
    tokens, hidden = x.shape
    y = view(b, f"{name}.split", project(b, f"{name}.qkv", x, 3 * hidden), (3, heads, hidden // heads))
    y = b.node(f"{name}.transpose", "Transpose", [y], perm=(2, 0, 3, 1, 4))
    axis, ones = b.constant("axes.0", [0], "int64"), b.constant("ones.3", [1, 1, 1], "int64")
    parts = b.nodes(f"{name}.unbind", "Split", [y, ones], 3, axis=0)
    shape = (heads, tokens, hidden // heads)
    query, key, value = (b.node(f"{part.name}.squeeze", "Squeeze", [part, axis], shape=shape) for part in parts)
    return merge_heads(b, name, attend(b, f"{name}.attend", query, key, value))


def _widened(b: Builder, name: str, x: Tensor, y: Tensor, intermediate: int) -> Tensor:
    """Two layers of y with a Gelu between, beside the shortcut x."""
    y = gelu(b, f"{name}.gelu", project(b, f"{name}.fc1", y, intermediate, gain=2.0))
    return b.add(f"{name}.add2", x, project(b, f"{name}.fc2", y, x.shape[-1], gain=BRANCH_GAIN))


def whisper(
    b: Builder,
    layers: int = 4,
    hidden: int = 384,
    heads: int = 6,
    intermediate: int = 1536,
    frames: int = 3000,
    bands: int = 80,
) -> None:
    """Two convolutions over the frames of a spectrogram, of which the second halves them, and `layers` layers."""
    x = b.input("input_features", (bands, frames))
    x = _convolved(b, "conv1", x, hidden, 1)
    x = b.node("tokens", "Transpose", [_convolved(b, "conv2", x, hidden, 2)], perm=(0, 2, 1))
    x = b.add("positions", x, b.weight("positions.weight", x.shape, 1.0))
    for layer in range(layers):
        name = f"layers.{layer}"
        y = layer_norm(b, f"{name}.norm1", x)
        key = project(b, f"{name}.key", y, hidden, has_bias=False)
        query, value = (project(b, f"{name}.{word}", y, hidden) for word in ("query", "value"))
        query, key, value = (split_heads(b, each.name, each, heads) for each in (query, key, value))
        y = merge_heads(b, name, attend(b, f"{name}.attend", query, key, value))
        x = b.add(f"{name}.add1", x, project(b, f"{name}.out", y, hidden, gain=BRANCH_GAIN))
        x = _widened(b, name, x, layer_norm(b, f"{name}.norm2", x), intermediate)
    b.output("last_hidden_state", layer_norm(b, "norm", x))


def _convolved(b: Builder, name: str, x: Tensor, channels: int, stride: int) -> Tensor:
    """A convolution of three frames, and a Gelu."""
    weight = b.filters(f"{name}.weight", (channels, x.shape[0], 3), 2.0)
    window: dict[str, Any] = {"kernel_shape": (3,), "strides": (stride,), "pads": (1, 1)}
    y = b.node(name, "Conv", [x, weight, b.weight(f"{name}.bias", (channels,), 0.05)], **window)
    return gelu(b, f"{name}.gelu", y)


def lstm(b: Builder, layers: int = 2, hidden: int = 256, bands: int = 40, frames: int = 10, classes: int = 32) -> None:
    """Scores of every frame of a sound that comes in pieces: what is remembered of earlier ones goes in and out."""
    x = b.input("features", (b.symbol("frames", frames), bands))
    states = [b.input(name, (layers, hidden), batch_axis=1) for name in ("h0", "c0")]
    x = b.node("frames_first", "Transpose", [project(b, "front", x, hidden)], perm=(1, 0, 2))
    last: list[list[Tensor]] = []
    for layer in range(layers):
        x, *after = _lstm_layer(b, f"lstm.{layer}", x, states, layer)
        last.append(after)
    x = b.node("batch_first", "Transpose", [x], perm=(1, 0, 2))
    b.output("scores", project(b, "classifier", x, classes), ("frames", classes))
    for name, parts in zip(("hn", "cn"), zip(*last, strict=True), strict=True):
        b.output(name, b.node(f"{name}.concat", "Concat", parts, axis=0), (layers, hidden), batch_axis=1)


def _lstm_layer(b: Builder, name: str, x: Tensor, states: list[Tensor], layer: int) -> list[Tensor]:
    """What a layer says of every frame, and its states after the last; it begins with its own of `states`."""
    hidden = x.shape[-1]
    weights = [b.weight(f"{name}.{word}", (1, 4 * hidden, hidden), (3 / hidden) ** 0.5) for word in ("input", "state")]
    weights.append(b.weight(f"{name}.bias", (1, 8 * hidden), 0.1))
    start, end, axis = (b.constant(f"at.{place}", [place], "int64") for place in (layer, layer + 1, 0))
    own = [b.node(f"{name}.{state.name}", "Slice", [state, start, end, axis]) for state in states]
    y, *after = b.nodes(name, "LSTM", [x, *weights, "", *own], 3, hidden_size=hidden)
    return [b.node(f"{name}.squeeze", "Squeeze", [y, b.constant("axes.1", [1], "int64")], shape=(0, hidden)), *after]
