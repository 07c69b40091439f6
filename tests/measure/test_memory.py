from __future__ import annotations

import subprocess
import sys
from math import inf

import numpy as np
import pytest

from flexpie_mpi.lower.memory import PROCESS_BYTES
from flexpie_mpi.measure.race import fitting_turns, room
from flexpie_mpi.runtime.loopback import run_ranks
from flexpie_mpi.testbed import Device, switch
from tests.launch import LIMIT_S


@pytest.mark.parametrize("seed", range(5))
def test_turns_hold_every_plan_and_fit_where_plans_do(seed):
    random = np.random.default_rng(seed)
    needed = random.integers(1, 10, (8, 3)).tolist()
    limits = [25, 20, 30]
    found = fitting_turns(needed, limits, always=(2, 5))
    assert set().union(*map(set, found)) == set(range(8)) and len(found) > 1
    for turn in found:
        assert all(sum(needed[plan][rank] for plan in turn) <= limit for rank, limit in enumerate(limits))
        assert list(turn) == sorted(set(turn))


def test_baselines_take_part_in_every_turn_and_a_plan_that_fits_nowhere_is_tried_alone():
    assert fitting_turns([[2], [2], [5], [5]], [9], always=(0, 1)) == ((0, 1, 2), (0, 1, 3))
    assert fitting_turns([[2], [8], [20]], [9], always=(0,)) == ((0,), (1,), (2,))
    assert fitting_turns([[2], [2]], [inf], always=(0, 1)) == ((0, 1),)


def test_ranks_of_one_machine_share_its_memory_and_a_board_has_no_more_than_its_own():
    boards = switch([Device("small", memory_bytes=PROCESS_BYTES + 1000), Device("large")], 1e9, 0.0)
    two = run_ranks(2, lambda transport: room(transport, boards))
    assert two[0] == two[1] and two[0][0] == 1000
    (one,) = run_ranks(1, lambda transport: room(transport, boards.subset(1)))
    assert one == (1000,) and two[0][1] > 1000
    (one,) = run_ranks(1, lambda transport: room(transport, boards.subset(1), is_emulated=True))
    assert one[0] > 1000


FOOTPRINTS = """
import numpy as np
from flexpie_mpi.measure.trial import Footprint
footprint = Footprint()
made = [footprint.of(lambda size=megabytes: np.ones(size << 17)) for megabytes in (60, 5)]  # 8 bytes each
print(*(peak for _, peak in made))
"""


def test_a_footprint_is_that_of_one_thing_however_many_there_were_before():
    """In a process of its own: what other tests have given back may be taken first."""
    found = subprocess.run(
        [sys.executable, "-c", FOOTPRINTS], capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    sizes = [int(word) for word in found.stdout.split()]
    if sizes[0] == sizes[1]:
        pytest.skip("this kernel does not let a process reset its peak")
    assert 50 << 20 < sizes[0] - sizes[1] < 60 << 20
