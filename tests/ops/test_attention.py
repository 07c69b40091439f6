"""Attention and rotary embeddings, ONNX's own and onnxruntime's: batch, heads and queries."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from flexpie_mpi.ops.base import OWN

from .harness import check_rule, session
from .numbers import weights
from .onenode import NEWEST, one_node

microsoft = partial(one_node, domain="com.microsoft")

BATCH, HEADS, GROUPS, QUERIES, KEYS, WIDTH, PAST = 2, 4, 2, 5, 7, 8, 3
OPSETS = [
    pytest.param(opset, marks=pytest.mark.skipif(opset > NEWEST, reason="onnxruntime does not take this opset"))
    for opset in (23, 24)
]


def data(heads, positions, *, flat, batch=BATCH, width=WIDTH):
    return (batch, positions, heads * width) if flat else (batch, heads, positions, width)


def counts(flat, heads=HEADS, groups=GROUPS):
    return {"q_num_heads": heads, "kv_num_heads": groups} if flat else {}


def axes(flat, *, queries=True):
    """Axes of the result that may be cut."""
    return {0, 1, 2} if queries else ({0, 2} if flat else {0, 1})


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("mask", [None, (QUERIES, KEYS), (HEADS, QUERIES, KEYS), (BATCH, 1, QUERIES, KEYS)])
def test_keys_of_others(opset, flat, groups, mask):
    keys = data(groups, KEYS, flat=flat)
    operands = [data(HEADS, QUERIES, flat=flat), keys, keys, *([] if mask is None else [mask])]
    check_rule(one_node("Attention", operands, opset=opset, **counts(flat, groups=groups)), cut=(axes(flat),))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("flat", [True, False])
def test_other_width_of_values_and_truth_as_mask(opset, flat):
    operands = [data(HEADS, QUERIES, flat=flat), data(GROUPS, KEYS, flat=flat), data(GROUPS, KEYS, flat=flat, width=6)]
    operands.append(((QUERIES, KEYS), "bool"))
    check_rule(one_node("Attention", operands, opset=opset, softcap=2.0, **counts(flat)), cut=(axes(flat),))


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("past", [0, PAST])
@pytest.mark.parametrize("mask", [False, True])
def test_causal(opset, flat, past, mask):
    """Queries cut off at the front are made up for by a longer past."""
    keys = data(GROUPS, QUERIES, flat=flat)
    operands = [data(HEADS, QUERIES, flat=flat), keys, keys]
    if past or mask:
        operands.append((BATCH, 1, QUERIES, past + QUERIES) if mask else None)
    if past:
        operands += [data(GROUPS, past, flat=False)] * 2
    proto = one_node("Attention", operands, opset=opset, outputs=3 if past else 1, is_causal=1, **counts(flat))
    check_rule(proto, cut=(axes(flat), {0, 1}, {0, 1})[: 3 if past else 1], trials=25)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("causal", [0, 1])
def test_products_are_an_output_too(opset, mode, causal):
    present = (True, True, True, True)
    keys = data(GROUPS, QUERIES, flat=True)
    past = data(GROUPS, PAST, flat=False)
    operands = [data(HEADS, QUERIES, flat=True), keys, keys, None, past, past]
    proto = one_node(
        "Attention",
        operands,
        opset=opset,
        outputs=present,
        is_causal=causal,
        qk_matmul_output_mode=mode,
        **counts(True),
    )
    rows = set() if causal else {1}
    check_rule(proto, cut=({0, 2} | rows, {0, 1}, {0, 1}, {0, 1} | (rows and {2})), trials=20)


def test_causal_queries_of_other_keys_stay_together():
    keys = data(GROUPS, KEYS, flat=True)
    proto = one_node("Attention", [data(HEADS, QUERIES, flat=True), keys, keys], opset=23, is_causal=1, **counts(True))
    check_rule(proto, cut=({0, 2},))


@pytest.mark.skipif(NEWEST < 24, reason="onnxruntime does not take opset 24")
@pytest.mark.parametrize("causal", [0, 1])
def test_padded_keys(causal, rng):
    keys = data(GROUPS, KEYS, flat=False)
    operands = [data(HEADS, QUERIES, flat=False), keys, keys, None, None, None, ((BATCH,), "int64")]
    proto = one_node("Attention", operands, opset=24, is_causal=causal)
    feeds = {f"x{number}": rng.standard_normal(shape).astype(np.float32) for number, shape in enumerate(operands[:3])}
    feeds["x6"] = np.array([6, 7], np.int64)
    check_rule(proto, feeds=feeds, cut=(axes(False, queries=not causal),))


# onnxruntime's


HIDDEN = HEADS * WIDTH


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mask", [None, (BATCH,), (BATCH, KEYS), (BATCH, QUERIES, KEYS)])
@pytest.mark.parametrize("added", [None, (1, HEADS, QUERIES, KEYS), (BATCH, 1, QUERIES, KEYS)])
def test_multi_head(bias, mask, added, rng):
    operands = [(BATCH, QUERIES, HIDDEN), (BATCH, KEYS, HIDDEN), (BATCH, KEYS, HIDDEN)]
    operands += [weights(3 * HIDDEN) if bias else None, mask and (mask, "int32"), added]
    while operands[-1] is None:
        operands.pop()
    proto = microsoft("MultiHeadAttention", operands, num_heads=HEADS)
    feeds = some(proto, rng, x4=None if mask is None else rng.integers(1, KEYS, mask) if len(mask) == 1 else None)
    check_rule(proto, feeds=feeds, cut=({0, 1, 2},), trials=20)


def some(proto, rng, **given):
    """Random inputs; integers that are not given are zero or one."""
    feeds = {}
    for item in proto.graph.input:
        tensor = item.type.tensor_type
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
        if tensor.elem_type == 1:
            feeds[item.name] = rng.standard_normal(shape).astype(np.float32)
        else:
            found = given.get(item.name)
            kind = np.int64 if tensor.elem_type == 7 else np.int32
            feeds[item.name] = np.asarray(rng.integers(0, 2, shape) if found is None else found, kind)
    return feeds


@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("mask", [False, True])
def test_multi_head_causal(past, bias, mask, rng):
    own, before = (BATCH, QUERIES, HIDDEN), (BATCH, HEADS, PAST, WIDTH)
    total = QUERIES + PAST * past
    operands = [own, own, own, weights(3 * HIDDEN) if bias else None, ((BATCH, total), "int32") if mask else None]
    operands += [None, *([before, before] if past else [])]
    while operands[-1] is None:
        operands.pop()
    proto = microsoft("MultiHeadAttention", operands, outputs=3 if past else 1, num_heads=HEADS, unidirectional=1)
    first = {0, 2} if bias else {0, 1, 2}
    check_rule(proto, feeds=some(proto, rng), cut=(first, {0, 1}, {0, 1})[: 3 if past else 1], trials=25)


def test_multi_head_over_a_past_given_as_keys():
    keys = (BATCH, HEADS, KEYS, WIDTH)
    check_rule(
        microsoft("MultiHeadAttention", [(BATCH, QUERIES, HIDDEN), keys, keys], num_heads=HEADS), cut=({0, 1, 2},)
    )


@pytest.mark.parametrize(
    "operands", [[(BATCH, QUERIES, HEADS, 3, WIDTH)], [(BATCH, QUERIES, HIDDEN), (BATCH, KEYS, HEADS, 2, WIDTH)]]
)
def test_multi_head_packed(operands):
    cut = {0, 2} if len(operands) == 1 else {0, 1, 2}
    try:
        check_rule(microsoft("MultiHeadAttention", operands, num_heads=HEADS), cut=(cut,))
    except Exception as error:  # onnxruntime's classes share no base
        if "not implemented for CPU" not in str(error):
            raise
        pytest.skip(f"onnxruntime: {error}")


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("rotary", [0, 1])
@pytest.mark.parametrize("past", [True, False])
def test_grouped_queries(groups, packed, rotary, past, rng):
    width, queries = 16, 1 if past else QUERIES
    total = queries + (PAST if past else 0)
    own = (BATCH, queries, groups * width)
    columns = (HEADS + 2 * groups * packed) * width
    operands = [(BATCH, queries, columns), None if packed else own, None if packed else own]
    operands += [(BATCH, groups, PAST, width)] * 2 if past else [None, None]
    operands += [((BATCH,), "int32"), np.array(total, np.int32)]
    operands += [weights(20, width // 2), weights(20, width // 2, seed=1)] if rotary else []
    proto = microsoft(
        "GroupQueryAttention", operands, outputs=3, num_heads=HEADS, kv_num_heads=groups, do_rotary=rotary
    )
    feeds = some(proto, rng, x5=[total - 1] * BATCH)
    check_rule(proto, feeds=feeds, cut=({0, 2}, {0, 1}, {0, 1}), trials=25)


def test_grouped_queries_with_positions_keep_the_batch(rng):
    """Of a first prompt the positions are those of the first item, which not every rank would have."""
    operands = [(BATCH, QUERIES, HEADS * 16), *[(BATCH, QUERIES, GROUPS * 16)] * 2, None, None, ((BATCH,), "int32")]
    operands += [np.array(QUERIES, np.int32), weights(20, 8), weights(20, 8, seed=1), ((BATCH, QUERIES), "int64")]
    proto = microsoft("GroupQueryAttention", operands, num_heads=HEADS, kv_num_heads=GROUPS, do_rotary=1)
    feeds = some(proto, rng, x5=[QUERIES - 1] * BATCH, x9=[[*range(QUERIES)], [*range(3, 3 + QUERIES)]])
    check_rule(proto, feeds=feeds, cut=({2},), trials=15)


def check_projected(operands, rng, cut, given=None, **attributes):
    """Check the operator that has three matrices and three biases beside onnxruntime's, which has one of each."""
    data, matrix, bias, *rest = operands
    count = 2 if len(rest) > 1 else 1
    merged = microsoft("Attention", operands, outputs=count, num_heads=HEADS, **attributes)
    ends = np.cumsum(attributes.get("qkv_hidden_sizes", [HIDDEN] * 3))[:2]
    apart = [data, *np.split(matrix, ends, axis=1), *np.split(bias, ends), *rest]
    proto = one_node("Attention", apart, outputs=count, domain=OWN, num_heads=HEADS, **attributes)
    feeds = some(merged, rng, x3=given)
    results = session(merged).run(None, feeds)
    feeds = {name if name == "x0" else f"x{int(name[1:]) + 4}": array for name, array in feeds.items()}
    expected = {f"y{number}": result for number, result in enumerate(results)}
    check_rule(proto, cut=cut, feeds=feeds, expected=expected, trials=15, atol=1e-4)


