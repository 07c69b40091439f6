"""Which links are measured, what a row of one says, and one clock for all ranks."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from flexpie_mpi.cost.rows import LINK_TRACE
from flexpie_mpi.measure import agreement
from flexpie_mpi.measure.agreement import Budget
from flexpie_mpi.measure.cluster import (
    MOST_RANKS,
    SIZES,
    collect_links,
    contended,
    measure_round,
    rounds,
    sampled_pairs,
)
from flexpie_mpi.runtime.loopback import alone, run_ranks


@pytest.mark.parametrize("ranks", [2, 3, 7, MOST_RANKS, MOST_RANKS + 1, 40, 200])
def test_the_sample_has_every_rank_and_no_pair_twice(ranks):
    pairs = sampled_pairs(ranks)
    assert len(set(pairs)) == len(pairs) and all(0 <= source < target < ranks for source, target in pairs)
    assert {rank for pair in pairs for rank in pair} == set(range(ranks)) and pairs == sampled_pairs(ranks)
    everything = ranks * (ranks - 1) // 2
    most = MOST_RANKS * (MOST_RANKS - 1) // 2
    assert len(pairs) == (everything if ranks <= MOST_RANKS else max(most, ranks))


def test_another_seed_draws_another_sample():
    assert sampled_pairs(40, seed=1) != sampled_pairs(40, seed=2)


@pytest.mark.parametrize("ranks", range(1, 20))
def test_pairs_at_once_meet_at_one_port_or_nowhere(ranks):
    groups = contended(ranks)
    assert len(set(groups)) == len(groups) and bool(groups) == (ranks > 2)
    for group in groups:
        ends = [rank for pair in group for rank in pair]
        assert len(group) > 1 and max(ends) < ranks and len(set(group)) == len(group)
        shared = {rank for rank in ends if ends.count(rank) > 1}
        assert shared <= {0} and (not shared or all(source == 0 for source, _ in group))
    if ranks > 2:
        assert tuple((0, rank) for rank in range(1, ranks)) in groups


def test_latency_and_bandwidth_of_every_pair_come_first():
    order = list(rounds(5))
    firsts = [(pairs[0], nbytes) for pairs, nbytes in order[:20] if len(pairs) == 1]
    assert set(firsts) >= {(pair, nbytes) for pair in sampled_pairs(5) for nbytes in SIZES[:2]}
    assert {nbytes for _, nbytes in order} == set(SIZES)


@pytest.mark.parametrize("pairs", [((0, 1),), ((0, 1), (0, 2)), ((0, 1), (2, 3)), ((3, 1), (3, 0), (3, 2))])
def test_a_round_gives_every_rank_the_same_rows(pairs):
    found = run_ranks(4, lambda transport: measure_round(transport, pairs, 64))
    rows = found[0]
    assert rows.dtype == LINK_TRACE and all((other == rows).all() for other in found)
    assert [(row["source"], row["target"]) for row in rows] == list(pairs)
    assert (
        (rows["pairs"] == len(pairs)).all()
        and (rows["nbytes"] == 64).all()
        and (rows["origin"] == rows["source"]).all()
    )
    assert (rows["seconds"] > 0).all() and (rows["spread_s"] >= 0).all() and (rows["repeats"] >= 5).all()


def test_collecting_covers_everything_there_is_time_for(monkeypatch):
    monkeypatch.setattr("flexpie_mpi.measure.cluster.SIZES", (8, 64))
    expected = [(pair, nbytes, len(pairs)) for pairs, nbytes in rounds(3) for pair in pairs]

    def collect(transport, asked):
        ticks = iter(range(1000))
        kept, told = [], []
        kept.extend(collect_links(transport, Budget(transport, asked, lambda: next(ticks)), told.append))
        rows = np.concatenate([np.zeros(0, LINK_TRACE), *kept])
        return [((r["source"], r["target"]), r["nbytes"], r["pairs"]) for r in rows], len(kept), len(told)

    for rows, _, _ in run_ranks(3, lambda transport: collect(transport, 100)):
        assert rows == expected
    for rows, kept, told in run_ranks(3, lambda transport: collect(transport, 4)):
        assert rows == expected[: len(rows)] and kept == told == 3  # the root's clock is asked, and is a tick further


def test_one_rank_has_no_links():
    kept = []
    kept.extend(collect_links(alone(), Budget(alone(), 1.0)))
    assert kept == []


def test_ranks_elsewhere_learn_the_clock_of_the_root(monkeypatch):
    here = {"rank 0": "a", "rank 1": "b", "rank 2": "a", "rank 3": "c"}
    monkeypatch.setattr(agreement, "place", lambda name: (name, here[threading.current_thread().name], (0,)))
    ahead_s = (0.0, 1000.0, 0.0, -500.0)

    def offset(transport):
        return agreement.clock_offset(transport, 0, lambda: time.perf_counter() + ahead_s[transport.rank])

    found = run_ranks(4, offset)
    assert found[0] == found[2] == 0.0
    assert found == pytest.approx([-ahead for ahead in ahead_s], abs=1.0)


def test_the_budget_is_the_root_s():
    def asked(transport):
        clock = iter(range(10 * transport.rank, 10**6, 1 + transport.rank))  # others' clocks are elsewhere, and faster
        budget = Budget(transport, 7.0, lambda: float(next(clock)))
        part = budget.part(0.5)
        return [budget.left(), part.left(), part.is_over(), part.left(), budget.is_over(), budget.left(), part.left()]

    assert run_ranks(3, asked) == [[5.0, 1.5, False, 0.0, False, 0.0, 0.0]] * 3
