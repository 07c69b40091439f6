"""Exchange patterns: programs that move what they should, and rows that say what was moved."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from flexpie_mpi.core.exchange import transfers
from flexpie_mpi.core.graph import Graph
from flexpie_mpi.core.plan import Plan
from flexpie_mpi.core.region import Region
from flexpie_mpi.cost.rows import EXCHANGE_TRACE
from flexpie_mpi.lower.verify import violations
from flexpie_mpi.measure import exchanges
from flexpie_mpi.measure.agreement import Budget
from flexpie_mpi.measure.exchanges import (
    LEAST_BYTES,
    MOST_BYTES,
    PATTERNS,
    Move,
    collect_exchanges,
    journeys,
    measure_program,
    price,
    rows_of,
    travel,
)
from flexpie_mpi.runtime.executor import Executor
from flexpie_mpi.runtime.loopback import alone, run_ranks
from flexpie_mpi.testbed import one_host


def small(monkeypatch):
    monkeypatch.setattr("flexpie_mpi.measure.exchanges.MOST_BYTES", 16 << 10)
    monkeypatch.setattr(exchanges, "_WORK_BYTES", 1 << 10)


def numbers(region, shape):
    """What a region of a value holds when every element is its own number."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)[region.slices(Region.full(shape))]


@pytest.mark.parametrize("ranks", [2, 3, 4, 6])
def test_every_rank_gets_what_it_needs(monkeypatch, ranks):
    """The law of an exchange, whatever the pattern: a rank ends with exactly the numbers of the region it needs."""
    small(monkeypatch)
    for moves in islice(journeys(ranks, seed=3), 4):
        programs = travel(moves, ranks)

        def act(transport, programs=programs, moves=moves):
            program, wrong = programs[transport.rank], []

            def make(step, values):
                def run():
                    for _, index in step.inputs:
                        buffer, shape = program.buffers[index], moves[int(program.buffers[index].value[1:])].shape
                        if not np.array_equal(values[index], numbers(buffer.region, shape)):
                            wrong.append(str(buffer))
                    for _, index in step.outputs:
                        values[index][...] = numbers(program.buffers[index].region, moves[step.segment].shape)

                return run

            executor = Executor(program, transport, make)
            for _ in range(2):
                executor.run({})
            return wrong

        assert run_ranks(ranks, act) == [[]] * ranks


def test_programs_are_sound(monkeypatch):
    """By all that the verifier can say of programs without nodes: messages, order, memory, coverage."""
    small(monkeypatch)
    for moves in islice(journeys(4), 2):
        found = violations(travel(moves, 4), Plan((), 4, ""), Graph("", (), {}, (), ()))
        assert [violation for violation in found if "does not compute" not in violation.text] == []


def test_all_kinds_of_exchanges_are_there():
    kinds = {
        step.exchange.kind
        for moves in islice(journeys(4), 2)
        for program in travel(moves, 4)
        for step in program.steps
        if hasattr(step, "exchange")
    }
    assert kinds == {"local", "halo", "broadcast", "scatter", "gather", "allgather", "alltoall"}


@pytest.mark.parametrize("ranks", [2, 5])
def test_journeys_are_the_same_everywhere_and_spread_over_sizes_and_ranks(ranks):
    found = list(islice(journeys(ranks), 24))
    assert found == list(islice(journeys(ranks), 24)) != list(islice(journeys(ranks, seed=1), 24))
    assert len(found[0]) >= len(PATTERNS) - 4
    sizes = np.array([4 * np.prod(move.shape) for moves in found for move in moves])
    assert LEAST_BYTES / 2 <= sizes.min() < 4 * LEAST_BYTES and MOST_BYTES / 4 < sizes.max() <= 2 * MOST_BYTES
    counts = {len(side) for moves in found for move in moves for side in (move.have, move.need)}
    assert counts == set(range(1, ranks + 1))


def test_rows_say_what_was_moved(monkeypatch):
    small(monkeypatch)
    ranks, testbed = 3, one_host(3, 2)
    moves = next(journeys(ranks))
    programs = travel(moves, ranks)
    found = run_ranks(ranks, lambda t: measure_program(t, programs, testbed, Budget(t, 0.0)))
    rows = found[0]
    assert rows.dtype == EXCHANGE_TRACE and all((other == rows).all() for other in found)
    expected = []
    for move in moves:
        have = {rank: [region] for rank, region in move.have}
        sent = np.zeros((ranks, ranks))
        for source, target, region in transfers(have, dict(move.need)):
            sent[source, target] += 4 * region.size
        expected.append((sent.sum(), max(sent.sum(0).max(), sent.sum(1).max()), (sent > 0).sum()))
    assert list(zip(rows["total_bytes"], rows["port_bytes"], strict=True)) == [item[:2] for item in expected]
    assert all((row["kind"] == b"local") == (count == 0) for row, (_, _, count) in zip(rows, expected, strict=True))
    assert (rows["repeats"] == 5).all() and (rows["seconds"] >= 0).all() and (rows["local_bytes"] > 0).all()
    assert set(rows["active"]) == {1.5} and set(rows["model"]) == {b"patterns"}


def test_a_late_rank_is_no_price_of_an_exchange():
    assert price([(0.0, 10.5), (10.0, 10.25)]) == 0.5
    assert price([(3.0, 4.0)]) == 1.0


def test_only_ranks_that_take_part_count():
    halves = (Region(((0, 1), (0, 1), (0, 2), (0, 4))), Region(((0, 1), (0, 1), (2, 4), (0, 4))))
    whole = Region.full((1, 1, 4, 4))
    move = Move((1, 1, 4, 4), tuple(enumerate(halves)), ((0, whole),))
    programs = travel([move], 3)
    spans = [[{0: (1.0, 1.5)}, {0: (1.0, 1.6)}], [{0: (1.2, 1.3)}, {0: (1.2, 1.3)}], [{0: (9.0, 99.0)}] * 2]
    row = rows_of(programs, spans, one_host(3, 1))[0]
    assert row["seconds"] == pytest.approx(0.3) and row["spread_s"] == pytest.approx(0.05) and row["repeats"] == 2
    assert row["origin"] == 0 and row["active"] == 2.0 and row["port_bytes"] == 32 and row["kind"] != b"local"


def test_the_budget_ends_it_and_one_rank_has_nothing(monkeypatch):
    small(monkeypatch)

    def collect(transport, seconds):
        ticks, kept = iter(np.arange(0.0, 1e6)), []
        budget = Budget(transport, seconds, lambda: next(ticks))
        kept.extend(collect_exchanges(transport, one_host(transport.size, 2), budget))
        return [len(rows) for rows in kept]

    assert run_ranks(2, lambda transport: collect(transport, 0.5)) == [[], []]
    first, second = run_ranks(2, lambda transport: collect(transport, 30.0))
    assert first == second and first and first[0] == len(next(journeys(2)))
    assert collect(alone(), 30.0) == []
