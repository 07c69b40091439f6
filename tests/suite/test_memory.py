from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from flexpie_mpi import layout_plan, load
from flexpie_mpi.core.program import Exchange, Message, Piece, Program, Start
from flexpie_mpi.core.region import Region
from flexpie_mpi.lower import lower
from flexpie_mpi.lower.facts import weight_bytes
from flexpie_mpi.planner.problem import RESERVE_BYTES
from flexpie_mpi.runtime.collectives import pack
from flexpie_mpi.runtime.loopback import run_ranks
from flexpie_mpi.suite.memory import engine_bytes, message_bytes, needed_bytes, room, turns
from flexpie_mpi.testbed import Device, switch

PIECES = tuple((Piece("x", Region(((0, stop),)), 0),) for stop in (100, 50))


def message(target, pieces, nbytes, source=0):
    return Message(source, target, 0, pieces, nbytes)


def program(*exchanges):
    return Program(0, 3, (), tuple(Start(exchange) for exchange in exchanges), (), (), ())


def test_messages_of_the_same_pieces_share_memory():
    sends = (message(1, PIECES[0], 400), message(2, PIECES[0], 400))
    halo = Exchange(1, "halo", (0, 1, 2), sends, (message(0, PIECES[1], 200, source=1),), ())
    assert message_bytes(program(halo)) == 400 + 200
    other = replace(halo, sends=(sends[0], message(2, PIECES[1], 200)))
    assert message_bytes(program(other)) == 400 + 200 + 200


def test_collectives_of_one_lane_share_memory():
    gather = Exchange(1, "gather", (0, 1, 2), (), tuple(message(0, PIECES[0], 400, peer) for peer in (1, 2)), (), 0)
    small = replace(gather, index=2, receives=gather.receives[:1])
    sizes = [pack(exchange, 0).send.memory.size + pack(exchange, 0).receive.memory.size for exchange in (gather, small)]
    assert sizes[0] > sizes[1] and message_bytes(program(gather, small)) == sizes[0]
    assert message_bytes(program(gather, replace(small, lane=1))) == sum(sizes)


def test_a_rank_needs_its_process_its_weights_its_buffers_and_its_messages():
    model = load("builtin:tiny_cnn")
    for job in lower(layout_plan(model.graph, 2, "rows"), model.graph):
        weights, rest = weight_bytes(model.graph, job), job.arena.nbytes + message_bytes(job)
        assert needed_bytes(model, job) == RESERVE_BYTES + weights + rest and rest > 0
        assert engine_bytes(model, job) == 2 * weights + rest


@pytest.mark.parametrize("seed", range(5))
def test_turns_hold_every_plan_and_fit_where_plans_do(seed):
    random = np.random.default_rng(seed)
    needed = random.integers(1, 10, (8, 3)).tolist()
    limits = [25, 20, 30]
    found = turns(needed, limits, always=(2, 5))
    assert set().union(*map(set, found)) == set(range(8)) and len(found) > 1
    for turn in found:
        assert all(sum(needed[plan][rank] for plan in turn) <= limit for rank, limit in enumerate(limits))
        assert list(turn) == sorted(set(turn))


def test_baselines_take_part_in_every_turn_and_a_plan_that_fits_nowhere_is_tried_alone():
    assert turns([[2], [2], [5], [5]], [9], always=(0, 1)) == ((0, 1, 2), (0, 1, 3))
    assert turns([[2], [8], [20]], [9], always=(0,)) == ((0,), (1,), (2,))
    assert turns([[2], [2]], [inf], always=(0, 1)) == ((0, 1),)


def test_ranks_of_one_machine_share_its_memory_and_a_board_has_no_more_than_its_own():
    boards = switch([Device("small", memory_bytes=RESERVE_BYTES + 1000), Device("large")], 1e9, 0.0)
    two = run_ranks(2, lambda transport: room(transport, boards))
    assert two[0] == two[1] and two[0][0] == 1000
    (one,) = run_ranks(1, lambda transport: room(transport, boards.subset(1)))
    assert one == (1000,) and two[0][1] > 1000
    (one,) = run_ranks(1, lambda transport: room(transport, boards.subset(1), is_emulated=True))
    assert one[0] > 1000


FOOTPRINTS = """
import numpy as np
from flexpie_mpi.suite.memory import Footprint
footprint = Footprint()
made = [footprint.of(lambda size=megabytes: np.ones(size << 17)) for megabytes in (60, 5)]  # 8 bytes each
print(*(peak for _, peak in made))
"""


def test_a_footprint_is_that_of_one_thing_however_many_there_were_before():
    """In a process of its own: what other tests have given back may be taken first."""
    found = subprocess.run([sys.executable, "-c", FOOTPRINTS], capture_output=True, text=True, timeout=60, check=True)
    sizes = [int(word) for word in found.stdout.split()]
    if sizes[0] == sizes[1]:
        pytest.skip("this kernel does not let a process reset its peak")
    assert 50 << 20 < sizes[0] - sizes[1] < 60 << 20
