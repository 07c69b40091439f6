"""Analytic prices: the formulas, and constants that come back out of times made with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flexpie_mpi import load
from flexpie_mpi.cost.calibrate import calibrated, positive_constants, weighted_median
from flexpie_mpi.cost.groups import describe
from flexpie_mpi.cost.prior import CACHE_BYTES, AnalyticCost, family, kernel_s
from flexpie_mpi.cost.rows import CALL_TRACE, COMPUTE_TRACE, EXCHANGE_TRACE, KINDS
from flexpie_mpi.cost.samples import samples
from flexpie_mpi.cost.traces import Origin
from tests.cost import laws

ORIGIN = (Origin("job", 0),)


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def test_depthwise_convolutions_of_part_blocks_are_another_kind():
    graph = load("builtin:mobilenet_v2").graph
    node = next(node for node in graph.bound if node.op == "Conv" and node.attribute("group", 1) > 1)
    out = np.array([[1, channels, 8, 8] for channels in (32, 16, 24, 8)])
    rows = describe(node, out, [out, *[None] * (len(node.inputs) - 1)])
    assert rows["op"].tolist() == [b"Conv/depthwise"] * 2 + [b"Conv/depthwise/partial"] * 2
    assert family("Conv/depthwise/partial") == "Conv"


def test_words_that_are_looked_up_cost_no_more_in_a_large_table():
    """Whether a rank has all of the table, or a share of its words."""
    graph = load("builtin:tiny_gpt2").graph
    node = next(node for node in graph.bound if node.op == "Gather" and node.inputs[0].is_constant)
    table, indices, out = (np.array([value.shape], float) for value in (*node.inputs, node.outputs[0]))
    whole, share = (describe(node, out, [held, indices])[0] for held in (table, table / [2, 1]))
    assert whole["weight_bytes"] == share["weight_bytes"] == whole["out_bytes"] < table.prod() * 4
    assert whole["in_bytes"] == indices.prod() * node.inputs[1].itemsize


def test_without_traces_prices_are_those_of_an_ordinary_core(rng):
    cost = AnalyticCost()
    row = laws.work(1, rng)
    row["op"], row["flops"], row["followers"], row["sums"] = b"Conv", 2e9, 0, 0
    assert 0.09 < cost.compute_s(row, np.ones(1))[0] < 0.12
    assert cost.compute_s(row, np.full(1, 2.0))[0] == pytest.approx(2 * cost.compute_s(row, np.ones(1))[0])
    assert (cost.call_s(laws.calls(50, rng), np.ones(50)) > 0).all()
    moved = laws.transfers(50, rng)
    assert (cost.exchange_s(moved) > moved["latency_s"] + moved["wire_s"]).all()
    assert cost.outside(row).all() and cost.models == () and cost.devices == ()


def test_more_of_anything_never_takes_less(rng):
    cost, rows = AnalyticCost(), laws.work(200, rng)
    before = cost.compute_s(rows, np.ones(200))
    for name in ("flops", "in_bytes", "weight_bytes", "out_bytes", "followers", "sums"):
        more = rows.copy()
        more[name] = 2 * more[name] + 1
        assert (cost.compute_s(more, np.ones(200)) >= before).all(), name


def test_unknown_operators_and_kinds_have_a_price(rng):
    cost, rows = AnalyticCost(), laws.work(4, rng)
    rows["op"] = [b"Conv/dilated", b"Gemm", b"Hardmax", b"QLinearConv"]
    alike = rows.copy()
    alike["op"] = [b"Conv", b"MatMul", b"Relu", b"Conv"]
    np.testing.assert_array_equal(cost.compute_s(rows, np.ones(4)), cost.compute_s(alike, np.ones(4)))
    moved = laws.transfers(2, rng)
    moved["kind"] = b"full"
    odd = moved.copy()
    odd["kind"] = b"odd"
    np.testing.assert_array_equal(cost.exchange_s(moved), cost.exchange_s(odd))
    assert len(cost.compute_s(rows[:0], np.ones(0))) == 0 == len(cost.exchange_s(moved[:0]))


def test_the_constants_of_a_formula_come_back_with_a_tenth_of_the_rows_spoilt(rng):
    true = AnalyticCost(
        kernels={
            "any": (4e-6, 3e9, 5e9, 6e9, 7e9, 4e9, 0.3),
            "Conv": (9e-6, 90e9, 12e9, 6e9, 15e9, 9e9, 1.5),
            "MatMul": (2e-6, 40e9, 15e9, 6e9, 15e9, 9e9, 1.0),
        },
        call=(30e-6, 3e-6, 4e-6, 6e9, 2e9),
        exchange=(1e-6, 25e-6, 30e-6, 35e-6, 50e-6, 5e-6, 9e9, 4e9, 3e-8),
        crowding=1.2,
    )
    done, called, moved = laws.work(1500, rng), laws.calls(400, rng), laws.transfers(600, rng)
    active = rng.choice([1.0, 2.0], 1500)
    tables = {
        "compute": laws.traced(COMPUTE_TRACE, done, true.compute_s(done, active), active),
        "call": laws.traced(CALL_TRACE, called, true.call_s(called, np.ones(400))),
        "exchange": laws.traced(EXCHANGE_TRACE, moved, true.exchange_s(moved)),
    }
    for rows in tables.values():
        rows["seconds"][::10] *= 7
    found, factors = calibrated({name: samples(name, rows, ORIGIN) for name, rows in tables.items()}, 1)
    assert factors.tolist() == [1.0] and found.crowding == pytest.approx(1.2, abs=0.05)
    fresh, one = laws.work(300, rng), np.ones(300)
    pairs = (
        (found.compute_s(fresh, one + 1), true.compute_s(fresh, one + 1)),
        (found.call_s(called, np.ones(400)), true.call_s(called, np.ones(400))),
        (found.exchange_s(moved), true.exchange_s(moved)),
    )
    for predicted, expected in pairs:
        assert np.percentile(np.abs(predicted / expected - 1), 90) < 0.05


def test_a_constant_that_nothing_tells_about_stays_where_it_was():
    found = positive_constants(lambda c: c[0] + 0 * c[1], np.array([1.0, 3.0]), np.full(5, 2.0), np.ones(5))
    assert found == pytest.approx([2.0, 3.0], rel=0.05)


def test_a_link_s_own_price_stays_beside_what_software_adds(rng):
    """Constants learned over one link hold over another: only the link's price changes."""
    moved = laws.transfers(300, rng)
    found, _ = calibrated(
        {
            "compute": samples("compute", np.zeros(0, COMPUTE_TRACE), ORIGIN),
            "call": samples("call", np.zeros(0, CALL_TRACE), ORIGIN),
            "exchange": samples("exchange", laws.traced(EXCHANGE_TRACE, moved, laws.transfers_s(moved)), ORIGIN),
        },
        1,
    )
    slow = moved.copy()
    slow["wire_s"] += 0.5
    np.testing.assert_allclose(found.exchange_s(slow) - found.exchange_s(moved), 0.5)
    assert replace(found, exchange=AnalyticCost().exchange) == AnalyticCost()


