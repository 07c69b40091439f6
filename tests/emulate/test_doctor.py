"""The doctor on emulated boards finds the faults that are built into them."""

from __future__ import annotations

import json
import sys

import pytest

from flexpie_mpi.emulate import emulated, launch
from tests.emulate.beds import GIGABIT, bed

pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("leaves_nothing")]

SLOW = GIGABIT / 10


def findings(testbed, path, *words: str) -> list[dict]:
    """What the doctor has to say of the links of an emulated testbed."""
    with emulated(testbed, check=False) as cluster:
        code = cluster.run([sys.executable, "-m", "flexpie_mpi", "doctor", "--json", str(path), *words])
    record = json.loads(path.read_text())
    assert code == (record["verdict"] in ("warning", "error"))
    return [each for each in record["verdicts"] if each["check"] == "links"]


def test_a_board_with_a_slow_port_among_others(tmp_path):
    (found,) = findings(bed("switch", 3, [GIGABIT, GIGABIT, SLOW]), tmp_path / "record.json")
    assert (found["level"], found["ranks"]) == ("warning", [2]), found
    assert "all links of 'd2' (rank 2) carry 9" in found["finding"] and found["remedy"]


def test_links_that_are_not_what_a_testbed_says(tmp_path):
    (tmp_path / "said.toml").write_text(
        'topology = "switch"\nlink = {bandwidth = "1Gb/s", latency = "1ms"}\ndevice = [{name = "d", count = 2}]\n'
    )
    (found,) = findings(bed("switch", 2, SLOW), tmp_path / "record.json", "--testbed", str(tmp_path / "said.toml"))
    assert (found["level"], found["ranks"]) == ("warning", [0, 1]) and "'said' says 1000 Mb/s" in found["finding"]


def test_a_library_that_goes_through_shared_memory(tmp_path, monkeypatch):
    if launch.find_library().name != "mpich":
        pytest.skip("Open MPI is told by its own options")
    monkeypatch.setattr(launch, "_SWITCHES", {"mpich": {"UCX_TLS": "all"}})
    (found,) = findings(bed("switch", 2, SLOW), tmp_path / "record.json")
    assert (found["level"], found["ranks"]) == ("warning", [0, 1]) and "MPI shares memory" in found["finding"]
