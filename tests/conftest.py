"""Fixtures of all tests."""

from __future__ import annotations

import pytest

from tests.launch import MpiRun, launcher


@pytest.fixture
def mpirun() -> MpiRun:
    """``mpirun(n, "program.py", *arguments, timeout=60)``: the JSON that rank 0 prints.

    ``mpirun.outcome(n, *arguments)`` is any use of this python, with exit code and both streams.
    """
    command = launcher()
    if command is None:
        pytest.skip("no mpiexec beside this python or on the PATH: pip install flexpie-mpi[mpich]")
    return MpiRun(command)