def test_families_know_every_label_of_a_convolution():
    assert {family(op) for op in ("Conv", "Conv/1x1", "Conv/group", "ConvTranspose", "ConvInteger")} == {"Conv"}
    assert len(AnalyticCost().exchange) == len(KINDS) + 4


def test_a_kernel_streams_its_weights_and_takes_the_longer_of_computing_and_moving(rng):
    row, constants = laws.work(1, rng), np.array([1.0, 1e6, 1e6, 1.0, 5e5, 5e5, 1.0])
    row["flops"], row["in_bytes"], row["weight_bytes"], row["out_bytes"], row["followers"] = 1e6, 6e5, 1e6, 2e5, 0
    row["out_channels"] = 32
    assert kernel_s(constants, row) == pytest.approx(1 + 2 + 1.0)
    row["sums"], row["flops"] = 1, 9e5
    assert kernel_s(constants, row) == pytest.approx(1 + 2 + 1.0)
    row["flops"] = 1e7
    assert kernel_s(constants, row) == pytest.approx(1 + 2 + 10)
    row["flops"], row["in_bytes"] = 0, 2 * CACHE_BYTES
    moved = 2 * CACHE_BYTES + 4e5
    assert kernel_s(constants, row) == pytest.approx(1 + 2 + moved / 1e6 + (moved - CACHE_BYTES) / 5e5)


def test_channels_that_fill_no_block_cost_what_the_padding_says(rng):
    row, constants = laws.work(1, rng), np.array([1e-9, 1e6, 1e12, 1e12, 1e12, 1e12, 0.5])
    row["flops"], row["out_channels"] = 1e6, 24
    whole_s = kernel_s(constants * np.array([1, 1, 1, 1, 1, 1, 0]), row)
    assert kernel_s(constants, row) == pytest.approx(whole_s + 0.5 * 8 / 24, rel=1e-3)


def test_an_operator_that_raises_to_powers_is_dear_though_nobody_measured_it(rng):
    rows = laws.work(2, rng)[[0, 0]]
    rows["op"] = [b"LRN", b"Relu"]
    rows["flops"] = 1e7
    lrn_s, relu_s = AnalyticCost().compute_s(rows, np.ones(2))
    assert lrn_s > 10 * relu_s


def test_the_weighted_median_splits_the_weight():
    assert weighted_median(np.array([1.0, 2.0, 3.0]), np.ones(3)) == 2.0
    assert weighted_median(np.array([4.0, 1.0]), np.array([0.1, 5.0])) == 1.0
