"""Prices of links: equal to a loop over routes on every topology; kinds as the exchange algebra has them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from flexpie_mpi.core.exchange import classify
from flexpie_mpi.cost.links import LinkPrices, Pairs, pair_rows
from flexpie_mpi.cost.rows import KINDS, TRANSFER
from flexpie_mpi.testbed import Device, Route, Testbed, measured, one_host, ring, star, switch

KIND_OF = {"broadcast": "scatter", "allgather": "full", "alltoall": "full"}
Make = Callable[[int, np.random.Generator], Testbed]


def devices(count: int) -> list[Device]:
    return [Device(f"d{rank}") for rank in range(count)]


def shaped(shape: Callable[..., Testbed]) -> Make:
    def make(count: int, rng: np.random.Generator) -> Testbed:
        return shape(devices(count), list(rng.uniform(1e6, 1e9, count)), list(rng.uniform(0, 1e-3, count)))

    return make


def from_pairs(count: int, rng: np.random.Generator) -> Testbed:
    return measured(devices(count), rng.uniform(0, 1e-3, (count,) * 2), rng.uniform(1e6, 1e9, (count,) * 2))


def tangled(count: int, rng: np.random.Generator) -> Testbed:
    """Routes over any resources whatever, some over none."""
    base = switch(devices(count), 1e8, 0.0)
    resources = tuple(base.resources)
    speeds = rng.uniform(1e6, 1e9, len(resources))
    resources = tuple(type(r)(r.name, speed) for r, speed in zip(resources, speeds, strict=True))
    routes = tuple(
        tuple(
            None
            if s == t
            else Route(rng.uniform(0, 1e-3), tuple(np.flatnonzero(rng.random(len(resources)) < 0.3).tolist()))
            for t in range(count)
        )
        for s in range(count)
    )
    return Testbed("tangled", base.devices, resources, routes, "measured")


TESTBEDS: dict[str, Make] = {
    "switch": shaped(switch),
    "ring": shaped(ring),
    "star": shaped(star),
    "measured": from_pairs,
    "host": lambda count, rng: one_host(count, 2),
    "tangled": tangled,
    "subset of a ring": lambda count, rng: shaped(ring)(count + 3, rng).subset(count),
}


def patterns(rng: np.random.Generator, ranks: int, count: int) -> np.ndarray:
    """Bytes (count, R, R) between none, some and all pairs, of few sizes or many."""
    density = rng.choice([0.0, 0.1, 0.4, 0.9, 1.0], (count, 1, 1))
    nbytes = np.where(rng.random((count, ranks, ranks)) < density, rng.integers(1, 4, (count, ranks, ranks)) * 1000, 0)
    rows = rng.random((count, ranks)) < rng.choice([0.3, 1.0], (count, 1))
    columns = rng.random((count, ranks)) < rng.choice([0.3, 1.0], (count, 1))
    return nbytes * rows[:, :, None] * columns[:, None, :] * (1 - np.eye(ranks, dtype=int))


def pairs(nbytes: np.ndarray) -> Pairs:
    """What travels, of bytes (count, S, T) without what a rank keeps."""
    return Pairs(np.moveaxis(nbytes, 0, -1).astype(float))


def looped(testbed: Testbed, nbytes: np.ndarray) -> tuple[float, float]:
    """Latency and wire seconds of one exchange, message by message."""
    sending, receiving = [0.0] * testbed.ranks, [0.0] * testbed.ranks
    through = [0.0] * len(testbed.resources)
    for source, row in enumerate(testbed.routes):
        for target, route in enumerate(row):
            if route is None or nbytes[source][target] == 0:
                continue
            sending[source] += route.latency_s
            receiving[target] += route.latency_s
            for number in route.resources:
                through[number] += nbytes[source][target]
    wire = max((n / r.bandwidth for n, r in zip(through, testbed.resources, strict=True)), default=0.0)
    return max(sending + receiving), wire


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("name", TESTBEDS)
def test_the_price_is_that_of_a_loop_over_routes(name, ranks):
    rng = np.random.default_rng(ranks)
    testbed = TESTBEDS[name](ranks, rng)
    nbytes = patterns(rng, ranks, 40)
    latency, wire = LinkPrices(testbed).terms(pairs(nbytes))
    expected = np.array([looped(testbed, exchange) for exchange in nbytes])
    np.testing.assert_allclose(latency, expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(wire, expected[:, 1], rtol=1e-12)


@pytest.mark.parametrize("name", TESTBEDS)
def test_ranks_that_send_or_receive_nothing_can_be_left_out(name):
    rng = np.random.default_rng(7)
    network, (sources, targets) = LinkPrices(TESTBEDS[name](6, rng)), (np.array([0, 2, 5]), np.array([1, 2, 3, 5]))
    nbytes = np.zeros((200, 6, 6))
    block = patterns(rng, 6, 200)[:, sources][:, :, targets]
    nbytes[:, sources[:, None], targets] = block
    rows, whole = (pair_rows(pairs(block), network.among(sources, targets)), pair_rows(pairs(nbytes), network))
    assert (rows["kind"] == whole["kind"]).all() and len(set(whole["kind"])) > 2
    for column in TRANSFER.names[1:]:
        np.testing.assert_allclose(rows[column], whole[column], rtol=1e-12)


def test_a_shared_port_takes_as_long_as_all_that_passes_it():
    """Three senders to one receiver at 1 MB/s: 3 s where one needs 1 s, and all three latencies."""
    nbytes = np.zeros((2, 4, 4))
    nbytes[0, 1:, 0] = 1e6
    nbytes[1, 1, 0] = 1e6
    latency, wire = LinkPrices(switch(devices(4), 1e6, 0.1)).terms(pairs(nbytes))
    np.testing.assert_allclose(wire, [3.0, 1.0])
    np.testing.assert_allclose(latency, [0.3, 0.1])


# Rows


def contents(nbytes: np.ndarray) -> dict[tuple[int, int], int]:
    return {(s, t): int(n) for (s, t), n in np.ndenumerate(nbytes) if n and s != t}


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5])
def test_rows_are_counted_as_by_hand_and_named_as_by_the_exchange_algebra(ranks):
    rng = np.random.default_rng(ranks)
    testbed = shaped(star)(ranks, rng)
    network = LinkPrices(testbed)
    nbytes = patterns(rng, ranks, 400)
    rows = pair_rows(pairs(nbytes), network)
    assert rows.dtype == TRANSFER and set(rows["kind"]) <= {kind.encode() for kind in KINDS}
    for row, exchange in zip(rows, nbytes, strict=True):
        messages = contents(exchange)
        sends = [[n for (s, _), n in messages.items() if s == rank] for rank in range(ranks)]
        receives = [[n for (_, t), n in messages.items() if t == rank] for rank in range(ranks)]
        kind = classify(messages)
        assert row["kind"].decode() == KIND_OF.get(kind, kind)
        assert row["ranks"] == len({rank for pair in messages for rank in pair})
        assert row["messages"] == max(map(len, sends + receives))
        assert row["port_bytes"] == max(map(sum, sends + receives))
        assert row["total_bytes"] == sum(messages.values())
        assert (row["latency_s"], row["wire_s"]) == pytest.approx(looped(testbed, exchange), rel=1e-12)


def test_every_kind_is_among_the_patterns_compared():
    found = {kind for ranks in (1, 2, 3, 4) for kind in _kinds(ranks)}
    assert found == {kind.encode() for kind in KINDS}


def _kinds(ranks: int) -> set[bytes]:
    network = LinkPrices(one_host(ranks, 2))
    return set(pair_rows(pairs(patterns(np.random.default_rng(ranks), ranks, 400)), network)["kind"])


@pytest.mark.parametrize("seed", range(4))
def test_equal_contents_are_an_allgather_also_where_some_ranks_only_receive(seed):
    """What each source sends is one content; sizes by source."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, 5) * (rng.random(5) < 0.6)
    sizes[:2] = 7
    nbytes = np.repeat(sizes[:, None], 5, axis=1) * (1 - np.eye(5, dtype=int))
    (row,) = pair_rows(pairs(nbytes[None]), LinkPrices(switch(devices(5), 1e8, 1e-5)))
    assert classify({pair: f"from {pair[0]}" for pair in contents(nbytes)}) == "allgather"
    assert row["kind"] == b"full"
