"""Starting jobs: which mpirun, what it is told, and the script that takes the place of ssh."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flexpie_mpi.core.errors import EmulationError
from flexpie_mpi.emulate import launch
from flexpie_mpi.emulate.launch import Library, enter_script, find_library, job_command, job_environment, library_of
from flexpie_mpi.emulate.network import network_of
from tests.emulate.beds import bed

PREFIX = "flexpie-1-2-abcd"
MPICH = "HYDRA build details:\n    Version:                                 5.0.2\n"
OPENMPI = "mpirun (Open MPI) 5.0.11\n"


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def mpirun(folder, prints):
    return str(program(folder / "mpirun", f"printf '%s' '{prints}'"))


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders of the running python, and on the PATH."""
    beside, first, second = (tmp_path / name for name in ("beside", "first", "second"))
    monkeypatch.setattr(launch.sys, "executable", str(beside / "python"))
    monkeypatch.setattr(launch, "search_path", lambda: f"{first}:{second}")
    return beside, first, second


def test_an_old_library_hides_no_good_one(places):
    beside, first, second = places
    mpirun(beside, "mpirun (Open MPI) 4.1.4")
    with pytest.raises(EmulationError, match=r"Open MPI 4\.1\.4, and boards are emulated with Open MPI 5 or later"):
        find_library()
    good, newer = mpirun(first, MPICH), mpirun(second, OPENMPI)
    assert find_library().mpirun == find_library("mpich").mpirun == good
    assert find_library("openmpi").mpirun == newer


def test_the_mpirun_beside_python_comes_first(places):
    beside, first, _ = places
    own, other = mpirun(beside, MPICH), mpirun(first, OPENMPI)
    assert find_library() == Library("mpich", own, "5.0.2")
    assert find_library("openmpi") == Library("openmpi", other, "5.0.11")


def test_then_the_path(places):
    _, first, second = places
    mpirun(first, "something else")
    found = mpirun(second, OPENMPI)
    assert find_library() == Library("openmpi", found, "5.0.11")
    assert str(find_library()) == "Open MPI 5.0.11"
    with pytest.raises(EmulationError, match=r"no mpirun of mpich beside .*: pip install flexpie-mpi\[mpich\]"):
        find_library("mpich")


def test_an_old_open_mpi_is_refused():
    with pytest.raises(EmulationError, match=r"/usr/bin/mpirun is of Open MPI 4\.1\.4, and boards are"):
        library_of("/usr/bin/mpirun", "mpirun (Open MPI) 4.1.4")


@pytest.mark.parametrize("name", ["mpich", "openmpi"])
def test_a_job_starts_on_the_first_boards(name):
    network = network_of(bed("ring", 4), PREFIX)
    command = job_command(Library(name, "/bin/mpirun", "5"), network, 3, "/tmp/enter", ["python", "-V"])
    assert command[0] == "/bin/mpirun" and command[-4:] == ("-n", "3", "python", "-V")
    assert "10.77.0.1,10.77.0.2,10.77.0.3" in command and "/tmp/enter" in command


def test_ranks_inherit_the_environment_but_not_what_mpi_left():
    given = {"HOME": "/root", "PMI_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "UCX_TLS": "all"}
    found = job_environment(Library("mpich", "", ""), given, "/tmp/mine")
    assert found["HOME"] == "/root" and not {"PMI_RANK", "OMPI_COMM_WORLD_SIZE"} & set(found)
    assert found["TMPDIR"] == "/tmp/mine"
    assert found["UCX_TLS"] == "tcp,self", "shared memory would be no network"


def test_the_script_enters_a_board_as_ssh_does(tmp_path):
    """With programs in the place of the system's that say what they were asked for."""
    network = network_of(bed("switch", 2), PREFIX)
    group = tmp_path / "group"
    group.mkdir()
    enter = program(tmp_path / "enter", enter_script(network, {"d1": str(group)}, owner=os.getpid()))
    program(tmp_path / "bin" / "ip", 'echo "ip $1 $2 $3"; shift 3; exec "$@"')
    program(tmp_path / "bin" / "unshare", 'echo "$1"; shift; shift; shift; shift; echo "hostname $1"; eval "$2"')
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    words = ["-x", "10.77.0.2", sys.executable, "-c", "'import sys; print(sys.argv[1:])'", "a", "'b  c'"]
    done = subprocess.run([enter, *words], env=environment, capture_output=True, text=True)
    assert done.stdout == f"ip netns exec {PREFIX}-1\n--uts\nhostname d1\n['a', 'b  c']\n", done
    assert (group / "cgroup.procs").read_text().strip().isdecimal()
    done = subprocess.run([enter, "10.77.0.9", "true"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"{enter}: there is no board 10.77.0.9\n")
