"""Who may emulate, and the testbeds that come along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flexpie_mpi.core.errors import EmulationError
from flexpie_mpi.emulate import system
from flexpie_mpi.emulate.check import check_cores
from flexpie_mpi.emulate.network import network_of
from flexpie_mpi.emulate.system import carry_out, check_system
from flexpie_mpi.testbed import read
from tests.emulate.beds import SHAPES

HOSTFILES = Path(__file__).parents[2] / "hostfiles"


def test_without_root_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr(system.sys, "platform", "linux")
    monkeypatch.setattr(system.os, "geteuid", lambda: 1000)
    with pytest.raises(EmulationError, match=r"needs root, .*: start it with sudo, or .* --dry-run"):
        check_system()


def test_without_iproute2_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr(system.os, "geteuid", lambda: 0)
    monkeypatch.setattr(system, "search_path", lambda: "/nowhere")
    with pytest.raises(EmulationError, match="needs the program 'ip': install the package iproute2"):
        check_system()


def test_elsewhere_than_on_linux_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr(system.sys, "platform", "darwin")
    with pytest.raises(EmulationError, match="Linux namespaces, and this is darwin"):
        check_system()


def test_a_command_that_fails_is_named_with_what_it_said():
    with pytest.raises(EmulationError, match="refuses 'false': it gives no reason"):
        carry_out([("true",), ("false",)])
    with pytest.raises(EmulationError, match="Operation not permitted; a container must be privileged for this"):
        carry_out([("sh", "-c", "echo Operation not permitted >&2; exit 1")])


# The testbeds that come along


@pytest.mark.parametrize(
    "name",
    [
        *(f"flexpie-{shape}{count}-{speed}" for shape in SHAPES for count in (3, 4) for speed in ("5g", "1g", "500m")),
        *("pi4x2", "pi4x4", "pi4x8", "pi-mixed", "jetson-pi", "boards"),
    ],
)
def test_our_testbeds_can_be_built_and_two_cores_carry_them(name):
    testbed = read(HOSTFILES / f"{name}.toml")
    check_cores(testbed, testbed.ranks, cores=2)
    network = network_of(testbed, "flexpie-1-2-abcd")
    assert len(network.device_spaces) == testbed.ranks
    shape, _, speed = name.removeprefix("flexpie-").partition("-")
    if name.startswith("flexpie"):
        bits = {"5g": 5e9, "1g": 1e9, "500m": 5e8}[speed]
        assert (testbed.topology.name, testbed.ranks) == (shape[:-1], int(shape[-1]))
        assert {resource.bandwidth for resource in testbed.resources} == {bits / 8}
        assert {(device.slowdown, device.memory_bytes) for device in testbed.devices} == {(16, 2 << 30)}


def test_every_hostfile_has_a_testbed():
    assert {path.stem for path in HOSTFILES.glob("*.hosts")} == {path.stem for path in HOSTFILES.glob("*.toml")}


def test_an_mpi_job_under_python_is_not_imported_by_the_room():
    """The check starts MPI in processes of its own; the room itself must work before it is known which library."""
    program = "import sys; sys.modules['mpi4py'] = None; import flexpie_mpi.emulate; print('fine')"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "fine\n"