@pytest.mark.parametrize("mask", [None, (BATCH,), (2 * BATCH,), (BATCH, QUERIES), (BATCH, QUERIES, QUERIES)])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("sizes", [None, [HIDDEN, HIDDEN, HEADS * 4]])
def test_projected(mask, causal, sizes, rng):
    columns = sum(sizes) if sizes else 3 * HIDDEN
    operands = [(BATCH, QUERIES, 12), weights(12, columns), weights(columns, seed=1)]
    operands += [] if mask is None else [(mask, "int32")]
    extra = {"qkv_hidden_sizes": sizes} if sizes else {}
    given = {(BATCH,): [4, 3], (2 * BATCH,): [5, 4, 0, 1]}.get(mask)
    check_projected(operands, rng, ({2} if mask == (2 * BATCH,) else {0, 2},), given, unidirectional=causal, **extra)


def test_projected_with_a_past(rng):
    past = (2, BATCH, HEADS, PAST, WIDTH)
    operands = [(BATCH, QUERIES, 12), weights(12, 3 * HIDDEN), weights(3 * HIDDEN, seed=1), None, past]
    check_projected(operands, rng, ({0, 2}, {1, 2}), unidirectional=1)


# Rotary embeddings


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("places", [True, False])
@pytest.mark.parametrize("part", [0, 4])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary(flat, places, part, interleaved, rng):
    half = (part or WIDTH) // 2
    table = (20, half) if places else (BATCH, QUERIES, half)
    operands = [data(HEADS, QUERIES, flat=flat), weights(*table), weights(*table, seed=1)]
    operands += [((BATCH, QUERIES), "int64")] if places else []
    heads = {"num_heads": HEADS} if flat else {}
    proto = one_node("RotaryEmbedding", operands, opset=23, rotary_embedding_dim=part, interleaved=interleaved, **heads)
    feeds = some(proto, rng, x3=rng.integers(0, 20, (BATCH, QUERIES)))
    check_rule(proto, feeds=feeds, cut=({0, 1, 2},), trials=15)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("places", [True, False])
@pytest.mark.parametrize("part", [0, 4])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_of_onnxruntime(flat, places, part, interleaved, rng):
    half = (part or WIDTH) // 2
    operands = [data(HEADS, QUERIES, flat=flat), ((BATCH, QUERIES) if places else (1,), "int64")]
    operands += [weights(20, half), weights(20, half, seed=1)]
    heads = {"num_heads": HEADS, "rotary_embedding_dim": part} if part else {}
    proto = microsoft("RotaryEmbedding", operands, interleaved=interleaved, **heads)
    given = rng.integers(0, 20, (BATCH, QUERIES)) if places else [4]
    check_rule(proto, feeds=some(proto, rng, x1=given), cut=({0, 1, 2},), trials=15)
