"""Networks that say which token comes next, with keys and values of earlier ones going in and out.

Inputs and outputs have the names of Hugging Face's exports: ``past_key_values.0.key`` goes in, (batch, heads, past
tokens, items), and ``present.0.key`` comes out, longer by the tokens of the request.

- GPT-2: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
- Llama: Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023; its grouped queries: Ainslie et
  al., "GQA", 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import sqrt

import numpy as np
from onnx import TensorProto

from .builder import Builder, Tensor
from .transformer import (
    attend,
    layer_norm,
    merge_heads,
    project,
    project_packed,
    rms_norm,
    shape_of,
    size_of,
    split_heads,
    tanh_gelu,
    unsqueezed,
    view,
)

BRANCH_GAIN = 0.3
"""Gain of the last projection of a branch: the sum of all hides the token that came in, which would come out again."""
TOKEN_SPREAD = 0.25
"""Of embeddings: small beside what the branches add."""
LEAST = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True)
class Sequence:
    """What a decoder is given: tokens, their positions, what each may look at, keys and values of earlier ones."""

    ids: Tensor
    positions: Tensor
    mask: Tensor  # what is added to scores, (1, tokens, earlier and these)
    past: tuple[tuple[Tensor, Tensor], ...]  # key and value, by layer


def _sequence(b: Builder, layers: int, heads: int, items: int) -> Sequence:
    """The inputs of a decoder; where nobody says another, 64 tokens and none before them."""
    tokens, earlier = b.symbol("sequence_length", 64), b.symbol("past_sequence_length", 0)
    ids = b.input("input_ids", (tokens,), TensorProto.INT64)
    mask = b.input("attention_mask", (f"{earlier} + {tokens}",), TensorProto.INT64)
    positions = b.input("position_ids", (tokens,), TensorProto.INT64)

    def state(layer: int, word: str) -> Tensor:
        return b.input(f"past_key_values.{layer}.{word}", (heads, earlier, items))

    past = [(state(layer, "key"), state(layer, "value")) for layer in range(layers)]
    return Sequence(ids, positions, _mask(b, ids, past[0][0], mask), tuple(past))


def _mask(b: Builder, ids: Tensor, past: Tensor, mask: Tensor) -> Tensor:
    """0 where a token may look, which is at itself and earlier ones that are no padding, and the least number else."""
    scalar = b.constant("axes.0", [0], "int64")
    tokens = b.node("mask.tokens", "Squeeze", [size_of(b, "mask.tokens.size", ids, 1), scalar])
    earlier = b.node("mask.earlier", "Squeeze", [size_of(b, "mask.earlier.size", past, 2), scalar])
    total = b.add("mask.total", earlier, tokens)
    zero, one = b.constant("zero", 0, "int64"), b.constant("step", 1, "int64")
    own = unsqueezed(b, "mask.own", b.node("mask.queries", "Range", [earlier, total, one]), 1)
    others = unsqueezed(b, "mask.others", b.node("mask.keys", "Range", [zero, total, one]), 0)
    causal = unsqueezed(b, "mask.causal", b.node("mask.before", "LessOrEqual", [others, own]), 0, 1)
    real = unsqueezed(b, "mask.real", b.node("mask.cast", "Cast", [mask], to=TensorProto.BOOL), 1, 2)
    seen = b.node("mask.seen", "And", [causal, real])
    bounds = [b.constant("nothing", 0.0, "float32"), b.constant("least", LEAST, "float32")]
    return b.node("mask", "Where", [seen, *bounds], shape=(1, 0, 0))


def _cached(b: Builder, layer: int, past: tuple[Tensor, Tensor], new: Iterable[Tensor]) -> list[Tensor]:
    """Keys and values of earlier tokens and of these."""
    pairs = zip(("key", "value"), past, new, strict=True)
    return [b.node(f"layer.{layer}.{word}.concat", "Concat", [before, now], axis=2) for word, before, now in pairs]


def _outputs(b: Builder, logits: Tensor, caches: Iterable[list[Tensor]]) -> None:
    """What a decoder gives: a number for every word at every token, and what goes in again with the next ones."""
    b.output("logits", logits, ("sequence_length", logits.shape[-1]))
    for layer, cached in enumerate(caches):
        for word, y in zip(("key", "value"), cached, strict=True):
            shape = (y.shape[0], "past_sequence_length + sequence_length", y.shape[-1])
            b.output(f"present.{layer}.{word}", y, shape)


def gpt2(
    b: Builder, layers: int = 12, hidden: int = 768, heads: int = 12, vocabulary: int = 50257, positions: int = 1024
) -> None:
    """GPT-2 small: learnt positions, one product for queries, keys and values, words out by the table of words in."""
    given = _sequence(b, layers, heads, hidden // heads)
    words = b.weight("wte.weight", (vocabulary, hidden), TOKEN_SPREAD)
    places = b.weight("wpe.weight", (positions, hidden), TOKEN_SPREAD)
    x = b.node("wte", "Gather", [words, given.ids])
    x = b.add("embeddings", x, b.node("wpe", "Gather", [places, given.positions]))
    sizes = b.constant("qkv.sizes", [hidden] * 3, "int64")
    caches: list[list[Tensor]] = []
    for layer, past in enumerate(given.past):
        name = f"h.{layer}"
        y = _conv1d(b, f"{name}.attn.c_attn", layer_norm(b, f"{name}.ln_1", x), 3 * hidden)
        parts = b.nodes(f"{name}.attn.split", "Split", [y, sizes], 3, axis=2)
        query, *new = (split_heads(b, part.name, part, heads) for part in parts)
        key, value = cached = _cached(b, layer, past, new)
        caches.append(cached)
        y = attend(b, f"{name}.attn", query, key, value, given.mask)
        y = merge_heads(b, f"{name}.attn", y)
        x = b.add(f"{name}.add1", x, _conv1d(b, f"{name}.attn.c_proj", y, hidden, BRANCH_GAIN))
        y = _conv1d(b, f"{name}.mlp.c_fc", layer_norm(b, f"{name}.ln_2", x), 4 * hidden, 2.0)
        y = _conv1d(b, f"{name}.mlp.c_proj", tanh_gelu(b, f"{name}.mlp.act", y), hidden, BRANCH_GAIN)
        x = b.add(f"{name}.add2", x, y)
    turned = b.node("lm_head.weight", "Transpose", [words], perm=(1, 0))
    logits = b.node("lm_head", "MatMul", [layer_norm(b, "ln_f", x), turned], shape=(0, vocabulary))
    _outputs(b, logits, caches)


def _conv1d(b: Builder, name: str, x: Tensor, features: int, gain: float = 1.0) -> Tensor:
    """What GPT-2 calls so: a product of rows, all tokens of all requests below each other."""
    size = x.shape[-1]
    rows = b.reshape(f"{name}.rows", x, [-1, size])
    weight = b.weight(f"{name}.weight", (size, features), sqrt(3 * gain / size))
    y = b.node(f"{name}.gemm", "Gemm", [rows, weight, b.weight(f"{name}.bias", (features,), 0.1)])
    return view(b, name, y, (features,), like=x)


def llama(
    b: Builder,
    layers: int = 12,
    hidden: int = 768,
    heads: int = 12,
    key_heads: int = 4,
    intermediate: int = 2048,
    vocabulary: int = 32000,
    *,
    is_packed: bool = False,
) -> None:
    """Llama's layers: root mean squares, rotated positions, keys for several heads, gated feed-forward layers."""
    items = hidden // heads
    given = _sequence(b, layers, key_heads, items)
    linear: Callable[..., Tensor] = partial(project_packed, b) if is_packed else partial(project, b, has_bias=False)
    x = b.node("embed_tokens", "Gather", [b.weight("embed_tokens.weight", (vocabulary, hidden), 1.0), given.ids])
    angles = _angles(b, given.positions, items)
    caches: list[list[Tensor]] = []
    for layer, past in enumerate(given.past):
        name = f"layers.{layer}"
        y = rms_norm(b, f"{name}.input_layernorm", x)
        query, key, value = (
            split_heads(b, f"{name}.{word}", linear(f"{name}.{word}_proj", y, count * items), count)
            for word, count in (("q", heads), ("k", key_heads), ("v", key_heads))
        )
        query, key = (_rotated(b, f"{each.name}.rotary", each, angles) for each in (query, key))
        caches.append(_cached(b, layer, past, (key, value)))
        key, value = (_repeated(b, f"{name}.{each.name}.repeat", each, heads // key_heads) for each in caches[-1])
        y = merge_heads(b, name, attend(b, f"{name}.attend", query, key, value, given.mask))
        x = b.add(f"{name}.add1", x, linear(f"{name}.o_proj", y, hidden, gain=BRANCH_GAIN))
        y = rms_norm(b, f"{name}.post_attention_layernorm", x)
        gate = b.act(f"{name}.act", linear(f"{name}.gate_proj", y, intermediate), "swish")
        y = b.node(f"{name}.gated", "Mul", [gate, linear(f"{name}.up_proj", y, intermediate)])
        x = b.add(f"{name}.add2", x, linear(f"{name}.down_proj", y, hidden, gain=BRANCH_GAIN * 4))
    _outputs(b, linear("lm_head", rms_norm(b, "norm", x), vocabulary), caches)


def _angles(b: Builder, positions: Tensor, items: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines by which pairs of items are rotated at every position, (1, tokens, items)."""
    pace = 10000.0 ** (-np.arange(0, items, 2, dtype=np.float64) / items)
    paces = b.constant("rotary.inv_freq", pace.reshape(1, -1, 1), "float32")
    shape = shape_of(b, "rotary.shape", size_of(b, "rotary.batch", positions, 0), items // 2, 1)
    expanded = b.node("rotary.expand", "Expand", [paces, shape], shape=(items // 2, 1))
    places = b.node("rotary.cast", "Cast", [unsqueezed(b, "rotary.positions", positions, 1)], to=TensorProto.FLOAT)
    y = b.node("rotary.transpose", "Transpose", [b.node("rotary.matmul", "MatMul", [expanded, places])], perm=(0, 2, 1))
    both = b.node("rotary.concat", "Concat", [y, y], axis=2, shape=(0, items))
    cos, sin = (b.node(f"rotary.{op.lower()}", op, [both]) for op in ("Cos", "Sin"))
    return unsqueezed(b, "rotary.cos.heads", cos, 1), unsqueezed(b, "rotary.sin.heads", sin, 1)


def _rotated(b: Builder, name: str, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Each pair of an item and the one half of all further, rotated (Su et al. 2021)."""

    def cut(word: str, start: int, end: int) -> Tensor:
        bounds = [b.constant(f"at.{place}", [place], "int64") for place in (start, end, 3)]
        return b.node(f"{name}.{word}", "Slice", [x, *bounds])

    half = x.shape[-1] // 2
    first, second = cut("first", 0, half), b.node(f"{name}.neg", "Neg", [cut("second", half, np.iinfo(np.int64).max)])
    turned = b.node(f"{name}.turned", "Concat", [second, first], axis=3)
    sides = [b.node(f"{name}.mul{at}", "Mul", [y, angles[at]]) for at, y in enumerate((x, turned))]
    return b.add(name, *sides)


def _repeated(b: Builder, name: str, x: Tensor, times: int) -> Tensor:
    """Keys or values for `times` heads each."""
    if times == 1:
        return x
    heads, items = x.shape[0], x.shape[-1]
    batch, tokens = size_of(b, f"{name}.batch", x, 0), size_of(b, f"{name}.tokens", x, 2)
    y = unsqueezed(b, f"{name}.unsqueeze", x, 2)
    shape = shape_of(b, f"{name}.expand.shape", batch, heads, times, tokens, items)
    y = b.node(f"{name}.expand", "Expand", [y, shape], shape=(heads, times, 0, items))
    shape = shape_of(b, f"{name}.shape", batch, heads * times, tokens, items)
    return b.node(name, "Reshape", [y, shape], shape=(heads * times, 0, items))
