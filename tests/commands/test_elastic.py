"""A job that goes on without ranks that are lost, where MPI lets it, and says why not elsewhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from flexpie_mpi.runtime.mpi import library
from tests.commands.test_resume import rows, written
from tests.launch import REPOSITORY, environment, launcher, run, signal_rank

REQUESTS = 2500
STREAM = ["-m", "flexpie_mpi", "infer", "--model", "builtin:tiny_cnn", "--layout", "rows", "--requests", str(REQUESTS)]


@pytest.mark.mpi
@pytest.mark.mpi_short
def test_why_a_job_cannot_outlive_a_rank(mpirun):
    outcome = mpirun.outcome(2, *STREAM, "--elastic")
    assert outcome.code == 2 and outcome.err.count("flexpie-mpi: error: --elastic: ") == 1
    assert "start it with mpirun --with-ft ulfm of Open MPI 5.0.10 or newer" in outcome.err.replace("the job ", "it ")


@pytest.mark.skipif(not library().startswith("Open MPI"), reason="other MPI libraries end a job that loses a rank")
@pytest.mark.mpi
@pytest.mark.mpi_short
def test_a_stream_outlives_its_root_and_another_rank(tmp_path, cache_folder):
    path, said = tmp_path / "out.h5", tmp_path / "run.json"
    words = [*STREAM, "--cache", str(cache_folder), "--output"]
    whole = run([sys.executable, *words, str(tmp_path / "whole.h5")], 60)
    assert whole.code == 0, str(whole)
    command = [*launcher(), "--with-ft", "ulfm", "-n", "4", sys.executable, *words, str(path), "--json", str(said)]
    job = subprocess.Popen(
        [*command, "--elastic", "--spares", "1"], env=environment(), cwd=REPOSITORY, start_new_session=True
    )
    try:
        for rank in (0, 2):
            before, limit_s = written(path), time.monotonic() + 40
            while written(path) in (0, before) and time.monotonic() < limit_s:
                time.sleep(0.01)
            signal_rank(rank, str(said), signal.SIGKILL)
        assert job.wait(60) == 0
    finally:
        job.kill()
    first, second = json.loads(said.read_text())["losses"]
    assert (first["ranks"], first["left"], first["spares"]) == ([0], [3, 1, 2], [3])
    assert (second["ranks"], second["left"]) == ([2], [3, 1])
    np.testing.assert_allclose(rows(path), rows(tmp_path / "whole.h5"), rtol=1e-4, atol=1e-5)
