"""Fixtures of all tests."""

from __future__ import annotations

import os
import subprocess

import pytest

from flexpie_mpi.core.errors import EmulationError
from flexpie_mpi.emulate.launch import find_library
from flexpie_mpi.emulate.system import carry_out, check_system
from tests.launch import MpiRun, launcher


@pytest.fixture
def mpirun() -> MpiRun:
    """``mpirun(n, "program.py", *arguments)``: the JSON that rank 0 prints.

    ``mpirun.outcome(n, *arguments)`` is any use of this python, with exit code and both streams.
    """
    command = launcher()
    if command is None:
        pytest.skip("no mpiexec beside this python or on the PATH: pip install flexpie-mpi[mpich]")
    return MpiRun(command)


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skips where boards cannot be emulated."""
    name = f"flexpie-test-{os.getpid()}"
    try:
        check_system()
        find_library()
        carry_out([("ip", "netns", "add", name), ("ip", "netns", "delete", name)])
    except (EmulationError, subprocess.SubprocessError) as error:
        pytest.skip(str(error))
