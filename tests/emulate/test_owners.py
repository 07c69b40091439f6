"""Whose is it, and how much memory may it use? Names and control groups."""

from __future__ import annotations

import os
import subprocess

import pytest

from flexpie_mpi.emulate.cleanup import is_abandoned, new_prefix, prefix_of, started
from flexpie_mpi.emulate.system import MemoryGroups, carry_out, memory_groups_of

PREFIX = "flexpie-1-2-abcd"


def test_what_a_living_process_built_is_not_abandoned():
    prefix = new_prefix()
    assert prefix_of(f"{prefix}-switch") == prefix_of(prefix) == prefix != new_prefix()
    assert not is_abandoned(prefix)


def test_what_a_dead_process_built_is_abandoned_even_when_another_has_its_number():
    process = subprocess.Popen(["sleep", "60"])
    began = started(process.pid)
    assert not is_abandoned(f"flexpie-{process.pid}-{began}-abcd")
    assert is_abandoned(f"flexpie-{process.pid}-{began - 1}-abcd")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has asked for its exit code
    assert is_abandoned(f"flexpie-{process.pid}-{began}-abcd")
    process.wait()
    assert is_abandoned(f"flexpie-{process.pid}-{began}-abcd")


@pytest.mark.parametrize("name", ["flexpie", "flexpie-1-2", "my-flexpie-1-2-ab", "flexpie-x-2-ab", "docker0", "lab0"])
def test_what_others_built_is_never_ours(name):
    assert prefix_of(name) is None and not is_abandoned(name)


# Control groups


@pytest.mark.parametrize(
    ("version", "files", "expected"),
    [
        (1, ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), "4096"),
        (2, ("memory.max",), "4096"),
    ],
)
def test_a_board_is_limited_to_its_memory(tmp_path, version, files, expected):
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    kind = "cgroup x memory" if version == 1 else "cgroup2 x"
    memory = memory_groups_of(
        f"none /proc proc rw 0 0\nnone {tmp_path} {kind.replace(' x', ' rw,', 1).replace(', ', ',')} 0 0"
    )
    assert memory == MemoryGroups(tmp_path, version)
    group = tmp_path / PREFIX
    group.mkdir()
    for file in (*files, "memory.swap.max"):
        (group / file).touch()
    carry_out(command for command in memory.limit(PREFIX, 4096) if command[0] != "mkdir")
    assert [(group / file).read_text().strip() for file in files] == [expected] * len(files)
    enabled = (tmp_path / "cgroup.subtree_control").read_text().strip()
    assert enabled == ("cpu" if version == 1 else "+memory")


def test_where_no_hierarchy_has_the_controller_memory_is_not_limited(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu pids\n")
    assert memory_groups_of(f"cgroup2 {tmp_path} cgroup2 rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0") is None


@pytest.mark.parametrize(
    ("version", "file", "text"),
    [(1, "memory.oom_control", "under_oom 0\noom_kill 2\n"), (2, "memory.events", "oom 3\noom_kill 2\n")],
)
def test_boards_that_ran_out_of_memory_are_known(tmp_path, version, file, text):
    (tmp_path / PREFIX).mkdir()
    memory = MemoryGroups(tmp_path, version)
    assert memory.times_exhausted(PREFIX) == 0
    (tmp_path / PREFIX / file).write_text(text)
    assert memory.times_exhausted(PREFIX) == 2
