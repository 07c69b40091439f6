"""A board that is cut off in the middle of a stream is named, and the job ends."""

from __future__ import annotations

import re
import shlex
import sys
import time
from threading import Thread

import pytest

from flexpie_mpi.emulate import emulated, launch
from flexpie_mpi.emulate.system import carry_out
from flexpie_mpi.testbed.boards import HUB
from tests.emulate.beds import bed
from tests.launch import LIMIT_S

pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("leaves_nothing")]

WORDS = ["infer", "--model", "builtin:tiny_cnn", "--layout", "rows", "--requests", "100000000", "--deadline", "3"]


def test_a_link_that_is_cut_is_told_from_a_rank_that_is_late(tmp_path):
    if launch.find_library().name != "mpich":
        pytest.skip("Open MPI's launcher waits for its part on the board that is cut off")
    out, said = tmp_path / "out.h5", tmp_path / "said.txt"
    with emulated(bed("switch", 3, slowdown=4.0), check=False) as cluster:
        words = [sys.executable, "-m", "flexpie_mpi", *WORDS, "--output", str(out)]
        job = Thread(target=cluster.run, args=(["sh", "-c", f"exec {shlex.join(words)} 2>> {said}"],), daemon=True)
        job.start()
        until = time.monotonic() + LIMIT_S
        while not out.exists() or out.stat().st_size < 10_000:
            assert time.monotonic() < until, said.read_text()
            time.sleep(0.02)
        space, interface = cluster.network.space("d2"), cluster.network.toward("d2", HUB).name
        carry_out([("ip", "-n", space, "link", "set", interface, "down")])
        job.join(LIMIT_S)
        assert not job.is_alive()
    assert "rank 2 on 'd2' is on a host that does not answer at 10.77.0.3" in said.read_text()
    assert re.search(r"rank [01] waited [\d.]+ s in exchange \d+ \(\w+ of '", said.read_text())
