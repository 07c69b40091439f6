"""Recurrent layers, attention, and transforms of signals."""

from __future__ import annotations

import numpy as np

from ..draft import Draft
from .drawing import draws

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@draws("RNN", "GRU", "LSTM", weight=1.5)
def recurrent(d: Draft, op: str) -> list[str]:
    length, batch, size, hidden = d.between(1, 5), d.between(1, 3), d.between(1, 5), d.between(1, 4)
    direction = d.pick("forward", "reverse", "bidirectional")
    ways, gates = 1 + (direction == "bidirectional"), _GATES[op]
    inputs = [
        d.value((length, batch, size)),
        d.parameter(d.array((ways, gates * hidden, size)), 0.9),
        d.parameter(d.array((ways, gates * hidden, hidden)), 0.9),
    ]
    inputs.append(d.parameter(d.array((ways, 2 * gates * hidden))) if d.chance(0.5) else "")
    inputs.append(d.ints([d.between(1, length) for _ in range(batch)], "int32") if d.chance(0.3) else "")
    inputs.append(d.value((ways, batch, hidden)) if d.chance(0.4) else "")
    while not inputs[-1]:
        inputs.pop()
    there = d.pick([True], [True, True], [False, True], [True, True, True] if op == "LSTM" else [True, True])
    before = d.pick(None, 0, 1) if op == "GRU" else None
    return d.call(
        op,
        inputs,
        there,
        hidden_size=hidden,
        direction=direction,
        linear_before_reset=before,
        clip=d.pick(None, None, 1.0),
    )


@draws("Attention", weight=1.5)
def attention(d: Draft, op: str) -> list[str]:
    batch, heads, queries, keys, size = d.between(1, 2), d.pick(1, 2, 4), d.between(1, 5), d.between(1, 6), d.pick(2, 4)
    shared = heads // 2 if heads > 1 and d.chance(0.3) else heads
    flat = d.chance(0.4)
    shapes = ((batch, heads, queries, size), (batch, shared, keys, size), (batch, shared, keys, size))
    settings = dict(is_causal=d.pick(None, 0, 1), scale=d.pick(None, 0.3), softcap=d.pick(None, 2.0))
    if flat:
        shapes = tuple((a, c, b * e) for a, b, c, e in shapes)
        settings |= dict(q_num_heads=heads, kv_num_heads=shared)
    inputs = [d.value(shape) for shape in shapes]
    if d.chance(0.4):
        mask = d.pick((queries, keys), (batch, 1, queries, keys), (1, heads, queries, keys))
        inputs.append(d.value(mask, d.pick("float32", "bool")))
    return d.call(op, inputs, **settings)


@draws("RotaryEmbedding")
def rotary(d: Draft, op: str) -> list[str]:
    batch, heads, length, size = d.between(1, 2), d.between(1, 3), d.between(1, 5), d.pick(2, 4, 8)
    flat = d.chance(0.3)
    shape = (batch, length, heads * size) if flat else (batch, heads, length, size)
    by_position = d.chance(0.6)
    table = (length + 3, size // 2) if by_position else (batch, length, size // 2)
    inputs = [d.value(shape), d.parameter(d.array(table)), d.parameter(d.array(table))]
    if by_position:
        inputs.append(d.parameter(d.array((batch, length), "int64", 0, length), 0.3))
    return d.call(op, inputs, interleaved=d.pick(None, 0, 1), num_heads=heads if flat else None)


@draws("DFT", "STFT")
def transforms(d: Draft, op: str) -> list[str]:
    batch, length = d.between(1, 3), d.between(4, 12)
    if op == "STFT":
        frame, step = d.between(2, 4), d.between(1, 3)
        window = d.parameter(np.hanning(frame + 2)[1:-1].astype("float32"))
        shape = (batch, length, 1) if d.chance(0.5) else (batch, length)
        return d.call(
            op,
            [d.value(shape), d.parameter(np.int64(step)), window, d.parameter(np.int64(frame))],
            onesided=d.pick(0, 1),
        )
    shape = (batch, length, d.between(2, 5), 1) if d.chance(0.5) else (batch, length, d.pick(1, 2))
    axis = d.between(1, len(shape) - 2)
    settings = dict(axis=axis if d.opset < 20 else np.int64(axis), onesided=d.pick(None, 1), inverse=None)
    inputs = [d.value(shape)]
    if d.chance(0.3):
        inputs.append(d.parameter(np.int64(d.between(2, 14))))
    return d.call(op, inputs, **settings)


@draws("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix", weight=0.5)
def made(d: Draft, op: str) -> list[str]:
    if op != "MelWeightMatrix":
        return d.call(op, [d.parameter(np.int64(d.between(1, 12)), 0.5)], periodic=d.pick(None, 0, 1))
    values = (np.int64(4), np.int64(16), np.int64(8000), np.float32(100), np.float32(3000))
    return d.call(op, [d.parameter(value) for value in values])
